"""The published greedy rule: the best patches of the best grids, only holes predicted good."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cryoscout.routing.policies.fixed_order import (
    FixedOrder,
    best_patches_of_best_grids,
    count_by_patch,
    good_to_visit,
    holes_patch_by_patch,
)
from cryoscout.routing.problem import NOWHERE, RoutingProblem


class Greedy(FixedOrder):
    """Scans patches in order, visits the predicted-good holes of each, drops the crossing visit.

    Order: grids by predicted-good holes, patches by predicted-good holes within the grid; then the start
    hole's patch (random, where the start hole is) changes places with the first one. From NOWHERE nothing
    changes.
    Source: CryoRL, section 5.2. The text does not say how the random patch enters; of the readings tried, changing
    places comes nearest to the published row (docs/results/cryorl-table2.md has both).
    """

    name: ClassVar[str] = "greedy"
    drops_crossing: ClassVar[bool] = True

    def whole_route(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> list[int]:
        """The whole route; nothing is random but the start."""
        good = good_to_visit(problem, start_hole)
        return holes_patch_by_patch(good, problem, self._patches(problem, start_hole, good))

    def _patches(
        self, problem: RoutingProblem, start_hole: int, good: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        count = count_by_patch(problem, good)
        patches = best_patches_of_best_grids(problem, count)
        if start_hole != NOWHERE:
            start_patch = int(problem.patch_of_hole[start_hole])
            if count[start_patch] > 0:  # a patch with nothing to visit takes nobody's place
                place = int(np.flatnonzero(patches == start_patch)[0])
                patches[[0, place]] = patches[[place, 0]]
        return patches
