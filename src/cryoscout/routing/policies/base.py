"""The one protocol of everything that chooses the next hole, planner or learned agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.counts import Belief
from cryoscout.core.hole_tree import StagePlace
from cryoscout.routing.places import Step
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN

PolicyKind = Literal["planner", "learned", "baseline", "recorded"]
"""`recorded` is the order in which a session was really imaged."""

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
    at: StagePlace | None = None  # where the stage stands; None: at the hole `here`

    @property
    def where(self) -> int | StagePlace:
        """Where the stage stands, as planners take it: the place, or the hole `here`."""
        return self.here if self.at is None else self.at

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
class TakesIn(PlansOnBelief, Protocol):
    """A policy whose belief can be told new results without a hole being chosen: it can be asked at once."""

    def take_in(self, observation: Observation) -> None:
        """Let the belief follow the results of the observation."""
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
    restarts: bool
    """True: started anew on what is known meanwhile (holes imaged, their results, the last hole, the minutes that are
    left) it goes on as if it had run on."""

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        ...

    def next_hole(self, observation: Observation) -> int:
        """The next hole: an allowed one that is not visited, or STOP."""
        ...

    def plan(self, observation: Observation) -> list[int]:
        """The holes from here to the end of the budget, in order, if no further result came.

        The same holes as `next_hole` would give one by one, and the policy is left as it was. The last one may cross
        the budget where a crossing visit counts. `AskedHoleByHole` is a `plan` for every policy.
        """
        ...


@runtime_checkable
class LookingPolicy(Policy, Protocol):
    """A policy that also says when to look at a place. What a look shows makes a new problem, and a new `reset`."""

    def next_step(self, observation: Observation) -> Step:
        """The next hole, a Look at a place that was not looked at, or STOP."""
        ...


def next_step_of(policy: Policy, observation: Observation) -> Step:
    """What the policy wants next; one that does not look images what is seen."""
    if isinstance(policy, LookingPolicy):
        return policy.next_step(observation)
    return policy.next_hole(observation)


class AskedHoleByHole:
    """The `plan` of a policy that has none of its own: it is asked hole by hole."""

    restarts: bool = False
    _problem: RoutingProblem  # of the last reset

    def plan(self: _PolicyOnProblem, observation: Observation) -> list[int]:
        """The holes from here to the end of the budget, in order, if no further result came."""
        from cryoscout.routing.course import route_hole_by_hole

        return route_hole_by_hole(self, self._problem, observation)


def may_be_visited(problem: RoutingProblem, observation: Observation) -> NDArray[np.bool_]:
    """(n,) holes that a policy may choose now: allowed, not visited, and within the budget where that is needed."""
    free = problem.available() & ~observation.visited
    if problem.crossing == "drop":
        minutes = problem.time_model.tiers_min(problem.shots)[problem.tree.tiers_from(observation.here)]
        free &= observation.minutes_used + minutes <= problem.budget_min + ROUNDING_MIN
    return free


class OwnPolicy(AskedHoleByHole):
    """What a policy of one's own inherits: everything that the contract asks for but `next_hole`.

    `reset` keeps the problem and the generator as `problem` and `rng`; a subclass that overrides it calls it first.
    """

    name: str = "own"
    kind: PolicyKind = "baseline"
    default_prediction: str = "combined"
    drops_crossing: bool = False
    problem: RoutingProblem
    rng: np.random.Generator

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        self.problem = self._problem = problem
        self.rng = rng

    def candidates(self, observation: Observation) -> NDArray[np.int64]:
        """Holes that may be visited now, (m,) indices in ascending order: allowed and not visited.

        Where a crossing visit is dropped, only those whose visit ends within the budget.
        """
        return np.flatnonzero(may_be_visited(self.problem, observation))


def missing_of_a_policy(policy: object) -> tuple[str, ...]:
    """Attributes and methods of the contract that an object lacks, in the contract's order."""
    return tuple(name for name in _CONTRACT if not hasattr(policy, name))


_CONTRACT = ("name", "kind", "default_prediction", "drops_crossing", "restarts", "reset", "next_hole", "plan")


class _PolicyOnProblem(Policy, Protocol):
    _problem: RoutingProblem


def belief_of(policy: Policy, problem: RoutingProblem) -> Belief:
    """The belief that the policy plans on: its own, or the problem's where it has none. Ask after `reset`."""
    return policy.belief if isinstance(policy, PlansOnBelief) else problem.belief()
