"""From the options of `serve` to a server that listens: sessions held, sources followed, advice written out."""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryoscout.advice.running import CalmSettings
from cryoscout.advice.setting import Looks
from cryoscout.core.durations import moment_of
from cryoscout.core.errors import InputError
from cryoscout.core.telling import Say
from cryoscout.live.api import app_of
from cryoscout.live.guard import Guard, allowed_hosts
from cryoscout.live.lock import only_server
from cryoscout.live.replay_bound import ReplayBound
from cryoscout.live.server import ServedSessions, advisor_of, new_run_id
from cryoscout.live.settings import LiveSettings
from cryoscout.live.tokens import TOKENS_FILE, Tokens, tokens_of
from cryoscout.session.store import SessionStore
from cryoscout.session.store_database import is_url, location_in_words

SOCKET_BYTES = 64 * 1024
_PUBLIC = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+/?")


@dataclass(frozen=True)
class ServeRequest:
    """The options of `serve`."""

    sessions: tuple[str, ...]
    watch: tuple[Path, ...] = ()
    ctf: tuple[Path, ...] = ()
    database_url: str | None = None
    export_to: Path | None = None
    bridge: str | None = None
    smartscope_address: str | None = None
    smartscope_session: str | None = None
    smartscope_token_file: Path | None = None
    athena_session: str | None = None
    budget_min: float | None = None
    until: str | None = None
    policy: str | None = None
    looks: Looks = "charged"
    prediction: str | None = None
    threshold_angstrom: float | None = None
    time_model: str | None = None
    minutes_per_exposure: float | None = None
    loaded: str | None = None
    also_unchosen: bool = False
    committed: int | None = None
    hysteresis: float = 0.05
    host: str = "127.0.0.1"
    port: int = 8321
    public_url: str | None = None
    root_path: str = ""
    token_file: Path | None = None
    alert_command: str | None = None
    replay: float | None = None
    follow: str | None = None
    output: Path | None = None

    def settings(self) -> LiveSettings:
        """How the sessions are advised. Raises InputError for a time that is none."""
        until = None
        if self.until is not None:
            try:
                has_zone = datetime.fromisoformat(self.until).tzinfo is not None
            except ValueError:
                has_zone = False
            if has_zone:
                raise InputError(
                    f"--until must be the microscope's time, without a zone. Got {self.until!r} instead. "
                    "Remedy: for example --until 2026-01-31T09:00."
                )
            until = moment_of(self.until, datetime.now())
        return LiveSettings(
            policy=self.policy,
            # A session that is played has nothing to show beyond what was recorded.
            looks="free" if self.replay is not None else self.looks,
            prediction=self.prediction,
            threshold_angstrom=self.threshold_angstrom,
            time_model=self.time_model,
            minutes_per_exposure=self.minutes_per_exposure,
            loaded=self.loaded,
            budget_min=self.budget_min,
            until=until,
            calm=CalmSettings(committed=self.committed, hysteresis=self.hysteresis),
            clock_scale=1.0 if self.replay is None else self.replay,
            also_unchosen=self.also_unchosen,
        )


def check(request: ServeRequest) -> None:
    """Refuse what cannot be served, before anything begins. Raises InputError."""
    if not (request.sessions or request.database_url or request.watch or request.smartscope_session):
        raise InputError(
            "serve must be given a SESSION, --database-url, --watch or --smartscope-session. Got none instead."
        )
    if request.smartscope_session is not None:
        if request.smartscope_address is None:
            raise InputError("--smartscope-session must go with --smartscope-address. Got it alone instead.")
        if len(request.sessions) > 1:
            raise InputError(
                f"--smartscope-session must go with one session. Got {len(request.sessions)} instead."
            )
    if request.loaded is not None and len(request.sessions) > 1:
        raise InputError(
            f"--loaded must go with one session. Got {len(request.sessions)} instead. Remedy: leave it out; the "
            "session whose exposures come is in the microscope."
        )
    if request.budget_min is not None and not 0 < request.budget_min < 1e6:
        raise InputError(f"--budget-min must be minutes above 0. Got {request.budget_min:g} instead.")
    if request.public_url is not None and not _PUBLIC.fullmatch(request.public_url):
        raise InputError(
            f"--public-url must be https://HOST or https://HOST:PORT. Got {request.public_url!r} instead. "
            "Remedy: give the path of a proxy with --root-path."
        )
    if request.root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", request.root_path):
        raise InputError(f"--root-path must be a path such as /cryoscout. Got {request.root_path!r} instead.")
    if request.export_to is not None and not request.export_to.is_dir():
        raise InputError(
            f"--export-to must be a folder. Got {request.export_to} instead. Remedy: make it, readable by the "
            "microscope's computer."
        )
    if request.alert_command is not None:
        try:
            words = shlex.split(request.alert_command)
        except ValueError:
            words = []
        if not words:
            raise InputError(
                f"--alert-command must be a command. Got {request.alert_command!r} instead. Remedy: close its quotes."
            )
    for option, given in (("--follow", request.follow),):
        if given is not None and request.replay is None:
            raise InputError(f"{option} must go with --replay. Got it alone instead.")
    for each in request.watch + request.ctf:
        if not each.exists():
            raise InputError(
                f"A source must be there. Got {each} instead. Remedy: check the path or the mount."
            )


