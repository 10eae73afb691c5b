"""The crude rule that looks as it goes: always the best rate of expected good micrographs per minute."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.belief.unseen import PRIOR_CURVE, PRIOR_P_GOOD
from cryoscout.core.hole_tree import NOWHERE
from cryoscout.core.ties import first_of_the_best, sort_together
from cryoscout.routing.places import Look, Step
from cryoscout.routing.policies.adaptive import Adaptive
from cryoscout.routing.policies.base import STOP, Observation
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN

SQUARE_WEIGHT, GRID_WEIGHT, PRIOR_WEIGHT = 1.0, 0.5, 2.0
"""Of the mean p_good of each seen patch in the place's square and in its grid, and of the prior."""


class LookGreedy(Adaptive):
    """The place with the highest rate, entry and looks included: of a seen patch its best k holes, of an unseen one
    the mean curve of sorted p_good of the seen ones, moved towards the mean p_good of the seen patches around it.

    An unseen square counts as one unseen patch behind two looks.
    """

    name: ClassVar[str] = "look-greedy"

    def next_step(self, observation: Observation) -> Step:
        """The best hole of the patch with the best rate, or a look at the place with the best one."""
        problem = self._problem
        if not problem.has_unseen:
            return self.next_hole(observation)
        self.take_in(observation)
        left = problem.budget_min - observation.minutes_used + ROUNDING_MIN
        free = self._allowed & ~observation.visited
        tree, places = problem.tree, problem.places
        assert places is not None  # noqa: S101  # has_unseen
        at, tiers = tree.place_of(observation.where), problem.time_model.tiers_min(problem.shots)
        seen = seen_rates(problem, self._values, free, observation, left)
        patch_mean, curve = self._seen_patches()
        p_square, p_patch = _levels(problem, patch_mean)
        look = _look_rates(curve, p_patch, _look_minutes(problem, at, "patch"), float(tiers[0]), left)
        patch_rate = np.where(places.patch_looked, seen, look)
        entry = (
            _look_minutes(problem, at, "square") + problem.time_model.patch_look_by_tier_min(problem.shots)[1]
        )
        square_rate = _look_rates(curve, p_square, entry, float(tiers[0]), left)
        rates = np.concatenate([patch_rate, np.where(places.square_looked, -np.inf, square_rate)])
        if len(rates) == 0 or not rates.max() > 0.0:
            return STOP
        best = first_of_the_best(rates)
        if best >= tree.n_patches:
            return Look("square", best - tree.n_patches)
        if not places.patch_looked[best]:
            return Look("patch", best)
        return first_of_the_best(np.where(free & (problem.patch_of_hole == best), self._values, -np.inf))

    def _seen_patches(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean p_good of every patch, (P,) NaN unseen, and the mean curve of sorted values, (k,)."""
        problem = self._problem
        patch, n_patches = problem.patch_of_hole, problem.tree.n_patches
        count = np.bincount(patch, minlength=n_patches)
        with np.errstate(invalid="ignore"):
            mean = np.bincount(patch, weights=self._values, minlength=n_patches) / count
        if not count.any():
            return mean, problem.shots * PRIOR_CURVE
        order = np.lexsort((-self._values, patch))
        place = np.arange(len(order)) - (np.cumsum(count) - count)[patch[order]]
        total = np.bincount(place, weights=self._values[order])
        return mean, total / (count > 0).sum()


def _levels(
    problem: RoutingProblem, patch_mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean p_good around every square (S,) and every patch (P,)."""
    tree = problem.tree
    seen = np.flatnonzero(~np.isnan(patch_mean))
    square, grid = tree.square_of_patch[seen], tree.grid_of_patch[seen]
    n = np.bincount(square, minlength=tree.n_squares), np.bincount(grid, minlength=tree.n_grids)
    of_square = np.bincount(square, weights=patch_mean[seen], minlength=tree.n_squares)
    of_grid = np.bincount(grid, weights=patch_mean[seen], minlength=tree.n_grids)
    on = tree.grid_of_square
    weight = SQUARE_WEIGHT * n[0] + GRID_WEIGHT * n[1][on] + PRIOR_WEIGHT
    prior = PRIOR_WEIGHT * problem.shots * PRIOR_P_GOOD
    level = (SQUARE_WEIGHT * of_square + GRID_WEIGHT * of_grid[on] + prior) / weight
    return level, level[tree.square_of_patch]


def _look_minutes(problem: RoutingProblem, at, level: str) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    """Minutes of a look at every patch (P,) or square (S,) from where the stage is."""
    tree, model, shots = problem.tree, problem.time_model, problem.shots
    square = tree.square_of_patch if level == "patch" else np.arange(tree.n_squares)
    by_tier = (
        model.patch_look_by_tier_min(shots) if level == "patch" else model.square_look_by_tier_min(shots)
    )
    tier = np.full(len(square), 3)
    if at.grid != NOWHERE:
        tier[tree.grid_of_square[square] == at.grid] = 2
    if at.square != NOWHERE:
        tier[square == at.square] = 1
    if level == "patch" and at.patch != NOWHERE:
        tier[at.patch] = 0
    return np.asarray(by_tier[tier])


def _look_rates(
    curve: NDArray[np.float64],
    level: NDArray[np.float64],
    entry_min: NDArray[np.float64],
    hole_min: float,
    left_min: float,
) -> NDArray[np.float64]:
    """max over k of the best k of the curve, moved to each level, per minute with the entry; 0 where nothing fits."""
    mean = max(float(curve.mean()), 1e-9)
    k = np.arange(1, len(curve) + 1)
    sums = np.cumsum(np.minimum(level[:, None] * curve[None, :] / mean, 1.0), axis=1)
    minutes = entry_min[:, None] + k[None, :] * hole_min
    rates = np.where(minutes <= left_min, sums / minutes, 0.0)
    return np.asarray(rates.max(axis=1)) if len(curve) else np.zeros(len(level))


def seen_rates(
    problem: RoutingProblem,
    values: NDArray[np.float64],
    free: NDArray[np.bool_],
    observation: Observation,
    left_min: float,
) -> NDArray[np.float64]:
    """(P,) max over k of the best k free holes per minute, entry included, within the minutes left; 0 without any."""
    tree = problem.tree
    at, tiers = tree.place_of(observation.where), problem.time_model.tiers_min(problem.shots)
    entry = np.full(tree.n_patches, tiers[3] - tiers[0])
    if at.grid != NOWHERE:
        entry[tree.grid_of_patch == at.grid] = tiers[2] - tiers[0]
    if at.square != NOWHERE:
        entry[tree.square_of_patch == at.square] = tiers[1] - tiers[0]
    if at.patch != NOWHERE:
        entry[at.patch] = 0.0
    start = np.searchsorted(problem.patch_of_hole, np.arange(tree.n_patches + 1))
    return np.asarray(_seen_rates(values, free, start, entry, float(tiers[0]), left_min))


@njit(cache=True)
def _seen_rates(values, free, start, entry, hole_min, left_min):  # type: ignore[no-untyped-def]
    rates, begin = np.zeros(len(entry)), np.int64(0)
    falling, spare = np.empty(len(values)), np.empty(len(values))
    hole, spare_hole = np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.int64)
    for patch in range(len(entry)):
        n = 0
        for row in range(start[patch], start[patch + 1]):
            if free[row]:
                falling[n] = -values[row]
                n += 1
        sort_together(falling, hole, spare, spare_hole, begin, n)
        total, minutes = 0.0, entry[patch]
        for k in range(n):
            total -= falling[k]
            minutes += hole_min
            if minutes > left_min:
                break
            rate = total / minutes
            if rate <= rates[patch]:
                break
            rates[patch] = rate
    return rates
