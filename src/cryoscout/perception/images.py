"""Reads one grey picture of a microscope from MRC, TIFF, PNG or JPEG, and refuses what would mislead later steps.

A format is known by the file's first bytes, never by its name. Only the named file is opened.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError

MOST_PIXELS = 150_000_000
"""More than any camera gives in one image; refused from the header, before memory is taken."""
_PILLOW = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_MRC_HEADER_BYTES = 1024
_MRC_MODES = (0, 1, 2, 6, 12)


def read_image(path: Path) -> NDArray[np.float32]:
    """One grey picture, (rows, columns) float32, with the numbers of the file; colour becomes grey.

    path : an MRC, TIFF, PNG or JPEG file     Row 0 is the first that the file holds.
    Raises InputError, which names the file and the remedy, for a file that is missing, empty, damaged, of another
    format, larger than MOST_PIXELS, with several pictures, or with values that are not finite.
    """
    try:
        if not path.is_file():
            raise _refused(
                path, "must be a file", "none" if not path.exists() else "something else", "name a picture"
            )
        with path.open("rb") as file:
            head = file.read(_MRC_HEADER_BYTES)
        if not head:
            raise _refused(path, "must hold a picture", "an empty file", "copy it again")
        format_ = next((name for magic, name in _PILLOW.items() if head.startswith(magic)), None)
        image = _read_picture(path, format_) if format_ else _read_mrc(path, head)
    except OSError as error:
        raise _refused(path, "must be a readable, whole picture", str(error), "copy it again") from None
    if not np.isfinite(image).all():
        raise _refused(
            path, "must hold finite numbers", "NaN or infinity", "write it again from the camera's own image"
        )
    return image


def _refused(path: Path, must: str, got: str, remedy: str) -> InputError:
    return InputError(f"{path} {must}. Got {got} instead. Remedy: {remedy}.")


def _check_size(path: Path, width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise _refused(
            path,
            f"must have 1 to {MOST_PIXELS:,} pixels",
            f"{width} x {height}",
            "reduce it, or cut a part out",
        )


def _read_picture(path: Path, format_: str) -> NDArray[np.float32]:
    from PIL import Image

    try:
        # Our own limit counts, not the one from which Pillow warns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=[format_]) as picture:
                _check_size(path, *picture.size)
                pages = int(getattr(picture, "n_frames", 1))
                if pages > 1:
                    raise _refused(
                        path, "must hold one picture", str(pages), "write each to a file of its own"
                    )
                grey = picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;16")
                return np.asarray(picture if grey else picture.convert("L"), dtype=np.float32)
    except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _refused(path, f"must be a whole {format_} picture", str(error), "copy it again") from None


def _read_mrc(path: Path, head: bytes) -> NDArray[np.float32]:
    import mrcfile

    order = _byte_order(head)
    if order is None:
        raise _refused(
            path, "must be an MRC, TIFF, PNG or JPEG picture", "another format", "convert it to one"
        )
    columns, rows, sections, mode = (int(value) for value in np.frombuffer(head, f"{order}i4", count=4))
    if sections != 1:
        raise _refused(
            path, "must hold one picture", f"a stack of {sections}", "write each to a file of its own"
        )
    _check_size(path, columns, rows)
    bytes_each = np.dtype(mrcfile.utils.dtype_from_mode(mode)).itemsize
    extended = int(np.frombuffer(head, f"{order}i4", count=1, offset=92)[0])
    needed = _MRC_HEADER_BYTES + max(extended, 0) + columns * rows * bytes_each
    if path.stat().st_size < needed:
        raise _refused(
            path, f"must have {needed} bytes as its header says", f"{path.stat().st_size}", "copy it again"
        )
    data: Any = None
    # Leginon's files have a machine stamp of their own, which mrcfile reports and then reads all the same.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with mrcfile.open(path, permissive=True) as file:
                data = None if file.data is None else np.array(file.data, dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise _refused(path, "must be a whole MRC picture", str(error), "copy it again") from None
    if data is None or data.size != columns * rows:
        raise _refused(path, "must be a whole MRC picture", "no data", "copy it again")
    image: NDArray[np.float32] = data.reshape(rows, columns)
    return image


def _byte_order(head: bytes) -> str | None:
    """Of an MRC header: the order in which size and mode make sense; None where neither does."""
    if len(head) < _MRC_HEADER_BYTES:
        return None
    for order in "<>":
        columns, rows, sections, mode = np.frombuffer(head, f"{order}i4", count=4).tolist()
        axes = np.frombuffer(head, f"{order}i4", count=3, offset=64).tolist()
        marked = head[208:212] in (b"MAP ", b"MAP\0") or sorted(axes) in ([1, 2, 3], [0, 0, 0])
        if marked and mode in _MRC_MODES and min(columns, rows, sections) >= 1 and max(columns, rows) < 2**20:
            return order
    return None
