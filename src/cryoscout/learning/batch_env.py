"""Many routes stepped at once: the environment that agents are trained in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.learning.settings import ViewSettings
from cryoscout.learning.states import (
    NO_HOLE,
    Look,
    RouteStates,
    empty_states,
    look,
    start_route,
    tier_of,
    visit,
)
from cryoscout.learning.tables import RouteTables, eliminated_problem, route_tables
from cryoscout.routing.outcome_draws import draw_outcomes
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import PseudoRewards, Truth
from cryoscout.routing.reward import reward_named
from cryoscout.routing.time_model import ROUNDING_MIN


@dataclass(frozen=True)
class TrainingSession:
    """A session whose outcomes an agent may learn from.

    problem : what an agent may know; its `allowed` already reduced by action elimination where that is asked for
    outcomes : what was measured: routes visit holes with an outcome only, so holes without one must not be allowed;
        or pseudo-rewards: routes visit every hole, labelled or not
    draws : draw new outcomes from the calibrated belief for every route; measured ones are not used then
    """

    problem: RoutingProblem
    outcomes: Truth | PseudoRewards
    draws: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.outcomes, PseudoRewards):
            _check_rewards(self.outcomes, self.problem, draws=self.draws)
            return
        if self.draws:
            return
        unknown = self.problem.available() & ~self.outcomes.measured
        if unknown.any():
            raise InputError(
                "Training must have an outcome for every hole it may visit. Got "
                f"{int(unknown.sum())} holes without one instead. Remedy: leave them out, or train on draws."
            )

    @property
    def truth(self) -> Truth:
        """What was measured. Raises InputError on pseudo-rewards: nothing is judged by them."""
        if isinstance(self.outcomes, PseudoRewards):
            raise InputError(
                "A policy must be judged on what was measured. Got pseudo-rewards instead. Remedy: a session with a "
                "Truth."
            )
        return self.outcomes

    @property
    def good(self) -> NDArray[np.float64]:
        """(n,) good micrographs that a visit gives in training; a fraction where it is predicted."""
        return self.outcomes.reward if isinstance(self.outcomes, PseudoRewards) else self.outcomes.good


def _check_rewards(rewards: PseudoRewards, problem: RoutingProblem, *, draws: bool) -> None:
    if draws:
        raise InputError(
            "Training must be on draws or on pseudo-rewards. Got both instead. Remedy: leave one out."
        )
    if len(rewards.reward) != problem.n_holes:
        raise InputError(
            f"Pseudo-rewards must cover {problem.n_holes} holes. Got {len(rewards.reward)} instead."
        )
    if rewards.reward.max(initial=0.0) > problem.shots:
        raise InputError(
            f"Pseudo-rewards must be at most the {problem.shots} shots of a hole. Got {rewards.reward.max():g} instead."
        )


def check_holds_a_visit(problem: RoutingProblem) -> None:
    """Raise InputError when the problem's budget is shorter than the shortest visit."""
    shortest_min = problem.time_model.setup_min + float(problem.time_model.tiers_min(problem.shots)[0])
    if problem.budget_min < shortest_min:
        raise InputError(
            f"The budget of a training must hold a visit: {shortest_min:g} minutes or more. Got "
            f"{problem.budget_min:g} instead. Remedy: for example --budget-min 240."
        )


def session_to_learn_from(session: TrainingSession, budget_min: float, beta: float | None) -> TrainingSession:
    """The session at a training budget, reduced by action elimination with this beta, None for not at all.

    Raises InputError when the budget is shorter than the shortest visit.
    """
    problem = session.problem.with_budget(budget_min)
    check_holds_a_visit(problem)
    if beta is not None:
        reduced = eliminated_problem(problem, beta)
        if reduced.available().sum() >= 2:  # one hole to start at, one to go to
            problem = reduced
    return replace(session, problem=problem)


class Step(NamedTuple):
    """What one visit of every route gave."""

    good: NDArray[np.float32]  # (E,) good micrographs
    reward: NDArray[np.float32]  # (E,)
    terminated: NDArray[np.bool_]  # (E,) nothing is left to visit
    truncated: NDArray[np.bool_]  # (E,) the budget is used; the visit that crosses it counts


class Rules(NamedTuple):
    """Minutes and rewards by session and tier."""

    tiers_min: NDArray[np.float64]  # (S, 4)
    setup_min: NDArray[np.float64]  # (S,)
    budget_min: NDArray[np.float64]  # (S,)
    reward_of_good: NDArray[np.float64]  # (S, 4) per good micrograph
    reward_of_visit: NDArray[np.float64]  # (S, 4) whatever the visit gives; 0 or less


