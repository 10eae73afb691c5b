"""The tree knapsack: which holes give the most in the minutes that are left, exactly.

A route's minutes depend only on the tree: t0 holes + (t1-t0) patches + (t2-t1) squares + (t3-t2) grids, less the
entries the start already paid. So the best set of holes is a knapsack over the tree, solved by dynamic programming
over minutes; holes of a patch cost the same, so a patch is left with its best k holes for some k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN

FITTED_STEP_MIN = 0.1
"""Fitted tiers are rounded to this step; presets are exact in steps of their common divisor."""

Rounding = Literal["up", "down"]
"""`up` for a plan, which must fit in the budget; `down` for a bound, which no route may exceed."""

_MOST_PLAN_STATES = 500_000_000
"""A plan keeps about eleven bytes for each (patch, step): at most 5.5 GB."""


@dataclass(frozen=True)
class Steps:
    """Costs in whole steps of time."""

    step_min: float
    hole: int
    patch_entry: int
    square_entry: int
    grid_entry: int

    def in_budget(self, budget_min: float) -> int:
        """Whole steps that fit in the budget (-1 when it is negative)."""
        return math.floor((budget_min + ROUNDING_MIN) / self.step_min + 1e-9)


def steps_of(tiers_min: NDArray[np.float64], rounding: Rounding) -> Steps:
    """Tiers, (4,) minutes non-decreasing, as whole steps; exact where they share a divisor of 0.1 min or more."""
    hundredths = np.rint(tiers_min * 100)
    if np.allclose(hundredths, tiers_min * 100, rtol=0.0, atol=1e-6):
        divisor = int(np.gcd.reduce(hundredths.astype(np.int64)))
        step_min = divisor / 100 if divisor >= 100 * FITTED_STEP_MIN else FITTED_STEP_MIN
    else:
        step_min = FITTED_STEP_MIN
    in_steps = tiers_min / step_min
    units = (np.ceil(in_steps - 1e-6) if rounding == "up" else np.floor(in_steps + 1e-6)).astype(np.int64)
    return Steps(
        step_min,
        int(units[0]),
        int(units[1] - units[0]),
        int(units[2] - units[1]),
        int(units[3] - units[2]),
    )


@dataclass(frozen=True)
class HoleTree:
    """The tree of a problem in the form the programme walks: contiguous ranges."""

    patch_start: NDArray[np.int64]  # (P+1,) first hole of each patch
    square_start: NDArray[np.int64]  # (S+1,) first patch of each square
    grid_start: NDArray[np.int64]  # (G+1,) first square of each grid

    @classmethod
    def of(cls, problem: RoutingProblem) -> HoleTree:
        """The tree of a problem."""
        return cls(
            _ranges(problem.patch_of_hole, len(problem.square_of_patch)),
            _ranges(problem.square_of_patch, len(problem.grid_of_square)),
            _ranges(problem.grid_of_square, int(problem.grid_of_square[-1]) + 1),
        )


def _ranges(parent: NDArray[np.int32], n_parents: int) -> NDArray[np.int64]:
    return np.searchsorted(parent, np.arange(n_parents + 1)).astype(np.int64)


@dataclass(frozen=True)
class Plan:
    """The best set of holes."""

    value: float  # sum of the chosen holes' values, the crossing hole included
    patches: NDArray[np.int64]  # (m,) chosen patches, ascending
    counts: NDArray[np.int64]  # (m,) how many of the patch's best holes, the crossing hole not among them
    within: NDArray[np.float64]  # (b,) most value of holes paid for within 0, 1, ... b - 1 steps; b >= 1


class TreeKnapsack:
    """Solves the knapsack of one problem for changing values, start and budget."""

    def __init__(self, problem: RoutingProblem, rounding: Rounding = "up") -> None:
        self._problem = problem
        self._tree = HoleTree.of(problem)
        self._steps = steps_of(problem.time_model.tiers_min(problem.shots), rounding)
        self._crossing = problem.crossing == "count"

    def solve(
        self,
        values: NDArray[np.float64],
        free: NDArray[np.bool_],
        here: int,
        minutes_left: float,
        *,
        plan: bool,
    ) -> Plan:
        """The most that can be collected, and with `plan` which patches to open and how far.

        values : (n,) >= 0 per hole     free : (n,) holes that may be visited     here : hole index or NOWHERE
        minutes_left : budget that is left; with crossing `count` one more visit may begin while it is >= 0
        """
        budget = self._steps.in_budget(minutes_left)
        nothing = np.empty(0, dtype=np.int64)
        if budget < 0:
            return Plan(0.0, nothing, nothing, np.zeros(1))
        tree, steps, problem = self._tree, self._steps, self._problem
        n_patches = len(problem.square_of_patch)
        # No plan costs more than every hole and every entry, so more states than that are never reached.
        everything = (
            steps.hole * int(free.sum())
            + steps.patch_entry * n_patches
            + steps.square_entry * len(problem.grid_of_square)
            + steps.grid_entry * (len(tree.grid_start) - 1)
        )
        budget = min(budget, everything)
        if plan and (budget + 1) * n_patches > _MOST_PLAN_STATES:
            raise InputError(
                f"The budget must be below {_MOST_PLAN_STATES * steps.step_min / n_patches:.0f} minutes for a plan "
                f"of {n_patches} patches. Got {minutes_left:.0f} instead. Remedy: plan a shorter session."
            )
        sorted_values, counts = sorted_by_patch(values, free, tree.patch_start)
        patch = NOWHERE if here == NOWHERE else int(problem.patch_of_hole[here])
        square = NOWHERE if patch == NOWHERE else int(problem.square_of_patch[patch])
        grid = NOWHERE if square == NOWHERE else int(problem.grid_of_square[square])
        best, took, within = _solve(
            sorted_values,
            counts,
            (tree.patch_start, tree.square_start, tree.grid_start),
            (steps.hole, steps.patch_entry, steps.square_entry, steps.grid_entry),
            (patch, square, grid),
            budget,
            self._crossing,
            plan,
        )
        chosen = np.flatnonzero(took)
        return Plan(best, chosen, took[chosen], within)


@njit(cache=True)
def sorted_by_patch(
    values: NDArray[np.float64], free: NDArray[np.bool_], patch_start: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Free holes' positive values, highest first in each patch's range, and their number per patch, (n,), (P,)."""
    out = np.zeros(len(values))
    counts = np.zeros(len(patch_start) - 1, dtype=np.int64)
    for patch in range(len(patch_start) - 1):
        begin = patch_start[patch]
        k = 0
        for hole in range(begin, patch_start[patch + 1]):
            if free[hole] and values[hole] > 0.0:
                out[begin + k] = -values[hole]
                k += 1
        out[begin : begin + k] = -np.sort(out[begin : begin + k])
        counts[patch] = k
    return out, counts


