"""The prediction study's scores agree with references, and nothing of a held-out square is used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

from cryoscout.session.builtin import load_builtin
from cryoscout.study.engine.catalogue import run_study
from cryoscout.study.engine.runner import Trial
from cryoscout.study.routes import prediction
from cryoscout.study.routes.prediction import (
    PREDICTIONS,
    p_good_of_unseen_squares,
    reliability_bins,
    run_trial,
    scores_of,
)
from cryoscout.study.routes.stage_losses import is_of_stage


def calibrated(n, seed):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, (rng.random(n) < p).astype(float), np.repeat(np.arange(n // 20, dtype=np.int32), 20)


def test_precision_and_recall_are_scikit_learn_s_and_absent_where_undefined():
    p, good, level = calibrated(400, 0)
    scores = scores_of(p, good, level, draws=20, seed=0)
    assert scores["precision"] == pytest.approx(precision_score(good, p >= 0.5))
    assert scores["recall"] == pytest.approx(recall_score(good, p >= 0.5))
    assert scores_of(np.full(400, 0.2), good, level, draws=20, seed=0)["precision"] is None


def test_the_interval_of_the_calibration_error_tells_calibrated_from_overconfident():
    p, good, level = calibrated(2000, 1)
    assert scores_of(p, good, level, draws=200, seed=0)["ece_interval"][0] < 0.01
    overconfident = np.clip(0.5 + 1.6 * (p - 0.5), 0.001, 0.999)
    scores = scores_of(overconfident, good, level, draws=200, seed=0)
    low, high = scores["ece_interval"]
    assert 0.03 < low < np.abs(overconfident - p).mean() < high
    # Takes off what calibrated probabilities would show, which is too much where they are far off.
    assert 0.03 < scores["ece_debiased"] < high


def test_ties_in_the_order_of_patches_do_not_look_miscalibrated():
    # All good holes stand first: bins in that order would be wholly good or wholly bad.
    good = np.repeat([1.0, 0.0], 500)
    scores = scores_of(np.full(1000, 0.5), good, np.arange(1000, dtype=np.int32), draws=20, seed=0)
    assert scores["ece"] < 0.1


def test_bins_are_of_equal_mass_and_their_interval_holds_the_share():
    p, good, _ = calibrated(205, 2)
    bins = reliability_bins(p, good)
    assert sum(each["holes"] for each in bins) == 205
    assert {each["holes"] for each in bins} == {20, 21}
    assert all(
        each["share_good_interval"][0] <= each["share_good"] <= each["share_good_interval"][1]
        for each in bins
    )
    assert [each["p_mean"] for each in bins] == sorted(each["p_mean"] for each in bins)


def test_no_outcome_of_a_held_out_square_is_used(monkeypatch):
    training, session = load_builtin("y1", "train"), load_builtin("y1", "val")
    square = dict(zip(training.patches["patch_id"], training.patches["square_id"], strict=True))
    square |= dict(zip(session.patches["patch_id"], session.patches["square_id"], strict=True))
    labelled_squares = []

    def noted(of_training, of_session, name, labels):
        patches = of_training.holes["patch_id"][~np.isnan(labels)]
        labelled_squares.append({square[patch] for patch in patches})
        return np.full(of_session.n_holes, float(len(labelled_squares)))

    monkeypatch.setattr(prediction, "_fitted_p_good", noted)
    fold_of_hole = p_good_of_unseen_squares(training, session, "combined", 0).astype(int)
    assert set(fold_of_hole) == set(range(1, prediction.FOLDS + 1))
    for hole, fold in enumerate(fold_of_hole):
        assert square[session.holes["patch_id"].iloc[hole]] not in labelled_squares[fold - 1]


def test_flat_of_unseen_squares_is_the_share_of_the_other_squares():
    training, session = load_builtin("y1", "train"), load_builtin("y1", "val")
    p = p_good_of_unseen_squares(training, session, "flat", 0)
    assert len(np.unique(p)) == prediction.FOLDS
    assert (p == p_good_of_unseen_squares(training, session, "flat", 0)).all()


def test_a_trial_gives_the_same_scores_twice_and_is_honest_about_res50():
    trial = Trial("res50", {"prediction": "res50", "split": "patch", "draws": 5}, 0)
    first = run_trial(trial)
    assert first == run_trial(trial)
    assert first["holes"] == 1074
    assert first["ece_debiased"] > 0.05
    assert first["accuracy"] == pytest.approx(0.885, abs=0.001)


def made_up(trial: Trial):
    if is_of_stage(trial):
        raise RuntimeError("has tests of its own")
    if trial.parameters["prediction"] == "res50":
        raise RuntimeError("broke")
    p, good, level = calibrated(200, 3)
    return scores_of(p, good, level, draws=20, seed=0)


def test_the_page_names_what_is_missing_and_says_whether_the_target_is_met(tmp_path):
    run = run_study(replace(prediction.STUDY, run_one=made_up), "quick", tmp_path)
    text = run.markdown_file.read_text(encoding="utf-8")
    rows = {(row["prediction"], row["split_by"]): row for row in run.content["rows"] if "prediction" in row}
    assert len(rows) == len(PREDICTIONS) + 2
    assert rows["res50", "patch"]["missing"]
    assert "it does (" in text or "it does not (" in text
    assert "| `res50` | missing" in text
    assert run.figure_file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_combined_meets_its_target_on_y1_validation():
    scores = run_trial(Trial("combined", {"prediction": "combined", "split": "patch", "draws": 20}, 0))
    assert scores["ece_debiased"] <= prediction.MOST_ECE
    assert scores["brier_skill"] > prediction.LEAST_SKILL
