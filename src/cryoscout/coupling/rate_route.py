"""A planner for any problem of parts with movement costs: always the part with the best reward per cost of a visit.

It needs no training, so that a loop on a new problem can be tried in a second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.ties import first_of_the_best, order_best_first


def rate_route(
    reward: NDArray[np.float64],
    part_of_state: NDArray[np.int64],
    cost_from: Callable[[int], NDArray[np.float64]],
    start: int,
) -> NDArray[np.int64]:
    """(n,) every state once, from the start on: again and again the visit with the best reward per cost.

    A visit is a part and how many of its unvisited states, those with the most reward first; of equal rates the part
    with the lowest number and the shortest visit.

    reward : (n,) 0 or more     part_of_state : (n,) 0..B-1
    cost_from : state -> (n,) cost above 0 of the move to each, the same for all states of another part
    Raises InputError for rewards below 0, costs that are not above 0, a start that is no state.
    """
    n = len(reward)
    if not 0 <= start < n or not (np.asarray(reward) >= 0.0).all():
        raise InputError(
            f"A route must have rewards of 0 or more and start at one of {n} states. Got start {start} and a least "
            f"reward of {np.min(reward, initial=np.inf)} instead."
        )
    left = [
        order_best_first(np.where(part_of_state == part, reward, -np.inf))[
            : int((part_of_state == part).sum())
        ]
        for part in range(int(part_of_state.max()) + 1)
    ]
    left = [states[states != start] for states in left]
    route = [start]
    while len(route) < n:
        here = route[-1]
        cost = cost_from(here)
        if not (cost[np.concatenate(left)] > 0.0).all():
            raise InputError("Every move must cost more than 0. Got a move that costs nothing instead.")
        rates, counts = np.full(len(left), -np.inf), np.zeros(len(left), dtype=np.int64)
        for part, states in enumerate(left):
            if len(states):
                inside = cost_from(int(states[0]))[states[-1]] if len(states) > 1 else 0.0
                spent = cost[states[0]] + inside * np.arange(len(states))
                gained = np.cumsum(reward[states]) / spent
                counts[part] = first_of_the_best(gained) + 1
                rates[part] = gained[counts[part] - 1]
        part = first_of_the_best(rates)
        route += left[part][: counts[part]].tolist()
        left[part] = left[part][counts[part] :]
    return np.array(route, dtype=np.int64)
