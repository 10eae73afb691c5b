"""One advice: the report says what the plan says, from the belief that the policy planned on, also half-way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.advice.advise import advise
from cryoscout.advice.setting import AdviceRequest, setting_of
from cryoscout.belief.counts import forecast_count
from cryoscout.core.errors import DataError
from cryoscout.report.replays import ReportRequest
from cryoscout.report.session_report import session_page
from cryoscout.routing.course import Course
from cryoscout.routing.policies import make_policy
from cryoscout.session.model import Session
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables


@pytest.fixture(scope="module")
def half_imaged() -> Session:
    """A session whose first half was imaged, and gave less than predicted."""
    settings = simulation_named("small").model_copy(update={"holes": 160})
    simulated = to_session(simulate_tables(settings, seed=5), "half")
    exposures = simulated.exposures.copy()
    later = exposures.index >= 80
    exposures.loc[later, "outcome"] = "none"
    exposures.loc[later, "started_at"] = np.datetime64("NaT")
    exposures.loc[later, "ctf_max_res_angstrom"] = np.nan
    exposures.loc[exposures.index[:70], ["outcome", "ctf_max_res_angstrom"]] = ["measured", 30.0]
    return replace(simulated, exposures=exposures)


def test_report_and_plan_say_the_same_number_of_good_micrographs(half_imaged):
    advice = advise(half_imaged, AdviceRequest(200.0, "adaptive"))
    page = session_page(half_imaged, ReportRequest(200.0, ("adaptive",), starts=2), None)
    assert page.lead == (
        f"The plan of {advice.setting.label}: {len(advice.work_list.visits)} holes in "
        f"{advice.work_list.minutes_used:.0f} of 200 minutes, of which about "
        f"{advice.work_list.expected_good:.0f} micrographs should be good."
    )
    prior = advice.problem.prior_p_good[advice.planned.course.route].sum()
    assert advice.work_list.expected_good < 0.9 * prior, "the results so far must count"


def test_the_forecast_is_of_the_belief_that_the_policy_planned_on(half_imaged):
    request = AdviceRequest(200.0, "adaptive-trust")
    advice = advise(half_imaged, request)
    mixture = advice.problem.mixture_belief()
    route = advice.planned.course.route
    stated = forecast_count(
        mixture, route, 1, np.random.default_rng([0, 1]), loadings=advice.problem.fit_loadings
    )
    assert advice.planned.forecast == stated
    other = float(advice.problem.belief().p_good()[route].sum())
    assert abs(advice.work_list.expected_good - other) > 0.5


def test_an_advice_half_way_goes_on_from_there(half_imaged):
    request = AdviceRequest(120.0)
    first = advise(half_imaged, request)
    course = Course(setting_of(half_imaged, request).problem, first.planned.course.start_hole)
    done = first.planned.course.route[:5].tolist()
    for hole in done:
        course.visit(hole)
        course.take_result(hole, 0.0)
    second = advise(half_imaged, request, course)
    assert second.problem.budget_min == pytest.approx(120.0 - course.minutes_used)
    assert second.planned.course.start_hole == done[-1]
    assert not set(done) & set(second.planned.course.route.tolist())
    policy = make_policy("adaptive")
    policy.reset(second.problem, done[-1], np.random.default_rng(0))
    assert second.planned.course.route[0] == Course(second.problem, done[-1]).ask(policy)
    assert second.planned.p_good[first.planned.course.route[5]] < first.planned.p_good[done[0]]


def test_a_session_that_is_all_imaged_has_nothing_to_plan():
    settings = simulation_named("small").model_copy(update={"holes": 40})
    imaged = to_session(simulate_tables(settings, seed=1), "done")
    with pytest.raises(DataError, match="must have a hole that is not imaged yet"):
        advise(imaged, AdviceRequest(60.0))
