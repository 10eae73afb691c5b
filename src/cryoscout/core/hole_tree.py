"""The tree of holes: which patch a hole is in, which square a patch, which grid a square. The one type of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError

NOWHERE = -1
"""In place of a hole: outside every grid, where a route may start."""


class StagePlace(NamedTuple):
    """Where the stage stands: at a patch, over a square without a patch (after a look at it), or nowhere."""

    patch: int = NOWHERE
    square: int = NOWHERE
    grid: int = NOWHERE


@dataclass(frozen=True)
class HoleTree:
    """Holes sorted by grid, square, patch; a patch, square or grid without a hole is allowed.

    Raises InputError when an index is not sorted or names a parent that is not there, or for a grid that is not there.
    """

    patch_of_hole: NDArray[np.int32]  # (n,) int32, sorted
    square_of_patch: NDArray[np.int32]  # (P,) int32, sorted
    grid_of_square: NDArray[np.int32]  # (S,) int32, sorted
    loaded_grid: int = NOWHERE  # grid in the microscope when a route starts NOWHERE: it costs no grid switch

    def __post_init__(self) -> None:
        for name, index, upper in (
            ("patch_of_hole", self.patch_of_hole, len(self.square_of_patch)),
            ("square_of_patch", self.square_of_patch, len(self.grid_of_square)),
        ):
            if len(index) and (np.any(np.diff(index) < 0) or index[0] < 0 or index[-1] >= upper):
                raise InputError(f"{name} must be sorted indices below {upper}. Got {index} instead.")
        if len(self.grid_of_square) and (
            np.any(np.diff(self.grid_of_square) < 0) or self.grid_of_square[0] < 0
        ):
            raise InputError(f"grid_of_square must be sorted indices. Got {self.grid_of_square} instead.")
        if not NOWHERE <= self.loaded_grid < max(self.n_grids, 1):
            raise InputError(
                f"loaded_grid must be a grid index below {self.n_grids} or NOWHERE ({NOWHERE}). "
                f"Got {self.loaded_grid} instead."
            )

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return len(self.patch_of_hole)

    @property
    def n_patches(self) -> int:
        """Number of patches P."""
        return len(self.square_of_patch)

    @property
    def n_squares(self) -> int:
        """Number of squares S."""
        return len(self.grid_of_square)

    @property
    def n_grids(self) -> int:
        """Number of grids."""
        return int(self.grid_of_square[-1]) + 1 if len(self.grid_of_square) else 0

    @property
    def square_of_hole(self) -> NDArray[np.int32]:
        """(n,) int32."""
        return self.square_of_patch[self.patch_of_hole]

    @property
    def grid_of_hole(self) -> NDArray[np.int32]:
        """(n,) int32."""
        return self.grid_of_square[self.square_of_hole]

    @property
    def grid_of_patch(self) -> NDArray[np.int32]:
        """(P,) int32."""
        return self.grid_of_square[self.square_of_patch]

    def place_of(self, here: int | StagePlace) -> StagePlace:
        """Patch, square and grid that are open at `here` (hole, NOWHERE or a place); NOWHERE where none is."""
        if isinstance(here, StagePlace):
            return here
        if here == NOWHERE:
            return StagePlace(grid=self.loaded_grid)
        return self.place_of_patch(int(self.patch_of_hole[here]))

    def tier_between(self, here: int, there: int) -> int:
        """0 same patch, 1 same square, 2 same grid, 3 other grid; from NOWHERE 2 in the loaded grid, else 3."""
        if here == NOWHERE:
            return 2 if self.place_of(there)[2] == self.loaded_grid else 3
        a, b = int(self.patch_of_hole[here]), int(self.patch_of_hole[there])
        if a == b:
            return 0
        a, b = int(self.square_of_patch[a]), int(self.square_of_patch[b])
        if a == b:
            return 1
        return 2 if self.grid_of_square[a] == self.grid_of_square[b] else 3

    def tiers_from(self, here: int | StagePlace) -> NDArray[np.int64]:
        """Tier of a visit of every hole from `here` (hole, NOWHERE or a place): (n,) int64, as `tier_between`."""
        patch, square, grid = self.place_of(here)
        same_patch, same_square = self.patch_of_hole == patch, self.square_of_hole == square
        return np.where(
            same_patch, 0, np.where(same_square, 1, np.where(self.grid_of_hole == grid, 2, 3))
        ).astype(np.int64)

    def place_of_patch(self, patch: int) -> StagePlace:
        """Where the stage stands at a patch."""
        square = int(self.square_of_patch[patch])
        return StagePlace(patch, square, int(self.grid_of_square[square]))

    def place_of_square(self, square: int) -> StagePlace:
        """Where the stage stands over a square, at none of its patches."""
        return StagePlace(NOWHERE, square, int(self.grid_of_square[square]))

    def tier_from(self, here: StagePlace, there: StagePlace) -> int:
        """As `tier_between`, of places. `there` has a patch, or is a square: then 1 means that the stage is over it."""
        if there.patch != NOWHERE and here.patch == there.patch:
            return 0
        if here.square != NOWHERE and here.square == there.square:
            return 1
        return 2 if here.grid != NOWHERE and here.grid == there.grid else 3
