"""The exact route against all permutations."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest

from cryoscout.core.errors import InputError
from cryoscout.coupling.best_route import best_route


def value_of(route: Any, reward: Any, cost: Any, n_positive: int) -> float:
    collected = sum(reward[state] for state in list(route)[:n_positive])
    return float(collected - sum(cost[here, there] for here, there in pairwise(route)))


@pytest.mark.parametrize("seed", range(12))
def test_no_permutation_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    reward, cost = rng.random(n), rng.random((n, n))
    n_positive = int(rng.integers(1, n + 1))
    start = None if seed % 2 else int(rng.integers(n))
    found = best_route(reward, cost, n_positive, start)
    values = [
        value_of(route, reward, cost, n_positive)
        for route in permutations(range(n))
        if start in (None, route[0])
    ]
    assert found.value == pytest.approx(max(values))
    assert value_of(found.route, reward, cost, n_positive) == pytest.approx(found.value)
    assert start in (None, found.route[0])


def test_without_a_cost_the_likeliest_states_come_first() -> None:
    reward = np.array([0.2, 0.9, 0.4, 0.8])
    assert set(best_route(reward, np.zeros((4, 4)), 2).route[:2].tolist()) == {1, 3}


@pytest.mark.parametrize(
    ("n", "shape", "n_positive", "start"),
    [
        (0, (0, 0), 1, None),
        (17, (17, 17), 1, None),
        (3, (3, 2), 1, None),
        (3, (3, 3), 4, None),
        (3, (3, 3), 1, 3),
    ],
)
def test_wrong_problems_are_refused(n: int, shape: Any, n_positive: int, start: int | None) -> None:
    with pytest.raises(InputError, match="Got"):
        best_route(np.zeros(n), np.zeros(shape), n_positive, start)
