"""Practice mode: a page on this computer on which a person picks holes and is compared with the planners.

One round at a time; finished rounds are rows of one JSON file, which is written whole.
"""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cryoscout.advice.practice import PICKS, PracticeRound, compared, practice_round, table_rows
from cryoscout.core.errors import CryoscoutError, DataError, InputError
from cryoscout.core.new_files import finite, write_whole
from cryoscout.core.telling import Say
from cryoscout.live.assets import asset_routes

if TYPE_CHECKING:
    from cryoscout.session.model import Session
    from cryoscout.session.store import SessionStore

Json = dict[str, Any]
LONGEST_NAME = 40
CITATION = (
    "Published: 15 students of two cryo-EM laboratories, CryoRL, arXiv:2204.07543, Table 2. Planners and bound begin "
    "at your first hole; on the axis of picks moving costs them nothing either."
)
RULE = "picks cost nothing, moving included; minutes are shown beside, not charged"


@dataclass
class Practice:
    """The session that is practised on, the round that is played, and where results are kept.

    image_of : PNG of a hole's image by its index, None where none is stored
    Raises DataError for a file of results that is none.
    """

    session: Session
    results_file: Path
    n_picks: int = PICKS[0]
    image_of: Callable[[int], bytes | None] = lambda hole: None
    has_image: Callable[[int], bool] = lambda hole: False
    round: PracticeRound | None = None
    results: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.results = read_results(self.results_file)
        self._writing = threading.Lock()
        practice_round(self.session, self.n_picks)  # refused here rather than at the first click

    def begin(self, player: str, n_picks: int) -> Json:
        """Start a round. Raises InputError for a name that is empty, too long or not printable."""
        name = player.strip()
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise InputError(
                f"A player must be named by 1 to {LONGEST_NAME} printable characters. Got {player[:60]!r} instead."
            )
        self.round = practice_round(self.session, n_picks, name)
        return self.shown(self.round)

    def shown(self, played: PracticeRound) -> Json:
        """The round for the page: patches with their holes in the session's order, and the picks so far.

        x, y of a hole : to the right and down, in px of the patch image, else um of the stage; null where unknown
        """
        problem, rows = played.problem, self.session.patches
        x, y = _positions(self.session)
        names, squares = rows["patch_id"].tolist(), rows["square_id"].tolist()
        patches: dict[int, Json] = {}
        for hole in problem.available().nonzero()[0].tolist():
            patch = int(problem.patch_of_hole[hole])
            if patch not in patches:
                patches[patch] = {"name": names[patch], "square": squares[patch], "holes": []}
            at = {"x": finite(x[hole]), "y": finite(y[hole])}
            patches[patch]["holes"].append({"hole": hole, "image": self.has_image(hole), **at})
        return {
            "player": played.player,
            "n_picks": played.n_picks,
            "threshold_angstrom": self.session.info.threshold_angstrom,
            "patches": list(patches.values()),
            "picked": [played.shown(hole) for hole in played.picks],
            "picks": len(played.picks),
            "left": played.n_picks - len(played.picks),
            "good_so_far": float(played.truth.good[played.picks].sum()),
            "is_over": played.is_over,
        }

    def playing(self) -> PracticeRound:
        """The round that is played. Raises InputError where none is."""
        if self.round is None:
            raise InputError("A round must have begun. Got none instead. Remedy: New round.")
        return self.round

    def finish(self) -> Json:
        """The comparison of the round that is over; it is kept in the file, once."""
        played = self.playing()
        with self._writing:
            result = compared(played)
            result["order"] = [str(self.session.holes["hole_id"].iloc[hole]) for hole in played.picks]
            if not any(
                each["order"] == result["order"] and each["player"] == result["player"]
                for each in self.results
            ):
                self.results.append(result)
                write_whole(self.results_file, json.dumps(self.results, indent=1) + "\n")
        return {"result": result, "table": table_rows(self.results), "citation": CITATION}


def read_results(path: Path) -> list[Json]:
    """Finished rounds of a file, oldest first; none where it is not there. Raises DataError for another file."""
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError
        table_rows(rows)
        return [{**row, "order": row["order"]} for row in rows]
    except (ValueError, KeyError, TypeError, IndexError):
        raise DataError(
            f"The file of practice results must be one that practice wrote. Got something else in {path} instead. "
            "Remedy: another --results FILE."
        ) from None


