"""The whole route that a policy would take without news."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cryoscout.routing.policies.base import STOP, Observation, Policy
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.replay import PolicyError
from cryoscout.routing.time_model import ROUNDING_MIN


def plan_route(
    problem: RoutingProblem,
    policy: Policy,
    start_hole: int,
    seed: int,
    progress: Callable[[], None] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ask the policy for hole after hole, without new outcomes, until it stops or the budget would be passed.

    start_hole : index of the last hole imaged, or NOWHERE     seed : of the policy's own draws
    Returns the holes in order, (visits,) int64, and the tier of each visit, (visits,) int64. The visit that
    would
    cross the budget is never part of a plan, whatever `problem.crossing` says.
    Raises PolicyError when the policy names a hole twice or one that is not allowed.
    """
    free = problem.available()
    visited = np.zeros(problem.n_holes, dtype=bool) if problem.imaged is None else problem.imaged.copy()
    outcome = np.full(problem.n_holes, np.nan) if problem.outcome is None else problem.outcome.copy()
    if start_hole != NOWHERE:
        visited[start_hole], free[start_hole] = True, False
    tiers_min = problem.time_model.tiers_min(problem.shots)
    policy.reset(problem, start_hole, np.random.default_rng(seed))
    here, used = start_hole, problem.time_model.setup_min
    route: list[int] = []
    tiers: list[int] = []
    while free.any():
        hole = policy.next_hole(Observation(visited.copy(), here, used, outcome.copy(), 0))
        if hole == STOP:
            break
        if not (0 <= hole < problem.n_holes) or not free[hole]:
            raise PolicyError(
                f"Policy {policy.name!r} must choose an allowed, unvisited hole. Got {hole} instead."
            )
        tier = problem.tier_between(here, hole)
        if used + tiers_min[tier] > problem.budget_min + ROUNDING_MIN:
            break
        used += float(tiers_min[tier])
        visited[hole], free[hole] = True, False
        route.append(hole)
        tiers.append(tier)
        here = hole
        if progress is not None:
            progress()
    return np.array(route, dtype=np.int64), np.array(tiers, dtype=np.int64)
