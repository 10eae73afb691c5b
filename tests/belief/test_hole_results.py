"""The integral of one hole's results against a sum over very many points, wherever the likelihood lies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_expit

from cryoscout.belief.hole_results import site_of, tilted
from examples import share


def by_many_points(mean, variance, location, good, bad):
    """Log mass and three moments of the tilted Gaussian by a sum over 400,001 points that reach far enough."""
    reach = 12.0 * np.sqrt(variance)
    # The results move the highest point by no more than `variance` per shot, and never past where they are explained.
    explained = np.clip(-location, mean - variance * bad.sum(), mean + variance * good.sum())
    low, high = min(mean, *explained), max(mean, *explained)
    effect, step = np.linspace(low - reach, high + reach, 400_001, retstep=True)
    height = -0.5 * (effect - mean) ** 2 / variance
    for m, n_good, n_bad in zip(location, good, bad, strict=True):
        height += n_good * log_expit(m + effect) + n_bad * log_expit(-m - effect)
    weight = np.exp(height - height.max())
    mass = np.log(weight.sum() * step) + height.max() - 0.5 * np.log(2.0 * np.pi * variance)
    weight /= weight.sum()
    first = weight @ effect
    return mass, first, weight @ (effect - first) ** 2, weight @ (effect - first) ** 3


def one_hole(mean, variance, location, good, bad):
    return mean, variance, np.array([location]), np.array([good]), np.array([bad])


@settings(max_examples=share(60))
@given(
    mean=st.floats(-4.0, 4.0),
    variance=st.floats(0.01, 20.0),
    locations=st.lists(st.floats(-12.0, 12.0), min_size=1, max_size=4),
    shots=st.sampled_from([1, 2, 3, 5, 10, 30, 100]),
    share=st.floats(0.0, 1.0),
)
def test_the_tilted_gaussian_is_that_of_a_sum_over_many_points(mean, variance, locations, shots, share):
    good = np.full(len(locations), float(round(share * shots)))
    case = (mean, variance, np.array(locations), good, shots - good)
    log_mass, first, second, third = tilted(*case)
    expected = by_many_points(*case)
    assert log_mass == pytest.approx(expected[0], abs=1e-6)
    assert first == pytest.approx(expected[1], abs=1e-6 * np.sqrt(expected[2]) + 1e-9)
    assert second == pytest.approx(expected[2], rel=1e-5)
    assert third == pytest.approx(expected[3], abs=1e-5 * expected[2] ** 1.5)


def test_an_outcome_nobody_expected_has_a_finite_mass():
    # Far in the tail the sigmoid is exp(location + e): its mean is the variance, its log mass known.
    for location in (-600.0, -750.0, -2000.0):
        found = tilted(*one_hole(0.0, 1.0, location, 1.0, 0.0))
        assert found == pytest.approx((location + 0.5, 1.0, 1.0, 0.0), abs=1e-6)


def test_very_many_shots_never_take_the_whole_variance_away():
    for good in range(0, 1001, 50):
        log_mass, mean, variance, _ = tilted(*one_hole(0.0, 20.0, -3.0, float(good), 1000.0 - good))
        assert np.isfinite([log_mass, mean]).all()
        assert variance >= 1.0 / (1.0 / 20.0 + 250.0) - 1e-12


def test_the_highest_point_is_found_where_newton_s_steps_go_round_in_circles():
    # All of 140 shots good at a hole that was given up: from the prior's mean Newton's step goes far past it.
    case = one_hole(-0.25, 0.8, -2.4, 140.0, 0.0)
    assert tilted(*case) == pytest.approx(by_many_points(*case), abs=1e-6)


def test_without_variance_nothing_is_learned():
    assert tilted(*one_hole(0.5, 0.0, 0.0, 1.0, 0.0)) == pytest.approx((float(log_expit(0.5)), 0.5, 0.0, 0.0))


def test_a_site_turns_the_gaussian_into_the_tilted_one():
    _, mean, variance, _ = tilted(*one_hole(0.3, 1.5, -1.0, 2.0, 1.0))
    precision, shift = site_of(0.3, 1.5, mean, variance)
    assert precision > 0.0
    assert 1.0 / (1.0 / 1.5 + precision) == pytest.approx(variance)
    assert variance * (0.3 / 1.5 + shift) == pytest.approx(mean)
