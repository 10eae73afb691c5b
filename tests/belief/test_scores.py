"""The scores of probabilities agree with slow loops, and the debiased calibration error is what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from cryoscout.belief import scores
from cryoscout.belief.scores import (
    debiased_calibration_error,
    expected_calibration_error,
    score_probabilities,
)
from cryoscout.core.errors import InputError

outcomes = st.lists(
    st.tuples(
        st.one_of(st.floats(0.0, 1.0).map(lambda p: round(p, 8)), st.sampled_from([0.0, 0.25, 1.0])),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=60,
)


def slow_calibration_error(p, good, bins):
    """One hole and one bin at a time; a bin ends where the next begins, and empty bins count nothing."""
    ranked = sorted(range(len(p)), key=lambda hole: (p[hole], hole))
    total = 0.0
    for b in range(bins):
        inside = ranked[round(b * len(p) / bins) : round((b + 1) * len(p) / bins)]
        if inside:
            mean_p = math.fsum(p[hole] for hole in inside) / len(inside)
            share = sum(good[hole] for hole in inside) / len(inside)
            total += len(inside) / len(p) * abs(mean_p - share)
    return total


def as_arrays(pairs):
    return np.array([p for p, _ in pairs]), np.array([good for _, good in pairs], dtype=float)


@given(outcomes, st.integers(1, 12))
def test_the_calibration_error_is_that_of_a_slow_loop(pairs, bins):
    p, good = as_arrays(pairs)
    assert expected_calibration_error(p, good, bins) == pytest.approx(
        slow_calibration_error(p, good, bins), abs=1e-12
    )


@given(outcomes.filter(lambda pairs: len(pairs) <= 10))
def test_fewer_holes_than_bins_have_one_bin_each(pairs):
    p, good = as_arrays(pairs)
    assert expected_calibration_error(p, good) == pytest.approx(float(np.abs(p - good).mean()), abs=1e-12)


def test_the_calibration_error_of_a_constant_shift_is_the_shift():
    good = np.tile([1.0, 0.0, 0.0, 0.0], 50)
    assert expected_calibration_error(np.full(200, 0.35), good) == pytest.approx(0.1)
    assert expected_calibration_error(np.full(200, 0.25), good) == pytest.approx(0.0, abs=1e-12)


def test_the_debiased_error_of_calibrated_probabilities_is_close_to_0():
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        p = rng.uniform(0.05, 0.95, 500)
        good = (rng.random(500) < p).astype(float)
        found.append(debiased_calibration_error(p, good, rng))
        # 500 holes in 10 bins show about 0.05 by chance alone.
        assert expected_calibration_error(p, good) > 0.025
    assert min(found) == 0.0
    assert np.mean(found) < 0.01


def test_the_debiased_error_of_shifted_probabilities_is_close_to_the_shift():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.8, 4000)
    good = (rng.random(4000) < truth).astype(float)
    plug_in = expected_calibration_error(truth + 0.15, good)
    assert plug_in == pytest.approx(0.15, abs=0.02)
    # Where probabilities are off, chance adds less than where they are right: a little too much is taken off.
    assert 0.11 < debiased_calibration_error(truth + 0.15, good, rng) < plug_in


def test_the_debiased_error_is_the_plug_in_error_less_its_mean_over_calibrated_draws():
    rng = np.random.default_rng(5)
    p = rng.uniform(0.0, 1.0, 57)
    good = (rng.random(57) < 0.2).astype(float)
    draws = np.random.default_rng(6).random((1000, 57))
    bias = np.mean([slow_calibration_error(p, (draw < p).astype(float), 10) for draw in draws])
    assert debiased_calibration_error(p, good, np.random.default_rng(6)) == pytest.approx(
        slow_calibration_error(p, good, 10) - bias, abs=1e-12
    )


def test_the_same_seed_gives_the_same_scores_and_another_seed_others():
    rng = np.random.default_rng(7)
    p, good = rng.uniform(size=80), (rng.random(80) < 0.5).astype(float)
    scores = [score_probabilities(p, good, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert scores[0] == scores[1] != scores[2]


def test_brier_score_and_log_loss_are_those_of_scikit_learn():
    rng = np.random.default_rng(8)
    p = rng.uniform(0.01, 0.99, 300)
    good = (rng.random(300) < p).astype(float)
    scores = score_probabilities(p, good, rng)
    assert scores.holes == 300
    assert scores.brier == pytest.approx(brier_score_loss(good, p))
    assert scores.log_loss == pytest.approx(log_loss(good, p))
    assert scores.accuracy == pytest.approx(np.mean((p >= 0.5) == (good == 1)))
    assert scores.ece == expected_calibration_error(p, good)


def test_the_brier_skill_is_1_for_the_truth_0_for_the_share_and_negative_below_that():
    rng = np.random.default_rng(9)
    good = np.array([1.0, 0.0, 0.0, 1.0, 0.0])
    assert score_probabilities(good, good, rng).brier_skill == 1.0
    assert score_probabilities(np.full(5, 0.4), good, rng).brier_skill == pytest.approx(0.0, abs=1e-12)
    assert score_probabilities(1.0 - good, good, rng).brier_skill < 0.0


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_outcomes_of_one_class_have_no_brier_skill_but_every_other_score(label):
    scores = score_probabilities(np.full(12, 0.5), np.full(12, label), np.random.default_rng(0))
    assert math.isnan(scores.brier_skill)
    assert (scores.brier, scores.ece) == (0.25, 0.5)
    assert scores.log_loss == pytest.approx(math.log(2.0))


def test_probabilities_of_exactly_0_and_1_have_a_finite_log_loss():
    good = np.array([1.0, 0.0, 1.0])
    scores = score_probabilities(np.array([0.0, 1.0, 1.0]), good, np.random.default_rng(0))
    assert scores.log_loss == pytest.approx(-2 / 3 * math.log(1e-12), rel=1e-4)


def test_scores_of_no_holes_are_refused():
    nothing, rng = np.zeros(0), np.random.default_rng(0)
    for score in (
        lambda: expected_calibration_error(nothing, nothing),
        lambda: debiased_calibration_error(nothing, nothing, rng),
        lambda: score_probabilities(nothing, nothing, rng),
    ):
        with pytest.raises(InputError, match=r"at least one hole\. Got none instead"):
            score()


@pytest.mark.parametrize("at_once", [1, 70, 333])
def test_how_many_draws_are_in_memory_does_not_change_the_error(at_once, monkeypatch):
    p = np.random.default_rng(0).uniform(0.1, 0.9, 23)
    good = (p > 0.4).astype(np.float64)
    whole = debiased_calibration_error(p, good, np.random.default_rng(1))
    monkeypatch.setattr(scores, "MOST_DRAWN_AT_ONCE", at_once)
    assert debiased_calibration_error(p, good, np.random.default_rng(1)) == whole > 0.0
