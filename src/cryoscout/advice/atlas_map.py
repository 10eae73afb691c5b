"""The squares of a grid where they stand on the stage: which were opened, and which to open next, by number and name.

Each drawing is one inline SVG element made of text alone, as in `square_maps`, for the work list and the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.square_maps import WIDTH_PX, SquareMap, round_length
from cryoscout.advice.work_list import PlannedLook, WorkList, name_within
from cryoscout.core.counting import counted
from cryoscout.session.looks import squares_looked_at
from cryoscout.session.model import Session

MOST_GRIDS = 12
"""Grids that are drawn, in the session's order."""
_NAMES_OF_ALL = 60
"""Up to so many squares all have their name beside them; above, those to open; all have it as a tooltip."""
_TO_OPEN, _LATER, _SEEN, _LINE = "#0072b2", "#9ecae1", "#009e73", "#8a8a86"
_SHARE_OF_PITCH = 0.72
"""Side of a square whose area is not known, of the distance between neighbours."""
_MARGIN = 0.05
_LEAST_SIDE_PX = 12.0
"""Of a square to open, so that its number stands in it."""


def atlas_maps(session: Session, work_list: WorkList) -> list[SquareMap]:
    """One drawing for each grid with a square that was not opened, as far as stage positions are known."""
    looked = squares_looked_at(session)
    tree = session.tree()
    look_of = {look.square: look for look in work_list.looks}
    visited = {visit.square for visit in work_list.visits}
    maps = []
    for grid, name in enumerate(session.grids["grid_id"].tolist()):
        squares = np.flatnonzero(tree.grid_of_square == grid)
        um = session.squares[["x_um", "y_um"]].to_numpy(dtype=np.float64)[squares]
        placed = np.isfinite(um).all(axis=1)
        if looked[squares].all() or not placed.any():
            continue
        maps.append(_drawn(session, name, squares[placed], int((~placed).sum()), looked, look_of, visited))
    return maps[:MOST_GRIDS]


def _drawn(
    session: Session,
    name: str,
    squares: NDArray[np.int64],
    n_unplaced: int,
    looked: NDArray[np.bool_],
    look_of: Mapping[str, PlannedLook],
    visited: set[str],
) -> SquareMap:
    um = session.squares[["x_um", "y_um"]].to_numpy(dtype=np.float64)[squares]
    side_um = _sides_um(session, squares, um)
    low, high = (um - side_um[:, None] / 2).min(axis=0), (um + side_um[:, None] / 2).max(axis=0)
    extent = max(float((high - low).max()), 1e-6)
    margin = _MARGIN * WIDTH_PX
    scale = (WIDTH_PX - 2 * margin) / extent
    # The stage's y goes up, a drawing's down.
    xy = np.stack([(um[:, 0] - low[0]) * scale + margin, (high[1] - um[:, 1]) * scale + margin], axis=1)
    height = float((high[1] - low[1]) * scale + 2 * margin) + 20
    bar_um = round_length(extent / 5)
    ids = session.squares["square_id"].to_numpy()[squares]
    levels = _grey_levels(session.squares["brightness"].to_numpy(dtype=np.float64)[squares])
    shown = [look_of.get(str(each)) for each in ids]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height:.0f}" role="img" '
        f'font-family="sans-serif"><title>{escape(name)}, squares at their stage positions</title>',
        *_boxes(ids, xy, side_um * scale, levels, looked[squares], shown, visited, name),
        f'<path d="M{margin:.1f} {height - 12:.1f}h{bar_um * scale:.1f}" stroke="#111" stroke-width="3"/>'
        f'<text x="{margin + bar_um * scale + 6:.1f}" y="{height - 8:.1f}" font-size="13">{bar_um:g} µm, stage x to '
        "the right, y up</text>",
        "</svg>",
    ]
    to_open = sum(look is not None and look.in_plan for look in shown)
    opened = int(looked[squares].sum())
    note = f"{counted(len(squares), 'squares')}, {opened} of them opened (green outline)."
    note += " Blue and numbered: open next, in order"
    note += f" ({to_open} in the minutes that are left)" if any(shown) else ""
    note += "; light blue: after these." if any(look and not look.in_plan for look in shown) else "."
    note += " Grey: how bright the square is on the atlas." if np.isfinite(levels).any() else ""
    note += f" {counted(n_unplaced, 'squares', 'have')} no stage position." if n_unplaced else ""
    return SquareMap(f"{name}: atlas", "".join(parts), note)


