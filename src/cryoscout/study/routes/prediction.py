"""Study `prediction`: how good the named predictions of Y1 validation are, how honest their probabilities, and what
the fields over the stage add (`stage_losses.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from cryoscout.belief.context import fit_context
from cryoscout.belief.evaluation import evaluate_predictions
from cryoscout.belief.scores import BINS
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.ties import order_lowest_first
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table
from cryoscout.study.routes import stage_losses

if TYPE_CHECKING:
    from cryoscout.session.model import Session

SEED = 0
FOLDS = 5
CLASSIFIER = "res18"
PREDICTIONS = ("res18", "res50", "combined", "flat")
REFITTED = ("combined", "flat")
"""Predictions with something fitted on outcomes of training holes by this package."""

MOST_ECE, LEAST_SKILL = 0.03, 0.35
"""What `combined` has to reach on Y1 validation: debiased ECE at most, Brier skill above."""

BY_PATCH, BY_SQUARE = "patch", "square"
Numbers = NDArray[np.float64]


def trials(profile: Profile) -> list[Trial]:
    """One trial per prediction and split, then those of the fields; `paper` draws more bootstrap samples."""
    draws = 1000 if profile == "quick" else 5000
    pairs = [(name, BY_PATCH) for name in PREDICTIONS] + [(name, BY_SQUARE) for name in REFITTED]
    of_predictions = [
        Trial(f"{name}, split by {split}", {"prediction": name, "split": split, "draws": draws}, SEED)
        for name, split in pairs
    ]
    return of_predictions + stage_losses.trials()


def run_trial(trial: Trial) -> Json:
    """All scores of one prediction on Y1 validation, their intervals, and the bins of its reliability diagram."""
    from cryoscout.routing.predictions import named_p_good
    from cryoscout.session.named import load_session

    if stage_losses.is_of_stage(trial):
        return stage_losses.run_trial(trial)
    name, split = trial.parameters["prediction"], trial.parameters["split"]
    session = load_session("y1", "val")
    if split == BY_PATCH:
        p = named_p_good(session, name)
    else:
        p = p_good_of_unseen_squares(load_session("y1", "train"), session, name, trial.seed)
    good = session.good_by_hole(GOOD_THRESHOLD_ANGSTROM)
    known = ~np.isnan(good)
    tree = session.tree()
    patch_of_hole, square_of_patch = tree.patch_of_hole, tree.square_of_patch
    level = patch_of_hole if split == BY_PATCH else square_of_patch[patch_of_hole]
    return scores_of(p[known], good[known], level[known], trial.parameters["draws"], trial.seed)


def p_good_of_unseen_squares(training: Session, session: Session, prediction: str, seed: int) -> Numbers:
    """(n,) p_good of the session's holes; whatever is fitted comes from training holes of other squares.

    Squares are dealt into FOLDS folds; training holes of a fold's squares lend their scores to the context of
    their own neighbours, but no outcome.
    """
    from cryoscout.session.splits import folds_by

    squares_of = [each.patches.set_index("patch_id")["square_id"] for each in (training, session)]
    square_of_hole = np.concatenate(
        [
            squares.loc[each.holes["patch_id"]].to_numpy(dtype=str)
            for each, squares in zip((training, session), squares_of, strict=True)
        ]
    )
    fold = folds_by(square_of_hole, FOLDS, np.random.default_rng(seed))
    training_fold, session_fold = fold[: training.n_holes], fold[training.n_holes :]
    good = training.good_by_hole(GOOD_THRESHOLD_ANGSTROM)
    p_good = np.empty(session.n_holes)
    for held_out in range(FOLDS):
        labels = np.where(training_fold == held_out, np.nan, good)
        inside = session_fold == held_out
        p_good[inside] = _fitted_p_good(training, session, prediction, labels)[inside]
    return p_good


def _fitted_p_good(training: Session, session: Session, prediction: str, labels: Numbers) -> Numbers:
    """(n,) p_good of the session's holes from labels, (m,) NaN where not given, of the training holes."""
    if prediction == "flat":
        return np.full(session.n_holes, float(np.nanmean(labels)))
    (of_training, training_tree), (of_session, session_tree) = _tree(training), _tree(session)
    scores = [each.prediction(CLASSIFIER, GOOD_THRESHOLD_ANGSTROM) for each in (training, session)]
    model = fit_context(scores[0], labels, of_training, training_tree)
    return model.p_good(scores[1], of_session, session_tree)


def _tree(session: Session) -> tuple[NDArray[np.int32], HoleTree]:
    tree = session.tree()
    return tree.patch_of_hole, tree


def scores_of(p: Numbers, good: Numbers, level: NDArray[np.int32], draws: int, seed: int) -> Json:
    """Every score of probabilities p, (n,), against outcomes good, (n,) 0 or 1, and the reliability bins.

    level : (n,) patch or square of each hole: the bootstrap draws whole members of it
    """
    scores = asdict(evaluate_predictions(p, good, np.random.default_rng(seed), level, draws))
    # The order in which the evaluation breaks ties: its bins are these.
    order = np.random.default_rng(seed).permutation(len(p))
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in scores.items()},
        "bins": reliability_bins(p[order], good[order]),
    }


