"""The tree knapsack: which holes give the most in the minutes that are left, exactly.

A route's minutes depend only on the tree: t0 holes + (t1-t0) patches + (t2-t1) squares + (t3-t2) grids, less the
entries the start already paid. So the best set of holes is a knapsack over the tree, solved by dynamic programming
over minutes; holes of a patch cost the same, so a patch is left with its best k holes for some k.

Of sets that are equally good (core/ties.py) the plan is the one that takes the fewest holes from the last patch, then
from the one before it, and so on. Its first visit made, the rest of it is then the plan of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import StagePlace
from cryoscout.core.ties import ROUNDING, sort_best_first
from cryoscout.routing.places import Places
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN

EXACT_STEP_MIN = 0.1
"""Tiers that share a divisor of at least this are exact in steps of it, as all presets are."""

FINEST_STEP_MIN, COARSEST_STEP_MIN = 0.001, 0.05
"""Other tiers have steps that divide the same-patch tier; the shortest ones, for few holes and for very many."""

_HOLES_PER_STEP_MIN = 120_000
"""In between the shortest step grows with the holes, because a solution takes time in proportion to holes and steps."""

_LONGER, _SHORTER = 2.5, 2.5
"""Steps are offered from so much shorter than the shortest usual one to so much longer."""

_ENTRIES = 40
"""About how many patches a plan enters."""

_VISITS_BY_TIER = np.array([0.0, 1.0, 0.3, 0.03])
"""About how often routes enter a patch, square and grid: what a step rounds there is weighed with it."""

Rounding = Literal["up", "down"]
"""`up` for a plan, which must fit in the budget; `down` for a bound, which no route may exceed."""

_MOST_PLAN_STATES = 500_000_000
"""A plan keeps about five bytes for each (patch, step), twice that with crossing `count`: at most 5 GB."""

_FEW_STATES = 2_000_000
"""Holes times steps up to which a plan is first tried with minutes rounded down, which takes milliseconds more."""

_BETTER = 1.0 + ROUNDING
"""Of two sums of values the larger one is better when it exceeds the other by this factor."""

_BEST_CROSSES, _OPENED, _CROSSES_INSIDE, _NO_COST = np.int64(-1), np.int64(1), np.int64(2), np.int64(0)
"""Decisions of `_add_patch` and `_close`. A number written where it is used would compile a loop of its own."""


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

    def tiers_min(self) -> NDArray[np.float64]:
        """The tiers as rounded, (4,) minutes."""
        return np.array([self.of_tier(tier) * self.step_min for tier in range(4)])

    def of_tier(self, tier: int) -> int:
        """Steps of a visit of that tier, 0..3: its hole and what it enters."""
        return self.hole + sum((self.patch_entry, self.square_entry, self.grid_entry)[:tier])


def steps_of(
    tiers_min: NDArray[np.float64], rounding: Rounding, n_holes: int = 1, looks_min: Sequence[float] = ()
) -> Steps:
    """Tiers, (4,) minutes non-decreasing, as whole steps.

    Exact where the tiers share a divisor of EXACT_STEP_MIN or more. Otherwise the same-patch tier, that of most visits,
    is exact, and the step is the one, of those that divide it, which rounds the other tiers least: by less than a step
    of a few hundredths of a minute a visit, and usually by a fraction of it.
    n_holes : of the problem, so that a solution takes no more time with many
    looks_min : minutes of looks, at a patch and at a square, where they are charged; they share the steps
    """
    minutes = np.concatenate([tiers_min, looks_min])
    hundredths = np.rint(minutes * 100)
    if np.allclose(hundredths, minutes * 100, rtol=0.0, atol=1e-6):
        divisor = int(np.gcd.reduce(hundredths.astype(np.int64)))
        if divisor >= 100 * EXACT_STEP_MIN:
            return _in_steps(tiers_min, divisor / 100, rounding)
    finest_min = min(max(n_holes / _HOLES_PER_STEP_MIN, FINEST_STEP_MIN), COARSEST_STEP_MIN)
    # A same-patch tier of less than a tenth of the shortest step would take ten times the work and is rounded.
    offered_min = np.maximum(
        tiers_min[0] / np.arange(1, max(1.0, _SHORTER * tiers_min[0] / finest_min) + 1e-9), 0.1 * finest_min
    )
    in_steps = _units(minutes, offered_min[:, None], rounding)
    often = np.concatenate([_VISITS_BY_TIER, _VISITS_BY_TIER[1 : 1 + len(looks_min)]])
    rounded_min = np.round(np.abs(in_steps * offered_min[:, None] - minutes), 9) @ often
    # A plan is made anew whenever what rounding kept back makes a step; a bound is solved once.
    solutions = (
        1.0 + _ENTRIES * rounded_min / offered_min if rounding == "up" else 1.0 + rounded_min / finest_min
    )
    cost = np.where(
        offered_min <= max(_LONGER * finest_min, offered_min[-1]), solutions / offered_min, np.inf
    )
    return _in_steps(tiers_min, float(offered_min[cost.argmin()]), rounding)


def _units(
    tiers_min: NDArray[np.float64], step_min: float | NDArray[np.float64], rounding: Rounding
) -> NDArray[np.int64]:
    in_steps: NDArray[np.float64] = tiers_min / step_min
    units = np.ceil(in_steps - 1e-6) if rounding == "up" else np.floor(in_steps + 1e-6)
    return units.astype(np.int64)


def _in_steps(tiers_min: NDArray[np.float64], step_min: float, rounding: Rounding) -> Steps:
    units = _units(tiers_min, step_min, rounding)
    return Steps(
        step_min,
        int(units[0]),
        int(units[1] - units[0]),
        int(units[2] - units[1]),
        int(units[3] - units[2]),
    )


@dataclass(frozen=True)
class TreeRanges:
    """The tree of a problem in the form the programme walks: contiguous ranges."""

    patch_start: NDArray[np.int64]  # (P+1,) first hole of each patch
    square_start: NDArray[np.int64]  # (S+1,) first patch of each square
    grid_start: NDArray[np.int64]  # (G+1,) first square of each grid

    @classmethod
    def of(cls, problem: RoutingProblem) -> TreeRanges:
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
    gains: NDArray[np.float64]  # (m,) sum of the values of these holes
    holes: NDArray[np.int64]  # (counts.sum(),) the chosen holes, patch after patch, each from its best
    within: NDArray[np.float64]  # (b,) most value of holes paid for within 0, 1, ... b - 1 steps; b >= 1


_NOTHING = Plan(
    0.0,
    np.empty(0, dtype=np.int64),
    np.empty(0, dtype=np.int64),
    np.empty(0),
    np.empty(0, dtype=np.int64),
    np.zeros(1),
)


class TreeKnapsack:
    """Solves the knapsack of one problem for changing values, start and budget."""

    def __init__(
        self, problem: RoutingProblem, rounding: Rounding = "up", unseen: Places | None = None
    ) -> None:
        """unseen : places to look at before a visit, whose looks take the place of their entries; None for none."""
        self._problem = problem
        self._tree = TreeRanges.of(problem)
        self._crossing = problem.crossing == "count"
        model, shots = problem.time_model, problem.shots
        self._rounding, self._unseen = rounding, unseen
        self._looks_min: dict[str, float] = {}
        if unseen is not None and model.patch_look_min is not None:
            self._looks_min["patch"] = float(model.patch_look_by_tier_min(shots)[1])
        if unseen is not None and model.square_look_min is not None:
            self._looks_min["square"] = float(model.square_look_by_tier_min(shots)[2])
        looks_min = list(self._looks_min.values())
        self._tiers_min = model.tiers_min(shots)
        self.steps = steps_of(self._tiers_min, rounding, problem.n_holes, looks_min)
        least = steps_of(self._tiers_min, "down", problem.n_holes, looks_min)
        is_rounded_up = rounding == "up" and bool((self.steps.tiers_min() > least.tiers_min()).any())
        self._least = least if is_rounded_up and unseen is None else None

    def _entries(self, steps: Steps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps of entering every patch (P,) and square (S,): the move, or the look where one is needed."""
        patch = np.full(len(self._problem.square_of_patch), steps.patch_entry, dtype=np.int64)
        square = np.full(len(self._problem.grid_of_square), steps.square_entry, dtype=np.int64)
        for level, look_min in self._looks_min.items():
            assert self._unseen is not None  # noqa: S101  # only then there are looks
            in_steps = _units(np.array([look_min]), steps.step_min, self._rounding)[0]
            if level == "patch":
                patch[~self._unseen.patch_looked] = in_steps
            else:
                square[~self._unseen.square_looked] = in_steps
        return patch, square

    def solve(
        self,
        values: NDArray[np.float64],
        free: NDArray[np.bool_],
        here: int | StagePlace,
        minutes_left: float,
        *,
        plan: bool,
    ) -> Plan:
        """The most that can be collected, and with `plan` which patches to open and how far.

        values : (n,) >= 0 per hole     free : (n,) holes that may be visited     here : hole index, NOWHERE or a place
        minutes_left : budget that is left; with crossing `count` one more visit may begin while it is >= 0
        Of few holes, the best set by minutes rounded down is taken where it really fits: none that does is better, and
        by minutes rounded up a set that just fits is none.
        """
        least, n_holes = self._least, self._problem.n_holes
        if plan and least is not None and n_holes * least.in_budget(minutes_left) <= _FEW_STATES:
            best = self._solve_in(least, values, free, here, minutes_left, plan=True)
            if self._minutes_of(best, here) <= minutes_left + ROUNDING_MIN:
                return best
        return self._solve_in(self.steps, values, free, here, minutes_left, plan=plan)

    def _minutes_of(self, plan: Plan, here: int | StagePlace) -> float:
        """Of visiting the holes of a plan that are paid for."""
        problem, opened = self._problem, self._problem.tree.place_of(here)
        squares = np.unique(problem.square_of_patch[plan.patches])
        entered = (plan.patches, squares, np.unique(problem.grid_of_square[squares]))
        entries = [int(np.count_nonzero(at != here_at)) for at, here_at in zip(entered, opened, strict=True)]
        return float(plan.counts.sum() * self._tiers_min[0] + np.diff(self._tiers_min) @ np.array(entries))

    def _solve_in(
        self,
        steps: Steps,
        values: NDArray[np.float64],
        free: NDArray[np.bool_],
        here: int | StagePlace,
        minutes_left: float,
        *,
        plan: bool,
    ) -> Plan:
        """`solve` with minutes in these steps."""
        budget = steps.in_budget(minutes_left)
        if budget < 0:
            return _NOTHING
        tree, problem = self._tree, self._problem
        n_patches = len(problem.square_of_patch)
        patch_entry, square_entry = self._entries(steps)
        # No plan costs more than every hole and every entry, so more states than that are never reached.
        everything = (
            steps.hole * int(free.sum())
            + int(patch_entry.sum())
            + int(square_entry.sum())
            + steps.grid_entry * (len(tree.grid_start) - 1)
        )
        budget = min(budget, everything)
        if plan and (budget + 1) * n_patches > _MOST_PLAN_STATES:
            raise InputError(
                f"The budget must be below {_MOST_PLAN_STATES * steps.step_min / n_patches:.0f} minutes for a plan "
                f"of {n_patches} patches. Got {minutes_left:.0f} instead. Remedy: plan a shorter session."
            )
        in_order, counts = sorted_by_patch(values, free, tree.patch_start)
        best, took, within = _solve(
            values[in_order],
            counts,
            (tree.patch_start, tree.square_start, tree.grid_start),
            (steps.hole, patch_entry, square_entry, steps.grid_entry),
            tuple(problem.tree.place_of(here)),
            budget,
            self._crossing,
            plan,
        )
        patches = np.flatnonzero(took)
        first, taken = tree.patch_start[patches], took[patches]
        holes = [in_order[begin : begin + count] for begin, count in zip(first, taken, strict=True)]
        gains = np.array([values[of_patch].sum() for of_patch in holes], dtype=np.float64)
        return Plan(
            best, patches, taken, gains, np.concatenate([np.empty(0, dtype=np.int64), *holes]), within
        )


