from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.spatial import cKDTree

from cryoscout.core.errors import DataError, InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_fit import fit_time_model
from cryoscout.simulate.physics import p_at_most, visible_ln_ctf
from cryoscout.simulate.scene import HoleKind, Scene, simulate_scene
from cryoscout.simulate.scene_settings import SceneSettings

TINY = SceneSettings(holes=240, patches=12, squares=5, grids=3)
SMALL = SceneSettings(holes=6000, patches=300, squares=40, grids=12)


def arrays_of(scene: Scene) -> dict[str, NDArray[np.generic]]:
    return {
        field.name: value
        for field in fields(scene)
        if isinstance(value := getattr(scene, field.name), np.ndarray)
    }


@st.composite
def any_settings(draw: st.DrawFn) -> SceneSettings:
    holes = draw(st.integers(1, 300))
    patches = draw(st.integers(1, holes))
    squares = draw(st.integers(1, patches))
    grids = draw(st.integers(1, squares))
    share = draw(st.sampled_from([1.0, 0.6, 0.05]))
    return SceneSettings(
        holes=holes,
        patches=patches,
        squares=squares,
        grids=grids,
        samples=draw(st.integers(1, grids)),
        sample_thickness_sd_nm=draw(st.sampled_from([0.0, 20.0])),
        holes_per_patch_spread=draw(st.floats(0, 2)),
        missing_share=draw(st.sampled_from([0.0, 0.05, 0.25])),
        broken_share=draw(st.sampled_from([0.0, 0.05, 0.25])),
        exposed_share=share,
        exposed_share_of_patch=draw(st.sampled_from([share, 1.0])),
        field_thickness_sd_nm=draw(st.sampled_from([0.0, 10.0])),
        difficulty=draw(st.floats(0, 1)),
        exposure_sd=draw(st.sampled_from([0.0, 0.1])),
        shots=draw(st.integers(1, 3)),
    )


@given(wanted=any_settings(), seed=st.integers(0, 2**40))
def test_any_settings_give_a_consistent_scene(wanted: SceneSettings, seed: int) -> None:
    scene = simulate_scene(wanted, seed)
    n, shots = wanted.holes, wanted.shots
    assert scene.n_holes == n == len(scene.x_um)
    assert len(np.unique(scene.patch_of_hole)) == wanted.patches == len(scene.square_of_patch)
    assert len(np.unique(scene.square_of_patch)) == wanted.squares == len(scene.grid_of_square)
    assert len(np.unique(scene.grid_of_square)) == wanted.grids
    for level in (scene.patch_of_hole, scene.square_of_patch, scene.grid_of_square):
        assert level.dtype == np.int32
        assert np.all(np.diff(level) >= 0)
    nodes = np.column_stack([scene.square_of_hole, scene.lattice_ij])
    assert len(np.unique(nodes, axis=0)) == n, "two holes at one node"
    angle = scene.lattice_angle_rad[scene.square_of_hole]
    i, j = scene.lattice_ij.T
    pitch = wanted.hole_pitch_um
    x_um = scene.square_x_um[scene.square_of_hole] + pitch * (i * np.cos(angle) - j * np.sin(angle))
    y_um = scene.square_y_um[scene.square_of_hole] + pitch * (i * np.sin(angle) + j * np.cos(angle))
    np.testing.assert_allclose(scene.x_um, x_um, atol=1e-6)
    np.testing.assert_allclose(scene.y_um, y_um, atol=1e-6)

    empty, dry = scene.kind == HoleKind.EMPTY, scene.kind == HoleKind.DRY
    assert np.all(scene.thickness_nm[empty] == 0)
    assert np.all(scene.thickness_gradient[empty | dry] == 0)
    assert np.all((scene.thickness_nm[~empty] > 0) & np.isfinite(scene.thickness_nm[~empty]))
    assert np.all((scene.contamination >= 0) & (scene.contamination <= 1))
    ctf = scene.ctf_max_res_angstrom
    assert ctf.shape == scene.started_s.shape == (n, shots)
    assert np.all(np.isinf(ctf) | ((ctf >= wanted.finest_angstrom) & (ctf <= wanted.coarsest_angstrom)))
    np.testing.assert_array_equal(np.isnan(scene.started_s).any(axis=1), ~scene.exposed)
    assert np.all(np.diff(scene.started_s[scene.exposed].ravel()) >= 0)
    p = scene.p_good()
    assert np.all((p >= 0) & (p <= 1))


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    first, again, other = (arrays_of(simulate_scene(TINY, seed)) for seed in (7, 7, 8))
    assert len(first) == 20
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    for name in ("x_um", "thickness_nm", "ctf_max_res_angstrom", "started_s"):
        assert not np.array_equal(first[name], other[name]), name


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"difficulty": 0.5}, ("x_um", "kind", "thickness_nm", "visible_ln_ctf", "started_s")),
        ({"crystalline_logit": 1.0}, ("x_um", "contamination", "started_s", "lattice_ij", "exposed")),
        ({"pause_share": 0.5}, ("kind", "thickness_nm", "ctf_max_res_angstrom", "missing")),
        ({"contamination_logit": -1.0}, ("x_um", "thickness_gradient", "lattice_angle_rad")),
        ({"exposure_sd": 0.3}, ("kind", "hidden_ln_ctf", "visible_ln_ctf")),
    ],
)
def test_another_setting_of_one_part_leaves_the_others_as_they_are(
    changes: dict[str, float], same: tuple[str, ...]
) -> None:
    first = arrays_of(simulate_scene(TINY, 1))
    other = arrays_of(simulate_scene(TINY.model_copy(update=changes), 1))
    for name in same:
        np.testing.assert_array_equal(first[name], other[name])
    assert any(not np.array_equal(first[name], other[name], equal_nan=name == "started_s") for name in first)


