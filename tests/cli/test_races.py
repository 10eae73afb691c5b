"""Two and three commands that store at one place at once: the outcome is that of some order of those that said done."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from cryoscout.session.place import DATABASE
from killing import Ended, Moment, run, run_at_once
from stored_state import PLACE, State, state_of, write_table

pytestmark = pytest.mark.slow

NEW_ONE, NEW_OTHER = f"import one.csv -o {PLACE}", f"import other.csv -o {PLACE}"
SIMULATED = f"simulate --preset small --holes 60 -o {PLACE}"
UPDATE, OTHER_UPDATE = f"import more.csv -o {PLACE} --update", f"import late.csv -o {PLACE} --update"
FORCED, OTHER_FORCED = f"{NEW_OTHER} --force", f"import late.csv -o {PLACE} --force"

RACES = {
    "two imports to one new place": (False, (NEW_ONE, NEW_OTHER), 8),
    "three imports to one new place": (False, (NEW_ONE, NEW_OTHER, NEW_ONE), 6),
    "simulate and import": (False, (SIMULATED, NEW_ONE), 5),
    "simulate and two imports": (False, (SIMULATED, NEW_ONE, NEW_OTHER), 5),
    "update and import --force": (True, (UPDATE, FORCED), 9),
    "two updates and import --force": (True, (UPDATE, OTHER_UPDATE, FORCED), 5),
    "two imports --force": (True, (FORCED, OTHER_FORCED), 3),
    "two updates": (True, (UPDATE, OTHER_UPDATE), 5),
    "three updates": (True, (UPDATE, OTHER_UPDATE, UPDATE), 4),
}
"""Whether a session is there, the commands, how many times: 50 in all."""


def start(folder: Path, with_session: bool) -> None:
    folder.mkdir()
    for name, holes, results in (
        ("one", range(30), 10), ("other", range(100, 140), 12), ("more", range(60), 20), ("late", range(90), 15),
    ):  # fmt: skip
        write_table(folder / f"{name}.csv", holes, results)
    if with_session:
        assert run(NEW_ONE, folder).code == 0


def looked_at_s(forced: Ended) -> float:
    """When a forced import looked at what it replaces."""
    return next(
        step.at_s for step in forced.steps if (step.event, step.name) == ("sqlite3.connect", DATABASE)
    )


def stored_at_s(update: Ended) -> float:
    """When an update took the lock under which it stores; it stores after that."""
    return max(step.at_s for step in update.steps if step.name == "write.lock")


def is_allowed(order: tuple[int, ...], lines: tuple[str, ...], ended: list[Ended]) -> bool:
    """Whether no forced import comes behind an update that it cannot have seen when it looked."""
    return not any(
        "--force" in lines[later]
        and "--update" in lines[earlier]
        and looked_at_s(ended[later]) < stored_at_s(ended[earlier])
        for place, later in enumerate(order)
        for earlier in order[:place]
    )


@pytest.mark.parametrize("name", RACES)
def test_commands_at_once_end_as_one_after_the_other_and_none_that_said_done_is_lost(
    name: str, tmp_path: Path
) -> None:
    with_session, lines, count = RACES[name]
    start(tmp_path / "before", with_session)
    known: dict[tuple[str, ...], State] = {}

    def in_turn(order: tuple[str, ...]) -> State:
        """What these commands leave, one after the other; None where one of them is refused."""
        if order not in known:
            folder = tmp_path / f"in turn {len(known)}"
            shutil.copytree(tmp_path / "before", folder)
            known[order] = (
                state_of(folder / PLACE) if all(run(line, folder).code == 0 for line in order) else None
            )
        return known[order]

    rng = np.random.default_rng(len(name))
    steps = len(run(lines[-1], _copy(tmp_path, "measured")).steps) - 1
    done: Counter[str] = Counter()
    for race in range(count):
        folder = _copy(tmp_path, f"race {race}")
        moments = [pause(rng, line, steps) for line in lines]
        ended = run_at_once(list(zip(lines, moments, strict=True)), folder)
        what = f"race {race} of {name}, {moments}: {[each.said for each in ended]}"
        assert all(each.code in (0, 2) for each in ended), what
        assert not any("--force" in each.said or "Traceback" in each.said for each in ended if each.code), (
            what
        )
        succeeded = [number for number, each in enumerate(ended) if each.code == 0]
        done[" and ".join(sorted(kind_of(lines[number]) for number in succeeded))] += 1
        assert succeeded, what
        allowed = [
            in_turn(tuple(lines[number] for number in order))
            for order in permutations(succeeded)
            if is_allowed(order, lines, ended)
        ]
        found = state_of(folder / PLACE)
        assert found is not None, what
        assert found in allowed, f"{differing(found, allowed)}, {what}"
        assert not list(folder.glob(".*partial*")), what
    print(f"{name}: {count} races, done: {dict(sorted(done.items()))}")  # noqa: T201


def kind_of(line: str) -> str:
    return "force" if "--force" in line else "update" if "--update" in line else line.split()[0]


def pause(rng: np.random.Generator, line: str, steps: int) -> Moment:
    """One that pauses at a step meets whatever the others do meanwhile; forced imports are quick and come late too."""
    if "--force" in line:
        return Moment(int(rng.integers(1, 6)), "pause", float(rng.choice([0.0, 1.0, 3.0, 6.0])))
    return Moment(int(rng.integers(1, steps + 1)), "pause", float(rng.uniform(0.0, 2.0)))


def differing(found: State, allowed: list[State]) -> list[list[str]]:
    """The tables in which a state is none of the allowed ones, for people."""
    return [[name for name in found or {} if found[name] != other[name]] for other in allowed if other]


def _copy(tmp_path: Path, name: str) -> Path:
    shutil.copytree(tmp_path / "before", tmp_path / name)
    return tmp_path / name