def reliability_bins(p: Numbers, good: Numbers) -> list[Json]:
    """Equal-mass bins as in the ECE: mean p, share of good with its exact binomial 95 % interval, holes."""
    order = order_lowest_first(p)
    bins: list[Json] = []
    for holes in np.array_split(order, BINS):
        count = int(good[holes].sum())
        interval = binomtest(count, len(holes)).proportion_ci(0.95, method="exact")
        bins.append(
            {
                "holes": len(holes),
                "p_mean": float(p[holes].mean()),
                "share_good": count / len(holes),
                "share_good_interval": [float(interval.low), float(interval.high)],
            }
        )
    return bins


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """One table for each split, the verdict on `combined`, the fields over the stage, the reliability diagram."""
    of_stage = [row for row in rows if stage_losses.is_of_stage(row.trial)]
    of_predictions = [row for row in rows if not stage_losses.is_of_stage(row.trial)]
    found = {
        (row.trial.parameters["prediction"], row.trial.parameters["split"]): row.result
        for row in of_predictions
    }
    stage_section, stage_figures = stage_losses.section(of_stage)
    text = "\n\n".join(
        [
            "Quality of the named predictions on the validation holes of Y1 (good: CTF resolution at or below 6 Å). "
            "Accuracy, precision and recall call a hole good at p_good 0.5 or more. Brier skill is against always "
            "saying the share of good holes of the very holes judged. ECE: 10 equal-mass bins, as it comes and less "
            "what perfectly calibrated probabilities would show; holes of one p stand in random order. Log loss: a "
            "p of exactly 0 or 1, as the released networks give, counts as 1e-12 from it.",
            "## Split by patch",
            "The published split: training and validation share squares and grids, but no patch. Intervals: 95 % "
            "bootstrap over patches.",
            _table(found, [(name, BY_PATCH) for name in PREDICTIONS]),
            _verdict(found.get(("combined", BY_PATCH))),
            "## Split by square",
            f"The same validation holes; what is fitted on outcomes comes from training holes of other squares alone "
            f"({FOLDS} folds of squares). `res18` and `res50` have nothing of the kind, so their row stays as above. "
            "The networks behind them were trained by their authors on training holes of these squares, which "
            "cannot be undone here. `flat` differs from fold to fold and is lower where the held-out squares are "
            "better, hence its AUC below 0.5. Intervals: 95 % bootstrap over squares.",
            _table(found, [(name, BY_SQUARE) for name in REFITTED]),
            stage_section,
        ]
    )
    figures = [_row_json(key, result) for key, result in found.items()]
    return Page(text, _figure(found), figures + stage_figures)


_COLUMNS = ("accuracy", "precision", "recall", "auc", "brier_skill", "log_loss", "ece", "ece_debiased")


def _table(found: dict[tuple[str, str], Json | None], keys: Sequence[tuple[str, str]]) -> str:
    lines = []
    for name, split in keys:
        result = found.get((name, split))
        if result is None:
            lines.append([f"`{name}`", *[MISSING] * len(_COLUMNS)])
            continue
        values = {column: "-" if result[column] is None else f"{result[column]:.3f}" for column in _COLUMNS}
        for column, interval in (("brier_skill", "brier_skill_interval"), ("ece_debiased", "ece_interval")):
            low, high = result[interval]
            values[column] += f" [{low:.3f}, {high:.3f}]"
        lines.append([f"`{name}`", *values.values()])
    return markdown_table(
        ["", "accuracy", "precision", "recall", "AUC", "Brier skill", "log loss", "ECE", "ECE debiased"],
        lines,
    )


def _verdict(result: Json | None) -> str:
    if result is None:
        return f"`combined`: {MISSING}."
    met = result["ece_debiased"] <= MOST_ECE and result["brier_skill"] > LEAST_SKILL
    return (
        f"`combined` has to reach a debiased ECE of at most {MOST_ECE} and a Brier skill above {LEAST_SKILL}: "
        f"{'it does' if met else 'it does not'} ({result['ece_debiased']:.3f} and {result['brier_skill']:.3f})."
    )


def _row_json(key: tuple[str, str], result: Json | None) -> Json:
    row: Json = {"prediction": key[0], "split_by": key[1], "missing": result is None}
    return row if result is None else row | result


def _figure(found: dict[tuple[str, str], Json | None]) -> bytes:
    from cryoscout.report.figures import ReliabilityBins, png_bytes, reliability_figure

    panels = []
    shown = [("res18", BY_PATCH), ("res50", BY_PATCH), ("combined", BY_PATCH), ("combined", BY_SQUARE)]
    for name, split in shown:
        result = found.get((name, split))
        bins = [] if result is None else result["bins"]
        title = name + (", by square" if split == BY_SQUARE else "") + ("" if bins else f" ({MISSING})")
        panels.append(
            ReliabilityBins(
                title,
                np.array([each["p_mean"] for each in bins]),
                np.array([each["share_good"] for each in bins]),
                np.array([each["share_good_interval"][0] for each in bins]),
                np.array([each["share_good_interval"][1] for each in bins]),
            )
        )
    return png_bytes(reliability_figure(panels))


STUDY = Study("prediction", "How good the predictions are", trials, run_trial, page)
