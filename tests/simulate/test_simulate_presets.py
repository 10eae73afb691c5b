from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.simulate.bayes import bayes_accuracy
from cryoscout.simulate.presets import (
    IMAGE_PRESETS,
    SCENE_PRESETS,
    TABLE_PRESETS,
    image_settings_named,
    scene_named,
    simulation_named,
    whole_patches,
    y3_validation,
)
from cryoscout.simulate.scene import Scene, simulate_scene
from cryoscout.simulate.scene_settings import SceneSettings
from cryoscout.simulate.session import to_session
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.summary import (
    intra_class_correlation,
    summary_of_scene,
    summary_of_session,
    y1_in_split,
)
from cryoscout.simulate.tables import simulate_tables


def test_y1_like_has_the_tree_of_y1() -> None:
    y1_like = simulation_named("y1-like")
    assert (y1_like.holes, y1_like.patches, y1_like.squares, y1_like.grids) == (3538, 173, 25, 16)


def test_y1_like_has_the_share_ctf_quantiles_and_correlations_of_y1_on_average() -> None:
    rows = []
    for seed in range(60):
        tables = simulate_tables(simulation_named("y1-like"), seed)
        square = tables.square_of_patch[tables.patch_of_hole]
        levels = (tables.patch_of_hole, square, tables.grid_of_square[square])
        ctf = np.quantile(tables.ctf_max_res_angstrom, [0.05, 0.25, 0.5, 0.75, 0.95])
        correlations = [intra_class_correlation(tables.good, level) for level in levels]
        says_right = (tables.score >= 0.5) == (tables.good > 0)
        rows.append([tables.good.mean(), says_right.mean(), *correlations, *ctf])
    share, accuracy, patch, square_, grid, *quantiles = np.mean(rows, axis=0)
    assert share == pytest.approx(0.379, abs=0.005)
    assert accuracy == pytest.approx(0.885, abs=0.005)
    assert (patch, square_, grid) == pytest.approx((0.39, 0.26, 0.21), abs=0.02)
    assert quantiles == pytest.approx([3.4, 4.5, 7.7, 10.8, 19.4], rel=0.05)


@pytest.mark.parametrize(
    ("name", "holes", "grids"), [("small", 1000, 4), ("daily", 100_000, 12), ("million", 1_000_000, 12)]
)
def test_other_presets_have_their_size(name: str, holes: int, grids: int) -> None:
    preset = simulation_named(name)
    assert (preset.holes, preset.grids) == (holes, grids)


def test_daily_can_be_simulated_and_a_grid_fits_on_its_3_mm() -> None:
    tables = simulate_tables(simulation_named("daily"), 0)
    assert tables.n_holes == 100_000
    assert np.hypot(tables.x_um, tables.y_um).max() < 1500


@pytest.mark.slow
def test_a_million_holes_can_be_simulated() -> None:
    tables = simulate_tables(simulation_named("million"), 0)
    assert tables.n_holes == 1_000_000
    assert tables.nbytes < 100e6
    assert tables.good.mean() == pytest.approx(0.379, abs=0.002)
    assert np.hypot(tables.x_um, tables.y_um).max() < 1500


def test_presets_survive_json() -> None:
    for preset in TABLE_PRESETS.values():
        assert SimulationSettings.model_validate_json(preset.model_dump_json()) == preset


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'y1-like'"):
        simulation_named("y1-lik")


SETTINGS_DIGEST = {"y1-sim": "28ff97cfba106f60", "y3": "478cf7ae8a13828a", "daily-images": "63801e2dccb88696"}
"""Of the presets as they were before any method was trained on what they make. Change none: results stand on them."""
CAME_LATER = {"time_model": {"patch_look_min", "square_look_min", "pauses_per_min"}}
"""Settings that did not exist then; in these presets they have no effect."""

TABLES_DIGEST = {"y1-sim": "c1c7f6e1e520491c", "y3": "e01ce3ec7c0c4607", "daily-images": "b7b40e000a014e2c"}


