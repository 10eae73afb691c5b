"""A list of holes walked in order: what each step costs, how much of it fits, and how a list is arranged by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.obeyed import Obeyed
from cryoscout.core.hole_tree import StagePlace
from cryoscout.core.ties import first_of_the_best
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN


@dataclass(frozen=True)
class Walk:
    """Holes in order of visit, from where the microscope stands, as far as the minutes reach."""

    holes: NDArray[np.int64]  # (m,)
    tiers: NDArray[np.int64]  # (m,) 0 same patch, 1 new patch, 2 new square, 3 new grid
    minutes: NDArray[np.float64]  # (m,) from now to the end of each visit

    def __len__(self) -> int:
        """Visits."""
        return len(self.holes)


def walked(
    problem: RoutingProblem,
    here: int,
    holes: Iterable[int],
    minutes_left: float,
    at: StagePlace | None = None,
) -> Walk:
    """The longest beginning of the list that ends within the minutes left.

    here : hole index or NOWHERE     at : where the stage stands, if not at `here`: a look has moved it
    """
    tree = problem.tree
    tiers_min = problem.time_model.tiers_min(problem.shots).tolist()
    taken, tiers, minutes = [], [], []
    used_min = 0.0
    for hole in holes:
        tier = tree.tier_between(here, hole) if at is None else tree.tier_from(at, tree.place_of(hole))
        used_min += tiers_min[tier]
        if used_min > minutes_left + ROUNDING_MIN:
            break
        at = None
        taken.append(hole)
        tiers.append(tier)
        minutes.append(used_min)
        here = hole
    return Walk(
        np.array(taken, dtype=np.int64), np.array(tiers, dtype=np.int64), np.array(minutes, dtype=np.float64)
    )


def stays(problem: RoutingProblem, holes: Sequence[int]) -> list[list[int]]:
    """The holes grouped by patch, in order; a patch that is entered again makes two stays."""
    patch = problem.patch_of_hole
    return [list(group) for _, group in groupby(holes, key=lambda hole: int(patch[hole]))]


def arranged(
    problem: RoutingProblem,
    here: int,
    planned: Sequence[int],
    said: Obeyed,
    free: NDArray[np.bool_],
    p_good: NDArray[np.float64],
    minutes_left: float,
    at: StagePlace | None = None,
) -> list[int]:
    """The planned holes as the operator wants them: ordered holes first, squares in their order, pinned ones in it.

    free : (n,) holes that may be visited     p_good : (n,) as believed now     at : as of `walked`
    Pinned holes that are not planned come to their patch, square or grid as the list has it, else to its end; where
    the minutes do not hold them all, the least probable of the others give way.
    """
    square_of = problem.square_of_hole
    first = [hole for hole in said.first if free[hole]]
    rest = [hole for hole in planned if hole not in set(first)]
    must = [hole for hole in said.pinned if free[hole] and hole not in first]
    for square in said.pinned_squares:
        inside = free & (square_of == square)
        if inside.any() and not any(square_of[hole] == square for hole in (*first, *rest, *must)):
            must.append(first_of_the_best(np.where(inside, p_good, -np.inf)))
    for hole in must:
        if hole not in rest:
            rest.insert(_place_for(problem, hole, rest), hole)
    if said.square_order:
        place = {square: number for number, square in enumerate(said.square_order)}
        rest.sort(key=lambda hole: place.get(int(square_of[hole]), len(place)))
    wanted = [*first, *rest]
    kept = {*first, *must}
    while len(walked(problem, here, wanted, minutes_left, at)) < len(wanted):
        others = [hole for hole in wanted if hole not in kept]
        if not others or not kept:
            break
        wanted.remove(min(others, key=lambda hole: (p_good[hole], hole)))
    return wanted


def _place_for(problem: RoutingProblem, hole: int, route: Sequence[int]) -> int:
    """Behind the last hole of the same patch, else of the same square, else of the same grid, else at the end."""
    for level in (problem.patch_of_hole, problem.square_of_hole, problem.grid_of_hole):
        same = [number for number, each in enumerate(route) if level[each] == level[hole]]
        if same:
            return same[-1] + 1
    return len(route)
