"""The best route for SSL2-RL's objective (3), exactly, over a handful of states: what a perfect agent would do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.ties import first_of_the_best

MOST_STATES = 16


@dataclass(frozen=True)
class BestRoute:
    """A route over all states, and its value."""

    route: NDArray[np.int64]
    """(n,) states in the order of their visits"""
    value: float


def best_route(
    reward: NDArray[np.float64], cost: NDArray[np.float64], n_positive: int, start: int | None = None
) -> BestRoute:
    """The route with the largest sum_t reward(S_t) [t <= N_C] - c(S_t, S_{t+1}), over all n! of them.

    reward : (n,) pseudo-reward of each state     cost : (n, n) of moving from row to column
    n_positive : N_C, 1 to n     start : the first state; None: whichever is best
    Method: dynamic programming over sets of visited states (Held and Karp), 2^n n^2 steps; of equal routes the one that
    ends in the lowest state. Checked against all permutations in tests/coupling/test_best_route.py.
    Raises InputError for more than MOST_STATES states, arrays that do not fit, another N_C or start.
    """
    n = len(reward)
    if not 1 <= n <= MOST_STATES or np.shape(cost) != (n, n):
        raise InputError(
            f"An exact route must have 1 to {MOST_STATES} states and a cost for each pair. Got {n} and costs of shape "
            f"{np.shape(cost)} instead."
        )
    if not 1 <= n_positive <= n or (start is not None and not 0 <= start < n):
        raise InputError(
            f"N_C must be 1 to {n} and the start a state. Got {n_positive} and {start} instead."
        )  # fmt: skip
    value = np.full((2**n, n), -np.inf)
    before = np.full((2**n, n), -1, dtype=np.int64)
    for first in range(n) if start is None else (start,):
        value[1 << first, first] = reward[first]
    for visited in range(1, 2**n):
        known = np.isfinite(value[visited])
        if not known.any():
            continue
        # (n from, n to)
        reached = np.where(known[:, None], value[visited][:, None] - cost, -np.inf)
        counts = visited.bit_count() < n_positive
        for state in range(n):
            if visited >> state & 1:
                continue
            origin = first_of_the_best(reached[:, state])
            after = visited | 1 << state
            value[after, state] = reached[origin, state] + (reward[state] if counts else 0.0)
            before[after, state] = origin
    return _traced(value, before)


def _traced(value: NDArray[np.float64], before: NDArray[np.int64]) -> BestRoute:
    visited = len(value) - 1
    state = first_of_the_best(value[visited])
    best, route = float(value[visited, state]), [state]
    while before[visited, state] >= 0:
        origin = int(before[visited, state])
        visited ^= 1 << state
        state = origin
        route.append(state)
    return BestRoute(np.array(route[::-1], dtype=np.int64), best)
