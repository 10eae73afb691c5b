"""The sources of the served sessions, followed while they are written: from files to events, a thread for each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoscout.core.counting import counted
from cryoscout.core.errors import CryoscoutError, FileFormatError, InputError, ServiceError
from cryoscout.core.telling import SILENT, Say
from cryoscout.intake.follow import FollowedSources, TakenOn
from cryoscout.intake.read import ReadOptions, ServerSession, source_key
from cryoscout.intake.take_in import Sources, TakenIn, read_session, store_session
from cryoscout.live.advisor import Advisor
from cryoscout.live.facts import Ticks
from cryoscout.live.server import ServedSessions
from cryoscout.live.watch import POLL_S, Changes, Told, changes_below
from cryoscout.session.model import session_without_rows
from cryoscout.session.place import PlaceMark, mark_of_place
from cryoscout.session.store import SessionStore
from cryoscout.session.store_database import location_in_words, name_of_location

if TYPE_CHECKING:
    from cryoscout.live.player import Player
    from cryoscout.live.serving import ServeRequest

LOOK_S = 0.25
NAMED_AFTER_S = 60.0
"""An incomplete file is named after so long, and so are results without an exposure."""
CHANGED_TOLD_S = 1800.0
"""Results that were said otherwise before are told for so long."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
ASK_SERVER_S, LONGEST_ASK_S = 30.0, 600.0
"""A server is asked for everything each time, which is heavier than a look at a folder."""


@contextmanager
def places_of(request: ServeRequest, say: Say) -> Iterator[tuple[dict[str, Path | str], Player | None]]:
    """The stored sessions of a request by name, and who plays one; a folder never imported makes a new session.

    Raises the errors of opening and importing; InputError for two sessions of one name.
    """
    from cryoscout.live.player import player_of

    if request.replay is not None:
        with player_of(request, say) as player:
            yield {_name(player.folder): player.folder}, player
        return
    places: list[Path | str] = [*map(Path, request.sessions)]
    servers = servers_of(request)
    if request.database_url is not None:
        if (request.watch or servers) and not places:
            _make_where_there_is_none(request, servers, request.database_url, say)
        places.append(request.database_url)
    if not places:
        name = request.watch[0].resolve().name if request.watch else request.smartscope_session
        folder = request.output or Path(f"{name}.session")
        _make_where_there_is_none(request, servers, folder, say)
        places.append(folder)
    for place in places:
        SessionStore.open(place).close()
    named = {_name(place): place for place in places}
    if len(named) < len(places):
        raise InputError(
            "Sessions that are served together must have different names. Got two of one name instead."
        )
    yield named, None


def _name(place: Path | str) -> str:
    return place.name.removesuffix(".session") if isinstance(place, Path) else name_of_location(place)


def servers_of(request: ServeRequest) -> list[ServerSession]:
    """The session of a SmartScope server that is followed; none where none is named. Raises errors of its client."""
    if request.smartscope_session is None or request.smartscope_address is None:
        return []
    from cryoscout.formats.smartscope.rest import SmartScopeClient, read_token

    client = SmartScopeClient(request.smartscope_address, read_token(request.smartscope_token_file))
    return [ServerSession(client, request.smartscope_session)]


def _sources(paths: Sequence[Path], servers: Sequence[ServerSession]) -> Sources:
    as_given = ", ".join([*map(str, paths), *(f"SmartScope session {each.session_id}" for each in servers)])
    return Sources(list(paths), list(servers), ReadOptions(permissive=True), as_given)


def _make_where_there_is_none(
    request: ServeRequest, servers: Sequence[ServerSession], place: Path | str, say: Say
) -> None:
    """The session of --watch or of a server, where no earlier serve has made it."""
    if _is_there(place):
        return
    sources = _sources([*request.watch, *request.ctf], servers)
    try:
        read = read_session(sources, SILENT)
    except FileFormatError:
        if any(_has_file(path) for path in request.watch):
            raise
        read = TakenIn(session_without_rows(_name(place)))
        say(f"{sources.as_given} has no file yet: the first ones are waited for.")
    store_session(read, place, sources.as_given, False, SILENT, None)
    say(f"Made {location_in_words(place)} of {sources.as_given}.")


def _is_there(place: Path | str) -> bool:
    """Whether something stands at a place, of databases whether it is a session."""
    return place.exists() if isinstance(place, Path) else mark_of_place(place) != PlaceMark()


def _has_file(path: Path) -> bool:
    """Whether a file is there, or anywhere below: microscopes make folders before their first file."""
    return path.is_file() or any(files for _, _, files in os.walk(path))


