"""Comparison by replay: what policies would have found on holes that were really imaged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cryoscout.advice.charged import hidden_world, notes_on_minutes_of_looks
from cryoscout.advice.recorded import (
    AS_RECORDED,
    headline,
    images_all,
    long_budget,
    mean_minutes_recorded,
    notes_on_order,
)
from cryoscout.advice.setting import AdviceRequest, Looks, Setting, setting_of, threshold_of
from cryoscout.core.errors import DataError
from cryoscout.core.telling import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from cryoscout.routing.looking import World
    from cryoscout.routing.policies.base import Policy
    from cryoscout.routing.predictions import Prediction
    from cryoscout.routing.problem import Crossing, RoutingProblem
    from cryoscout.routing.replay import ReplanEvery, Truth
    from cryoscout.routing.time_model import TimeModel
    from cryoscout.session.model import Session


StartsFrom = Literal["all", "eliminated"]


@dataclass(frozen=True)
class ReplayRequest:
    """What is replayed; fields as the options of `replay`."""

    budgets_min: tuple[float, ...]
    policies: tuple[str, ...]
    starts: int | Literal["all"] = 50
    starts_from: StartsFrom = "all"
    crossing: Crossing = "count"
    threshold_angstrom: float | None = None
    time_model: str | None = None
    minutes_per_exposure: float | None = None
    ctf_delay_min: float = 0.0
    replan_every: ReplanEvery = 1
    seed: int = 0
    notes: tuple[str, ...] = ()  # what was chosen for the user, said with the result
    looks: Looks = "free"
    """`charged` hides every square and patch at the start, but the start hole's; each look takes its minutes."""


@dataclass(frozen=True)
class PolicyRow:
    """One policy's figures, one value per budget; means and population std over starts."""

    kind: str
    prediction: str | None  # None: it uses none
    good_mean: tuple[float, ...]
    good_std: tuple[float, ...]
    visited_mean: tuple[float, ...]
    reward_mean: tuple[float, ...]
    runtime_s: float  # of all budgets and starts together
    minutes_recorded_mean: tuple[float | None, ...] | None = None
    """Of the recorded order alone, by the session's own times; None in it: these are not known."""
    patches_looked_mean: tuple[float, ...] = ()  # looks that were paid for; empty where looks are free
    squares_looked_mean: tuple[float, ...] = ()


