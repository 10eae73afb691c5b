"""From a session to what an agent is trained on, and a digest that tells whether two trainings saw the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import DataError, InputError
from cryoscout.core.telling import SILENT, Telling
from cryoscout.learning.batch_env import TrainingSession, check_holds_a_visit
from cryoscout.learning.seen_holes import TRAINING_SPLIT
from cryoscout.routing.from_session import problem_from_session, truth_from_session
from cryoscout.routing.predictions import PAPER_MODEL, prediction_of
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import PseudoRewards, Truth
from cryoscout.routing.times import time_model_for
from cryoscout.session.builtin import BUILTIN_SESSIONS
from cryoscout.session.model import Session
from cryoscout.session.named import load_session


def load_to_learn_from(
    specs: Sequence[str], split: str | None = None, telling: Telling = SILENT
) -> list[Session]:
    """The sessions of these names and folders; of built-in ones the training split unless `split` names another.

    Raises the errors of `load_session`; InputError for both built-in sessions at once: each split of the one holds
    validation holes of the other.
    """
    if set(specs) & set(BUILTIN_SESSIONS):
        sessions = [
            load_session(spec, (split or TRAINING_SPLIT) if spec in BUILTIN_SESSIONS else None, telling)
            for spec in specs
        ]
    else:
        sessions = [load_session(spec, split, telling) for spec in specs]
    if len({session.info.dataset for session in sessions} & set(BUILTIN_SESSIONS)) > 1:
        raise InputError(
            f"Only one of {', '.join(BUILTIN_SESSIONS)} must be learned from: they are two splits of one session, and "
            "each holds validation holes of the other. Got both instead. Remedy: leave one out."
        )
    return sessions


def training_session(
    session: Session,
    *,
    budget_min: float,
    prediction: str | None = None,
    default_prediction: str = PAPER_MODEL,
    time_model: str | None = None,
    draws: bool = False,
    labelled: NDArray[np.bool_] | None = None,
) -> tuple[TrainingSession, str, tuple[str, ...]]:
    """(what is trained on, the name of its prediction, notes for the user on what was chosen for them).

    prediction : None takes the default one, or the nearest thing the session has: without predictions one p_good
        for all
    time_model : None for the session's default
    draws : outcomes are drawn from the calibrated belief, and those of the session are not used
    labelled : (n,) learn on pseudo-rewards: the outcomes of these holes and the prediction of all others, whose
        outcomes are not read
    Holes are as new; without draws and pseudo-rewards, those without an outcome are left out.
    Raises DataError for a session without outcomes, InputError for a budget that no visit fits into or labelled holes
    without an outcome, and the errors of the parts.
    """
    threshold = session.info.threshold_angstrom
    predicted = prediction_of(session, prediction, default_prediction, threshold)
    notes = predicted.notes
    model, model_notes = time_model_for(session, time_model)
    truth = truth_from_session(session, threshold)
    if not draws and labelled is None and not truth.measured.any():
        raise DataError(
            f"Session {session.name} must have holes with an outcome to learn from. Got none of {session.n_holes} "
            "instead. Remedy: import it with its CTF results, or add --draws to learn from outcomes drawn from the "
            "prediction."
        )
    problem = problem_from_session(
        session,
        prediction=predicted,
        budget_min=budget_min,
        time_model=model,
        threshold_angstrom=threshold,
        crossing="count",
        as_new=True,
    )
    check_holds_a_visit(problem)
    if labelled is not None:
        rewards = _pseudo_rewards(problem, truth, labelled)
        return TrainingSession(problem, rewards, draws), predicted.name, (*notes, *model_notes)
    if not draws:
        left_out = int((~truth.measured).sum())
        problem = replace(problem, allowed=problem.available() & truth.measured)
        if left_out:
            notes = (*notes, f"{left_out} holes of session {session.name} without an outcome are left out.")
    return TrainingSession(problem, truth, draws), predicted.name, (*notes, *model_notes)


def _pseudo_rewards(problem: RoutingProblem, truth: Truth, labelled: NDArray[np.bool_]) -> PseudoRewards:
    if labelled.shape != (problem.n_holes,) or labelled.dtype != np.bool_:
        raise InputError(
            f"Labelled holes must be a boolean array of shape ({problem.n_holes},). Got {labelled.dtype} "
            f"{labelled.shape} instead."
        )
    without = int((labelled & ~truth.measured).sum())
    if without:
        raise InputError(f"Labelled holes must have an outcome. Got {without} without one instead.")
    return PseudoRewards.of(np.where(labelled, truth.good, np.nan), problem.prior_p_good, problem.shots)


def data_digest(sessions: Sequence[TrainingSession]) -> str:
    """Digest of everything in these sessions that a training sees: two trainings with the same one can go on from
    each other."""
    digest = hashlib.sha256()
    for session in sessions:
        problem = session.problem
        drawn_from = problem.effects.as_tuple() if session.draws else ()
        arrays: tuple[NDArray[Any], ...] = (
            problem.patch_of_hole,
            problem.square_of_patch,
            problem.grid_of_square,
            problem.prior_p_good,
            problem.available(),
            problem.time_model.tiers_min(problem.shots),
            session.good,
            np.array(drawn_from),
        )
        if isinstance(session.outcomes, PseudoRewards):
            arrays = (*arrays, session.outcomes.is_label)
        for array in arrays:
            digest.update(str((array.dtype, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
