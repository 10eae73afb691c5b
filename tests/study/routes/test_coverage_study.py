"""The coverage study counts what it says it counts, on seeds that nothing was chosen on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.belief.counts import forecast_count
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.study.engine.catalogue import run_study
from cryoscout.study.engine.published import BUDGETS_MIN
from cryoscout.study.engine.runner import Trial
from cryoscout.study.routes import coverage
from cryoscout.study.routes.coverage import Forecast, coverage_of, forecasts, forecasts_of_session

NO_LOADINGS = np.empty((60, 0))


def tiny(p_good, budget_min=120.0):
    return RoutingProblem(
        tree=HoleTree(
            np.repeat(np.arange(6, dtype=np.int32), len(p_good) // 6),
            np.array([0, 0, 0, 1, 1, 1], dtype=np.int32),
            np.array([0, 0], dtype=np.int32),
        ),
        prior_p_good=p_good,
        budget_min=budget_min,
    )


def made(found, interval_50=(4.0, 6.0), interval_80=(3.0, 7.0)):
    return Forecast(120, 5.0, interval_50, interval_80, found)


def test_an_interval_holds_its_own_ends_and_nothing_beyond():
    assert [made(found).holds(80) for found in (2.0, 3.0, 5.0, 7.0, 8.0)] == [False, True, True, True, False]
    assert [made(found).holds(50) for found in (3.0, 4.0, 6.0, 7.0)] == [False, True, True, False]


def test_coverage_is_the_share_of_held_forecasts_with_an_interval_around_it():
    cell = coverage_of([made(found) for found in (2.0, 3.0, 4.0, 9.0)])
    share, low, high = cell.share(80)
    assert (cell.held_80, cell.held_50, cell.width_80) == (2, 1, 4.0)
    assert low < share == 0.5 < high
    assert cell.bias == pytest.approx(np.mean([2.0, 3.0, 4.0, 9.0]) - 5.0)
    assert cell.bias_low <= cell.bias <= cell.bias_high


def test_the_fixed_plan_s_forecast_is_about_the_plan_that_a_replay_follows():
    rng = np.random.default_rng(0)
    p_good = rng.random(60)
    truth = Truth((rng.random(60) < p_good).astype(float), np.ones(60, dtype=bool))
    fixed, _ = forecasts(lambda budget: tiny(p_good, budget), truth, 7, NO_LOADINGS, np.random.default_rng(1))
    problem = tiny(p_good, float(BUDGETS_MIN[0]))
    result = replay(problem, truth, make_policy("expected"), [7], seed=0)[0]
    route = plan_route(problem, make_policy("expected"), 7, seed=0).route
    assert result.route.tolist() == route.tolist()
    stated = forecast_count(problem.belief(), route, 1, np.random.default_rng(1))
    assert fixed[0] == Forecast(
        BUDGETS_MIN[0], stated.expected, stated.interval_50, stated.interval_80, result.good_found
    )
    assert [each.budget_min for each in fixed] == list(BUDGETS_MIN)


def test_adaptive_is_judged_by_what_it_found_with_results_and_not_by_its_first_plan():
    # The two best patches turn out bad, which only results can tell.
    p_good = np.repeat([0.8, 0.75, 0.7, 0.5, 0.4, 0.3], 30)
    good = np.repeat([0.0, 0.0, 1.0, 1.0, 0.0, 0.0], 30)
    truth = Truth(good, np.ones(180, dtype=bool))
    _, adaptive = forecasts(
        lambda budget: tiny(p_good, budget), truth, 0, np.empty((180, 0)), np.random.default_rng(0)
    )
    problem = tiny(p_good, float(BUDGETS_MIN[0]))
    first_plan = plan_route(problem, make_policy("adaptive"), 0, seed=0).route
    followed = replay(problem, truth, make_policy("adaptive"), [0], seed=0)[0]
    assert adaptive[0].found == followed.good_found != truth.good[first_plan].sum()
    assert adaptive[0].expected == pytest.approx(problem.prior_p_good[first_plan].sum(), rel=1e-6)


def test_a_session_is_the_same_every_time_and_its_model_comes_from_another_one(monkeypatch):
    seeds = []
    simulate = coverage.simulate_tables

    def noted(settings, seed):
        seeds.append(seed)
        return simulate(settings, seed)

    monkeypatch.setattr(coverage, "simulate_tables", noted)
    monkeypatch.setattr(coverage, "BUDGETS_MIN", BUDGETS_MIN[:1])
    first = forecasts_of_session(3, 0, "small")
    assert first == forecasts_of_session(3, 0, "small")
    assert first != forecasts_of_session(4, 0, "small")
    assert seeds[:2] == [coverage.FIRST_TRAINING_SEED + 3, coverage.FIRST_SESSION_SEED + 3]


def made_up(trial: Trial):
    parameters = trial.parameters
    count = parameters["starts"] if parameters["data"] == "y1" else parameters["last"] - parameters["first"]
    rows = [[b, b / 3, b / 3 - 1, b / 3 + 1, b / 3 - 2, b / 3 + 2, b / 3] for b in BUDGETS_MIN] * count
    return {"expected": rows, "adaptive": [[*row[:-1], row[-1] + 5] for row in rows]}


def failing(trial: Trial):
    if trial.parameters["data"] == "simulated" and trial.parameters["first"] == 5:
        raise RuntimeError("broke")
    return made_up(trial)


def test_the_page_keeps_fixed_adaptive_and_y1_apart(tmp_path):
    run = run_study(replace(coverage.STUDY, run_one=made_up), "quick", tmp_path)
    rows = {(row["data"], row["policy"], row["budget_min"]): row for row in run.content["rows"]}
    assert len(rows) == 2 * 2 * len(BUDGETS_MIN)
    assert rows["simulated", "expected", 120]["share_held_80"] == 1.0
    assert rows["simulated", "expected", 120]["sessions_or_starts"] == 40
    assert rows["simulated", "adaptive", 120]["share_held_80"] == 0.0
    assert "share_held_80_interval" not in rows["y1", "expected", 120]
    assert "missing" not in run.markdown_file.read_text(encoding="utf-8")


def test_a_failed_block_of_sessions_leaves_no_share_of_the_rest(tmp_path):
    run = run_study(replace(coverage.STUDY, run_one=failing), "quick", tmp_path)
    missing = {(row["data"], row["missing"]) for row in run.content["rows"]}
    assert missing == {("simulated", True), ("y1", False)}
    assert "missing" in run.markdown_file.read_text(encoding="utf-8")
    assert len(coverage.STUDY.trials("paper")) == 200 / coverage.SESSIONS_PER_TRIAL + 1


@pytest.mark.slow
def test_y1_is_planned_from_as_many_starts_as_asked():
    rows = coverage.run_trial(Trial("Y1", {"data": "y1", "starts": 2}, 0))
    assert {name: len(lists) for name, lists in rows.items()} == {"expected": 8, "adaptive": 8}
