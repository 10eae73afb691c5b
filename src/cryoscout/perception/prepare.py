"""What a training is given, checked: crops, labels, their weights, those held out, crops set aside. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoscout.core.errors import InputError
from cryoscout.perception.settings import FitSettings
from cryoscout.session.splits import HELD_OUT_STREAM, split_by_class
from cryoscout.session.splits import UNLABELLED as UNLABELLED

SMALLEST_SIDE_PX = 8
FURTHEST_FROM_ONE = 1e-6
"""A row of soft labels may sum to 1 within this."""

Labels = NDArray[np.int64] | NDArray[np.float64]
"""(n,) class, -1 = unlabelled; or soft ones, (n, classes) probabilities, rows summing to 1"""


@dataclass(frozen=True)
class Targets:
    """What a training is told of n crops, checked by `targets_of`."""

    labels: Labels
    weights: NDArray[np.float64]
    """(n,) 0 where a crop has no label, or shows nothing"""
    held_out: NDArray[np.bool_]
    """(n,) labelled crops that are not trained on"""
    classes: int

    def of(self, rows: NDArray[np.bool_]) -> Targets:
        """Those of some crops, (n,) bool."""
        return Targets(self.labels[rows], self.weights[rows], self.held_out[rows], self.classes)

    @property
    def classes_held_out(self) -> NDArray[np.int64]:
        """(k,) class of every held-out crop; such labels are sure."""
        labels = self.labels[self.held_out]
        return np.asarray(labels if labels.ndim == 1 else labels.argmax(axis=1), dtype=np.int64)


def check_images(images: NDArray[Any]) -> NDArray[np.uint8]:
    """The crops, if they are (n, h, w) uint8 of at least 8 px. Raises InputError."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 3:
        got = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(
            f"Images must be an array (n, h, w) of uint8. Got {got} instead. Remedy: scale the crops of each patch "
            "image to 0..255."
        )
    if min(images.shape[1:]) < SMALLEST_SIDE_PX:
        raise InputError(
            f"Images must be at least {SMALLEST_SIDE_PX} px high and wide. Got {images.shape[1:]} instead."
        )
    return images


def check_labels(labels: NDArray[Any], n: int, what: str = "Labels") -> NDArray[np.int64]:
    """The labels, if they are n whole numbers of -1 or more. Raises InputError."""
    found = np.asarray(labels)
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise InputError(
            f"{what} must be one whole number per image, {n} in all. Got {found.dtype} {found.shape} instead."
        )
    whole = found.astype(np.int64)
    wrong = np.flatnonzero(whole < UNLABELLED)
    if len(wrong):
        raise InputError(
            f"{what} must be 0 or more, or -1 for none. Got {whole[wrong[0]]} for image {wrong[0]} instead."
        )
    return whole


def check_soft_labels(labels: NDArray[Any], n: int) -> NDArray[np.float64]:
    """The labels, if they are n distributions over two classes or more. Raises InputError naming the first other."""
    found = np.asarray(labels, dtype=np.float64)
    if len(found) != n or found.shape[1] < 2:
        raise InputError(
            f"Soft labels must be a row of two or more probabilities per image, {n} in all. Got {found.shape} instead."
        )
    # A NaN fails every comparison.
    right = (found >= 0.0).all(axis=1) & (np.abs(found.sum(axis=1) - 1.0) <= FURTHEST_FROM_ONE)
    wrong = np.flatnonzero(~right)
    if len(wrong):
        raise InputError(
            "Soft labels must be probabilities of 0 or more that sum to 1. Got "
            f"{found[wrong[0]].tolist()} for image {wrong[0]} instead. Remedy: for an image without a label, any such "
            "row with weight 0."
        )
    return found


def check_weights(
    weights: NDArray[Any] | None, labelled: NDArray[np.bool_], what: str = "Weights"
) -> NDArray[np.float64]:
    """(n,) weights, 1 where None are given, 0 without a label. Raises InputError naming the first that is wrong.

    labelled : (n,); weights of other images are not read
    """
    if weights is None:
        return labelled.astype(np.float64)
    found = np.asarray(weights)
    if found.shape != labelled.shape or found.dtype.kind not in "iuf":
        raise InputError(
            f"{what} must be one number per image, {len(labelled)} in all. Got {found.dtype} {found.shape} instead."
        )
    found = np.where(labelled, found.astype(np.float64), 0.0)
    wrong = np.flatnonzero(~((found >= 0.0) & np.isfinite(found)))
    if len(wrong):
        raise InputError(
            f"{what} must be finite and 0 or more. Got {found[wrong[0]]} for image {wrong[0]} instead."
        )
    return found


def class_count(labels: NDArray[np.int64], classes: int | None) -> int:
    """How many classes there are.

    classes : None takes the largest label + 1
    Raises InputError when there is no label, fewer than two classes, or a class without a label.
    """
    known = labels[labels != UNLABELLED]
    if not len(known):
        raise InputError(
            f"At least one crop of every class must be labelled. Got no label for {len(labels)} crops instead. Remedy: "
            "measure some holes first."
        )
    n = int(known.max()) + 1 if classes is None else classes
    if int(known.max()) >= n:
        raise InputError(f"Labels must be below {n}, the number of classes. Got {known.max()} instead.")
    if n < 2:
        raise InputError(
            "Labels must be of at least two classes. Got one, class 0, instead. Remedy: label crops of another class."
        )
    missing = np.setdiff1d(np.arange(n), known)
    if len(missing):
        raise InputError(
            f"Every one of the {n} classes must have a label. Got none of class {', '.join(map(str, missing))} "
            "instead. Remedy: label such crops, or number the classes without a gap."
        )
    return n


