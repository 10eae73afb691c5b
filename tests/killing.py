"""Runs of the command line that are killed at a chosen moment: before a step, in the middle of a write, or between.

Each run is a process of its own, forked from one that has the heavy libraries already, so that hundreds take minutes.
"""

from __future__ import annotations

import itertools
import os
import pkgutil
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import cryoscout
from session_with_images import TINY

resource = pytest.importorskip(
    "resource", reason="kills in the middle of a write need the limits of a Unix system"
)

WATCHED = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "sqlite3.connect")
WAYS = ("step", "write", "wait")
"""Killed before a step; in the first write that takes a file past so many bytes; or so long after a step."""

_numbers = itertools.count()

_context: Any = get_context("forkserver")
_modules = [each.name for each in pkgutil.walk_packages(cryoscout.__path__, "cryoscout.")]
_context.set_forkserver_preload([*(name for name in _modules if ".live" not in name), __name__])


class Moment(NamedTuple):
    """When a run is killed: never where `step` is 0."""

    step: int = 0
    """Of the files opened for writing, renames, removals and openings of the database below its folder, from 1"""
    way: str = "step"
    amount: float = 0.0
    """Bytes of a file for `write`, seconds for `wait`, and for `pause`, which kills nobody"""


class Step(NamedTuple):
    """One file that was opened for writing, renamed or removed, or an opening of the database; last, the end."""

    at_s: float
    """After its pause, if it has one: then it happens."""
    event: str
    name: str


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (negative: the signal that killed it), what it said, and its steps."""

    code: int
    said: str
    steps: list[Step]


def run(line: str, folder: Path, moment: Moment = Moment(), tiny: bool = True) -> Ended:  # noqa: B008
    """`cryoscout LINE` in a folder, killed at a moment. tiny : trainings and studies are made very small."""
    here, there = _context.Pipe(duplex=False)
    said = folder.with_name(f"{folder.name}.said-{next(_numbers)}")
    process = _context.Process(target=_child, args=(line, str(folder), str(said), moment, tiny, there))
    process.start()
    there.close()
    steps = []
    try:
        while True:
            steps.append(Step(*here.recv()))
            if len(steps) == moment.step and moment.way == "wait":
                time.sleep(moment.amount)
                process.kill()
    except EOFError:
        pass
    process.join()
    text = said.read_text(errors="replace")
    said.unlink()
    return Ended(process.exitcode, text, steps)


def run_at_once(lines: Sequence[tuple[str, Moment]], folder: Path) -> list[Ended]:
    """Several commands in one folder, begun together, each with its moment."""
    with ThreadPoolExecutor(len(lines)) as pool:
        return list(pool.map(lambda each: run(each[0], folder, each[1]), lines))


def _child(line: str, folder: str, said: str, moment: Moment, tiny: bool, steps: Any) -> None:
    os.chdir(folder)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    if tiny:
        _make_small()
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in WATCHED or not _is_written(event, arguments, folder):
            return
        seen += 1
        paused_s = moment.amount if seen == moment.step and moment.way == "pause" else 0.0
        steps.send((time.monotonic() + paused_s, event, os.path.basename(os.fsdecode(arguments[0]))))  # noqa: PTH119
        if seen != moment.step:
            return
        if moment.way == "step":
            os.kill(os.getpid(), signal.SIGKILL)
        elif moment.way == "write":
            # The system itself ends the process, in the write: what fits is in the file, the rest is not.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(moment.amount), int(moment.amount)))
        elif moment.way == "pause":
            time.sleep(moment.amount)

    sys.addaudithook(watch)
    from cryoscout.cli.main import main

    code = main(line.split())
    sys.stdout.flush()
    sys.stderr.flush()
    steps.send((time.monotonic(), "end", ""))
    os._exit(code)


def _is_written(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    path = arguments[0]
    if event == "open":
        flags = arguments[2]
        if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return False
    return not isinstance(path, int) and os.path.abspath(os.fsdecode(path)).startswith(folder + os.sep)  # noqa: PTH100


def _make_small() -> None:
    """Trainings and studies of seconds."""
    from cryoscout.perception import settings
    from cryoscout.study.routes import delay

    settings.PROFILES["quick"] = TINY
    delay.BUDGETS_MIN = (30,)  # type: ignore[assignment]
    delay.REPLAN_EVERY, delay.DELAYS_MIN = (20,), (0.0, 5.0)  # type: ignore[assignment]


def draw_moment(way: str, whole: Ended, folder: Path, rng: np.random.Generator) -> Moment:
    """A moment, in one of the WAYS, of a run as the one that was let run.

    whole : that run     folder : what it left, for the sizes of what is written
    """
    step = int(rng.integers(1, len(whole.steps)))
    if way == "write":
        # Most files are small, and the log of the database grows past the database.
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
        return Moment(step, way, int(rng.choice(sizes) * rng.uniform(0.0, 1.2)))
    if way == "wait":
        gap_s = whole.steps[step].at_s - whole.steps[step - 1].at_s
        return Moment(step, way, float(rng.uniform(0.0, min(gap_s, 2.0))))
    return Moment(step, way)


def kills(
    line: str, start: Callable[[Path], None], parent: Path, count: int, seed: int
) -> Iterator[tuple[Moment, Path, Ended]]:
    """Folders in which `cryoscout LINE` was killed, `count` of them, each with the moment and how the run ended.

    The WAYS take turns: none has its turn before the run was killed in the one before it.
    start : fills a folder with what the command begins from     parent : of the folders; each is removed when the next
    is asked for
    """
    before, whole = parent / "before", parent / "whole"
    before.mkdir()
    start(before)
    shutil.copytree(before, whole)
    ended = run(line, whole)
    assert ended.code == 0, ended.said
    found, rng = 0, np.random.default_rng(seed)
    for _ in range(6 * count):
        moment = draw_moment(WAYS[found % len(WAYS)], ended, whole, rng)
        folder = parent / "killed"
        shutil.copytree(before, folder)
        answer = run(line, folder, moment)
        assert answer.code in (0, -signal.SIGKILL, -signal.SIGXFSZ), f"{moment}: {answer.said}"
        if answer.code:
            found += 1
            yield moment, folder, answer
        shutil.rmtree(folder)
        if found == count:
            return
    raise AssertionError(f"only {found} of {6 * count} runs were killed")
