"""The floor under every policy: a uniformly random hole."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation, PolicyKind, may_be_visited
from cryoscout.routing.problem import RoutingProblem


class RandomVisits(AskedHoleByHole):
    """Visits a uniformly random hole among those that are allowed and not visited; uses no prediction.

    Where a crossing visit is dropped it draws among the holes that still fit the budget.
    Published (CryoRL, Table 2): 2.6 / 5.1 / 7.3 / 9.8 good holes of the Y1 validation split in 120 / 240 /
    360 / 480 min.
    It does not restart: a new start draws anew.
    """

    name: ClassVar[str] = "random"
    kind: ClassVar[PolicyKind] = "baseline"
    default_prediction: ClassVar[str] = "res50"
    drops_crossing: ClassVar[bool] = False

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        self._problem = problem
        self._rng = rng

    def next_hole(self, observation: Observation) -> int:
        """A random hole, or STOP when none is left that may be visited."""
        choices = np.flatnonzero(may_be_visited(self._problem, observation))
        return int(self._rng.choice(choices)) if len(choices) else STOP
