"""Hole images cut from Leginon patch images (`NAME_crop.png`), joined to holes by name, an array a patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.names import name_of_source
from cryoscout.core.picture_file import PictureError, opened_picture
from cryoscout.formats.leginon.names import parse_name
from cryoscout.session.joins import JoinReport, join_by_name, leginon_stem

PATTERN = "*_crop.png"
MOST_PIXELS = 16_000_000
"""Of a hole image; real ones have 150 x 150."""
_EIGHT_BIT_MODES = frozenset({"1", "L", "P", "RGB", "RGBA"})


def read_crops(
    folder: Path, holes: pd.DataFrame
) -> tuple[dict[str, NDArray[np.uint8]], pd.Series[int], JoinReport]:
    """Read the hole images of a folder.

    holes : hole_id, patch_id     Returns the images (patch id -> (m, height, width) uint8, grey, 0 dark),
    the row of each hole in its patch's array ((n,) Int64, NA without an image) and what did not join.
    Raises FileFormatError when there is no folder or no *_crop.png in it, a picture cannot be read or has
    more than 8 bits, or sizes differ.
    """
    files = sorted(folder.glob(PATTERN)) if folder.is_dir() else []
    if not files:
        raise FileFormatError(folder, None, f"must be a folder with hole images {PATTERN}. Got none instead.")
    targets = [_target_of(file) for file in files]
    place, report = join_by_name(
        targets,
        holes["hole_id"].tolist(),
        f"hole images of {name_of_source(folder)}",
        "no CTF table names the hole",
    )
    by_patch: dict[str, list[NDArray[np.uint8]]] = {}
    image_row: list[int | None] = [None] * len(holes)
    patches = holes["patch_id"].tolist()
    first: tuple[Path, tuple[int, ...]] | None = None
    for file, hole in zip(files, place.tolist(), strict=True):
        if hole < 0:
            continue
        if image_row[hole] is not None:
            raise FileFormatError(
                file,
                None,
                f"a hole must have one image. Got a second of {targets[files.index(file)]!r} instead.",
            )
        picture = _read_grey(file)
        first = first or (file, picture.shape)
        if picture.shape != first[1]:
            raise FileFormatError(
                file,
                None,
                f"all hole images must have one size. Got {_size(picture.shape)} px instead of "
                f"{_size(first[1])} px as in {first[0].name}. Remedy: cut them all with one size.",
            )
        rows = by_patch.setdefault(patches[hole], [])
        image_row[hole] = len(rows)
        rows.append(picture)
    images = {patch: np.stack(rows) for patch, rows in by_patch.items()}
    return images, pd.Series(pd.array(image_row, dtype="Int64"), index=holes.index), report


def _target_of(file: Path) -> str:
    """Name of the hole a picture shows; a name that does not parse joins to nothing and is reported."""
    stem = leginon_stem(file.name)
    try:
        return parse_name(stem).own.target
    except InputError:
        return stem


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _read_grey(file: Path) -> NDArray[np.uint8]:
    try:
        with opened_picture(file, "PNG") as (picture, pages):
            if picture.width * picture.height > MOST_PIXELS or pages > 1:
                raise FileFormatError(
                    file,
                    None,
                    f"must be one picture of at most {MOST_PIXELS:,} px. Got {pages} of {_size(picture.size[::-1])} "
                    "px instead: no hole image.",
                )
            if picture.mode not in _EIGHT_BIT_MODES:
                raise FileFormatError(
                    file,
                    None,
                    f"must be an 8-bit picture. Got mode {picture.mode} instead. "
                    "Remedy: scale it to 8 bits with one contrast for all.",
                )
            return np.asarray(picture.convert("L"), dtype=np.uint8)
    except (OSError, PictureError) as error:
        raise FileFormatError(file, None, f"must be a whole PNG picture. Got {error} instead.") from None
