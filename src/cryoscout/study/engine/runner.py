"""Runs the trials of a study: one JSON row on disk per finished trial, so that a stopped study can go on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

from cryoscout import __version__
from cryoscout.core.errors import InputError, interruptions_as_such

Json = dict[str, Any]
ROWS_FILE = "trials.jsonl"


@dataclass(frozen=True)
class Trial:
    """One unit of work whose result depends on nothing but these three fields.

    parameters : a mapping that JSON can hold
    """

    name: str
    parameters: Json
    seed: int

    @property
    def key(self) -> str:
        """Identifies the trial on disk: a digest of its fields."""
        text = json.dumps([self.name, self.parameters, self.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TrialRow:
    """What one trial gave: a result, or the error that stopped it; neither where it has not run."""

    trial: Trial
    seconds: float
    result: Json | None
    error: str | None
    machine: str = ""
    """On which it ran; empty: on this one, or a row that does not say."""


class TrialStore:
    """The finished trials of one study and profile, one JSON object per line.

    A line that was cut off while being written is ignored, so its trial is run again. Rows of failed trials
    are not finished: they are run again too.
    """

    def __init__(self, folder: Path, version: str = "", machine: str = "") -> None:
        """folder : made if needed     version : of the results that the rows hold; those of another are redone.

        machine : on which new rows are made
        """
        self.path = folder / ROWS_FILE
        self.version = version
        self.machine = machine
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Forget every row."""
        self.path.unlink(missing_ok=True)

    def finished(self) -> dict[str, Json]:
        """Rows with a result, by trial key."""
        return self._finished_in(self.path)

    def take(self, file: Path) -> int:
        """Take the finished rows of a file of rows that are not here yet; how many these were.

        A file that does not exist has none; rows of another version are left where they are.
        """
        here = self.finished()
        new = [row for key, row in self._finished_in(file).items() if key not in here]
        for row in new:
            self._add(row)
        return len(new)

    def _finished_in(self, file: Path) -> dict[str, Json]:
        rows = [row for row in map(_parsed, _lines(file)) if row is not None]
        return {
            row["key"]: row for row in rows if row["result"] is not None and row["version"] == self.version
        }

    def unreadable(self) -> int:
        """How many lines on disk are no rows: cut off while they were written, or changed by others."""
        return sum(_parsed(line) is None for line in _lines(self.path) if line.strip())

    def append(self, row: TrialRow) -> None:
        """Add a row and force it to disk; starts a fresh line when the last one was cut off."""
        self._add(
            {
                "key": row.trial.key,
                "version": self.version,
                "machine": row.machine or self.machine,
                "name": row.trial.name,
                "parameters": row.trial.parameters,
                "seed": row.trial.seed,
                "seconds": round(row.seconds, 3),
                "result": row.result,
                "error": row.error,
            }
        )

    def _add(self, record: Json) -> None:
        line = json.dumps(record) + "\n"
        with self.path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def _lines(file: Path) -> list[str]:
    # Rows are committed too, where editors and merges touch them; bytes that are no text make no row.
    return file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []


def _parsed(line: str) -> Json | None:
    """A row as `append` writes it, in ASCII; else None."""
    if not line.isascii():
        return None
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("result", 0), dict | None):
        return None
    is_row = (
        isinstance(row.get("key"), str) and "version" in row and isinstance(row.get("seconds"), int | float)
    )
    return row if is_row else None