@pytest.mark.parametrize("name", SETTINGS_DIGEST)
def test_a_preset_with_images_is_frozen(name: str) -> None:
    settings = scene_named(name)
    text = json.dumps(settings.model_dump(exclude=CAME_LATER), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == SETTINGS_DIGEST[name]
    later = settings.time_model.model_dump(include=CAME_LATER["time_model"])
    assert not any(later.values())
    assert tables_digest(simulate_scene(settings, 0)) == TABLES_DIGEST[name]


IMAGES_DIGEST = {"y1-sim": "ae059381194d3a74", "y3": "edb265fc7d038ff3", "daily-images": "ae059381194d3a74"}


@pytest.mark.parametrize("name", IMAGES_DIGEST)
def test_how_a_preset_is_seen_is_frozen(name: str) -> None:
    text = json.dumps(image_settings_named(name).model_dump(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == IMAGES_DIGEST[name]


def test_images_of_an_unknown_preset_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="y3"):
        image_settings_named("y4")
    assert IMAGE_PRESETS.keys() <= SCENE_PRESETS.keys()


def tables_digest(scene: Scene) -> str:
    """Of the tree, and of means in coarse steps: another mathematical library may change last digits, or a hole."""
    assert scene.settings.shots == 1
    patches = np.bincount(scene.patch_of_hole)
    ctf = np.minimum(scene.ctf_max_res_angstrom[:, 0], 100.0)
    coarse = {
        "patches": patches.tolist(),
        "squares": np.bincount(scene.square_of_patch).tolist(),
        "grids": np.bincount(scene.grid_of_square).tolist(),
        "lattice": scene.lattice_ij.sum(axis=0).tolist(),
        "kinds": np.rint(np.bincount(scene.kind, minlength=5) / 20).tolist(),
        "thickness": round(float(scene.thickness_nm.mean()), 1),
        "ctf": np.round(np.quantile(ctf, [0.1, 0.25, 0.5, 0.75, 0.9]), 1).tolist(),
        "first": np.round(scene.thickness_nm[:20], 2).tolist(),
        "hours": round(float(np.nanmax(scene.started_s)) / 3600, 1),
    }
    return hashlib.sha256(json.dumps(coarse).encode()).hexdigest()[:16]


def test_the_presets_with_images_have_their_exact_sizes() -> None:
    sizes = {
        name: (preset.grids, preset.squares, preset.patches, preset.holes)
        for name, preset in SCENE_PRESETS.items()
    }
    assert sizes["y1-sim"] == (16, 25, 173, 3538)
    assert sizes["y3"] == (9, 58, 771, 8653)
    assert sizes["daily-images"] == (12, 167, 3333, 100_000)
    assert not SCENE_PRESETS.keys() & TABLE_PRESETS.keys(), "one name means one thing"


@pytest.mark.slow
def test_y1_sim_has_the_figures_of_y1_on_average() -> None:
    y1 = summary_of_session(y1_in_split()).by_name()
    rows = [summary_of_scene(simulate_scene(scene_named("y1-sim"), seed)).by_name() for seed in range(60)]
    mean = {name: np.mean([row[name] for row in rows]) for name in y1}
    for name, value in y1.items():
        if name.startswith("CTF"):
            assert mean[name] == pytest.approx(value, rel=0.06), name
        elif name.startswith("correlation of good"):
            assert mean[name] == pytest.approx(value, abs=0.03), name
        elif name.startswith("holes per"):
            assert mean[name] == pytest.approx(value, rel=0.15), name
    assert mean["share of good"] == pytest.approx(y1["share of good"], abs=0.02)
    assert mean["share of failed fits"] == pytest.approx(y1["share of failed fits"], abs=0.003)


@pytest.mark.slow
def test_y3_is_half_good_in_every_scene_with_many_holes_near_the_threshold_and_the_correlations_of_y1() -> (
    None
):
    rows = [summary_of_scene(simulate_scene(scene_named("y3"), seed)) for seed in range(40)]
    shares = [row.share_good for row in rows]
    assert min(shares) > 0.48
    assert max(shares) < 0.52
    assert np.mean([row.share_near_threshold for row in rows]) > 0.25
    for level, wanted in (("patch", 0.39), ("square", 0.26), ("grid", 0.21)):
        found = np.mean([getattr(row, f"correlation_in_{level}") for row in rows])
        assert found == pytest.approx(wanted, abs=0.05), level


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wanted"), [("y1-sim", 0.90), ("y3", 0.68)])
def test_the_presets_are_as_hard_as_meant(name: str, wanted: float) -> None:
    assert bayes_accuracy(scene_named(name), holes=1_000_000).relative == pytest.approx(wanted, abs=0.015)


def test_y3_is_split_by_patch_into_exactly_the_published_numbers_and_always_the_same() -> None:
    for seed in range(3):
        scene = simulate_scene(scene_named("y3"), seed)
        validation = y3_validation(scene)
        assert validation.sum() == 2164
        assert (~validation).sum() == 6489
        of_patch = np.bincount(scene.patch_of_hole, validation) / np.bincount(scene.patch_of_hole)
        assert set(of_patch) == {0.0, 1.0}
        np.testing.assert_array_equal(validation, y3_validation(scene))
        assert len(np.unique(scene.grid_of_hole[validation])) == 9


def test_a_part_that_whole_patches_cannot_fill_and_a_scene_of_another_size_are_refused() -> None:
    patch_of_hole = np.repeat(np.arange(4, dtype=np.int32), 3)
    assert whole_patches(patch_of_hole, 6, np.random.default_rng(0)).sum() == 6
    with pytest.raises(InputError, match=r"must be one that whole patches can give\. Got 7"):
        whole_patches(patch_of_hole, 7, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"8653 holes of y3\. Got 100"):
        y3_validation(simulate_scene(scene_named("y3").with_holes(100), 0))


def test_daily_images_is_sparsely_imaged_and_its_samples_differ() -> None:
    scene = simulate_scene(scene_named("daily-images"), 0)
    assert scene.exposed.sum() == pytest.approx(5000, abs=20)
    assert scene.settings.samples == 4
    assert np.hypot(scene.x_um, scene.y_um).max() < 1500


def test_presets_with_images_survive_json_and_an_unknown_one_names_the_nearest() -> None:
    for preset in SCENE_PRESETS.values():
        assert SceneSettings.model_validate_json(preset.model_dump_json()) == preset
    with pytest.raises(UnknownNameError, match="Did you mean 'daily-images'"):
        scene_named("daily-image")


def test_the_atlas_shows_how_good_the_ice_is_but_of_exceptions():
    tables = [simulate_tables(TABLE_PRESETS["atlas"], seed) for seed in range(30)]
    correlation = {True: [], False: []}
    for each in tables:
        square = each.square_of_patch[each.patch_of_hole]
        ice = np.bincount(square, weights=each.true_logit) / np.bincount(square)
        ice = (ice - ice.mean()) / ice.std()
        shown = (each.square_brightness - 1.0) / each.settings.atlas_brightness_sd
        for is_exception in (True, False):
            rows = each.square_is_exception == is_exception
            correlation[is_exception].append((ice[rows] * shown[rows]).sum() / max(rows.sum(), 1))
    assert np.mean(correlation[False]) == pytest.approx(0.7, abs=0.06)
    assert abs(np.mean(correlation[True])) < 0.15
    patches = np.bincount(tables[0].square_of_patch)
    assert np.corrcoef(np.log(patches), np.log(tables[0].square_area_um2))[0, 1] > 0.6
    assert len(patches) == 25
    assert len(tables[0].patch_of_hole) == 3538


def test_an_atlas_takes_nothing_from_the_truth_of_a_seed():
    plain = TABLE_PRESETS["y1-like"]
    with_atlas = plain.model_copy(update={"atlas_brightness_correlation": 0.7})
    np.testing.assert_array_equal(simulate_tables(plain, 3).good, simulate_tables(with_atlas, 3).good)


def test_a_session_says_what_its_atlas_shows():
    small = TABLE_PRESETS["atlas"].model_copy(update={"holes": 400})
    tables = simulate_tables(small, 1)
    squares = to_session(tables, "atlas").squares
    np.testing.assert_allclose(squares["brightness"], tables.square_brightness)
    np.testing.assert_allclose(squares["area_um2"], tables.square_area_um2)
    assert to_session(simulate_tables(TABLE_PRESETS["small"], 1), "small").squares["brightness"].isna().all()
