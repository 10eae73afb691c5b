"""Simulated patch and square images as MRC files, as a microscope leaves them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.new_files import whole_file
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.images import patch_counts, square_counts
from cryoscout.simulate.scene import Scene


def write_mrc_images(
    folder: Path, scene: Scene, patch_ids: Sequence[str], square_ids: Sequence[str], settings: ImageSettings
) -> Iterator[Path]:
    """Write PATCH_ID.mrc of every patch, then SQUARE_ID.mrc of every square; gives each path when it is written.

    folder : exists     patch_ids, square_ids : (P,), (S,) in the scene's order
    Raises InputError where a file cannot be written, or for another number of ids.
    """
    if len(patch_ids) != len(scene.square_of_patch) or len(square_ids) != len(scene.grid_of_square):
        raise InputError(
            f"There must be an id for each of {len(scene.square_of_patch)} patches and {len(scene.grid_of_square)} "
            f"squares. Got {len(patch_ids)} and {len(square_ids)} instead."
        )
    return _written(folder, scene, patch_ids, square_ids, settings)


def _written(
    folder: Path, scene: Scene, patch_ids: Sequence[str], square_ids: Sequence[str], settings: ImageSettings
) -> Iterator[Path]:
    for patch, patch_id in enumerate(patch_ids):
        path = folder / mrc_name(patch_id)
        write_mrc(path, patch_counts(scene, patch, settings), settings.pixel_nm)
        yield path
    for square, square_id in enumerate(square_ids):
        path = folder / mrc_name(square_id)
        write_mrc(path, square_counts(scene, square, settings), settings.square_pixel_nm)
        yield path


def mrc_name(image_id: str) -> str:
    """File name of an image; an id may hold any character."""
    return quote(image_id, safe="") + ".mrc"


def write_mrc(path: Path, counts: NDArray[np.float32], pixel_nm: float) -> None:
    """Write counts as 16-bit whole numbers (MRC mode 6), with the pixel size in the header; a file there is replaced.

    Row 0 is the first that the file holds. Counts beyond 0 to 65535 are cut, as a camera's are.
    Raises InputError where the file cannot be written.
    """
    import mrcfile

    data = np.rint(np.clip(counts, 0, np.iinfo(np.uint16).max)).astype(np.uint16)
    try:
        with whole_file(path) as unfinished, mrcfile.new(unfinished, data, overwrite=True) as file:
            file.voxel_size = 10 * pixel_nm
    except OSError as error:
        raise InputError(
            f"The images must go where files can be written. Got {path} ({error.strerror}) instead. "
            "Remedy: choose another folder, or make room."
        ) from None
