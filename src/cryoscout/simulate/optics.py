"""How much of the beam a specimen lets through at every pixel, in compiled code.

Everything in a field is a function of the stage position, drawn from numbers that belong to its lattice node. So the
same hole can be seen at any pixel size: in a patch image, in a crop, in a square image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

NO_HOLE = -1
TORN = 5
"""What stands at a node, beside the values of HoleKind."""
EMPTY, DRY, CRYSTALLINE = 1, 2, 3


class Square(NamedTuple):
    """What is the same all over a square: a tuple, so that compiled code keeps it in registers."""

    cosine: float  # of the lattice's angle
    sine: float
    pitch_um: float
    radius_um: float  # of a hole
    centre_x_um: float  # stage, node (0, 0)
    centre_y_um: float
    first_i: float  # node of the tables' first entry
    first_j: float
    ice_path_nm: float  # mean free path
    meniscus: float
    rim_depth: float
    rim_um: float
    grain_um: float
    grain_depth: float
    bar_half_um: float  # of the opening; 0: no bars to be seen
    bar_corner_um: float
    bar_edge_um: float
    bar_ice_nm: float


_BAR_REACH_UM = 3.0
_TORN_WIDER = 1.22
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@njit(cache=True, nogil=True, error_model="numpy")
def uniform_of(seed: int, number: int) -> float:
    """In [0, 1): the `number`-th of a node's own random numbers (SplitMix64, Steele et al. 2014)."""
    z = np.uint64(seed) + np.uint64(number + 1) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True, nogil=True, error_model="numpy")
def _grain_depth(seed: int, x_um: float, y_um: float, grain_um: float, depth: float) -> float:
    """Optical depth of the grain at a place: of the nearest of points scattered one to a cell, with fringes."""
    u, v = x_um / grain_um + 500.0, y_um / grain_um + 500.0
    cell_u, cell_v = math.floor(u), math.floor(v)
    nearest, owner = 1e9, 0
    for a in range(cell_u - 1, cell_u + 2):
        for b in range(cell_v - 1, cell_v + 2):
            number = 4 * (a * 1024 + b) + 100
            away_u = a + uniform_of(seed, number) - u
            away_v = b + uniform_of(seed, number + 1) - v
            distance = away_u * away_u + away_v * away_v
            if distance < nearest:
                nearest, owner = distance, number
    dark = uniform_of(seed, owner + 2)
    angle = math.pi * uniform_of(seed, owner + 3)
    fringe = math.sin(2 * math.pi * (x_um * math.cos(angle) + y_um * math.sin(angle)) / (0.55 * grain_um))
    return depth * (dark * dark * (1.34 + 0.2 * fringe) - 0.34)


@njit(cache=True, nogil=True, error_model="numpy")
def _torn_edge(seed: int, dx: float, dy: float) -> float:
    """Signed distance, in radii, from the edge of what is left of a dried film; above 0 there is nothing."""
    angle = 2 * math.pi * uniform_of(seed, 1)
    along = dx * math.cos(angle) + dy * math.sin(angle)
    across = -dx * math.sin(angle) + dy * math.cos(angle)
    wave = 0.16 * math.sin(3.1 * across + 6.28 * uniform_of(seed, 2))
    wave += 0.09 * math.sin(7.7 * across + 6.28 * uniform_of(seed, 3))
    wave += 0.04 * math.sin(17.0 * across + 9.0 * along + 6.28 * uniform_of(seed, 4))
    return along + wave - (0.9 * uniform_of(seed, 5) - 0.45)


