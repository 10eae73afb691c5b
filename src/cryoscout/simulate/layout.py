"""Where the holes of a simulated session lie: the tree of holes and its stage coordinates, all vectorised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.simulate.settings import SimulationSettings

_ROOM_BETWEEN = 1.15
"""Pitch of patches over the width of the widest patch, and of squares over that of the widest square."""


@dataclass(frozen=True)
class Layout:
    """The tree, sorted by grid, square, patch, and hole positions.

    Stage coordinates: um, x right, y up, origin at the centre of the hole's own grid.
    """

    patch_of_hole: NDArray[np.int32]  # (n,) int32, sorted
    square_of_patch: NDArray[np.int32]  # (P,) int32, sorted
    grid_of_square: NDArray[np.int32]  # (S,) int32, sorted
    x_um: NDArray[np.float64]  # (n,) stage
    y_um: NDArray[np.float64]  # (n,) stage


def lay_out(settings: SimulationSettings, rng: np.random.Generator) -> Layout:
    """Draw the tree and place squares on a grid's mesh, patches inside squares, holes inside patches."""
    patch_of_hole = parents(settings.holes, settings.patches, settings.holes_per_patch_spread, rng)
    square_of_patch = parents(settings.patches, settings.squares, settings.patches_per_square_spread, rng)
    grid_of_square = parents(settings.squares, settings.grids, settings.squares_per_grid_spread, rng)

    hole_um, patch_width_um = _in_rows(patch_of_hole, settings.hole_pitch_um)
    patch_um, square_width_um = _in_rows(square_of_patch, patch_width_um)
    square_um = around_centre(grid_of_square, max(settings.square_pitch_um, square_width_um), rng)
    patch_um += square_um[square_of_patch]
    hole_um += patch_um[patch_of_hole]
    return Layout(patch_of_hole, square_of_patch, grid_of_square, hole_um[:, 0].copy(), hole_um[:, 1].copy())


def rank_in_parent(parent: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) 0, 1, 2, ... within each run of the sorted parent, (n,)."""
    first = np.flatnonzero(np.diff(parent, prepend=-1))
    children = np.diff(first, append=len(parent))
    return np.arange(len(parent)) - np.repeat(first, children)


def parents(children: int, parents: int, spread: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Sorted parent of each child; every parent has at least one, the others follow lognormal weights.

    Shares are rounded along their running sum, so that the total is exact and a spread of 0 is even.
    """
    sigma = np.sqrt(np.log1p(spread**2))
    shares = np.cumsum(rng.lognormal(0.0, sigma, parents))
    edges = np.rint(shares / shares[-1] * (children - parents)).astype(np.int64)
    counts = 1 + np.diff(edges, prepend=0)
    return np.repeat(np.arange(parents, dtype=np.int32), counts)


def _in_rows(parent: NDArray[np.int32], pitch_um: float) -> tuple[NDArray[np.float64], float]:
    """(n, 2) x, y of children, in rows on a lattice centred on their parent; pitch the parents need."""
    counts = np.bincount(parent)
    side = np.ceil(np.sqrt(counts)).astype(np.int64)[parent]
    row, column = np.divmod(rank_in_parent(parent), side)
    middle = (side - 1) / 2
    xy_um = pitch_um * np.column_stack([column - middle, middle - row])
    return xy_um, float(pitch_um * np.ceil(np.sqrt(counts.max())) * _ROOM_BETWEEN)


def around_centre(
    grid_of_square: NDArray[np.int32], pitch_um: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(S, 2) x, y of squares on the mesh, from their grid's centre outwards, about every second one taken."""
    skipped = rng.integers(0, 2, len(grid_of_square))
    skipped_before = np.cumsum(skipped)
    first = np.searchsorted(grid_of_square, grid_of_square)
    place = rank_in_parent(grid_of_square) + skipped_before - skipped_before[first] + skipped[first]
    reach = int(np.ceil(np.sqrt((place.max() + 1) / np.pi))) + 1
    axis = np.arange(-reach, reach + 1)
    cells = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    cells = cells[np.argsort((cells**2).sum(axis=1), kind="stable")]
    xy_um: NDArray[np.float64] = pitch_um * cells[place].astype(np.float64)
    return xy_um
