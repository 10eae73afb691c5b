"""Action elimination: the patches worth considering, by the published rule, as a pure function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.ties import at_least
from cryoscout.routing.policies.fixed_order import best_patches_of_best_grids, count_by_patch, predicted_good
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN

BETA_TRAINING = 2.5
"""Published beta while an agent is trained."""

BETA_TEST = 1.5
"""Published beta in a test, and of the start holes of the rows marked with a dagger."""


def eliminated_holes(problem: RoutingProblem, beta: float = BETA_TEST) -> NDArray[np.bool_]:
    """The holes that action elimination keeps for the problem's budget: (n,) bool, True = kept.

    beta : > 0; more keeps more patches
    Patches are ranked by their grid's predicted-good holes (p_good >= 0.5), then by their own, ties by id.
    N_max is the most holes the budget allows if all holes were good and visited in that order, the first one
    from outside every grid. Kept is the shortest prefix of patches, at least one, with at least beta N_max
    predicted-good holes, every hole of them; all patches where there are not so many. Holes that are imaged
    or not allowed count nowhere, and no hole is kept that the problem does not allow.
    Raises InputError when beta is not a positive number.
    Source: CryoRL, section 4.3, "DQN with Action Elimination via Patch Ranking".
    """
    if not (np.isfinite(beta) and beta > 0):
        raise InputError(f"beta of action elimination must be a positive number. Got {beta!r} instead.")
    free = problem.available()
    n_good = count_by_patch(problem, free & predicted_good(problem))
    ranked = best_patches_of_best_grids(problem, n_good)
    needed = beta * most_holes_in_order(problem, ranked, count_by_patch(problem, free))
    reached = np.flatnonzero(at_least(np.cumsum(n_good[ranked]), needed))
    kept = ranked[: reached[0] + 1] if len(reached) else ranked
    mask = np.isin(problem.patch_of_hole, kept)
    return mask if problem.allowed is None else mask & problem.allowed


def most_holes_in_order(
    problem: RoutingProblem, patches: NDArray[np.int64], n_holes: NDArray[np.int64]
) -> int:
    """N_max: how many holes fit in the budget when the patches are imaged whole, in this order, from outside.

    patches : (P,) patches in order     n_holes : (P,) holes to image in each patch
    """
    tiers_min = problem.time_model.tiers_min(problem.shots)
    square, grid = problem.square_of_patch, problem.grid_of_patch
    left_min = problem.budget_min - problem.time_model.setup_min + ROUNDING_MIN
    visited, before = 0, -1
    for patch in patches[n_holes[patches] > 0]:
        same_grid = before >= 0 and grid[before] == grid[patch]
        tier = 3 if not same_grid else 1 if square[before] == square[patch] else 2
        left_min -= tiers_min[tier]
        if left_min < 0:
            break
        more = min(int(n_holes[patch]) - 1, int(left_min / tiers_min[0] + 1e-9))
        left_min -= more * tiers_min[0]
        visited += 1 + more
        if more < n_holes[patch] - 1:
            break
        before = patch
    return visited
