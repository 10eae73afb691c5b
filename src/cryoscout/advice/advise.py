"""One advice: from a session and what is asked to a work list with its reasons and notes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cryoscout.core.errors import DataError, InputError
from cryoscout.core.telling import Progress, no_progress

if TYPE_CHECKING:
    from cryoscout.advice.work_list import WorkList
    from cryoscout.routing.problem import RoutingProblem
    from cryoscout.session.model import Session


LABELS_ALONE = "gives labels without probabilities: its intervals say nothing."


def make_work_list(
    session: Session,
    *,
    budget_min: float,
    policy_spec: str = "adaptive",
    prediction: str | None = None,
    threshold_angstrom: float | None = None,
    from_hole: str | None = None,
    as_new: bool = False,
    time_model: str | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> WorkList:
    """The work list of a session; arguments as the options of `plan`.

    Raises the errors of the parts, and DataError when no hole is left to plan.
    """
    from cryoscout.advice.work_list import build_work_list, place_names
    from cryoscout.learning.registry import policy_named
    from cryoscout.routing.from_session import problem_from_session, start_of_plan
    from cryoscout.routing.predictions import resolve_prediction
    from cryoscout.routing.times import time_model_for

    policy_name, named = split_policy_spec(policy_spec, prediction)
    policy = policy_named(policy_name)
    threshold = session.info.threshold_angstrom if threshold_angstrom is None else threshold_angstrom
    prediction, prediction_notes = resolve_prediction(session, named, policy.default_prediction)
    model, model_notes = time_model_for(session, time_model)
    problem = problem_from_session(
        session,
        prediction=prediction,
        budget_min=budget_min,
        time_model=model,
        threshold_angstrom=threshold,
        as_new=as_new,
    )
    n_available = int(problem.available().sum())
    if n_available == 0:
        raise DataError(
            f"Session {session.name} must have a hole that is not imaged yet. Got {problem.n_holes} "
            "imaged holes "
            "instead. Remedy: add --as-new to plan it as if nothing was imaged."
        )
    start = start_of_plan(session, from_hole, as_new)
    visits_at_most = min(n_available, int(budget_min / model.tiers_min(problem.shots)[0]))
    with progress("planning", visits_at_most) as step:
        work_list = build_work_list(
            problem,
            policy,
            place_names(session),
            start_hole=start,
            seed=seed,
            session=session.name,
            prediction=prediction,
            threshold_angstrom=threshold,
            notes=(
                *prediction_notes,
                *_notes_on_calibration(session, prediction),
                *_notes_on_intervals(problem, prediction),
                *model_notes,
                *_notes_on_outcomes(session, problem, as_new),
            ),
            progress=step,
        )
    if work_list.visits:
        return work_list
    return replace(work_list, notes=(*work_list.notes, _note_on_an_empty_plan(problem, start)))


def split_policy_spec(spec: str, prediction: str | None = None) -> tuple[str, str | None]:
    """(policy, prediction or None) of `policy` or `policy@prediction`, and of --prediction beside it.

    Raises InputError when both name a prediction and do not agree.
    """
    from cryoscout.learning.registry import policy_and_prediction

    name, named = policy_and_prediction(spec)
    if named and prediction is not None and prediction != named:
        raise InputError(
            f"The prediction must be named once. Got {named!r} in --policy and {prediction!r} in "
            "--prediction instead. "
            "Remedy: leave one out."
        )
    return name, named or prediction


def _notes_on_calibration(session: Session, prediction: str) -> tuple[str, ...]:
    from cryoscout.routing.predictions import COMBINED, FLAT, combined_is_checked

    if prediction == FLAT:
        return ()
    if prediction == COMBINED:
        is_checked, model = combined_is_checked(session)
        if is_checked:
            return ()
        return (
            f"combined was fitted to the ResNet-18 of the Y1 session; for model {model!r} its calibration is not "
            "checked.",
        )
    return (
        f"p_good of {prediction!r} is the model's own, not calibrated on outcomes: the expected number and "
        "its intervals are only as good as that.",
    )


def _notes_on_intervals(problem: RoutingProblem, prediction: str) -> tuple[str, ...]:
    """A prediction of labels, 0 or 1, says nothing of how often it is wrong."""
    is_label = ((problem.p_good == 0) | (problem.p_good == 1)).all()
    return (f"Prediction {prediction!r} {LABELS_ALONE}",) if is_label else ()


def _note_on_an_empty_plan(problem: RoutingProblem, start: int) -> str:
    """Why nothing is planned; the first hole is the nearest one that is left."""
    left = [hole for hole in problem.available().nonzero()[0].tolist() if hole != start]
    if not left:
        return "Nothing is left to plan: the only hole that is not imaged is the one the stage is at."
    tiers_min = problem.time_model.tiers_min(problem.shots)
    tier = min(problem.tier_between(start, hole) for hole in left)
    first_min = problem.time_model.setup_min + float(tiers_min[tier])
    if first_min > problem.budget_min:
        return f"Nothing fits: the first hole takes {first_min:.4g} min."
    return f"Nothing is planned: the policy chose no hole that fits; the nearest takes {first_min:.4g} min."


def _notes_on_outcomes(session: Session, problem: RoutingProblem, as_new: bool) -> tuple[str, ...]:
    if problem.imaged is None:
        if as_new or session.info.built_in:
            return ("Planned as new: outcomes are hidden.",)
        return ()
    imaged = int(problem.imaged.sum())
    return (f"{imaged} holes are imaged already and not planned.",) if imaged else ()
