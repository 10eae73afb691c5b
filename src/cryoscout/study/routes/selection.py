"""Study `adaptive-selection`: how the adaptive planner's settings were chosen, on the training split of Y1 alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.context import fit_context, y1_context
from cryoscout.belief.effects import EffectVariances
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.report.statistics import Interval, paired_difference
from cryoscout.routing.policies.base import Policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, random_starts, replay
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.published import BUDGETS_MIN
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table

if TYPE_CHECKING:
    from cryoscout.session.model import Session

SEED = 0
FOLDS = 5
PATCHES_PER_SUBSET = 52
"""As many as the validation split has."""
STARTS_PER_SUBSET = 3
CLASSIFIER = "res18"


@dataclass(frozen=True)
class Candidate:
    """One row: a policy, its prior, its settings.

    effect_scale : prior effect variances over the fitted ones     settings : of the policy, others at their default
    """

    key: str
    policy: str
    effect_scale: float = 2.0
    settings: tuple[tuple[str, float | int | str | bool], ...] = ()


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("expected", "expected"),
    Candidate("index", "index"),
    Candidate("adaptive, scale 1", "adaptive", 1.0),
    Candidate("adaptive, scale 2", "adaptive", 2.0),
    Candidate("adaptive, scale 4", "adaptive", 4.0),
    Candidate("adaptive, scale 8", "adaptive", 8.0),
    Candidate("index on the belief", "index-on-belief", 2.0),
    Candidate("knapsack on a draw", "knapsack-on-draw", 2.0),
    Candidate("adaptive, scale 2, optimism 0.25", "adaptive", 2.0, (("optimism", 0.25),)),
    Candidate("adaptive, scale 2, optimism 0.5", "adaptive", 2.0, (("optimism", 0.5),)),
)
"""Add a row to compare another setting; a row without `optimism` has it at 0, the default."""

CHOSEN = "adaptive, scale 2"


def trials(profile: Profile) -> list[Trial]:
    """One trial per subset of patches with every candidate: 10, or 60 in the profile `paper`."""
    candidates = [
        [each.key, each.policy, each.effect_scale, [list(pair) for pair in each.settings]]
        for each in CANDIDATES
    ]
    subsets = 10 if profile == "quick" else 60
    return [
        Trial(f"subset {number + 1}", {"subset": number, "candidates": candidates}, SEED)
        for number in range(subsets)
    ]


def run_trial(trial: Trial) -> Json:
    """Good holes of each candidate: {"good": {key: (budgets, starts) lists}}; starts are the same for all."""
    number = int(trial.parameters["subset"])
    rng = np.random.default_rng([trial.seed, number])
    allowed = subset_of_patches(rng)
    truth = Truth(np.nan_to_num(_good()), ~np.isnan(_good()))
    starts = [int(start) for start in random_starts(allowed, STARTS_PER_SUBSET, rng)]
    good: dict[str, list[list[float]]] = {}
    for key, policy, scale, settings in trial.parameters["candidates"]:
        candidate = Candidate(key, policy, scale, tuple((name, value) for name, value in settings))
        good[key] = [
            found(candidate, problem_of(allowed, candidate.effect_scale, budget), truth, starts, number)
            for budget in BUDGETS_MIN
        ]
    return {"good": good}


def found(
    candidate: Candidate, problem: RoutingProblem, truth: Truth, starts: Sequence[int], seed: int
) -> list[float]:
    """Good holes from each start."""
    policy = policy_of(candidate)
    return [result.good_found for result in replay(problem, truth, policy, starts, seed)]


def policy_of(candidate: Candidate) -> Policy:
    """A registered policy, or one of the two that were tried here and not kept."""
    from cryoscout.routing.policies import make_policy
    from cryoscout.study.routes.adaptive_variants import IndexOnBelief, KnapsackOnDraw

    tried = {kind.name: kind for kind in (IndexOnBelief, KnapsackOnDraw)}
    if candidate.policy in tried:
        return cast("Policy", tried[candidate.policy]())
    return make_policy(candidate.policy, **dict(candidate.settings))


def subset_of_patches(rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n,) holes with an outcome in PATCHES_PER_SUBSET random patches of the training split."""
    patch_of_hole = _session().tree().patch_of_hole
    patches = rng.choice(int(patch_of_hole[-1]) + 1, PATCHES_PER_SUBSET, replace=False)
    return np.isin(patch_of_hole, patches) & ~np.isnan(_good())


def problem_of(allowed: NDArray[np.bool_], effect_scale: float, budget_min: float) -> RoutingProblem:
    """The training split as new, only the allowed holes open, under the rules of the papers."""
    fitted = y1_context().effects
    return RoutingProblem(
        tree=_session().tree(),
        prior_p_good=cross_fitted_p_good(),
        budget_min=budget_min,
        crossing="count",
        effects=EffectVariances(
            patch=effect_scale * fitted.patch,
            square=effect_scale * fitted.square,
            grid=effect_scale * fitted.grid,
            session=effect_scale * fitted.session,
        ),
        allowed=allowed,
    )


@lru_cache(maxsize=1)
def cross_fitted_p_good() -> NDArray[np.float64]:
    """(n,) p_good of the training holes, each by a context model that was fitted without the hole's own patch."""
    from cryoscout.session.splits import folds_by

    session = _session()
    tree = session.tree()
    score = session.prediction(CLASSIFIER, GOOD_THRESHOLD_ANGSTROM)
    fold = folds_by(tree.patch_of_hole, FOLDS, np.random.default_rng(SEED))
    p_good = np.empty(session.n_holes)
    for held_out in range(FOLDS):
        labels = np.where(fold == held_out, np.nan, _good())
        model = fit_context(
            score, labels, tree.patch_of_hole, tree, y1_context().context_sd, variances_off_zero=True
        )
        p_good[fold == held_out] = model.p_good(score, tree.patch_of_hole, tree)[fold == held_out]
    return p_good


