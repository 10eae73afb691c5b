"""Replay: what a policy would have found, against the outcomes of holes that were really imaged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import CryoscoutError, InputError
from cryoscout.routing.policies.base import STOP, Observation, Policy
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.reward import Reward, reward_named
from cryoscout.routing.time_model import ROUNDING_MIN

ReplanEvery = int | Literal["square"]


@dataclass(frozen=True)
class Truth:
    """What the holes really gave. Only `replay` and `good_holes_bound` take it; no policy ever does."""

    good: NDArray[np.float64]  # (n,) good micrographs each hole gave, 0..shots; 0 where not measured
    measured: NDArray[np.bool_]  # (n,) whether the hole was imaged and has a result

    def __post_init__(self) -> None:
        if len(self.good) != len(self.measured):
            raise InputError(
                f"Truth must have one `good` and one `measured` per hole. Got {len(self.good)} and "
                f"{len(self.measured)} instead."
            )


@dataclass(frozen=True)
class ReplayResult:
    """One route."""

    start_hole: int
    route: NDArray[np.int64]  # (visits,) holes in order of visit, the start hole not among them
    minutes: NDArray[np.float64]  # (visits,) minutes used when the visit ended
    good: NDArray[np.float64]  # (visits,) good micrographs each visit gave
    reward: float

    @property
    def good_found(self) -> float:
        """Good micrographs of the whole route."""
        return float(self.good.sum())

    @property
    def visited(self) -> int:
        """Number of visits that count."""
        return len(self.route)


class PolicyError(CryoscoutError):
    """A policy broke its contract: a hole twice, a hole that is not allowed, a hole without an outcome."""


def replay(
    problem: RoutingProblem,
    truth: Truth,
    policy: Policy,
    starts: Iterable[int],
    seed: int,
    *,
    ctf_delay_min: float = 0.0,
    replan_every: ReplanEvery = 1,
    reward: str = "cryorl",
    progress: Callable[[], None] | None = None,
) -> list[ReplayResult]:
    """Replay the policy once from every start hole.

    problem : holes without an outcome in `truth` may not be visited
    starts : hole indices, imaged, not counted, or NOWHERE
    seed : each start gets its own generator, spawned from it, so a start's route does not depend on the others
    ctf_delay_min : minutes between the end of a visit and its result
    replan_every : results are handed to the policy only before every N-th visit, or with `square` once a new square
        has been entered (so they cannot say which square comes next)
    Whether the visit that crosses the budget counts is `problem.crossing`; a policy that drops it always drops.
    Raises PolicyError when the policy breaks its contract, InputError when an argument is out of range.
    """
    if len(truth.good) != problem.n_holes:
        raise InputError(f"Truth must cover {problem.n_holes} holes. Got {len(truth.good)} instead.")
    if not ctf_delay_min >= 0:  # NaN too
        raise InputError(f"The CTF delay must be 0 minutes or more. Got {ctf_delay_min} instead.")
    if replan_every != "square" and (not isinstance(replan_every, int) or replan_every < 1):
        raise InputError(
            f"replan_every must be a number of holes >= 1 or 'square'. Got {replan_every!r} instead."
        )
    tiers_min = problem.time_model.tiers_min(problem.shots)
    reward_rule = reward_named(reward, tiers_min)
    starts = list(starts)
    for start in starts:
        if not NOWHERE <= start < problem.n_holes:
            raise InputError(
                f"A start must be a hole index below {problem.n_holes} or NOWHERE ({NOWHERE}). Got {start} instead."
            )
    generators = [np.random.default_rng([seed, index]) for index in range(len(starts))]
    results = []
    for start, rng in zip(starts, generators, strict=True):
        results.append(
            _replay_one(
                problem, truth, policy, start, rng, tiers_min, reward_rule, ctf_delay_min, replan_every
            )
        )
        if progress is not None:
            progress()
    return results


def _replay_one(
    problem: RoutingProblem,
    truth: Truth,
    policy: Policy,
    start: int,
    rng: np.random.Generator,
    tiers_min: NDArray[np.float64],
    reward_rule: Reward,
    ctf_delay_min: float,
    replan_every: ReplanEvery,
) -> ReplayResult:
    free = problem.available() & truth.measured
    visited = np.zeros(problem.n_holes, dtype=bool) if problem.imaged is None else problem.imaged.copy()
    known = np.full(problem.n_holes, np.nan) if problem.outcome is None else problem.outcome.copy()
    if start != NOWHERE:
        visited[start], free[start] = True, False
        if truth.measured[start]:
            known[start] = truth.good[start]
    count_crossing = problem.crossing == "count" and not policy.drops_crossing
    seen_visited, seen_known = _read_only_view(visited), _read_only_view(known)
    policy.reset(problem, start, rng)
    pending: deque[tuple[float, int]] = deque()
    here, used, n_outcomes, collected = start, problem.time_model.setup_min, 0, 0.0
    route: list[int] = []
    minutes: list[float] = []
    handed_square = -1
    latest = problem.budget_min + ROUNDING_MIN
    while used <= latest:
        square = -1 if here == NOWHERE else int(problem.square_of_patch[problem.patch_of_hole[here]])
        due = square != handed_square if replan_every == "square" else len(route) % replan_every == 0
        if due:
            handed_square = square
            while pending and pending[0][0] <= used:
                hole = pending.popleft()[1]
                known[hole] = truth.good[hole]
                n_outcomes += 1
        hole = policy.next_hole(Observation(seen_visited, here, used, seen_known, n_outcomes))
        if hole == STOP:
            break
        if not (0 <= hole < problem.n_holes) or not free[hole]:
            raise PolicyError(
                f"Policy {policy.name!r} must choose an allowed, unvisited hole with an outcome. Got {hole} instead."
            )
        tier = problem.tier_between(here, hole)
        used += float(tiers_min[tier])
        if used > latest and not count_crossing:
            break
        visited[hole], free[hole] = True, False
        pending.append((used + ctf_delay_min, hole))
        route.append(hole)
        minutes.append(used)
        collected += reward_rule.of_visit(float(truth.good[hole]), tier)
        here = hole
    visits = np.array(route, dtype=np.int64)
    return ReplayResult(start, visits, np.array(minutes), truth.good[visits], collected)


def _read_only_view(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory, so that it shows every later change, but not to be written by whoever gets it."""
    view = array.view()
    view.flags.writeable = False
    return view


