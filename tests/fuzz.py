"""`make fuzz`: the property-based tests of the readers, over and over with new examples, until the time is over.

    python tests/fuzz.py [TESTS ...]        by default all that read what others wrote

    FUZZ_SECONDS         all of it, start included                                        60
    FUZZ_CASES           go on after that until so many examples were tried               0
    FUZZ_MEMORY_MB       most memory that an example may take beside what the tests have  500
    FUZZ_HANG_SECONDS    longest time of one example, seconds of the processor            2
    FUZZ_WAIT_SECONDS    longest time of one example, waiting included                    60

The tests run in a process of their own that is watched from outside, because what hangs or eats memory often does so
where no Python runs (a regular expression, a parser). That process writes down each example before it tries it; one
that takes too long or too much is printed, with where it was, and ends the run with 1, as a test that fails does. This
file is both sides: the watcher, and a plugin of pytest.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
FOREIGN = ("formats", "perception/test_images.py", "core/test_array_file.py", "core/test_names.py")
"""Tests of what reads bytes of others: every reader, images, the REST client, the header of array files, names."""
UNTIL, NOTES, CASES = "CRYOSCOUT_FUZZ_UNTIL", "CRYOSCOUT_FUZZ_NOTES", "CRYOSCOUT_FUZZ_CASES"
LOOK_EVERY_S = 0.05
GRACE_S = 20.0
"""For the end of the tests after the last example."""
LONGEST_NOTE = 20_000
SETTINGS = "_hypothesis_internal_use_settings"


def say(text: str) -> None:
    """One line of the watcher's own."""
    sys.stderr.write(text + "\n")


