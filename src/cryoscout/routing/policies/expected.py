"""The best fixed plan: the exact tree knapsack on the expected good micrographs of each hole."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cryoscout.core.ties import first_of_the_best
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.policies.base import PolicyKind
from cryoscout.routing.policies.fixed_order import FixedOrder, free_holes
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.visit_order import plan_without_news


class Expected(FixedOrder):
    """Solves the knapsack once on shots * p_good and follows the plan; outcomes do not change it.

    Exact where the tiers share a divisor of 0.1 min, as those of the presets do: no fixed set of holes has a higher
    expected number of good micrographs within the budget. With other tiers within 0.5 % or a visit of it. Judged by
    exhaustive search in tests/routing/test_expected.py.
    """

    name: ClassVar[str] = "expected"
    kind: ClassVar[PolicyKind] = "planner"
    default_prediction: ClassVar[str] = "combined"
    drops_crossing: ClassVar[bool] = False

    def whole_route(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> list[int]:
        """The whole route; the visit that may cross the budget is the best hole left."""
        values = problem.expected_good()
        free = free_holes(problem, start_hole)
        minutes = problem.budget_min - problem.time_model.setup_min
        route = plan_without_news(TreeKnapsack(problem), problem, values, free, start_hole, minutes)
        if problem.crossing == "count":
            rest = free.copy()
            rest[route] = False
            if rest.any():
                route.append(first_of_the_best(np.where(rest, values, -np.inf)))
        return route
