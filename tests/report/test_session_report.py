"""A session's report shows the plan where holes are left and replays where outcomes are."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoscout.core.errors import DataError, UnknownNameError
from cryoscout.report.page import report_html
from cryoscout.report.replays import CURVE_STEPS, ReportRequest, replay_for_report, routes_to_replay
from cryoscout.report.session_report import courses, overview_png, replayed_route, session_page
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.replay import ReplayResult
from cryoscout.session.model import Session
from cryoscout.session.named import load_session
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables
from hidden_outcomes import with_outcomes_hidden

REQUEST = ReportRequest(120.0, ("random", "greedy"), starts=4, command="cryoscout report sim.session")


@pytest.fixture(scope="module")
def simulated() -> Session:
    settings = simulation_named("small").model_copy(update={"holes": 120})
    return to_session(simulate_tables(settings, seed=3), "sim")


def without_times(session: Session) -> Session:
    return replace(session, exposures=session.exposures.assign(started_at=np.datetime64("NaT", "ns")))


@pytest.fixture(scope="module")
def half_imaged(simulated: Session) -> Session:
    exposures = simulated.exposures.copy()
    later = exposures.index >= 60
    exposures.loc[later, "outcome"] = "none"
    exposures.loc[later, "started_at"] = np.datetime64("NaT")
    exposures.loc[later, "ctf_max_res_angstrom"] = np.nan
    return replace(simulated, exposures=exposures)


def headings(page) -> list[str]:
    return [section.heading for section in page.sections]


@pytest.fixture(scope="module")
def imaged_page(simulated: Session):
    """The page of the imaged session, which several tests read."""
    return session_page(simulated, REQUEST, replay_for_report(simulated, REQUEST))


def test_an_imaged_session_shows_replays_and_no_plan(imaged_page):
    page = imaged_page
    assert headings(page)[0] == "What each policy finds in 120 minutes"
    assert "squares, patches looked at" not in page.sections[0].table.header  # looks are free
    assert "The plan for the holes that are left" not in headings(page)
    assert "A replayed route" in headings(page)


def test_a_session_with_holes_left_shows_the_plan_first(half_imaged):
    page = session_page(half_imaged, REQUEST, replay_for_report(half_imaged, REQUEST))
    assert headings(page)[:2] == [
        "The plan for the holes that are left",
        "What each policy finds in 120 minutes",
    ]
    assert ("Left out", "60 holes without an outcome") in page.facts


def test_minutes_set_aside_are_said_as_the_plan_says_them():
    from types import SimpleNamespace

    from cryoscout.report.session_report import _words_on_plan

    plan = SimpleNamespace(interval_80=(54.0, 63.0), set_aside_min=1.34)
    assert _words_on_plan("at h1", plan) == (
        "It starts at h1. With a probability of 80 % it gives 54 to 63. 1.3 minutes are set aside for pauses, as many "
        "as the session had."
    )


def test_a_new_session_shows_the_plan_alone(simulated):
    page = session_page(with_outcomes_hidden(simulated), REQUEST, None)
    assert headings(page) == ["The plan for the holes that are left"]
    assert page.lead.startswith("The plan of greedy@")
    said = r"It starts outside every grid\. With a probability of 80 % it gives \d+ to \d+\."
    assert re.fullmatch(said, page.sections[0].paragraphs[0])


def test_a_plan_in_a_loaded_grid_says_so(simulated):
    grid = simulated.grids["grid_id"].iloc[-1]
    page = session_page(with_outcomes_hidden(simulated), replace(REQUEST, loaded=grid), None)
    assert page.sections[0].paragraphs[0].startswith(f"It starts in grid {grid}, outside every square. With")


def test_a_replay_needs_outcomes(simulated):
    with pytest.raises(DataError, match="must have holes with an outcome"):
        replay_for_report(with_outcomes_hidden(simulated), REQUEST)


def test_an_unknown_prediction_is_refused_by_name(simulated):
    with pytest.raises(UnknownNameError):
        replay_for_report(simulated, replace(REQUEST, policies=("greedy@res51",)))


def test_the_same_request_gives_the_same_page(simulated, imaged_page):
    again = session_page(simulated, REQUEST, replay_for_report(simulated, REQUEST))
    assert report_html(again) == report_html(imaged_page)


def test_courses_end_at_the_counts_and_stay_below_the_bound(simulated):
    replays = replay_for_report(simulated, REQUEST)
    drawn = courses(REQUEST, replays)
    for curve, each in zip(drawn.found, replays.policies, strict=True):
        assert curve.middle[-1] == pytest.approx(each.good.mean())
        assert (np.diff(curve.middle) >= 0).all()
        assert drawn.bound.minutes.tolist() == curve.minutes.tolist()
        assert (curve.middle <= drawn.bound.middle + 1e-9).all()


def test_the_bound_is_drawn_as_it_is_at_each_moment(simulated):
    replays = replay_for_report(simulated, REQUEST)
    drawn = courses(REQUEST, replays).bound
    assert len(drawn.minutes) == CURVE_STEPS + 1
    problem, truth = replays.policies[-1].problem, replays.truth
    for moment, middle in list(zip(drawn.minutes.tolist(), drawn.middle.tolist(), strict=True))[1:-1:7]:
        until = replace(problem, crossing="drop").with_budget(moment)
        alone = [good_holes_bound(until, truth, start) for start in replays.starts.tolist()]
        assert middle == pytest.approx(np.mean(alone), abs=1e-9)
    whole = [good_holes_bound(problem, truth, start) for start in replays.starts.tolist()]
    assert drawn.middle[-1] == pytest.approx(np.mean(whole), abs=1e-9)


def test_the_page_compares_with_the_recorded_order(simulated, imaged_page):
    replays = replay_for_report(simulated, REQUEST)
    assert replays.policies[0].kind == "recorded"
    page = imaged_page
    assert "where the recorded order found" in page.lead
    assert "in the same 120 minutes (bound" in page.lead
    table = page.sections[0].table
    assert table.header[-1] == "more than as recorded"
    assert (table.rows[0][0], table.rows[0][-1]) == ("as recorded", "-")
    assert "by the session's own times" in page.sections[0].paragraphs[0]


def test_a_page_without_an_order_compares_with_random_and_says_what_that_is_worth(simulated):
    session = without_times(simulated)
    page = session_page(session, REQUEST, replay_for_report(session, REQUEST))
    assert page.lead.endswith("random pays for constant switching.")
    assert page.sections[0].table.header[-1] == "more than random@simulated"
    assert any("does not say in which order" in value for name, value in page.facts if name == "Note")


def test_a_budget_longer_than_the_session_is_said_in_words(simulated):
    request = replace(REQUEST, budget_min=5000.0, notes=("said before",))
    replays = replay_for_report(simulated, request)
    page = session_page(simulated, request, replays)
    assert "The session has only 120 measured holes" in page.lead
    assert ("Note", "said before") in page.facts


def test_the_drawn_route_is_the_one_nearest_to_the_mean(simulated):
    replays = replay_for_report(simulated, REQUEST)
    found = [np.ones(1), np.ones(6), np.ones(4)]
    results = tuple(ReplayResult(0, np.arange(len(good)), np.arange(len(good)), good, 0.0) for good in found)
    policies = (*replays.policies[:-1], replace(replays.policies[-1], results=results))
    policy, drawn = replayed_route(replace(replays, policies=policies))
    assert policy.label.startswith("greedy@")
    assert len(drawn.route) == 4


def test_every_step_is_reported(simulated):
    steps = []
    replay_for_report(simulated, REQUEST, lambda: steps.append(1))
    assert len(steps) == routes_to_replay(simulated, REQUEST) == REQUEST.starts * (len(REQUEST.policies) + 2)
    del steps[:]
    replay_for_report(without_times(simulated), REQUEST, lambda: steps.append(1))
    assert len(steps) == routes_to_replay(without_times(simulated), REQUEST)


def test_the_overview_is_a_picture_of_y1():
    session = load_session("y1")
    request = replace(REQUEST, starts=2)
    assert overview_png(session, request, replay_for_report(session, request)).startswith(b"\x89PNG")


def test_shares_are_of_micrographs_where_holes_have_several_shots(simulated):
    """Three shots in each hole, nearly all good: no share is above 100 %, and the plot is not empty."""
    shots = 3
    rows = [
        simulated.exposures.assign(
            exposure_id=simulated.exposures["exposure_id"] + f"#{shot}",
            shot=shot,
            outcome="measured",
            ctf_max_res_angstrom=3.0,
        )
        for shot in range(1, shots + 1)
    ]
    exposures = pd.concat(rows).sort_values(["hole_id", "shot"], ignore_index=True)
    three = replace(simulated, exposures=exposures, info=simulated.info.model_copy(update={"shots": shots}))
    page = session_page(three, REQUEST, replay_for_report(three, REQUEST))
    table = next(section.table for section in page.sections if section.table is not None)
    column = table.header.index("good among micrographs")
    shares = [row[column] for row in table.rows if row[column]]
    assert shares == ["100 %"] * len(shares)
    drawn = courses(REQUEST, replay_for_report(three, REQUEST))
    assert drawn.share
    assert max(curve.high.max() for curve in drawn.share) <= 1.0
