"""Teachers: who guesses the labels of unlabelled holes, and the guesses as `fit` takes them. Needs no torch.

A teacher is anything that gives p_good of every hole: a classifier itself, the belief given the session's labels
(`believed`), a policy. Measured labels are never changed by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.in_session import InSessionKind, predict_given_labels
from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.perception.prepare import UNLABELLED, Labels, check_labels, check_weights

Form = Literal["hard", "soft"]


@dataclass(frozen=True)
class Places:
    """Where the n holes of a session are."""

    patch_of_hole: NDArray[np.int32]
    """(n,)"""
    tree: HoleTree
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    """(n,) stage position within the grid, any origin; NaN where missing"""


@dataclass(frozen=True)
class Taught:
    """Measured labels and guesses of n holes, for `fit(images, labels, weights=weights, held_out=...)`."""

    labels: Labels
    weights: NDArray[np.float64]
    """(n,) 1 for a measured label"""
    guessed: NDArray[np.bool_]
    """(n,)"""

    def mean_weight(self) -> float:
        """Of the guesses; NaN without any."""
        return float(self.weights[self.guessed].mean()) if self.guessed.any() else float("nan")

    def share_right(self, truth: NDArray[np.int64]) -> float:
        """Share of the guesses whose likelier class is the true one, by weight; NaN where none has any.

        truth : (n,) class, -1 = unknown, which is left out
        """
        likelier = self.labels if self.labels.ndim == 1 else self.labels.argmax(axis=1)
        weight = np.where(self.guessed & (truth != UNLABELLED), self.weights, 0.0)
        whole = float(weight.sum())
        return float(weight[likelier == truth].sum()) / whole if whole > 0.0 else float("nan")


def taught(
    labels: NDArray[np.int64],
    p_good: NDArray[np.float64],
    form: Form = "hard",
    weights: NDArray[np.float64] | None = None,
) -> Taught:
    """Measured labels as they are, and a teacher's guess where there is none.

    labels : (n,) 1 good, 0 not, -1 = unlabelled     p_good : (n,) the teacher's; read only where unlabelled
    form : `hard`: the likelier class; `soft`: the probability itself
    weights : (n,) of the guesses; None: of hard ones |2 p - 1|, the less the nearer to even, of soft ones 1, because
        the probability says its doubt already
    Raises InputError for another form, labels above 1, probabilities outside 0..1, and weights that are not 0 or more.
    """
    known = check_labels(labels, len(p_good))
    guessed = np.asarray(known == UNLABELLED)
    if form not in ("hard", "soft"):
        raise InputError(f"The form of guesses must be hard or soft. Got {form!r} instead.")
    if known.max(initial=0) > 1:
        raise InputError(f"Labels of a teacher must be 1 for good or 0. Got {known.max()} instead.")
    wrong = np.flatnonzero(guessed & ~((p_good >= 0.0) & (p_good <= 1.0)))  # NaN too
    if len(wrong):
        raise InputError(
            f"A teacher's p_good must lie in 0..1. Got {p_good[wrong[0]]} for hole {wrong[0]} instead."
        )
    if weights is None:
        weights = np.abs(2.0 * p_good - 1.0) if form == "hard" else np.ones(len(p_good))
    weight = np.where(guessed, check_weights(weights, guessed, "Weights of guesses"), 1.0)
    if form == "hard":
        return Taught(np.where(guessed, (p_good > 0.5).astype(np.int64), known), weight, guessed)
    good = np.where(guessed, p_good, known).astype(np.float64)
    return Taught(np.stack([1.0 - good, good], axis=1), weight, guessed)


def believed(
    score_p: NDArray[np.float64],
    labels: NDArray[np.int64],
    learned_from: NDArray[np.bool_],
    places: Places,
    kind: InSessionKind = "effects+stage",
) -> NDArray[np.float64]:
    """(n,) what the belief says of every hole, given a classifier's scores and the labels: the teacher of `taught`.

    score_p : (n,) 0..1     labels : (n,) 1 good, 0 not, -1 = unlabelled
    learned_from : (n,) holes whose label the classifier was fitted to (`from_session.learned_from`); there its score
        repeats the label
    Of a labelled hole it is the probability that one more exposure is good. Raises the errors of
    `belief.in_session.predict_given_labels`.
    """
    known = np.where(labels == UNLABELLED, np.nan, labels)
    return predict_given_labels(
        score_p, known, places.patch_of_hole, places.tree, places.x_um, places.y_um, kind,
        learned_from=learned_from,
    ).p_good  # fmt: skip
