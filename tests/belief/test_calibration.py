"""Calibration finds a known truth again, agrees with scikit-learn, and refuses what it cannot fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cryoscout.belief.calibration import (
    FEWEST_LABELS,
    SCORE_CLIP,
    Calibration,
    clipped_logit,
    fit_calibration,
    sigmoid,
)
from cryoscout.core.errors import InputError

scores = st.floats(0.0, 1.0)


def overconfident_classifier(slope, offset, n, seed):
    """Scores, and outcomes that follow sigmoid(slope * logit(score) + offset)."""
    rng = np.random.default_rng(seed)
    score = 1.0 / (1.0 + np.exp(-rng.normal(0.0, 1.5, n)))
    truth = 1.0 / (1.0 + np.exp(-(slope * np.log(score / (1.0 - score)) + offset)))
    return score, (rng.random(n) < truth).astype(float)


def test_the_sigmoid_is_stable_at_both_ends():
    x = np.array([-1e308, -800.0, -1.0, 0.0, 1.0, 800.0, 1e308])
    expected = [0.0, 0.0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-1)), 1.0, 1.0]
    np.testing.assert_allclose(sigmoid(x), expected, rtol=1e-14)


@given(st.floats(-30, 30))
def test_the_sigmoid_of_minus_x_is_the_rest(x):
    assert sigmoid(np.array([x]))[0] + sigmoid(np.array([-x]))[0] == pytest.approx(1.0, abs=1e-15)


@given(st.floats(SCORE_CLIP, 1.0 - SCORE_CLIP))
def test_the_logit_and_the_sigmoid_undo_each_other(p):
    assert sigmoid(clipped_logit(np.array([p])))[0] == pytest.approx(p, abs=1e-12)


def test_scores_of_exactly_0_and_1_are_clipped_and_stay_finite():
    ends = clipped_logit(np.array([0.0, SCORE_CLIP, 1.0 - SCORE_CLIP, 1.0]))
    assert ends[0] == ends[1] == pytest.approx(-np.log(199.0))
    assert ends[2] == ends[3] == pytest.approx(np.log(199.0))
    assert clipped_logit(np.zeros((2, 3))).shape == (2, 3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([0.5, np.nan, np.nan], r"Got nan instead \(2 such scores\)"),
        ([1.2, 0.5], r"Got 1\.2 instead \(1 such scores\)"),
        ([-0.1, 7.0], r"Got -0\.1 instead \(2 such scores\)"),
    ],
)
def test_a_score_that_is_no_probability_is_refused(wrong, said):
    with pytest.raises(InputError, match=r"^Scores must be probabilities between 0 and 1\. " + said):
        clipped_logit(np.array(wrong))
    with pytest.raises(InputError, match=said):
        Calibration(slope=1.0).apply(np.array(wrong))


@given(st.lists(scores, min_size=2, max_size=30), st.floats(0.05, 4.0), st.floats(-3.0, 3.0))
def test_ties_stay_ties_and_the_order_is_kept(raw, slope, offset):
    score = np.sort(np.array([*raw, raw[0]]))
    p = Calibration(slope=slope, offset=offset).apply(score)
    assert np.all(np.diff(p) >= 0)
    assert np.all(np.diff(p)[np.diff(score) == 0] == 0)
    assert np.all((p > 0) & (p < 1))


def test_slope_1_and_no_offset_leave_the_scores_as_they_are():
    score = np.linspace(SCORE_CLIP, 1 - SCORE_CLIP, 25)
    np.testing.assert_allclose(Calibration(slope=1.0).apply(score), score, rtol=1e-12)


def test_temperature_scaling_finds_the_true_temperature_again():
    score, good = overconfident_classifier(slope=1 / 1.8, offset=0.0, n=20000, seed=1)
    fitted = fit_calibration(score, good, method="temperature")
    assert fitted.slope == pytest.approx(1 / 1.8, abs=0.03)
    assert fitted.offset == 0.0


def test_platt_scaling_finds_the_true_slope_and_offset_again():
    score, good = overconfident_classifier(slope=0.6, offset=-0.8, n=20000, seed=2)
    fitted = fit_calibration(score, good)
    assert fitted.slope == pytest.approx(0.6, abs=0.04)
    assert fitted.offset == pytest.approx(-0.8, abs=0.05)
    assert fit_calibration(score, good, method="platt") == fitted


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_scikit_learn_fits_the_same_calibration(method):
    score, good = overconfident_classifier(slope=0.7, offset=0.4, n=800, seed=3)
    rival = LogisticRegression(C=1e8, fit_intercept=method == "platt", tol=1e-8)
    rival.fit(clipped_logit(score)[:, None], good)
    fitted = fit_calibration(score, good, method=method)
    # Our slope has a prior N(1, 10^2), theirs practically none.
    assert fitted.slope == pytest.approx(rival.coef_[0, 0], abs=2e-4)
    assert fitted.offset == pytest.approx(float(np.ravel(rival.intercept_)[0]), abs=2e-4)


def test_labels_that_a_score_separates_give_a_finite_slope():
    score = np.linspace(0.1, 0.9, 20)
    for method in ("temperature", "platt"):
        fitted = fit_calibration(score, (score > 0.5).astype(float), method=method)
        assert 1.0 < fitted.slope < 100.0
        assert np.isfinite(fitted.apply(score)).all()


def test_calibration_without_enough_labels_of_both_classes_is_refused():
    two_classes = np.arange(FEWEST_LABELS) % 2.0
    fit_calibration(np.full(FEWEST_LABELS, 0.5), two_classes)
    with pytest.raises(
        InputError, match=r"at least 10 labels of both classes\. Got 9 labels, 4 good, instead"
    ):
        fit_calibration(np.full(9, 0.5), two_classes[:9])
    with pytest.raises(InputError, match=r"Got 10 labels, 0 good, instead\. Remedy: label more holes"):
        fit_calibration(np.full(10, 0.5), np.zeros(10))
    with pytest.raises(InputError, match=r"Got 12 labels, 12 good, instead"):
        fit_calibration(np.full(12, 0.5), np.ones(12))
    with pytest.raises(InputError, match=r"Got 0 labels, 0 good, instead"):
        fit_calibration(np.zeros(0), np.zeros(0))


def test_calibration_with_another_number_of_labels_is_refused():
    with pytest.raises(InputError, match=r"one label per score\. Got 11 and 12 instead"):
        fit_calibration(np.full(12, 0.5), np.zeros(11))


@pytest.mark.parametrize("strange", [np.nan, 2.0, 0.5])
def test_a_label_that_is_neither_0_nor_1_is_refused(strange):
    good = np.arange(12) % 2.0
    good[3] = strange
    with pytest.raises(
        InputError, match=rf"^Labels must be 0 or 1\. Got {strange} instead \(1 such labels\)"
    ):
        fit_calibration(np.full(12, 0.5), good)


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_scores_that_are_lower_for_good_holes_are_refused(method):
    score = np.linspace(0.05, 0.95, 40)
    good = (score < 0.5).astype(float)
    good[[3, 36]] = 1.0 - good[[3, 36]]
    with pytest.raises(InputError, match=r"Scores must be higher for good holes.*Remedy: give 1 - score"):
        fit_calibration(score, good, method)
