"""The outline of a navigator's item, in um of the stage: how large it is, and what lies in it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cryoscout.formats.serialem.nav import NavItem

_MOST_CORNERS = 64
"""SerialEM draws a map with 5 corners; of a longer outline only the bounding box is used."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def extent_um(item: NavItem) -> float:
    """Longer side of the bounding box of a map's outline, um; 0 for one without an outline."""
    if item.coords_in is not None or not item.points_x:
        return 0.0
    return max(max(item.points_x) - min(item.points_x), max(item.points_y) - min(item.points_y))


def box_um(item: NavItem) -> tuple[float, float, float, float]:
    """x from, to, y from, to of a map's outline, um; empty for one without an outline."""
    if item.coords_in is not None or not item.points_x:
        return math.inf, -math.inf, math.inf, -math.inf
    return min(item.points_x), max(item.points_x), min(item.points_y), max(item.points_y)


def area_um2(item: NavItem) -> float:
    """Area within an outline, um2; of one with many corners that of its bounding box, 0 without one."""
    x_from, x_to, y_from, y_to = box_um(item)
    if x_to < x_from:
        return 0.0
    if not 3 <= len(item.points_x) <= _MOST_CORNERS:
        return (x_to - x_from) * (y_to - y_from)
    x, y = np.array(item.points_x) - x_from, np.array(item.points_y) - y_from
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def inside(item: NavItem, x_um: Floats, y_um: Floats) -> Bools:
    """(n,) whether positions are inside a map's outline; even-odd rule."""
    x_from, x_to, y_from, y_to = box_um(item)
    in_box = np.asarray((x_from <= x_um) & (x_um <= x_to) & (y_from <= y_um) & (y_um <= y_to))
    if not 3 <= len(item.points_x) <= _MOST_CORNERS or not in_box.any():
        return in_box
    odd = np.zeros(len(x_um), dtype=np.bool_)
    corners = list(zip(item.points_x, item.points_y, strict=True))
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y1 != y2:
            crosses = (y1 > y_um) != (y2 > y_um)
            odd ^= crosses & (x_um < (x2 - x1) * ((y_um - y1) / (y2 - y1)) + x1)
    return in_box & odd
