"""`log`: the audit trail for people and as JSON, and the state as of a past moment."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from cryoscout.cli.main import build_app
from cryoscout.session.store import SessionStore
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables


@pytest.fixture
def stored(tmp_path):
    settings = simulation_named("small").model_copy(update={"holes": 60})
    session = to_session(simulate_tables(settings, seed=1), "trail")
    from dataclasses import replace

    folder = tmp_path / "trail.session"
    at = datetime(2026, 1, 1, 20, 0, tzinfo=UTC)
    with SessionStore.create(folder) as store:
        store.save_import(replace(session, exposures=session.exposures.iloc[:0]), source="tests", at=at)
        store.append("overridden", {"kind": "ban", "hole_id": "h01", "author": "A\nB"}, at.replace(hour=21))
        store.append("noted", {"text": "refilled", "kind": "nitrogen", "author": "CD"}, at.replace(hour=22))
    return folder


def run(*arguments):
    return CliRunner().invoke(build_app("log"), ["log", *map(str, arguments)])


def test_the_trail_says_what_was_done_and_by_whom_a_line_each(stored):
    lines = run(stored).stdout.splitlines()
    assert [line.split()[3] for line in lines[-2:]] == ["overridden", "noted"]
    assert lines[-2].endswith("ban hole_id h01  [A B]"), "an author cannot begin a line of its own"
    assert lines[-1].endswith("nitrogen: refilled  [CD]")
    assert len(run(stored, "--kind", "noted").stdout.splitlines()) == 1


def test_the_state_as_of_a_moment_is_that_of_then(stored):
    def at(hour):
        return json.loads(run(stored, "--at", f"2026-01-01T{hour}:30+00:00", "--json").stdout)

    assert at(20)["overrides"]["holes"] == {}
    assert at(21)["overrides"]["holes"] == {"h01": "ban"}
    assert at(21)["event"] < at(22)["event"]
    assert "as of" in run(stored, "--at", "2026-01-01T21:30+00:00").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "yesterday"], "--at"),
        (["--at", "1999-01-01"], "first event"),
        (["--kind", "x"], "kind of an event"),
    ],
)
def test_bad_arguments_are_told(stored, arguments, message):
    done = run(stored, *arguments)
    assert message in str(done.exception)