def results_csv(results: list[Json]) -> str:
    """One line per round: session, player, picks, good of the person, of the rivals and the bound."""
    from cryoscout.core.names import as_cell

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["session", "player", "picks", "good", "adaptive", "dqn-y1", "bound", "minutes_taken"])
    for each in results:
        ends = [each["picks"].get(name, [None])[-1] for name in ("adaptive", "dqn-y1", "bound")]
        row = [each["session"], each["player"], each["n_picks"], each["good"], *ends, each["minutes_taken"]]
        writer.writerow([as_cell(value) for value in row])
    return out.getvalue()


def _positions(session: Session) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """To the right and down, (n,), (n,): of the patch image, whose px go down, else of the stage, whose um go up."""
    x_px, y_px, x_um, y_um = (
        session.holes[name].to_numpy(dtype=np.float64) for name in ("x_px", "y_px", "x_um", "y_um")
    )
    return (x_px, y_px) if np.isfinite(x_px).any() else (x_um, -y_um)


def practice_of(store: SessionStore, session: Session, results_file: Path, n_picks: int) -> Practice:
    """Practice on a stored session, with the images of its holes where it has them."""
    has_image = session.holes["image_row"].notna().to_numpy()
    patches, rows = session.holes["patch_id"].tolist(), session.holes["image_row"].to_numpy(dtype=np.float64)

    def image_of(hole: int) -> bytes | None:
        from PIL import Image

        crops = store.images(patches[hole]) if has_image[hole] else None
        if crops is None:
            return None
        out = io.BytesIO()
        Image.fromarray(crops[int(rows[hole])]).save(out, format="PNG")
        return out.getvalue()

    return Practice(session, results_file, n_picks, image_of, lambda hole: bool(has_image[hole]))


def run_practice(practice: Practice, host: str, port: int, say: Say) -> None:
    """Serve the page until Ctrl-C, on this computer. Raises InputError where the address is taken."""
    import secrets

    import uvicorn

    from cryoscout.live.guard import Guard, allowed_hosts
    from cryoscout.live.serving import listening
    from cryoscout.live.tokens import Tokens

    with listening(host, port) as listener:
        port = int(listener.getsockname()[1])
        tokens = Tokens(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        hosts, origins = allowed_hosts(host, port, None)
        app = Guard(practice_app(practice), tokens, hosts, origins, cookie=f"cryoscout-practice-{port}")  # type: ignore[arg-type]
        say(
            f"Practice on {practice.session.name}, {practice.n_picks} picks: http://{host}:{port}/?token={tokens.operator}"
        )
        say(f"Finished rounds are kept in {practice.results_file}. Ctrl-C ends it.")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, date_header=False
        )
        uvicorn.Server(config).run(sockets=[listener])


def practice_app(practice: Practice) -> Starlette:
    """The application of practice mode, without its guard."""

    async def state(request: Request) -> Response:
        played = practice.round
        choices = sorted({*PICKS, practice.n_picks})
        content = {
            "choices": choices,
            "n_picks": practice.n_picks,
            "rule": RULE,
            "session": practice.session.name,
        }
        return JSONResponse({**content, "round": None if played is None else practice.shown(played)})

    async def begin(request: Request) -> Response:
        body = await _body(request, {"player": str, "picks": int})
        return JSONResponse(practice.begin(body["player"], body["picks"]))

    async def pick(request: Request) -> Response:
        body = await _body(request, {"hole": int})
        return JSONResponse(practice.playing().pick(body["hole"]))

    async def result(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(practice.finish))

    async def image(request: Request) -> Response:
        hole = int(request.path_params["hole"])
        known = 0 <= hole < practice.session.n_holes
        picture = await run_in_threadpool(practice.image_of, hole) if known else None
        if picture is None:
            return JSONResponse({"detail": "No image is stored of that hole."}, 404)
        return Response(picture, media_type="image/png")

    async def table(request: Request) -> Response:
        return Response(results_csv(practice.results), media_type="text/csv; charset=utf-8")

    async def refused(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 400)

    return Starlette(
        routes=[
            *asset_routes({"practice.html": "/"}),
            Route("/practice/state", state),
            Route("/practice/round", begin, methods=["POST"]),
            Route("/practice/pick", pick, methods=["POST"]),
            Route("/practice/result", result),
            Route("/practice/image/{hole:int}.png", image),
            Route("/practice/results.csv", table),
        ],
        exception_handlers={CryoscoutError: refused},
    )


async def _body(request: Request, kinds: dict[str, type]) -> Json:
    """The body as JSON with these fields of these kinds. Raises InputError for anything else; a bool is no number."""
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if (
        not isinstance(body, dict)
        or set(body) != set(kinds)
        or any(type(body[name]) is not kinds[name] for name in kinds)
    ):
        raise InputError(
            f"A body must be JSON with {', '.join(f'{name} ({kind.__name__})' for name, kind in kinds.items())}. "
            "Got something else instead."
        )
    return body