def run_trials(
    trials: Sequence[Trial],
    run_one: Callable[[Trial], Json],
    store: TrialStore,
    *,
    resume: bool = False,
    workers: int = 1,
    ray: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[TrialRow]:
    """Run every trial and return one row each, in the order of `trials`.

    run_one : a function of a module (worker processes import it); its result must fit in JSON
    resume : keep the rows on disk and run only what is missing     workers : processes; 1 runs in this one
    ray : address of a Ray that runs the trials in their place, as `on_ray.rows_on_ray` takes it; None: no Ray
    A trial that raises is tried once more when the others have run; then it is a row with its error. `workers` does not
    change rows.
    Raises InputError when workers < 1 or two trials are the same.
    """
    if workers < 1:
        raise InputError(f"The number of workers must be 1 or more. Got {workers} instead.")
    keys = [trial.key for trial in trials]
    if len(set(keys)) < len(keys):
        raise InputError(
            f"Trials must differ in name, parameters or seed. Got {len(keys) - len(set(keys))} repeats."
        )
    if ray is not None:
        from cryoscout.study.engine.on_ray import check_ready

        check_ready(ray)
    rows = {row.trial.key: row for row in finished_rows(trials, store)} if resume else {}
    open_trials = [trial for trial in trials if trial.key not in rows]
    say = progress or (lambda message: None)
    if rows:
        say(f"{len(rows)} of {len(trials)} trials were on disk already")
    if resume and (unread := store.unreadable()):
        say(f"{unread} lines of {store.path} are no rows of trials; what they may have held is run again")
    began = time.monotonic()
    failed: list[Trial] = []
    with _kept_in(store, resume) as keep:
        for count, row in enumerate(_run(open_trials, run_one, workers, ray), start=1):
            keep(row)
            rows[row.trial.key] = row
            if row.error is not None:
                failed.append(row.trial)
            left_s = (time.monotonic() - began) / count * (len(open_trials) - count)
            outcome = f"{row.seconds:.1f} s" if row.error is None else f"FAILED: {row.error}"
            say(f"[{len(rows)}/{len(trials)}] {row.trial.name}: {outcome}; {in_words(left_s)} left")
        for row in _run(failed, run_one, workers, ray):
            keep(row)
            rows[row.trial.key] = row
            outcome = f"{row.seconds:.1f} s" if row.error is None else f"FAILED again: {row.error}"
            say(f"once more: {row.trial.name}: {outcome}")
    return [rows[key] for key in keys]


@contextmanager
def _kept_in(store: TrialStore, resume: bool) -> Iterator[Callable[[TrialRow], None]]:
    """Puts rows into the store, in the place of those of an earlier run where it is not resumed.

    The earlier ones go when there is a result to take their place: what runs the trials may not answer, or fail in all
    of them. Who stops a run before that asked for a new one all the same, and `--resume` must go on with no other.
    """
    earlier = not resume
    failed: list[TrialRow] = []

    def keep(row: TrialRow) -> None:
        nonlocal earlier
        if earlier and row.error is not None:
            failed.append(row)
            return
        if earlier:
            store.clear()
            earlier = False
            for each in failed:
                store.append(each)
        store.append(row)

    try:
        yield keep
    except KeyboardInterrupt:
        if earlier:
            store.clear()
        raise


def finished_rows(trials: Sequence[Trial], store: TrialStore) -> list[TrialRow]:
    """A row for each trial that is on disk with a result, in the order of `trials`; nothing is run."""
    done = store.finished()
    found = [(trial, done[trial.key]) for trial in trials if trial.key in done]
    return [
        TrialRow(trial, row["seconds"], row["result"], None, row.get("machine", "")) for trial, row in found
    ]


def rows_text(trials: Sequence[Trial], store: TrialStore) -> str:
    """The rows on disk of those trials that ended with a result, as a file of rows that a store takes."""
    done = store.finished()
    return "".join(json.dumps(done[trial.key]) + "\n" for trial in trials if trial.key in done)


def _run(
    trials: Sequence[Trial], run_one: Callable[[Trial], Json], workers: int, ray: str | None
) -> Iterator[TrialRow]:
    """Rows in the order they finish. What interrupts it ends the workers at once; what they had finished is lost to
    nobody, because each row was given out when it was there."""
    if ray is not None:
        from cryoscout.study.engine.on_ray import rows_on_ray

        yield from rows_on_ray(trials, run_one, ray, workers)
        return
    if workers == 1:
        # In this very thread, so that an interruption reaches the trial.
        yield from (_row(trial, partial(timed, run_one, trial)) for trial in trials)
        return
    if not trials:
        return
    executor = ProcessPoolExecutor(
        min(workers, len(trials)), mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    before = set(active_children())
    try:
        futures: dict[Future[tuple[float, Json]], Trial] = {
            executor.submit(timed, run_one, trial): trial for trial in trials
        }
        for future in as_completed(futures):
            yield _row(futures[future], future.result)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in set(active_children()) - before:
            worker.terminate()
        raise
    executor.shutdown()


def _end_with_parent() -> None:
    """Let this worker end when the process that started it is gone, even killed: no trial computes for nobody."""
    parent = parent_process()
    if parent is not None:
        Thread(target=_wait_for_end, args=(parent.sentinel,), daemon=True).start()


def _wait_for_end(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # a trial in compiled code hears no exception


def _row(trial: Trial, result_of: Callable[[], tuple[float, Json]]) -> TrialRow:
    try:
        with interruptions_as_such():
            seconds, result = result_of()
    except Exception as error:  # noqa: BLE001  whatever a trial does, the others still run
        return TrialRow(trial, 0.0, None, f"{type(error).__name__}: {error}")
    return TrialRow(trial, seconds, result, None)


def timed(run_one: Callable[[Trial], Json], trial: Trial) -> tuple[float, Json]:
    """(seconds, result) of one trial."""
    began = time.monotonic()
    # Through JSON and back, so that a row from disk and a row from this run are the same objects.
    result: Json = json.loads(json.dumps(run_one(trial)))
    return time.monotonic() - began, result


def in_words(seconds: float) -> str:
    """A duration as people say it: `about 40 s`, `about 12 min`, `about 2.1 h`."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def machine_in_words(packages: Sequence[str] = ()) -> str:
    """CPU model, cores, and the versions that figures depend on.

    packages : sub-packages of cryoscout behind the figures; those of `learning` and `perception` depend on torch too
    """
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    trains = {"learning", "perception"} & set(packages)
    libraries = ["numpy", "numba", *(["torch"] if trains and find_spec("torch") else [])]
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    python = platform.python_version()
    return f"{model}, {os.cpu_count()} cores, Python {python}, {versions}, cryoscout {__version__}"
