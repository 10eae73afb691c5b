"""What a report asks for, and every policy replayed for it from the same start holes on what was really imaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.charged import hidden_world, notes_on_minutes_of_looks
from cryoscout.advice.recorded import (
    AS_RECORDED,
    LongBudget,
    long_budget,
    mean_minutes_recorded,
    notes_on_order,
)
from cryoscout.advice.setting import AdviceRequest, Looks, setting_of, threshold_of
from cryoscout.core.errors import DataError
from cryoscout.core.ties import first_of_the_best
from cryoscout.learning.seen_holes import note_on_seen_holes
from cryoscout.routing.bound import good_holes_bound_course
from cryoscout.routing.from_session import truth_from_session
from cryoscout.routing.looking import replay_looking
from cryoscout.routing.policies.as_recorded import looks_as_recorded, policy_as_recorded
from cryoscout.routing.policies.base import Policy
from cryoscout.routing.predictions import Prediction
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import ReplayResult, Truth, only_measured, random_starts, replay
from cryoscout.routing.time_model import TimeModel
from cryoscout.routing.times import time_model_for
from cryoscout.session.model import Session

CURVE_STEPS = 48


@dataclass(frozen=True)
class ReportRequest:
    """What to report.

    policies : `policy` or `policy@prediction`; the last one is the one whose plan and route are drawn
    policies_named : by the user; else the plan is the default's, which looks where there is something to look at
    notes : what was chosen for the user, said on the page
    """

    budget_min: float
    policies: tuple[str, ...]
    policies_named: bool = True
    starts: int = 20
    seed: int = 0
    threshold_angstrom: float | None = None
    time_model: str | None = None
    minutes_per_exposure: float | None = None
    loaded: str | None = None
    also_unchosen: bool = False
    """Plan holes too that the operator did not choose."""
    looks: Looks = "free"
    """`charged`: the plan may look at what was not looked at yet, and replays hide all but the start hole's patch and
    square at the start and pay for every look."""
    pictures: tuple[Path, ...] = ()
    """Folders with pictures of squares or patches, on which the chosen holes are drawn."""
    command: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PolicyReplays:
    """One policy's routes from the shared starts."""

    label: str  # policy@prediction, or AS_RECORDED
    kind: str
    problem: RoutingProblem
    results: tuple[ReplayResult, ...]  # one per start

    @property
    def good(self) -> NDArray[np.float64]:
        """(k,) good micrographs per start."""
        return np.array([result.good_found for result in self.results])

    @property
    def visited(self) -> NDArray[np.float64]:
        """(k,) visits per start."""
        return np.array([result.visited for result in self.results], dtype=np.float64)

    @property
    def patches_looked_mean(self) -> float:
        """Looks at patches that were paid for, mean over starts."""
        return float(np.mean([result.patches_looked for result in self.results]))

    @property
    def squares_looked_mean(self) -> float:
        """The same of squares."""
        return float(np.mean([result.squares_looked for result in self.results]))

    def typical(self) -> ReplayResult:
        """The route whose count is nearest to the mean: neither the best nor the worst."""
        return self.results[first_of_the_best(-np.abs(self.good - self.good.mean()))]


@dataclass(frozen=True)
class SessionReplays:
    """All policies from the same starts, with the bound's course."""

    starts: NDArray[np.int64]  # (k,)
    truth: Truth
    policies: tuple[PolicyReplays, ...]  # the recorded order first, where it is known
    bound_moments_min: NDArray[np.float64]  # (t,) from 0 to the budget
    bound: NDArray[np.float64]  # (k, t)
    left_out: int
    notes: tuple[str, ...]
    minutes_recorded_mean: float | None  # of the recorded routes by the session's own times; None: not known

    @property
    def is_recorded(self) -> bool:
        """Whether the first of the policies is the recorded order."""
        return self.policies[0].label == AS_RECORDED

    @property
    def long_budget(self) -> LongBudget | None:
        """What is to be said where the budget holds every measured hole."""
        visited = {each.label: float(each.visited.mean()) for each in self.policies}
        return long_budget(self.policies[-1].problem, visited)