def run_server(request: ServeRequest, say: Say) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises the errors of its parts before it listens."""
    import uvicorn

    check(request)
    with ExitStack() as stack:
        listener = stack.enter_context(listening(request.host, request.port))
        port = int(listener.getsockname()[1])
        request = replace(request, port=port)
        served = stack.enter_context(serving(request, say))
        tokens = tokens_of(_token_file(request, served))
        app = guarded(request, served, tokens)
        listener.listen(128)  # who opens the address at once waits for the server, and is not refused
        for line in _told(request, served, tokens):
            say(line)
        config = uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=SOCKET_BYTES,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
            root_path=request.root_path,
        )
        uvicorn.Server(config).run(sockets=[listener])


def guarded(request: ServeRequest, served: ServedSessions, tokens: Tokens) -> Guard:
    """The application behind its guard."""
    hosts, origins = allowed_hosts(request.host, request.port, request.public_url)
    return Guard(
        app_of(served),  # type: ignore[arg-type]  # Starlette's scope is a mutable mapping
        tokens,
        hosts,
        origins,
        cookie=f"cryoscout-{request.port}",
        root_path=request.root_path,
        secure=request.public_url is not None and request.public_url.startswith("https:"),
    )


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises InputError where the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"The address to listen at must be free. Got {host}:{port} ({error.strerror}) instead. "
            "Remedy: another --port, or 0 for a free one."
        ) from None
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def serving(request: ServeRequest, say: Say) -> Iterator[ServedSessions]:
    """The sessions of a request, held, followed and advised until the block ends."""
    from cryoscout.live.outputs import Outputs
    from cryoscout.live.sources import Followers, places_of

    settings = request.settings()
    run_id = new_run_id()
    with ExitStack() as stack:
        places, player = stack.enter_context(places_of(request, say))
        for place in places.values():
            stack.enter_context(only_server(place, f"http://{request.host}:{request.port}"))
        for place in places.values():
            _say_budget(place, settings)
        advisors = {name: advisor_of(place, name, settings, run_id) for name, place in places.items()}
        served = ServedSessions(
            advisors,
            mode="watch" if request.export_to is None else "suggest",
            writes_files=request.export_to is not None,
            bridge=request.bridge,
            replay_bound=None if player is None else ReplayBound(lambda: player.first_exposure, player.truth),
        )
        served.start()
        stack.callback(served.close)
        followers = Followers(request, places, served, say, player)
        served.folder_clock = followers.clock
        stack.callback(followers.close)
        followers.start()
        outputs = Outputs(request, served, say)
        stack.callback(outputs.close)
        outputs.start()
        if player is not None:
            player.start(next(iter(served.advisors.values())))
            stack.callback(player.close)
        yield served


def _say_budget(place: Path | str, settings: LiveSettings) -> None:
    """The minutes of --budget-min are an event of the first serve: a server that starts again goes on with them."""
    if settings.budget_min is None:
        return
    with SessionStore.open(place) as store:
        said = [
            event.payload
            for event in store.events(kind="overridden")
            if event.payload.get("kind") == "budget"
        ]
        mine = {"kind": "budget", "budget_min": settings.budget_min, "author": "serve"}
        if not any({**each} == mine for each in said):
            store.append("overridden", mine)


def _token_file(request: ServeRequest, served: ServedSessions) -> Path:
    if request.token_file is not None:
        return request.token_file
    location = next(iter(served.advisors.values())).location
    if is_url(location):
        return Path.home() / f".cryoscout-{TOKENS_FILE}"
    return Path(location) / TOKENS_FILE


def _told(request: ServeRequest, served: ServedSessions, tokens: Tokens) -> Sequence[str]:
    base = f"http://{'[' + request.host + ']' if ':' in request.host else request.host}:{request.port}"
    if request.public_url is not None:
        base = request.public_url.rstrip("/") + request.root_path
    lines = [f"Serving {name} ({location_in_words(each.location)})" for name, each in served.advisors.items()]
    lines += [f"  operator  {base}/?token={tokens.operator}", f"  viewer    {base}/?token={tokens.viewer}"]
    if request.host in ("127.0.0.1", "localhost", "::1"):
        lines.append(
            f"  from another computer: ssh -L {request.port}:127.0.0.1:{request.port} {socket.gethostname()}, then the "
            "same address"
        )
    return [*lines, "Ctrl-C ends it; the session goes on where it stands."]