@njit(cache=True, nogil=True, error_model="numpy")
def _hole_depth(
    kind: int,
    seed: int,
    ice_nm: float,
    slope_x: float,
    slope_y: float,
    dx: float,
    dy: float,
    c: Square,
) -> float:
    """Optical depth of what is in a hole, dx, dy um from its centre."""
    if kind in (EMPTY, TORN):
        return 0.0
    radius = c.radius_um
    if kind == DRY:
        edge = _torn_edge(seed, dx / radius, dy / radius)
        left = ice_nm * 2.0 / c.ice_path_nm if edge < 0.0 else 0.0
        return (
            left + 0.14 * math.exp(-((edge / 0.045) ** 2)) + 0.03 * math.exp(-(((edge + 0.13) / 0.06) ** 2))
        )
    squared = (dx * dx + dy * dy) / (radius * radius)
    here_nm = ice_nm + slope_x * dx + slope_y * dy
    here_nm *= 1.0 + c.meniscus * (squared * squared - 1.0 / 3.0)
    depth = max(here_nm, 0.0) / c.ice_path_nm
    if kind == CRYSTALLINE:
        depth += _grain_depth(seed, dx, dy, c.grain_um, c.grain_depth)
    return float(max(depth, 0.0))


@njit(cache=True, nogil=True, error_model="numpy")
def _between(table: NDArray[np.float64], u: float, v: float) -> float:
    """Bilinear value of a table over nodes, the nearest one beyond its border."""
    u = min(max(u, 0.0), table.shape[0] - 1.001)
    v = min(max(v, 0.0), table.shape[1] - 1.001)
    i, j = int(u), int(v)
    a, b = u - i, v - j
    low = table[i, j] * (1 - b) + table[i, j + 1] * b
    high = table[i + 1, j] * (1 - b) + table[i + 1, j + 1] * b
    return float(low * (1 - a) + high * a)


@njit(cache=True, nogil=True, error_model="numpy")
def _bar_distance_um(dx: float, dy: float, c: Square) -> float:
    """Signed distance from the edge of the square's opening, a rounded square; above 0 in the bar."""
    inner = c.bar_half_um - c.bar_corner_um
    over_x, over_y = max(abs(dx) - inner, 0.0), max(abs(dy) - inner, 0.0)
    outside = math.sqrt(over_x * over_x + over_y * over_y)
    inside = min(max(abs(dx), abs(dy)) - inner, 0.0)
    rough = 0.06 * (math.sin(2.1 * dx + 1.0) + math.sin(1.7 * dy) + math.sin(0.9 * (dx + dy)))
    return float(outside + inside - c.bar_corner_um + rough)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _transmission(
    x: float,
    y: float,
    pixel_um: float,
    dirt: float,
    c: Square,
    kind: NDArray[np.int8],
    seed: NDArray[np.int64],
    ice_nm: NDArray[np.float64],
    slope: NDArray[np.float64],
    film_depth: NDArray[np.float64],
) -> float:
    """Share of the electrons that a pixel at stage x, y gets; edges of holes are shared out within the pixel."""
    right, up = x - c.centre_x_um, y - c.centre_y_um
    cos, sin = c.cosine, c.sine
    u = (right * cos + up * sin) / c.pitch_um - c.first_i
    v = (-right * sin + up * cos) / c.pitch_um - c.first_j
    i, j = math.floor(u + 0.5), math.floor(v + 0.5)
    bar, opened = 0.0, 1.0
    if c.bar_half_um > 0:
        from_bar = _bar_distance_um(right, up, c)
        bar = c.bar_ice_nm / c.ice_path_nm * math.exp(min(from_bar, 0.0) / _BAR_REACH_UM)
        opened = 1.0 / (1.0 + math.exp(min(from_bar / (0.4 * c.bar_edge_um), 60.0)))
    what = NO_HOLE
    if 0 <= i < kind.shape[0] and 0 <= j < kind.shape[1]:
        what = kind[i, j]
    share, light, veil = 0.0, 0.0, dirt
    if what != NO_HOLE:
        a, b = (u - i) * c.pitch_um, (v - j) * c.pitch_um
        dx, dy = a * cos - b * sin, a * sin + b * cos
        distance, radius = math.sqrt(dx * dx + dy * dy), c.radius_um
        if what == TORN:
            turn = math.atan2(dy, dx)
            wave = 0.10 * math.sin(3 * turn + 6.28 * uniform_of(seed[i, j], 6))
            wave += 0.05 * math.sin(7 * turn + 6.28 * uniform_of(seed[i, j], 7))
            radius *= _TORN_WIDER + wave
        share = min(max((radius - distance) / pixel_um + 0.5, 0.0), 1.0)
        width = math.sqrt(c.rim_um * c.rim_um + pixel_um * pixel_um / 12)
        out, inn = (distance - radius - c.rim_um) / width, (distance - radius + 2 * c.rim_um) / width
        if abs(out) < 4 or abs(inn) < 4:
            rim = math.exp(-0.5 * out * out) - 0.35 * math.exp(-0.5 * inn * inn)
            veil += c.rim_depth * c.rim_um / width * rim
        if share > 0:
            depth = _hole_depth(what, seed[i, j], ice_nm[i, j], slope[i, j, 0], slope[i, j, 1], dx, dy, c)
            light = share * math.exp(-depth - veil - (0.0 if what in (EMPTY, TORN) else bar))
    if share < 1:
        light += (1 - share) * math.exp(-_between(film_depth, u, v) - bar - veil)
    return light * opened


