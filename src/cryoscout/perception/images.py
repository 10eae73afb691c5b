"""Reads one grey picture of a microscope from MRC, TIFF, PNG or JPEG, and refuses what would mislead later steps.

A format is known by the file's first bytes, never by its name. Only the named file is opened. A large picture need not
be in memory as a whole in numbers of 32 bits: `opened_image` gives it rows by rows. A stack is refused, but for a
montage of SerialEM: its pieces are put where the .mdoc beside it says, each to the middle of its overlaps.
Source: [ZValue = n] of a real montage's .mdoc, piece n at PieceCoordinates, its lower left corner (as of IMOD's piece
lists); that the stack holds the pieces in this order is what SerialEM's help says of ZValue. No real stack was tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.picture_file import (
    PAGES_COUNTED,
    PictureError,
    grey_numbers,
    opened_picture,
    picture_format,
)
from cryoscout.perception.tiles import Piece, pieces_beside

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 150_000_000
"""More than any camera gives in one image; refused from the header, before memory is taken."""
_MRC_HEADER_BYTES = 1024
_MRC_MODES = (0, 1, 2, 6, 12)
_IMOD_STAMP, _IMOD_SIGNED = 1_146_047_817, 1
_BLOCK_PIXELS = 4_000_000
SAMPLED_PIXELS = 16_000_000
"""Of a larger picture, percentiles are taken of pixels evenly apart, about as many as this."""


class Picture(Protocol):
    """A picture whose rows can be read without the others."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns); row 0 is the first that the file holds."""

    @property
    def bottom_first(self) -> bool:
        """Whether row 0 is the lowest row of the picture, as in an MRC file, else the top one."""

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows first..last-1, (last - first, columns), finite, with the numbers of the file; colour becomes grey.

        Raises InputError where the picture is damaged there or holds NaN or infinity.
        """


def read_image(path: Path) -> NDArray[np.float32]:
    """One grey picture, (rows, columns) float32, with the numbers of the file; colour becomes grey.

    path : an MRC, TIFF, PNG or JPEG file     Row 0 is the first that the file holds.
    Raises InputError, which names the file and the remedy, for a file that is missing, empty, damaged, of another
    format, larger than MOST_PIXELS, with several pictures, or with values that are not finite.
    """
    with opened_image(path) as picture:
        return all_rows(picture)


def all_rows(picture: Picture) -> NDArray[np.float32]:
    """The whole picture as one array. Raises InputError as `Picture.rows`."""
    image = np.empty(picture.shape, dtype=np.float32)
    for first, last in blocks_of(picture.shape):
        image[first:last] = picture.rows(first, last)
    return image


def blocks_of(shape: tuple[int, int], multiple: int = 1) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of blocks that are a few million pixels each, and whole multiples of rows.

    shape : (rows, columns)     multiple : rows that stay together; the last block may have less
    """
    rows, columns = shape
    step = max(1, _BLOCK_PIXELS // (max(columns, 1) * multiple)) * multiple
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def reduced_image(picture: Picture, factor: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Means of factor x factor pixels, and the pixels for percentiles: all, or of a large picture every few.

    factor : whole, 1 or more, at most the shorter side; what is left over at the lower and right border is cut off
    Returns (rows // factor, columns // factor) and (n,). Raises InputError as `Picture.rows`.
    """
    height, width = (length // factor for length in picture.shape)
    apart = max(1, math.isqrt(picture.shape[0] * picture.shape[1] // SAMPLED_PIXELS))
    means = np.empty((height, width), dtype=np.float64)
    sample = []
    for first, last in blocks_of(picture.shape, factor):
        block = picture.rows(first, last)
        sample.append(block[-first % apart :: apart, ::apart].ravel())
        start = first // factor
        stop = min(last // factor, height)
        if stop > start:
            inside = block[: (stop - start) * factor, : width * factor]
            rows = np.add.reduceat(inside, np.arange(0, len(inside), factor), axis=0, dtype=np.float64)
            means[start:stop] = np.add.reduceat(rows, np.arange(0, width * factor, factor), axis=1)
    means /= float(factor**2)
    return means, np.concatenate(sample)


@contextmanager
def opened_image(path: Path) -> Iterator[Picture]:
    """The picture of a file, for as long as the block lasts. Raises as `read_image`."""
    try:
        if not path.is_file():
            raise _refused(
                path, "must be a file", "none" if not path.exists() else "something else", "name a picture"
            )
        with path.open("rb") as file:
            head = file.read(_MRC_HEADER_BYTES)
        if not head:
            raise _refused(path, "must hold a picture", "an empty file", "copy it again")
        format_ = picture_format(head)
        if format_ is None:
            yield _mrc(path, head)
            return
        try:
            with opened_picture(path, format_) as (picture, pages):
                _check_size(path, *picture.size)
                if pages > 1:
                    got = f"{pages:,} or more" if pages >= PAGES_COUNTED else str(pages)
                    raise _refused(path, "must hold one picture", got, "write each to a file of its own")
                picture.load()
                yield _Decoded(path, picture)
        except PictureError as error:
            raise _refused(path, f"must be a whole {format_} picture", str(error), "copy it again") from None
    except OSError as error:
        raise _refused(path, "must be a readable, whole picture", str(error), "copy it again") from None


def _refused(path: Path, must: str, got: str, remedy: str) -> InputError:
    return InputError(f"{path} {must}. Got {got} instead. Remedy: {remedy}.")


def _finite(path: Path, block: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(block).all():
        raise _refused(
            path, "must hold finite numbers", "NaN or infinity", "write it again from the camera's own image"
        )
    return block


def _check_size(path: Path, width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise _refused(
            path,
            f"must have 1 to {MOST_PIXELS:,} pixels",
            f"{width} x {height}",
            "reduce it, or cut a part out",
        )


@dataclass(frozen=True)
class _Decoded:
    """A picture that Pillow holds, in its own depth."""

    path: Path
    picture: Image

    @property
    def shape(self) -> tuple[int, int]:
        return self.picture.height, self.picture.width

    @property
    def bottom_first(self) -> bool:
        return False

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        part = self.picture.crop((0, first, self.picture.width, last))
        return _finite(self.path, grey_numbers(part).astype(np.float32))


@dataclass(frozen=True)
class _Mrc:
    """The numbers of an MRC file, read where they are asked for."""

    path: Path
    shape: tuple[int, int]
    kind: np.dtype[np.generic]
    start: int
    """Bytes before the first row."""

    @property
    def bottom_first(self) -> bool:
        return True

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        columns = self.shape[1]
        values = np.fromfile(
            self.path,
            dtype=self.kind,
            count=(last - first) * columns,
            offset=self.start + first * columns * self.kind.itemsize,
        )
        if len(values) != (last - first) * columns:
            raise _refused(self.path, "must be a whole MRC picture", "its end too early", "copy it again")
        # A number of another precision may be too large for this one: infinity, which is refused.
        with np.errstate(over="ignore", invalid="ignore"):
            block = values.astype(np.float32).reshape(-1, columns)
        return _finite(self.path, block)


@dataclass(frozen=True)
class _Montage:
    """The pieces of a montage, which are the sections of an MRC file, at their places; 0 where there is none."""

    path: Path
    piece_shape: tuple[int, int]
    kind: np.dtype[np.generic]
    start: int
    """Bytes before the first section."""
    pieces: tuple[Piece, ...]

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.piece_shape
        return max(each.bottom for each in self.pieces) + height, max(
            each.left for each in self.pieces
        ) + width

    @property
    def bottom_first(self) -> bool:
        return True

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        height, width = self.piece_shape
        block = np.zeros((last - first, self.shape[1]), dtype=np.float32)
        for piece in self.pieces:
            low, high = _within(piece.tile.top, piece.tile.bottom, piece.bottom, height)
            low, high = max(low, first), min(high, last)
            left, right = _within(piece.tile.left, piece.tile.right, piece.left, width)
            if low < high and left < right:
                at = self.start + piece.section * height * width * self.kind.itemsize
                part = _Mrc(self.path, self.piece_shape, self.kind, at).rows(
                    low - piece.bottom, high - piece.bottom
                )
                block[low - first : high - first, left:right] = part[
                    :, left - piece.left : right - piece.left
                ]
        return block


def _within(low: float, high: float, begin: int, length: int) -> tuple[int, int]:
    """First pixel and the one behind the last of what a montage takes of a piece along one side."""
    return max(round(low), begin), min(round(high), begin + length)


def _mrc(path: Path, head: bytes) -> _Mrc | _Montage:
    from mrcfile.utils import dtype_from_mode

    order = _byte_order(head)
    if order is None:
        raise _refused(
            path, "must be an MRC, TIFF, PNG or JPEG picture", "another format", "convert it to one"
        )
    columns, rows, sections, mode = (int(value) for value in np.frombuffer(head, f"{order}i4", count=4))
    pieces = None if sections == 1 else pieces_beside(path, (columns, rows), sections)
    if sections != 1 and pieces is None:
        raise _refused(
            path,
            "must hold one picture",
            f"a stack of {sections}",
            "write each to a file of its own; of a montage of SerialEM keep the .mdoc beside it, which says where "
            "every piece is",
        )
    _check_size(path, columns, rows)
    kind = np.dtype(dtype_from_mode(mode)).newbyteorder(order)
    if mode == 0 and _bytes_are_unsigned(head, order):
        kind = np.dtype(np.uint8)
    extended = int(np.frombuffer(head, f"{order}i4", count=1, offset=92)[0])
    start = _MRC_HEADER_BYTES + max(extended, 0)
    needed = start + sections * columns * rows * kind.itemsize
    if path.stat().st_size < needed:
        raise _refused(
            path, f"must have {needed} bytes as its header says", f"{path.stat().st_size}", "copy it again"
        )
    if pieces is None:
        return _Mrc(path, (rows, columns), kind, start)
    montage = _Montage(path, (rows, columns), kind, start, pieces)
    _check_size(path, montage.shape[1], montage.shape[0])
    return montage


def _bytes_are_unsigned(head: bytes, order: str) -> bool:
    """Whether the bytes of an MRC file are 0 to 255, as IMOD and SerialEM write them; the format says -128 to 127.

    Sources: IMOD's description of the format (imodStamp at byte 152, imodFlags at 156: 1 = bytes are signed), and
    SerialEM's `HeaderMRC` in Image/KStoreMRC.cpp (mastcu/SerialEM, dfff4de7), which writes the stamp and flags of 0.
    """
    stamp, flags = np.frombuffer(head, f"{order}i4", count=2, offset=152).tolist()
    return stamp == _IMOD_STAMP and not flags & _IMOD_SIGNED


def _byte_order(head: bytes) -> str | None:
    """Of an MRC header: the order in which size and mode make sense; None where neither does.

    Where both do (a width of 512 is one of 131,072 in the other, and mode 0 is 0), the one with fewer pixels.
    """
    if len(head) < _MRC_HEADER_BYTES:
        return None
    pixels: dict[str, int] = {}
    for order in "<>":
        columns, rows, sections, mode = np.frombuffer(head, f"{order}i4", count=4).tolist()
        axes = np.frombuffer(head, f"{order}i4", count=3, offset=64).tolist()
        marked = head[208:212] in (b"MAP ", b"MAP\0") or sorted(axes) in ([1, 2, 3], [0, 0, 0])
        if marked and mode in _MRC_MODES and min(columns, rows, sections) >= 1 and max(columns, rows) < 2**20:
            pixels[order] = columns * rows * sections
    return min(pixels, key=lambda order: pixels[order], default=None)