def unusable(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(n,) whether a crop shows nothing: all its pixels are the same, as in black crops and cut-off frames."""
    return np.asarray(images.min(axis=(1, 2)) == images.max(axis=(1, 2)))


def targets_of(
    labels: NDArray[Any],
    weights: NDArray[Any] | None,
    held_out: ArrayLike | None,
    shows_nothing: NDArray[np.bool_],
    settings: FitSettings,
    classes: int | None = None,
) -> Targets:
    """What a training with these settings is told of n crops.

    labels : as `Labels`     weights : (n,) 0 or more, 0 = unlabelled; None: 1 for every label
    held_out : (n,) labelled crops that are not trained on; None: those that `drawn_held_out` draws
    shows_nothing : (n,) crops that are left out with their labels     classes : None takes what the labels say
    Raises InputError for anything that is not so; for a class that no label is left of; for labels with weights, or
    soft ones, without `held_out`: a guess must not choose the weights.
    """
    if shows_nothing.all() and len(shows_nothing):
        raise InputError(
            f"Images must show something. Got {len(shows_nothing)} crops of one grey level each instead."
        )
    n, soft = len(shows_nothing), np.ndim(labels) == 2
    told: Labels = check_soft_labels(labels, n) if soft else check_labels(labels, n)
    labelled = np.ones(n, dtype=np.bool_) if soft else np.asarray(told != UNLABELLED)
    weight = check_weights(weights, labelled)
    drawn = held_out is None
    held = _drawn(told, weights, shows_nothing, settings) if drawn else _given(held_out, told, weight > 0.0)
    weight[shows_nothing], held = 0.0, held & ~shows_nothing
    if told.ndim == 1:
        told = np.where(weight > 0.0, told, UNLABELLED)
        return Targets(told, weight, held, _classes_of_hard(told, held, classes))
    return Targets(told, weight, held, _classes_of_soft(told, np.where(held, 0.0, weight), classes))


def drawn_held_out(labels: NDArray[np.int64], settings: FitSettings) -> NDArray[np.bool_]:
    """(n,) which labelled crops a training with these settings holds out, where nobody says them.

    labels : (n,) class, -1 = unlabelled and for crops that show nothing
    A function of the settings, so that anyone can tell afterwards which labels a network learned from.
    """
    rng = np.random.default_rng([settings.seed, HELD_OUT_STREAM])
    return split_by_class(labels, settings.held_out, rng)


def _drawn(
    labels: Labels, weights: NDArray[Any] | None, shows_nothing: NDArray[np.bool_], settings: FitSettings
) -> NDArray[np.bool_]:
    if weights is None and labels.ndim == 1:
        whole = np.where(shows_nothing, UNLABELLED, labels).astype(np.int64)
        return drawn_held_out(whole, settings)
    if settings.held_out > 0.0:
        raise InputError(
            "Labels with weights, and soft ones, must come with those that are held out, because a guess must not "
            "choose the weights. Got none instead. Remedy: held_out, a mask of measured labels, or held_out=0 for none."
        )
    return np.zeros(len(labels), dtype=np.bool_)


def _given(held_out: ArrayLike | None, labels: Labels, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    held = np.asarray(held_out)
    if held.shape != known.shape or held.dtype != np.bool_:
        raise InputError(
            f"Held-out crops must be a boolean array of shape {known.shape}. Got {held.dtype} {held.shape} instead."
        )
    without = np.flatnonzero(held & ~known)
    if len(without):
        raise InputError(
            f"Held-out crops must have a label with a weight above 0. Got none for image {without[0]} instead."
        )
    unsure = np.flatnonzero(held & (labels.max(axis=1) < 1.0)) if labels.ndim == 2 else without
    if len(unsure):
        raise InputError(
            "Held-out labels must be sure: one class with probability 1. Got "
            f"{labels[unsure[0]].tolist()} for image {unsure[0]} instead. Remedy: hold out measured labels."
        )
    return held.astype(np.bool_)


def _classes_of_hard(labels: NDArray[Any], held: NDArray[np.bool_], classes: int | None) -> int:
    n = class_count(labels, classes)
    left = np.bincount(labels[(labels != UNLABELLED) & ~held], minlength=n)
    return _every_class_is_left(left, n)


def _classes_of_soft(labels: NDArray[Any], weights: NDArray[np.float64], classes: int | None) -> int:
    n = int(labels.shape[1])
    if classes not in (None, n):
        raise InputError(
            f"Soft labels must have a column for each of the {classes} classes. Got {n} instead."
        )
    return _every_class_is_left(weights @ labels, n)


def _every_class_is_left(left: NDArray[Any], n: int) -> int:
    missing = np.flatnonzero(left <= 0)
    if len(missing):
        raise InputError(
            f"Every one of the {n} classes must have a label that is trained on. Got none of class "
            f"{', '.join(map(str, missing))} instead. Remedy: hold out fewer, or label such crops."
        )
    return n