def test_holes_of_a_patch_are_the_nearest_to_its_middle_along_the_cameras_axes_and_patches_do_not_overlap() -> (
    None
):
    scene = simulate_scene(SMALL.model_copy(update={"missing_share": 0.0, "broken_share": 0.0}), 3)
    first = np.searchsorted(scene.patch_of_hole, np.arange(300))
    x, y = scene.x_um, scene.y_um
    width = np.maximum.reduceat(x, first) - np.minimum.reduceat(x, first)
    holes = np.bincount(scene.patch_of_hole)
    assert np.all(width <= SMALL.hole_pitch_um * (np.sqrt(holes) + 1))
    place = np.column_stack([1e4 * scene.grid_of_hole + x, y])
    near = cKDTree(place).query(place, k=2)[0][:, 1]
    assert near.min() > 0.999 * SMALL.hole_pitch_um
    assert np.median(near) == pytest.approx(SMALL.hole_pitch_um)


def test_nodes_without_a_hole_lie_on_the_lattice_beside_holes_and_no_hole_lies_there() -> None:
    scene = simulate_scene(SMALL.model_copy(update={"missing_share": 0.05, "broken_share": 0.1}), 4)
    patch, torn = scene.missing[:, 0].astype(int), scene.missing[:, 3] == 1
    assert 0.5 < torn.mean() < 0.8
    assert 0.15 < len(patch) / (len(patch) + scene.n_holes) < 0.3  # of the field, a ring wider than the holes
    whole = simulate_scene(SMALL.model_copy(update={"missing_share": 0.0, "broken_share": 0.0}), 4)
    assert len(whole.missing) == 0
    square = scene.square_of_patch[patch]
    angle = scene.lattice_angle_rad[square]
    dx = scene.missing[:, 1] - scene.square_x_um[square]
    dy = scene.missing[:, 2] - scene.square_y_um[square]
    i = (dx * np.cos(angle) + dy * np.sin(angle)) / SMALL.hole_pitch_um
    j = (-dx * np.sin(angle) + dy * np.cos(angle)) / SMALL.hole_pitch_um
    np.testing.assert_allclose(np.column_stack([i, j]), np.rint(np.column_stack([i, j])), atol=1e-6)
    holes = set(map(tuple, np.column_stack([scene.square_of_hole, scene.lattice_ij])))
    nodes = np.column_stack([square, np.rint(i), np.rint(j)]).astype(int)
    assert not holes & set(map(tuple, nodes))


