"""How large a pixel of a picture is on the specimen, where its file says so, or the one its program wrote beside it.

    MRC               header: cell over samples, angstrom; 0 and exactly 1 are what programs write that do not know it
    NAME.mrc.mdoc     SerialEM: PixelSpacing, angstrom
    NAME.xml          EPU: SpatialScale/pixelSize, for the full size of the image; a smaller picture has larger pixels

Sources: the MRC2014 format; "Image Metadata Files" of SerialEM's help; real XML files of EPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoscout.core.errors import CryoscoutError
from cryoscout.core.picture_file import file_in
from cryoscout.formats.epu.images import read_image
from cryoscout.formats.serialem.mdoc import read_mdoc

UM_PER_ANGSTROM = 1e-4
SQUARES_FROM_UM = 20.0
"""A lattice this wide is one of squares: holes are up to 10 um apart, the squares of the finest mesh 35 um."""
_LARGEST_UM = 10.0


def pixel_size_um(path: Path, width_px: int) -> float | None:
    """Side of a pixel, um, above 0; None where nothing says it, or what says it cannot be read.

    path : the picture, whose file is there     width_px : of the picture
    """
    for size_um in (_of_mdoc(path), _of_epu(path, width_px), _of_mrc(path)):
        if size_um is not None and 0.0 < size_um < _LARGEST_UM:
            return size_um
    return None


def _of_mdoc(path: Path) -> float | None:
    beside = file_in(path.parent, f"{path.name}.mdoc")
    if beside is None:
        return None
    try:
        file = read_mdoc(beside, permissive=True)
    except CryoscoutError:
        return None
    spacings = {
        section.numbers["PixelSpacing"][0] for section in file.sections if "PixelSpacing" in section.numbers
    }
    # Pieces of a montage have one size; a file of several says nothing of this picture.
    return spacings.pop() * UM_PER_ANGSTROM if len(spacings) == 1 else None


def _of_epu(path: Path, width_px: int) -> float | None:
    beside = file_in(path.parent, path.with_suffix(".xml").name)
    if beside is None:
        return None
    try:
        numbers = read_image(beside).numbers
    except CryoscoutError:
        return None
    size, full_px = numbers.get("pixel_size_angstrom"), numbers.get("width_px")
    return size * UM_PER_ANGSTROM * full_px / width_px if size and full_px and width_px else None


def _of_mrc(path: Path) -> float | None:
    try:
        with path.open("rb") as file:
            head = file.read(216)
    except OSError:
        return None
    if len(head) < 216 or head[208:211] != b"MAP":
        return None
    order = ">" if head[212:213] == b"\x11" else "<"
    samples = int(np.frombuffer(head, f"{order}i4", count=1, offset=28)[0])
    cell = float(np.frombuffer(head, f"{order}f4", count=1, offset=40)[0])
    if samples < 1 or not np.isfinite(cell):
        return None
    size = cell / samples
    return size * UM_PER_ANGSTROM if abs(size - 1.0) > 1e-3 else None
