"""What `explore` values places by: the price of a minute at which its plan fills the time, and all places at it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
"""Of a standard normal term: what the predictions of a square share, and what those of a patch have of their own."""

_BISECTIONS = 24


@njit(cache=True)
def _unseen_at(table, price, t0, most, gain, minutes, by_shared):  # type: ignore[no-untyped-def]
    """Of one unseen patch of every square at a price: expected gain and minutes of its holes, and by what is shared.

    most : (S,) minutes that are left for them     by_shared : (S, 5, 3) gain, minutes and variance of the minutes
    """
    for square in range(table.shape[0]):
        gain[square], minutes[square] = 0.0, 0.0
        fit = min(max(most[square], 0.0) / t0 + 1e-9, float(table.shape[3]))
        for i in range(table.shape[1]):
            total, holes, squared = 0.0, 0.0, 0.0
            for j in range(table.shape[2]):
                taken = 0.0
                for k in range(int(fit)):
                    p = table[square, i, j, k]
                    if p <= price * t0:
                        break
                    total += _WEIGHTS[j] * p
                    taken += 1.0
                holes += _WEIGHTS[j] * taken
                squared += _WEIGHTS[j] * taken * taken
            by_shared[square, i, 0], by_shared[square, i, 1] = total, holes * t0
            by_shared[square, i, 2] = max(squared - holes * holes, 0.0) * t0 * t0
            gain[square] += _WEIGHTS[i] * total
            minutes[square] += _WEIGHTS[i] * holes * t0


@njit(cache=True)
def _seen_at(values, free, start, price, t0, most, gain, minutes):  # type: ignore[no-untyped-def]
    """Of every seen patch at a price: gain and minutes of its holes. most : (P,) minutes for them"""
    for patch in range(len(start) - 1):
        total, holes = 0.0, 0
        for row in range(start[patch], start[patch + 1]):
            if not free[row]:
                continue
            if values[row] <= price * t0 or (holes + 1) * t0 > most[patch]:
                break
            total += values[row]
            holes += 1
        gain[patch] = total
        minutes[patch] = holes * t0


@njit(cache=True)
def _groups_at(table, expected, closed, price, t0, look_min, most, work):  # type: ignore[no-untyped-def]
    """Of all unseen patches of every square at a price, their looks included, and no more than fits.

    The first is looked at on what is known now, the others once that has shown what their predictions share.
    most : (S,) minutes that are left for the holes of the first     work : see `_Work`, written
    """
    by_shared, group_gain, group_min, group_var = (
        work.by_shared,
        work.group_gain,
        work.group_min,
        work.group_var,
    )
    _unseen_at(table, price, t0, most, work.gain, work.minutes, by_shared)
    for square in range(len(expected)):
        n = expected[square]
        first, others = min(n, 1.0), max(n - 1.0, 0.0)
        gain, minutes = first * work.gain[square], first * (work.minutes[square] + look_min)
        more_gain, more_min, squared, within = 0.0, 0.0, 0.0, 0.0
        work.goes_on[square] = 0.0
        for i in range(by_shared.shape[1]):
            one = by_shared[square, i, 1] + look_min
            net = by_shared[square, i, 0] - price * one
            rest = others if net > 0.0 else 0.0
            work.goes_on[square] += _WEIGHTS[i] if net > 0.0 else 0.0
            more_gain += rest * _WEIGHTS[i] * by_shared[square, i, 0]
            more_min += rest * _WEIGHTS[i] * one
            squared += _WEIGHTS[i] * ((first + rest) * one) ** 2
            within += _WEIGHTS[i] * (first + rest) * by_shared[square, i, 2]
            if closed[square]:  # the number of patches is not known either
                within += _WEIGHTS[i] * (first + rest) * one * one
        whole = minutes + more_min
        left = max(most[square] - work.minutes[square], 0.0)
        part = 1.0 if more_min <= left else left / more_min
        group_gain[square] = gain + part * more_gain
        group_min[square] = minutes + part * more_min
        shrunk = group_min[square] / whole if whole > 0.0 else 0.0
        group_var[square] = max(squared - whole * whole + within, 0.0) * shrunk * shrunk


class _Work(NamedTuple):
    """What a price makes of every place; (S,) but where it says otherwise."""

    gain: NDArray[np.float64]  # of one unseen patch
    minutes: NDArray[np.float64]
    by_shared: NDArray[np.float64]  # (S, 5, 3)
    group_gain: NDArray[np.float64]  # of all unseen patches, with their looks
    group_min: NDArray[np.float64]
    group_var: NDArray[np.float64]  # of the minutes
    goes_on: NDArray[np.float64]  # probability that the first patch shows the others to be worth their looks
    patch_gain: NDArray[np.float64]  # (P,) of the seen ones
    patch_min: NDArray[np.float64]  # (P,)


@njit(cache=True)
def _new_work(n_squares, n_patches, nodes):  # type: ignore[no-untyped-def]
    return _Work(
        np.zeros(n_squares), np.zeros(n_squares), np.zeros((n_squares, nodes, 3)),
        np.zeros(n_squares), np.zeros(n_squares), np.zeros(n_squares), np.zeros(n_squares),
        np.zeros(n_patches), np.zeros(n_patches),
    )  # fmt: skip


@njit(cache=True)
def _plan_at(  # type: ignore[no-untyped-def]
    seen, table, expected, closed, tree, place, tiers, look_min, square_entry, most, endless, price, work
):
    """Minutes that the plan at a price is expected to take, and their variance; `work` is written."""
    values, free, start = seen
    square_of_patch, grid_of_square = tree
    here_patch, _, here_grid = place
    n_squares = len(grid_of_square)
    n_grids = grid_of_square[-1] + 1 if n_squares else 0
    t0 = tiers[0]
    _seen_at(values, free, start, price, t0, endless, work.patch_gain, work.patch_min)
    _groups_at(table, expected, closed, price, t0, look_min, most, work)
    net_square, min_square, var_square = np.zeros(n_squares), np.zeros(n_squares), np.zeros(n_squares)
    for patch in range(len(square_of_patch)):
        entry = 0.0 if patch == here_patch else tiers[1] - t0
        net = work.patch_gain[patch] - price * (work.patch_min[patch] + entry)
        if net > 0.0:
            net_square[square_of_patch[patch]] += net
            min_square[square_of_patch[patch]] += work.patch_min[patch] + entry
    net_grid, min_grid, var_grid = np.zeros(n_grids), np.zeros(n_grids), np.zeros(n_grids)
    for square in range(n_squares):
        net = work.group_gain[square] - price * work.group_min[square]
        if net > 0.0:
            net_square[square] += net
            min_square[square] += work.group_min[square]
            var_square[square] = work.group_var[square]
        net = net_square[square] - price * square_entry[square]
        if net > 0.0:
            net_grid[grid_of_square[square]] += net
            min_grid[grid_of_square[square]] += min_square[square] + square_entry[square]
            var_grid[grid_of_square[square]] += var_square[square]
    total, variance = 0.0, 0.0
    for grid in range(n_grids):
        entry = 0.0 if grid == here_grid else tiers[3] - tiers[2]
        if net_grid[grid] - price * entry > 0.0:
            total += min_grid[grid] + entry
            variance += var_grid[grid]
    return total, variance


class Prices(NamedTuple):
    """The price, and everything valued at it; see `_Valued` for what is (S,) and (P,)."""

    price: float
    group_gain: NDArray[np.float64]
    group_min: NDArray[np.float64]
    whole_min: NDArray[np.float64]
    goes_on: NDArray[np.float64]
    any_gain: NDArray[np.float64]
    any_min: NDArray[np.float64]
    group_rate: NDArray[np.float64]
    patch_rate: NDArray[np.float64]
    patch_any: NDArray[np.float64]
    in_plan: NDArray[np.bool_]


@njit(cache=True)
def _highest(values, table, expected):  # type: ignore[no-untyped-def]
    """The highest value of a hole, seen or expected; in loops, because numpy's own maxima take seconds to compile."""
    highest = 0.0
    for hole in range(len(values)):
        highest = max(highest, values[hole])
    for square in range(len(expected)):
        for i in range(table.shape[1] if expected[square] > 0.0 else 0):
            for j in range(table.shape[2]):
                for k in range(table.shape[3]):
                    highest = max(highest, table[square, i, j, k])
    return highest