@lru_cache(maxsize=1)
def _session() -> Session:
    from cryoscout.session.named import load_session

    return load_session("y1", "train")


@lru_cache(maxsize=1)
def _good() -> NDArray[np.float64]:
    return _session().good_by_hole(GOOD_THRESHOLD_ANGSTROM)


Means = Mapping[str, NDArray[np.float64]]
"""(subsets, budgets) mean over starts of the good holes, by candidate."""


def means_by_candidate(rows: Sequence[TrialRow]) -> Means | None:
    """None where a trial failed: candidates are compared on all subsets or not at all."""
    results = [row.result for row in rows if row.result is not None]
    if not results or len(results) < len(rows):
        return None
    return {
        key: np.array([np.mean(result["good"][key], axis=1) for result in results])
        for key in results[0]["good"]
    }


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """Means, paired differences from the chosen candidate, the figure."""
    means = means_by_candidate(rows)
    text = "\n\n".join(
        [
            f"Replays on the training split of Y1 alone: {len(rows)} random subsets of {PATCHES_PER_SUBSET} of its "
            f"patches, {STARTS_PER_SUBSET} random starts each, time model `cryorl`, the crossing visit counts. "
            f"p_good of a hole comes from {CLASSIFIER} in context, fitted in {FOLDS} folds of patches, never on the "
            "hole's own patch. `scale` multiplies the variances of the effects that were fitted on the training "
            "split; `expected` and `index` do not use them. No validation outcome is read.",
            "What this cannot see: ResNet-18 was trained on these very holes, so its scores explain more here than "
            "on new patches, and large scales are at a disadvantage here.",
            "## Good holes",
            "Mean over subsets and starts.",
            _means_table(means),
            f"## Difference from `{CHOSEN}`",
            "Good holes more than the chosen candidate on the same subsets and starts: mean and 95 % bootstrap "
            "interval over subsets. Subsets overlap, so the intervals are too narrow for another session.",
            _differences_table(means),
        ]
    )
    return Page(text, _figure(means), [_row_json(candidate, means) for candidate in CANDIDATES])


def _means_table(means: Means | None) -> str:
    lines = []
    for candidate in CANDIDATES:
        if means is None:
            values = [MISSING] * (len(BUDGETS_MIN) + 1)
        else:
            each = means[candidate.key].mean(axis=0)
            values = [f"{value:.2f}" for value in (*each, each.sum())]
        lines.append([_title(candidate), *values])
    return markdown_table(["", *[f"{budget} min" for budget in BUDGETS_MIN], "sum"], lines)


def _title(candidate: Candidate) -> str:
    return f"`{candidate.key}`" + (" (chosen)" if candidate.key == CHOSEN else "")


def differences(candidate: Candidate, means: Means) -> list[Interval]:
    """From the chosen candidate: one per budget, and the sum over budgets."""
    first, second = means[candidate.key], means[CHOSEN]
    columns = [*range(len(BUDGETS_MIN))]
    return [paired_difference(first[:, at], second[:, at], SEED) for at in columns] + [
        paired_difference(first.sum(axis=1), second.sum(axis=1), SEED)
    ]


def _differences_table(means: Means | None) -> str:
    lines = []
    for candidate in CANDIDATES:
        if candidate.key == CHOSEN:
            continue
        values = (
            [MISSING] * (len(BUDGETS_MIN) + 1)
            if means is None
            else [_interval(each) for each in differences(candidate, means)]
        )
        lines.append([_title(candidate), *values])
    return markdown_table(["", *[f"{budget} min" for budget in BUDGETS_MIN], "sum"], lines)


def _interval(each: Interval) -> str:
    return f"{each.mean:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"


def _row_json(candidate: Candidate, means: Means | None) -> Json:
    row: Json = {
        "candidate": candidate.key,
        "policy": candidate.policy,
        "effect_scale": candidate.effect_scale,
        "settings": dict(candidate.settings),
        "chosen": candidate.key == CHOSEN,
        "missing": means is None,
    }
    if means is not None:
        row["subsets"] = len(means[candidate.key])
        row["budgets_min"] = list(BUDGETS_MIN)
        row["good_mean"] = means[candidate.key].mean(axis=0).round(3).tolist()
        *by_budget, total = differences(candidate, means)
        row["difference"] = [_rounded(each) for each in by_budget]
        row["difference_sum"] = _rounded(total)
    return row


def _rounded(each: Interval) -> list[float]:
    return [round(each.mean, 3), round(each.low, 3), round(each.high, 3)]


def _figure(means: Means | None) -> bytes:
    from cryoscout.report.figures import png_bytes
    from cryoscout.study.engine.figures import intervals_figure

    panels = len(BUDGETS_MIN) + 1
    rows: dict[str, list[tuple[float, float, float] | None]] = {}
    for candidate in CANDIDATES:
        if means is None:
            rows[candidate.key] = [None] * panels
        elif candidate.policy == "adaptive" and candidate.key != CHOSEN:
            rows[candidate.key] = [(each.mean, each.low, each.high) for each in differences(candidate, means)]
    titles = [*[f"{budget} min" for budget in BUDGETS_MIN], "sum"]
    return png_bytes(
        intervals_figure(rows, titles, f"good holes more than\n{CHOSEN}", references=[0.0] * panels)
    )


STUDY = Study(
    "adaptive-selection",
    "How the adaptive planner's settings were chosen",
    trials,
    run_trial,
    page,
    page_profile="paper",
)
