"""What a training is given, checked: crops, labels, crops set aside, and the labels held out. Needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError

SMALLEST_SIDE_PX = 8
UNLABELLED = -1


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


def check_confidence(confidence: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Confidences in 0..1 wherever there is a pseudo-label. Raises InputError naming the first that is not."""
    found = np.asarray(confidence, dtype=np.float64)
    if found.shape != labels.shape:
        raise InputError(
            f"Confidence must be one number per image: {labels.shape}. Got {found.shape} instead."
        )
    wrong = np.flatnonzero(~((found >= 0.0) & (found <= 1.0)) & (labels != UNLABELLED))
    if len(wrong):
        raise InputError(f"Confidence must lie in 0..1. Got {found[wrong[0]]} for image {wrong[0]} instead.")
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


def split_held_out(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) which labelled crops are held out: the share of every class, rounded; always at least one is trained on.

    seed : of the training, so that anyone can tell afterwards which labels a network learned from
    """
    rng = np.random.default_rng([seed, 1])
    held = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels[labels != UNLABELLED]):
        rows = rng.permutation(np.flatnonzero(labels == label))
        held[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
    return held