def replay_for_report(
    session: Session, request: ReportRequest, progress: Callable[[], None] | None = None
) -> SessionReplays:
    """Replay the recorded order and every policy from the same drawn starts among the holes with an outcome.

    progress : called after every route and every start of the bound
    Raises DataError when no hole has an outcome.
    """
    threshold = threshold_of(session, request.threshold_angstrom)
    truth = truth_from_session(session, threshold)
    if not truth.measured.any():
        raise DataError(
            f"A replay must have holes with an outcome. Got none in session {session.name} instead. "
            "Remedy: import the session with its CTF results."
        )
    charged = request.looks == "charged"
    model, notes = time_model_of(session, request)
    starts = random_starts(truth.measured, request.starts, np.random.default_rng(request.seed))
    said = [*request.notes, *notes, *(notes_on_minutes_of_looks(model) if charged else ())]

    def replayed(policy: Policy, problem: RoutingProblem, prediction: Prediction) -> tuple[ReplayResult, ...]:
        if not charged:
            return tuple(replay(problem, truth, policy, starts.tolist(), request.seed, progress=progress))
        world = hidden_world(session, prediction, problem, truth)
        return tuple(replay_looking(world, truth, policy, starts.tolist(), request.seed, progress=progress))

    policies = []
    for spec in request.policies:
        setting = setting_of(session, asked_of(request, spec, replayed=True))
        problem, policy = only_measured(setting.problem, truth), setting.policy
        results = replayed(policy, problem, setting.prediction)
        policies.append(PolicyReplays(setting.label, policy.kind, problem, results))
        more = (*setting.prediction.notes, *note_on_seen_holes(policy, session))
        said.extend(note for note in more if note not in said)
    problem, order, minutes_recorded = policies[0].problem, session.recorded_order(), None
    said.extend(notes_on_order(session, order))
    if order is not None:
        recorded = looks_as_recorded(order, problem.tree) if charged else policy_as_recorded(order)
        results = replayed(recorded, problem, setting.prediction)
        policies.insert(0, PolicyReplays(AS_RECORDED, policy_as_recorded(order).kind, problem, results))
        minutes_recorded = mean_minutes_recorded(order, problem, results)
    unseen = hidden_world(session, setting.prediction, problem, truth).features if charged else None
    moments = np.linspace(0.0, request.budget_min, CURVE_STEPS + 1)
    by_start: dict[int, NDArray[np.float64]] = {}
    for start in starts.tolist():
        if start not in by_start:
            by_start[start] = good_holes_bound_course(problem, truth, start, moments, unseen)
        if progress is not None:
            progress()
    bound = np.array([by_start[start] for start in starts.tolist()])
    left_out = int((~truth.measured).sum())
    return SessionReplays(
        starts, truth, tuple(policies), moments, bound, left_out, tuple(said), minutes_recorded
    )


def routes_to_replay(session: Session, request: ReportRequest) -> int:
    """How often `replay_for_report` calls its progress."""
    rows = len(request.policies) + (session.recorded_order() is not None)
    return request.starts * (rows + 1)


def asked_of(request: ReportRequest, spec: str, *, replayed: bool) -> AdviceRequest:
    """What a plan or a replay of one policy asks for; a replay counts its crossing visit and hides outcomes."""
    return AdviceRequest(
        budget_min=request.budget_min,
        policy=spec,
        threshold_angstrom=request.threshold_angstrom,
        as_new=replayed,
        also_unchosen=request.also_unchosen,
        time_model=request.time_model,
        minutes_per_exposure=request.minutes_per_exposure,
        loaded=request.loaded,
        crossing="count" if replayed else "drop",
        seed=request.seed,
        # What is hidden in a replay is the world's to say: here everything that was measured is there.
        looks="free" if replayed else request.looks,
        parts_looks=replayed and request.looks == "charged",
    )


def time_model_of(session: Session, request: ReportRequest) -> tuple[TimeModel, tuple[str, ...]]:
    """The minutes that replays are charged, and notes on them."""
    return time_model_for(
        session, request.time_model, request.minutes_per_exposure, parts_looks=request.looks == "charged"
    )
