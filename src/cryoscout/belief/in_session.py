"""Labels of some holes of a session predict its other holes: the one entrance to every way of doing so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.calibration import Calibration, clipped_logit, fit_calibration, sigmoid
from cryoscout.belief.stage_process import TERMS, StageProcessModel, Term, check_holes, fit_stage_process
from cryoscout.core.errors import UnknownNameError
from cryoscout.core.hole_tree import HoleTree

InSessionKind = Literal["temperature", "platt", "effects", "stage", "effects+stage"]

_TERMS: dict[str, tuple[Term, ...]] = {
    "effects": ("patch", "square", "grid"),
    "stage": ("stage",),
    "effects+stage": TERMS,
}


@dataclass(frozen=True)
class InSession:
    """A prediction given labels, and the model behind it."""

    p_good: NDArray[np.float64]  # (n,) probability that one more exposure of the hole is good
    kind: InSessionKind
    model: Calibration | StageProcessModel


def predict_given_labels(
    score_p: NDArray[np.float64],
    labels: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    tree: HoleTree,
    x_um: NDArray[np.float64],
    y_um: NDArray[np.float64],
    kind: InSessionKind = "effects+stage",
    learned_from: NDArray[np.bool_] | None = None,
) -> InSession:
    """Fit to the labelled holes, and predict every hole of the session given their outcomes.

    score_p : (n,) a classifier's score in 0..1     labels : (n,) 0 or 1, NaN where not labelled
    patch_of_hole : (n,) int32, in any order
    x_um, y_um : (n,) stage position within the grid, any origin; NaN where missing
    kind : `temperature` and `platt` calibrate the scores (`calibration.py`) and know nothing else; `effects` has the
        scores in context and effects of patch, square and grid; `stage` has in their place a smooth field over the
        stage; `effects+stage` has both (`stage_process.py`)
    learned_from : (n,) holes whose label the classifier was fitted to. There its score repeats the label, and would
        teach that scores are right: calibrations leave such holes out, and the others take `unlearned_scores`
    Raises InputError as `stage_process.check_holes` does and where no hole of one class is labelled (`temperature`,
    `platt`: fewer than 10 labels too); UnknownNameError for another kind.
    """
    if kind not in get_args(InSessionKind):
        raise UnknownNameError("The kind of prediction", kind, get_args(InSessionKind))
    check_holes(score_p, labels, patch_of_hole, tree, x_um, y_um)
    learned = np.zeros(len(labels), dtype=np.bool_) if learned_from is None else learned_from
    if kind in ("temperature", "platt"):
        labelled = ~np.isnan(labels) & ~learned
        calibration = fit_calibration(score_p[labelled], labels[labelled], kind)
        return InSession(calibration.apply(score_p), kind, calibration)
    score_p = unlearned_scores(score_p, learned, patch_of_hole, tree)
    model = fit_stage_process(score_p, labels, patch_of_hole, tree, x_um, y_um, _TERMS[kind])
    return InSession(model.p_good(score_p, labels, patch_of_hole, tree, x_um, y_um), kind, model)


def unlearned_scores(
    score_p: NDArray[np.float64],
    learned: NDArray[np.bool_],
    patch_of_hole: NDArray[np.int32],
    tree: HoleTree,
) -> NDArray[np.float64]:
    """(n,) scores, those of learned holes replaced by what the scores around them say.

    That is the mean logit of the other holes of the patch; where all of these are learned, of the square, the grid, or
    the session; 0.5 where every hole is learned. The hole's own part of the score is lost, and the patch's effect is
    not asked to explain it.
    """
    if not learned.any():
        return score_p
    logit, known = clipped_logit(score_p), ~learned
    square_of_hole = tree.square_of_patch[patch_of_hole]
    levels = (
        np.zeros_like(patch_of_hole),
        tree.grid_of_square[square_of_hole],
        square_of_hole,
        patch_of_hole,
    )
    around = np.zeros(len(logit))
    for level in levels:
        counts = np.bincount(level, weights=known)
        means = np.bincount(level, weights=np.where(known, logit, 0.0)) / np.maximum(counts, 1.0)
        around = np.where(counts[level] > 0, means[level], around)
    return np.where(learned, sigmoid(around), score_p)
