"""The best fixed plan: exhaustive search judges what it promises, the replay what it keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.policies import make_policy
from cryoscout.routing.policies.base import Observation
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import ReplayResult, Truth, replay
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.testing import exhaustive_best, random_problem
from examples import share

EXACT = {
    "cryorl": PRESETS["cryorl"],
    "overheads": PRESETS["cryorl"].model_copy(
        update={"setup_min": 7.0, "per_square_overhead_min": 3.0, "extra_shot_min": 0.5}
    ),
    "tenths": TimeModel(
        name="tenths", same_patch_min=1.1, new_patch_min=1.1, new_square_min=2.2, new_grid_min=4.4
    ),
}
FITTED = TimeModel(
    name="fitted", same_patch_min=1.517, new_patch_min=3.083, new_square_min=3.1, new_grid_min=3.233
)


def replayed_in_expectation(problem: RoutingProblem, start_hole: int) -> ReplayResult:
    """What a fixed route collects on average: replay it on a truth that is its own expectation."""
    truth = Truth(problem.expected_good(), np.ones(problem.n_holes, dtype=bool))
    return replay(problem, truth, make_policy("expected"), [start_hole], seed=0)[0]


def small_problem(
    rng: np.random.Generator, model: TimeModel, crossing: Crossing, shots: int
) -> RoutingProblem:
    n_holes = int(rng.integers(1, 8))
    visits_min = rng.choice(model.tiers_min(shots), size=rng.integers(1, n_holes + 1)).sum()
    return random_problem(
        rng,
        n_holes,
        budget_min=round(model.setup_min + float(visits_min), 1),  # one that a route can just fill
        time_model=model,
        shots=shots,
        crossing=crossing,
        share_imaged=float(rng.choice([0.0, 0.3])),
        share_allowed=float(rng.choice([1.0, 0.7])),
    )


@settings(max_examples=share(300))
@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from(sorted(EXACT)),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 3),
)
def test_no_route_collects_more_in_expectation(seed: int, model: str, crossing: Crossing, shots: int) -> None:
    rng = np.random.default_rng(seed)
    problem = small_problem(rng, EXACT[model], crossing, shots)
    start = int(rng.integers(NOWHERE, problem.n_holes))
    best = exhaustive_best(problem, problem.expected_good(), start)
    assert replayed_in_expectation(problem, start).good_found == pytest.approx(best, abs=1e-12)


@settings(max_examples=share(150))
@given(seed=st.integers(0, 2**32 - 1), crossing=st.sampled_from(["count", "drop"]))
def test_with_fitted_minutes_the_route_keeps_what_the_plan_promised(seed: int, crossing: Crossing) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng,
        int(rng.integers(1, 8)),
        budget_min=float(rng.uniform(1, 20)),
        time_model=FITTED,
        crossing=crossing,
    )
    start = int(rng.integers(NOWHERE, problem.n_holes))
    free = problem.available()
    if start != NOWHERE:
        free[start] = False
    promised = (
        TreeKnapsack(problem).solve(problem.prior_p_good, free, start, problem.budget_min, plan=False).value
    )
    kept = replayed_in_expectation(problem, start)
    best = exhaustive_best(problem, problem.prior_p_good, start)
    assert promised - 1e-12 <= kept.good_found <= best + 1e-12
    if crossing == "drop":
        assert np.all(kept.minutes <= problem.budget_min)


@given(seed=st.integers(0, 2**32 - 1), shots=st.integers(1, 2))
def test_a_large_plan_dropped_at_the_budget_is_kept_to_the_last_hole(seed: int, shots: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng,
        int(rng.integers(30, 150)),
        shots=shots,
        share_imaged=0.2,
        budget_min=float(rng.integers(20, 400)),
    )
    start = int(rng.integers(NOWHERE, problem.n_holes))
    free = problem.available()
    if start != NOWHERE:
        free[start] = False
    values = problem.expected_good()
    promised = TreeKnapsack(problem).solve(values, free, start, problem.budget_min, plan=True)
    kept = replayed_in_expectation(problem, start)
    assert kept.good_found == pytest.approx(promised.value, abs=1e-9)
    assert kept.visited == promised.counts.sum()


def test_the_average_over_drawn_truths_is_what_it_promised() -> None:
    rng = np.random.default_rng(11)
    problem = random_problem(rng, 60, budget_min=120.0, shots=2)
    promised = replayed_in_expectation(problem, NOWHERE)
    draws = rng.binomial(2, problem.prior_p_good, size=(400, 60)).astype(np.float64)
    truths = [Truth(good, np.ones(60, dtype=bool)) for good in draws]
    found = [
        replay(problem, truth, make_policy("expected"), [NOWHERE], seed=0)[0].good_found for truth in truths
    ]
    chosen = problem.prior_p_good[promised.route]
    standard_error = np.sqrt((2 * chosen * (1 - chosen)).sum() / len(truths))
    assert abs(np.mean(found) - promised.good_found) < 4 * standard_error


def test_outcomes_do_not_change_the_route() -> None:
    problem = random_problem(np.random.default_rng(2), 40, budget_min=150.0)
    everywhere = np.ones(40, dtype=bool)
    routes = [
        replay(problem, Truth(np.full(40, good), everywhere), make_policy("expected"), [3], seed=0)[0].route
        for good in (0.0, 1.0)
    ]
    assert routes[0].tolist() == routes[1].tolist()
    assert len(routes[0]) > 5


def test_the_crossing_visit_is_the_best_hole_left() -> None:
    problem = RoutingProblem(
        tree=HoleTree(
            np.array([0, 0, 0, 1], dtype=np.int32),
            np.array([0, 1], dtype=np.int32),
            np.array([0, 1], dtype=np.int32),
        ),
        prior_p_good=np.array([0.5, 0.6, 0.4, 0.9]),
        budget_min=4.0,
        crossing="count",
    )
    assert replayed_in_expectation(problem, 2).route.tolist() == [1, 0, 3]  # 2 + 2 min, then another grid
    dropped = replace(problem, crossing="drop")
    assert replayed_in_expectation(dropped, 2).route.tolist() == [1, 0]


def test_a_hole_the_operator_imaged_meanwhile_is_passed_over() -> None:
    problem = replace(
        random_problem(np.random.default_rng(5), 20, budget_min=500.0), prior_p_good=np.full(20, 0.5)
    )
    policy = make_policy("expected")
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    visited, unknown = np.zeros(20, dtype=bool), np.full(20, np.nan)
    first = policy.next_hole(Observation(visited, NOWHERE, 0.0, unknown, 0))
    visited[first] = True
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    assert policy.next_hole(Observation(visited, NOWHERE, 0.0, unknown, 0)) not in (-1, first)


@pytest.mark.parametrize("policy", ["expected", "index"])
def test_known_outcomes_move_a_fixed_plan_to_the_patch_that_turned_out_well(policy: str) -> None:
    patch = np.repeat(np.arange(2, dtype=np.int32), 6)
    known = np.array([0, 1, 2, 6, 7, 8])
    imaged = np.isin(np.arange(12), known)
    outcome = np.full(12, np.nan)
    outcome[[0, 1, 2]], outcome[[6, 7, 8]] = 0.0, 1.0
    problem = RoutingProblem(
        tree=HoleTree(patch, np.zeros(2, dtype=np.int32), np.zeros(1, dtype=np.int32)),
        prior_p_good=np.where(patch == 0, 0.6, 0.5),
        budget_min=26.0,
        imaged=imaged,
        outcome=outcome,
    )
    planner = make_policy(policy)
    planner.reset(problem, NOWHERE, np.random.default_rng(0))
    first = planner.next_hole(Observation(imaged, NOWHERE, 0.0, outcome, 0))
    assert patch[first] == 1
