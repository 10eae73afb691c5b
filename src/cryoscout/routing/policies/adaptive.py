"""The adaptive planner: the exact knapsack on the belief, solved again whenever an outcome changes the belief."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.effects import EffectBelief
from cryoscout.belief.mixture import MixtureBelief
from cryoscout.core.errors import InputError
from cryoscout.core.settings import Settings
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.policies.base import STOP, Observation, PolicyKind
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.visit_order import PatchSet, best_hole_of, ordered_patches


class AdaptiveSettings(Settings):
    """How the adaptive planner treats what it does not know."""

    optimism: Annotated[float, Field(ge=0.0, le=3.0)] = 0.0
    """Standard deviations of a patch's effect added to its logit when planning: 0 plans on the expectation,
    more explores. Chosen by replay on the training split (docs/results/adaptive-selection.md)."""


class Adaptive:
    """Plans on p_good given the outcomes so far, and plans again before every visit.

    Within the open patch it takes the hole with the highest p_good as long as the best plan takes one there;
    otherwise it moves to the patch that the plan visits next.
    """

    name: ClassVar[str] = "adaptive"
    kind: ClassVar[PolicyKind] = "planner"
    default_prediction: ClassVar[str] = "combined"
    drops_crossing: ClassVar[bool] = False
    settings_type: ClassVar[type[AdaptiveSettings] | None] = AdaptiveSettings

    def __init__(self, settings: AdaptiveSettings | None = None) -> None:
        self.settings = settings or AdaptiveSettings()

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route with the belief before its first outcome. start_hole : index or NOWHERE."""
        self._problem = problem
        self._knapsack = TreeKnapsack(problem)
        self._allowed = problem.available()
        self._belief = self._first_belief(problem)
        self._good, self._results = problem.known_results()  # taken in so far
        self._news_seen = -1
        self._set_values()

    def _first_belief(self, problem: RoutingProblem) -> EffectBelief | MixtureBelief:
        return problem.belief()

    @property
    def belief(self) -> EffectBelief | MixtureBelief:
        """What is believed after the outcomes handed over so far: what it plans on."""
        return self._belief

    @property
    def effect_belief(self) -> EffectBelief:
        """What is believed after the outcomes handed over so far. Raises InputError where it is a mixture."""
        if not isinstance(self._belief, EffectBelief):
            raise InputError(f"The belief of {self.name} must be of one component. Got a mixture instead.")
        return self._belief

    def next_hole(self, observation: Observation) -> int:
        """The first hole of the best plan on the belief, or STOP when nothing fits in the budget."""
        if observation.news != self._news_seen:
            self._take_in(observation)
        problem, free = self._problem, self._allowed & ~observation.visited
        if not free.any():
            return STOP
        left = problem.budget_min - observation.minutes_used
        best = self._knapsack.solve(self._values, free, observation.here, left, plan=True)
        if len(best.patches) == 0:
            if problem.crossing == "drop" or left < 0:
                return STOP
            return int(np.argmax(np.where(free, self._values, -np.inf)))
        gains = np.array(
            [self._gain(patch, count, free) for patch, count in zip(best.patches, best.counts, strict=True)]
        )
        patch = ordered_patches(problem, PatchSet(best.patches, best.counts, gains), observation.here)[0]
        return best_hole_of(patch, self._values, free, problem)

    def _take_in(self, observation: Observation) -> None:
        """Hand new results to the belief, later shots of known holes too, and let its probabilities follow."""
        new = observation.new_results(self._good, self._results, self._problem.shots)
        self._news_seen = observation.news
        if len(new):
            self._belief.observe_many(new, self._good[new], self._results[new])
            self._set_values()

    def _set_values(self) -> None:
        """Expected good micrographs of every hole, (n,), with the optimism asked for."""
        values = self._belief.p_good()
        if self.settings.optimism > 0 and isinstance(self._belief, EffectBelief):
            patch = self._problem.patch_of_hole
            odds = np.log(values) - np.log1p(-values)
            values = sigmoid(odds + self.settings.optimism * np.sqrt(self._belief.variance[patch]))
        self._values: NDArray[np.float64] = self._problem.shots * values

    def _gain(self, patch: int, count: int, free: NDArray[np.bool_]) -> float:
        begin, end = np.searchsorted(self._problem.patch_of_hole, [patch, patch + 1])
        inside = self._values[begin:end][free[begin:end]]
        return float(np.sort(inside)[::-1][:count].sum())


class AdaptiveTrust(Adaptive):
    """`adaptive`, and the outcomes also say how far the predictions can be trusted (belief/mixture.py)."""

    name: ClassVar[str] = "adaptive-trust"
    settings_type: ClassVar[type[AdaptiveSettings] | None] = None

    def __init__(self) -> None:
        super().__init__()

    def _first_belief(self, problem: RoutingProblem) -> MixtureBelief:
        return problem.mixture_belief()
