"""How bright each square is on the picture of an atlas, the .jpg that EPU writes beside Atlas.dm.

    Atlas.dm                 Atlas/AtlasImageReference/BaseFileName
    Atlas_19493264.jpg       the whole atlas; smaller than the image that the squares' pixels are counted on

Witness: the reference and the pixels are those of a real Atlas.dm; its picture is not published, so that the picture
beside it was not tried on a real atlas. A picture of other proportions than the tiles reach is not used.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.picture_file import PictureError, file_in, grey_numbers, opened_picture, picture_format
from cryoscout.formats.epu.dm import Atlas
from cryoscout.formats.limits import FARTHEST_PX

ENDINGS = (".jpg", ".jpeg", ".png")
LARGEST_PICTURE_PX = 200_000_000
MIDDLE = 0.3
"""Radius of what is measured, of the shorter side: the bars of the mesh and their shadow stay out."""
_SAME_PROPORTIONS = 0.02


def square_brightness(atlas: Atlas, folder: Path) -> tuple[dict[str, float], str]:
    """Median grey level (0 to 255) of the middle of every square on the atlas's picture, and a note.

    folder : of Atlas.dm     Empty where there is no picture that fits; the note says why.
    """
    if atlas.image_name is None:
        return {}, "the atlas names no picture: squares have no brightness"
    if not all(1.0 <= length <= FARTHEST_PX for length in atlas.size_px):
        return {}, "the tiles of the atlas do not say how large it is: squares have no brightness"
    path = next((p for end in ENDINGS if (p := file_in(folder, f"{atlas.image_name}{end}"))), None)
    if path is None:
        return {}, (
            f"no picture {atlas.image_name}.jpg lies beside Atlas.dm: squares have their area from the atlas, and no "
            "brightness"
        )
    try:
        grey, white = _grey(path)
    except (OSError, PictureError) as error:
        return {}, f"the atlas's picture {path.name} cannot be read ({error}): squares have no brightness"
    height, width = grey.shape
    scale = width / atlas.size_px[0], height / atlas.size_px[1]
    if abs(scale[0] / scale[1] - 1.0) > _SAME_PROPORTIONS:
        return {}, (
            f"the atlas's picture {path.name} has {width} x {height} px, other proportions than its tiles "
            f"({atlas.size_px[0]:g} x {atlas.size_px[1]:g}): squares have no brightness"
        )
    found: dict[str, float] = {}
    for square in atlas.squares:
        level = _level(grey, square.centre_px, square.size_px, scale)
        if level is not None:
            found[square.square_id] = level * 255.0 / white
    return found, f"{len(found)} of {len(atlas.squares)} squares have their brightness from {path.name}"


def _grey(path: Path) -> tuple[NDArray[Any], float]:
    """(rows, columns), the numbers of the picture, and what stands for white."""
    with path.open("rb") as file:
        kind = picture_format(file.read(8))
    if kind is None:
        raise PictureError("neither JPEG nor PNG")
    with opened_picture(path, kind) as (picture, _):
        if picture.width * picture.height > LARGEST_PICTURE_PX:
            raise PictureError(f"more than {LARGEST_PICTURE_PX:,} px")
        numbers = grey_numbers(picture)
    if numbers.dtype == np.bool_:
        return numbers.astype(np.uint8), 1.0
    # A PNG has at most 16 bits, which Pillow may hold in 32.
    return numbers, 255.0 if numbers.itemsize == 1 else 65535.0


def _level(
    grey: NDArray[Any],
    centre_px: tuple[float, float],
    size_px: tuple[float, float],
    scale: tuple[float, float],
) -> float | None:
    """Median within a circle around the middle; None where it is not on the picture."""
    known = all(abs(value) <= FARTHEST_PX for value in (*centre_px, *size_px))
    if not known or min(size_px) <= 0:
        return None
    x, y = centre_px[0] * scale[0], centre_px[1] * scale[1]
    radius = max(MIDDLE * min(size_px[0] * scale[0], size_px[1] * scale[1]), 0.5)
    left, right = math.floor(x - radius), math.ceil(x + radius) + 1
    top, bottom = math.floor(y - radius), math.ceil(y + radius) + 1
    if left < 0 or top < 0 or right > grey.shape[1] or bottom > grey.shape[0]:
        return None
    rows, columns = np.mgrid[top:bottom, left:right]
    inside = np.hypot(columns - x, rows - y) <= radius
    window = grey[top:bottom, left:right]
    return float(np.median(window[inside] if inside.any() else window))