@dataclass
class Follower:
    """The sources of one session."""

    advisor: Advisor
    sources: Sources
    ticks: Ticks = field(default_factory=Ticks)
    looked_s: float | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follower-{self.advisor.name}", daemon=True)
        self._retry_at_s: dict[Path, tuple[float, float]] = {}
        self._first_seen_s: dict[Path, float] = {}
        self._began_s = self.advisor.clock()
        self._gone: set[Path] = set()
        known = self.advisor.reading(lambda store: store.files())
        self._held = {path for path in self.sources.paths if known.get(source_key(path))}
        """Folders in which there were files."""
        self._unjoined_since_s: float | None = None
        self._changed_at_s: float | None = None
        self._ask_at_s, self._ask_pause_s = 0.0, ASK_SERVER_S

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=30.0)

    def _run(self) -> None:
        changes: Changes | None = None
        pending: set[Path] | None = None  # None: everything
        with FollowedSources(self.advisor.location, self.sources) as followed:
            while not self._stop.is_set():
                pause_s = FIRST_PAUSE_S
                try:
                    if self._look_for_sources():
                        # What comes back may have changed meanwhile, and be mounted in another way.
                        if changes is not None:
                            changes.close()
                        changes, pending = None, None
                    changes = changes or changes_below(self.sources.paths)
                    pending = self._look(followed, changes, pending)
                    pause_s = LOOK_S if isinstance(changes, Told) else POLL_S
                except Exception as error:  # noqa: BLE001  a thread that ended would never read again
                    self._say_failed(error)
                    pending = None
                self._stop.wait(pause_s)
        if changes is not None:
            changes.close()

    def _look(
        self, followed: FollowedSources, changes: Changes, pending: set[Path] | None
    ) -> set[Path] | None:
        """Take in what has changed since the last look; what is left for the next one, None for everything."""
        changed = changes.take() | self._due()
        if pending is not None:
            pending |= changed
        if self.sources.servers and time.monotonic() >= self._ask_at_s:
            pending = None  # a server does not say what has changed
        # Who loses the share with the CTF results still reads what the microscope writes.
        can_read = bool(self.sources.servers) or len(self._gone) < len(self.sources.paths)
        if can_read and (pending is None or pending):
            pending = self._take_in(followed, changes, pending)
        self.looked_s = self.advisor.clock()
        return pending

    def _say_failed(self, error: Exception) -> None:
        known = isinstance(error, CryoscoutError | OSError)
        said = str(error) if known else f"{type(error).__name__}: {error}"
        what = "server" if isinstance(error, ServiceError) else "file"
        self.advisor.trouble("sources", said, f"It is read again by itself; look at the {what}.", 6)

    def _take_in(
        self, followed: FollowedSources, changes: Changes, pending: set[Path] | None
    ) -> set[Path] | None:
        """Read what has changed; what is left to be read again, None for everything."""
        try:
            taken = followed.take_in(pending)
        except Exception as error:  # noqa: BLE001  a thread that ended would never read again, and nobody would know
            self._say_failed(error)
            self._stop.wait(FIRST_PAUSE_S)
            if not self.sources.servers:
                return pending
            # One that does not answer is asked less and less often; then everything is.
            self._ask_pause_s = min(2.0 * self._ask_pause_s, LONGEST_ASK_S)
            self._ask_at_s = time.monotonic() + self._ask_pause_s
            return set()
        self.advisor.well("sources")
        if pending is None:
            self._ask_pause_s = ASK_SERVER_S
            self._ask_at_s = time.monotonic() + self._ask_pause_s
        if taken.added:
            self.ticks.tick(self.advisor.clock())
            self.advisor.wake()
        self._wait_for(taken)
        changes.keep_looking_at(taken.waiting)
        return set()

    def _look_for_sources(self) -> bool:
        """Say which sources cannot be seen; whether one of those that could not is back."""
        gone = {path: why for path in self.sources.paths if (why := self._why_gone(path)) is not None}
        if gone:
            said = " ".join(f"{path} {why}." for path, why in gone.items())
            remedy = "Check the mount; what is stored stays, and it is read on when it is back."
            self.advisor.trouble("folder", said, remedy, 7)
        else:
            self.advisor.well("folder")
        before, self._gone = self._gone, set(gone)
        return bool(before - self._gone)

    def _why_gone(self, path: Path) -> str | None:
        """None where a source is there. A share that is not mounted is nothing, an error, or an empty folder."""
        try:
            with os.scandir(path) as entries:
                is_empty = next(entries, None) is None
        except NotADirectoryError:
            return None  # a file
        except OSError as error:
            return "cannot be seen" if error.errno == ENOENT else f"cannot be seen ({error.strerror})"
        if not is_empty:
            self._held.add(path)
        return "is empty, and held files before" if is_empty and path in self._held else None

    def _wait_for(self, taken: TakenOn) -> None:
        """Incomplete files are tried again with growing pauses, and named after a minute."""
        now_s = time.monotonic()
        waiting = set(taken.waiting)
        self._first_seen_s = {path: self._first_seen_s.get(path, now_s) for path in waiting}
        for path in waiting:
            _, pause_s = self._retry_at_s.get(path, (0.0, FIRST_PAUSE_S / 2))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._retry_at_s[path] = now_s + pause_s, pause_s
        for path in set(self._retry_at_s) - waiting:
            del self._retry_at_s[path]
        old = [path for path, since_s in self._first_seen_s.items() if now_s - since_s >= NAMED_AFTER_S]
        if old:
            more = f" and {len(old) - 1} more" if len(old) > 1 else ""
            is_folder = old[0].is_dir()
            what = "holds nothing of a session yet" if is_folder else "is not whole for over a minute"
            remedy = "Its first files are waited for." if is_folder else "It is read when it is complete."
            self.advisor.trouble("incomplete", f"{old[0]}{more} {what}.", remedy, 3)
        else:
            self.advisor.well("incomplete")
        self._say_unjoined(taken, now_s)
        self._say_changed(taken, now_s)
        if taken.left_out:
            self.advisor.trouble(
                "left out",
                taken.left_out[0],
                f"{counted(len(taken.left_out), 'pieces', 'were')} left out.",
                2,
            )
        else:
            self.advisor.well("left out")

    def _say_unjoined(self, taken: TakenOn, now_s: float) -> None:
        """Results of which no exposure is known are named when none has come for a minute."""
        if not taken.n_unjoined:
            self._unjoined_since_s = None
            self.advisor.well("unjoined")
            return
        since_s = self._unjoined_since_s = self._unjoined_since_s or now_s
        if now_s - since_s >= NAMED_AFTER_S:
            are = "1 CTF result is" if taken.n_unjoined == 1 else f"{taken.n_unjoined} CTF results are"
            said = f"{are} of images that are not in the session, such as {taken.unjoined[0]}."
            remedy = "They wait for their images; check that the results are of this session."
            self.advisor.trouble("unjoined", said, remedy, 2)

    def _say_changed(self, taken: TakenOn, now_s: float) -> None:
        if taken.changed:
            self._changed_at_s = now_s
            self.advisor.well("changed")
            remedy = "The best one counts; look at the program that fits CTFs."
            self.advisor.trouble("changed", f"{taken.changed[-1]}.", remedy, 2)
        elif self._changed_at_s is not None and now_s - self._changed_at_s >= CHANGED_TOLD_S:
            self._changed_at_s = None
            self.advisor.well("changed")

    def _due(self) -> set[Path]:
        now_s = time.monotonic()
        return {path for path, (at_s, _) in self._retry_at_s.items() if at_s <= now_s}

    def clock(self) -> Mapping[str, Any] | None:
        """Age of the last look at the folder, at first of the beginning; a look is usual every few seconds."""
        since_s = self._began_s if self.looked_s is None else self.looked_s
        return {"age_s": max(0.0, self.advisor.clock() - since_s), "usual_s": POLL_S}


