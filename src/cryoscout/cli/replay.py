"""`cryoscout replay`: what policies would have found on holes that were really imaged."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from cryoscout.cli.output import console, print_json, progress
from cryoscout.cli.plan import split_policy_spec
from cryoscout.core.errors import DataError, InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from cryoscout.routing.policies.base import Policy
    from cryoscout.routing.problem import Crossing, RoutingProblem
    from cryoscout.routing.replay import ReplanEvery, Truth
    from cryoscout.routing.time_model import TimeModel
    from cryoscout.session.model import Session

StartsFrom = Literal["all", "eliminated"]


def replay(
    session: Annotated[
        str, typer.Argument(help="A NAME.session folder, or a built-in session: y1, y1-2022.")
    ],
    budget_min: Annotated[str, typer.Option(help="Budgets in minutes, by commas.")] = "120,240,360,480",
    policies: Annotated[
        str | None,
        typer.Option(
            "--policies",
            "--policy",
            help="Policies by commas, each policy, policy@prediction or a trained policy's file. "
            "Default: greedy,adaptive@combined.",
        ),
    ] = None,
    starts: Annotated[
        str, typer.Option(help="How many start holes are drawn, or all: each hole once.")
    ] = "50",
    starts_from: Annotated[
        str,
        typer.Option(
            help="Where starts are drawn: all holes, or those that action elimination keeps: eliminated."
        ),
    ] = "all",
    crossing: Annotated[
        str, typer.Option(help="The visit that crosses the budget: count (as published) or drop.")
    ] = "count",
    threshold_angstrom: Annotated[
        float | None,
        typer.Option(help="Good means a CTF resolution at or below this. Default: the session's, 6."),
    ] = None,
    time_model: Annotated[
        str | None,
        typer.Option(
            help="cryorl, cryorl-printed, cryorl-code or fitted. Default: fitted where a tier has ten timed steps, "
            "else cryorl."
        ),
    ] = None,
    ctf_delay_min: Annotated[
        float, typer.Option(help="Minutes between a visit and its result, 0 or more.")
    ] = 0.0,
    replan_every: Annotated[
        str, typer.Option(help="Results reach the policy every N holes, or: square.")
    ] = "1",
    split: Annotated[
        str | None, typer.Option(help="Split of a built-in session: train, val. Default: val.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the starts and of every policy's draws.", min=0)] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """What policies would have found on holes that were really imaged, beside the exact bound.

    Every policy starts from the same holes. Holes without an outcome are left out. std is over starts.

    \b
    Example:
      cryoscout replay y1 --budget-min 120,240 --policies greedy,adaptive@combined --starts 50
      cryoscout replay y1 --policy dqn-y1 --starts-from eliminated
    """
    from cryoscout.routing.from_session import load_session

    loaded = load_session(session, split)
    request = ReplayRequest(
        budgets_min=_budgets_of(budget_min),
        policies=_policies_of(_default_policies(loaded) if policies is None else policies),
        starts=_starts_of(starts),
        starts_from=cast("StartsFrom", _one_of("--starts-from", starts_from, get_args(StartsFrom))),
        crossing=cast("Crossing", _one_of("--crossing", crossing, ("count", "drop"))),
        threshold_angstrom=threshold_angstrom,
        time_model=time_model,
        ctf_delay_min=ctf_delay_min,
        replan_every=_replan_every_of(replan_every),
        seed=seed,
    )
    outcome = replay_session(loaded, request)
    if as_json:
        print_json(outcome.to_json())
    else:
        _print(outcome)


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
    ctf_delay_min: float = 0.0
    replan_every: ReplanEvery = 1
    seed: int = 0


@dataclass(frozen=True)
class PolicyRow:
    """One policy's figures, one value per budget; means and population std over starts."""

    kind: str
    prediction: str
    good_mean: tuple[float, ...]
    good_std: tuple[float, ...]
    visited_mean: tuple[float, ...]
    reward_mean: tuple[float, ...]
    runtime_s: float  # of all budgets and starts together


