from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from cryoscout.core.errors import InputError
from cryoscout.simulate.bayes import bayes_accuracy
from cryoscout.simulate.scene import HoleKind, simulate_scene
from cryoscout.simulate.scene_settings import SceneSettings

ICE_ONLY = SceneSettings(
    holes=4000,
    patches=200,
    squares=40,
    grids=20,
    thickness_nm=200.0,
    dry_below_nm=-900.0,
    empty_below_nm=-1000.0,
    crystalline_logit=-20.0,
    crystalline_square_sd=0.0,
    contamination_logit=-20.0,
    failed_share=0.0,
    coarsest_angstrom=100.0,
    share_good=0.5,
)
HOLES = 40_000


def test_without_any_difference_between_holes_nothing_can_be_known() -> None:
    flat = {f"{name}_thickness_sd_nm": 0.0 for name in ("grid", "square", "field", "hole")}
    settings = ICE_ONLY.model_copy(update={**flat, "square_gradient_sd_nm_per_um": 0.0})
    accuracy = bayes_accuracy(settings, holes=HOLES)
    assert (accuracy.exact, accuracy.relative) == pytest.approx((0.5, 0.5), abs=1e-6)
    assert accuracy.largest_class == pytest.approx(0.5, abs=1e-6)


def test_where_only_neighbours_differ_the_relative_thickness_says_what_the_exact_one_says() -> None:
    # ln CTF is nearly linear in a thickness far above the best one, so the optimum is in closed form.
    flat = {f"{name}_thickness_sd_nm": 0.0 for name in ("grid", "square", "field")}
    settings = ICE_ONLY.model_copy(
        update={
            **flat,
            "square_gradient_sd_nm_per_um": 0.0,
            "hole_thickness_sd_nm": 2.0,
            "thick_loss": 0.03,
            "difficulty": 0.08,
            "exposure_sd": 0.06,
        }
    )
    accuracy = bayes_accuracy(settings, holes=HOLES)
    slope = 2 * 0.03 * (200 / 30 - 1) / 30
    grid = np.random.default_rng(0).normal(size=400_000)
    expected = ndtr(np.abs(grid) * slope * 2.0 / 0.1).mean()
    assert accuracy.exact == pytest.approx(expected, abs=0.01)
    assert accuracy.exact - 0.015 < accuracy.relative <= accuracy.exact + 0.002


def test_where_only_patches_differ_the_relative_thickness_says_nothing() -> None:
    flat = {f"{name}_thickness_sd_nm": 0.0 for name in ("grid", "field", "hole")}
    settings = ICE_ONLY.model_copy(
        update={**flat, "square_gradient_sd_nm_per_um": 0.0, "square_thickness_sd_nm": 20.0}
    )
    accuracy = bayes_accuracy(settings, holes=HOLES)
    assert accuracy.exact > 0.75
    assert accuracy.relative < 0.53


def test_visible_kinds_are_worth_knowing_and_the_optimum_beats_no_rule_on_real_outcomes() -> None:
    settings = SceneSettings(holes=4000, patches=200, squares=40, grids=20, thickness_nm=25.0)
    accuracy = bayes_accuracy(settings, holes=HOLES)
    assert accuracy.largest_class < accuracy.relative < accuracy.exact
    scenes = [simulate_scene(settings, seed) for seed in range(10)]
    right = [
        ((scene.kind == HoleKind.VITREOUS) == (scene.ctf_max_res_angstrom[:, 0] <= 6)).mean()
        for scene in scenes
    ]
    assert accuracy.largest_class < np.mean(right) < accuracy.exact + 0.01


def test_more_difficulty_lowers_both() -> None:
    easy, hard = (
        bayes_accuracy(SceneSettings().model_copy(update={"difficulty": sd}), holes=20_000)
        for sd in (0.05, 0.6)
    )
    assert easy.exact > hard.exact + 0.05
    assert easy.relative > hard.relative + 0.03


def test_the_same_arguments_give_the_same_figures_and_no_holes_are_refused() -> None:
    assert bayes_accuracy(SceneSettings(), holes=1) == bayes_accuracy(SceneSettings(), holes=1)
    with pytest.raises(InputError, match="must be 1 or more"):
        bayes_accuracy(SceneSettings(), holes=0)
