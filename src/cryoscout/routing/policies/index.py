"""The rate index: always go where expected good micrographs per minute, entry included, are highest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.core.ties import beats
from cryoscout.routing.knapsack import TreeRanges, sorted_by_patch
from cryoscout.routing.policies.base import PolicyKind
from cryoscout.routing.policies.fixed_order import FixedOrder, free_holes
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN


class RateIndex(FixedOrder):
    """Each step: the patch with the highest max over k of (best k holes) / (entry minutes + k t0), its best hole.

    k is limited to what still fits in the budget. The entry depends on where the route stands (0 in its own
    patch). Outcomes do not change the route. Cost: one look at every patch per visit.
    """

    name: ClassVar[str] = "index"
    kind: ClassVar[PolicyKind] = "planner"
    default_prediction: ClassVar[str] = "combined"
    drops_crossing: ClassVar[bool] = False

    def whole_route(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> list[int]:
        """The whole route."""
        minutes = problem.budget_min - problem.time_model.setup_min
        return rate_route(
            problem, problem.expected_good(), free_holes(problem, start_hole), start_hole, minutes
        )


def rate_route(
    problem: RoutingProblem,
    values: NDArray[np.float64],
    free: NDArray[np.bool_],
    here: int,
    minutes_left: float,
) -> list[int]:
    """The route of the rate index, holes in order of visit.

    values : (n,) expected good micrographs     free : (n,) holes that may be visited     here : hole or NOWHERE
    """
    tree = TreeRanges.of(problem)
    # The smallest value keeps holes that are surely bad in the list: a budget without end visits them last.
    values = np.maximum(values, np.finfo(float).tiny)
    in_order, counts = sorted_by_patch(values, free, tree.patch_start)
    visits = _rate_route(
        values[in_order],
        counts,
        tree.patch_start,
        problem.square_of_patch,
        problem.grid_of_square,
        problem.time_model.tiers_min(problem.shots),
        problem.place_of(here),
        minutes_left + ROUNDING_MIN,
        problem.crossing == "count",
    )
    return [int(hole) for hole in in_order[visits]]


@njit(cache=True)
def _best_rate(values, taken, entry, hole_min, most):  # type: ignore[no-untyped-def]
    """max over 1 <= k <= most of (sum of the next k values) / (entry + k hole_min), 0 if most < 1."""
    best, total = 0.0, 0.0
    for k in range(1, min(len(values) - taken, most) + 1):
        total += values[taken + k - 1]
        rate = total / (entry + k * hole_min)
        if rate <= best:  # values fall, so once the rate falls it never rises again
            break
        best = rate
    return best


@njit(cache=True)
def _rate_route(  # type: ignore[no-untyped-def]
    values, counts, patch_start, square_of_patch, grid_of_square, tiers, place, budget_min, crossing
):
    """Positions in the sorted values, in order of visit. place : open patch, square and grid, -1 where none is."""
    here, open_square, open_grid = place
    n_patches = len(counts)
    taken = np.zeros(n_patches, dtype=np.int64)
    endless = len(values) + 1
    # Rates without a budget, by entry level 1..3; good as long as all of the patch's holes fit.
    rates = np.empty((n_patches, 4))
    for patch in range(n_patches):
        own = values[patch_start[patch] : patch_start[patch] + counts[patch]]
        for level in range(1, 4):
            rates[patch, level] = _best_rate(own, 0, tiers[level] - tiers[0], tiers[0], endless)
    route = np.empty(counts.sum(), dtype=np.int64)
    n_route, used = 0, 0.0
    while used <= budget_min:
        best, best_patch, best_level = 0.0, -1, 0
        for patch in range(n_patches):
            left = counts[patch] - taken[patch]
            if left == 0:
                continue
            level = 3
            if patch == here:
                level = 0
            elif square_of_patch[patch] == open_square:
                level = 1
            elif grid_of_square[square_of_patch[patch]] == open_grid:
                level = 2
            entry = tiers[level] - tiers[0]
            most = int((budget_min - used - entry) / tiers[0] + 1e-9) if budget_min - used >= entry else 0
            if crossing:
                most += 1
            if most < 1:
                continue
            own = values[patch_start[patch] : patch_start[patch] + counts[patch]]
            if level == 0:
                rate = own[taken[patch]] / tiers[0]
            elif most >= left:
                rate = rates[patch, level]
            else:
                rate = _best_rate(own, taken[patch], entry, tiers[0], most)
            if beats(rate, best):
                best, best_patch, best_level = rate, patch, level
        if best_patch < 0:
            break
        route[n_route] = patch_start[best_patch] + taken[best_patch]
        n_route += 1
        taken[best_patch] += 1
        used += tiers[best_level]
        here, open_square = best_patch, square_of_patch[best_patch]
        open_grid = grid_of_square[open_square]
        own = values[patch_start[here] : patch_start[here] + counts[here]]
        for level in range(1, 4):
            rates[here, level] = _best_rate(own, taken[here], tiers[level] - tiers[0], tiers[0], endless)
    return route[:n_route]
