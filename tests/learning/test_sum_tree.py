"""The sum tree against an array and its cumulative sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.learning.sum_tree import SumTree

PRIORITY = st.floats(1e-6, 1e6) | st.just(0.0)


@settings(max_examples=60)
@given(
    capacity=st.integers(1, 40),
    changes=st.lists(st.lists(st.tuples(st.integers(0, 39), PRIORITY), min_size=1, max_size=12), max_size=12),
    draws=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=20),
)
def test_it_holds_and_draws_what_an_array_does(
    capacity: int, changes: list[list[tuple[int, float]]], draws: list[float]
) -> None:
    tree, slow = SumTree(capacity), np.zeros(capacity)
    for change in changes:
        for place, priority in change:
            slow[place % capacity] = priority
        tree.set(
            np.array([place % capacity for place, _ in change]),
            np.array([priority for _, priority in change]),
        )
    np.testing.assert_array_equal(tree.leaves(), slow)
    np.testing.assert_array_equal(tree.values(np.arange(capacity)), slow)
    assert tree.total == pytest.approx(slow.sum(), rel=1e-12, abs=0.0)
    if slow.sum() == 0:
        return
    upper = np.cumsum(slow)
    for draw, place in zip(draws, tree.sample(np.array(draws)), strict=True):
        slack = 1e-9 * upper[-1]
        assert slow[place] > 0
        assert upper[place] - slow[place] - slack <= draw * upper[-1] <= upper[place] + slack


def test_its_sums_do_not_depend_on_the_order_of_changes() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(100) ** 8
    at_once, one_by_one = SumTree(100), SumTree(100)
    at_once.set(np.arange(100), values)
    for place in rng.permutation(100):
        one_by_one.set(np.array([place]), np.array([rng.random()]))
        one_by_one.set(np.array([place]), values[[place]])
    assert at_once.total == one_by_one.total
    draws = rng.random(1000)
    np.testing.assert_array_equal(at_once.sample(draws), one_by_one.sample(draws))


def test_rounding_never_draws_a_place_without_priority() -> None:
    """The smallest float times a number just below 1 is itself: not below the sum of the left half."""
    tree = SumTree(3)
    tree.set(np.arange(3), np.array([0.0, 5e-324, 0.0]))
    assert tree.sample(np.array([0.0, 0.5, np.nextafter(1.0, 0.0)])).tolist() == [1, 1, 1]
