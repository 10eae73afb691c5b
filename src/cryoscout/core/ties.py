"""Which scores count as equal, and which of equal ones goes first, so that no decision hangs on the last bits of a sum.

The last bits of a sum, a matrix product or an exponential differ between processors and libraries. Scores that are
nearer to each other than a tolerance well above such rounding count as equal; of equal ones the lowest index goes
first. "Nearer" is not transitive, so an order is made of runs: sorted scores whose neighbours are equal are one run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

ROUNDING = 1e-9
"""Relative difference below which float64 scores are equal: a sum of a million terms rounds by less."""

ROUNDING_FLOAT32 = 1e-5
"""The same of float32 scores, such as the outputs of a network."""


def relative_tolerance(scores: NDArray[Any]) -> float:
    """Relative difference below which scores of this precision are equal."""
    return ROUNDING_FLOAT32 if scores.dtype == np.float32 else ROUNDING


def _tolerance(scores: NDArray[Any], relative: float | None) -> float:
    """Absolute tolerance for the scores that are numbers: relative to the largest, which the rounding goes with."""
    if relative is None:
        relative = relative_tolerance(scores)
    finite = np.abs(scores[np.isfinite(scores)])
    return relative * float(finite.max(initial=0.0))


def first_of_the_best(scores: NDArray[Any], relative: float | None = None) -> int:
    """The lowest index whose score equals the highest; of no score at all (NaN, -inf) it is 0.

    scores : (n,) n >= 1, more is better; NaN counts as -inf
    relative : tolerance as a share of the largest absolute score; None takes that of the scores' precision
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    return int(np.argmax(known >= known.max() - _tolerance(known, relative)))


def ranks_best_first(scores: NDArray[Any], relative: float | None = None) -> NDArray[np.int64]:
    """The place of each score, (n,): 0 for the highest; equal scores share a place.

    scores, relative : as in `first_of_the_best`
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-known, kind="stable")
    ranks = np.zeros(len(known), dtype=np.int64)
    if len(known) > 1:
        falling = known[order]
        with np.errstate(invalid="ignore"):  # -inf beside -inf is equal
            worse = falling[:-1] - falling[1:] > _tolerance(known, relative)
        ranks[order[1:]] = np.cumsum(worse)
    return ranks


def order_best_first(scores: NDArray[Any], relative: float | None = None) -> NDArray[np.int64]:
    """Indices from the highest score to the lowest, (n,), equal ones in order of index."""
    return np.argsort(ranks_best_first(scores, relative), kind="stable")


def order_lowest_first(values: NDArray[Any], relative: float | None = None) -> NDArray[np.int64]:
    """Indices from the lowest value to the highest, (n,), equal ones in order of index."""
    return order_best_first(-values, relative)


def at_least(values: NDArray[Any], threshold: float, relative: float = ROUNDING) -> NDArray[np.bool_]:
    """Whether values reach a threshold, or miss it by rounding alone, (n,) bool."""
    return np.asarray(values >= threshold - relative * abs(threshold))


@njit(cache=True)
def beats(score, best):  # type: ignore[no-untyped-def]
    """Whether a score is better than the best so far by more than rounding, for loops from the lowest index up."""
    if best == -np.inf:
        return score > best
    return score > best + ROUNDING * max(abs(score), abs(best))


@njit(cache=True)
def sort_together(key, order, spare_key, spare_order, begin, end):  # type: ignore[no-untyped-def]
    """Sort key[begin:end], and `order` with it, from the lowest key up, equal ones as they stand, in place.

    spare_key, spare_order : as long, overwritten. A stable argsort of numba's own compiles for seconds.
    """
    width = 8  # by insertion, and merged from there
    for first in range(begin, end, width):
        for k in range(first + 1, min(first + width, end)):
            own, item, place = key[k], order[k], k
            while place > first and key[place - 1] > own:
                key[place], order[place] = key[place - 1], order[place - 1]
                place -= 1
            key[place], order[place] = own, item
    while width < end - begin:
        for first in range(begin, end, 2 * width):
            middle, last = min(first + width, end), min(first + 2 * width, end)
            left, right = first, middle
            for k in range(first, last):
                if left < middle and (right == last or key[left] <= key[right]):
                    spare_key[k], spare_order[k] = key[left], order[left]
                    left += 1
                else:
                    spare_key[k], spare_order[k] = key[right], order[right]
                    right += 1
        for k in range(begin, end):
            key[k], order[k] = spare_key[k], spare_order[k]
        width *= 2


@njit(cache=True)
def sort_best_first(values, order):  # type: ignore[no-untyped-def]
    """Sort `order`, ascending indices into `values`, from the highest value to the lowest, in place.

    As `order_best_first`; relative to the highest of these values, which must be >= 0.
    """
    n = len(order)
    if n < 2:
        return
    falling, spare, spare_order = np.empty(n), np.empty(n), np.empty(n, dtype=order.dtype)
    for i in range(n):
        falling[i] = -values[order[i]]
    begin = 0
    sort_together(falling, order, spare, spare_order, begin, n)
    tolerance = ROUNDING * abs(values[order[0]])
    for i in range(1, n + 1):
        if i == n or values[order[i - 1]] - values[order[i]] > tolerance:
            if i - begin > 1:
                for k in range(begin, i):
                    falling[k] = order[k]
                sort_together(falling, order, spare, spare_order, begin, i)
            begin = i
