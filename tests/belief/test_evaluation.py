"""The table of scores agrees with scikit-learn, its bootstrap draws whole clusters, and one class is told plainly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cryoscout.belief.evaluation import area_under_curve, evaluate_predictions
from cryoscout.belief.scores import debiased_calibration_error
from cryoscout.core.errors import InputError


def calibrated(holes=600, patches=30, effect=0.0, seed=0):
    """Probabilities, outcomes and patches; with an effect, holes of a patch are good together."""
    rng = np.random.default_rng(seed)
    patch = np.repeat(np.arange(patches), holes // patches)
    logit = rng.normal(0.0, 1.5, holes)
    p = 1.0 / (1.0 + np.exp(-logit))
    with_effect = 1.0 / (1.0 + np.exp(-logit - rng.normal(0.0, effect, patches)[patch]))
    return p, (rng.random(holes) < with_effect).astype(float), patch


def test_every_score_is_that_of_scikit_learn():
    p, good, patch = calibrated()
    p = p.round(1).clip(0.05, 0.95)  # many ties, some at 0.5
    found = evaluate_predictions(p, good, np.random.default_rng(1), patch, draws=20)
    said = p >= 0.5
    assert found.holes == 600
    assert found.share_good == pytest.approx(good.mean())
    assert found.accuracy == pytest.approx(accuracy_score(good, said))
    assert found.precision == pytest.approx(precision_score(good, said))
    assert found.recall == pytest.approx(recall_score(good, said))
    assert found.auc == pytest.approx(roc_auc_score(good, p))
    assert found.brier == pytest.approx(brier_score_loss(good, p))
    assert found.brier_skill == pytest.approx(1 - brier_score_loss(good, p) / np.var(good))
    assert found.log_loss == pytest.approx(log_loss(good, p))


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.booleans()), min_size=2, max_size=30)
)
def test_the_area_under_the_curve_is_a_count_of_pairs(pairs):
    p, good = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs], dtype=float)
    above = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high, is_good in zip(p, good, strict=True)
        if is_good
        for low, also_good in zip(p, good, strict=True)
        if not also_good
    ]
    found = area_under_curve(p, good)
    assert found == (pytest.approx(np.mean(above)) if above else None)


def test_the_calibration_error_is_that_of_scores_and_its_interval_holds_the_truth():
    p, good, patch = calibrated(holes=3000, patches=150)
    off = np.clip(p + 0.12, 0.0, 1.0)
    found = evaluate_predictions(off, good, np.random.default_rng(2), patch, draws=200)
    again = debiased_calibration_error(off, good, np.random.default_rng(3))
    assert found.ece_debiased == pytest.approx(again, abs=0.003)
    truth = float(np.mean(off - p))
    assert truth - 0.05 < found.ece_interval[0] < truth < found.ece_interval[1] < truth + 0.05


def test_holes_of_one_p_are_not_binned_in_the_order_of_the_session():
    # Good and bad patches that a constant p cannot tell apart: calibrated, whatever the order of the holes.
    good = np.repeat([1.0, 0.0], 500)
    found = evaluate_predictions(np.full(1000, 0.5), good, np.random.default_rng(0), draws=20)
    assert found.ece < 0.1


def test_holes_of_one_patch_that_are_good_together_widen_the_intervals():
    p, good, patch = calibrated(effect=3.0)
    widths = []
    for clusters in (None, patch):
        low, high = evaluate_predictions(
            p, good, np.random.default_rng(4), clusters, draws=300
        ).brier_skill_interval
        widths.append(high - low)
    assert widths[1] > 1.4 * widths[0]


def test_the_names_of_clusters_do_not_matter():
    p, good, patch = calibrated()
    named, renamed = (
        evaluate_predictions(p, good, np.random.default_rng(5), clusters, draws=30)
        for clusters in (patch, 7 * patch + 1000)
    )
    assert named == renamed


def test_the_same_seed_gives_the_same_evaluation():
    p, good, patch = calibrated()
    first, again, other = (
        evaluate_predictions(p, good, np.random.default_rng(seed), patch, draws=30) for seed in (6, 6, 7)
    )
    assert first == again
    assert first.brier_skill_interval != other.brier_skill_interval


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_what_one_class_does_not_define_is_none(label):
    found = evaluate_predictions(
        np.full(20, 0.3), np.full(20, label), np.random.default_rng(0), np.repeat(np.arange(4), 5), draws=20
    )
    assert (found.auc, found.brier_skill, found.brier_skill_interval, found.precision) == (None,) * 4
    assert found.recall == (None if label == 0.0 else 0.0)
    assert found.ece == pytest.approx(abs(0.3 - label))


def test_bootstrap_samples_of_one_class_have_no_skill_and_are_left_out():
    p, good = np.array([0.1, 0.9, 0.2]), np.array([0.0, 1.0, 0.0])
    low, high = evaluate_predictions(p, good, np.random.default_rng(0), draws=200).brier_skill_interval
    assert 0.0 < low < high <= 1.0


@pytest.mark.parametrize(
    ("p", "good", "clusters", "draws", "said"),
    [
        ([0.5], [1.0, 0.0], [0, 0], 9, r"one entry per hole\. Got 1, 2 and 2 instead"),
        ([0.5, 0.5], [1.0, 0.0], [0], 9, r"one entry per hole\. Got 2, 2 and 1 instead"),
        ([0.5, 1.5], [1.0, 0.0], [0, 0], 9, r"between 0 and 1\. Got 1\.5 at hole 1 instead"),
        ([np.nan, 0.5], [1.0, 0.0], [0, 0], 9, r"between 0 and 1\. Got nan at hole 0 instead"),
        ([0.5, 0.5], [1.0, np.nan], [0, 0], 9, r"0 or 1\. Got nan at hole 1 .*Remedy: leave out holes"),
        ([0.5, 0.5], [1.0, 0.0], [0, 0], 0, r"draws must be at least 1\. Got 0 instead"),
        ([], [], [], 9, r"at least one hole\. Got none instead"),
    ],
)
def test_wrong_input_is_refused(p, good, clusters, draws, said):
    with pytest.raises(InputError, match=said):
        evaluate_predictions(
            np.array(p), np.array(good), np.random.default_rng(0), np.array(clusters, dtype=int), draws
        )
