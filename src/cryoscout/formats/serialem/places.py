"""Which place each item of a SerialEM navigator is: whole-grid map, square, hole, patch. The file says none of it.

Squares are the map items, without the whole-grid maps and without the maps taken inside another square (anchor and
view maps), which stand for the square around them. What stands for squares without a map, says `unopened`. Where a hole
belongs, in this order: the square of the map it was drawn on (DrawnID); the square that others of its group belong to;
the square whose outline contains it; the map it names although the file does not have it; nowhere. Frames: outlines and
positions are stage um.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import FileFormatError
from cryoscout.formats.clusters import cluster_positions
from cryoscout.formats.serialem.nav import NavFile, NavItem
from cryoscout.formats.serialem.outlines import area_um2, box_um, extent_um, inside
from cryoscout.formats.serialem.unopened import (
    MOST_MAPS,
    WHOLE_GRID_FROM_UM,
    Taken,
    points_on_grid_maps,
    polygons,
)

LARGER = 1.5
"""Areas of maps must differ by this factor for one to hold the other; maps of neighbours may overlap."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Hole:
    """A point item with its place."""

    item: NavItem
    square_id: str  # "" where none could be told
    patch_id: str  # "" where its position is not known
    x_um: float  # NaN unknown
    y_um: float
    x_px: float  # on the image of the square's map: columns, rows from its upper left corner; NaN unknown
    y_px: float


@dataclass(frozen=True)
class Places:
    """All items of a navigator file in their places."""

    whole_grid: tuple[NavItem, ...]
    squares: tuple[NavItem, ...]
    missing_squares: tuple[str, ...]  # ids of maps that points name and the file does not have
    holes: tuple[Hole, ...]
    notes: tuple[str, ...]
    unopened: tuple[
        NavItem, ...
    ] = ()  # polygons, and points on a whole-grid map, that stand for squares without a map
    area_um2: Mapping[str, float] = field(default_factory=dict)  # of squares with a polygon, by id
    looked_at: Mapping[str, datetime] = field(
        default_factory=dict
    )  # of squares whose map's image says when, by id
    stood_for: Mapping[str, str] = field(
        default_factory=dict
    )  # polygon or point -> square that it stood for before there was a map, or a polygon around it


def places_of(nav: NavFile, patch_radius_um: float, taken: Taken | None = None) -> Places:
    """Squares, holes and patches of a navigator file, and notes on every choice made for the user.

    taken : where exposures were taken that name an item; None where none are known
    patch_radius_um : > 0, how far image shift reaches from the middle of a patch, for holes that are in no group
    Raises FileFormatError for more maps than `MOST_MAPS`.
    """
    maps = nav.maps
    if len(maps) > MOST_MAPS:
        raise FileFormatError(
            nav.path, None, f"must have at most {MOST_MAPS:,} maps. Got {len(maps):,} instead."
        )
    whole_grid = [item for item in maps if extent_um(item) >= WHOLE_GRID_FROM_UM]
    square_of_map = _squares(nav, [item for item in maps if extent_um(item) < WHOLE_GRID_FROM_UM])
    squares = [item for item in maps if square_of_map.get(item.map_id) is item]
    items = nav.holes
    x_um, y_um = _stage_positions(items, {item.map_id: item for item in maps})
    grid_maps = {item.map_id for item in whole_grid}
    square_ids, notes = _square_ids(items, x_um, y_um, squares, square_of_map, grid_maps)
    drawn = polygons(nav, squares)
    unopened = drawn.unopened
    points = points_on_grid_maps(items, (x_um, y_um), square_ids, squares, unopened, grid_maps, taken or {})
    stood_for = {**drawn.stood_for}
    stood_for |= {
        items[row].id: square for row, square in (*points.opened.items(), *points.in_polygons.items())
    }
    square_ids = [points.exposed.get(row, square) for row, square in enumerate(square_ids)]
    no_holes = {*points.unopened, *points.opened, *points.in_polygons}
    own = [row for row, square in points.exposed.items() if square == items[row].id]
    kept = [row for row in range(len(items)) if row not in no_holes]
    more = (*unopened, *(items[row] for row in (*points.unopened, *own)))
    items, square_ids = [items[row] for row in kept], [square_ids[row] for row in kept]
    x_um, y_um = x_um[kept], y_um[kept]
    patch_ids, patch_notes = _patch_ids(items, x_um, y_um, square_ids, patch_radius_um)
    map_by_square = {item.id: item for item in squares}
    holes = []
    for row, item in enumerate(items):
        x_px, y_px = _on_image(map_by_square.get(square_ids[row]), float(x_um[row]), float(y_um[row]))
        holes.append(
            Hole(item, square_ids[row], patch_ids[row], float(x_um[row]), float(y_um[row]), x_px, y_px)
        )
    known = {*map_by_square, *(item.id for item in more)}
    missing = sorted({place for place in square_ids if place and place not in known})
    nowhere = square_ids.count("")
    n_inside = len(maps) - len(whole_grid) - len(squares)
    notes = [
        *(
            f"map {item.id} shows the whole grid ({extent_um(item):.0f} um) and is no square"
            for item in whole_grid
        ),
        *(
            [f"{counted(n_inside, 'maps')} inside a square's map {agreed(n_inside, 'stand')} for that square"]
            if n_inside
            else []
        ),
        *(
            [
                f"{counted(len(unopened), 'polygons')} without a map inside "
                f"{'is a square that was' if len(unopened) == 1 else 'are squares that were'} not opened yet"
            ]
            if unopened
            else []
        ),
        *points.notes(),
        *([f"{counted(nowhere, 'holes', 'belong')} to no square"] if nowhere else []),
        *notes,
        *patch_notes,
    ]
    others = sum(item.type == 0 and not item.is_hole for item in nav.items)
    if others:
        notes.append(
            f"{counted(others, 'points')} of registration or of corners of montages {agreed(others, 'are')} no holes"
        )
    return Places(
        tuple(whole_grid), tuple(squares), tuple(missing), tuple(holes), tuple(notes), more, drawn.area_um2,
        stood_for={old: square for old, square in stood_for.items() if old != square},
    )  # fmt: skip


