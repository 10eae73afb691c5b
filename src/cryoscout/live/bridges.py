"""How the advice reaches the microscope's software: a script that reads next.json, a selection, or decisions.

None of them was tried on a microscope; each is tested against a fake of what its vendor documents. Whatever goes wrong
here, the microscope goes on with what it has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.serialem.nav import detect, read_nav
from cryoscout.formats.serialem.nav_writer import PlannedHole, items_of, merged_nav
from cryoscout.formats.smartscope.rest import SmartScopeClient, read_token
from cryoscout.formats.smartscope.selecting import select_holes
from cryoscout.live.running import Moment

BRIDGES = ("serialem", "leginon", "smartscope", "athena")
SCRIPTS = {"serialem": "serialem_before_acquire", "leginon": "leginon_order"}
ANSWERS = "answers.txt"
PLAN_FILE = "cryoscout_plan.nav"
DECISIONS_FILE = "decisions.json"
MERGED, MERGED_AHEAD = 40, 10
"""Holes of a plan that are merged at once, and the next ones whose change makes a new one."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """What the software said of holes that it was given."""

    accepted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def news(self, known: Mapping[str, str]) -> Answered:
        """What is not known yet: a server that starts again reads all answers again.

        known : hole -> sent, accepted, imaged or refused; one that is imaged is past all answers
        """
        return Answered(
            tuple(hole for hole in self.accepted if known.get(hole) not in ("accepted", "imaged")),
            tuple(hole for hole in self.refused if known.get(hole) not in ("refused", "imaged")),
        )


class Bridge(Protocol):
    """One way to the microscope's software."""

    def prepare(self, moment: Moment) -> Json:
        """What else stands in next.json, before it is written; raises CryoscoutError or OSError where that fails."""
        ...

    def give(self, moment: Moment, content: Json) -> Answered:
        """Hand an advice over; raises CryoscoutError or OSError where that fails."""
        ...

    def take_back(self) -> None:
        """Sending has ended: what was handed over and does not expire by itself is taken back. Raises OSError."""
        ...


@dataclass
class ScriptBridge:
    """A script in the export folder, which the microscope's software runs; it answers in a file."""

    kind: str
    folder: Path
    navigator: Path | None = None
    """SerialEM's, with the holes of the session: then plans are merged into its table, in their order."""
    _read: int = 0
    _holes: Sequence[str] | None = None
    _merge: Json | None = None

    def __post_init__(self) -> None:
        text = (
            files("cryoscout.live")
            .joinpath("scripts", f"{SCRIPTS[self.kind]}.txt")
            .read_text(encoding="utf-8")
        )
        place = str(self.folder.resolve())
        if '"' in place or "\n" in place:
            raise InputError(f"--export-to must be a path without quotes. Got {place!r} instead.")
        script = self.folder / f"cryoscout_{SCRIPTS[self.kind]}.py"
        write_whole(script, text.replace("@FOLDER@", place))

    def prepare(self, moment: Moment) -> Json:
        """Where the navigator is known: the plan that is to be merged into it. It stays while its next holes stand, so
        that the table does not grow with each result."""
        if self.navigator is None:
            return {}
        problem, names = moment.advice.problem, moment.advice.names
        holes = set(names.holes)
        route = items_of(
            [
                PlannedHole(
                    names.holes[hole],
                    names.patches[int(problem.patch_of_hole[hole])],
                    float(moment.advice.p_good[hole]),
                )
                for hole in moment.advice.walk.holes.tolist()
            ],
            holes,
        )
        planned = [each.hole_id for each in route]
        if not planned or moment.advice.looks:
            return {} if self._merge is None else {"merge": self._merge}
        if self._merge is not None:
            left = [hole for hole in self._merge["holes"] if hole in set(planned)]
            if left[:MERGED_AHEAD] == planned[:MERGED_AHEAD]:
                return {"merge": self._merge}
        route = route[:MERGED]
        content = merged_nav(read_nav(self.navigator, permissive=True), route, moment.revision)
        write_whole(self.folder / PLAN_FILE, content)
        self._merge = {
            "revision": moment.revision,
            "file": PLAN_FILE,
            "holes": [each.hole_id for each in route],
        }
        return {"merge": self._merge}

    def give(self, moment: Moment, content: Json) -> Answered:
        """The advice stands in next.json; the ids of all holes beside it, and what the script answered is read."""
        names = moment.advice.names.holes
        if self._holes is not names:
            write_whole(self.folder / "holes.json", json.dumps({"holes": list(names)}) + "\n")
            self._holes = names
        return self._answers(set(names))

    def take_back(self) -> None:
        """Nothing: the script looks at mode and expiry."""

    def _answers(self, known: set[str]) -> Answered:
        path = self.folder / ANSWERS
        if not path.exists():
            return Answered()
        content = path.read_bytes()
        if len(content) < self._read:
            self._read = 0  # somebody began it anew
        new = content[self._read :]
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        last: dict[str, str] = {}
        for line in whole.decode("utf-8", "replace").splitlines():
            word, _, hole = line.partition(" ")
            if word in ("accepted", "skipped") and hole in known:
                last[hole] = word
        return Answered(
            tuple(hole for hole, word in last.items() if word == "accepted"),
            tuple(hole for hole, word in last.items() if word == "skipped"),
        )