@njit(cache=True)
def find_price(  # type: ignore[no-untyped-def]
    values,
    free,
    start,
    table,
    expected,
    closed,
    square_of_patch,
    grid_of_square,
    place,
    tiers,
    patch_look,
    square_look,
    left_min,
    spread,
):
    """The price whose plan fills the minutes left, and everything valued at it: `Prices`.

    spread : of the minutes that the plan will really take, in standard deviations: the price is the mean of that of a
        plan which takes so much more than expected and of one which takes so much less
    """
    n_patches, n_squares = len(start) - 1, len(grid_of_square)
    t0 = tiers[0]
    work = _new_work(n_squares, n_patches, table.shape[1])
    endless = np.full(n_patches, np.inf)
    here_patch, here_square, here_grid = place
    # What a square costs beside its patches, and a grid beside its squares, when it is entered from elsewhere.
    square_entry = np.zeros(n_squares)
    # What is left for the holes of an unseen patch once it was reached and looked at.
    entry_of_square, most_unseen = np.zeros(n_squares), np.zeros(n_squares)
    for square in range(n_squares):
        if closed[square]:
            square_entry[square] = square_look[1] if square == here_square else square_look[2]
        elif square != here_square:
            square_entry[square] = tiers[2] - tiers[1]
        tier = 3
        if square == here_square:
            tier = 1
        elif grid_of_square[square] == here_grid:
            tier = 2
        entry_of_square[square] = square_look[tier] if closed[square] else patch_look[tier] - patch_look[1]
        most_unseen[square] = left_min - entry_of_square[square] - patch_look[1]
    highest = _highest(values, table, expected) / t0
    seen, tree = (values, free, start), (square_of_patch, grid_of_square)
    price = 0.0
    for sign in (-1.0, 1.0):
        low, high = 0.0, highest
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            total, variance = _plan_at(
                seen, table, expected, closed, tree, place, tiers, patch_look[1], square_entry, most_unseen,
                endless, middle, work,
            )  # fmt: skip
            if total + sign * spread * np.sqrt(variance) > left_min:
                low = middle
            else:
                high = middle
        price += 0.5 * low
    _plan_at(
        seen, table, expected, closed, tree, place, tiers, patch_look[1], square_entry, most_unseen, endless,
        price, work,
    )  # fmt: skip
    # Rates from here.
    most, entry_of_patch = np.zeros(n_patches), np.zeros(n_patches)
    for patch in range(n_patches):
        square = square_of_patch[patch]
        tier = 3
        if patch == here_patch:
            tier = 0
        elif square == here_square:
            tier = 1
        elif grid_of_square[square] == here_grid:
            tier = 2
        entry_of_patch[patch] = tiers[tier] - t0
        most[patch] = left_min - entry_of_patch[patch]
    fit_gain, fit_min = np.zeros(n_patches), np.zeros(n_patches)
    _seen_at(values, free, start, price, t0, most, fit_gain, fit_min)
    patch_rate, patch_any = np.full(n_patches, -np.inf), np.full(n_patches, -np.inf)
    for patch in range(n_patches):
        if (
            fit_gain[patch]
            - price * (fit_min[patch] + tiers[1] - t0 if patch != here_patch else fit_min[patch])
            > 0.0
        ):
            patch_rate[patch] = fit_gain[patch] / (fit_min[patch] + entry_of_patch[patch])
    _seen_at(values, free, start, 0.0, t0, most, fit_gain, fit_min)
    for patch in range(n_patches):
        if fit_min[patch] > 0.0:
            patch_any[patch] = fit_gain[patch] / (fit_min[patch] + entry_of_patch[patch])
    group_rate, in_plan = np.full(n_squares, -np.inf), np.zeros(n_squares, dtype=np.bool_)
    whole_min = work.group_min + entry_of_square
    for square in range(n_squares):
        if expected[square] <= 0.0 or entry_of_square[square] + patch_look[1] + t0 > left_min:
            continue
        # Never less than the rate of the first patch alone: the others are looked at only where they give more.
        group_rate[square] = work.group_gain[square] / whole_min[square] if whole_min[square] > 0.0 else 0.0
        in_plan[square] = (
            work.group_gain[square] - price * (work.group_min[square] + square_entry[square]) > 0.0
        )
    whatever = _new_work(n_squares, n_patches, table.shape[1])
    _groups_at(table, expected, closed, 0.0, t0, patch_look[1], most_unseen, whatever)
    return Prices(
        price, work.group_gain, work.group_min, whole_min, work.goes_on, whatever.group_gain,
        whatever.group_min + entry_of_square, group_rate, patch_rate, patch_any, in_plan,
    )  # fmt: skip
