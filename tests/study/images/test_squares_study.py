"""The study `squares`: what a trial is, how a setting is chosen on two grids, what the page says of what is missing."""

import numpy as np
import pytest

from cryoscout.perception.augmentations import AUGMENTATIONS
from cryoscout.study.engine.runner import TrialRow
from cryoscout.study.images import square_cases
from cryoscout.study.images.cases import Crops
from cryoscout.study.images.square_cases import (
    ACROSS,
    ALIGN_TRUE,
    FEATURES,
    FIXMATCH,
    GRIDS,
    KEPT,
    NETWORKS,
    ON_Y3,
    SUPERVISED,
    Y3,
    Cell,
    RunCell,
    across_grids,
    features,
    grid_part,
    nearest_class,
    trial_of,
    trials,
)
from cryoscout.study.images.squares import Found, page, recommended_in_turn

TINY = {"size_px": 16, "width": 8, "steps": 2, "pretrain_steps": 2, "evaluate_every": 1, "batch_size": 4}


def _rows(macro_of, failed=lambda data, cell: False):
    rows = []
    for trial in trials("quick"):
        data = trial.parameters["data"]
        cell = None if data == ACROSS else Cell(**trial.parameters["cell"])
        if data == ACROSS:
            result = across_grids()
        elif cell.method == KEPT:
            result = {"kept": {"contrast": {"network": 0.9, "features": 0.8}}}
        else:
            value = macro_of(data, cell) + 0.001 * (trial.seed % 7)
            result = {"macro": value, "accuracy": value, "auc": 0.6, "brier_skill": 0.1, "mask_rate": None,
                      "pseudo_label_accuracy": None}  # fmt: skip
        lost = cell is not None and failed(data, cell)
        rows.append(TrialRow(trial, 1.0, None if lost else result, "killed" if lost else None))
    return rows


def test_every_trial_is_there_once_and_what_decides_comes_first():
    made = trials("quick")
    assert len({trial.name for trial in made}) == len(made)
    of_y3 = [at for at, trial in enumerate(made) if trial.parameters["data"] == Y3]
    of_networks = [
        at for at, trial in enumerate(made)
        if trial.parameters["data"] in GRIDS and trial.parameters["cell"]["method"] not in (FEATURES, KEPT)
    ]  # fmt: skip
    first = [made[at].parameters["cell"] for at in of_networks[:90]]
    assert {(cell["method"], cell["augmentation"]) for cell in first} == {
        ("supervised", "hole"), ("fixmatch", "hole"), ("fixmatch", "square"),
    }  # fmt: skip
    assert of_networks[89] < min(of_y3)
    assert max(of_y3) < of_networks[90]
    assert {made[at].seed for at in of_y3} == {2000, 2001, 2002, 2003, 2004}
    assert len(of_networks) == len(NETWORKS) * len(GRIDS) * 10
    assert {cell.augmentation for cell in NETWORKS} <= set(AUGMENTATIONS)


