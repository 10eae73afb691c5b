"""Study `beyond`: learned policies against the best planners; one is kept by held-out training patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoscout.core.ties import first_of_the_best
from cryoscout.report.statistics import Interval, paired_difference
from cryoscout.routing.policies.base import Policy, PolicyKind
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.published import BUDGETS_MIN
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import interval_text, markdown_table, mean_std
from cryoscout.study.learned.trainings import (
    PACKAGES,
    SEED,
    STARTS,
    TRAINING_SEEDS,
    TrainingSpec,
    epochs_of,
    trained_policy,
)
from cryoscout.study.routes.replays import BOUND, ReplaySpec, problem_and_truth, starts_of

PREDICTION = "combined"


@dataclass(frozen=True)
class Method:
    """One way to plan. `trains`: whether its policy depends on the training seed."""

    name: str
    kind: PolicyKind
    says: str
    trains: bool = False
    prediction: str = PREDICTION


METHODS = (
    Method("expected", "planner", "the best fixed plan in expectation"),
    Method("index", "planner", "the rate index"),
    Method("adaptive", "planner", "the exact knapsack on the belief, again after every result"),
    Method(
        "dqn-draws",
        "learned",
        "DQN on p_good itself, trained on outcomes drawn from the belief, so that it meets wrong predictions",
        trains=True,
    ),
    Method("price", "planner", "the plan at the time price, made anew before every visit"),
    Method(
        "adaptive-trust",
        "planner",
        "`adaptive` on a belief that learns in the session how far to trust the predictions",
    ),
)
BY_NAME = {method.name: method for method in METHODS}
_MAY_BE_KEPT = ("dqn-draws", "adaptive-trust")
"""What is tried here; the others stand beside it. `adaptive-trust` learns in the session and is a planner."""


def trials(profile: Profile) -> list[Trial]:
    """Held-out routes of every method and split, then routes on validation of every method and training seed."""
    made = []
    for method in METHODS:
        for seed in range(TRAINING_SEEDS):
            parameters = {"part": "held-out", "method": method.name, "profile": profile}
            made.append(Trial(f"{method.name}, held-out patches {seed}", parameters, seed))
        for seed in range(TRAINING_SEEDS if method.trains else 1):
            parameters = {"part": "validation", "method": method.name, "profile": profile}
            made.append(Trial(f"{method.name}, validation, seed {seed}", parameters, seed))
    made.append(Trial("bound, validation", {"part": "bound", "profile": profile}, SEED))
    return made


@dataclass(frozen=True)
class RunTrial:
    """Runs one trial. folder : where trained policies are kept."""

    folder: Path = Path(".study") / "kept"

    def in_folder(self, folder: Path) -> RunTrial:
        """The same with another folder."""
        return replace(self, folder=folder)

    def __call__(self, trial: Trial) -> Json:
        """`{"good": {budget: [...]}, "bound": {budget: [...]}}`; a bound has no good, validation no bound."""
        part, profile = trial.parameters["part"], trial.parameters["profile"]
        if part == "bound":
            return {"good": _bound_on_validation()}
        policy = policy_of(BY_NAME[trial.parameters["method"]], trial.seed, profile, self.folder)
        if part == "held-out":
            return _on_held_out(policy, trial.seed)
        return _on_validation(policy)


def policy_of(method: Method, seed: int, profile: Profile, folder: Path) -> Policy:
    """The method's policy, trained with this seed where it trains; what is trained is kept in the folder."""
    from cryoscout.learning.registry import policy_named
    from cryoscout.routing.policies import make_policy

    if method.name == "dqn-draws":
        file, _ = trained_policy(_draws_spec(profile), seed, folder)
        return policy_named(str(file))
    if method.name == "price":
        from cryoscout.routing.policies.price import PricePlan

        return PricePlan()
    return make_policy(method.name)


def _draws_spec(profile: Profile) -> TrainingSpec:
    return TrainingSpec(
        "dqn",
        epochs_of(profile),
        elimination=False,
        prediction=PREDICTION,
        draws=True,
        changes={"view": {"labels": "soft", "candidates": "dominant"}},
    )


def _training_session() -> Any:
    from cryoscout.learning.from_session import training_session
    from cryoscout.study.engine.sessions import session_of

    data, _, _ = training_session(
        session_of("y1", "train"), budget_min=240.0, prediction=PREDICTION, time_model="cryorl"
    )
    return data


