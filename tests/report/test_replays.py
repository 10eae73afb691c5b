"""Replays of a report whose looks are charged: what is hidden, what is paid, and that they are those of `replay`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.advice.compare import ReplayRequest, replay_session
from cryoscout.advice.recorded import AS_RECORDED
from cryoscout.report.replays import ReportRequest, SessionReplays, replay_for_report, routes_to_replay
from cryoscout.report.session_report import session_page
from cryoscout.session.model import Session
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables

BUDGET_MIN = 45.0
FREE = ReportRequest(BUDGET_MIN, ("adaptive", "explore"), starts=2, time_model="y1-looks-as-sketched")
CHARGED = replace(FREE, looks="charged")


@pytest.fixture(scope="module")
def simulated() -> Session:
    settings = simulation_named("small").model_copy(update={"holes": 100})
    return to_session(simulate_tables(settings, seed=3), "sim")


@pytest.fixture(scope="module")
def charged(simulated) -> SessionReplays:
    return replay_for_report(simulated, CHARGED)


def test_looks_that_are_charged_cost_what_everything_seen_has_for_nothing(simulated, charged):
    free = replay_for_report(simulated, FREE)
    assert charged.starts.tolist() == free.starts.tolist()
    explore, seen = charged.policies[-1], free.policies[-1]
    assert explore.good.mean() < seen.good.mean()
    assert explore.patches_looked_mean > 0
    assert seen.patches_looked_mean == seen.squares_looked_mean == 0
    assert np.all(charged.bound[:, -1] < free.bound[:, -1])
    for each in charged.policies:
        assert np.all(each.good <= charged.bound[:, -1])
    assert np.all(np.diff(charged.bound, axis=1) >= 0)


def test_a_policy_that_does_not_look_has_the_start_patch_alone(simulated, charged):
    adaptive = next(each for each in charged.policies if each.label.startswith("adaptive"))
    tree = adaptive.problem.tree
    for result in adaptive.results:
        assert set(tree.patch_of_hole[result.route]) == {tree.patch_of_hole[result.start_hole]}


def test_a_report_has_the_figures_of_replay(simulated, charged):
    outcome = replay_session(
        simulated,
        ReplayRequest(
            (BUDGET_MIN,), CHARGED.policies, starts=2, time_model=CHARGED.time_model, looks="charged"
        ),
    )
    assert outcome.bound_mean[0] == pytest.approx(charged.bound[:, -1].mean())
    rows = list(outcome.rows.values())
    assert [row.good_mean[0] for row in rows] == [each.good.mean() for each in charged.policies]
    assert [row.patches_looked_mean[0] for row in rows] == [
        each.patches_looked_mean for each in charged.policies
    ]
    assert next(iter(outcome.rows)) == charged.policies[0].label == AS_RECORDED
    assert charged.policies[0].patches_looked_mean > 0


def test_the_page_says_what_was_looked_at_and_what_a_look_takes(simulated, charged):
    page = session_page(simulated, CHARGED, charged)
    table = page.sections[0].table
    assert table is not None
    column = table.header.index("squares, patches looked at")
    last = charged.policies[-1]
    assert table.rows[-2][column] == f"{last.squares_looked_mean:.0f}, {last.patches_looked_mean:.0f}"
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert "Looks are charged" in page.sections[0].note
    assert "look at a square 3.3, look at a patch 1.4" in dict(page.facts)["Time model"]


def test_minutes_that_have_no_looks_are_said(simulated):
    request = replace(CHARGED, time_model="cryorl", policies=("look-greedy",), starts=1)
    steps = []
    replays = replay_for_report(simulated, request, lambda: steps.append(1))
    assert any(
        "Looks take no minutes of their own in the time model cryorl" in note for note in replays.notes
    )
    assert len(steps) == routes_to_replay(simulated, request)
