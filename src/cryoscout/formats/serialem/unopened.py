"""What of a SerialEM navigator stands for squares without a map: polygons, and points drawn on a whole-grid map.

A polygon, or a point drawn on a whole-grid map, in which no map of a square was taken is a square that was not opened
yet; a polygon around a square's map says how large that square is. A point on a whole-grid map at which exposures were
taken is a hole: of the square whose map or polygon is around it, else of a square of its own, which the point stood for
before it was imaged. A point in the middle of a square's map, or in a polygon, stands for that square.
Frames: um of the stage.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.serialem.nav import POLYGON, NavFile, NavItem
from cryoscout.formats.serialem.outlines import Floats, area_um2, extent_um, inside

WHOLE_GRID_FROM_UM = 400.0
"""A map this wide or high shows many squares: the widest mesh in use, 100 per inch, has a pitch of 254 um."""
MOST_MAPS = 20_000
FARTHEST_UM = 50.0
"""How far from its item an image can be taken: image shift reaches some 10 um and a stage that misses some more;
the squares of a 400 mesh grid are 62 um apart."""
_IN_THE_MIDDLE = 0.1
"""Of a map's extent: so near to its middle is the point that it was taken at, whatever the realignment."""

Taken = Mapping[str, Sequence[tuple[float, float]]]
"""Label -> stage positions (um, NaN unknown) of the exposures that name it."""


@dataclass(frozen=True)
class Polygons:
    """Polygons of the size of a square."""

    unopened: tuple[NavItem, ...]
    """They stand for squares of which no map was taken."""
    area_um2: Mapping[str, float]
    """Of all squares with a polygon, by id."""
    stood_for: Mapping[str, str]
    """Polygon -> the square whose map was taken there: what the polygon stood for before."""


def polygons(nav: NavFile, squares: Sequence[NavItem]) -> Polygons:
    """What the polygons of a navigator stand for. squares : maps of squares"""
    drawn = [
        item
        for item in nav.items
        if item.type == POLYGON and item.coords_in is None and 0 < extent_um(item) < WHOLE_GRID_FROM_UM
    ]
    if len(drawn) > MOST_MAPS:
        raise FileFormatError(
            nav.path, None, f"must have at most {MOST_MAPS:,} polygons. Got {len(drawn):,} instead."
        )
    map_x, map_y = (np.array([item.stage_um[axis] for item in squares]) for axis in (0, 1))
    x, y = (np.array([item.stage_um[axis] for item in drawn]) for axis in (0, 1))
    map_around = np.full(len(drawn), -1)
    for number, square in enumerate(squares):
        map_around[inside(square, x, y) & (map_around < 0)] = number
    unopened: list[NavItem] = []
    areas_um2: dict[str, float] = {}
    stood_for: dict[str, str] = {}
    for row, item in enumerate(drawn):
        around = np.flatnonzero(inside(item, map_x, map_y))
        if len(around):
            areas_um2[squares[around[0]].id] = area_um2(item)
            stood_for[item.id] = squares[around[0]].id
        elif map_around[row] >= 0:
            stood_for[item.id] = squares[map_around[row]].id
        else:
            unopened.append(item)
            areas_um2[item.id] = area_um2(item)
    return Polygons(tuple(unopened), areas_um2, stood_for)


@dataclass(frozen=True)
class GridMapPoints:
    """Points drawn on a whole-grid map, as rows of the points to image: what each stands for."""

    exposed: Mapping[int, str]
    """Holes, because exposures were taken there -> square: that of its map, the polygon around it, or its own."""
    unopened: tuple[int, ...]
    """Squares of which no map was taken."""
    opened: Mapping[int, str]
    """The squares whose maps were taken there."""
    in_polygons: Mapping[int, str]
    """The squares of the polygons around them."""

    def notes(self) -> list[str]:
        """How many are what, for the join report."""
        return [
            f"{count} points {what}"
            for count, what in (
                (len(self.exposed), "drawn on a whole-grid map are holes: exposures were taken there"),
                (len(self.unopened), "drawn on a whole-grid map are squares that were not opened yet"),
                (
                    len(self.opened),
                    "of a whole-grid map in the middle of a square's map stand for that square",
                ),
                (len(self.in_polygons), "of a whole-grid map in a polygon stand for the polygon's square"),
            )
            if count
        ]


def points_on_grid_maps(
    items: Sequence[NavItem],
    places_um: tuple[Floats, Floats],
    square_ids: Sequence[str],
    squares: Sequence[NavItem],
    unopened: Sequence[NavItem],
    grid_maps: Collection[int],
    taken: Taken,
) -> GridMapPoints:
    """What the points of whole-grid maps stand for.

    items : the points to image; places_um, square_ids : of each, NaN and "" where not known
    squares : maps of squares     unopened : polygons of squares without one     grid_maps : MapIDs of whole-grid maps
    """
    map_of = {item.id: item for item in squares}
    rows = [row for row, item in enumerate(items) if item.drawn_id in grid_maps]
    polygon_of = _polygons_around([row for row in rows if not square_ids[row]], places_um, unopened)
    exposed: dict[int, str] = {}
    alone: list[int] = []
    opened: dict[int, str] = {}
    for row in rows:
        item = items[row]
        if _is_exposed(places_um[0][row], places_um[1][row], taken.get(item.label, ())):
            exposed[row] = square_ids[row] or polygon_of.get(row, item.id)
        elif not square_ids[row] and row not in polygon_of:
            alone.append(row)
        elif (square := map_of.get(square_ids[row])) is not None and _is_its_middle(item, square):
            opened[row] = square.id
    in_polygons = {row: polygon for row, polygon in polygon_of.items() if row not in exposed}
    return GridMapPoints(exposed, tuple(alone), opened, in_polygons)


def _polygons_around(
    rows: Sequence[int], places_um: tuple[Floats, Floats], polygons: Sequence[NavItem]
) -> dict[int, str]:
    """Row -> the smallest polygon around it, of those that are in any."""
    at = np.array(rows, dtype=np.int64)
    found: dict[int, str] = {}
    for polygon in sorted(polygons, key=area_um2, reverse=True):
        for row in at[inside(polygon, places_um[0][at], places_um[1][at])]:
            found[int(row)] = polygon.id
    return found


def _is_exposed(x_um: float, y_um: float, taken_um: Sequence[tuple[float, float]]) -> bool:
    """Whether an exposure that names the item was taken there, or may have been."""
    return any(not math.hypot(x - x_um, y - y_um) > FARTHEST_UM for x, y in taken_um)


def _is_its_middle(item: NavItem, square: NavItem) -> bool:
    """Whether a square's map was taken at a point: holes are not seen on a whole-grid map."""
    if item.group_id or item.coords_in is not None:
        return False
    apart = math.hypot(item.stage_um[0] - square.stage_um[0], item.stage_um[1] - square.stage_um[1])
    return apart <= _IN_THE_MIDDLE * extent_um(square)