def _on_held_out(policy: Policy, seed: int) -> Json:
    """Routes on the patches that a training with this seed holds out, and the bound from the same starts."""
    from cryoscout.learning.held_out import split_patches, trials_of
    from cryoscout.learning.settings import settings_of
    from cryoscout.routing.replay import replay
    from cryoscout.session.splits import HELD_OUT_STREAM

    settings = settings_of("dqn", elimination=False, seed=seed)
    rng = np.random.default_rng([seed, HELD_OUT_STREAM])  # the split of `Training`
    _, held = split_patches(_training_session(), settings.held_out, rng)
    good, bound = {}, {}
    for trial in trials_of([] if held is None else [held], settings, rng):
        problem = trial.session.problem
        routes = replay(problem, trial.session.truth, policy, trial.starts.tolist(), seed)
        good[f"{problem.budget_min:g}"] = [route.good_found for route in routes]
        bound[f"{problem.budget_min:g}"] = trial.bound.tolist()
    return {"good": good, "bound": bound}


def _spec() -> ReplaySpec:
    return ReplaySpec("beyond", "adaptive", PREDICTION, starts=STARTS)


def _on_validation(policy: Policy) -> Json:
    from cryoscout.routing.replay import replay

    good, visited = {}, {}
    for budget in BUDGETS_MIN:
        problem, truth = problem_and_truth(_spec(), budget)
        routes = replay(problem, truth, policy, starts_of(_spec(), budget, SEED).tolist(), SEED)
        good[f"{budget:g}"] = [route.good_found for route in routes]
        visited[f"{budget:g}"] = [route.visited for route in routes]
    return {"good": good, "visited": visited}


def _bound_on_validation() -> dict[str, list[float]]:
    from cryoscout.routing.bound import good_holes_bound

    found = {}
    for budget in BUDGETS_MIN:
        problem, truth = problem_and_truth(_spec(), budget)
        starts = starts_of(_spec(), budget, SEED)
        found[f"{budget:g}"] = [good_holes_bound(problem, truth, int(start)) for start in starts]
    return found


def held_out_shares(rows: Sequence[TrialRow]) -> dict[str, list[float]]:
    """Per method, the share of the bound on each split's held-out patches, the mean over budgets."""
    shares: dict[str, list[float]] = {}
    for row in rows:
        if row.trial.parameters["part"] != "held-out" or row.result is None:
            continue
        good, bound = row.result["good"], row.result["bound"]
        share = float(np.mean([sum(good[budget]) / sum(bound[budget]) for budget in good]))
        shares.setdefault(row.trial.parameters["method"], []).append(share)
    return shares


def kept_method(shares: Mapping[str, Sequence[float]]) -> str | None:
    """The one tried here with the highest mean share; None until every split of every one of them is there."""
    if any(len(shares.get(name, ())) < TRAINING_SEEDS for name in _MAY_BE_KEPT):
        return None
    return _MAY_BE_KEPT[first_of_the_best(np.array([np.mean(shares[name]) for name in _MAY_BE_KEPT]))]


