"""Replay: what a policy would have found, against the outcomes of holes that were really imaged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
    """What the holes really gave. `replay`, `good_holes_bound` and a training take it; no policy ever does."""

    good: NDArray[np.float64]  # (n,) good micrographs each hole gave, 0..shots; 0 where not measured
    measured: NDArray[np.bool_]  # (n,) whether the hole was imaged and has a result

    def __post_init__(self) -> None:
        if len(self.good) != len(self.measured):
            raise InputError(
                f"Truth must have one `good` and one `measured` per hole. Got {len(self.good)} and "
                f"{len(self.measured)} instead."
            )


REWARD_STEP = 2.0**-12
"""Pseudo-rewards are multiples of this: the sum of a route is exact in 32 bits, in whatever order it is visited."""


@dataclass(frozen=True)
class PseudoRewards:
    """What the holes are taken to give where few are measured: outcomes of labelled holes, predictions of the others.

    A policy may be trained on them (`learning`); it is never judged on them: `replay` and `good_holes_bound` take a
    `Truth`. Outcomes of holes without a label are not in here at all.
    Raises InputError for another shape, and rewards that are not finite and 0 or more.
    """

    reward: NDArray[
        np.float64
    ]  # (n,) good micrographs, 0..shots; a fraction where predicted, kept to REWARD_STEP
    is_label: NDArray[np.bool_]  # (n,) whether it was measured

    def __post_init__(self) -> None:
        if (
            self.reward.ndim != 1
            or self.is_label.shape != self.reward.shape
            or self.is_label.dtype != np.bool_
        ):
            raise InputError(
                f"Pseudo-rewards must have one number and one bool per hole. Got {self.reward.dtype} "
                f"{self.reward.shape} and {self.is_label.dtype} {self.is_label.shape} instead."
            )
        wrong = np.flatnonzero(~((self.reward >= 0.0) & np.isfinite(self.reward)))
        if len(wrong):
            raise InputError(
                f"Pseudo-rewards must be finite and 0 or more. Got {self.reward[wrong[0]]} for hole {wrong[0]} instead."
            )
        object.__setattr__(self, "reward", np.round(self.reward / REWARD_STEP) * REWARD_STEP)

    @classmethod
    def of(cls, labels: NDArray[np.float64], p_good: NDArray[np.float64], shots: int = 1) -> PseudoRewards:
        """The outcome where there is a label, else the good micrographs to be expected.

        labels : (n,) good micrographs of labelled holes, NaN of the others     p_good : (n,) 0..1
        Raises InputError for two lengths, and for a p_good outside 0..1 where there is no label.
        """
        if labels.shape != p_good.shape:
            raise InputError(
                f"Labels and p_good must be of the same holes. Got {labels.shape} and {p_good.shape} instead."
            )
        is_label = ~np.isnan(labels)
        wrong = np.flatnonzero(~is_label & ~((p_good >= 0.0) & (p_good <= 1.0)))
        if len(wrong):
            raise InputError(
                f"p_good of a pseudo-reward must lie in 0..1. Got {p_good[wrong[0]]} for hole {wrong[0]} instead."
            )
        return cls(np.where(is_label, labels, shots * p_good), is_label)


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