def test_the_ice_is_the_film_where_it_holds_and_its_slope_is_the_films() -> None:
    settings = SMALL.model_copy(update={"hole_thickness_sd_nm": 0.0, "thickness_nm": 80.0})
    scene = simulate_scene(settings, 5)
    ice = (scene.kind != HoleKind.EMPTY) & (scene.kind != HoleKind.DRY)
    film = scene.film.thickness_nm(scene.square_of_hole, scene.x_um, scene.y_um)
    np.testing.assert_allclose(scene.thickness_nm[ice], film[ice])
    step = 1e-3
    ahead = scene.film.thickness_nm(scene.square_of_hole, scene.x_um + step, scene.y_um)
    up = scene.film.thickness_nm(scene.square_of_hole, scene.x_um, scene.y_um + step)
    slope = np.column_stack([ahead - film, up - film]) / step
    np.testing.assert_allclose(scene.thickness_gradient[ice], slope[ice], atol=1e-2)


def test_samples_grids_squares_and_the_field_each_vary_as_asked() -> None:
    none = {f"{name}_thickness_sd_nm": 0.0 for name in ("sample", "grid", "square", "field", "hole")} | {
        "square_gradient_sd_nm_per_um": 0.0,
        "thickness_nm": 300.0,
        "film_noise_nm": 0.0,
        "dry_below_nm": 5.0,
    }
    settings = SceneSettings(holes=8000, patches=2000, squares=1000, grids=500, samples=250, **none)
    for level, groups in (("sample", 250), ("grid", 500), ("square", 1000)):
        scene = simulate_scene(settings.model_copy(update={f"{level}_thickness_sd_nm": 20.0}), 6)
        assert len(np.unique(scene.film.square_mean_nm)) == groups
        assert np.unique(scene.film.square_mean_nm).std() == pytest.approx(20, rel=0.12)
    scene = simulate_scene(settings.model_copy(update={"field_thickness_sd_nm": 20.0}), 6)
    assert scene.thickness_nm.std() == pytest.approx(20, rel=0.05)
    scene = simulate_scene(settings.model_copy(update={"hole_thickness_sd_nm": 20.0}), 6)
    assert scene.thickness_nm.std() == pytest.approx(20, rel=0.05)


def test_holes_dry_and_empty_where_the_film_is_low_and_crystalline_ice_comes_in_squares() -> None:
    scene = simulate_scene(SMALL.model_copy(update={"crystalline_square_sd": 3.0}), 7)
    film = scene.film.thickness_nm(scene.square_of_hole, scene.x_um, scene.y_um)
    means = [film[scene.kind == kind].mean() for kind in (HoleKind.EMPTY, HoleKind.DRY, HoleKind.VITREOUS)]
    assert means[0] < means[1] < means[2]
    by_square = np.bincount(scene.square_of_hole, scene.kind == HoleKind.CRYSTALLINE) / np.bincount(
        scene.square_of_hole
    )
    assert by_square.max() > 0.5
    assert np.median(by_square) < 0.1