def _sides_um(session: Session, squares: NDArray[np.int64], um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Side of each square: of its area, never beyond its neighbour; where it has none, of the distance to it."""
    pitch = _pitch_um(um)
    area = session.squares["area_um2"].to_numpy(dtype=np.float64)[squares]
    side = np.sqrt(np.where(area > 0, area, np.nan))
    return np.where(np.isfinite(side), np.minimum(side, 1.2 * pitch), _SHARE_OF_PITCH * pitch)


def _pitch_um(um: NDArray[np.float64]) -> float:
    """Distance between neighbours; 100 um, about that of a common mesh, for a square alone."""
    if len(um) < 2:
        return 100.0
    from scipy.spatial import cKDTree

    nearest = np.asarray(cKDTree(um).query(um, k=2)[0])[:, 1]
    nearest = nearest[nearest > 0]
    return float(np.median(nearest)) if len(nearest) else 100.0


def _grey_levels(brightness: NDArray[np.float64]) -> NDArray[np.float64]:
    """0.25 (dark) to 1 (bright) by rank within the grid; NaN unknown."""
    levels = np.full(len(brightness), np.nan)
    known = np.flatnonzero(np.isfinite(brightness))
    if len(known) > 1:
        order = np.argsort(np.argsort(brightness[known], kind="stable"), kind="stable")
        levels[known] = 0.25 + 0.75 * order / (len(known) - 1)
    return levels


def _boxes(
    ids: NDArray[np.object_],
    xy: NDArray[np.float64],
    side: NDArray[np.float64],
    levels: NDArray[np.float64],
    looked: NDArray[np.bool_],
    looks: Sequence[PlannedLook | None],
    visited: set[str],
    grid: str,
) -> Iterator[str]:
    for row, look in enumerate(looks):
        x, y, size, square = float(xy[row, 0]), float(xy[row, 1]), float(side[row]), str(ids[row])
        grey = round(255 * float(levels[row])) if np.isfinite(levels[row]) else 255
        fill = f"rgb({grey},{grey},{grey})"
        stroke, width = (_SEEN, 2.5) if looked[row] else (_LINE, 0.8)
        told = f"{square}, {'opened' if looked[row] else 'not opened yet'}"
        if square in visited:
            told += ", holes of it are in the plan"
        if look is not None:
            fill = _TO_OPEN if look.in_plan else _LATER
            size = max(size, _LEAST_SIDE_PX)
            told += f", number {look.order}: {look.expected_good:.1f} good expected, {look.rate:.2f} per min"
        yield (
            f'<g><title>{escape(told)}</title><rect x="{x - size / 2:.1f}" y="{y - size / 2:.1f}" '
            f'width="{size:.1f}" height="{size:.1f}" fill="{fill}" stroke="{stroke}" stroke-width="{width}"/>'
        )
        if look is not None:
            letters = max(0.5 * size, 9.0)
            colour = "#fff" if look.in_plan else "#111"
            yield (
                f'<text x="{x:.1f}" y="{y + 0.35 * letters:.1f}" font-size="{letters:.1f}" text-anchor="middle" '
                f'fill="{colour}">{look.order}</text>'
            )
        if look is not None or len(ids) <= _NAMES_OF_ALL:
            yield (
                f'<text x="{x:.1f}" y="{y + size / 2 + 8:.1f}" font-size="8" text-anchor="middle" stroke="#fff" '
                f'stroke-width="2" paint-order="stroke">{escape(name_within(square, grid))}</text>'
            )
        yield "</g>"
