"""The bound is what exhaustive search finds with the truth in hand, and no route gets past it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.bound import good_holes_bound, good_holes_bound_course, pseudo_reward_bound
from cryoscout.routing.places import Places
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import PseudoRewards, Truth
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.testing import exhaustive_best, random_problem
from examples import share

OVERHEADS = PRESETS["cryorl"].model_copy(
    update={"setup_min": 6.0, "per_square_overhead_min": 2.5, "extra_shot_min": 0.5}
)
FITTED = TimeModel(
    name="fitted", same_patch_min=1.517, new_patch_min=3.083, new_square_min=3.1, new_grid_min=3.233
)


def random_truth(rng: np.random.Generator, problem: RoutingProblem) -> Truth:
    """Good micrographs of every measured hole; one in five has no result."""
    measured = rng.random(problem.n_holes) < 0.8
    good = rng.integers(0, problem.shots + 1, problem.n_holes).astype(np.float64)
    return Truth(np.where(measured, good, 0.0), measured)


def exhaustive_bound(problem: RoutingProblem, truth: Truth, start_hole: int) -> float:
    return exhaustive_best(
        replace(problem, allowed=problem.available() & truth.measured), truth.good, start_hole
    )


@settings(max_examples=share(100))
@given(seed=st.integers(0, 2**32 - 1), crossing=st.sampled_from(["count", "drop"]))
def test_that_of_pseudo_rewards_is_what_exhaustive_search_finds(seed: int, crossing: Crossing) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, int(rng.integers(1, 8)), crossing=crossing, shots=2, share_allowed=0.9)
    labels = np.where(rng.random(problem.n_holes) < 0.3, rng.integers(0, 3, problem.n_holes), np.nan)
    rewards = PseudoRewards.of(labels, problem.prior_p_good, problem.shots)
    start = int(rng.integers(NOWHERE, problem.n_holes))
    expected = exhaustive_best(problem, rewards.reward, start)
    assert pseudo_reward_bound(problem, rewards, start) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=share(300))
@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from([PRESETS["cryorl"], PRESETS["cryorl-printed"], OVERHEADS]),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 3),
)
def test_it_is_what_exhaustive_search_finds(
    seed: int, model: TimeModel, crossing: Crossing, shots: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng,
        int(rng.integers(1, 8)),
        time_model=model,
        crossing=crossing,
        shots=shots,
        share_imaged=0.15,
        share_allowed=0.9,
    )
    truth = random_truth(rng, problem)
    start = int(rng.integers(NOWHERE, problem.n_holes))
    assert good_holes_bound(problem, truth, start) == exhaustive_bound(problem, truth, start)


@settings(max_examples=share(200))
@given(seed=st.integers(0, 2**32 - 1), crossing=st.sampled_from(["count", "drop"]))
def test_with_fitted_minutes_no_route_exceeds_it_and_a_tenth_of_a_minute_per_visit_reaches_it(
    seed: int, crossing: Crossing
) -> None:
    rng = np.random.default_rng(seed)
    n_holes = int(rng.integers(1, 8))
    budget_min = float(rng.uniform(1, 3.2 * n_holes))
    problem = random_problem(rng, n_holes, time_model=FITTED, crossing=crossing, budget_min=budget_min)
    truth = random_truth(rng, problem)
    start = int(rng.integers(NOWHERE, n_holes))
    bound = good_holes_bound(problem, truth, start)
    assert exhaustive_bound(problem, truth, start) <= bound
    roomier = problem.with_budget(budget_min + 0.1 * n_holes)
    assert bound <= exhaustive_bound(roomier, truth, start)


@settings(max_examples=share(200))
@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from([PRESETS["cryorl"], PRESETS["cryorl-code"], OVERHEADS, FITTED]),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 2),
    charged=st.booleans(),
)
def test_its_course_is_the_bound_of_each_moment_alone(
    seed: int, model: TimeModel, crossing: Crossing, shots: int, charged: bool
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng, int(rng.integers(1, 20)), time_model=model, crossing=crossing, shots=shots, share_imaged=0.15
    )
    truth = random_truth(rng, problem)
    start = int(rng.integers(NOWHERE, problem.n_holes))
    budget_min = problem.budget_min
    moments = np.append(np.round(np.sort(rng.uniform(0.1, budget_min, 12)), 1), [0.0, budget_min])
    moments = moments[moments <= budget_min]
    dropping = replace(problem, crossing="drop")
    squares = rng.random(problem.tree.n_squares) < 0.5
    patches = squares[problem.tree.square_of_patch] & (rng.random(problem.tree.n_patches) < 0.5)
    unseen = Places.looked_at(squares, patches) if charged else None
    alone = [
        0.0 if moment == 0.0 else good_holes_bound(dropping.with_budget(moment), truth, start, unseen)
        for moment in moments[:-1].tolist()
    ]
    alone.append(good_holes_bound(problem, truth, start, unseen))
    assert good_holes_bound_course(problem, truth, start, moments, unseen).tolist() == alone


def two_patches(budget_min: float, crossing: Crossing = "drop") -> RoutingProblem:
    """Holes 0..3 in patch 0, hole 4 in patch 1 of another square."""
    return RoutingProblem(
        tree=HoleTree(
            np.array([0, 0, 0, 0, 1], dtype=np.int32),
            np.array([0, 1], dtype=np.int32),
            np.array([0, 0], dtype=np.int32),
        ),
        prior_p_good=np.zeros(5),
        budget_min=budget_min,
        crossing=crossing,
    )


@pytest.mark.parametrize(
    ("budget_min", "crossing", "start", "bound"),
    [
        (4.0, "drop", 0, 2),
        (4.0, "count", 0, 3),  # two within the budget and the one that crosses it
        (1.0, "drop", 0, 0),
        (1.0, "count", 0, 1),
        (14.0, "drop", 0, 3),  # 2 + 2 + 10
        (14.0, "count", 0, 3),  # all three good ones that are left
        (20.0, "drop", NOWHERE, 1),
        (20.0, "count", NOWHERE, 2),
    ],
)
def test_hand_worked_cases(budget_min: float, crossing: Crossing, start: int, bound: float) -> None:
    truth = Truth(np.array([1.0, 1, 1, 0, 1]), np.ones(5, dtype=bool))
    assert good_holes_bound(two_patches(budget_min, crossing), truth, start) == bound


def test_the_start_hole_and_holes_without_a_result_are_not_counted() -> None:
    problem = two_patches(1000.0)
    good = np.ones(5)
    assert good_holes_bound(problem, Truth(good, np.ones(5, dtype=bool)), NOWHERE) == 5
    assert good_holes_bound(problem, Truth(good, np.ones(5, dtype=bool)), 2) == 4
    assert good_holes_bound(problem, Truth(good, np.array([1, 0, 0, 1, 1], dtype=bool)), 2) == 3


def test_it_depends_on_the_truth_and_not_on_what_is_predicted() -> None:
    truth = Truth(np.array([1.0, 1, 1, 0, 1]), np.ones(5, dtype=bool))
    hopeless = two_patches(14.0)
    hopeful = replace(hopeless, prior_p_good=np.ones(5))
    assert good_holes_bound(hopeless, truth, 0) == good_holes_bound(hopeful, truth, 0) == 3


def test_set_up_that_takes_the_whole_budget_leaves_nothing() -> None:
    problem = replace(two_patches(5.0, "count"), time_model=OVERHEADS)
    assert good_holes_bound(problem, Truth(np.ones(5), np.ones(5, dtype=bool)), 0) == 0