def test_contaminated_holes_are_those_with_much_contamination_and_neighbours_resemble() -> None:
    scene = simulate_scene(SMALL.model_copy(update={"contamination_logit": -2.5}), 8)
    called = scene.kind == HoleKind.CONTAMINATED
    clean = scene.kind == HoleKind.VITREOUS
    assert scene.contamination[called].min() > SMALL.contaminated_above >= scene.contamination[clean].max()
    assert np.all(scene.contamination[scene.kind == HoleKind.EMPTY] == 0)
    beside = (np.diff(scene.lattice_ij[:, 1]) == 1) & (np.diff(scene.lattice_ij[:, 0]) == 0)
    logit = np.log(np.maximum(scene.contamination, 1e-9))
    ice = (scene.contamination[1:] > 0) & (scene.contamination[:-1] > 0)
    assert np.corrcoef(logit[1:][beside & ice], logit[:-1][beside & ice])[0, 1] > 0.4


def test_ln_ctf_is_convex_in_the_thickness_and_lowest_at_the_best_one() -> None:
    thickness = np.linspace(5, 200, 400)
    vitreous = np.zeros(400, dtype=np.int8)
    ln_ctf = visible_ln_ctf(TINY, vitreous, thickness, np.zeros(400))
    assert np.all(np.diff(ln_ctf, 2) > -1e-12)
    assert thickness[ln_ctf.argmin()] == pytest.approx(TINY.best_thickness_nm, abs=0.5)
    assert np.exp(ln_ctf.min()) == pytest.approx(TINY.best_ctf_angstrom, rel=1e-3)
    twice = visible_ln_ctf(TINY, vitreous[:1], np.array([2 * TINY.best_thickness_nm]), np.zeros(1))
    assert twice[0] - np.log(TINY.best_ctf_angstrom) == pytest.approx(TINY.thick_loss)


def test_crystals_contamination_and_missing_ice_make_the_ctf_worse() -> None:
    kinds = np.array(list(HoleKind), dtype=np.int8)
    ln_ctf = visible_ln_ctf(TINY, kinds, np.full(5, 30.0), np.array([0, 0, 0, 0, 0.3]))
    assert np.all(ln_ctf[1:] > ln_ctf[0] + 0.3)


def test_the_probability_of_good_is_the_share_of_good_shots_and_the_hidden_part_is_as_wide_as_asked() -> None:
    settings = SMALL.model_copy(update={"shots": 200, "holes": 600, "patches": 30, "squares": 5, "grids": 2})
    scene = simulate_scene(settings, 9)
    share = (scene.ctf_max_res_angstrom <= 6.0).mean(axis=1)
    np.testing.assert_allclose(share, scene.p_good(), atol=0.17)
    assert share.mean() == pytest.approx(scene.p_good().mean(), abs=0.003)
    scene = simulate_scene(SMALL.model_copy(update={"difficulty": 0.4}), 9)
    assert scene.hidden_ln_ctf[scene.kind == HoleKind.VITREOUS].std() == pytest.approx(0.4, rel=0.05)
    certain = simulate_scene(TINY.model_copy(update={"exposure_sd": 0.0, "failed_share": 0.0}), 9)
    ice = certain.p_failed == 0
    np.testing.assert_array_equal(certain.p_good()[ice], certain.ctf_max_res_angstrom[ice, 0] <= 6)
    assert np.all(certain.p_good(1.9) == 0)
    assert np.all(certain.p_good(1e9)[ice] <= 1)


def test_a_threshold_beyond_the_fitted_range_counts_no_failed_fit_as_good() -> None:
    coarse = p_at_most(TINY, np.log([40.0]), 0.1, np.array([0.0]), 99.0)
    assert coarse[0] < 0.01


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_of_good_is_met_in_every_scene_without_touching_the_ice(share: float) -> None:
    plain = simulate_scene(SMALL, 10)
    asked = simulate_scene(SMALL.model_copy(update={"share_good": share}), 10)
    assert (asked.ctf_max_res_angstrom <= 6).mean() == pytest.approx(share, abs=0.015)
    np.testing.assert_array_equal(asked.thickness_nm, plain.thickness_nm)
    shift = asked.visible_ln_ctf - plain.visible_ln_ctf
    np.testing.assert_allclose(shift, shift[0], atol=1e-12)


