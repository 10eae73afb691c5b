"""Where every hole stands on a drawn map: grids, squares and patches as nested boxes, packed, not to scale.

A true scale would put holes two micrometres apart on a grid of three millimetres, where no route can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cryoscout.routing.problem import RoutingProblem

HOLE_PITCH = 1.0
"""Distance between neighbouring holes of a patch; every other length of the map is in this unit."""

_PATCH_MARGIN, _PATCH_GAP = 0.55, 0.5
_SQUARE_MARGIN, _SQUARE_GAP = 0.6, 1.4
_ROW_STRETCHES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)
_GRID_MARGIN, _GRID_GAP, _GRID_TITLE = 0.9, 2.2, 1.9


@dataclass(frozen=True)
class Box:
    """A rectangle of the map: lower left corner (x to the right, y up), width and height in hole pitches."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class MapLayout:
    """The drawn tree. Boxes stand in the order of the problem's indices."""

    hole_xy: NDArray[np.float64]  # (n, 2) x to the right, y up, hole pitches
    patches: tuple[Box, ...]
    squares: tuple[Box, ...]
    grids: tuple[Box, ...]
    width: float
    height: float


def lay_out(
    problem: RoutingProblem, offset_in_patch: NDArray[np.float64] | None = None, *, aspect: float = 1.9
) -> MapLayout:
    """Pack the tree of a problem into nested boxes.

    offset_in_patch : (n, 2) x to the right and y up within the hole's patch, any unit, NaN where unknown;
    without it, or in a patch where one is unknown, the holes of a patch stand on a lattice in their order
    aspect : width over height that the whole map aims at
    """
    n_patches, n_squares = len(problem.square_of_patch), len(problem.grid_of_square)
    n_grids = int(problem.grid_of_square.max()) + 1
    first = np.searchsorted(problem.patch_of_hole, np.arange(n_patches + 1))
    holes_of = [np.arange(low, high) for low, high in pairwise(first.tolist())]
    inner, sizes = [], []
    for holes in holes_of:
        points = _points_in_patch(len(holes), None if offset_in_patch is None else offset_in_patch[holes])
        inner.append(points)
        extent = points.max(axis=0) if len(points) else np.zeros(2)
        sizes.append((float(extent[0]) + 2 * _PATCH_MARGIN, float(extent[1]) + 2 * _PATCH_MARGIN))

    patch_in_square, square_sizes = _nest(
        sizes, problem.square_of_patch, n_squares, _SQUARE_MARGIN, _PATCH_GAP, 1.2
    )
    square_in_grid, grid_sizes = _nest(
        square_sizes, problem.grid_of_square, n_grids, _GRID_MARGIN, _SQUARE_GAP, 1.4, title=_GRID_TITLE
    )
    corners, width, height = _shelves(grid_sizes, _GRID_GAP, aspect)
    grids = tuple(Box(x, y, *size) for (x, y), size in zip(corners, grid_sizes, strict=True))
    squares = _placed(square_in_grid, square_sizes, grids, problem.grid_of_square)
    patches = _placed(patch_in_square, sizes, squares, problem.square_of_patch)
    hole_xy = np.zeros((problem.n_holes, 2))
    for box, holes, points in zip(patches, holes_of, inner, strict=True):
        hole_xy[holes] = points + np.array([box.x + _PATCH_MARGIN, box.y + _PATCH_MARGIN])
    return MapLayout(hole_xy, patches, squares, grids, width, height)


def _points_in_patch(count: int, offsets: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """(count, 2) positions from (0, 0) up, about one pitch apart."""
    columns = max(1, math.ceil(math.sqrt(count)))
    if offsets is not None and count > 1 and np.isfinite(offsets).all():
        points = offsets - offsets.min(axis=0)
        nearest = _nearest_distance(points)
        scale = HOLE_PITCH / nearest if nearest > 0 else 0.0
        # A patch with a few far-off holes would fill the map: then the lattice reads better.
        if scale > 0 and (points.max(axis=0) * scale).max() <= 3 * columns:
            return np.asarray(points * scale, dtype=np.float64)
    index = np.arange(count)
    rows = math.ceil(count / columns)
    lattice = np.stack([index % columns, rows - 1 - index // columns], axis=1)
    return np.asarray(lattice * HOLE_PITCH, dtype=np.float64)


def _nearest_distance(points: NDArray[np.float64]) -> float:
    """Median distance to the nearest neighbour of (k, 2) points, k >= 2."""
    gaps = np.hypot(*(points[:, None, :] - points[None, :, :]).transpose(2, 0, 1))
    np.fill_diagonal(gaps, np.inf)
    return float(np.median(gaps.min(axis=1)))


def _nest(
    sizes: Sequence[tuple[float, float]],
    parent: NDArray[np.int32],
    n_parents: int,
    margin: float,
    gap: float,
    aspect: float,
    title: float = 0.0,
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Pack the children of every parent: child corners within their parent, and the parents' sizes."""
    corners: list[tuple[float, float]] = [(0.0, 0.0)] * len(sizes)
    parent_sizes = []
    for which in range(n_parents):
        children = np.flatnonzero(parent == which).tolist()
        inside, width, height = _shelves([sizes[child] for child in children], gap, aspect)
        for child, (x, y) in zip(children, inside, strict=True):
            corners[child] = (x + margin, y + margin)
        parent_sizes.append((width + 2 * margin, height + 2 * margin + title))
    return corners, parent_sizes


def _shelves(
    sizes: Sequence[tuple[float, float]], gap: float, aspect: float
) -> tuple[list[tuple[float, float]], float, float]:
    """Fill rows from the top left, in order: lower left corners, then total width and height.

    Of several row widths the one is kept that shows the boxes largest in a frame of the aspect.
    """
    if not sizes:
        return [], 0.0, 0.0
    area = sum((width + gap) * (height + gap) for width, height in sizes)
    widest = max(width for width, _ in sizes)
    limits = [max(widest, math.sqrt(area * aspect) * stretch) for stretch in _ROW_STRETCHES]
    return min(
        (_rows(sizes, gap, limit) for limit in limits), key=lambda rows: max(rows[1] / aspect, rows[2])
    )


def _rows(
    sizes: Sequence[tuple[float, float]], gap: float, limit: float
) -> tuple[list[tuple[float, float]], float, float]:
    """Rows no wider than the limit: lower left corners, then total width and height."""
    placed: list[tuple[float, float]] = []  # x from the left, y from the top
    x = y = shelf = right = 0.0
    for width, height in sizes:
        if x > 0 and x + width > limit:
            x, y, shelf = 0.0, y + shelf + gap, 0.0
        placed.append((x, y))
        shelf, right = max(shelf, height), max(right, x + width)
        x += width + gap
    total = y + shelf
    corners = [(x, total - y - height) for (x, y), (_, height) in zip(placed, sizes, strict=True)]
    return corners, right, total


def _placed(
    corners: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    parents: Sequence[Box],
    parent_of: NDArray[np.int32],
) -> tuple[Box, ...]:
    return tuple(
        Box(parents[parent].x + x, parents[parent].y + y, *size)
        for (x, y), size, parent in zip(corners, sizes, parent_of, strict=True)
    )