def number(name: str, default: float) -> float:
    """A setting from the environment; leaves with 2 when it is no number above 0, or 0 where that is the default."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf") or value == 0.0 < default:
        say(f"{name} must be a number above 0. Got {text!r} instead.")
        sys.exit(2)
    return value


def watch(tests: list[str]) -> int:
    """Run the tests until the time is over; what the process leaves with."""
    started = time.time()
    seconds = number("FUZZ_SECONDS", 60)
    cases = number("FUZZ_CASES", 0)
    memory_mb = number("FUZZ_MEMORY_MB", 500)
    hang_s = number("FUZZ_HANG_SECONDS", 2)
    wait_s = number("FUZZ_WAIT_SECONDS", 60)
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "example"
        notes.touch()
        environment = os.environ | {
            "CRYOSCOUT_HYPOTHESIS_PROFILE": "fuzz",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
            UNTIL: repr(started + seconds),
            NOTES: str(notes),
            CASES: repr(cases),
        }
        command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-x", "-m", "hypothesis"]
        process = subprocess.Popen(
            [*command, "-p", "fuzz", "-p", "no:cacheprovider", *tests], env=environment
        )
        try:
            peak_mb = 0.0
            while process.poll() is None:
                problem = None
                begun = began(notes)
                if begun is not None:
                    took_mb = peak_of_mb(process.pid) - begun.peak_mb
                    peak_mb = max(peak_mb, took_mb)
                    took_s = processor_s(process.pid) - begun.processor_s
                    if took_mb > memory_mb:
                        problem = f"took {took_mb:.0f} MB of memory; at most {memory_mb:.0f} are allowed "
                        problem += "(FUZZ_MEMORY_MB)"
                    elif took_s > hang_s:
                        problem = f"took more than {hang_s:g} s (FUZZ_HANG_SECONDS)"
                    elif time.time() - begun.at > wait_s:
                        problem = f"took more than {wait_s:g} s with waiting (FUZZ_WAIT_SECONDS)"
                elif not cases and time.time() > started + seconds + GRACE_S:
                    problem = f"did not end {GRACE_S:g} s after its time"
                if problem is not None:
                    return stop(process, problem, notes)
                time.sleep(LOOK_EVERY_S)
        finally:
            process.kill()
            process.wait()
    took_s = time.time() - started
    say(f"fuzz: {took_s:.0f} s, examples took at most {peak_mb:.0f} MB, left with {process.returncode}")
    return 0 if process.returncode == 0 else 1


def stop(process: subprocess.Popen[bytes], problem: str, notes: Path) -> int:
    """End the tests, show where they were and what they tried; 1."""
    example = notes.read_text(encoding="utf-8", errors="replace").partition("\n")[2]
    process.send_signal(signal.SIGABRT)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
    say(f"fuzz: an example {problem}:\n{example or 'none had begun'}")
    return 1


class Begun(NamedTuple):
    """When the example that runs was begun."""

    at: float
    """s since 1970"""
    processor_s: float
    """Of the process, until then."""
    peak_mb: float
    """Most memory that the process had had until then."""


def began(notes: Path) -> Begun | None:
    """Of the example that runs; None where none does."""
    first, line_end, _ = notes.read_text(encoding="utf-8", errors="replace").partition("\n")
    return Begun(*map(float, first.split())) if line_end else None


def processor_s(process: int) -> float:
    """Seconds of the processor that a process has taken; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_of_mb(process: int) -> float:
    """Most memory that a process has had so far; what it has now where the system does not say; 0 unknown."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        try:
            found = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], capture_output=True, text=True)
        except OSError:
            return 0.0
        return int(found.stdout or 0) / 1024
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), "0")
    return int(peak) / 1024


# From here on: the plugin, in the process of the tests.

_running = {"test": "", "tried": 0}
_tried_of: Counter[str] = Counter()
"""Examples of each test, its parameters together."""


def pytest_collection_modifyitems(items) -> None:
    """Every example of every property is written down before it is tried."""
    for function in {id(item.obj): item.obj for item in items if hasattr(item.obj, "hypothesis")}.values():
        function.hypothesis.inner_test = _noted(function.hypothesis.inner_test)


def _noted(test):
    notes = os.open(os.environ[NOTES], os.O_WRONLY)

    @functools.wraps(test)
    def run(*arguments, **named):
        _running["tried"] += 1
        _tried_of[_running["test"].partition("[")[0]] += 1
        begun = Begun(time.time(), time.process_time(), peak_of_mb(os.getpid()))
        text = f"{' '.join(map(repr, begun))}\n{_running['test']}\n{named!r}"[:LONGEST_NOTE]
        os.ftruncate(notes, 0)
        os.pwrite(notes, text.encode(errors="backslashreplace"), 0)
        try:
            test(*arguments, **named)
        finally:
            os.ftruncate(notes, 0)

    return run


def pytest_runtestloop(session) -> bool | None:
    """The tests in rounds, file by file in another order each time, until the time is over.

    A test is not begun where it took longer the last time than there is left; the first time it is.
    """
    if session.config.option.collectonly or session.testsfailed:
        return None
    chance, until, cases = random.Random(), float(os.environ[UNTIL]), float(os.environ[CASES])
    files: dict[Path, list] = {}
    for item in session.items:
        files.setdefault(item.path, []).append(item)
    took_s: dict[str, float] = {}
    settings_of = {
        item.nodeid: getattr(item.obj, SETTINGS) for item in session.items if hasattr(item.obj, SETTINGS)
    }
    while files and (time.time() < until or _running["tried"] < cases):
        for item in (item for file in chance.sample(list(files), len(files)) for item in files[file]):
            begun = time.time()
            if _running["tried"] >= cases and begun + took_s.get(item.nodeid, 0.0) >= until:
                continue
            _running["test"] = item.nodeid
            if item.nodeid in settings_of:
                # Each run of a parametrized test wraps them once more, until a thousand are too deep for Python.
                setattr(item.obj, SETTINGS, settings_of[item.nodeid])
            # No next item: which one it will be is not known yet, so fixtures of modules are made anew for each test.
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            took_s[item.nodeid] = time.time() - begun
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
    return True


def pytest_terminal_summary(terminalreporter) -> None:
    """How much was tried, and of what."""
    for test, tried in sorted(_tried_of.items()):
        terminalreporter.write_line(f"{tried:7,} {test}")
    terminalreporter.write_line(f"{_running['tried']:,} examples tried")


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:] or [str(TESTS / name) for name in FOREIGN]))
