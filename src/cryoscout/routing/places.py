"""What is known of squares and patches before their image is looked at, and the steps of a route that looks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree


@dataclass(frozen=True)
class Look:
    """A step that images nothing: the image of a square, which shows its patches, or of a patch, which shows holes."""

    level: Literal["square", "patch"]
    index: int  # of the problem's squares or patches


Step = int | Look
"""What a policy wants next: a hole's index, STOP, or a look."""


@dataclass(frozen=True)
class Places:
    """Which squares and patches of a problem were looked at, and what the image above shows of the others.

    A square that was not looked at has no patches in the problem, a patch that was not no holes: they are not known.
    Raises InputError where the features are not one row for each square.
    """

    square_looked: NDArray[np.bool_]  # (S,)
    patch_looked: NDArray[np.bool_]  # (P,)
    square_features: NDArray[np.float64]  # (S, f) of the atlas, standardised within the session; NaN unknown
    square_xy_um: NDArray[np.float64] | None = None  # (S, 2) stage frame; NaN unknown
    square_out: NDArray[np.bool_] | None = None  # (S,) squares that nobody is to look into; None: none
    square_room: NDArray[np.float64] | None = None
    """(S,) room for patches, 1 is usual; NaN unknown, None: of all."""

    def __post_init__(self) -> None:
        of_square = self.square_features
        if of_square.ndim != 2 or len(of_square) != len(self.square_looked):
            raise InputError(
                f"Features of squares must be one row for each of {len(self.square_looked)}. Got {of_square.shape} "
                "instead."
            )

    @classmethod
    def all_seen(cls, tree: HoleTree) -> Places:
        """Everything was looked at, and no image above says anything."""
        return cls.looked_at(np.ones(tree.n_squares, dtype=bool), np.ones(tree.n_patches, dtype=bool))

    @classmethod
    def looked_at(cls, squares: NDArray[np.bool_], patches: NDArray[np.bool_]) -> Places:
        """With no features. squares : (S,)     patches : (P,)"""
        return cls(squares, patches, np.empty((len(squares), 0)))

    @property
    def any_unseen(self) -> bool:
        """Whether a square or patch was not looked at yet."""
        return not (self.square_looked.all() and self.patch_looked.all())

    def unseen_squares(self, tree: HoleTree) -> NDArray[np.bool_]:
        """(S,) squares that may be looked into: not looked at yet, or with such a patch, and not left out."""
        unseen = ~self.square_looked
        unseen[tree.square_of_patch[~self.patch_looked]] = True
        return unseen if self.square_out is None else unseen & ~self.square_out

    def check(self, tree: HoleTree) -> None:
        """Raise InputError where these are not the places of the tree, or something unseen holds something known."""
        if len(self.square_looked) != tree.n_squares or len(self.patch_looked) != tree.n_patches:
            raise InputError(
                f"States of places must be of {tree.n_squares} squares and {tree.n_patches} patches. Got "
                f"{len(self.square_looked)} and {len(self.patch_looked)} instead."
            )
        of_squares = {"Squares that are left out": self.square_out, "Rooms": self.square_room}
        for what, values in of_squares.items():
            if values is not None and len(values) != tree.n_squares:
                raise InputError(f"{what} must be of {tree.n_squares} squares. Got {len(values)} instead.")
        early = np.flatnonzero(~self.patch_looked[tree.patch_of_hole])
        if len(early):
            raise InputError(
                f"A hole must lie in a patch that was looked at. Got hole {early[0]} of patch "
                f"{tree.patch_of_hole[early[0]]}, which was not, instead ({len(early)} such holes)."
            )
        early = np.flatnonzero(~self.square_looked[tree.square_of_patch])
        if len(early):
            raise InputError(
                f"A patch must lie in a square that was looked at. Got patch {early[0]} of square "
                f"{tree.square_of_patch[early[0]]}, which was not, instead ({len(early)} such patches)."
            )

    def read_only(self) -> Places:
        """A copy none of whose arrays can be written by accident."""
        copies = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None:
                value = value.copy()
                value.flags.writeable = False
            copies[item.name] = value
        return Places(**copies)