class Followers:
    """All sources of a server."""

    def __init__(
        self,
        request: ServeRequest,
        places: Mapping[str, Path | str],
        served: ServedSessions,
        say: Say,
        player: Player | None = None,
    ) -> None:
        self._followers: list[Follower] = []
        for name, place in places.items():
            imported = [] if request.watch or player is not None else sources_of(place)
            missing = [path for path in imported if not path.exists()]
            if missing:
                say(
                    f"Note: {', '.join(map(str, missing))}, from which {name} was imported, cannot be seen now."
                )
            watched = [*request.watch, *imported]
            paths = with_results(watched, request.ctf) if player is None else player.sources
            servers = servers_of(request) if player is None else []
            if paths or servers:
                self._followers.append(Follower(served.advisor(name), _sources(paths, servers)))

    def start(self) -> None:
        """Begin to follow."""
        for follower in self._followers:
            follower.start()

    def close(self) -> None:
        """End all threads."""
        for follower in self._followers:
            follower.close()

    def clock(self) -> Mapping[str, Any] | None:
        """Of the folder that was looked at longest ago; None where none is followed."""
        clocks = [each for follower in self._followers if (each := follower.clock()) is not None]
        return max(clocks, key=lambda each: each["age_s"] or 0.0) if clocks else None


def with_results(paths: Sequence[Path], ctf: Sequence[Path]) -> list[Path]:
    """What is followed, and the results of --ctf beside it, each once."""
    known = {path.resolve() for path in paths}
    return [*paths, *(path for path in ctf if path.resolve() not in known)]


def sources_of(place: Path | str) -> list[Path]:
    """The files and folders that a stored session was imported from, as they are now."""
    with SessionStore.open(place) as store:
        return [Path(each) for each in store.files() if each.startswith("/") or Path(each).is_absolute()]