@njit(cache=True, nogil=True, error_model="numpy")
def _add_dirt(
    dirt: NDArray[np.float32], left_um: float, top_um: float, pixel_um: float, crystals: NDArray[np.float64]
) -> None:
    """Add the optical depth of crystals to an image whose first pixel lies at left, top; y falls with the row."""
    rows, columns = dirt.shape
    for n in range(len(crystals)):
        x, y, radius, angle, stretch, depth = crystals[n]
        reach = radius * stretch * 1.16 + pixel_um
        first_column = max(math.ceil((x - reach - left_um) / pixel_um), 0)
        last_column = min(math.floor((x + reach - left_um) / pixel_um), columns - 1)
        first_row = max(math.ceil((top_um - y - reach) / pixel_um), 0)
        last_row = min(math.floor((top_um - y + reach) / pixel_um), rows - 1)
        for row in range(first_row, last_row + 1):
            for column in range(first_column, last_column + 1):
                out = crystal_radius(
                    left_um + column * pixel_um - x, top_um - row * pixel_um - y, radius, angle, stretch
                )
                if out < 1.0:
                    # Finer than a pixel: spread out, so that a crystal keeps its darkness at any pixel size.
                    small = min(1.0, 2 * radius / pixel_um)
                    dirt[row, column] += depth * small * math.sqrt(1.0 - out**4)


@njit(cache=True, nogil=True, error_model="numpy")
def crystal_radius(dx: float, dy: float, radius: float, angle: float, stretch: float) -> float:
    """How far out in an ice crystal a place is: 1 at its border, a hexagon with round corners."""
    along = (dx * math.cos(angle) + dy * math.sin(angle)) / stretch
    across = -dx * math.sin(angle) + dy * math.cos(angle)
    one = abs(along)
    two = abs(0.5 * along + 0.8660254 * across)
    three = abs(0.5 * along - 0.8660254 * across)
    flat = max(one, two, three)
    return (0.6 * flat + 0.4 * math.sqrt(along * along + across * across)) / radius


@njit(cache=True, nogil=True, error_model="numpy")
def transmitted(
    left_um: NDArray[np.float64],
    top_um: NDArray[np.float64],
    pixel_um: float,
    images: NDArray[np.float32],
    crystals: NDArray[np.float64],
    c: Square,
    kind: NDArray[np.int8],
    seed: NDArray[np.int64],
    ice_nm: NDArray[np.float64],
    slope: NDArray[np.float64],
    film_depth: NDArray[np.float64],
) -> None:
    """Fill images (m, h, w) with the transmission, 0 to 1, at each pixel's centre.

    left_um, top_um : (m,) stage x and y of each image's first pixel; x grows with the column, y falls with the row
    """
    for m in range(len(images)):
        image = images[m]
        image[:] = 0.0
        _add_dirt(image, left_um[m], top_um[m], pixel_um, crystals)
        for row in range(image.shape[0]):
            y = top_um[m] - row * pixel_um
            for column in range(image.shape[1]):
                x = left_um[m] + column * pixel_um
                image[row, column] = _transmission(
                    x, y, pixel_um, image[row, column], c, kind, seed, ice_nm, slope, film_depth
                )
