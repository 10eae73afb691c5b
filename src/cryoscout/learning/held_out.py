"""Held-out training patches: they choose the epoch, and never train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.learning.batch_env import TrainingSession
from cryoscout.learning.greedy_routes import Scores, greedy_routes
from cryoscout.learning.settings import LearnSettings
from cryoscout.learning.tables import eliminated_problem
from cryoscout.routing.bound import good_holes_bound, pseudo_reward_bound
from cryoscout.routing.outcome_draws import draw_outcomes
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import PseudoRewards, Truth
from cryoscout.session.splits import HELD_OUT_STREAM, split_by

BUDGET_SHARES = (0.25, 0.5, 0.75, 1.0)
"""Budgets of the trial routes, as shares of the training budget: the held-out part is smaller than the session."""

SMALLEST_PART = 0.25
"""Smallest share of a session's patches in a random part of it."""

STARTS = 32
"""Trial routes per session and budget."""


@dataclass(frozen=True)
class Trial:
    """Routes on one held-out session at one budget."""

    session: TrainingSession
    starts: NDArray[np.int64]
    bound: NDArray[np.float64]  # (k,) most good micrographs from each start


def split_patches(
    session: TrainingSession, share: float, rng: np.random.Generator
) -> tuple[TrainingSession, TrainingSession | None]:
    """The session without, and with nothing but, a random share of its patches; whole patches, at least one each.

    Raises InputError when a share is asked for and there are not two patches.
    """
    if share == 0:
        return session, None
    problem = session.problem
    free = problem.available()
    patches = np.unique(problem.patch_of_hole[free])
    if len(patches) < 2:
        raise InputError(
            f"A session to learn from must have two patches or more, one of them held out. Got {len(patches)} "
            "instead. Remedy: learn from a larger session."
        )
    held = split_by(problem.patch_of_hole, share, rng, among=free)
    return (
        replace(session, problem=replace(problem, allowed=free & ~held)),
        replace(session, problem=replace(problem, allowed=held)),
    )


def kept_and_trials(
    sessions: Sequence[TrainingSession], settings: LearnSettings
) -> tuple[list[TrainingSession], list[Trial], np.random.Generator]:
    """What a training with these settings learns from, the trial routes that judge it, and the generator after both.

    Which patches are held out depends on the seed and on the sessions' patches, on no prediction.
    """
    rng = np.random.default_rng([settings.seed, HELD_OUT_STREAM])
    parts = [split_patches(session, settings.held_out, rng) for session in sessions]
    trials = trials_of([held for _, held in parts if held is not None], settings, rng)
    return [kept for kept, _ in parts], trials, rng


def random_parts(session: TrainingSession, n_parts: int, rng: np.random.Generator) -> list[TrainingSession]:
    """`n_parts` random parts of a session, each with a random share of its patches; the session itself for 0 parts.

    The share is uniform between SMALLEST_PART and 1.
    """
    if n_parts == 0:
        return [session]
    problem = session.problem
    free = problem.available()
    patches = np.unique(problem.patch_of_hole[free])
    parts = []
    for _ in range(n_parts):
        count = max(1, round(float(rng.uniform(SMALLEST_PART, 1.0)) * len(patches)))
        shuffled = rng.permutation(patches)
        kept = np.isin(problem.patch_of_hole, shuffled[:count])
        while (free & kept).sum() < 2 and count < len(patches):  # one hole to start at, one to go to
            count += 1
            kept = np.isin(problem.patch_of_hole, shuffled[:count])
        parts.append(replace(session, problem=replace(problem, allowed=free & kept)))
    return parts


def trials_of(
    sessions: Sequence[TrainingSession], settings: LearnSettings, rng: np.random.Generator
) -> list[Trial]:
    """The trial routes on held-out sessions, with their real outcomes; where some are missing all are drawn once.

    Of a session with pseudo-rewards these are the outcomes: an epoch is chosen by what the training may know.
    """
    trials = []
    for session in sessions:
        outcomes = session.outcomes
        if isinstance(outcomes, Truth) and not outcomes.measured[session.problem.available()].all():
            drawn = draw_outcomes(session.problem, rng)
            outcomes = Truth(drawn, np.ones(len(drawn), dtype=bool))
        for share in BUDGET_SHARES:
            problem = replace(session.problem, budget_min=share * settings.budget_min, crossing="count")
            if settings.elimination:
                problem = eliminated_problem(problem)
            starts = rng.choice(np.flatnonzero(problem.available()), STARTS)
            bound = np.array([_bound(problem, outcomes, int(start)) for start in starts])
            trials.append(Trial(TrainingSession(problem, outcomes), starts, bound))
    return trials


def _bound(problem: RoutingProblem, outcomes: Truth | PseudoRewards, start: int) -> float:
    if isinstance(outcomes, PseudoRewards):
        return pseudo_reward_bound(problem, outcomes, start)
    return good_holes_bound(problem, outcomes, start)


def share_of_bound(trials: Sequence[Trial], settings: LearnSettings, scores: Scores) -> float:
    """Mean over trials of the good micrographs found, as a share of the most that could be found."""
    shares = []
    for trial in trials:
        rng = np.random.default_rng(0)
        found = greedy_routes(trial.session, settings.view, scores, trial.starts, rng)
        shares.append(float(found.good.sum() / max(trial.bound.sum(), 1.0)))
    return float(np.mean(shares))