@dataclass(frozen=True)
class ReplayOutcome:
    """Everything one replay command says."""

    session: str
    request: ReplayRequest
    time_model: str
    n_starts: tuple[int, ...]  # by budget
    measured: int  # holes with an outcome
    left_out: int  # holes without one
    bound_mean: tuple[float, ...]
    rows: dict[str, PolicyRow]  # the recorded order first, where it is known
    headline: str  # of the last budget
    notes: tuple[str, ...]

    def images_all(self, row: PolicyRow, at: int) -> bool:
        """Whether every route of the row visits every measured hole within the budget of index `at`."""
        return images_all(row.visited_mean[at], self.measured)

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`.

        Keys: session, looks, budgets_min, crossing, starts_from, starts (how many, by budget), seed, time_model,
        ctf_delay_min, replan_every,
        measured (holes with an outcome), left_out (holes without one), headline, notes, policies {as asked for: {kind,
        prediction, good_mean, good_std, visited_mean, reward_mean, bound_mean, runtime_s}}; lists have one value per
        budget. Where the recorded order is known the first policy is `as recorded`, without a prediction (null) and
        with minutes_recorded_mean: what its routes took by the session's own times, null where it has names alone.
        Where looks are charged each policy has patches_looked_mean and squares_looked_mean, looks that it paid for.
        """
        return {
            "session": self.session,
            "looks": self.request.looks,
            "budgets_min": list(self.request.budgets_min),
            "crossing": self.request.crossing,
            "starts_from": self.request.starts_from,
            "starts": list(self.n_starts),
            "seed": self.request.seed,
            "time_model": self.time_model,
            "ctf_delay_min": self.request.ctf_delay_min,
            "replan_every": self.request.replan_every,
            "measured": self.measured,
            "left_out": self.left_out,
            "headline": self.headline,
            "notes": list(self.notes),
            "policies": {
                spec: {
                    "kind": row.kind,
                    "prediction": row.prediction,
                    "good_mean": list(row.good_mean),
                    "good_std": list(row.good_std),
                    "visited_mean": list(row.visited_mean),
                    "reward_mean": list(row.reward_mean),
                    "bound_mean": list(self.bound_mean),
                    "runtime_s": row.runtime_s,
                    **_minutes_recorded_json(row),
                    **_looked_json(row),
                }
                for spec, row in self.rows.items()
            },
        }


def _minutes_recorded_json(row: PolicyRow) -> dict[str, Any]:
    return (
        {"minutes_recorded_mean": list(row.minutes_recorded_mean)}
        if row.minutes_recorded_mean is not None
        else {}
    )


def _looked_json(row: PolicyRow) -> dict[str, Any]:
    if not row.patches_looked_mean:
        return {}
    return {
        "patches_looked_mean": list(row.patches_looked_mean),
        "squares_looked_mean": list(row.squares_looked_mean),
    }


def replay_session(
    session: Session, request: ReplayRequest, progress: Progress = no_progress
) -> ReplayOutcome:
    """Replay every policy of the request on the session's outcomes, at every budget, from the same starts.

    Raises the errors of the parts, and DataError when the session has no outcome.
    """
    from cryoscout.routing.from_session import truth_from_session
    from cryoscout.routing.times import time_model_for

    truth = truth_from_session(session, threshold_of(session, request.threshold_angstrom))
    left_out = int((~truth.measured).sum())
    if left_out == session.n_holes:
        raise DataError(
            f"A replay must have holes with an outcome. Got none in session {session.name} instead. "
            "Remedy: import the session with its CTF results."
        )
    model, notes = time_model_for(
        session, request.time_model, request.minutes_per_exposure, parts_looks=request.looks == "charged"
    )
    stage = _Stage(session, request, truth, model)
    for spec in request.policies:
        stage.make(spec)
    starts = stage.starts()
    specs = request.policies if stage.order is None else (AS_RECORDED, *request.policies)
    steps = sum(len(drawn) * len(specs) + len(set(drawn.tolist())) for drawn in starts)
    with progress("replaying", steps) as step:
        rows = {spec: stage.row(spec, starts, step) for spec in specs}
        bound_mean = tuple(stage.bound_mean(at, drawn, step) for at, drawn in enumerate(starts))
    long = [
        long_budget(stage.any_problem(at), {spec: row.visited_mean[at] for spec, row in rows.items()})
        for at in range(len(starts))
    ]
    said_of_others = [f"{each.budget_min:g} min: {each.words}" for each in long[:-1] if each is not None]
    return ReplayOutcome(
        session=session.name,
        request=request,
        time_model=model.name,
        n_starts=tuple(len(drawn) for drawn in starts),
        measured=session.n_holes - left_out,
        left_out=left_out,
        bound_mean=bound_mean,
        rows=rows,
        headline=headline(
            {spec: row.good_mean[-1] for spec, row in rows.items()},
            bound_mean[-1],
            request.budgets_min[-1],
            long[-1],
        ),
        notes=(
            *request.notes,
            *notes,
            *(notes_on_minutes_of_looks(model) if request.looks == "charged" else ()),
            *stage.notes,
            *notes_on_order(session, stage.order),
            *said_of_others,
        ),
    )


class _Stage:
    """The problems, policies and truth of one request; problems are made once per prediction."""

    def __init__(self, session: Session, request: ReplayRequest, truth: Truth, model: TimeModel) -> None:
        self.session = session
        self.request = request
        self.truth = truth
        self.model = model
        self.order = session.recorded_order()
        self.notes: list[str] = []
        self._problems: dict[str, RoutingProblem] = {}
        self._predictions: dict[str, Prediction] = {}

    def make(self, spec: str) -> tuple[Policy, str]:
        """The policy and the name of its prediction; what was chosen for the user becomes a note, once."""
        from cryoscout.learning.seen_holes import note_on_seen_holes

        setting = self._setting(spec)
        policy, notes = setting.policy, setting.prediction.notes
        if policy.drops_crossing and self.request.crossing == "count":
            notes = (
                *notes,
                f"{setting.policy_name} drops its crossing visit, as published; the bound counts it.",
            )
        notes = (*notes, *note_on_seen_holes(policy, self.session))
        self.notes.extend(note for note in notes if note not in self.notes)
        return policy, setting.prediction.name

    def _setting(self, spec: str) -> Setting:
        """The policy on its prediction; its problem, without holes that have no outcome, is kept."""
        from cryoscout.routing.replay import only_measured

        asked = AdviceRequest(
            budget_min=self.request.budgets_min[0],
            policy=spec,
            threshold_angstrom=self.request.threshold_angstrom,
            as_new=True,
            time_model=self.request.time_model,
            minutes_per_exposure=self.request.minutes_per_exposure,
            crossing=self.request.crossing,
            # What is hidden is the world's to say: here everything that was measured is there.
            looks="free",
            parts_looks=self.request.looks == "charged",
        )
        setting = setting_of(self.session, asked)
        self._problems.setdefault(setting.prediction.name, only_measured(setting.problem, self.truth))
        self._predictions[setting.prediction.name] = setting.prediction
        return setting

    def problem(self, prediction: str, at: int) -> RoutingProblem:
        """The problem with that prediction at the budget of index `at`; holes without outcome are out."""
        return self._problems[prediction].with_budget(self.request.budgets_min[at])

    def world(self, prediction: str | None, at: int) -> World:
        """The same where nothing was looked at; None: on any prediction."""
        name = next(iter(self._problems)) if prediction is None else prediction
        return hidden_world(self.session, self._predictions[name], self.problem(name, at), self.truth)

    def any_problem(self, at: int) -> RoutingProblem:
        """The problem for what looks at no prediction: the bound and the recorded order."""
        return self.problem(next(iter(self._problems)), at)

    def starts(self) -> list[NDArray[np.int64]]:
        """Start holes by budget, the same for every policy.

        Elimination ranks by the papers' ResNet-50 where the session has it, else by its first model, so that
        the starts do not depend on which policies are compared.
        """
        import numpy as np

        from cryoscout.routing.elimination import BETA_TEST, eliminated_holes
        from cryoscout.routing.replay import random_starts

        drawn = []
        for at in range(len(self.request.budgets_min)):
            candidates = self.truth.measured
            if self.request.starts_from == "eliminated":
                ranked_by = self._ranking_problem().with_budget(self.request.budgets_min[at])
                candidates = candidates & eliminated_holes(ranked_by, beta=BETA_TEST)
            drawn.append(
                random_starts(candidates, self.request.starts, np.random.default_rng(self.request.seed))
            )
        return drawn

    def _ranking_problem(self) -> RoutingProblem:
        """On the prediction that elimination ranks by, see `starts`."""
        from cryoscout.routing.from_session import problem_from_session
        from cryoscout.routing.predictions import PAPER_MODEL, prediction_of
        from cryoscout.routing.replay import only_measured

        threshold_angstrom = threshold_of(self.session, self.request.threshold_angstrom)
        problem = problem_from_session(
            self.session,
            prediction=prediction_of(self.session, None, PAPER_MODEL, threshold_angstrom),
            budget_min=self.request.budgets_min[0],
            time_model=self.model,
            threshold_angstrom=threshold_angstrom,
            crossing=self.request.crossing,
            as_new=True,
        )
        return only_measured(problem, self.truth)

    def row(self, spec: str, starts: list[NDArray[np.int64]], step: Callable[[], None]) -> PolicyRow:
        """Replay one policy, or the recorded order, at every budget."""
        import numpy as np

        from cryoscout.routing.looking import replay_looking
        from cryoscout.routing.policies.as_recorded import looks_as_recorded, policy_as_recorded
        from cryoscout.routing.replay import replay as replay_policy

        recorded = self.order if spec == AS_RECORDED else None
        policy, prediction = self.make(spec) if recorded is None else (policy_as_recorded(recorded), None)
        began = time.perf_counter()
        good, visited, reward, minutes = [], [], [], []
        looked: list[tuple[float, float]] = []
        for at, drawn in enumerate(starts):
            problem = self.any_problem(at) if prediction is None else self.problem(prediction, at)
            if self.request.looks == "charged":
                results = replay_looking(
                    self.world(prediction, at),
                    self.truth,
                    policy if recorded is None else looks_as_recorded(recorded, problem.tree),
                    drawn.tolist(),
                    self.request.seed,
                    ctf_delay_min=self.request.ctf_delay_min,
                    replan_every=self.request.replan_every,
                    progress=step,
                )
                looked.append(
                    (
                        float(np.mean([result.patches_looked for result in results])),
                        float(np.mean([result.squares_looked for result in results])),
                    )
                )
            else:
                results = replay_policy(
                    problem,
                    self.truth,
                    policy,
                    drawn.tolist(),
                    self.request.seed,
                    ctf_delay_min=self.request.ctf_delay_min,
                    replan_every=self.request.replan_every,
                    progress=step,
                )
            good.append([result.good_found for result in results])
            visited.append([result.visited for result in results])
            reward.append([result.reward for result in results])
            if recorded is not None:
                minutes.append(mean_minutes_recorded(recorded, problem, results))
        return PolicyRow(
            kind=policy.kind,
            prediction=prediction,
            good_mean=tuple(float(np.mean(found)) for found in good),
            good_std=tuple(float(np.std(found)) for found in good),
            visited_mean=tuple(float(np.mean(count)) for count in visited),
            reward_mean=tuple(float(np.mean(value)) for value in reward),
            runtime_s=time.perf_counter() - began,
            minutes_recorded_mean=None if recorded is None else tuple(minutes),
            patches_looked_mean=tuple(patches for patches, _ in looked),
            squares_looked_mean=tuple(squares for _, squares in looked),
        )

    def bound_mean(self, at: int, starts: NDArray[np.int64], step: Callable[[], None]) -> float:
        """Mean over the starts of the most good micrographs any route could have found."""
        import numpy as np

        from cryoscout.routing.bound import good_holes_bound

        problem = self.any_problem(at)
        unseen = self.world(None, at).features if self.request.looks == "charged" else None
        distinct, times = np.unique(starts, return_counts=True)
        bounds = []
        for start in distinct.tolist():
            bounds.append(good_holes_bound(problem, self.truth, start, unseen))
            step()
        return float(np.average(bounds, weights=times))
