"""Groups of stage positions that one image-shift cluster can reach, for holes that nobody has imaged yet.

The acquisition program groups holes itself and does not write the groups down; until exposures show them, holes
within the session's clustering radius of a common centre stand in for a patch.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from cryoscout.core.errors import InputError

LARGEST_RADIUS_UM = 1e6
PATCH_RADIUS_UM = 5.0
"""Assumed reach of image shift without a stage move, where neither files nor the user say more."""
SAME_PLACE_UM = 1.0
"""Holes of one name that are nearer than this are the same; neighbouring ones are 1.5 um apart and more."""
_FARTHEST_UM = 1e9
_CENTRES_TRIED = 64
"""Candidates for each centre; more make rounder clusters, but no fewer of them on a lattice of holes."""
_OF_A_RADIUS = {"epu": re.compile(r"_cluster_[^/]+"), "serialem": re.compile(r"/cluster\d+|/group\d+\.\d+")}
"""What follows the square's id in the patches that readers of these formats make with the radius themselves."""


def check_radius_um(radius_um: float) -> None:
    """Raise InputError for a radius that is none: it must be above 0 and at most 1e6 um."""
    if not (math.isfinite(radius_um) and 0.0 < radius_um <= LARGEST_RADIUS_UM):
        raise InputError(
            f"radius_um must be above 0 and at most {LARGEST_RADIUS_UM:g}. Got {radius_um!r} instead. "
            "Remedy: give it in um, not in metres."
        )


def notes_on_radius(holes: pd.DataFrame, stored: pd.DataFrame, format_name: str) -> list[str]:
    """A note on the holes that a radius given by the user cannot put into clusters; none where it acts on all.

    holes : of the sources, hole_id, square_id, patch_id ("" where the format says none), x_um, x_px (NaN unknown)
    stored : hole_id of those imported earlier     format_name : of the sources
    """
    new = holes[~holes["hole_id"].isin(stored["hole_id"])]
    is_open = new["patch_id"] == ""
    is_placed = new["x_um"].notna()
    named = int((~is_open).sum())
    if format_name in _OF_A_RADIUS:
        made = _OF_A_RADIUS[format_name]
        named -= sum(
            made.fullmatch(patch.removeprefix(square)) is not None
            for patch, square in zip(new["patch_id"], new["square_id"], strict=True)
        )
    counts = {
        "stored with their patches before (--force imports them anew)": len(stored),
        "in patches that the format names or exposures show": named,
        "with positions in px alone": int((is_open & ~is_placed & new["x_px"].notna()).sum()),
        "without a position": int((is_open & ~is_placed & new["x_px"].isna()).sum()),
    }
    told = ", ".join(f"{count} {which}" for which, count in counts.items() if count)
    return [f"--patch-radius-um does not act on every hole: not on {told}"] if told else []


def cluster_positions(x_um: ArrayLike, y_um: ArrayLike, radius_um: float) -> NDArray[np.int64]:
    """Label of the cluster of each position; every member lies within the radius of one member, the centre.

    x_um, y_um : (n,) positions in one frame, um; not finite, or farther than 1e9 um from the origin, means unknown
    radius_um : > 0, at most 1e6
    Returns (n,) int64: 0, 1, ... by the position of the centre (x, then y), without gaps, -1 where unknown. The
    labels follow from the positions alone, in whatever order these come.
    Raises InputError for a radius out of range or positions of unequal length.
    Method: sweep along x; the first position not covered chooses, among the positions around it, the centre
    that covers most others not covered; at the end each position joins its nearest centre.
    """
    points = _points(x_um, y_um)
    check_radius_um(radius_um)
    labels = np.full(len(points), -1, dtype=np.int64)
    known = np.flatnonzero((np.abs(points) <= _FARTHEST_UM).all(axis=1))
    if len(known) == 0:
        return labels
    # Sorted, so that the order of the input cannot matter.
    order = known[np.lexsort((points[known, 1], points[known, 0]))]
    ordered = points[order]
    centres = np.sort(_centres(ordered, radius_um))
    labels[order] = cKDTree(ordered[centres]).query(ordered)[1]
    return labels


def _points(x_um: ArrayLike, y_um: ArrayLike) -> NDArray[np.float64]:
    x, y = np.asarray(x_um, dtype=np.float64), np.asarray(y_um, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(
            f"x_um and y_um must be one-dimensional and of equal length. Got shapes {x.shape} and {y.shape} "
            "instead. Remedy: give one x and one y for each position."
        )
    return np.column_stack([x, y])


def _centres(ordered: NDArray[np.float64], radius_um: float) -> NDArray[np.int64]:
    """Indices of points whose discs cover all points; `ordered` (n, 2) is sorted along x."""
    tree = cKDTree(ordered)
    covered = np.zeros(len(ordered), dtype=np.bool_)
    centres = []
    for first in range(len(ordered)):
        if covered[first]:
            continue
        candidates = np.sort(np.asarray(tree.query_ball_point(ordered[first], radius_um), dtype=np.int64))
        if len(candidates) > _CENTRES_TRIED:
            candidates = candidates[np.linspace(0, len(candidates) - 1, _CENTRES_TRIED).astype(np.int64)]
        around = np.asarray(tree.query_ball_point(ordered[first], 2.0 * radius_um), dtype=np.int64)
        open_points = cKDTree(ordered[around[~covered[around]]])
        gains = open_points.query_ball_point(ordered[candidates], radius_um, return_length=True)
        centre = int(candidates[int(np.argmax(gains))])
        centres.append(centre)
        covered[tree.query_ball_point(ordered[centre], radius_um)] = True
        # Rounding at the rim may leave the point out that the centre was chosen to cover.
        covered[first] = True
    return np.asarray(centres, dtype=np.int64)
