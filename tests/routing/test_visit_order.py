"""The order of a set of patches: hierarchical, what is open first, best rate first, minutes as the tree says."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.visit_order import PatchSet, ordered_patches, planned_route
from cryoscout.testing import random_problem


def random_set(rng: np.random.Generator, problem: RoutingProblem, most: int = 100) -> PatchSet:
    holes = np.bincount(problem.patch_of_hole, minlength=len(problem.square_of_patch))
    filled = np.flatnonzero(holes)
    patches = np.sort(rng.choice(filled, size=rng.integers(1, min(len(filled), most) + 1), replace=False))
    counts = rng.integers(1, holes[patches] + 1)
    return PatchSet(patches, counts, rng.integers(0, 20, len(patches)) / 10.0)


def groups_in_order(labels: list[int]) -> list[int]:
    """Each label once, where a run of it begins."""
    return [label for place, label in enumerate(labels) if place == 0 or labels[place - 1] != label]


def minutes_of(problem: RoutingProblem, patches: list[int], counts: dict[int, int], here: int) -> float:
    """Drive the patches in this order, hole by hole."""
    tiers_min = problem.time_model.tiers_min(problem.shots)
    used = 0.0
    for patch in patches:
        hole = int(np.flatnonzero(problem.patch_of_hole == patch)[0])
        for _ in range(counts[patch]):
            used += tiers_min[problem.tier_between(here, hole)]
            here = hole
    return used


@given(seed=st.integers(0, 100_000), n_holes=st.integers(1, 60))
def test_patches_of_a_square_and_squares_of_a_grid_follow_each_other_and_what_is_open_comes_first(
    seed: int, n_holes: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes)
    chosen = random_set(rng, problem)
    here = int(rng.integers(NOWHERE, n_holes))
    order = ordered_patches(problem, chosen, here)
    assert sorted(order) == chosen.patches.tolist()
    squares = groups_in_order([int(problem.square_of_patch[patch]) for patch in order])
    grids = groups_in_order([int(problem.grid_of_patch[patch]) for patch in order])
    assert len(squares) == len(set(squares))
    assert len(grids) == len(set(grids))
    if here != NOWHERE:
        open_patch, open_square = int(problem.patch_of_hole[here]), int(problem.square_of_hole[here])
        open_grid = int(problem.grid_of_hole[here])
        assert open_patch not in order[1:]
        assert open_square not in squares[1:]
        assert open_grid not in grids[1:]


@given(seed=st.integers(0, 100_000), n_holes=st.integers(1, 20))
def test_no_other_order_of_the_same_patches_is_quicker(seed: int, n_holes: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes)
    chosen = random_set(rng, problem, most=5)
    counts = dict(zip(chosen.patches.tolist(), chosen.counts.tolist(), strict=True))
    here = int(rng.integers(NOWHERE, n_holes))
    quickest = min(minutes_of(problem, list(order), counts, here) for order in permutations(counts))
    assert minutes_of(problem, ordered_patches(problem, chosen, here), counts, here) == quickest


def five_patches() -> RoutingProblem:
    """Grid 0: square 0 with patches 0 and 1, square 1 with patch 2; grids 1 and 2: patches 3 and 4. Four holes each."""
    return RoutingProblem(
        tree=HoleTree(
            np.repeat(np.arange(5, dtype=np.int32), 4),
            np.array([0, 0, 1, 2, 3], dtype=np.int32),
            np.array([0, 0, 1, 2], dtype=np.int32),
        ),
        prior_p_good=np.full(20, 0.5),
        budget_min=500.0,
    )


@pytest.mark.parametrize(
    ("gains", "here", "order"),
    [
        # 4 holes take 11 min as a patch, 16 as a square, 26 as a grid; grid 0 takes 11 + 11 + 5 + 16 + 10 = 53.
        ([1, 2, 3, 1, 1], NOWHERE, [2, 1, 0, 3, 4]),  # 6 / 53 against 1 / 26; 3 / 16 against 3 / 27
        ([1, 2, 2, 3, 1], NOWHERE, [3, 2, 1, 0, 4]),  # 3 / 26 is more than 5 / 53
        ([1, 2, 1, 1, 3], NOWHERE, [4, 1, 0, 2, 3]),
        ([1, 2, 3, 9, 9], 0, [0, 1, 2, 3, 4]),  # patch, square and grid are open
        ([1, 2, 3, 9, 9], 8, [2, 1, 0, 3, 4]),  # grid 0 is open, then its best rate
        ([1, 2, 3, 9, 8], 16, [4, 3, 2, 1, 0]),
        (
            [1, 2, 3, 2.5, 1],
            NOWHERE,
            [2, 1, 0, 3, 4],
        ),  # 6 / 53 before 2.5 / 26, though 2.5 / 16 is more than 6 / 43
        (
            [1, 2, 1.6, 0, 0],
            NOWHERE,
            [1, 0, 2, 3, 4],
        ),  # 3 / 27 before 1.6 / 16, though 1.6 / 11 is more than 3 / 22
        ([2, 2, 2, 2, 2], NOWHERE, [0, 1, 2, 3, 4]),  # 4 / 27 before 2 / 16, equal rates by id
    ],
)
def test_the_best_rate_goes_first_by_hand(gains: list[float], here: int, order: list[int]) -> None:
    chosen = PatchSet(np.arange(5), np.full(5, 4), np.array(gains, dtype=np.float64))
    assert ordered_patches(five_patches(), chosen, here) == order


def test_an_open_square_without_a_chosen_patch_opens_nothing() -> None:
    chosen = PatchSet(np.array([3, 4]), np.array([4, 4]), np.array([1.0, 2.0]))
    assert ordered_patches(five_patches(), chosen, here=0) == [4, 3]


def test_nothing_to_visit_is_an_empty_order() -> None:
    empty = np.empty(0, dtype=np.int64)
    assert ordered_patches(five_patches(), PatchSet(empty, empty, np.empty(0)), NOWHERE) == []


@given(seed=st.integers(0, 10_000), n_holes=st.integers(1, 60))
def test_a_planned_route_takes_the_best_holes_of_each_patch_best_first_and_patches_in_order(
    seed: int, n_holes: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes, share_imaged=0.2)
    here = int(rng.integers(NOWHERE, n_holes))
    free = problem.available()
    if here != NOWHERE:
        free[here] = False
    values = problem.prior_p_good
    plan = TreeKnapsack(problem).solve(values, free, here, problem.budget_min, plan=True)
    expected = []
    for patch in ordered_patches(problem, PatchSet(plan.patches, plan.counts, plan.gains), here):
        count = int(plan.counts[plan.patches == patch][0])
        inside = np.flatnonzero(free & (problem.patch_of_hole == patch)).tolist()
        expected += sorted(inside, key=lambda hole: (-values[hole], hole))[:count]
    assert planned_route(problem, plan, here) == expected
    assert plan.gains.sum() == pytest.approx(values[expected].sum())


def test_equal_rates_go_by_id_whatever_rounding_says() -> None:
    gains = np.full(5, 2.0) * (1.0 + 1e-12 * np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    chosen = PatchSet(np.arange(5), np.full(5, 4), gains)
    assert ordered_patches(five_patches(), chosen, NOWHERE) == [0, 1, 2, 3, 4]
