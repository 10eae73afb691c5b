"""The 8 bits that a picture of a microscope is scaled to as a whole, read from a file or simulated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DARKEST_PERCENT, BRIGHTEST_PERCENT = 0.5, 99.5
"""Percentiles of a picture that become 0 and 255, so that hot pixels do not set the contrast."""


def to_8_bit(
    image: NDArray[np.floating],
    darkest_percent: float = DARKEST_PERCENT,
    brightest_percent: float = BRIGHTEST_PERCENT,
) -> NDArray[np.uint8]:
    """A picture scaled to 8 bits as a whole, so that its holes stay comparable with each other.

    image : (h, w) finite     Returns (h, w) uint8; 128 everywhere where the two percentiles are the same.
    Rows and columns of one level at the border, which no camera recorded, are left out of the percentiles.
    """
    dark, bright = np.percentile(_recorded(image), [darkest_percent, brightest_percent])
    return stretched(image, float(dark), float(bright))


def stretched(image: NDArray[np.floating], dark: float, bright: float) -> NDArray[np.uint8]:
    """8 bits: `dark` and below become 0, `bright` and above 255; 128 everywhere where they are the same.

    image : any shape     Returns the same shape.
    """
    if bright <= dark:
        return np.full(image.shape, 128, dtype=np.uint8)
    scaled = (image - dark) * (255.0 / (bright - dark))
    grey: NDArray[np.uint8] = np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
    return grey


def _recorded(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """The picture without a border of one level; all of it where nothing else would be left."""
    level = image[0, 0]
    rows, columns = (np.flatnonzero((image != level).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
