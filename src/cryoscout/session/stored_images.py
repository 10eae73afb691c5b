"""The images of a stored session: one array per patch, its checksum in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.session.model import Session

IMAGES = "images"


def save_images(
    folder: Path,
    session: Session,
    images: Iterable[tuple[str, NDArray[np.uint8]]],
    written: Callable[[Path], None],
) -> None:
    """Write the arrays of a session's patches.

    folder : of the store     images : patch id -> (m, h, w) uint8, taken one by one     written : told each file
    Raises InputError for a patch that the session does not have, or an array without a row for every `image_row`.
    """
    (folder / IMAGES).mkdir(exist_ok=True)
    rows_needed = session.holes.groupby("patch_id")["image_row"].max()
    for patch_id, array in images:
        if patch_id not in rows_needed.index:
            raise InputError(f"Images must belong to a patch of the session. Got {patch_id!r} instead.")
        needed = rows_needed[patch_id]
        if array.dtype != np.uint8 or array.ndim != 3 or (not pd.isna(needed) and len(array) <= needed):
            raise InputError(
                f"The images of a patch must be an (m, height, width) uint8 array with a row for every "
                f"image_row. Got {array.dtype} {array.shape} for {patch_id!r} instead."
            )
        file = image_file(folder, patch_id)
        np.save(file, array, allow_pickle=False)
        written(file)


def image_file(folder: Path, patch_id: str) -> Path:
    """Where the array of a patch is. Ids may hold any character; the file name keeps the readable ones."""
    return folder / IMAGES / (quote(patch_id, safe="") + ".npy")


def array_of(file: Path) -> NDArray[np.uint8]:
    """Of an image file, (m, h, w). Raises ValueError or OSError for one that is not a whole array."""
    # Mapped, so that a header that promises more than the file holds is refused before memory is taken, and an archive
    # by another name is not opened.
    array: NDArray[np.uint8] = np.array(np.lib.format.open_memmap(file, mode="r"))
    return array