@pytest.mark.parametrize("grid", GRIDS)
def test_ten_of_every_class_are_labelled_or_half_of_a_small_one(grid):
    images, truth, labelled = grid_part(grid, 3)
    sizes = np.bincount(truth)
    np.testing.assert_array_equal(np.bincount(truth[labelled]), np.minimum(10, sizes // 2))
    assert len(images) == len(truth)
    assert not np.array_equal(labelled, grid_part(grid, 4)[2])


def test_a_setting_is_chosen_on_two_grids_and_judged_on_the_third():
    square, hole = FIXMATCH["square"], FIXMATCH["hole"]

    def macro(data, cell):
        if cell == square:
            return 0.9 if data == "Sample2" else 0.5
        if cell == hole:
            return 0.65
        return 0.6

    turns = recommended_in_turn(Found(_rows(macro)))
    # Where Sample2 is judged it must not speak for `square`.
    assert turns["Sample2"][0] == hole
    assert turns["Sample2"][1].mean == pytest.approx(5.0)
    assert turns["Sample3"][0] == turns["Sample5"][0] == square
    assert turns["Sample3"][1].mean == pytest.approx(-10.0)


def test_what_only_an_oracle_knows_is_never_recommended():
    turns = recommended_in_turn(
        Found(_rows(lambda data, cell: 0.9 if cell.method in (ALIGN_TRUE, FEATURES) else 0.5))
    )
    assert all(cell.method not in (ALIGN_TRUE, FEATURES) for cell, _ in turns.values())


def test_the_page_says_whether_a_setting_beats_supervised_learning():
    better = page(_rows(lambda data, cell: 0.7 if cell == FIXMATCH["square"] else 0.6), "quick")
    assert "is above supervised learning: +10.0 [+10.0, +10.0] points" in better.markdown
    assert "the best is `fixmatch, square`" in better.markdown
    none = page(_rows(lambda data, cell: 0.6), "quick")
    assert "is not told from supervised learning: +0.0 [+0.0, +0.0] points" in none.markdown
    assert better.figure_png.startswith(b"\x89PNG")


def test_what_failed_is_missing():
    shown = page(_rows(lambda data, cell: 0.6, lambda data, cell: cell == FIXMATCH["hole"]), "quick")
    assert "| `fixmatch, hole` | missing | missing | missing | missing |" in shown.markdown
    nothing = page([], "quick")
    assert "missing" in nothing.markdown
    assert all(row["mean"] is None for row in nothing.rows)


def test_the_category_does_not_transfer_to_another_grid():
    found = across_grids()
    assert found["mixed"]["accuracy"] > 0.6
    assert all(judged["accuracy"] < 0.4 for judged in found["left_out"].values())


def test_the_nearest_square_by_features_is_the_obvious_one():
    rng = np.random.default_rng(0)
    known, asked, classes = rng.random((9, 3)), rng.random((5, 3)), rng.integers(0, 3, 9)
    spread = known.std(axis=0)
    for row, found in zip(asked, nearest_class(known, classes, asked), strict=True):
        away = [sum(((a - b) / s) ** 2 for a, b, s in zip(row, each, spread, strict=True)) for each in known]
        assert found == classes[int(np.argmin(away))]


def test_features_tell_brightness_and_size():
    images = np.full((3, 20, 20), 40, dtype=np.uint8)
    images[0, 5:15, 5:15], images[1, 5:15, 5:15], images[2, 2:18, 2:18] = 140, 200, 140
    small, bright, large = features(images)
    assert bright[5] > small[5]
    assert bright[4] == small[4]
    assert large[4] > small[4]


@pytest.mark.parametrize(
    "cell",
    [
        Cell(ALIGN_TRUE, "square"),
        Cell("supervised", "hole", "best"),
        Cell("fixmatch", "square", "last, 8 held out"),
        Cell(FEATURES),
    ],
)
def test_a_trial_judges_the_squares_without_a_label(cell):
    result = RunCell()(trial_of("Sample3", cell, 0, TINY, "quick"))
    assert 0.0 <= result["macro"] <= 1.0
    assert result["tested"] == 20
    if cell.method != FEATURES:
        assert result["labels"] == 20
        assert (result["held_out"] > 0) == (cell.selection != "last")


def test_a_trial_says_which_changes_keep_the_class():
    kept = RunCell()(trial_of("Sample3", Cell(KEPT), 0, TINY, "quick"))["kept"]
    assert {"contrast", "scale", "turns"} <= set(kept)
    assert all(0.0 <= share <= 1.0 for each in kept.values() for share in each.values())


def test_a_trial_on_simulated_holes_is_judged_on_other_patches(monkeypatch, tmp_path):
    from cryoscout.simulate.presets import SCENE_PRESETS
    from cryoscout.simulate.scene import simulate_scene

    settings = SCENE_PRESETS["y1-sim"].model_copy(
        update={"holes": 200, "patches": 20, "squares": 8, "grids": 2}
    )
    scene = simulate_scene(settings, 0)
    images = np.random.default_rng(0).integers(0, 255, (200, 16, 16)).astype(np.uint8)
    crops = Crops(images, scene.ctf_max_res_angstrom[:, 0], scene)
    monkeypatch.setattr(square_cases, "crops_of", lambda preset, seed, folder: crops)
    monkeypatch.setattr(square_cases, "Y3_LABELS", 0.5)
    monkeypatch.setattr(square_cases, "held_back", lambda scene, preset, split: scene.patch_of_hole % 4 == 0)
    result = RunCell().in_folder(tmp_path)(trial_of(Y3, ON_Y3[1], 2000, TINY, "quick"))
    assert 0.0 <= result["accuracy"] <= 1.0
    assert SUPERVISED in ON_Y3