def stage_of_pixel(item: NavItem, x_px: float, y_px: float) -> tuple[float, float]:
    """Stage position (um) of a pixel of a map's image, (0, 0) in its lower left corner; NaN where there is none.

    MapScaleMat takes um from the map's stage position to px from the middle of an image of MapWidthHeight.
    Source: the corners of real maps (PtsX, PtsY) come out at the corners of their images.
    """
    if item.scale is None or item.size_px is None:
        return math.nan, math.nan
    xpx, xpy, ypx, ypy = item.scale
    determinant = xpx * ypy - xpy * ypx
    if determinant == 0.0 or not math.isfinite(determinant):
        return math.nan, math.nan
    right, up = x_px - item.size_px[0] / 2, y_px - item.size_px[1] / 2
    return (
        item.stage_um[0] + (ypy * right - xpy * up) / determinant,
        item.stage_um[1] + (xpx * up - ypx * right) / determinant,
    )


def _on_image(item: NavItem | None, x_um: float, y_um: float) -> tuple[float, float]:
    """Column and row (from the upper left corner) of a stage position on a map's image."""
    if item is None or item.scale is None or item.size_px is None:
        return math.nan, math.nan
    xpx, xpy, ypx, ypy = item.scale
    x, y = x_um - item.stage_um[0], y_um - item.stage_um[1]
    return item.size_px[0] / 2 + xpx * x + xpy * y, item.size_px[1] / 2 - (ypx * x + ypy * y)


def _stage_positions(items: Sequence[NavItem], maps: dict[int, NavItem]) -> tuple[Floats, Floats]:
    """(n,), (n,) um; of a point given in pixels only where its map is a single image: montages may be rescaled."""
    positions = []
    for item in items:
        drawn_on = maps.get(item.drawn_id)
        if item.coords_in is None:
            positions.append(item.stage_um[:2])
        elif item.coords_in[0] == "CoordsInMap" and drawn_on is not None and not drawn_on.is_montage:
            positions.append(stage_of_pixel(drawn_on, *item.coords_in[1][:2]))
        else:
            positions.append((math.nan, math.nan))
    array = np.array(positions, dtype=np.float64).reshape(-1, 2)
    array[~np.isfinite(array).all(axis=1)] = np.nan
    return array[:, 0], array[:, 1]


def _squares(nav: NavFile, maps: list[NavItem]) -> dict[int, NavItem]:
    """MapID -> the square that the map stands for: the outermost map around its middle, or itself."""
    areas = {item.map_id: area_um2(item) for item in maps}
    roots: list[NavItem] = []
    boxes = np.empty((len(maps), 4))
    square_of_map: dict[int, NavItem] = {}
    for item in sorted(maps, key=lambda map_item: -areas[map_item.map_id]):
        x, y = item.stage_um[:2]
        near = boxes[: len(roots)]
        hits = np.flatnonzero((near[:, 0] <= x) & (x <= near[:, 1]) & (near[:, 2] <= y) & (y <= near[:, 3]))
        around = (
            roots[hit]
            for hit in hits
            if areas[roots[hit].map_id] >= LARGER * areas[item.map_id]
            and inside(roots[hit], np.array([x]), np.array([y]))[0]
        )
        outer = next(around, None)
        if outer is None:
            boxes[len(roots)] = box_um(item)
            roots.append(item)
        square_of_map[item.map_id] = item if outer is None else outer
    return square_of_map


