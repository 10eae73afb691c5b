"""Progress: a bar with the time left on a terminal's stderr, of every step that may take long; nowhere else."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cryoscout.cli import output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[Terminal]:
    """stderr as a terminal; within the test, because pytest sets its own before each."""
    shown, before = Terminal(), sys.stderr
    sys.stderr = shown
    try:
        yield shown
    finally:
        sys.stderr = before


@pytest.fixture(autouse=True)
def a_kind_of_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def bars(monkeypatch):
    """What is done, with the steps that were asked for and those that were taken."""
    from rich.progress import Progress

    asked: dict[str, int] = {}
    taken: dict[str, float] = {}
    add, update = Progress.add_task, Progress.update

    def added(self, description, *args, total=None, **named):
        asked[description], taken[description] = total, 0
        return add(self, description, *args, total=total, **named)

    def updated(self, task, *args, completed=None, **named):
        taken[list(asked)[-1]] = completed
        return update(self, task, *args, completed=completed, **named)

    monkeypatch.setattr(Progress, "add_task", added)
    monkeypatch.setattr(Progress, "update", updated)
    return asked, taken


def test_a_long_step_shows_how_far_it_is_and_the_time_left(monkeypatch):
    monkeypatch.setattr(output, "SHOWN_AFTER_S", 0.0)
    with terminal() as shown, output.progress("planning", 4) as step:
        for _ in range(3):
            step()
            time.sleep(0.15)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
    assert "planning" in plain
    assert "2/4 0:00:00 so far, left 0:00:0" in plain


def test_a_step_that_is_told_in_shares_shows_the_time_left_before_it_is_done(monkeypatch):
    monkeypatch.setattr(output, "SHOWN_AFTER_S", 0.0)
    with terminal() as shown, output.progress("reading", 1) as step:
        for _ in range(3):
            step(0.25)
            time.sleep(0.15)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
    assert "0/1 0:00:00 so far, left 0:00:0" in plain


def test_shares_that_are_steps_together_are_whole_steps(bars):
    _, taken = bars
    with terminal(), output.progress("reading", 3) as step:
        for _ in range(30):
            step(0.1)
    assert taken["reading"] == 3


def test_a_short_step_shows_nothing():
    with terminal() as shown, output.progress("planning", 2) as step:
        step()
    assert "planning" not in shown.getvalue()


def test_nothing_is_shown_where_stderr_is_no_terminal(monkeypatch):
    monkeypatch.setattr(output, "SHOWN_AFTER_S", 0.0)
    monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    with terminal() as shown, output.progress("planning", 2) as step:
        time.sleep(0.2)
        step()
    assert shown.getvalue() == ""


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        pytest.param(
            "plan sim.session --budget-min 60 --as-new",
            ["reading the session", "planning"],
            marks=pytest.mark.slow,
        ),
        ("plan sim.session --budget-min 60 --as-new --json", ["reading the session", "planning"]),
        (
            "replay sim.session --budget-min 30 --policies greedy --starts 2",
            ["reading the session", "replaying"],
        ),
        ("log sim.session", ["reading events"]),
        ("validate sim.session", ["reading the session", "checking images", "checking events"]),
        pytest.param(
            "report sim.session --budget-min 30 --policies greedy --starts 2 -o r.html",
            ["reading the session", "replaying", "drawing routes and curves", "judging predictions"],
            marks=pytest.mark.slow,
        ),
        ("simulate --preset small --holes 50 -o other.session", ["simulating", "storing"]),
    ],
)
def test_each_command_says_how_far_it_is(cli, sim, bars, line, steps):
    asked, taken = bars
    with terminal():
        answer = cli(line)
    assert answer.code == 0, answer.err
    assert [each for each in steps if each not in asked] == []
    for each in ("reading the session", "storing", "reading events", "checking events"):
        if each in steps:
            assert taken[each] == asked[each] > 0, f"{each} comes to its end"
    if "--json" in line:
        json.loads(answer.out)
