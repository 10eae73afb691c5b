"""What operators said, as a planner sees it: which holes are out, which come first, and which must be in the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.session.overrides import Overrides


@dataclass(frozen=True)
class Obeyed:
    """Overrides as indices of holes and squares."""

    out: NDArray[np.bool_]  # (n,) banned or skipped: in no plan
    squares_out: NDArray[np.bool_]  # (S,) banned or skipped: not looked into either
    first: tuple[int, ...] = ()  # holes to image before all others, in this order
    pinned: tuple[int, ...] = ()  # holes that are in every plan
    pinned_squares: tuple[int, ...] = ()  # squares of which the best hole is in every plan
    square_order: tuple[int, ...] = ()  # squares to come to in this order, before the others

    @property
    def changes_routes(self) -> bool:
        """Whether a route must be arranged after it was planned."""
        return bool(self.first or self.pinned or self.pinned_squares or self.square_order)


@dataclass(frozen=True)
class PlaceIndex:
    """Vendor's ids -> indices of the problem."""

    holes: Mapping[str, int]
    squares: Mapping[str, int]


def obeyed(overrides: Overrides, index: PlaceIndex, square_of_hole: NDArray[np.int32]) -> Obeyed:
    """The overrides that hold now.     square_of_hole : (n,)

    What is said of a hole goes before what is said of its square. A place that the session no longer has is passed
    over.
    """
    said_of_square = {
        index.squares[name]: said for name, said in overrides.squares.items() if name in index.squares
    }
    said_of_hole = {index.holes[name]: said for name, said in overrides.holes.items() if name in index.holes}
    squares_out = np.zeros(len(index.squares), dtype=bool)
    squares_out[[square for square, said in said_of_square.items() if said in ("ban", "skip")]] = True
    out = squares_out[square_of_hole]
    for hole, said in said_of_hole.items():
        out[hole] = said in ("ban", "skip")
    first = tuple(index.holes[name] for name in overrides.hole_order if name in index.holes)
    # An order that was given after a ban is meant: a hole of it that is banned itself stays out.
    first = tuple(hole for hole in first if not out[hole])
    return Obeyed(
        out,
        squares_out,
        first,
        tuple(hole for hole, said in said_of_hole.items() if said == "pin"),
        tuple(square for square, said in said_of_square.items() if said == "pin"),
        tuple(index.squares[name] for name in overrides.square_order if name in index.squares),
    )
