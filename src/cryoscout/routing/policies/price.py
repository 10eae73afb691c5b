"""The plan at a time price: a knapsack by bisection, made anew before every visit.

At a price of lambda good micrographs per minute a hole is worth its p_good less the minutes it takes, and a patch,
square or grid the sum of its parts less its entry. The price at which the plan just fills the time left is the
Lagrange multiplier of the tree knapsack; its plan differs from the exact one by at most one part. Within a patch
holes keep their order whatever is learned (they share the patch's effect), so a plan is a count per patch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.core.ties import ROUNDING, beats, ranks_best_first
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation, PolicyKind
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN
from cryoscout.routing.visit_order import reachable

BISECTIONS = 14


class PriceTree(NamedTuple):
    """A problem in the form the compiled routes use."""

    hole_begin: NDArray[np.int64]  # (P + 1,) holes of each patch
    order: NDArray[np.int64]  # (n,) holes, patch by patch, the surest first
    square_of_patch: NDArray[np.int32]  # (P,)
    grid_of_square: NDArray[np.int32]  # (S,)
    tiers_min: NDArray[np.float64]  # (4,)


def price_tree(problem: RoutingProblem) -> PriceTree:
    """The tree of a problem; within a patch the likelier holes of the prediction come first, ties by index."""
    order = np.lexsort(
        (np.arange(problem.n_holes), ranks_best_first(problem.prior_p_good), problem.patch_of_hole)
    )
    counts = np.bincount(problem.patch_of_hole, minlength=len(problem.square_of_patch))
    return PriceTree(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        order.astype(np.int64),
        problem.square_of_patch,
        problem.grid_of_square,
        problem.time_model.tiers_min(problem.shots),
    )


@njit(cache=True)
def _plan_at(tree, values, free, place, price, net_patch, net_square, net_grid, count):  # type: ignore[no-untyped-def]
    """Net worth of every part at a price and holes taken per patch; returns the minutes of the plan."""
    t0, t1, t2, t3 = tree.tiers_min[0], tree.tiers_min[1], tree.tiers_min[2], tree.tiers_min[3]
    here_patch, here_square, here_grid = place
    net_square[:] = 0.0
    net_grid[:] = 0.0
    for patch in range(len(net_patch)):
        net, taken = 0.0, 0
        for i in range(tree.hole_begin[patch], tree.hole_begin[patch + 1]):
            hole = tree.order[i]
            if not free[hole]:
                continue
            worth = values[hole] - price * t0
            if worth <= ROUNDING:
                break
            net += worth
            taken += 1
        if patch != here_patch:
            net -= price * (t1 - t0)
        net_patch[patch] = net
        count[patch] = taken
        if net > ROUNDING:
            net_square[tree.square_of_patch[patch]] += net
    for square in range(len(net_square)):
        if square != here_square:
            net_square[square] -= price * (t2 - t1)
        if net_square[square] > ROUNDING:
            net_grid[tree.grid_of_square[square]] += net_square[square]
    for grid in range(len(net_grid)):
        if grid != here_grid:
            net_grid[grid] -= price * (t3 - t2)
    minutes = 0.0
    for grid in range(len(net_grid)):
        if net_grid[grid] > ROUNDING and grid != here_grid:
            minutes += t3 - t2
    for square in range(len(net_square)):
        in_plan = net_square[square] > ROUNDING and net_grid[tree.grid_of_square[square]] > ROUNDING
        if in_plan and square != here_square:
            minutes += t2 - t1
    for patch in range(len(net_patch)):
        square = tree.square_of_patch[patch]
        if (
            net_patch[patch] > ROUNDING
            and net_square[square] > ROUNDING
            and net_grid[tree.grid_of_square[square]] > ROUNDING
        ):
            minutes += count[patch] * t0 + (0.0 if patch == here_patch else t1 - t0)
    return minutes


@njit(cache=True)
def price_of(tree, values, free, place, left_min, net_patch, net_square, net_grid, count):  # type: ignore[no-untyped-def]
    """The highest price whose plan still fills the minutes left; the nets and counts are those at that price.

    That plan is too long by a part of the tree at most, which a route reaches last; one that fits could lack a whole
    grid where most of the time should go.
    """
    low, high = 0.0, 1.0 / tree.tiers_min[0]
    if _plan_at(tree, values, free, place, 1e-9, net_patch, net_square, net_grid, count) <= left_min:
        return 0.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        minutes = _plan_at(tree, values, free, place, middle, net_patch, net_square, net_grid, count)
        if minutes > left_min:
            low = middle
        else:
            high = middle
    _plan_at(tree, values, free, place, low, net_patch, net_square, net_grid, count)
    return low


@njit(cache=True)
def _tier(tree, place, patch):  # type: ignore[no-untyped-def]
    if place[0] == patch:
        return 0
    square = tree.square_of_patch[patch]
    if place[1] == square:
        return 1
    return 2 if place[2] == tree.grid_of_square[square] else 3


@njit(cache=True)
def best_free(tree, free, patch):  # type: ignore[no-untyped-def]
    """The surest free hole of a patch, -1 where none is left."""
    for i in range(tree.hole_begin[patch], tree.hole_begin[patch + 1]):
        if free[tree.order[i]]:
            return tree.order[i]
    return -1


@njit(cache=True)
def choose_patch(  # type: ignore[no-untyped-def]
    tree,
    values,
    free,
    place,
    left_min,
    net_patch,
    net_square,
    net_grid,
    count,
):
    """The patch to visit next, -1 where nothing is left.

    The plan's patches: what is open first, then the best gain per minute.
    """
    price = price_of(tree, values, free, place, left_min, net_patch, net_square, net_grid, count)
    best, best_score = -1, -np.inf
    t0, t1 = tree.tiers_min[0], tree.tiers_min[1]
    for patch in range(len(net_patch)):
        hole = best_free(tree, free, patch)
        if hole < 0:
            continue
        tier = _tier(tree, place, patch)
        minutes = tree.tiers_min[tier]
        square = tree.square_of_patch[patch]
        grid = tree.grid_of_square[square]
        planned = net_patch[patch] > ROUNDING and net_square[square] > ROUNDING and net_grid[grid] > ROUNDING
        if planned:
            gain = net_patch[patch] + price * (count[patch] * t0 + (t1 - t0 if tier > 0 else 0.0))
            whole = net_grid[grid] if tier == 3 else net_square[square] if tier == 2 else 0.0
            score = 3.0 * (3 - tier) + gain / (count[patch] * t0 + minutes - t0) + 0.01 * whole
        else:
            score = values[hole] / minutes - 10.0
        if beats(score, best_score):
            best, best_score = patch, score
    return best


class PricePlan(AskedHoleByHole):
    """The plan at the time price, made anew before every visit; the study `beyond` compares it."""

    name: str = "price"
    kind: PolicyKind = "planner"
    default_prediction: str = "combined"
    drops_crossing: bool = False
    restarts: bool = True

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        self._problem = problem
        self._allowed = problem.available()
        self._tree, self._belief = price_tree(problem), problem.belief()
        self._good, self._results = problem.known_results()
        n_patches, n_squares = len(problem.square_of_patch), len(problem.grid_of_square)
        self._scratch = (
            np.empty(n_patches),
            np.empty(n_squares),
            np.empty(int(problem.grid_of_square[-1]) + 1),
            np.empty(n_patches, dtype=np.int64),
        )

    def next_hole(self, observation: Observation) -> int:
        """The surest hole of the patch with the best score, or STOP."""
        problem, tree = self._problem, self._tree
        new = observation.new_results(self._good, self._results, problem.shots)
        if len(new):
            self._belief.observe_many(new, self._good[new], self._results[new])
        free = self._allowed & ~observation.visited
        left = problem.budget_min - observation.minutes_used + ROUNDING_MIN
        place = problem.place_of(observation.here)
        if problem.crossing == "drop":
            free = free & reachable(problem, observation.where, left)
        if not free.any():
            return STOP
        patch = choose_patch(tree, problem.shots * self._belief.p_good(), free, place, left, *self._scratch)
        return STOP if patch < 0 else int(best_free(tree, free, patch))
