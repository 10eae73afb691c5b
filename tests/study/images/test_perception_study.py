"""The study `perception`: what a trial gives, what the page says of it, and what it says of what is missing."""

import numpy as np
import pytest

from cryoscout.core.errors import InputError
from cryoscout.perception import Classifier, fit
from cryoscout.perception.prepare import drawn_held_out
from cryoscout.simulate.presets import SCENE_PRESETS
from cryoscout.simulate.scene import simulate_scene
from cryoscout.study.engine.runner import TrialRow
from cryoscout.study.images import cases as perception_cases
from cryoscout.study.images.cases import (
    AT_QUICK,
    DIRECTIONS,
    FULL,
    REGRESSION,
    Case,
    Crops,
    RunCase,
    held_back,
    squares,
    squares_parts,
    trial_of,
)
from cryoscout.study.images.perception import (
    BELIEF,
    COLUMN,
    FULL_Y3,
    OTHER_SEEDS,
    SCORES,
    SQUARES,
    STUDY,
    TEN_PER_CENT_SEEDS,
    Found,
    page,
    trials,
)

ROW_KEYS = {
    "session", "method", "labels", "profile", "accuracy_mean", "accuracy_std", "precision", "auc", "ece", "brier",
    "seeds",
}  # fmt: skip
TINY = {"size_px": 16, "width": 8, "steps": 4, "pretrain_steps": 4, "evaluate_every": 2, "batch_size": 4}


def _result(case, seed, accuracy):
    scores = dict.fromkeys(SCORES, 0.5) | {"ece": 0.02, "ece_low": 0.0, "ece_high": 0.04}
    forms = {
        form: {**scores, "accuracy": accuracy + gain, "reliability": [[0.2, 0.1], [0.8, 0.9]]}
        for form, gain in (("", 0.0), (BELIEF, 0.03))
    }
    if case.session in DIRECTIONS:
        forms = {"": {"accuracy": accuracy, "mean_recall": accuracy}}
    at_one = {form: {**scores, "share_good": 0.5} for form, scores in forms.items()}
    thresholds = dict.fromkeys(("3.5", "4", "6"), at_one)
    training = {"seconds": 1.0, "mask_rate": 0.5, "pseudo_label_accuracy": None}
    rounds = [{"accuracy": 0.6, "precision": 0.6}] * 3 if case.method == "iterative-fixmatch" else []
    return {"scores": forms, "thresholds": thresholds, "training": training, "rounds": rounds}


def _rows(accuracies, failed=lambda case, seed: False):
    rows = []
    for trial in trials("quick"):
        case = Case(**trial.parameters["case"])
        accuracy = accuracies.get(case.method, 0.6) + 0.001 * trial.seed
        lost = failed(case, trial.seed)
        rows.append(
            TrialRow(
                trial, 1.0, None if lost else _result(case, trial.seed, accuracy), "killed" if lost else None
            )
        )
    return rows


def test_trials_are_one_per_case_and_seed_and_whole_columns_come_first():
    made = trials("quick")
    assert len({trial.name for trial in made}) == len(made)
    first = made[: len(COLUMN) + 1]
    assert {trial.seed for trial in first} == {0}
    assert [Case(**trial.parameters["case"]) for trial in first] == [*COLUMN, FULL_Y3]
    assert TEN_PER_CENT_SEEDS >= 5
    assert OTHER_SEEDS >= 3


def test_the_page_says_which_aims_are_reached(monkeypatch):
    reached = page(_rows({"supervised": 0.55, "fixmatch": 0.60, "align": 0.62, FULL: 0.64}), "quick")
    assert "`align`) above FixMatch by 1 point at 10 % | +2.00 [+2.00, +2.00] | yes |" in reached.markdown
    assert "above `full` without | +1.00 [+1.00, +1.00] | yes |" in reached.markdown
    monkeypatch.setattr("cryoscout.study.images.figure.figure", lambda *_: b"")
    missed = page(_rows({"supervised": 0.61, "fixmatch": 0.60, FULL: 0.70}), "quick")
    assert "FixMatch above supervised at 10% | -1.00 [-1.00, -1.00] | no |" in missed.markdown
    assert "above FixMatch by 1 point at 10 % | +0.00 [+0.00, +0.00] | no |" in missed.markdown
    assert reached.figure_png.startswith(b"\x89PNG")


@pytest.fixture
def no_figure(monkeypatch):
    """A page whose figure is not drawn: `test_the_page_says_which_aims_are_reached` draws it."""
    monkeypatch.setattr("cryoscout.study.images.figure.figure", lambda *_: b"")