@njit(cache=True)
def sorted_by_patch(
    values: NDArray[np.float64], free: NDArray[np.bool_], patch_start: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Free holes of positive value, the best first in each patch's range, and their number per patch, (n,), (P,).

    Equal ones in order of index. What stands behind a patch's number of holes in its range means nothing.
    """
    holes = np.zeros(len(values), dtype=np.int64)
    counts = np.zeros(len(patch_start) - 1, dtype=np.int64)
    for patch in range(len(patch_start) - 1):
        begin = patch_start[patch]
        k = 0
        for hole in range(begin, patch_start[patch + 1]):
            if free[hole] and values[hole] > 0.0:
                holes[begin + k] = hole
                k += 1
        sort_best_first(values, holes[begin : begin + k])
        counts[patch] = k
    return holes, counts


@njit(cache=True)
def _shifted(source, cost):  # type: ignore[no-untyped-def]
    """Open something of that cost: the state at b comes from b - cost; (layers, width)."""
    layers, width = source.shape
    out = np.empty((layers, width))
    for layer in range(layers):  # loops, because array expressions take seconds to compile
        for b in range(width):
            out[layer, b] = source[layer, b - cost] if b >= cost else -np.inf
    return out


@njit(cache=True)
def _offer(state, decision, source, cost, gain, code):  # type: ignore[no-untyped-def]
    """Where the state of b - cost in `source` and the gain together are better, take them, and note the code."""
    if cost >= len(state):
        return
    # Written without branches, which the compiler turns into vector instructions.
    into, noted = state[cost:], decision[cost:]
    for b in range(len(into)):
        offered = source[b] + gain
        better = offered > into[b] * _BETTER
        into[b] = offered if better else into[b]
        noted[b] = code if better else noted[b]


@njit(cache=True)
def _add_patch(state, decision, own, entry_cost, hole_cost):  # type: ignore[no-untyped-def]
    """Take the best k holes of a patch, or none, in every layer; own: its values, the best first.

    decision : (layers, width) 0 nothing, k > 0 the best k holes, and in layer 1 also -(k + 1): the patch's best hole is
    the visit that crosses the budget, and the k next ones are paid for.
    """
    width = state.shape[1]
    most = len(own)
    if hole_cost > 0:
        most = max(min(most, (width - 1 - entry_cost) // hole_cost), 0)
    before = state.copy()
    gain = 0.0
    for k in range(1, most + 1):
        gain += own[k - 1]
        for layer in range(state.shape[0]):
            _offer(state[layer], decision[layer], before[layer], entry_cost + k * hole_cost, gain, k)
    if state.shape[0] == 2:
        gain = own[0]
        for k in range(1, min(most, len(own) - 1) + 1):
            gain += own[k]
            _offer(state[1], decision[1], before[0], entry_cost + k * hole_cost, gain, -(k + 1))
        _offer(state[1], decision[1], before[0], _NO_COST, own[0], _BEST_CROSSES)


@njit(cache=True)
def _close(parent, child, best_inside, entered):  # type: ignore[no-untyped-def]
    """Leave a square or grid: keep the better of having opened it or not, in every layer.

    entered : (layers, width) 0 not opened, 1 opened, and in layer 1 also 2: its best hole is the visit that crosses the
    budget, inside something that was never paid for.
    """
    for layer in range(parent.shape[0] - 1, -1, -1):
        _offer(parent[layer], entered[layer], child[layer], _NO_COST, 0.0, _OPENED)
        if layer == 1:
            _offer(parent[1], entered[1], parent[0], _NO_COST, best_inside, _CROSSES_INSIDE)


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
    decision = np.zeros((rows[0], layers, width), dtype=np.int32)
    entered = (
        np.zeros((rows[1], layers, width), dtype=np.int32),
        np.zeros((rows[2], layers, width), dtype=np.int32),
    )
    top = np.full((layers, width), -np.inf)
    top[0, :] = 0.0
    for grid in range(n_grids):
        in_grid = _shifted(top, 0 if grid == start[2] else costs[3])
        best_of_grid = -np.inf
        for square in range(grid_start[grid], grid_start[grid + 1]):
            in_square = _shifted(in_grid, 0 if square == start[1] else costs[2][square])
            best_of_square = -np.inf
            for patch in range(square_start[square], square_start[square + 1]):
                if counts[patch] == 0:
                    continue
                own = values[patch_start[patch] : patch_start[patch] + counts[patch]]
                best_of_square = max(best_of_square, own[0])
                entry_cost = 0 if patch == start[0] else costs[1][patch]
                _add_patch(in_square, decision[patch if want_plan else 0], own, entry_cost, costs[0])
            if best_of_square == -np.inf:
                continue
            best_of_grid = max(best_of_grid, best_of_square)
            _close(in_grid, in_square, best_of_square, entered[0][square if want_plan else 0])
        if best_of_grid > -np.inf:
            _close(top, in_grid, best_of_grid, entered[1][grid if want_plan else 0])
    layer = 1 if crossing and top[1, budget] > top[0, budget] * _BETTER else 0
    chosen = np.zeros(n_patches, dtype=np.int64)
    if want_plan:
        _walk_back(decision, entered, tree, costs, start, budget, layer, chosen)
    return top[layer, budget], chosen, top[0]


@njit(cache=True)
def _walk_back(decision, entered, tree, costs, start, b, layer, chosen):  # type: ignore[no-untyped-def]
    """Read the decisions from the last state backwards into `chosen`, (P,) paid holes per patch."""
    _, square_start, grid_start = tree
    for grid in range(len(grid_start) - 2, -1, -1):
        if entered[1][grid, layer, b] != 1:
            layer = 0 if entered[1][grid, layer, b] == 2 else layer
            continue
        for square in range(grid_start[grid + 1] - 1, grid_start[grid] - 1, -1):
            if entered[0][square, layer, b] != 1:
                layer = 0 if entered[0][square, layer, b] == 2 else layer
                continue
            for patch in range(square_start[square + 1] - 1, square_start[square] - 1, -1):
                code = decision[patch, layer, b]
                paid = code if code >= 0 else -code - 1
                if code < 0:
                    layer = 0
                if paid > 0:
                    chosen[patch] = paid
                    b -= costs[0] * paid + (0 if patch == start[0] else costs[1][patch])
            b -= 0 if square == start[1] else costs[2][square]
        b -= 0 if grid == start[2] else costs[3]
