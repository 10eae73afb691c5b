"""Which tiles a picture of a montage is made of, where a file beside it says so: as rectangles of the picture.

    NAME.mdoc, NAME.mrc.mdoc ...   SerialEM: ImageSize and PieceCoordinates of each piece, px of the montage, y upward
    a navigator (--nav)            SerialEM: MapFramesXY of the map that the picture shows; tiles are then of equal size

Sources: "Image Metadata Files" and the navigator's format in SerialEM's help; real montages of the tests
(mdocfile_montage_section.mdoc). A picture may be smaller than the montage, by the same factor both ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import CryoscoutError
from cryoscout.core.picture_file import file_in
from cryoscout.formats.limits import FARTHEST_PX
from cryoscout.formats.serialem.mdoc import Z_VALUE, MdocFile, read_mdoc

if TYPE_CHECKING:
    from cryoscout.formats.serialem.nav import NavItem

MOST_TILES = 10_000
SCALES_DIFFER = 0.02
"""A montage that is aligned is up to this much larger or smaller than its nominal size."""
_MRC_SUFFIXES = (".mrc", ".st", ".map")


class Tile(NamedTuple):
    """What one camera image gave of a picture, without the halves of overlaps that are its neighbours'.

    First row and column, and those behind the last, px of the picture.
    """

    top: float
    bottom: float
    left: float
    right: float


def tiles_beside(path: Path, shape: tuple[int, int], *, bottom_first: bool) -> tuple[Tile, ...] | None:
    """The tiles of a picture by the metadata file beside it; None where none says it, or it is of another size.

    shape : (rows, columns) of the picture     bottom_first : whether row 0 is its lowest (`Picture.bottom_first`)
    """
    for file in _metadata_beside(path):
        found = _of_pieces(file, shape, bottom_first)
        if found is not None:
            return found
    return None


class Piece(NamedTuple):
    """One camera image of a montage that is stored as a stack, px of the montage, rows upward."""

    section: int
    """Of the stack, from 0."""
    bottom: int
    left: int
    tile: Tile
    """What the montage takes of it."""


def pieces_beside(path: Path, size_px: tuple[int, int], sections: int) -> tuple[Piece, ...] | None:
    """The pieces of a montage whose images are the sections of a stack, by the metadata file beside it.

    size_px : (width, height) of a section     None where no file beside it says of every section where it is
    """
    for file in _metadata_beside(path):
        found = _of_sections(file, size_px, sections)
        if found is not None:
            return found
    return None


def _metadata_beside(path: Path) -> Iterator[MdocFile]:
    for name in dict.fromkeys(
        [f"{path.name}.mdoc", f"{path.stem}.mdoc", *(f"{path.stem}{suffix}.mdoc" for suffix in _MRC_SUFFIXES)]
    ):
        beside = file_in(path.parent, name)
        if beside is None:
            continue
        try:
            yield read_mdoc(beside, permissive=True)
        except CryoscoutError:
            continue


def _of_sections(file: MdocFile, size_px: tuple[int, int], sections: int) -> tuple[Piece, ...] | None:
    at = {
        section.name: section.numbers["PieceCoordinates"]
        for section in file.sections
        if section.kind == Z_VALUE and "PieceCoordinates" in section.numbers
    }
    if _two_numbers(file.document.globals.get("ImageSize")) != size_px or not 1 < sections <= MOST_TILES:
        return None
    if set(at) != {str(number) for number in range(sections)} or len({place[2] for place in at.values()}) > 1:
        return None
    corners = np.array([at[str(number)][:2] for number in range(sections)])
    if not (np.abs(corners) <= FARTHEST_PX).all() or (corners != np.round(corners)).any():
        return None
    corners -= corners.min(axis=0)
    columns, rows = (_borders(corners[:, axis], size_px[axis]) for axis in (0, 1))
    return tuple(
        Piece(number, int(y), int(x), _around(y + size_px[1] / 2, x + size_px[0] / 2, rows, columns))
        for number, (x, y) in enumerate(corners.tolist())
    )


def tiles_of_map(item: NavItem, shape: tuple[int, int]) -> tuple[Tile, ...] | None:
    """The tiles of a picture that shows a map of a navigator, all of one size; None where the map is of one image."""
    across, down = item.frames_xy
    if not item.is_montage or across < 1 or down < 1 or not 1 < across * down <= MOST_TILES:
        return None
    return _cut(np.linspace(0, shape[0], down + 1), np.linspace(0, shape[1], across + 1))


def _of_pieces(file: MdocFile, shape: tuple[int, int], bottom_first: bool) -> tuple[Tile, ...] | None:
    size = _two_numbers(file.document.globals.get("ImageSize"))
    pieces = [
        section.numbers["PieceCoordinates"]
        for section in file.sections
        if "PieceCoordinates" in section.numbers
    ]
    # A file may hold several montages, one in each section.
    of_first = sorted({(piece[0], piece[1]) for piece in pieces if piece[2] == pieces[0][2]})
    if size is None or not 1 < len(of_first) <= MOST_TILES:
        return None
    corner = np.array(of_first)
    if not (np.abs(corner) <= FARTHEST_PX).all():
        return None
    corner -= corner.min(axis=0)
    whole = corner.max(axis=0) + size
    scale = np.array([shape[1], shape[0]]) / whole
    if abs(scale[0] / scale[1] - 1) > SCALES_DIFFER or not 0.01 < scale[0] <= 1 + SCALES_DIFFER:
        return None
    columns, rows = (_borders(corner[:, axis], size[axis]) * scale[axis] for axis in (0, 1))
    if not bottom_first:
        rows = (shape[0] - rows)[::-1]
    tiles = []
    for x, y in corner * scale + 0.5 * np.array(size) * scale:
        row = y if bottom_first else shape[0] - y
        tiles.append(_around(row, x, rows, columns))
    return tuple(sorted(tiles))


def _borders(starts: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """Where the tiles along one side meet: the middles of their overlaps, with the two ends."""
    apart = np.unique(starts)
    between = 0.5 * (apart[:-1] + length + apart[1:])
    return np.concatenate([[0.0], between, [apart[-1] + length]])


def _around(row: float, column: float, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tile:
    down = int(np.clip(np.searchsorted(rows, row) - 1, 0, len(rows) - 2))
    across = int(np.clip(np.searchsorted(columns, column) - 1, 0, len(columns) - 2))
    return Tile(float(rows[down]), float(rows[down + 1]), float(columns[across]), float(columns[across + 1]))


def _cut(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> tuple[Tile, ...]:
    return tuple(
        Tile(float(top), float(bottom), float(left), float(right))
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    )


def quarters(shape: tuple[int, int]) -> tuple[Tile, ...]:
    """Four parts of a picture whose tiles nobody knows."""
    return _cut(np.array([0.0, shape[0] // 2, shape[0]]), np.array([0.0, shape[1] // 2, shape[1]]))


def _two_numbers(text: str | None) -> Sequence[float] | None:
    words = (text or "").split()
    try:
        width, height = (float(word) for word in words)
    except ValueError:
        return None
    return (width, height) if 1 <= width <= FARTHEST_PX and 1 <= height <= FARTHEST_PX else None