@njit(cache=True)
def _shifted(source, cost):  # type: ignore[no-untyped-def]
    """Open something of that cost: the state at b comes from b - cost; (layers, width)."""
    out = np.full(source.shape, -np.inf)
    if cost < source.shape[1]:
        out[:, cost:] = source[:, : source.shape[1] - cost]
    return out


@njit(cache=True)
def _add_holes(state, took, values, hole_cost):  # type: ignore[no-untyped-def]
    """0/1 knapsack of equal costs, best first; `took` counts the holes behind each state."""
    for value in values:
        for b in range(len(state) - 1, hole_cost - 1, -1):
            better = state[b - hole_cost] + value
            if better > state[b]:
                state[b] = better
                took[b] = took[b - hole_cost] + 1


@njit(cache=True)
def _fill_patch(state, took, crossed, values, hole_cost):  # type: ignore[no-untyped-def]
    """Take holes of one opened patch in every layer; `crossed` marks where its best hole crosses the budget."""
    if state.shape[0] == 2:
        crossing = state[0] + values[0]
        crossing_took = np.zeros(state.shape[1], dtype=np.int32)
        _add_holes(crossing, crossing_took, values[1:], hole_cost)
        _add_holes(state[1], took[1], values, hole_cost)
        for b in range(state.shape[1]):
            if crossing[b] > state[1, b]:
                state[1, b] = crossing[b]
                took[1, b] = crossing_took[b]
                crossed[b] = True
    _add_holes(state[0], took[0], values, hole_cost)


@njit(cache=True)
def _close(parent, child, best_inside, entered, crossed):  # type: ignore[no-untyped-def]
    """Leave a patch, square or grid: keep the better of having opened it or not, in every layer.

    The hole that crosses the budget may also be the best one inside something that was never paid for: `crossed`.
    """
    for layer in range(parent.shape[0] - 1, -1, -1):
        for b in range(parent.shape[1]):
            if child[layer, b] > parent[layer, b]:
                parent[layer, b] = child[layer, b]
                entered[layer, b] = True
            if layer == 1 and parent[0, b] + best_inside > parent[1, b]:
                parent[1, b] = parent[0, b] + best_inside
                entered[1, b] = False
                crossed[b] = True