def random_starts(
    candidates: NDArray[np.bool_], how_many: int | Literal["all"], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Start holes among the candidates, (n,) bool: all of them in order, or `how_many` drawn with replacement."""
    holes = np.flatnonzero(candidates)
    if len(holes) == 0:
        raise InputError("Starts must be drawn from at least one hole. Got none instead.")
    return holes if how_many == "all" else rng.choice(holes, size=how_many)


def good_course(result: ReplayResult, moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """(t,) good micrographs by each moment; the visit that crosses the budget belongs to the last moment."""
    return value_at_minutes(np.minimum(result.minutes, moments[-1]), result.good, moments)


def visited_course(result: ReplayResult, moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """(t,) visits by each moment; the visit that crosses the budget belongs to the last moment."""
    return value_at_minutes(np.minimum(result.minutes, moments[-1]), np.ones(result.visited), moments)


def only_measured(problem: RoutingProblem, truth: Truth) -> RoutingProblem:
    """The problem without holes that have no outcome: replay cannot say what they would have given."""
    return replace(problem, allowed=problem.available() & truth.measured)


def value_at_minutes(
    minutes: NDArray[np.float64], amounts: NDArray[np.float64], grid_min: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Total of `amounts` of the visits that had ended by each moment.

    minutes : (visits,) ascending ends of visits     amounts : (visits,)     grid_min : (t,) moments
    Returns (t,) float64.
    """
    totals = np.concatenate([[0.0], np.cumsum(amounts)])
    return totals[np.searchsorted(minutes, grid_min, side="right")]
