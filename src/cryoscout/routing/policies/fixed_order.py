"""The base of the planners that decide their whole route at the start, and what the baselines share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.ties import at_least
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation, PolicyKind
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN

PREDICTED_GOOD = 0.5
"""A hole with p_good at or above this is predicted good (the hard labels of the papers)."""


def predicted_good(problem: RoutingProblem) -> NDArray[np.bool_]:
    """Hard labels, (n,) bool."""
    return at_least(problem.prior_p_good, PREDICTED_GOOD)


def free_holes(problem: RoutingProblem, start_hole: int) -> NDArray[np.bool_]:
    """Holes a route from `start_hole` (index or NOWHERE) may visit, (n,) bool: the start itself is imaged."""
    free = problem.available()
    if start_hole != NOWHERE:
        free[start_hole] = False
    return free


def good_to_visit(problem: RoutingProblem, start_hole: int) -> NDArray[np.bool_]:
    """Predicted-good holes that a route from `start_hole` may visit, (n,) bool."""
    return free_holes(problem, start_hole) & predicted_good(problem)


def count_by_patch(problem: RoutingProblem, holes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many of the holes, (n,) bool, each patch has: (P,) int64."""
    return np.bincount(problem.patch_of_hole[holes], minlength=len(problem.square_of_patch))


def best_patches_of_best_grids(problem: RoutingProblem, count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Grids by their count, then patches by theirs within the grid, ties by id: (P,) patches, best first.

    count : (P,) predicted-good holes of each patch
    """
    grid = problem.grid_of_patch
    count_of_grid = np.bincount(grid, weights=count)[grid]
    return np.lexsort((np.arange(len(count)), -count, grid, -count_of_grid))


def holes_patch_by_patch(
    holes: NDArray[np.bool_], problem: RoutingProblem, patches: NDArray[np.int64]
) -> list[int]:
    """The holes, (n,) bool, of the listed patches: patch after patch, each scanned in order."""
    place = np.full(len(problem.square_of_patch), -1)
    place[patches] = np.arange(len(patches))
    listed = np.flatnonzero(holes & (place[problem.patch_of_hole] >= 0))
    order = np.argsort(place[problem.patch_of_hole[listed]], kind="stable")
    return [int(hole) for hole in listed[order]]


class FixedOrder(AskedHoleByHole, ABC):
    """A planner that writes down its route in `reset` and follows it.

    A hole that was imaged meanwhile is passed over; the route ends where the next visit would cross the
    budget and a crossing visit does not count.
    It does not restart: what came out meanwhile changes nothing while it runs, but a new start plans anew from there,
    with the holes, the minutes and the results as they are then.
    """

    name: ClassVar[str]
    kind: ClassVar[PolicyKind] = "baseline"
    default_prediction: ClassVar[str] = "res50"
    drops_crossing: ClassVar[bool]

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Plan the whole route. start_hole : index, already imaged, or NOWHERE."""
        self._problem = problem
        self._tiers_min = problem.time_model.tiers_min(problem.shots)
        self._drops = self.drops_crossing or problem.crossing == "drop"
        self._route = self.whole_route(problem, start_hole, rng)
        self._at = 0

    @abstractmethod
    def whole_route(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> list[int]:
        """The holes to visit, in order; allowed ones, none twice, the start hole not among them."""

    def next_hole(self, observation: Observation) -> int:
        """The next hole of the route, or STOP where it ends or does not fit any more."""
        while self._at < len(self._route) and observation.visited[self._route[self._at]]:
            self._at += 1
        if self._at == len(self._route):
            return STOP
        hole = self._route[self._at]
        ends_min = observation.minutes_used + float(
            self._tiers_min[self._problem.tier_between(observation.here, hole)]
        )
        if self._drops and ends_min > self._problem.budget_min + ROUNDING_MIN:
            return STOP
        return hole