@dataclass(frozen=True)
class ReplayOutcome:
    """Everything one replay command says."""

    session: str
    request: ReplayRequest
    time_model: str
    n_starts: tuple[int, ...]  # by budget
    left_out: int  # holes without an outcome
    bound_mean: tuple[float, ...]
    rows: dict[str, PolicyRow]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`.

        Keys: session, budgets_min, crossing, starts_from, starts (how many, by budget), seed, time_model,
        ctf_delay_min, replan_every,
        left_out (holes without an outcome), notes, policies {as asked for: {kind, prediction, good_mean,
        good_std,
        visited_mean, reward_mean, bound_mean, runtime_s}}; lists have one value per budget.
        """
        return {
            "session": self.session,
            "budgets_min": list(self.request.budgets_min),
            "crossing": self.request.crossing,
            "starts_from": self.request.starts_from,
            "starts": list(self.n_starts),
            "seed": self.request.seed,
            "time_model": self.time_model,
            "ctf_delay_min": self.request.ctf_delay_min,
            "replan_every": self.request.replan_every,
            "left_out": self.left_out,
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
                }
                for spec, row in self.rows.items()
            },
        }


def replay_session(session: Session, request: ReplayRequest) -> ReplayOutcome:
    """Replay every policy of the request on the session's outcomes, at every budget, from the same starts.

    Raises the errors of the parts, and DataError when the session has no outcome.
    """
    from cryoscout.routing.from_session import time_model_for, truth_from_session

    threshold = request.threshold_angstrom
    truth = truth_from_session(session, session.info.threshold_angstrom if threshold is None else threshold)
    left_out = int((~truth.measured).sum())
    if left_out == session.n_holes:
        raise DataError(
            f"A replay must have holes with an outcome. Got none in session {session.name} instead. "
            "Remedy: import the session with its CTF results."
        )
    model, notes = time_model_for(session, request.time_model)
    stage = _Stage(session, request, truth, model)
    for spec in request.policies:
        stage.make(spec)
    starts = stage.starts()
    steps = sum(len(drawn) * len(request.policies) + len(set(drawn.tolist())) for drawn in starts)
    with progress("replaying", steps) as step:
        rows = {spec: stage.row(spec, starts, step) for spec in request.policies}
        bound_mean = tuple(stage.bound_mean(at, drawn, step) for at, drawn in enumerate(starts))
    return ReplayOutcome(
        session=session.name,
        request=request,
        time_model=model.name,
        n_starts=tuple(len(drawn) for drawn in starts),
        left_out=left_out,
        bound_mean=bound_mean,
        rows=rows,
        notes=(*notes, *stage.notes),
    )


class _Stage:
    """The problems, policies and truth of one request; problems are made once per prediction."""

    def __init__(self, session: Session, request: ReplayRequest, truth: Truth, model: TimeModel) -> None:
        self.session = session
        self.request = request
        self.truth = truth
        self.model = model
        self.notes: list[str] = []
        self._problems: dict[str, RoutingProblem] = {}

    def make(self, spec: str) -> tuple[Policy, str]:
        """The policy and the name of its prediction; what was chosen for the user becomes a note, once."""
        from cryoscout.learning.registry import policy_named
        from cryoscout.learning.seen_holes import note_on_seen_holes
        from cryoscout.routing.from_session import resolve_prediction

        name, named = split_policy_spec(spec)
        policy = policy_named(name)
        prediction, notes = resolve_prediction(self.session, named, policy.default_prediction)
        if policy.drops_crossing and self.request.crossing == "count":
            notes = (*notes, f"{name} drops its crossing visit, as published; the bound counts it.")
        notes = (*notes, *note_on_seen_holes(policy, self.session))
        self.notes.extend(note for note in notes if note not in self.notes)
        self.problem(prediction, 0)
        return policy, prediction

    def problem(self, prediction: str, at: int) -> RoutingProblem:
        """The problem with that prediction at the budget of index `at`; holes without outcome are out."""
        from cryoscout.routing.from_session import problem_from_session

        if prediction not in self._problems:
            threshold = self.request.threshold_angstrom
            problem = problem_from_session(
                self.session,
                prediction=prediction,
                budget_min=self.request.budgets_min[0],
                time_model=self.model,
                threshold_angstrom=self.session.info.threshold_angstrom if threshold is None else threshold,
                crossing=self.request.crossing,
                as_new=True,
            )
            self._problems[prediction] = dataclasses.replace(problem, allowed=self.truth.measured.copy())
        return self._problems[prediction].with_budget(self.request.budgets_min[at])

    def starts(self) -> list[NDArray[np.int64]]:
        """Start holes by budget, the same for every policy.

        Elimination ranks by the papers' ResNet-50 where the session has it, else by its first model, so that
        the starts do not depend on which policies are compared.
        """
        import numpy as np

        from cryoscout.routing.elimination import BETA_TEST, eliminated_holes
        from cryoscout.routing.from_session import PAPER_MODEL, resolve_prediction
        from cryoscout.routing.replay import random_starts

        drawn = []
        for at in range(len(self.request.budgets_min)):
            candidates = self.truth.measured
            if self.request.starts_from == "eliminated":
                prediction, _ = resolve_prediction(self.session, None, PAPER_MODEL)
                candidates = candidates & eliminated_holes(self.problem(prediction, at), beta=BETA_TEST)
            drawn.append(
                random_starts(candidates, self.request.starts, np.random.default_rng(self.request.seed))
            )
        return drawn

    def row(self, spec: str, starts: list[NDArray[np.int64]], step: Callable[[], None]) -> PolicyRow:
        """Replay one policy at every budget."""
        import numpy as np

        from cryoscout.routing.replay import replay as replay_policy

        policy, prediction = self.make(spec)
        began = time.perf_counter()
        good, visited, reward = [], [], []
        for at, drawn in enumerate(starts):
            results = replay_policy(
                self.problem(prediction, at),
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
        return PolicyRow(
            kind=policy.kind,
            prediction=prediction,
            good_mean=tuple(float(np.mean(found)) for found in good),
            good_std=tuple(float(np.std(found)) for found in good),
            visited_mean=tuple(float(np.mean(count)) for count in visited),
            reward_mean=tuple(float(np.mean(value)) for value in reward),
            runtime_s=time.perf_counter() - began,
        )

    def bound_mean(self, at: int, starts: NDArray[np.int64], step: Callable[[], None]) -> float:
        """Mean over the starts of the most good micrographs any route could have found."""
        import numpy as np

        from cryoscout.routing.bound import good_holes_bound

        problem = self.problem(next(iter(self._problems)), at)
        distinct, times = np.unique(starts, return_counts=True)
        bounds = []
        for start in distinct.tolist():
            bounds.append(good_holes_bound(problem, self.truth, start))
            step()
        return float(np.average(bounds, weights=times))


def _budgets_of(text: str) -> tuple[float, ...]:
    from cryoscout.routing.time_model import check_budget_min

    try:
        return tuple(check_budget_min(float(part)) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"The budgets must be numbers of minutes by commas. Got {text!r} instead. "
            "Remedy: for example --budget-min 120,240."
        ) from None


def _default_policies(session: Session) -> str:
    """A session without a classifier of every hole has no `combined` to name; its policies take what it has."""
    from cryoscout.routing.from_session import COMBINED, resolve_prediction

    prediction, _ = resolve_prediction(session, None, COMBINED)
    return "greedy,adaptive@combined" if prediction == COMBINED else "greedy,adaptive"


def _policies_of(text: str) -> tuple[str, ...]:
    specs = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not specs:
        raise InputError("The policies must be at least one. Got none instead. Remedy: --policies adaptive.")
    return specs


def _starts_of(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise InputError(
        f"The starts must be a number above 0 or 'all'. Got {text!r} instead. Remedy: --starts 50."
    )


def _replan_every_of(text: str) -> ReplanEvery:
    if text == "square":
        return "square"
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise InputError(
        f"Replanning must be every N holes, N above 0, or 'square'. Got {text!r} instead. Remedy: "
        "--replan-every 1."
    )


def _one_of(option: str, got: str, known: tuple[str, ...]) -> str:
    if got not in known:
        raise UnknownNameError(option, got, known)
    return got


def _print(outcome: ReplayOutcome) -> None:
    from rich.table import Table

    request = outcome.request
    table = Table(title=f"Good micrographs found in session {outcome.session}, mean ± std over starts")
    table.add_column("policy")
    table.add_column("prediction")
    for budget in request.budgets_min:
        table.add_column(f"{budget:g} min", justify="right")
    table.add_column("runtime", justify="right")
    for spec, row in outcome.rows.items():
        cells = [
            f"{mean:.1f} ± {std:.1f} ({_share(mean, bound)})"
            for mean, std, bound in zip(row.good_mean, row.good_std, outcome.bound_mean, strict=True)
        ]
        table.add_row(split_policy_spec(spec)[0], row.prediction, *cells, f"{row.runtime_s:.1f} s")
    table.add_row(
        "exact bound", "the truth", *(f"{bound:.1f}" for bound in outcome.bound_mean), "", end_section=True
    )
    out = console()
    out.print(table)
    out.print("In brackets: share of the exact bound, the most any route could have found knowing the truth.")
    out.print(
        f"{'/'.join(str(count) for count in dict.fromkeys(outcome.n_starts))} starts from "
        f"{request.starts_from} holes, "
        f"crossing visit: {request.crossing}, time model {outcome.time_model}, seed {request.seed}"
    )
    if outcome.left_out:
        out.print(f"{outcome.left_out} holes without an outcome were left out: they have no truth to find.")
    for note in outcome.notes:
        out.print(f"Note: {note}")


def _share(mean: float, bound: float) -> str:
    return f"{100 * mean / bound:.0f} %" if bound > 0 else "-"