@pytest.mark.usefixtures("no_figure")
def test_the_page_names_what_is_not_calibrated():
    rows = _rows({})
    for row in rows:
        if Case(**row.trial.parameters["case"]) == COLUMN[1]:
            row.result["scores"][""]["ece"] = 0.045
    told = page(rows, "quick").markdown
    n = 2 * (len(COLUMN) + 1)
    assert f"| y3, other patches | {n - 1} of {n} | `fixmatch` 0.045 |" in told
    assert "| y3, other squares | 6 of 6 |  |" in told


@pytest.mark.usefixtures("no_figure")
def test_every_row_has_the_keys_and_the_belief_is_a_row_of_its_own():
    rows = page(_rows({}), "quick").rows
    assert all(set(row) >= ROW_KEYS for row in rows)
    by_name = {(row["session"], row["method"], row["labels"], row["split"]): row for row in rows}
    assert len(by_name) == len(rows)
    plain, belief = by_name["y3", "fixmatch", 0.1, "patch"], by_name["y3", "fixmatch+belief", 0.1, "patch"]
    assert (plain["seeds"], plain["accuracy_mean"]) == (5, pytest.approx(0.602))
    assert belief["accuracy_mean"] == pytest.approx(0.632)


@pytest.mark.usefixtures("no_figure")
def test_what_failed_is_missing_and_differences_use_the_seeds_that_both_have():
    rows = _rows({"fixmatch": 0.62}, lambda case, seed: case == COLUMN[1] and seed > 1)
    found = Found(rows)
    assert found.seeds(COLUMN[1]) == [0, 1]
    assert found.difference((COLUMN[1], ""), (COLUMN[0], "")).mean == pytest.approx(2.0)
    assert found.difference((COLUMN[1], BELIEF), (COLUMN[1], "")).mean == pytest.approx(3.0)
    none = page(_rows({}, lambda case, seed: True), "quick")
    assert all(row["accuracy_mean"] is None and row["seeds"] == 0 for row in none.rows)
    assert "missing" in none.markdown


@pytest.fixture
def small(monkeypatch, no_figure):
    """A session of 300 holes whose good crops are brighter, and trainings of moments."""
    settings = SCENE_PRESETS["y1-sim"].model_copy(
        update={"holes": 300, "patches": 20, "squares": 8, "grids": 2}
    )
    scene = simulate_scene(settings, 0)
    good = (scene.ctf_max_res_angstrom[:, 0] <= 6.0).astype(np.int64)
    noise = np.random.default_rng(0).integers(0, 40, (300, 16, 16))
    images = (60 + 100 * good[:, None, None] + noise).astype(np.uint8)
    crops = Crops(images, scene.ctf_max_res_angstrom[:, 0], scene)
    monkeypatch.setattr(perception_cases, "crops_of", lambda preset, seed, folder: crops)
    monkeypatch.setattr(perception_cases, "QUICK_BUDGET", TINY)
    monkeypatch.setattr(
        perception_cases, "SQUARES_BUDGET", {**perception_cases.SQUARES_BUDGET, **TINY, "held_out": 0.0}
    )
    return crops


@pytest.mark.parametrize(
    ("method", "split"),
    [
        ("iterative-fixmatch", "square"),
        (FULL, "patch"),
        pytest.param("iterative-fixmatch", "patch", marks=pytest.mark.slow),
        pytest.param(FULL, "square", marks=pytest.mark.slow),
    ],
)
def test_a_trial_judges_the_network_with_and_without_the_belief(method, split, small, tmp_path):
    case = Case("y1-sim", method, 1.0 if method == FULL else 0.3, split)
    result = RunCase().in_folder(tmp_path)(trial_of(case, 0, "quick"))
    assert set(result["scores"]) == {"", BELIEF}
    for scores in result["scores"].values():
        assert 0.0 <= scores["accuracy"] <= 1.0
        assert 0.0 <= scores["ece_low"] <= scores["ece_high"]
    assert len(result["rounds"]) == (3 if method == "iterative-fixmatch" else 0)
    assert page([TrialRow(trial_of(case, 0, "quick"), 1.0, result, None)], "quick").markdown


def test_the_test_part_is_whole_patches_or_whole_squares(small):
    for split, level in (("patch", small.scene.patch_of_hole), ("square", small.scene.square_of_hole)):
        test = held_back(small.scene, "y1-sim", split)
        assert not np.intersect1d(level[test], level[~test]).size
        assert 0 < test.sum() < len(test)