def test_a_share_of_good_that_failed_fits_do_not_leave_is_refused() -> None:
    with pytest.raises(DataError, match=r"share_good must be at most 0\.[0-9]+.*Remedy"):
        simulate_scene(TINY.model_copy(update={"share_good": 0.9, "failed_share": 0.5}), 0)


def test_the_shares_of_failed_fits_are_as_asked() -> None:
    settings = SMALL.model_copy(
        update={"failed_share": 0.05, "failed_share_no_ice": 0.4, "coarsest_angstrom": 99.0}
    )
    scene = simulate_scene(settings, 11)
    failed = np.isinf(scene.ctf_max_res_angstrom[:, 0])
    no_ice = np.isin(scene.kind, [HoleKind.EMPTY, HoleKind.DRY])
    assert failed[no_ice].mean() == pytest.approx(0.4, abs=0.07)
    assert failed[~no_ice].mean() == pytest.approx(0.05, abs=0.012)


def test_a_sparsely_imaged_session_images_the_asked_share_in_few_patches_with_their_times() -> None:
    settings = SMALL.model_copy(update={"exposed_share": 0.1, "exposed_share_of_patch": 0.5})
    scene = simulate_scene(settings, 12)
    assert scene.exposed.mean() == pytest.approx(0.1, abs=0.005)
    of_patch = np.bincount(scene.patch_of_hole, scene.exposed) / np.bincount(scene.patch_of_hole)
    assert (of_patch > 0).mean() == pytest.approx(0.2, abs=0.01)
    assert np.all(np.abs(of_patch[of_patch > 0] - 0.5) < 0.1)
    assert np.isfinite(scene.ctf_max_res_angstrom).mean() > 0.9  # the truth of the others is known too


def test_the_fitted_time_model_recovers_the_simulated_one() -> None:
    scene = simulate_scene(SMALL.model_copy(update={"pause_share": 0.05}), 13)
    places = (scene.patch_of_hole, scene.square_of_hole, scene.grid_of_hole, np.arange(scene.n_holes))
    fit = fit_time_model(scene.started_s.ravel(), *places)
    np.testing.assert_allclose(fit.time_model.tiers_min(1), SMALL.time_model.tiers_min(1), rtol=0.1)


def test_a_scene_can_be_planned_on() -> None:
    scene = simulate_scene(TINY, 14)
    problem = RoutingProblem(
        tree=HoleTree(scene.patch_of_hole, scene.square_of_patch, scene.grid_of_square),
        prior_p_good=scene.p_good(),
        budget_min=60,
        time_model=scene.settings.time_model,
    )
    np.testing.assert_array_equal(problem.grid_of_hole, scene.grid_of_hole)


def test_settings_and_seeds_out_of_range_are_refused() -> None:
    for changes, message in (
        ({"patches": 4000}, "patches must be at most holes = 3538"),
        ({"samples": 17}, "samples must be at most grids = 16"),
        ({"empty_below_nm": 20.0}, "empty_below_nm must be at most dry_below_nm"),
        ({"exposed_share": 0.5, "exposed_share_of_patch": 0.2}, "exposed_share must be at most"),
        ({"missing_share": 0.3, "broken_share": 0.3}, "at most 0.5 together"),
        ({"difficulty": -1.0}, "difficulty"),
        ({"no_such": 1}, "no_such"),
    ):
        with pytest.raises(ValidationError, match=message):
            SceneSettings.model_validate(changes)
    with pytest.raises(InputError, match="seed must be 0 or more"):
        simulate_scene(TINY, -1)


def test_another_number_of_holes_keeps_the_shape_of_the_tree() -> None:
    tenth = SceneSettings().with_holes(354)
    assert (tenth.holes, tenth.patches, tenth.squares, tenth.grids) == (354, 17, 3, 2)
    one = SceneSettings().with_holes(1)
    assert (one.patches, one.squares, one.grids) == (1, 1, 1)
