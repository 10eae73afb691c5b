"""The holes of a session as leaves, blocks and grids: pieces small enough that a smooth field is constant on a leaf.

A leaf is a patch, a block a square. Where the tables have none of the usual size (a whole square as one patch, a whole
grid as one square), the piece is cut along a lattice on the stage, so that results at one edge say nothing of the
other only because of a table's words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.hole_tree import HoleTree

WIDEST_PATCH_UM = 30.0
"""Extent along x or y; image shift reaches some 15 um around its centre. Wider patches are cut."""
LEAF_UM = 10.0
"""Side of the pieces of a wide patch."""

WIDEST_SQUARE_UM = 160.0
"""Extent along x or y; squares of common meshes are 40 to 130 um wide. Wider ones are cut."""
BLOCK_UM = 80.0
"""Side of the pieces of a wide square."""

_NO_PLACE = np.iinfo(np.int64).min
"""Lattice coordinate of a hole without a position in a piece that is cut."""

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class StagePieces:
    """Leaves sorted by grid and block."""

    leaf_of_hole: Indices  # (n,)
    block_of_leaf: Indices  # (L,) sorted
    grid_of_leaf: Indices  # (L,) sorted
    leaf_um: Numbers  # (L, 2) mean stage position of its holes, NaN where none is known

    @classmethod
    def of(cls, patch_of_hole: NDArray[np.int32], tree: HoleTree, stage_um: Numbers) -> StagePieces:
        """patch_of_hole : (n,) sorted     stage_um : (n, 2) positions within the grid, NaN where unknown."""
        square_of_hole = tree.square_of_patch[patch_of_hole]
        tile = _lattice(square_of_hole, stage_um, WIDEST_SQUARE_UM, BLOCK_UM)
        piece = _lattice(patch_of_hole, stage_um, WIDEST_PATCH_UM, LEAF_UM)
        keys: list[NDArray[np.integer[Any]]] = [
            square_of_hole,
            tile[:, 0],
            tile[:, 1],
            patch_of_hole,
            piece[:, 0],
            piece[:, 1],
        ]
        order = np.lexsort(keys[::-1])
        is_new = [np.concatenate([[False], np.diff(key[order]) != 0]) for key in keys]
        starts_leaf, starts_block = np.any(is_new, axis=0), np.any(is_new[:3], axis=0)
        leaf_of_hole = np.empty(len(order), dtype=np.int64)
        leaf_of_hole[order] = np.cumsum(starts_leaf)
        first = np.flatnonzero(np.concatenate([[True], starts_leaf[1:]])) if len(order) else order
        known = ~np.isnan(stage_um).any(axis=1)
        count = np.bincount(leaf_of_hole[known], minlength=len(first))
        sums = [np.bincount(leaf_of_hole[known], stage_um[known, axis], len(first)) for axis in (0, 1)]
        leaf_um = np.stack(sums, axis=1) / np.where(count > 0, count, np.nan)[:, None]
        return cls(
            leaf_of_hole=leaf_of_hole,
            block_of_leaf=np.cumsum(starts_block)[first],
            grid_of_leaf=tree.grid_of_square[square_of_hole[order[first]]].astype(np.int64),
            leaf_um=leaf_um,
        )


def _lattice(parent: NDArray[np.int32], stage_um: Numbers, widest_um: float, side_um: float) -> Indices:
    """(n, 2) lattice cell of each hole where its parent is wider than allowed; 0 elsewhere. parent : (n,) sorted."""
    cells = np.zeros(stage_um.shape, dtype=np.int64)
    if len(parent) == 0:
        return cells
    first = np.flatnonzero(np.concatenate([[True], np.diff(parent) != 0]))
    extent = np.fmax.reduceat(stage_um, first) - np.fmin.reduceat(stage_um, first)
    holes_of_parent = np.diff(np.append(first, len(parent)))
    is_wide = np.repeat((extent > widest_um).any(axis=1), holes_of_parent)
    known = ~np.isnan(stage_um).any(axis=1)
    cut = is_wide & known
    cells[cut] = np.floor(stage_um[cut] / side_um).astype(np.int64)
    cells[is_wide & ~known] = _NO_PLACE
    return cells