def _square_ids(
    items: Sequence[NavItem],
    x_um: Floats,
    y_um: Floats,
    squares: Sequence[NavItem],
    square_of_map: dict[int, NavItem],
    grid_maps: Collection[int],
) -> tuple[list[str], list[str]]:
    """Square of each hole by the rules of the module, and notes on the ones DrawnID did not decide."""
    found = [square_of_map[item.drawn_id].id if item.drawn_id in square_of_map else "" for item in items]
    votes: dict[int, Counter[str]] = {}
    for item, square in zip(items, found, strict=True):
        if item.group_id and square:
            votes.setdefault(item.group_id, Counter())[square] += 1
    by_group = by_outline = by_name = 0
    for row, item in enumerate(items):
        if not found[row] and item.group_id in votes:
            found[row] = votes[item.group_id].most_common(1)[0][0]
            by_group += 1
    left = np.array([row for row, square in enumerate(found) if not square], dtype=np.int64)
    for square_item in sorted(squares, key=area_um2):
        if not len(left):
            break
        is_in = inside(square_item, x_um[left], y_um[left])
        for row in left[is_in]:
            found[row] = square_item.id
        by_outline += int(is_in.sum())
        left = left[~is_in]
    known = {item.id for item in squares}
    for row in left:
        drawn_id = items[row].drawn_id
        is_known = drawn_id in square_of_map or drawn_id in grid_maps or str(drawn_id) in known
        if drawn_id and not is_known:
            found[row] = str(drawn_id)
            by_name += 1
    notes = [
        f"{counted(count, 'holes', 'belong')} {how}"
        for count, how in (
            (by_group, "to the square of the group (GroupID): DrawnID names no square"),
            (by_outline, "to the square whose outline is around: DrawnID and GroupID name none"),
            (by_name, "to a map that is named (DrawnID) and that the file does not have"),
        )
        if count
    ]
    return found, notes


def _patch_ids(
    items: Sequence[NavItem], x_um: Floats, y_um: Floats, square_ids: Sequence[str], radius_um: float
) -> tuple[list[str], list[str]]:
    """Patch of each hole: its group where that is several holes of one square within reach, else a cluster."""
    patch_ids = [""] * len(items)
    groups: dict[tuple[str, int], list[int]] = {}
    for row, item in enumerate(items):
        groups.setdefault((square_ids[row], item.group_id), []).append(row)
    singles: dict[str, list[int]] = {}
    wide = 0
    for (square, group), rows in groups.items():
        if group and len(rows) > 1 and _within_reach(x_um[rows], y_um[rows], radius_um):
            for row in rows:
                patch_ids[row] = f"{square}/group{group}"
        elif group and len(rows) > 1:
            wide += 1
            for row, label in zip(rows, cluster_positions(x_um[rows], y_um[rows], radius_um), strict=True):
                patch_ids[row] = f"{square}/group{group}.{label + 1}" if label >= 0 else ""
        else:
            singles.setdefault(square, []).extend(rows)
    for square, rows in singles.items():
        for row, label in zip(rows, cluster_positions(x_um[rows], y_um[rows], radius_um), strict=True):
            patch_ids[row] = f"{square}/cluster{label + 1}" if label >= 0 else ""
    notes = []
    alone = sum(patch_ids[row] != "" for rows in singles.values() for row in rows)
    if alone:
        notes.append(
            f"{counted(alone, 'holes')} without a group {agreed(alone, 'were')} put into patches of radius "
            f"{radius_um:g} um"
        )
    if wide:
        notes.append(
            f"{counted(wide, 'groups')} wider than image shift reaches {agreed(wide, 'were')} divided into patches of "
            f"{radius_um:g} um"
        )
    unknown = patch_ids.count("")
    if unknown:
        notes.append(
            f"{counted(unknown, 'holes', 'are')} given in pixels of a montage or of a map that is not here: no position"
        )
    return patch_ids, notes


def _within_reach(x_um: Floats, y_um: Floats, radius_um: float) -> bool:
    """Whether all holes lie within twice the radius of their mean; groups without positions are believed."""
    known = np.isfinite(x_um)
    if not known.any():
        return True
    return bool(
        np.hypot(x_um[known] - x_um[known].mean(), y_um[known] - y_um[known].mean()).max() <= 2 * radius_um
    )
