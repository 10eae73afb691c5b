"""Two other ways to plan on the belief, tried beside the adaptive planner in the study `adaptive-selection`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cryoscout.belief.calibration import sigmoid
from cryoscout.routing.policies.adaptive import Adaptive
from cryoscout.routing.policies.base import STOP, Observation
from cryoscout.routing.policies.index import rate_route
from cryoscout.routing.problem import RoutingProblem


class IndexOnBelief(Adaptive):
    """The rate index instead of the knapsack, on the belief, computed again before every visit."""

    name: ClassVar[str] = "index-on-belief"

    def next_hole(self, observation: Observation) -> int:
        """The first hole of the index route, or STOP."""
        self.take_in(observation)
        free = self._allowed & ~observation.visited
        left = self._problem.budget_min - observation.minutes_used
        route = rate_route(self._problem, self._values, free, observation.here, left)
        return route[0] if route else STOP


class KnapsackOnDraw(Adaptive):
    """The knapsack on one draw of the patches' effects (Thompson sampling), a new draw after every outcome."""

    name: ClassVar[str] = "knapsack-on-draw"

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route; `rng` draws the effects."""
        self._rng = rng
        super().reset(problem, start_hole, rng)

    def _set_values(self) -> None:
        """Good micrographs of every hole if the drawn effects were true, (n,)."""
        effects = self.effect_belief.draw_effects(1, self._rng)[0]
        drawn = sigmoid(self.effect_belief.location + effects[self._problem.patch_of_hole])
        self._values = self._problem.shots * drawn
