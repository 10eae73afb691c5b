"""A picture of an image with the holes that were found in it, for people to check."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoscout.core.new_files import whole_file
from cryoscout.perception.hole_finding import FoundHoles
from cryoscout.perception.images import Picture, reduced_image

LONGEST_SIDE_PX = 1600
# Orange on black: told apart from any grey, and by those who see no red or no green.
_LINE = (230, 159, 0)
_EDGE = (0, 0, 0)


def write_overlay(image: Picture, found: FoundHoles, path: Path) -> None:
    """Write a PNG of the image, reduced to LONGEST_SIDE_PX where larger, with a circle around every hole.

    found : px of that image     path : written over where it exists
    """
    from PIL import Image, ImageDraw

    longest_px = max(image.shape)
    factor = max(1, longest_px // LONGEST_SIDE_PX)
    means, sample = reduced_image(image, factor)
    low, high = np.percentile(sample, [1.0, 99.0])
    grey = np.clip((means - float(low)) / max(float(high - low), 1e-9), 0.0, 1.0)
    picture = Image.fromarray((255 * grey).astype(np.uint8))
    scale = min(1.0, LONGEST_SIDE_PX / longest_px)
    size = (
        max(1, round(picture.width * factor * scale)),
        max(1, round(picture.height * factor * scale)),
    )
    picture = picture.resize(size, Image.Resampling.BOX).convert("RGB")
    pen = ImageDraw.Draw(picture)
    width = max(1, round(max(size) / 700))
    radius = scale * (found.diameter_px or 0.0) / 2
    for hole in found.holes:
        row, column = (scale * (at + 0.5) for at in (hole.row_px, hole.column_px))
        for colour, wider in ((_EDGE, width), (_LINE, 0)):
            reach = radius + wider
            box = (column - reach, row - reach, column + reach, row + reach)
            pen.ellipse(box, outline=colour, width=width + 2 * wider)
    with whole_file(path) as unfinished:
        picture.save(unfinished, format="PNG")
