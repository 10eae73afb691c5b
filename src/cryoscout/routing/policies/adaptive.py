"""The adaptive planner: the exact knapsack on the belief, solved again whenever an outcome changes the belief."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.effects import EffectBelief
from cryoscout.belief.mixture import MixtureBelief
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import StagePlace
from cryoscout.core.settings import Settings
from cryoscout.core.ties import first_of_the_best
from cryoscout.routing.knapsack import Steps, TreeKnapsack
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation, PolicyKind
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.visit_order import last_that_fits, planned_route


class AdaptiveSettings(Settings):
    """How the adaptive planner treats what it does not know."""

    optimism: Annotated[float, Field(ge=0.0, le=3.0)] = 0.0
    """Standard deviations of a patch's effect added to its logit when planning: 0 plans on the expectation,
    more explores. Chosen by replay on the training split (docs/results/adaptive-selection.md)."""


@dataclass
class _Ahead:
    """A plan that was solved, as long as nothing came in between: its rest is then the plan of what is left."""

    problem: RoutingProblem
    steps: Steps
    route: list[int]
    visited: NDArray[np.bool_]  # (n,) before the next hole of the route
    here: int
    place: StagePlace
    steps_left: int

    def next_hole(self, observation: Observation, steps_left: int) -> int | None:
        """The next hole of the route; None where the route has ended or the observation is not the one planned for.

        Steps are part of it: minutes that rounding had kept back may allow a better plan.
        """
        if self.route and observation.here == self.route[0]:
            place = self.problem.tree.place_of(self.route[0])
            tier = self.problem.tree.tier_from(self.place, place)
            self.visited[self.route[0]] = True
            self.here, self.place = self.route[0], place
            self.steps_left -= self.steps.of_tier(tier)
            self.route = self.route[1:]
        expected = (
            observation.here == self.here
            and steps_left == self.steps_left
            and np.array_equal(observation.visited, self.visited)
        )
        return self.route[0] if self.route and expected else None


class Adaptive(AskedHoleByHole):
    """Plans on p_good given the outcomes so far, as if it planned again before every visit.

    Within the open patch it takes the hole with the highest p_good as long as the best plan takes one there;
    otherwise it moves to the patch that the plan visits next. Without news it follows the plan it has, as long as
    solving again would give the rest of it (which it does where a crossing visit is dropped; see routing/knapsack.py).
    """

    name: ClassVar[str] = "adaptive"
    kind: ClassVar[PolicyKind] = "planner"
    default_prediction: ClassVar[str] = "combined"
    drops_crossing: ClassVar[bool] = False
    restarts: bool = True
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
        self._ahead: _Ahead | None = None
        self._set_values()

    def _first_belief(self, problem: RoutingProblem) -> EffectBelief | StageBelief | MixtureBelief:
        return problem.belief()

    @property
    def belief(self) -> EffectBelief | StageBelief | MixtureBelief:
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
        self.take_in(observation)
        problem = self._problem
        left = problem.budget_min - observation.minutes_used
        steps_left = self._knapsack.steps.in_budget(left)
        if self._ahead is not None and (hole := self._ahead.next_hole(observation, steps_left)) is not None:
            return hole
        free = self._allowed & ~observation.visited
        if not free.any():
            return STOP
        best = self._knapsack.solve(self._values, free, observation.where, left, plan=True)
        if len(best.patches) == 0:
            if problem.crossing == "drop":
                last = last_that_fits(problem, self._values, free, observation.where, left)
                return STOP if last == NOWHERE else last
            if left < 0:
                return STOP
            return first_of_the_best(np.where(free, self._values, -np.inf))
        route = planned_route(problem, best, observation.where)
        if problem.crossing == "drop":
            place = problem.tree.place_of(observation.where)
            self._ahead = _Ahead(
                problem,
                self._knapsack.steps,
                route,
                observation.visited.copy(),
                observation.here,
                place,
                steps_left,
            )
        return route[0]

    def take_in(self, observation: Observation) -> None:
        """Hand new results to the belief, later shots of known holes too, and let its probabilities follow."""
        if observation.news == self._news_seen:
            return
        self._ahead = None
        new = observation.new_results(self._good, self._results, self._problem.shots)
        self._news_seen = observation.news
        if len(new):
            self._belief.observe_many(new, self._good[new], self._results[new])
            self._set_values()

    def _set_values(self) -> None:
        """Expected good micrographs of every hole, (n,), with the optimism asked for."""
        values = self._belief.p_good()
        if self.settings.optimism > 0 and not isinstance(self._belief, MixtureBelief):
            odds = np.log(values) - np.log1p(-values)
            values = sigmoid(odds + self.settings.optimism * np.sqrt(self._belief.effect_variance()))
        self._values: NDArray[np.float64] = self._problem.shots * values


class AdaptiveTrust(Adaptive):
    """`adaptive`, and the outcomes also say how far the predictions can be trusted (belief/mixture.py)."""

    name: ClassVar[str] = "adaptive-trust"
    settings_type: ClassVar[type[AdaptiveSettings] | None] = None

    def __init__(self) -> None:
        super().__init__()

    def _first_belief(self, problem: RoutingProblem) -> MixtureBelief:
        return problem.mixture_belief()
