"""The one protocol of everything that chooses the next hole, planner or learned agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.counts import Belief
from cryoscout.routing.problem import RoutingProblem

PolicyKind = Literal["planner", "learned", "baseline"]

STOP = -1
"""What `next_hole` returns when the policy wants nothing more."""


@dataclass(frozen=True)
class Observation:
    """What a policy sees before each visit. Outcomes still on their way are unknown: NaN.

    The results of a hole's shots may come one by one: `outcome` and `results` of the hole then grow together.
    """

    visited: NDArray[np.bool_]  # (n,) holes imaged so far, the start hole included
    here: int  # the last hole imaged, NOWHERE before the first
    minutes_used: float
    outcome: NDArray[
        np.float64
    ]  # (n,) good micrographs so far, 0..results; NaN where no shot has a result (yet)
    news: int  # how often results were handed over so far; another number whenever `outcome` or `results` changed
    results: NDArray[np.float64] | None = (
        None  # (n,) shots behind each outcome; None: all shots have a result
    )

    def new_results(
        self, outcome: NDArray[np.float64], results: NDArray[np.float64], shots: int
    ) -> NDArray[np.int64]:
        """Holes whose results are others than these, (m,): for a policy that keeps what it has taken in so far.

        outcome, results : (n,) what was taken in, 0 where nothing was; both are brought up to date, in place
        shots : of every hole, the problem's
        """
        known = ~np.isnan(self.outcome)
        now_good = np.where(known, self.outcome, 0.0)
        now_shots = np.where(known, shots if self.results is None else self.results, 0.0)
        new = np.flatnonzero((now_good != outcome) | (now_shots != results))
        outcome[new], results[new] = now_good[new], now_shots[new]
        return new


@runtime_checkable
class PlansOnBelief(Protocol):
    """A policy that plans on a belief of its own; what is stated about its plan is stated on that belief."""

    @property
    def belief(self) -> Belief:
        """What the policy believes after `reset` and the outcomes handed over since."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Chooses the next hole. A new object serves one replay after the other: `reset` starts each."""

    name: str
    kind: PolicyKind
    default_prediction: str  # the named prediction it uses when the user names none
    drops_crossing: (
        bool  # True: its crossing visit is dropped whatever the replay says (the published greedy)
    )

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        ...

    def next_hole(self, observation: Observation) -> int:
        """The next hole: an allowed one that is not visited, or STOP."""
        ...


def belief_of(policy: Policy, problem: RoutingProblem) -> Belief:
    """The belief that the policy plans on: its own, or the problem's where it has none. Ask after `reset`."""
    return policy.belief if isinstance(policy, PlansOnBelief) else problem.belief()
