"""Replay: what a policy would have found, against the outcomes of holes that were really imaged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.routing.course import Course, check_start
from cryoscout.routing.policies.base import STOP, Policy
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.reward import Reward, reward_named

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
    squares_looked: int = 0  # looks that were paid for, where looks are charged
    patches_looked: int = 0

    @property
    def good_found(self) -> float:
        """Good micrographs of the whole route."""
        return float(self.good.sum())

    @property
    def visited(self) -> int:
        """Number of visits that count."""
        return len(self.route)


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
    starts = list(starts)
    reward_rule = check_replay(problem, truth, starts, ctf_delay_min, replan_every, reward)
    generators = [np.random.default_rng([seed, index]) for index in range(len(starts))]
    results = []
    for start, rng in zip(starts, generators, strict=True):
        results.append(
            _replay_one(problem, truth, policy, start, rng, reward_rule, ctf_delay_min, replan_every)
        )
        if progress is not None:
            progress()
    return results


def check_replay(
    problem: RoutingProblem,
    truth: Truth,
    starts: list[int],
    ctf_delay_min: float,
    replan_every: ReplanEvery,
    reward: str,
) -> Reward:
    """The reward rule, where the arguments of a replay are in range; else InputError."""
    if len(truth.good) != problem.n_holes:
        raise InputError(f"Truth must cover {problem.n_holes} holes. Got {len(truth.good)} instead.")
    if not ctf_delay_min >= 0:  # NaN too
        raise InputError(f"The CTF delay must be 0 minutes or more. Got {ctf_delay_min} instead.")
    if replan_every != "square" and (not isinstance(replan_every, int) or replan_every < 1):
        raise InputError(
            f"replan_every must be a number of holes >= 1 or 'square'. Got {replan_every!r} instead."
        )
    reward_rule = reward_named(reward, problem.time_model.tiers_min(problem.shots))
    for start in starts:
        check_start(problem, start)
    return reward_rule


def _replay_one(
    problem: RoutingProblem,
    truth: Truth,
    policy: Policy,
    start: int,
    rng: np.random.Generator,
    reward_rule: Reward,
    ctf_delay_min: float,
    replan_every: ReplanEvery,
) -> ReplayResult:
    course = Course(
        problem,
        start,
        start_good=float(truth.good[start]) if start != NOWHERE and truth.measured[start] else None,
        may_visit=truth.measured,
        counts_crossing=problem.crossing == "count" and not policy.drops_crossing,
    )
    policy.reset(problem, start, rng)
    pending: deque[tuple[float, int]] = deque()
    collected = 0.0
    handed_square = -1
    while not course.is_over():
        square = -1
        if course.here != NOWHERE:
            square = int(problem.square_of_patch[problem.patch_of_hole[course.here]])
        due = square != handed_square if replan_every == "square" else len(course) % replan_every == 0
        if due:
            handed_square = square
            while pending and pending[0][0] <= course.minutes_used:
                known = pending.popleft()[1]
                course.take_result(known, float(truth.good[known]))
        hole = course.ask(policy)
        if hole == STOP:
            break
        tier = course.visit(hole)
        pending.append((course.minutes_used + ctf_delay_min, hole))
        collected += reward_rule.of_visit(float(truth.good[hole]), tier)
    return ReplayResult(start, course.route, course.minutes, truth.good[course.route], collected)


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
