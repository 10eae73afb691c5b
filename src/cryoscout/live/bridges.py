"""How the advice reaches the microscope's software: a script that reads next.json, a selection, or decisions.

None of them was tried on a microscope; each is tested against a fake of what its vendor documents. Whatever goes wrong
here, the microscope goes on with what it has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.smartscope.rest import SmartScopeClient, read_token, select_holes
from cryoscout.live.running import Moment

BRIDGES = ("serialem", "leginon", "smartscope", "athena")
SCRIPTS = {"serialem": "serialem_before_acquire", "leginon": "leginon_order"}
ANSWERS = "answers.txt"
Json = dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """What the software said of holes that it was given."""

    accepted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class Bridge(Protocol):
    """One way to the microscope's software."""

    def give(self, moment: Moment, content: Json) -> Answered:
        """Hand an advice over; raises CryoscoutError or OSError where that fails."""
        ...


@dataclass
class ScriptBridge:
    """A script in the export folder, which the microscope's software runs; it answers in a file."""

    kind: str
    folder: Path
    _read: int = 0
    _holes: int | None = None

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

    def give(self, moment: Moment, content: Json) -> Answered:
        """The advice stands in next.json; the ids of all holes beside it, and what the script answered is read."""
        names = moment.advice.names.holes
        if self._holes != id(names):
            write_whole(self.folder / "holes.json", json.dumps({"holes": list(names)}) + "\n")
            self._holes = id(names)
        return self._answers(set(names))

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
        words: dict[str, list[str]] = {"accepted": [], "skipped": []}
        for line in whole.decode("utf-8", "replace").splitlines():
            word, _, hole = line.partition(" ")
            if word in words and hole in known:
                words[word].append(hole)
        return Answered(tuple(words["accepted"]), tuple(words["skipped"]))


@dataclass
class SmartScopeBridge:
    """A rolling window of selected targets on a SmartScope server: this square's and the next one's.

    It is never taken empty: two passes without a target complete a grid.
    """

    client: SmartScopeClient
    _given: set[str] = field(default_factory=set)

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
        target = self.folder / "decisions.json"
        target.unlink(missing_ok=True)
        write_decisions(target, records)
        return Answered()


def bridge_named(
    kind: str,
    folder: Path | None,
    smartscope: str | None,
    token_file: Path | None,
    athena_session: str | None,
) -> Bridge:
    """The bridge of that name. Raises UnknownNameError, InputError where something that it needs lacks."""
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
    return ScriptBridge(kind, folder)


def answered_events(answered: Answered, revision: int) -> Sequence[tuple[str, Json]]:
    """The events that say what was answered."""
    events: list[tuple[str, Json]] = []
    for state, holes in (("accepted", answered.accepted), ("refused", answered.refused)):
        if holes:
            payload = {"holes": list(holes), "state": state, "revision": revision, "author": "bridge"}
            events.append(("accepted", payload))
    return events
