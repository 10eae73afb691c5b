"""Looks with names: what a policy would look at next, in the vendor's ids and at its place on the stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.work_list import PlaceNames, PlannedLook
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.places import Look

if TYPE_CHECKING:
    from cryoscout.routing.policies.explore import PlaceValue


def planned_looks(
    values: Sequence[PlaceValue], names: PlaceNames, tree: HoleTree, left_min: float
) -> tuple[PlannedLook, ...]:
    """The looks in their order.

    tree : of the problem that was valued     left_min : minutes that are left for them
    """
    looks = []
    begins_min = 0.0
    for order, value in enumerate(values, start=1):
        # The price holds for any number of equal squares; the minutes for so many of them alone.
        in_plan = value.in_plan and begins_min < left_min
        begins_min += value.minutes if in_plan else 0.0
        is_patch = value.look.level == "patch"
        square = square_of_look(value.look, tree)
        looks.append(
            PlannedLook(
                order=order,
                square=names.squares[square],
                grid=names.grids[int(tree.grid_of_square[square])],
                patch=names.patches[value.look.index] if is_patch else None,
                x_um=_known(names.square_x_um, square),
                y_um=_known(names.square_y_um, square),
                expected_good=value.good,
                good_80=value.good_80,
                minutes=value.minutes,
                rate=value.rate,
                rate_80=value.rate_80,
                in_plan=in_plan,
            )
        )
    return tuple(looks)


def square_of_look(look: Look, tree: HoleTree) -> int:
    """Index of the square that a look is in, or of."""
    return int(tree.square_of_patch[look.index]) if look.level == "patch" else look.index


def _known(position_um: NDArray[np.float64] | None, square: int) -> float | None:
    if position_um is None or not np.isfinite(position_um[square]):
        return None
    return float(position_um[square])
