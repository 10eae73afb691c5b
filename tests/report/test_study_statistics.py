"""Intervals and courses agree with slow, obvious computations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.report.statistics import Interval, mean_and_std, paired_difference
from cryoscout.routing.replay import value_at_minutes


def test_a_constant_difference_has_an_interval_of_no_width():
    first = np.array([5.0, 9.0, 2.0])
    interval = paired_difference(first + 3.0, first, seed=0)
    assert (interval.mean, interval.low, interval.high) == (3.0, 3.0, 3.0)


def test_the_interval_is_close_to_the_normal_one_for_many_pairs():
    rng = np.random.default_rng(1)
    first, second = rng.normal(2.0, 3.0, 400), rng.normal(0.0, 3.0, 400)
    interval = paired_difference(first, second, seed=0)
    half = 1.96 * np.std(first - second) / np.sqrt(400)
    assert interval.low == pytest.approx(interval.mean - half, abs=0.05)
    assert interval.high == pytest.approx(interval.mean + half, abs=0.05)


def test_pairing_removes_what_the_start_explains():
    rng = np.random.default_rng(2)
    start = rng.normal(0.0, 50.0, 60)
    paired = paired_difference(start + rng.normal(1.0, 0.1, 60), start, seed=0)
    assert paired.high - paired.low < 0.2


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=30), rng.normal(size=30)
    assert paired_difference(first, second, seed=4) == paired_difference(first, second, seed=4)
    assert paired_difference(first, second, seed=4) != paired_difference(first, second, seed=5)


def test_unpaired_or_empty_results_are_refused():
    with pytest.raises(InputError, match="Got 2 and 3 instead"):
        paired_difference(np.zeros(2), np.zeros(3), seed=0)
    with pytest.raises(InputError, match="at least one"):
        paired_difference(np.zeros(0), np.zeros(0), seed=0)
    with pytest.raises(InputError, match="at least one value"):
        mean_and_std(np.zeros(0))


def test_an_interval_reads_with_its_signs():
    assert str(Interval(4.06, -0.5, 9.0)) == "+4.1 [-0.5, +9.0]"


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), max_size=30),
    st.lists(st.integers(0, 60), min_size=1),
)
def test_the_course_counts_every_visit_that_has_ended(visits, moments):
    visits = sorted(visits)
    minutes = np.array([minute for minute, _ in visits], dtype=float)
    good = np.array([count for _, count in visits], dtype=float)
    found = value_at_minutes(minutes, good, np.array(moments, dtype=float))
    assert found.tolist() == [
        sum(count for minute, count in visits if minute <= moment) for moment in moments
    ]