@njit(cache=True)
def _solve(values, counts, tree, costs, start, budget, crossing, want_plan):  # type: ignore[no-untyped-def]
    """Best value, with `want_plan` the holes taken per patch, (P,) (zeros without), and `Plan.within`.

    Layer 0 holds plans of cost <= b. Layer 1, only with crossing, holds plans of cost <= b plus the one visit that
    crosses the budget, which costs nothing and may stand anywhere.
    """
    patch_start, square_start, grid_start = tree
    n_patches, n_squares, n_grids = len(patch_start) - 1, len(square_start) - 1, len(grid_start) - 1
    layers, width = (2 if crossing else 1), budget + 1
    # One row per node when the plan is wanted, else one row that every node overwrites.
    rows = (n_patches, n_squares, n_grids) if want_plan else (1, 1, 1)
    took = np.zeros((rows[0], layers, width), dtype=np.int32)
    best_crosses = np.zeros((rows[0], width), dtype=np.bool_)
    entered = (
        np.zeros((rows[0], layers, width), dtype=np.bool_),
        np.zeros((rows[1], layers, width), dtype=np.bool_),
        np.zeros((rows[2], layers, width), dtype=np.bool_),
    )
    crossed = (
        np.zeros((rows[0], width), dtype=np.bool_),
        np.zeros((rows[1], width), dtype=np.bool_),
        np.zeros((rows[2], width), dtype=np.bool_),
    )
    top = np.full((layers, width), -np.inf)
    top[0, :] = 0.0
    for grid in range(n_grids):
        in_grid = _shifted(top, 0 if grid == start[2] else costs[3])
        best_of_grid = -np.inf
        for square in range(grid_start[grid], grid_start[grid + 1]):
            in_square = _shifted(in_grid, 0 if square == start[1] else costs[2])
            best_of_square = -np.inf
            for patch in range(square_start[square], square_start[square + 1]):
                if counts[patch] == 0:
                    continue
                own = values[patch_start[patch] : patch_start[patch] + counts[patch]]
                best_of_square = max(best_of_square, own[0])
                in_patch = _shifted(in_square, 0 if patch == start[0] else costs[1])
                row = patch if want_plan else 0
                _fill_patch(in_patch, took[row], best_crosses[row], own, costs[0])
                _close(in_square, in_patch, own[0], entered[0][row], crossed[0][row])
            best_of_grid = max(best_of_grid, best_of_square)
            row = square if want_plan else 0
            _close(in_grid, in_square, best_of_square, entered[1][row], crossed[1][row])
        row = grid if want_plan else 0
        _close(top, in_grid, best_of_grid, entered[2][row], crossed[2][row])
    layer = 1 if crossing and top[1, budget] > top[0, budget] else 0
    chosen = np.zeros(n_patches, dtype=np.int64)
    if want_plan:
        _walk_back(took, best_crosses, entered, crossed, tree, costs, start, budget, layer, chosen)
    return top[layer, budget], chosen, top[0]


@njit(cache=True)
def _walk_back(took, best_crosses, entered, crossed, tree, costs, start, b, layer, chosen):  # type: ignore[no-untyped-def]
    """Read the decisions from the last state backwards into `chosen`, (P,) paid holes per patch."""
    _, square_start, grid_start = tree
    for grid in range(len(grid_start) - 2, -1, -1):
        if layer == 1 and crossed[2][grid, b]:
            layer = 0
            continue
        if not entered[2][grid, layer, b]:
            continue
        for square in range(grid_start[grid + 1] - 1, grid_start[grid] - 1, -1):
            if layer == 1 and crossed[1][square, b]:
                layer = 0
                continue
            if not entered[1][square, layer, b]:
                continue
            for patch in range(square_start[square + 1] - 1, square_start[square] - 1, -1):
                if layer == 1 and crossed[0][patch, b]:
                    layer = 0
                    continue
                if not entered[0][patch, layer, b]:
                    continue
                chosen[patch] = took[patch, layer, b]
                if layer == 1 and best_crosses[patch, b]:
                    layer = 0
                b -= costs[0] * chosen[patch] + (0 if patch == start[0] else costs[1])
            b -= 0 if square == start[1] else costs[2]
        b -= 0 if grid == start[2] else costs[3]