def _validation(rows: Sequence[TrialRow], method: str, budget: float, what: str = "good") -> Any:
    """(seeds, starts), or None where a seed is missing."""
    mine = [
        row
        for row in rows
        if row.trial.parameters["part"] == "validation" and row.trial.parameters["method"] == method
    ]
    if not mine or any(row.result is None for row in mine):
        return None
    return np.array([row.result[what][f"{budget:g}"] for row in mine if row.result is not None])


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The choice on held-out patches, the table on validation, differences to `adaptive`, the figure."""
    shares = held_out_shares(rows)
    kept = kept_method(shares)
    bound = next((row.result for row in rows if row.trial.parameters["part"] == "bound"), None)
    text = "\n\n".join(
        [
            "Can a learned policy find more than the planners? Every method below knows the same p_good "
            "(`combined`) but learns or looks ahead in its own way. One learned policy is kept by the good holes "
            f"it finds on training patches that never trained it ({TRAINING_SEEDS} splits, a quarter of the "
            "patches each, 32 routes at each of 60, 120, 180 and 240 minutes); only then were routes on "
            f"validation counted, {STARTS} starts as in the other studies. Profile: {profile}.",
            markdown_table(
                ["method", "kind", "what it does"], [[f"`{m.name}`", m.kind, m.says] for m in METHODS]
            ),
            "## The choice: share of the bound on held-out training patches",
            _shares_table(shares, kept),
            "`dqn-draws` is trained; `adaptive-trust` has no trained weights: it learns while the session runs. Two "
            "more were tried and are gone: a small network added to the order of `price` and trained by evolution "
            "strategies on draws, which was `price` because no generation improved it on held-out patches, and "
            "`adaptive` with a look ahead on draws before every move, which found fewer good holes than `adaptive` "
            "at every budget.",
            "The splits are small and the predictions were fitted on these patches, so differences of a point "
            "between methods are noise, and caution towards predictions cannot show its worth here.",
            "## Good holes on validation",
            _validation_table(rows, bound, kept),
            "## Paired differences to `adaptive`",
            "Good holes more than `adaptive` from the same starts, the mean of the training seeds for each start: "
            "mean and 95 % bootstrap interval over starts.",
            _differences(rows),
        ]
    )
    return Page(text, _figure(rows, bound), _json(rows, kept), {"kept": kept, "held_out_shares": shares})


def _shares_table(shares: Mapping[str, Sequence[float]], kept: str | None) -> str:
    lines = []
    for method in METHODS:
        values = shares.get(method.name, ())
        name = f"`{method.name}`" + (" (kept)" if method.name == kept else "")
        cells = [f"{100 * value:.1f} %" for value in values]
        cells += ["missing"] * (TRAINING_SEEDS - len(cells))
        mean = f"{100 * float(np.mean(values)):.1f} %" if len(values) == TRAINING_SEEDS else "missing"
        lines.append([name, *cells, mean])
    return markdown_table(["method", *[f"split {i}" for i in range(TRAINING_SEEDS)], "mean"], lines)


def _validation_table(rows: Sequence[TrialRow], bound: Json | None, kept: str | None) -> str:
    lines = []
    for method in METHODS:
        cells = []
        for budget in BUDGETS_MIN:
            good = _validation(rows, method.name, budget)
            cells.append("missing" if good is None else mean_std(float(good.mean()), float(good.std())))
        lines.append([f"`{method.name}`" + (" (kept)" if method.name == kept else ""), *cells])
    if bound is not None:
        best = [bound["good"][f"{budget:g}"] for budget in BUDGETS_MIN]
        lines.append([BOUND, *[mean_std(float(np.mean(each)), float(np.std(each))) for each in best]])
    return markdown_table(["method", *[f"{budget} min" for budget in BUDGETS_MIN]], lines)


def _differences(rows: Sequence[TrialRow]) -> str:
    lines = []
    for method in METHODS:
        if method.name == "adaptive":
            continue
        intervals: list[Interval | None] = []
        for budget in BUDGETS_MIN:
            mine, base = (_validation(rows, name, budget) for name in (method.name, "adaptive"))
            missing = mine is None or base is None
            intervals.append(None if missing else paired_difference(mine.mean(0), base.mean(0), SEED))
        lines.append([f"`{method.name}`", *[interval_text(interval) for interval in intervals]])
    return markdown_table(["method", *[f"{budget} min" for budget in BUDGETS_MIN]], lines)


def _json(rows: Sequence[TrialRow], kept: str | None) -> list[Json]:
    made = []
    for method in METHODS:
        for budget in BUDGETS_MIN:
            good = _validation(rows, method.name, budget)
            visited = _validation(rows, method.name, budget, "visited")
            made.append(
                {
                    "policy": method.name,
                    "kind": method.kind,
                    "prediction": method.prediction,
                    "elimination": False,
                    "starts_from": "all",
                    "budget_min": budget,
                    "good_mean": None if good is None else round(float(good.mean()), 3),
                    "good_std": None if good is None else round(float(good.std()), 3),
                    "visited_mean": None if visited is None else round(float(visited.mean()), 3),
                    "starts": 0 if good is None else good.shape[1],
                    "training_seeds": 0 if good is None or not method.trains else good.shape[0],
                    "kept": method.name == kept,
                }
            )
    return made


def _figure(rows: Sequence[TrialRow], bound: Json | None) -> bytes:
    """Good holes by method and budget, with the bound."""
    from cryoscout.report.figures import png_bytes
    from cryoscout.study.engine.figures import DotRow, dots_figure

    absent = np.full(len(BUDGETS_MIN), np.nan)
    shown = []
    for method in METHODS:
        per_budget = [_validation(rows, method.name, budget) for budget in BUDGETS_MIN]
        mean = np.array([np.nan if good is None else good.mean() for good in per_budget])
        std = np.array([np.nan if good is None else good.std() for good in per_budget])
        shown.append(DotRow(method.name, mean, std, absent))
    most = absent
    if bound is not None:
        most = np.array([np.mean(bound["good"][f"{budget:g}"]) for budget in BUDGETS_MIN])
    return png_bytes(dots_figure(shown, [f"{budget} min" for budget in BUDGETS_MIN], most, "good holes"))


_run: Callable[[Trial], Json] = RunTrial()
STUDY = Study(
    "beyond", "Beyond the papers: learned policies against the planners", trials, _run, page, PACKAGES
)
