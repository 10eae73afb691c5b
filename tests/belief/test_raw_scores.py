"""Raw scores become probabilities through results, whichever way the scale goes."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.raw_scores import fit_raw_scores
from cryoscout.core.errors import InputError


def drawn(logit, n=2000, seed=0, shots=1):
    """Thicknesses of 10 to 90 nm and results whose logit is a function of them."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(10, 90, n)
    p = sigmoid(logit(score))
    good = rng.binomial(shots, p).astype(float)
    return score, good, np.full(n, float(shots)), p


@pytest.mark.parametrize(
    ("logit", "words"),
    [
        (lambda s: (s - 50) / 12, "higher scores are better"),
        (lambda s: (40 - s) / 12, "lower scores are better"),
        (lambda s: 1.5 - ((s - 45) / 14) ** 2, "scores near 44.9 are best"),
    ],
)
def test_the_curve_behind_the_results_is_found(logit, words):
    score, good, results, p = drawn(logit)
    fit = fit_raw_scores(score, good, results)
    assert np.abs(fit.apply(score) - p).mean() < 0.04
    assert fit.in_words.startswith(words)
    assert fit.n_results == 2000


def test_a_unit_changes_nothing():
    score, good, results, _ = drawn(lambda s: (s - 50) / 12, n=300)
    np.testing.assert_allclose(
        fit_raw_scores(score, good, results).apply(score),
        fit_raw_scores(10 * score - 7, good, results).apply(10 * score - 7),
        atol=1e-6,
    )


def test_shots_of_a_hole_count_each():
    score, good, results, p = drawn(lambda s: (s - 50) / 12, n=700, shots=4)
    fit = fit_raw_scores(score, good, results)
    assert fit.n_results == 2800
    assert np.abs(fit.apply(score) - p).mean() < 0.04


def test_scores_that_say_nothing_stay_near_the_share_of_good_ones():
    rng = np.random.default_rng(1)
    good = (rng.random(3000) < 0.4).astype(float)
    fit = fit_raw_scores(rng.normal(size=3000), good, np.ones(3000))
    assert np.abs(fit.apply(np.linspace(-2, 2, 9)) - good.mean()).max() < 0.06


def test_holes_without_score_or_result_are_left_out_and_far_scores_count_as_the_edge():
    score, good, results, _ = drawn(lambda s: (s - 50) / 12, n=500)
    more = np.concatenate([score, [np.nan, 1e9]])
    fit = fit_raw_scores(more, np.concatenate([good, [1, 0]]), np.concatenate([results, [1, 0]]))
    assert fit.n_results == 500
    assert np.isnan(fit.apply(np.array([np.nan]))).all()
    assert fit.apply(np.array([1e9])) == fit.apply(np.array([1e12]))


@pytest.mark.parametrize(
    ("n", "n_good", "message"),
    [
        (9, 4, "Got 9 results of holes with a score, 4 of them good"),
        (30, 30, "30 of them good"),
        (30, 0, "0 of them"),
    ],
)
def test_too_few_results_or_one_kind_are_refused(n, n_good, message):
    good = np.array([1.0] * n_good + [0.0] * (n - n_good))
    with pytest.raises(InputError, match=message):
        fit_raw_scores(np.arange(n, dtype=float), good, np.ones(n))


def test_equal_scores_are_refused():
    with pytest.raises(InputError, match=r"must differ from hole to hole\. Got 3 for all 20"):
        fit_raw_scores(np.full(20, 3.0), np.tile([0.0, 1.0], 10), np.ones(20))
