"""PNG, JPEG and TIFF files opened with Pillow, after a look at their parts, so that a small file cannot take long.

A format is known by the file's first bytes, never by its name. Before Pillow sees a file its parts are counted: Pillow
looks at every directory of a TIFF again for each one that follows, decodes a JPEG once for each scan that it holds, and
goes through chunks and segments one by one in Python. Whatever Pillow raises of damaged bytes is one error.
Sources: TIFF 6.0 and the BigTIFF design (directories), PNG (W3C) section 5 (chunks), ITU-T T.81 annex B (segments).
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import CryoscoutError

if TYPE_CHECKING:
    from PIL.Image import Image

PictureFormat = Literal["PNG", "JPEG", "TIFF"]
MOST_PARTS = 100_000
"""Chunks of a PNG, segments of a JPEG: a PNG of 150 million pixels has 40,000."""
MOST_ENTRIES = 4096
"""Of a TIFF directory; cameras write fewer than a hundred."""
MOST_SCANS = 20
"""Of a JPEG; progressive ones have about ten."""
MOST_FILL_BYTES = 4096
PAGES_COUNTED = 1000

_STARTS: dict[bytes, PictureFormat] = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_VALUE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_JPEG_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))


class PictureError(Exception):
    """A picture that is damaged, or made to take long; the text says what is wrong with it."""


def picture_format(head: bytes) -> PictureFormat | None:
    """The format of a file by its first bytes; None for another."""
    return next((name for start, name in _STARTS.items() if head.startswith(start)), None)


@contextmanager
def opened_picture(path: Path, format_: PictureFormat) -> Iterator[tuple[Image, int]]:
    """The picture, not decoded yet, and how many the file holds (of a TIFF at most PAGES_COUNTED).

    Raises PictureError for what is no whole picture of the format, also while the block decodes it, and OSError where
    the file cannot be read.
    """
    import PIL
    import PIL.Image

    pages = _parts(path, format_)
    try:
        # The caller's limit of pixels counts, not the one from which Pillow warns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(path, formats=[format_]) as picture:
                yield picture, pages or int(getattr(picture, "n_frames", 1))
    except (PictureError, CryoscoutError):
        raise
    except PIL.UnidentifiedImageError:
        raise PictureError("one that cannot be decoded") from None
    except Exception as error:
        # Which of Python's errors damaged bytes end in is chance.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PictureError(str(error).partition("\n")[0][:200] or type(error).__name__) from None


def file_in(folder: Path, name: str) -> Path | None:
    """The file of that name, such as one beside a picture; None where none is there, or none can have the name."""
    path = folder / name
    try:
        return path if path.is_file() else None
    except OSError:  # too long
        return None


def grey_numbers(picture: Image) -> NDArray[Any]:
    """(rows, columns), the numbers that a picture has, in its own depth; colour becomes grey of 0 to 255."""
    is_grey = picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;16")
    return np.asarray(picture if is_grey else picture.convert("L"))


def _parts(path: Path, format_: PictureFormat) -> int:
    """How many pictures a TIFF holds, 0 for the other formats, where Pillow knows; PictureError for too many parts."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            if format_ == "TIFF":
                return _tiff_pages(file, size)
            if format_ == "PNG":
                _check_chunks(file, size)
            else:
                _check_segments(file)
        except struct.error:
            raise PictureError("one that ends too early") from None
    return 0


def _tiff_pages(file: BinaryIO, size: int) -> int:
    """Follow the chain of directories; the first one must be small and its values no more than the file."""
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    is_big = start[2:4] in (b"+\0", b"\0+")
    entry_bytes = 20 if is_big else 12
    counted, linked = (f"{order}Q", f"{order}Q") if is_big else (f"{order}H", f"{order}I")
    (at,) = struct.unpack_from(linked, start, 8 if is_big else 4)
    seen: set[int] = set()
    while at:
        if at in seen or at >= size:
            raise PictureError("directories that lead nowhere")
        seen.add(at)
        if len(seen) >= PAGES_COUNTED:
            break
        file.seek(at)
        (entries,) = struct.unpack(counted, file.read(struct.calcsize(counted)))
        if entries > MOST_ENTRIES:
            raise PictureError(f"a directory of more than {MOST_ENTRIES:,} entries")
        content = file.read(entries * entry_bytes)
        if len(seen) == 1 and _value_bytes(content, order, entry_bytes) > size:
            raise PictureError("a directory of more values than the file has bytes")
        (at,) = struct.unpack(linked, file.read(struct.calcsize(linked)))
    return len(seen)


def _value_bytes(content: bytes, order: str, entry_bytes: int) -> int:
    """Of the entries of a TIFF directory together."""
    entry = f"{order}HH{'Q8s' if entry_bytes == 20 else 'I4s'}"
    whole = len(content) // entry_bytes * entry_bytes
    return sum(
        count * _VALUE_BYTES.get(kind, 1) for _, kind, count, _ in struct.iter_unpack(entry, content[:whole])
    )


def _check_chunks(file: BinaryIO, size: int) -> None:
    at = 8
    for _ in range(MOST_PARTS):
        if at + 8 > size:
            return
        file.seek(at)
        at += 12 + struct.unpack(">I", file.read(4))[0]
    raise PictureError(f"more than {MOST_PARTS:,} chunks")


def _check_segments(file: BinaryIO) -> None:
    data = file.read()
    if data.count(b"\xff\xda") > MOST_SCANS:
        raise PictureError(f"more than {MOST_SCANS} scans")
    at = fill = 0
    for _ in range(MOST_PARTS):
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return
        marker = data[at + 1]
        if marker == 0xFF or marker == 0:
            fill += 1
            at += 1
            if fill > MOST_FILL_BYTES:
                break
            continue
        if marker == 0xDA:
            # The picture itself: Pillow reads it without Python.
            return
        at += 2
        if marker not in _JPEG_WITHOUT_LENGTH and marker != 0xD8:
            at += struct.unpack_from(">H", data, at)[0]
    raise PictureError(f"more than {MOST_PARTS:,} segments, or filled with nothing")
