"""Action elimination against a slow reference that walks hole by hole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.elimination import BETA_TEST, BETA_TRAINING, eliminated_holes
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.testing import random_problem


def kept_by_walking(problem: RoutingProblem, beta: float) -> list[bool]:
    """The published rule in the order it is told, one hole at a time."""
    free = problem.available()
    holes_of = {
        patch: [
            hole for hole in range(problem.n_holes) if problem.patch_of_hole[hole] == patch and free[hole]
        ]
        for patch in range(len(problem.square_of_patch))
    }
    good_of = {
        patch: sum(problem.prior_p_good[hole] >= 0.5 for hole in holes) for patch, holes in holes_of.items()
    }
    grid_of = {patch: int(problem.grid_of_patch[patch]) for patch in holes_of}
    good_of_grid = {
        grid: sum(good_of[patch] for patch in holes_of if grid_of[patch] == grid) for grid in grid_of.values()
    }
    grids = sorted(good_of_grid, key=lambda grid: (-good_of_grid[grid], grid))
    ranked = [
        patch
        for grid in grids
        for patch in sorted(holes_of, key=lambda patch: (-good_of[patch], patch))
        if grid_of[patch] == grid
    ]
    tiers_min = problem.time_model.tiers_min(problem.shots)
    n_max, used_min, here = 0, problem.time_model.setup_min, NOWHERE
    for hole in [hole for patch in ranked for hole in holes_of[patch]]:
        used_min += tiers_min[problem.tier_between(here, hole)]
        if used_min > problem.budget_min + 1e-9:
            break
        n_max, here = n_max + 1, hole
    kept: set[int] = set()
    for patch in ranked:
        kept.add(patch)
        if sum(good_of[patch] for patch in kept) >= beta * n_max:
            break
    allowed = np.ones(problem.n_holes, dtype=bool) if problem.allowed is None else problem.allowed
    return [bool(problem.patch_of_hole[hole] in kept and allowed[hole]) for hole in range(problem.n_holes)]


@given(
    seed=st.integers(0, 100_000),
    n_holes=st.integers(1, 60),
    beta=st.sampled_from([0.3, 1.0, BETA_TEST, BETA_TRAINING]),
    imaged=st.sampled_from([0.0, 0.3]),
    allowed=st.sampled_from([1.0, 0.6]),
)
def test_it_keeps_what_the_rule_keeps_hole_by_hole(
    seed: int, n_holes: int, beta: float, imaged: float, allowed: float
) -> None:
    problem = random_problem(np.random.default_rng(seed), n_holes, share_imaged=imaged, share_allowed=allowed)
    assert eliminated_holes(problem, beta).tolist() == kept_by_walking(problem, beta)


def three_patches(budget_min: float) -> RoutingProblem:
    """Grid 0: patch 0 with 3 good; grid 1: patch 1 with 4 good of 5, patch 2 with 2 good (two squares)."""
    return RoutingProblem(
        tree=HoleTree(
            np.array([0] * 3 + [1] * 5 + [2] * 2, dtype=np.int32),
            np.array([0, 1, 2], dtype=np.int32),
            np.array([0, 1, 1], dtype=np.int32),
        ),
        prior_p_good=np.array([1, 0.9, 0.5, 0.8, 0.8, 0.1, 0.7, 0.6, 0.5, 0.9]),
        budget_min=budget_min,
    )


@pytest.mark.parametrize(
    ("budget_min", "beta", "patches"),
    [
        (20.0, 1.0, [1]),  # N_max = 1
        (26.0, 1.0, [1]),  # N_max = 4: exactly the good of patch 1
        (28.0, 1.0, [1, 2]),  # N_max = 5: a bad hole counts in N_max
        (26.0, 1.5, [1, 2]),  # 6 needed, 4 + 2
        (28.0, 1.5, [0, 1, 2]),  # 7.5 needed
        (5000.0, 2.5, [0, 1, 2]),  # never enough: all patches
        (5.0, 1.0, [1]),  # N_max = 0
    ],
)
def test_a_hand_worked_case(budget_min: float, beta: float, patches: list[int]) -> None:
    problem = three_patches(budget_min)
    kept = eliminated_holes(problem, beta)
    assert sorted(set(problem.patch_of_hole[kept].tolist())) == patches
    assert kept.sum() == np.isin(problem.patch_of_hole, patches).sum()  # whole patches


def test_ties_go_to_the_lower_id() -> None:
    problem = RoutingProblem(
        tree=HoleTree(
            np.array([0, 1, 2], dtype=np.int32),
            np.array([0, 1, 1], dtype=np.int32),
            np.array([0, 0], dtype=np.int32),
        ),
        prior_p_good=np.ones(3),
        budget_min=20.0,
    )
    assert eliminated_holes(problem, 1.0).tolist() == [True, False, False]


def test_a_larger_budget_and_a_larger_beta_keep_at_least_as_much() -> None:
    problem = random_problem(np.random.default_rng(5), 60, budget_min=60.0)
    small = eliminated_holes(problem, BETA_TEST)
    assert np.all(eliminated_holes(problem, BETA_TRAINING) >= small)
    assert np.all(eliminated_holes(problem.with_budget(120.0), BETA_TEST) >= small)


def test_imaged_holes_do_not_make_a_patch_worth_keeping() -> None:
    problem = three_patches(22.0)
    imaged = np.isin(problem.patch_of_hole, [1])
    kept = eliminated_holes(replace(problem, imaged=imaged), 1.0)
    assert sorted(set(problem.patch_of_hole[kept].tolist())) == [0]


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_beta_must_be_positive(beta: float) -> None:
    with pytest.raises(InputError, match="beta"):
        eliminated_holes(three_patches(20.0), beta)