@dataclass
class SmartScopeBridge:
    """A rolling window of selected targets on a SmartScope server: this square's and the next one's.

    It is never taken empty: two passes without a target complete a grid.
    """

    client: SmartScopeClient
    _given: set[str] = field(default_factory=set)

    def prepare(self, moment: Moment) -> Json:
        """Nothing: the server is asked."""
        return {}

    def give(self, moment: Moment, content: Json) -> Answered:
        """Select what is new in the window; nothing is ever taken off, and an empty plan changes nothing."""
        window = window_of(moment)
        new = [hole for hole in window if hole not in self._given]
        if not new:
            return Answered()
        names = moment.advice.names
        grids = [
            names.grids[int(moment.advice.problem.grid_of_hole[names.holes.index(hole)])] for hole in new
        ]
        report = select_holes(self.client, grids, new)
        self._given.update(new)
        refused = set(report.not_open)
        return Answered(tuple(hole for hole in new if hole not in refused), tuple(report.not_open))

    def take_back(self) -> None:
        """Nothing: what is selected stays, because a grid without a target is completed."""


def window_of(moment: Moment, squares: int = 2) -> list[str]:
    """The planned holes of the first squares of the plan, in its order."""
    problem, names = moment.advice.problem, moment.advice.names
    holes = moment.advice.walk.holes.tolist()
    order = list(dict.fromkeys(problem.square_of_hole[holes].tolist()))[:squares]
    return [names.holes[hole] for hole in holes if int(problem.square_of_hole[hole]) in order]


@dataclass
class AthenaBridge:
    """Decisions for each square ahead of time, as a file in the shape that the service publishes."""

    folder: Path
    session_id: str

    def prepare(self, moment: Moment) -> Json:
        """Nothing: decisions are a file of their own."""
        return {}

    def give(self, moment: Moment, content: Json) -> Answered:
        """Write decisions.json: of each square of the plan which holes, and in which order."""
        from cryoscout.formats.epu.athena import SquarePlan, decisions_of, write_decisions

        problem, names = moment.advice.problem, moment.advice.names
        walk = moment.advice.walk.holes.tolist()
        if not walk:
            return Answered()
        planned = set(walk)
        free = problem.available() & ~moment.advice.now.imaged
        plans = []
        for square in dict.fromkeys(problem.square_of_hole[walk].tolist()):
            inside = [hole for hole in walk if problem.square_of_hole[hole] == square]
            left = [
                hole
                for hole in range(problem.n_holes)
                if problem.square_of_hole[hole] == square and free[hole] and hole not in planned
            ]
            places = {names.holes[hole]: place for place, hole in enumerate(inside, start=1)}
            plans.append(SquarePlan(names.squares[square], places, tuple(names.holes[hole] for hole in left)))
        records = decisions_of(self.session_id, plans, "cryoscout", f"revision {moment.revision}")
        write_decisions(self.folder / DECISIONS_FILE, records)
        return Answered()

    def take_back(self) -> None:
        """Decisions say no time until which they hold."""
        (self.folder / DECISIONS_FILE).unlink(missing_ok=True)


def bridge_named(
    kind: str,
    folder: Path | None,
    smartscope: str | None,
    token_file: Path | None,
    athena_session: str | None,
    sources: Sequence[Path] = (),
) -> Bridge:
    """The bridge of that name.     sources : files and folders of the session, where SerialEM's navigator is looked for

    Raises UnknownNameError, InputError where something that it needs lacks."""
    if kind not in BRIDGES:
        raise UnknownNameError("The bridge", kind, BRIDGES)
    if kind == "smartscope":
        if smartscope is None:
            raise InputError("--bridge smartscope must have --smartscope-address. Got none instead.")
        return SmartScopeBridge(SmartScopeClient(smartscope, read_token(token_file)))
    if folder is None:
        raise InputError(f"--bridge {kind} must have --export-to. Got none instead.")
    if kind == "athena":
        if athena_session is None:
            raise InputError(
                "--bridge athena must have --athena-session, the uuid of the session. Got none instead."
            )
        from cryoscout.formats.epu.athena import check_session_id

        return AthenaBridge(folder, check_session_id(athena_session))
    return ScriptBridge(kind, folder, navigator_among(sources) if kind == "serialem" else None)


def navigator_among(sources: Sequence[Path]) -> Path | None:
    """The one navigator file among sources and at the top of their folders; None where there is none, or several."""
    files = [file for path in sources for file in ([path] if path.is_file() else sorted(path.glob("*.nav")))]
    found = [file for file in files if detect(file)]
    return found[0] if len(found) == 1 else None


def answered_events(answered: Answered, revision: int) -> Sequence[tuple[str, Json]]:
    """The events that say what was answered."""
    events: list[tuple[str, Json]] = []
    for state, holes in (("accepted", answered.accepted), ("refused", answered.refused)):
        if holes:
            payload = {"holes": list(holes), "state": state, "revision": revision, "author": "bridge"}
            events.append(("accepted", payload))
    return events
