"""The one stepper: where a route stands, what its next visit costs, and which results are known by then.

Replays, whole plans, the conformance checker and live sessions all step through it; compiled loops are tested
against it.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import CryoscoutError, InputError
from cryoscout.core.hole_tree import StagePlace
from cryoscout.routing.places import Look, Step
from cryoscout.routing.policies.base import STOP, Observation, Policy, next_step_of
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN


class PolicyError(CryoscoutError):
    """A policy broke its contract: a hole twice, a hole that is not allowed, a hole without an outcome."""


def check_start(problem: RoutingProblem, start_hole: int) -> None:
    """Raise InputError where a start is neither a hole of the problem nor NOWHERE."""
    if not NOWHERE <= start_hole < problem.n_holes:
        raise InputError(
            f"A start must be a hole index below {problem.n_holes} or NOWHERE ({NOWHERE}). Got {start_hole} instead."
        )


class Course:
    """One route as it goes: its start, its visits in order, and the results in the order they were handed over.

    problem : what was known before; holes imaged then are never visited
    start_hole : index, already imaged, not counted, or NOWHERE
    start_good : good micrographs of the start hole, all its shots; None where no result is known
    may_visit : (n,) bool, holes with an outcome, of a replay: no other can be visited; None for all
    counts_crossing : whether the visit that crosses the budget counts; None takes the problem's rule
    Raises InputError for a start that is no hole.
    """

    def __init__(
        self,
        problem: RoutingProblem,
        start_hole: int = NOWHERE,
        *,
        start_good: float | None = None,
        may_visit: NDArray[np.bool_] | None = None,
        counts_crossing: bool | None = None,
    ) -> None:
        check_start(problem, start_hole)
        n = problem.n_holes
        self.problem = problem
        self.start_hole = start_hole
        self.here = start_hole
        stands_at = problem.stands_at
        self.at: StagePlace = problem.tree.place_of(start_hole if stands_at is None else stands_at)
        """Where the stage stands; a look moves it as a visit does."""
        self.minutes_used = problem.time_model.setup_min
        self.news = 0
        """How often a result was handed over."""
        self.counts_crossing = problem.crossing == "count" if counts_crossing is None else counts_crossing
        self._latest_min = problem.budget_min + ROUNDING_MIN
        self._tiers_min: list[float] = problem.time_model.tiers_min(problem.shots).tolist()
        self._what = "hole" if may_visit is None else "hole with an outcome"
        self._free = problem.available() if may_visit is None else problem.available() & may_visit
        self._visited = np.zeros(n, dtype=bool) if problem.imaged is None else problem.imaged.copy()
        self._outcome = np.full(n, np.nan) if problem.outcome is None else problem.outcome.copy()
        self._results = problem.known_results()[1].copy()
        if start_hole != NOWHERE:
            self._visited[start_hole], self._free[start_hole] = True, False
            if start_good is not None:
                self._outcome[start_hole], self._results[start_hole] = start_good, problem.shots
        self._seen = tuple(_read_only(each) for each in (self._visited, self._outcome, self._results))
        self._route: list[int] = []
        self._tiers: list[int] = []
        self._minutes: list[float] = []

    @classmethod
    def seen_as(cls, problem: RoutingProblem, observation: Observation, counts_crossing: bool) -> Course:
        """A course that stands where an observation was made; its visits so far are not listed."""
        course = cls(problem, observation.here, counts_crossing=counts_crossing)
        course.at = problem.tree.place_of(observation.where)
        course.minutes_used, course.news = observation.minutes_used, observation.news
        course._visited[:] = observation.visited
        course._free &= ~observation.visited
        course._outcome[:] = observation.outcome
        if observation.results is not None:
            course._results[:] = observation.results
        return course

    def __len__(self) -> int:
        """Visits so far."""
        return len(self._route)

    @property
    def route(self) -> NDArray[np.int64]:
        """(visits,) holes in order of visit, the start hole not among them."""
        return np.array(self._route, dtype=np.int64)

    @property
    def tiers(self) -> NDArray[np.int64]:
        """(visits,) tier of each visit: 0 same patch, 1 new patch, 2 new square, 3 new grid."""
        return np.array(self._tiers, dtype=np.int64)

    @property
    def minutes(self) -> NDArray[np.float64]:
        """(visits,) minutes used when each visit ended."""
        return np.array(self._minutes, dtype=np.float64)

    @property
    def free(self) -> NDArray[np.bool_]:
        """(n,) holes that may still be visited. A view, not to be written."""
        return _read_only(self._free)

    def is_over(self) -> bool:
        """Whether the budget is passed: only a crossing visit that counts can do it."""
        return self.minutes_used > self._latest_min

    def may_visit(self, hole: int) -> bool:
        """Whether the hole exists, is allowed and is not visited; whether it fits the budget is another matter."""
        return 0 <= hole < len(self._free) and bool(self._free[hole])

    def ends_min(self, hole: int) -> float:
        """Minutes used when a visit of the hole would have ended."""
        return self.minutes_used + self._tiers_min[self._tier_to(hole)]

    def _tier_to(self, hole: int) -> int:
        tree = self.problem.tree
        return tree.tier_from(self.at, tree.place_of(hole))

    def look_ends_min(self, look: Look) -> float:
        """Minutes used when the look would have ended."""
        tree, model, shots = self.problem.tree, self.problem.time_model, self.problem.shots
        if look.level == "patch":
            by_tier, there = model.patch_look_by_tier_min(shots), tree.place_of_patch(look.index)
        else:
            by_tier, there = model.square_look_by_tier_min(shots), tree.place_of_square(look.index)
        return self.minutes_used + float(by_tier[tree.tier_from(self.at, there)])

    def first_look_ends_min(self) -> float:
        """Minutes used when the shortest look of those that may be would have ended; inf without one."""
        places, tree = self.problem.places, self.problem.tree
        if places is None:
            return math.inf
        unseen = places.unseen_squares(tree)
        looks = [Look("square", int(each)) for each in np.flatnonzero(unseen & ~places.square_looked)]
        patches = np.flatnonzero(unseen[tree.square_of_patch] & ~places.patch_looked)
        looks += [Look("patch", int(each)) for each in patches]
        return min(map(self.look_ends_min, looks), default=math.inf)

    def may_look(self, look: Look) -> bool:
        """Whether the place exists and was not looked at; whether the look fits the budget is another matter."""
        places = self.problem.places
        if places is None:
            return False
        looked = places.patch_looked if look.level == "patch" else places.square_looked
        return 0 <= look.index < len(looked) and not looked[look.index]

    def takes_look(self, look: Look) -> bool:
        """Whether the look ends within the budget: nothing is found by one that does not."""
        return self.look_ends_min(look) <= self._latest_min

    def look(self, look: Look) -> None:
        """Make the look; what it shows is not in this problem. Raises PolicyError for a place that may not be."""
        if not self.may_look(look):
            raise PolicyError(
                f"A look must be at a square or patch that was not looked at. Got {look} instead."
            )
        self.minutes_used = self.look_ends_min(look)
        tree = self.problem.tree
        self.at = (
            tree.place_of_patch(look.index) if look.level == "patch" else tree.place_of_square(look.index)
        )

    def takes(self, hole: int) -> bool:
        """Whether a visit of the hole would count: within the budget, or crossing it where that counts."""
        return self.counts_crossing or self.ends_min(hole) <= self._latest_min

    def visit(self, hole: int) -> int:
        """Image the hole; its tier. Raises PolicyError for a hole that may not be visited."""
        if not self.may_visit(hole):
            raise PolicyError(f"A visit must be of an allowed, unvisited hole. Got {hole} instead.")
        tier = self._tier_to(hole)
        self.minutes_used += self._tiers_min[tier]
        self._visited[hole], self._free[hole] = True, False
        self._route.append(hole)
        self._tiers.append(tier)
        self._minutes.append(self.minutes_used)
        self.here = hole
        self.at = self.problem.tree.place_of(hole)
        return tier

    def take_result(self, hole: int, good: float, shots: int | None = None) -> None:
        """Hand over a hole's results so far: good micrographs among `shots` (None: all its shots)."""
        self._outcome[hole] = good
        self._results[hole] = self.problem.shots if shots is None else shots
        self.news += 1

    def observation(self) -> Observation:
        """What a policy may see now. Its arrays are views that follow the course and cannot be written."""
        visited, outcome, results = self._seen
        return Observation(visited, self.here, self.minutes_used, outcome, self.news, results, self.at)

    def ask(self, policy: Policy) -> int:
        """The hole that the policy wants next, or STOP; also STOP where its visit would not count.

        Raises PolicyError where it names a hole that may not be visited.
        """
        return self._checked(policy, policy.next_hole(self.observation()))

    def ask_step(self, policy: Policy) -> Step:
        """As `ask`, and a policy may want a look instead. Raises PolicyError for one at a place that may not be."""
        step = next_step_of(policy, self.observation())
        if not isinstance(step, Look):
            return self._checked(policy, step)
        if not self.may_look(step):
            raise PolicyError(
                f"Policy {policy.name!r} must look at a square or patch that was not looked at. Got {step} instead."
            )
        return step if self.takes_look(step) else STOP

    def _checked(self, policy: Policy, hole: int) -> int:
        if not isinstance(hole, int | np.integer):
            raise PolicyError(
                f"Policy {policy.name!r} must answer with the whole number of a hole, or STOP. Got {hole!r} instead."
            )
        if hole == STOP:
            return STOP
        if not self.may_visit(hole):
            raise PolicyError(
                f"Policy {policy.name!r} must choose an allowed, unvisited {self._what}. Got {hole} instead."
            )
        return hole if self.takes(hole) else STOP

    def remaining(self) -> RoutingProblem:
        """The problem that a policy started now would face: holes imaged, results known, minutes that are left.

        Raises InputError when no minute is left.
        """
        problem = self.problem
        return replace(
            problem,
            imaged=self._visited.copy(),
            outcome=self._outcome.copy(),
            results=self._results.copy(),
            allowed=self._free.copy(),
            budget_min=problem.budget_min - self.minutes_used,
            time_model=problem.time_model.model_copy(update={"setup_min": 0.0}),
            stands_at=None if self.at == problem.tree.place_of(self.here) else self.at,
        )


def route_hole_by_hole(policy: Policy, problem: RoutingProblem, observation: Observation) -> list[int]:
    """What `next_hole` of a copy of the policy gives, visit after visit, with nothing new to learn.

    policy : after `reset` on this problem; it is not changed     observation : where the route stands
    Raises PolicyError when the policy chooses a hole that is not allowed or was visited.
    """
    asked = deepcopy(policy, {id(problem): problem})
    counts_crossing = problem.crossing == "count" and not policy.drops_crossing
    course = Course.seen_as(problem, observation, counts_crossing)
    while not course.is_over():
        hole = course.ask(asked)
        if hole == STOP:
            break
        course.visit(hole)
    route: list[int] = course.route.tolist()
    return route


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory, so that it shows every later change, but not to be written by whoever gets it."""
    view = array.view()
    view.flags.writeable = False
    return view
