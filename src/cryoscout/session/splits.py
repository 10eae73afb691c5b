"""Parts of a session by patch, square, grid or class, and the few labelled holes of an experiment, by generator.

Perception and learning both draw here what they hold out, so that with one seed they hold out the same patches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoscout.core.errors import InputError

HELD_OUT_STREAM = 1
"""What a training with a seed holds out is drawn by `numpy.random.default_rng([seed, HELD_OUT_STREAM])`."""
UNLABELLED = -1


def split_by(
    level_ids: ArrayLike,
    fraction: float,
    rng: np.random.Generator,
    *,
    among: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Holes of a random part of a level; holes of one patch (square, grid) stay together.

    level_ids : (n,) the patch, square or grid of each hole     fraction : share of the level's members, 0..1
    among : (n,) holes to split, None for all; the others are in neither part, and a member with none of them is none
    Returns (n,) bool, True in the part. The number of members is rounded, but neither part is empty for
    0 < fraction < 1. Raises InputError for another fraction, or fewer than two members then.
    """
    ids = np.asarray(level_ids)
    inside = np.ones(len(ids), dtype=np.bool_) if among is None else among
    members, member_of_hole = np.unique(ids[inside], return_inverse=True)
    chosen = np.zeros(len(members), dtype=bool)
    chosen[rng.permutation(len(members))[: _how_many(len(members), fraction, "members")]] = True
    part = np.zeros(len(ids), dtype=np.bool_)
    part[inside] = chosen[member_of_hole]
    return part


def split_by_class(labels: NDArray[np.int64], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Single labelled holes, the same share of every class: for images of which nobody says the patch.

    labels : (n,) class, -1 = unlabelled     fraction : 0 up to below 1
    Returns (n,) bool, True in the part. The number is rounded class by class; one of each stays outside.
    """
    part = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels[labels != UNLABELLED]):
        rows = rng.permutation(np.flatnonzero(labels == label))
        part[rows[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
    return part


def hold_out(
    labels: NDArray[np.int64], level_ids: ArrayLike, share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Labelled holes that are kept away from a training, to judge it: those of whole patches (squares, grids).

    labels : (n,) class, -1 = unlabelled     level_ids : (n,) the patch of each hole
    share : of the patches with labels, 0 up to below 1
    Holes of one patch are alike, so that a patch on both sides would flatter. Where whole patches cannot be held out
    (fewer than two have labels, or a class would keep none) single holes are, the same share of every class.
    """
    told = labels != UNLABELLED
    ids = np.asarray(level_ids)
    if share > 0.0 and len(np.unique(ids[told])) >= 2:
        held = split_by(ids, share, rng, among=told)
        if set(labels[told & ~held]) == set(labels[told]):
            return held
    return split_by_class(labels, share, rng)


def folds_by(level_ids: ArrayLike, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Fold of each hole, (n,) int64 in 0..k-1; members of the level stay together and folds differ by at
    most one.

    level_ids : (n,) the patch, square or grid of each hole     Raises InputError unless 2 <= k <= members.
    """
    members, member_of_hole = np.unique(np.asarray(level_ids), return_inverse=True)
    if not 2 <= k <= len(members):
        raise InputError(
            f"The number of folds must be between 2 and {len(members)}, the members. Got {k} instead."
        )
    fold = np.empty(len(members), dtype=np.int64)
    fold[rng.permutation(len(members))] = np.arange(len(members)) % k
    return np.asarray(fold[member_of_hole], dtype=np.int64)


def label_fraction(
    candidates: NDArray[np.bool_], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A random share of the candidate holes, to be used with their labels.

    candidates : (n,) bool, holes that have a label     fraction : 0..1; at least one hole for fraction > 0
    Returns (n,) bool, a subset of the candidates. With one seed, a smaller fraction is a subset of a larger
    one.
    """
    holes = np.flatnonzero(candidates)
    if fraction == 1.0 or len(holes) == 0:
        return candidates.copy()
    if not 0.0 <= fraction < 1.0:
        raise InputError(f"The fraction must be between 0 and 1. Got {fraction} instead.")
    count = max(1, round(fraction * len(holes))) if fraction > 0 else 0
    labelled = np.zeros(len(candidates), dtype=bool)
    labelled[rng.permutation(holes)[:count]] = True
    return labelled


def _how_many(members: int, fraction: float, what: str) -> int:
    if not 0.0 <= fraction <= 1.0:
        raise InputError(f"The fraction must be between 0 and 1. Got {fraction} instead.")
    if fraction in (0.0, 1.0):
        return int(fraction) * members
    if members < 2:
        raise InputError(f"A level must have at least 2 {what} to be split. Got {members} instead.")
    return min(max(1, round(fraction * members)), members - 1)