class BatchedRoutes:
    """E routes through S sessions.

    Every route starts at a hole that is imaged but not counted, drawn from the session's available holes; routes
    take the sessions in turn. `reset` starts a route again, `look` says what may be visited, `step` visits.
    """

    def __init__(
        self,
        sessions: Sequence[TrainingSession],
        view: ViewSettings,
        n_routes: int,
        rng: np.random.Generator,
        *,
        reward: str = "cryorl",
        tier_factors: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        """tier_factors : factors of the reward of a good micrograph by tier, same patch .. other grid."""
        self.sessions = list(sessions)
        self.view = view
        self.tables: RouteTables = route_tables([session.problem for session in sessions], view)
        self.rules = _rules(self.sessions, reward, np.array(tier_factors))
        self.states: RouteStates = empty_states(self.tables, n_routes)
        self.good = np.zeros(self.states.visited.shape, dtype=np.float32)  # outcomes of each route's session
        self.minutes = np.zeros(n_routes)
        self.start_hole = np.zeros(n_routes, dtype=np.int64)
        self.rng = rng
        self.next_session = 0
        self._starts = [np.flatnonzero(session.problem.available()) for session in self.sessions]

    @property
    def n_routes(self) -> int:
        """Number of routes E."""
        return len(self.minutes)

    def reset(self, route: int, *, session: int | None = None, start_hole: int | None = None) -> None:
        """Start a route; the session and the start hole are taken in turn and drawn unless they are named."""
        if session is None:
            session = self.next_session
            self.next_session = (self.next_session + 1) % len(self.sessions)
        if start_hole is None:
            if len(self._starts[session]) < 2:
                raise InputError(
                    "A session to learn from must have two holes or more that may be visited, one of them to start "
                    f"at. Got {len(self._starts[session])} in session {session} instead. Remedy: learn from a larger "
                    "session."
                )
            start_hole = int(self.rng.choice(self._starts[session]))
        source = self.sessions[session]
        n = source.problem.n_holes
        self.good[route, :n] = self._draw(session) if source.draws else source.good
        start_route(self.tables, self.states, route, session)
        visit(self.tables, self.states, route, start_hole, float(self.good[route, start_hole]))
        self.minutes[route] = self.rules.setup_min[session]
        self.start_hole[route] = start_hole

    def reset_all(self) -> None:
        """Start every route."""
        for route in range(self.n_routes):
            self.reset(route)

    def look(self, active: NDArray[np.bool_] | None = None) -> Look:
        """The candidates of every active route, (E,) bool, by default of all."""
        return look(self.tables, self.states, self.view.history, active)

    def step(self, holes: NDArray[np.int64]) -> Step:
        """Visit one hole per route, (E,); a route given NO_HOLE waits.

        Raises InputError when a hole is visited or not available.
        """
        step = Step(
            np.zeros(self.n_routes, dtype=np.float32),
            np.zeros(self.n_routes, dtype=np.float32),
            np.zeros(self.n_routes, dtype=np.bool_),
            np.zeros(self.n_routes, dtype=np.bool_),
        )
        refused = _step_all(self.tables, self.states, self.rules, self.good, self.minutes, holes, step)
        if refused >= 0:
            raise InputError(
                "An agent must choose a hole that is available and not visited. Got hole "
                f"{int(holes[refused])} in route {refused} instead."
            )
        return step

    def _draw(self, session: int) -> NDArray[np.float64]:
        return draw_outcomes(self.sessions[session].problem, self.rng)


def _rules(sessions: Sequence[TrainingSession], reward: str, factors: NDArray[np.float64]) -> Rules:
    problems = [session.problem for session in sessions]
    tiers = np.stack([problem.time_model.tiers_min(problem.shots) for problem in problems])
    rewards = [reward_named(reward, of_session) for of_session in tiers]
    return Rules(
        tiers_min=tiers,
        setup_min=np.array([problem.time_model.setup_min for problem in problems]),
        budget_min=np.array([problem.budget_min for problem in problems]) + ROUNDING_MIN,
        reward_of_good=np.stack([rule.tier_value for rule in rewards]) * factors,
        reward_of_visit=-np.stack([rule.tier_cost for rule in rewards]),
    )


@nb.njit(cache=True)
def _step_all(
    tables: RouteTables,
    states: RouteStates,
    rules: Rules,
    good: NDArray[np.float32],
    minutes: NDArray[np.float64],
    holes: NDArray[np.int64],
    step: Step,
) -> int:
    """Visit holes[e] in every route; returns the first route whose hole is refused, or -1."""
    for route in range(len(holes)):
        session, hole = states.session[route], holes[route]
        if hole == NO_HOLE:
            continue
        n = tables.hole_begin[session + 1] - tables.hole_begin[session]
        if hole < 0 or hole >= n or states.visited[route, hole]:
            return route
        if tables.queue_of_hole[tables.hole_begin[session] + hole] < 0:
            return route
        tier = tier_of(tables, session, states.here[route], hole)
        found = good[route, hole]
        visit(tables, states, route, hole, found)
        minutes[route] += rules.tiers_min[session, tier]
        step.good[route] = found
        step.reward[route] = (
            found * rules.reward_of_good[session, tier] + rules.reward_of_visit[session, tier]
        )
        left = 0.0
        for grid in range(tables.grid_begin[session + 1] - tables.grid_begin[session]):
            left += states.grid[route, grid, 0]
        step.terminated[route] = left < 0.5
        step.truncated[route] = minutes[route] > rules.budget_min[session]
    return -1
