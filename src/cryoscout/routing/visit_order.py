"""In which order to visit the patches of a set, given where the microscope stands.

The minutes of a set are the same in every order that finishes what is open (patch, then square, then grid); what
the order decides is what is learned, and collected, first: so the best rate goes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.hole_tree import StagePlace
from cryoscout.core.ties import first_of_the_best, ranks_best_first
from cryoscout.routing.knapsack import Plan, TreeKnapsack
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN


@dataclass(frozen=True)
class PatchSet:
    """Patches a plan opens, with what it takes from them."""

    patches: NDArray[np.int64]  # (m,) int64
    counts: NDArray[np.int64]  # (m,) holes taken, >= 1
    gains: NDArray[np.float64]  # (m,) sum of the values of these holes


def planned_route(problem: RoutingProblem, plan: Plan, here: int | StagePlace) -> list[int]:
    """The holes of a plan in order of visit: patch after patch as `ordered_patches` says, the best of each first."""
    first = np.cumsum(plan.counts) - plan.counts
    holes = {
        int(patch): plan.holes[begin : begin + count].tolist()
        for patch, begin, count in zip(plan.patches, first, plan.counts, strict=True)
    }
    chosen = PatchSet(plan.patches, plan.counts, plan.gains)
    return [hole for patch in ordered_patches(problem, chosen, here) for hole in holes[patch]]


def plan_without_news(
    knapsack: TreeKnapsack,
    problem: RoutingProblem,
    values: NDArray[np.float64],
    free: NDArray[np.bool_],
    here: int | StagePlace,
    minutes_left: float,
) -> list[int]:
    """The holes of the best plan in order of visit, planned again where rounding had kept minutes back.

    values : (n,) >= 0 per hole     free : (n,) holes that may be visited     here : hole index or NOWHERE
    Minutes are rounded up where a patch, square or grid is entered; as soon as what was kept back makes a whole step,
    what is left is planned anew with it, so that the plan never gets worse and no minutes are left unused. Without the
    hole that may cross the budget.
    """
    tiers_min = problem.time_model.tiers_min(problem.shots)
    route: list[int] = []
    free = free.copy()
    while True:
        steps_left = knapsack.steps.in_budget(minutes_left)
        part = planned_route(problem, knapsack.solve(values, free, here, minutes_left, plan=True), here)
        if not part and (last := last_that_fits(problem, values, free, here, minutes_left)) != NOWHERE:
            part = [last]
        if not part:
            return route
        for hole in part:
            tier = problem.tree.tier_from(problem.tree.place_of(here), problem.tree.place_of(hole))
            route.append(hole)
            free[hole] = False
            here, minutes_left = hole, minutes_left - float(tiers_min[tier])
            steps_left -= knapsack.steps.of_tier(tier)
            if knapsack.steps.in_budget(minutes_left) != steps_left:
                break


def last_that_fits(
    problem: RoutingProblem,
    values: NDArray[np.float64],
    free: NDArray[np.bool_],
    here: int | StagePlace,
    minutes_left: float,
) -> int:
    """The most valuable hole whose visit ends in the minutes left, NOWHERE without any; for when no plan is left.

    A visit that just fits is none to a plan whose minutes are rounded up.
    """
    fits = free & (values > 0.0) & reachable(problem, here, minutes_left + ROUNDING_MIN)
    return first_of_the_best(np.where(fits, values, -np.inf)) if fits.any() else NOWHERE


def reachable(problem: RoutingProblem, here: int | StagePlace, left_min: float) -> NDArray[np.bool_]:
    """(n,) holes whose visit ends within the minutes left. here : hole index or NOWHERE"""
    tiers = problem.time_model.tiers_min(problem.shots)
    minutes = np.full(len(problem.square_of_patch), tiers[3])
    patch, square, grid = problem.tree.place_of(here)
    minutes[problem.grid_of_patch == grid] = tiers[2]
    minutes[problem.square_of_patch == square] = tiers[1]
    if patch != NOWHERE:
        minutes[patch] = tiers[0]
    return np.asarray((minutes <= left_min)[problem.patch_of_hole])


def ordered_patches(problem: RoutingProblem, chosen: PatchSet, here: int | StagePlace) -> list[int]:
    """All patches of the set in order of visit: what is open first, then the best gain per minute, ties by id."""
    tiers = problem.time_model.tiers_min(problem.shots)
    square = problem.square_of_patch[chosen.patches]
    grid = problem.grid_of_square[square]
    patch_min = chosen.counts * tiers[0] + (tiers[1] - tiers[0])
    open_patch, open_square, open_grid = problem.tree.place_of(here)
    patch_key = _rank(chosen.patches, chosen.gains, patch_min, 0.0, open_patch)
    square_key = _rank(square, chosen.gains, patch_min, tiers[2] - tiers[1], open_square)
    square_min = patch_min + (tiers[2] - tiers[1]) / np.bincount(square)[square]
    grid_key = _rank(grid, chosen.gains, square_min, tiers[3] - tiers[2], open_grid)
    order = np.lexsort((chosen.patches, patch_key, square, square_key, grid, grid_key))
    return [int(patch) for patch in chosen.patches[order]]


def _rank(
    group: NDArray[np.signedinteger],
    gains: NDArray[np.float64],
    minutes: NDArray[np.float64],
    entry_min: float,
    opened: int,
) -> NDArray[np.int64]:
    """A sort key for each member: its group's place by gain per minute, the opened group before all; (m,)."""
    rate = np.bincount(group, weights=gains) / np.maximum(
        np.bincount(group, weights=minutes) + entry_min, 1e-12
    )
    key = ranks_best_first(rate)[group]
    key[group == opened] = -1
    return np.asarray(key)
