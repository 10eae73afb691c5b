"""Equal scores: the lowest index first, whatever rounding makes of them, and a slow loop judges the runs."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.ties import (
    at_least,
    beats,
    first_of_the_best,
    order_best_first,
    order_lowest_first,
    ranks_best_first,
    sort_best_first,
    sort_together,
)
from jitter import jittered

ANYTHING = (-np.inf, np.inf)
FEW = st.lists(st.integers(-3, 3), min_size=1, max_size=30)
"""Few different scores, so that most of them tie."""


def ranks_one_by_one(scores: list[int]) -> list[int]:
    places = sorted(set(scores), reverse=True)
    return [places.index(score) for score in scores]


@given(scores=FEW, seed=st.integers(0, 10_000), dtype=st.sampled_from([np.float32, np.float64]))
def test_jitter_changes_no_place_and_no_order(scores: list[int], seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    # The offset keeps them off zero, where a factor would change nothing.
    noisy = jittered(np.array(scores, dtype=dtype) + dtype(10.0), rng, ANYTHING)
    places = ranks_one_by_one(scores)
    assert ranks_best_first(noisy).tolist() == places
    best_first = sorted(range(len(scores)), key=lambda i: (places[i], i))
    assert order_best_first(noisy).tolist() == best_first
    assert order_lowest_first(-noisy).tolist() == best_first
    assert first_of_the_best(noisy) == best_first[0]
    order = np.arange(len(scores))
    sort_best_first(noisy.astype(np.float64), order)
    if dtype is np.float64:
        assert order.tolist() == best_first


@given(
    n=st.integers(0, 100), begin=st.integers(0, 20), left_out=st.integers(0, 20), seed=st.integers(0, 10_000)
)
def test_a_part_is_sorted_as_it_stands_and_the_rest_is_left(
    n: int, begin: int, left_out: int, seed: int
) -> None:
    key, order = np.random.default_rng(seed).integers(-9, 9, n).astype(np.float64), np.arange(100, 100 + n)
    begin = min(begin, n)
    end = max(begin, n - left_out)
    expected = np.arange(n)
    expected[begin:end] = begin + np.argsort(key[begin:end], kind="stable")
    sorted_key = key.copy()
    sort_together(sorted_key, order, np.empty(n), np.empty(n, dtype=np.int64), begin, end)
    assert (order - 100).tolist() == expected.tolist()
    assert sorted_key.tolist() == key[expected].tolist()


def test_many_near_ties_are_put_in_order_of_index_in_no_time() -> None:
    """Rising by less than rounding: the order by value is the reverse of the order of index."""
    sort_best_first(np.ones(2), np.arange(2))  # compiled
    order = np.arange(150_000)
    began = time.process_time()
    sort_best_first(1.0 + order * 1e-15, order)
    # Generous: one by one, ten thousand million steps take ten seconds.
    assert time.process_time() - began < 3
    assert (np.diff(order) == 1).all()


@given(scores=FEW, seed=st.integers(0, 10_000))
def test_a_loop_that_asks_for_better_ones_ends_at_the_first_of_the_best(scores: list[int], seed: int) -> None:
    noisy = jittered(np.array(scores) + 10.0, np.random.default_rng(seed), ANYTHING)
    best, best_score = -1, -np.inf
    for i, score in enumerate(noisy.tolist()):
        if beats(score, best_score):
            best, best_score = i, score
    assert best == first_of_the_best(noisy)


def test_what_cancels_is_judged_by_the_size_of_the_scores() -> None:
    """Sums that cancel to about zero still carry the rounding of what was summed."""
    assert first_of_the_best(np.array([1e-14, 3e-14, -5.0])) == 0
    assert ranks_best_first(np.array([1e-14, 3e-14, -5.0])).tolist() == [0, 0, 1]


def test_scores_that_are_none_come_last() -> None:
    scores = np.array([np.nan, -np.inf, 2.0, np.nan, 2.0])
    assert first_of_the_best(scores) == 2
    assert order_best_first(scores).tolist() == [2, 4, 0, 1, 3]
    assert first_of_the_best(np.full(3, -np.inf)) == 0
    assert first_of_the_best(np.array([1.0, np.inf, np.inf])) == 1


def test_a_chain_of_neighbours_is_one_run() -> None:
    chain = 1.0 - 0.9e-9 * np.arange(4)
    assert ranks_best_first(chain).tolist() == [0, 0, 0, 0]
    assert ranks_best_first(np.array([1.0, 1.0 - 3e-9])).tolist() == [0, 1]


def test_an_empty_list_has_no_order() -> None:
    assert order_best_first(np.empty(0)).tolist() == []


@pytest.mark.parametrize(("value", "reaches"), [(0.5, True), (0.5 - 1e-12, True), (0.5 - 1e-8, False)])
def test_a_threshold_is_reached_when_rounding_alone_is_missing(value: float, reaches: bool) -> None:
    assert at_least(np.array([value]), 0.5).tolist() == [reaches]


@pytest.mark.parametrize(
    ("score", "best", "better"),
    [
        (0.0, -np.inf, True),
        (-np.inf, -np.inf, False),
        (1.0 + 1e-12, 1.0, False),
        (1.0 + 1e-8, 1.0, True),
        (1e-300, 0.0, True),
    ],
)
def test_better_is_more_than_rounding(score: float, best: float, better: bool) -> None:
    assert bool(beats(score, best)) == better
