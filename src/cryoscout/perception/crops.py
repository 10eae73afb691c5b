"""Hole images cut from a patch image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoscout.core.errors import InputError


def cut_crops(
    patch_image: NDArray[np.uint8], centres_px: ArrayLike, hole_ids: Sequence[str], side_px: int
) -> NDArray[np.uint8]:
    """A square image around every hole; beyond the border the border's pixels go on.

    patch_image : (h, w)     centres_px : (n, 2) row, column; rounded to whole pixels     hole_ids : n, for errors
    side_px : of the squares, >= 1; the centre is pixel side_px // 2     Returns (n, side_px, side_px).
    Raises InputError where a centre lies outside the image, naming the holes, and for wrong shapes.
    """
    centres = np.asarray(centres_px, dtype=np.float64)
    if centres.shape != (len(hole_ids), 2) or patch_image.ndim != 2 or side_px < 1:
        raise InputError(
            f"Crops must have one patch image (h, w), a centre (row, column) for every hole and a side of at least "
            f"1 px. Got {patch_image.shape}, {centres.shape} for {len(hole_ids)} holes and {side_px} px instead."
        )
    height, width = patch_image.shape
    inside = ((centres >= -0.5) & (centres < np.array([height, width]) - 0.5)).all(axis=1)
    if not inside.all():
        far = np.flatnonzero(~inside).tolist()
        named = ", ".join(hole_ids[at] for at in far[:5]) + (" and more" if len(far) > 5 else "")
        row, column = centres[far[0]]
        raise InputError(
            f"Holes must lie within their patch image of {height} rows and {width} columns. Got {named} outside, "
            f"{hole_ids[far[0]]} at row {row:g}, column {column:g}, instead. Remedy: check the image's binning and the "
            "order row, column."
        )
    before = side_px // 2
    padded = np.pad(patch_image, (before, side_px - before), mode="edge")
    corners = np.round(centres).astype(np.intp)
    return np.array(
        [padded[row : row + side_px, column : column + side_px] for row, column in corners], dtype=np.uint8
    ).reshape(-1, side_px, side_px)
