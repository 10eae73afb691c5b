"""What is asked of a session, resolved once: who plans, on which prediction, with which times, on which problem.

Plans, reports and replays all start from it, so that they cannot contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from cryoscout.core.errors import InputError

if TYPE_CHECKING:
    from cryoscout.routing.policies.base import Policy
    from cryoscout.routing.predictions import Prediction
    from cryoscout.routing.problem import Crossing, RoutingProblem
    from cryoscout.routing.time_model import TimeModel
    from cryoscout.session.model import Session


Looks = Literal["free", "charged"]
"""`free`: everything is seen from the beginning; `charged`: a place shows what is in it only after a look."""


@dataclass(frozen=True)
class AdviceRequest:
    """What is asked; fields as the options of `plan`."""

    budget_min: float
    policy: str = "adaptive"
    """A policy, policy@prediction, or a trained policy's file."""
    prediction: str | None = None
    threshold_angstrom: float | None = None
    """None takes the session's."""
    from_hole: str | None = None
    as_new: bool = False
    also_unchosen: bool = False
    """Plan holes too that the operator did not choose."""
    time_model: str | None = None
    """A name, or the minutes of the four tiers by commas."""
    minutes_per_exposure: float | None = None
    loaded: str | None = None
    """Id of the grid that is in the microscope; None: the grid of the last imaged hole, or the only one."""
    crossing: Crossing = "drop"
    seed: int = 0
    looks: Looks = "charged"
    """`free`: what was not looked at is left out, and only what is seen is planned."""
    parts_looks: bool = False
    """Fitted times part looks from moves although everything was looked at: replays that hide places."""


@dataclass(frozen=True)
class Setting:
    """A request resolved on a session."""

    policy: Policy
    policy_name: str
    prediction: Prediction
    threshold_angstrom: float
    time_model: TimeModel
    problem: RoutingProblem
    time_notes: tuple[str, ...]
    n_not_chosen: int = 0
    """Holes without an image that the operator did not choose, planned or not."""

    @property
    def label(self) -> str:
        """policy@prediction."""
        return f"{self.policy_name}@{self.prediction.name}"


def setting_of(session: Session, request: AdviceRequest, may_be_empty: bool = False) -> Setting:
    """Resolve a request. Raises the errors of the parts: unknown names, a prediction with gaps, too few times.

    may_be_empty : a session of which no hole is known yet gives a problem without holes
    """
    from cryoscout.learning.registry import policy_named
    from cryoscout.routing.from_session import not_chosen, problem_from_session
    from cryoscout.routing.predictions import prediction_of
    from cryoscout.routing.times import time_model_for
    from cryoscout.session.looks import has_unseen_places

    name, named = split_policy_spec(request.policy, request.prediction)
    policy = policy_named(name)
    threshold_angstrom = threshold_of(session, request.threshold_angstrom)
    prediction = prediction_of(session, named, policy.default_prediction, threshold_angstrom)
    parts_looks = request.parts_looks or (request.looks == "charged" and has_unseen_places(session))
    time_model, time_notes = time_model_for(
        session, request.time_model, request.minutes_per_exposure, parts_looks=parts_looks
    )
    problem = problem_from_session(
        session,
        prediction=prediction,
        budget_min=request.budget_min,
        time_model=time_model,
        threshold_angstrom=threshold_angstrom,
        crossing=request.crossing,
        as_new=request.as_new,
        also_unchosen=request.also_unchosen,
        loaded=request.loaded,
        may_be_empty=may_be_empty,
    )
    if request.looks == "free" and problem.places is not None and not (may_be_empty and not session.n_holes):
        problem = _without_unseen(session, problem)
    left_out = int(not_chosen(session).sum())
    return Setting(policy, name, prediction, threshold_angstrom, time_model, problem, time_notes, left_out)


def default_policy(session: Session, looks: Looks) -> str:
    """Who plans where nobody is named: the planner that looks wherever there is something to look at."""
    from cryoscout.session.looks import has_unseen_places

    return "explore" if looks == "charged" and has_unseen_places(session) else "adaptive"


def _without_unseen(session: Session, problem: RoutingProblem) -> RoutingProblem:
    """The problem of what is seen alone. Raises InputError where that is nothing."""
    if problem.n_holes == 0:
        raise InputError(
            f"--looks free must go with a session of which holes are seen. Got session {session.name}, of which "
            f"{len(session.squares)} squares are known and no hole, instead. Remedy: leave --looks out, then the "
            "squares to open are planned."
        )
    return replace(problem, places=None)


def threshold_of(session: Session, asked_angstrom: float | None) -> float:
    """The threshold that is asked for, else the session's, angstrom."""
    return session.info.threshold_angstrom if asked_angstrom is None else asked_angstrom


def split_policy_spec(spec: str, prediction: str | None = None) -> tuple[str, str | None]:
    """(policy, prediction or None) of `policy` or `policy@prediction`, and of a prediction named beside it.

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
