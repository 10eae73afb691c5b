"""The advice for a session that runs: one function of what is known now, what is left, and what was said.

`RunningPlanner.advise` turns where the session stands (imaged holes, results, the microscope's place, minutes left),
the overrides and the plan that stands into a `RunningAdvice`. It follows results at the cost of what they change: the
policy is started once for a setting and then only told what is new. A planner started anew on the same state gives the
same advice, as the policies promise (`restarts`; others are started anew each time).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cryoscout.advice.obeyed import Obeyed, PlaceIndex, obeyed
from cryoscout.advice.outlook import Outlook, outlook
from cryoscout.advice.running_looks import counts_by_moments, next_looks
from cryoscout.advice.setting import AdviceRequest, Setting, setting_of
from cryoscout.advice.shortest_way import as_listed, positions_of
from cryoscout.advice.walk import Walk, stays, walked
from cryoscout.advice.work_list import PlaceNames, PlannedLook, place_names
from cryoscout.belief.counts import Belief
from cryoscout.core.hole_tree import StagePlace
from cryoscout.core.settings import Settings
from cryoscout.routing.course import Course
from cryoscout.routing.from_session import is_planned_as_new, stands_at_a_look
from cryoscout.routing.policies.base import (
    STOP,
    LookingPolicy,
    Observation,
    PlansOnBelief,
    Policy,
    TakesIn,
    belief_of,
)
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.session.overrides import Overrides

if TYPE_CHECKING:
    from cryoscout.session.model import Session

STANDS_AT = 0.75
"""By default the planned holes of the open patch stand while their good micrographs per minute are at least this share
of what the whole plan gives: without it a patch that turns out bad would be imaged to its end."""
HYSTERESIS = 0.05
"""Good micrographs; larger ones lose many small gains."""
_NOTE_ON_FORECAST = (
    "The forecast holds the holes that are seen; this policy does not look into what is not seen."
)
SHOWN = 20
"""Holes of an advice that are listed."""


class CalmSettings(Settings):
    """How calm a plan stays while results come."""

    committed: Annotated[int, Field(ge=0)] | None = None
    """So many holes of the plan stand; None: those of the open patch, see STANDS_AT."""
    hysteresis: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = HYSTERESIS
    """Good micrographs that a change of the rest must gain."""
    time_limit_s: Annotated[float, Field(gt=0.0)] = 5.0
    """Planning that takes longer leaves the plan that stands, for policies that are asked hole by hole."""

    @property
    def plans_freely(self) -> bool:
        """Whether every result may change the whole plan."""
        return self.committed == 0 and self.hysteresis == 0.0


@dataclass(frozen=True)
class Now:
    """Where a running session stands."""

    imaged: NDArray[np.bool_]  # (n,) holes of which an exposure was taken
    outcome: NDArray[np.float64]  # (n,) good micrographs so far, NaN where no result is known
    results: NDArray[np.float64]  # (n,) shots with a result
    here: int  # last hole imaged, or NOWHERE
    minutes_left: float
    awaited: NDArray[np.float64] | None = (
        None  # (n,) shots taken without a result; None: those lacking of imaged holes
    )
    overrides: Overrides = field(default_factory=Overrides)
    revision: int = 0  # of the events that are in it
    at: StagePlace | None = None  # where a look has left the stage since the last exposure; None: at `here`

    def patch_in(self, problem: RoutingProblem) -> int:
        """The patch that the stage is in, or NOWHERE."""
        if self.at is not None:
            return self.at.patch
        return NOWHERE if self.here == NOWHERE else int(problem.patch_of_hole[self.here])

    def square_in(self, problem: RoutingProblem) -> int:
        """The square that the stage is over, or NOWHERE."""
        if self.at is not None:
            return self.at.square
        return NOWHERE if self.here == NOWHERE else int(problem.square_of_hole[self.here])

    def shots_taken(self, shots: int) -> int:
        """Exposures so far.     shots : of every hole"""
        return int(self.results.sum() + self.shots_awaited(shots).sum())

    def shots_awaited(self, shots: int) -> NDArray[np.float64]:
        """(n,) shots that were taken and have no result yet.     shots : of every hole"""
        return np.where(self.imaged, shots - self.results, 0.0) if self.awaited is None else self.awaited


@dataclass(frozen=True)
class Standing:
    """The plan that was advised last."""

    holes: tuple[int, ...] = ()
    said: Overrides | None = None  # what held when it was made
    setting: int = -1  # number of the planner's setting


@dataclass(frozen=True)
class RunningAdvice:
    """What to image next, what it will give, and what the belief says of every hole."""

    revision: int
    problem: RoutingProblem
    names: PlaceNames
    now: Now
    walk: Walk  # the plan, from here to the end of the minutes left
    committed: int  # so many of its first holes stand
    p_good: NDArray[np.float64]  # (n,) as believed now
    said: Obeyed
    seed: int  # of the draws of the outlook
    standing: Standing
    kept: bool  # whether the plan that stood was kept although planning anew would have changed it
    took_s: float
    notes: tuple[str, ...] = ()
    looks: tuple[PlannedLook, ...] = ()  # what is looked at next, before any hole is imaged; empty: image
    learns: bool = False  # whether the policy plans on the results, so that it will find more than this plan
    explored: NDArray[np.int64] | None = None
    """(draws, t) good micrographs from now to each moment of the outlook where places are unseen; None: of the walk."""
    looks_about: bool = False  # whether the policy looks into what is not seen

    @cached_property
    def outlook(self) -> Outlook:
        """How many good micrographs there will be, and by when; drawn when it is asked for."""
        awaited = self.now.shots_awaited(self.problem.shots)
        known = (self.now.outcome, self.now.results, awaited)
        left_min, seed = self.now.minutes_left, self.seed
        return outlook(
            self.problem,
            *known,
            self.walk,
            left_min,
            seed,
            plans_again=self.learns,
            explored=self.explored,
        )

    @property
    def unseen_squares(self) -> NDArray[np.bool_]:
        """(S,) squares that may still be looked into, or have such a patch."""
        places = self.problem.places
        if places is None:
            return np.zeros(len(self.names.squares), dtype=bool)
        return places.unseen_squares(self.problem.tree)

    @property
    def next_hole(self) -> int | None:
        """The hole to image next; None where there is none, a look comes first, or the session is paused."""
        is_next = len(self.walk) and not self.looks and not self.now.overrides.is_paused
        return int(self.walk.holes[0]) if is_next else None


class RunningPlanner:
    """Plans one running session; not for several threads at once."""

    def __init__(self, session: Session, request: AdviceRequest, calm: CalmSettings | None = None) -> None:
        """session : as it is now     request : minutes are those left now; its other fields hold until `resolve`.

        Raises the errors of `setting_of`.
        """
        self.calm = calm or CalmSettings()
        self.request = request
        self._number = 0
        self._news = 0
        self.resolve(session)

    def resolve(self, session: Session) -> None:
        """Take the session's places, predictions, times and threshold anew: after imports, predictions, thresholds."""
        self.setting: Setting = setting_of(session, self.request, may_be_empty=True)
        self.problem = self.setting.problem
        self.names = place_names(session)
        # On the stage alone: where only places on pictures are known, a session that is played, whose table has
        # those of the recorded one, goes hole for hole the route of `replay`.
        self.positions = positions_of(session).of_the_stage()
        self.index = PlaceIndex(
            dict(zip(self.names.holes, range(len(self.names.holes)), strict=True)),
            dict(zip(self.names.squares, range(len(self.names.squares)), strict=True)),
        )
        self._square_of_hole = self.problem.square_of_hole
        self._started = False
        self._number += 1
        as_new = is_planned_as_new(session, self.request.as_new)
        self._look = None if as_new else stands_at_a_look(session, self.request.loaded)
        self._taken = int((session.exposures["outcome"] != "none").sum())

    @property
    def number(self) -> int:
        """Which setting holds; another one whenever `resolve` was called."""
        return self._number

    def advise(self, now: Now, standing: Standing | None = None) -> RunningAdvice:
        """The advice for a session as it stands.

        standing : the plan advised last, None for none; the first holes of it stand, the rest changes only for a gain
        Raises PolicyError when the policy breaks its contract.
        """
        from cryoscout.routing.policies.explore import Explore

        began = time.monotonic()
        if self._look is not None and now.shots_taken(self.problem.shots) == self._taken:
            now = replace(now, at=self._look)  # nothing was imaged since
        said = obeyed(now.overrides, self.index, self._square_of_hole)
        self._leave_out(said.squares_out)
        looks_about = self.problem.has_unseen and isinstance(self.setting.policy, LookingPolicy)
        if not self.problem.n_holes and not looks_about:
            return self._nothing_known(now, said)
        blocked = now.imaged | said.out
        observation = self._observation(now, blocked)
        policy = self._policy(now, observation)
        p_good = self._belief(policy, now, observation).p_good()
        free = self.problem.available() & ~blocked
        planning = _Planning(self, policy, now, observation, said, free, p_good, began)
        route, committed, kept = planning.calm_route(standing)
        walk = walked(self.problem, now.here, route, now.minutes_left, now.at)
        looks: tuple[PlannedLook, ...] = ()
        explored = None
        if isinstance(policy, Explore) and self.problem.has_unseen:
            seed = self.request.seed
            looks = next_looks(policy, self.problem, self.names, observation, said, now, free, walk, seed)
            explored = counts_by_moments(policy, observation, now, seed)
        return RunningAdvice(
            now.revision,
            self.problem,
            self.names,
            now,
            walk,
            min(committed, len(walk)),
            p_good,
            said,
            self.request.seed,
            Standing(tuple(route), now.overrides, self._number),
            kept,
            time.monotonic() - began,
            (
                *((_NOTE_ON_FORECAST,) if self.problem.has_unseen and explored is None else ()),
                *self.setting.prediction.notes,
                *self.setting.prediction.cautions,
                *self.setting.time_notes,
            ),
            looks,
            isinstance(policy, PlansOnBelief),
            explored,
            looks_about,
        )

    def _leave_out(self, squares_out: NDArray[np.bool_]) -> None:
        """Squares that operators banned or skipped are not looked into; the policy is started anew where that changes,
        because what a minute is worth depends on what may be looked at."""
        places = self.problem.places
        if places is None:
            return
        before = np.zeros_like(squares_out) if places.square_out is None else places.square_out
        if not np.array_equal(before, squares_out):
            self.problem = replace(self.problem, places=replace(places, square_out=squares_out.copy()))
            self._started = False

    def _nothing_known(self, now: Now, said: Obeyed) -> RunningAdvice:
        """The advice before any hole is known: there is nothing to choose."""
        walk = walked(self.problem, now.here, (), now.minutes_left, now.at)
        standing = Standing((), now.overrides, self._number)
        return RunningAdvice(
            now.revision,
            self.problem,
            self.names,
            now,
            walk,
            0,
            np.empty(0),
            said,
            self.request.seed,
            standing,
            False,
            0.0,
        )

    def _observation(self, now: Now, blocked: NDArray[np.bool_]) -> Observation:
        """What the policy sees: holes that are banned look visited to it, but give no result."""
        self._news += 1
        return Observation(
            visited=blocked,
            here=now.here,
            minutes_used=self.problem.budget_min - now.minutes_left,
            outcome=now.outcome,
            news=self._news,
            results=now.results,
            at=now.at,
        )

    def _policy(self, now: Now, observation: Observation) -> Policy:
        policy = self.setting.policy
        if not self._started or not policy.restarts:
            if not policy.restarts:
                self.problem = replace(
                    self.problem,
                    imaged=observation.visited.copy(),
                    outcome=now.outcome.copy(),
                    results=now.results.copy(),
                )
            policy.reset(self.problem, now.here, np.random.default_rng(self.request.seed))
            self._started = True
        return policy

    def _belief(self, policy: Policy, now: Now, observation: Observation) -> Belief:
        """The policy's own belief with all results, else the problem's."""
        if isinstance(policy, TakesIn):
            policy.take_in(observation)
            return belief_of(policy, self.problem)
        return replace(self.problem, outcome=now.outcome, results=now.results).belief()