@pytest.mark.parametrize(("method", "least_right"), [("pseudo-label", 0.9), ("own-pseudo-label", 0.0)])
def test_a_pseudo_label_trial_goes_on_from_what_it_is_taught(
    method, least_right, small, tmp_path, monkeypatch
):
    given, made = [], []

    def timid(_, crops):
        """Good crops are brighter: this says so, and calls none of them good."""
        p = np.where(crops.mean(axis=(1, 2)) > 130.0, 0.45, 0.35)
        return np.stack([1.0 - p, p], axis=1)

    def recorded(*args, **options):
        given.append((args, options))
        made.append(fit(*args, **options))
        return made[-1]

    monkeypatch.setattr("cryoscout.perception.fit", recorded)
    monkeypatch.setattr(Classifier, "raw_proba", timid)
    result = RunCase(tmp_path)(trial_of(Case("y1-sim", method, 0.3), 0, "quick"))
    (first, before), (second, options) = given
    assert (first[2], second[2]) == ("supervised", "pseudo_label")
    assert options["start_from"] is made[0]
    labelled, taught, weights, truth = first[1] >= 0, second[1], options["weights"], options["truth"]
    np.testing.assert_array_equal(taught[labelled], first[1][labelled])
    assert (weights[labelled] == 1.0).all()
    # Both hold out the same measured labels.
    held_out = drawn_held_out(first[1], made[0].settings)
    np.testing.assert_array_equal(options["held_out"], held_out)
    assert "held_out" not in before
    assert 0 < held_out.sum() < labelled.sum()
    own = made[0].predict_proba(second[0])[:, 1]
    is_own = np.allclose(weights[~labelled], np.abs(2.0 * own - 1.0)[~labelled])
    assert is_own == (method == "own-pseudo-label")
    # The belief learns what such a score means from a few results.
    right = (taught == truth)[~labelled]
    assert right.mean() >= least_right
    weight = weights[~labelled]
    assert result["training"]["mask_rate"] == pytest.approx(weight.mean())
    assert result["training"]["pseudo_label_accuracy"] == pytest.approx(np.average(right, weights=weight))
    assert set(result["scores"]) == {"", BELIEF}


def test_holes_learned_from_are_those_that_the_training_did_not_set_aside_or_hold_out(small):
    images = small.images.copy()
    part = perception_cases._Part.of(Case("y1-sim", "supervised", 0.4), 5, small)
    dark = np.flatnonzero(part.labelled)[:3]
    images[dark] = 7  # show nothing
    trained = fit(images[~part.test], part.labels(small.good()), "supervised", "quick", 5, **TINY)
    assert len(trained.set_aside) == 3
    learned = part.learned(trained, small.good())
    assert not learned[dark].any()
    assert not learned[~part.labelled].any()
    assert learned.sum() == trained.notes["labels"] - trained.notes["held_out_labels"]


def test_a_larger_budget_is_that_of_the_profile_quick():
    case = Case("y3", "supervised" + AT_QUICK, 0.1)
    assert perception_cases.budget_of(case, "quick") == {"size_px": 64, "width": 32, "steps": 1500}
    names = [Case(**trial.parameters["case"]).method for trial in trials("paper")]
    assert not any(name.endswith(AT_QUICK) for name in names)


def test_a_regression_is_judged_at_each_threshold(small, tmp_path):
    case = Case("y1-sim", REGRESSION, 1.0)
    result = RunCase(tmp_path)(trial_of(case, 0, "quick"))
    assert list(result["thresholds"]) == ["3.5", "4", "6"]
    shares = [result["thresholds"][angstrom][""]["share_good"] for angstrom in ("3.5", "4", "6")]
    assert shares == sorted(shares)
    test = held_back(small.scene, "y1-sim", "patch")
    assert shares[-1] == pytest.approx(float(small.good()[test].mean()))
    text = page([TrialRow(trial_of(case, 0, "quick"), 1.0, result, None)], "quick").markdown
    assert f"| y1-sim, 100% of the labels, 6 Å | {shares[-1]:.2f} |" in text


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_squares_for_training_and_test_never_overlap(direction):
    images, classes, sample = squares()
    assert images.shape == (375, 48, 48)
    training, test = squares_parts(direction, 0)
    assert not (training & test).any()
    for part, grids in ((training, DIRECTIONS[direction][0]), (test, DIRECTIONS[direction][1])):
        assert np.isin(sample[part], grids).all()
        assert set(classes[part]) == {0, 1, 2, 3}


def test_squares_are_judged_on_the_test_part_alone(small):
    result = STUDY.run_one(trial_of(SQUARES[0], 0, "quick"))
    assert result["training"]["labels"] == 40
    assert set(result["scores"]) == {""}


def test_a_class_with_too_few_squares_is_refused(small, monkeypatch):
    monkeypatch.setattr(perception_cases, "LABELS_PER_CLASS", 100)
    with pytest.raises(InputError, match="must have 100 squares to label"):
        STUDY.run_one(trial_of(SQUARES[0], 0, "quick"))