@dataclass
class _Planning:
    """One call of `advise`."""

    planner: RunningPlanner
    policy: Policy
    now: Now
    observation: Observation
    said: Obeyed
    free: NDArray[np.bool_]
    p_good: NDArray[np.float64]
    began: float
    may_give_up: bool = False  # whether there is a plan that stands

    def calm_route(self, standing: Standing | None) -> tuple[list[int], int, bool]:
        """(holes in order, how many of the first stand, whether the plan that stood was kept)."""
        calm = self.planner.calm
        left = [] if standing is None else [hole for hole in standing.holes if self.free[hole]]
        self.may_give_up = bool(left)
        is_new = (
            standing is None
            or not left
            or standing.said != self.now.overrides
            or standing.setting != self.planner.number
            or self._has_lost(standing)
        )
        if is_new or calm.plans_freely:
            planned = self._anew(())
            return (left, 0, True) if planned is None else (planned, self._committed(planned), False)
        kept = left[: self._committed(left)]
        candidate = self._anew(kept)
        if candidate is None:
            return left, len(kept), True
        stands = self._extended(left, candidate)
        if candidate == stands:
            return stands, self._committed(stands), False
        gain = self._value(candidate) - self._value(stands)
        route = candidate if gain > calm.hysteresis else stands
        return route, self._committed(route), route is stands

    def _committed(self, route: Sequence[int]) -> int:
        """How many of the first holes stand."""
        calm = self.planner.calm
        if calm.committed is not None:
            return min(calm.committed, len(route))
        problem, p_good = self.planner.problem, self.p_good
        patch = self.now.patch_in(problem)
        if patch == NOWHERE or not route:
            return 0
        first = stays(problem, route)[0]
        if problem.patch_of_hole[first[0]] != patch:
            return 0
        walk = walked(problem, self.now.here, route, self.now.minutes_left, self.now.at)
        if not len(walk):
            return 0
        good_per_min = float(p_good[walk.holes].mean()) / (float(walk.minutes[-1]) / len(walk))
        least = STANDS_AT * good_per_min * float(problem.time_model.tiers_min(problem.shots)[0])
        return next((number for number, hole in enumerate(first) if p_good[hole] < least), len(first))

    def _has_lost(self, standing: Standing) -> bool:
        """Whether a hole of the plan can no longer be imaged although it was not."""
        holes = np.array(standing.holes, dtype=np.int64)
        return bool((~self.free[holes] & ~self.now.imaged[holes]).any())

    def _value(self, route: Sequence[int]) -> float:
        """Good micrographs to be expected of what fits of a route."""
        walk = walked(self.planner.problem, self.now.here, route, self.now.minutes_left, self.now.at)
        return float(self.planner.problem.shots * self.p_good[walk.holes].sum())

    def _extended(self, route: list[int], candidate: Sequence[int]) -> list[int]:
        """The route with what else of the candidate fits behind it: a plan that stands uses its minutes too."""
        there = set(route)
        return [*route, *(hole for hole in candidate if hole not in there)]

    def _anew(self, kept: Sequence[int]) -> list[int] | None:
        """The best plan that begins with the kept holes; None where planning took too long."""
        problem, now = self.planner.problem, self.now
        first = [hole for hole in self.said.first if self.free[hole]]
        begun = [*first, *(hole for hole in kept if hole not in first)]
        walk = walked(problem, now.here, begun, now.minutes_left, now.at)
        begin = walk.holes.tolist()
        observation = self.observation
        if begin:
            visited = observation.visited.copy()
            visited[walk.holes] = True
            observation = replace(
                observation,
                visited=visited,
                here=begin[-1],
                at=None,
                minutes_used=observation.minutes_used + float(walk.minutes[-1]),
            )
        rest = self._route(observation)
        if rest is None:
            return None
        planned = [*begin, *rest]
        at_um, left_min = self.planner.positions, now.minutes_left
        return as_listed(
            problem, now.here, planned, self.said, self.free, self.p_good, left_min, at_um, begin, now.at
        )

    def _route(self, observation: Observation) -> list[int] | None:
        """The policy's route to the end of the minutes; None past the time limit."""
        problem = self.planner.problem
        if observation.minutes_used >= problem.budget_min or not self.free.any():
            return []
        asked = deepcopy(self.policy, {id(problem): problem})
        course = Course.seen_as(problem, observation, counts_crossing=False)
        route: list[int] = []
        while course.free.any():
            hole = course.ask(asked)
            if hole == STOP:
                break
            course.visit(hole)
            route.append(hole)
            if self.may_give_up and time.monotonic() - self.began > self.planner.calm.time_limit_s:
                return None
        return route
