"""Images of a simulated specimen: what the ice does to the brightness, what scaling leaves, and the fast crops."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from image_scenes import clean_scene, middle_of, small_scene, with_holes
from scipy import ndimage
from scipy.spatial import KDTree

from cryoscout.core.errors import InputError
from cryoscout.perception.hole_finding import find_holes
from cryoscout.simulate.camera import averaging
from cryoscout.simulate.frames import hole_centres_px, holes_of_patch, holes_of_square, square_centres_px
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.images import (
    CROP_PX,
    _Beam,
    _crop_corners_px,
    _rngs,
    _View,
    crops_in_order,
    hole_crops,
    patch_counts,
    patch_image,
    square_counts,
    square_image,
)
from cryoscout.simulate.presets import IMAGE_PRESETS
from cryoscout.simulate.scene import HoleKind, Scene
from cryoscout.simulate.specimen import look_of_square, specimen_of
from examples import slow_but

SETTINGS = ImageSettings()
SHARP = ImageSettings(defocus_blur_nm=0, mtf_blur_px=0, readout_e=0, aim_error_um=0)
NO_DIRT = ImageSettings(specks_per_um2=0)


def cut_from_patch_image(
    scene: Scene, patch: int, settings: ImageSettings, crop_px: int = CROP_PX
) -> np.ndarray:
    """(m, crop_px, crop_px) uint8: the slow way, cut from the full patch image and averaged over areas."""
    image, _ = patch_image(scene, patch, settings)
    corners = _crop_corners_px(_View.of_patch(scene, patch, settings), scene, patch)
    side = settings.crop_full_px
    weights = averaging(side, crop_px)
    crops = [weights @ image[row : row + side, column : column + side] @ weights.T for row, column in corners]
    return np.rint(np.array(crops)).astype(np.uint8)


def _discs(image: np.ndarray, centres: np.ndarray, radius_px: float) -> list[np.ndarray]:
    """The pixels within a radius of each centre."""
    rows, columns = np.indices(image.shape)
    return [image[np.hypot(rows - r, columns - c) < radius_px] for r, c in centres]


def test_thicker_ice_is_darker_and_an_empty_hole_brightest():
    thickness = np.linspace(10, 120, 12)
    scene = clean_scene()
    thick = scene.thickness_nm.copy()
    thick[:12] = thickness
    kind = scene.kind.copy()
    thick[11], kind[11] = 0.0, HoleKind.EMPTY
    scene = with_holes(scene, thickness_nm=thick, kind=kind)
    counts = patch_counts(scene, 0, NO_DIRT)
    level = np.array([disc.mean() for disc in _discs(counts, hole_centres_px(scene, 0, NO_DIRT), 30)])
    assert (np.diff(level[:11]) < 0).all()
    assert level[11] == pytest.approx(NO_DIRT.dose_e_per_px * NO_DIRT.gain_counts_per_e, rel=0.01)
    assert level[11] > level[:11].max()


def test_the_level_of_a_hole_follows_beer_and_lamberts_law():
    scene = clean_scene(80.0)
    settings = NO_DIRT.model_copy(update={"meniscus": 0.0, "ice_mean_free_path_nm": 320.0})
    counts = patch_counts(scene, 0, settings)
    level = np.mean([disc.mean() for disc in _discs(counts, hole_centres_px(scene, 0, settings), 40)])
    assert level == pytest.approx(20 * 60 * np.exp(-80 / 320), rel=0.003)


def test_a_slope_and_a_meniscus_show_but_leave_the_mean_of_the_hole():
    flat = clean_scene(50.0)
    steep = with_holes(flat, thickness_gradient=np.array([40.0, 0.0]))
    settings = NO_DIRT.model_copy(update={"meniscus": 0.4, "aim_error_um": 0.0})
    row, column = np.round(hole_centres_px(flat, 0, settings)[0]).astype(int)
    hole = patch_counts(steep, 0, settings)[row - 40 : row + 41, column - 40 : column + 41]
    assert hole[:, :20].mean() > hole[:, -20:].mean() * 1.02
    plain, curved = clean_scene(50.0), settings.model_copy(update={"meniscus": 0.0})
    means = []
    for scene, chosen in ((plain, curved), (steep, settings)):
        discs = _discs(
            patch_counts(scene, 0, chosen), hole_centres_px(scene, 0, chosen), 0.5 * 1200 / 10.5 - 4
        )
        means.append(np.mean([disc.mean() for disc in discs]))
    assert means[1] == pytest.approx(means[0], rel=0.008)


def test_the_noise_of_a_flat_hole_is_that_of_counted_electrons():
    scene = with_holes(clean_scene(), kind=HoleKind.EMPTY, thickness_nm=0.0)
    settings = SHARP.model_copy(update={"specks_per_um2": 0.0, "gain_counts_per_e": 7.0})
    counts = patch_counts(scene, 0, settings)
    disc = np.concatenate(_discs(counts / 7.0, hole_centres_px(scene, 0, settings), 35))
    assert disc.mean() == pytest.approx(60.0, rel=0.005)
    assert disc.var() == pytest.approx(60.0, rel=0.03)
    with_readout = settings.model_copy(update={"readout_e": 5.0})
    more = np.concatenate(
        _discs(patch_counts(scene, 0, with_readout) / 7.0, hole_centres_px(scene, 0, settings), 35)
    )
    assert more.var() == pytest.approx(85.0, rel=0.03)


@pytest.mark.parametrize("thickness_nm", [20.0, 60.0, 150.0])
def test_a_patch_image_uses_the_whole_8_bits(thickness_nm):
    image, _ = patch_image(clean_scene(thickness_nm), 0, SETTINGS)
    assert image.dtype == np.uint8
    assert (image.min(), image.max()) == (0, 255)
    assert 0.003 < (image == 0).mean() < 0.02
    assert 0.003 < (image == 255).mean() < 0.02


def test_the_level_within_the_patch_survives_the_scaling_but_not_that_of_the_patch():
    levels = []
    for shift in (0.0, 60.0):
        scene = clean_scene(40.0 + shift)
        thick = scene.thickness_nm.copy()
        thick[:6] += 15.0
        levels.append(middle_of(hole_crops(with_holes(scene, thickness_nm=thick), 0, NO_DIRT)))
    for level in levels:
        assert level[:6].max() < level[6:].min() - 4
    # All the ice 60 nm thicker: 16 % darker on the camera, about the same in the crops, but for the noise.
    assert np.abs(levels[0] - levels[1]).max() < 8
    assert levels[0][:6].mean() - levels[0][6:].mean() == pytest.approx(
        levels[1][:6].mean() - levels[1][6:].mean(), abs=4
    )
    dark, bright = (patch_counts(clean_scene(nm), 0, NO_DIRT).mean() for nm in (100.0, 40.0))
    assert dark / bright == pytest.approx(np.exp(-60 / 350), rel=0.01)


def test_with_less_ice_on_the_film_the_contrast_tells_the_thickness():
    settings = NO_DIRT.model_copy(update={"film_ice_share": 0.0})

    def contrast(thickness_nm: float) -> float:
        crops = hole_crops(clean_scene(thickness_nm), 0, settings).astype(float)
        return middle_of(crops).mean() - crops[:, :5, :5].mean()

    assert contrast(10.0) > contrast(40.0) + 20


def test_rendered_holes_lie_where_the_scene_says():
    scene = clean_scene(30.0)
    counts = patch_counts(scene, 0, NO_DIRT)
    smooth = ndimage.gaussian_filter(counts, 3)
    film, hole = np.percentile(smooth, [20, 95])
    labels, _ = ndimage.label(smooth > (film + hole) / 2)
    _, centres = patch_image(scene, 0, NO_DIRT)
    at = labels[tuple(np.round(centres).astype(int).T)]
    assert (at > 0).all()
    found = np.array(ndimage.center_of_mass(labels > 0, labels, at))
    assert np.abs(found - centres).max() < 0.7


def test_y_points_up_on_the_stage_and_rows_go_down():
    scene = clean_scene()
    centres = hole_centres_px(scene, 0, SETTINGS)
    holes = holes_of_patch(scene, 0)
    assert np.argmax(scene.y_um[holes]) == np.argmin(centres[:, 0])
    assert np.argmax(scene.x_um[holes]) == np.argmax(centres[:, 1])
    step_px = np.diff(centres[:2], axis=0)[0]
    step_um = np.array([scene.x_um[1] - scene.x_um[0], scene.y_um[1] - scene.y_um[0]])
    assert step_px[1] * 0.0105 == pytest.approx(step_um[0])
    assert -step_px[0] * 0.0105 == pytest.approx(step_um[1])


@pytest.mark.parametrize("crop_px", slow_but([48], [48, 64, 150]))
def test_fast_crops_have_the_mean_variance_and_level_of_those_cut_from_the_full_image(crop_px):
    scene = small_scene(5, crystalline_logit=-1.0)
    fast = np.concatenate([hole_crops(scene, p, SETTINGS, crop_px) for p in range(4)]).astype(float)
    slow = np.concatenate([cut_from_patch_image(scene, p, SETTINGS, crop_px) for p in range(4)]).astype(float)
    assert fast.shape == slow.shape == (48, crop_px, crop_px)
    assert fast.mean() == pytest.approx(slow.mean(), abs=2.0)
    # Each hole: the same things at the same places, and the same level.
    level = middle_of(fast) - middle_of(slow)
    assert np.abs(level).max() < 6
    assert np.abs(level[scene.kind != HoleKind.CRYSTALLINE]).max() < 4
    assert fast.std(axis=(1, 2)) == pytest.approx(slow.std(axis=(1, 2)), rel=0.08)
    blurred = [ndimage.gaussian_filter(crops, (0, 2, 2)) for crops in (fast, slow)]
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*blurred, strict=True)]
    assert np.median(alike) > 0.95

    def noise(crops: np.ndarray) -> tuple[float, float]:
        """Variance of a pixel about its neighbourhood, and covariance of neighbours."""
        high = crops - ndimage.gaussian_filter(crops, (0, 3, 3))
        inner = high[:, crop_px // 3 : -crop_px // 3, crop_px // 3 : -crop_px // 3]
        return float(inner.var()), float((inner[:, :, 1:] * inner[:, :, :-1]).mean())

    (variance, beside), (true_variance, true_beside) = noise(fast), noise(slow)
    assert variance == pytest.approx(true_variance, rel=0.06)
    assert beside == pytest.approx(true_beside, abs=0.04 * true_variance)


def test_a_crop_is_centred_on_its_hole_but_for_the_aim_error():
    scene = clean_scene(30.0)

    def off_px(aim_error_um: float) -> np.ndarray:
        settings = NO_DIRT.model_copy(update={"aim_error_um": aim_error_um})
        crops = ndimage.gaussian_filter(hole_crops(scene, 0, settings, 75).astype(float), (0, 2, 2))
        inside = crops > (crops[:, 37, 37, None, None] + crops[:, :4, :4].mean((1, 2), keepdims=True)) / 2
        return np.array([ndimage.center_of_mass(hole) for hole in inside]) - 37

    assert np.abs(off_px(0.0)).max() < 0.7
    wide = off_px(0.05)
    assert 1.2 < wide.std() < 3.0


def test_kinds_look_different():
    scene = clean_scene(40.0)
    kind, thickness = scene.kind.copy(), scene.thickness_nm.copy()
    for k in HoleKind:
        kind[2 * k : 2 * k + 2] = k
    thickness[2:4], thickness[4:6] = 0.0, 4.0
    dirt = np.where(kind == HoleKind.CONTAMINATED, 0.4, 0.0)
    scene = with_holes(scene, kind=kind, thickness_nm=thickness, contamination=dirt)
    crops = ndimage.gaussian_filter(hole_crops(scene, 0, NO_DIRT).astype(float), (0, 1.2, 1.2))[
        :, 20:44, 20:44
    ]
    level, texture = crops.mean((1, 2)), crops.std((1, 2))
    assert level[2:4].min() > level[4:6].max() > level[:2].max()
    assert texture[6:8].min() > 1.3 * texture[:4].max()
    assert crops[8:10].min() < crops[:8].min() - 40


@pytest.mark.parametrize("shares", slow_but([(0.2, 0.8)], [(0.2, 0.8), (0.05, 0.5)]), ids=str)
def test_contamination_covers_the_share_of_the_hole_that_the_scene_says(shares):
    for share in shares:
        scene = with_holes(clean_scene(20.0), contamination=share, kind=HoleKind.CONTAMINATED)
        settings = SHARP.model_copy(
            update={"dirt_mean_free_path_nm": 20.0, "specks_per_um2": 0.0, "dose_e_per_px": 1e4}
        )
        counts = patch_counts(scene, 0, settings) / 20 / 1e4
        discs = _discs(counts, hole_centres_px(scene, 0, settings), 600 / 10.5 - 2)
        covered = np.mean([(disc < 0.85 * np.exp(-20 / 350)).mean() for disc in discs])
        assert covered == pytest.approx(share, abs=0.05)


def test_missing_holes_are_film_and_torn_ones_brighter_and_wider():
    scene = small_scene(4, missing_share=0.15, broken_share=0.15, contamination_logit=-20.0)
    patch = int(np.bincount(scene.missing[:, 0].astype(int)).argmax())
    counts = ndimage.gaussian_filter(patch_counts(scene, patch, NO_DIRT), 2)
    from cryoscout.simulate.frames import patch_frame

    frame = patch_frame(scene, patch, NO_DIRT)
    of_patch = scene.missing[scene.missing[:, 0] == patch]
    at = frame.places_px(of_patch[:, 1], of_patch[:, 2])
    inside = ((at > 80) & (at < frame.side_px - 80)).all(axis=1)
    assert inside.any()
    vacuum = NO_DIRT.dose_e_per_px * NO_DIRT.gain_counts_per_e
    for (row, column), torn in zip(at[inside], of_patch[inside, 3], strict=True):
        around = counts[int(row) - 58 : int(row) + 59, int(column) - 58 : int(column) + 59]
        if torn:
            assert around[50:67, 50:67].mean() == pytest.approx(vacuum, rel=0.03)
            assert around[58, 1:4].mean() > 0.9 * vacuum
        else:
            assert around.max() < 0.93 * vacuum


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    scene = small_scene(7)
    assert hole_crops(scene, 1, SETTINGS).tobytes() == hole_crops(small_scene(7), 1, SETTINGS).tobytes()
    assert (
        patch_image(scene, 1, SETTINGS)[0].tobytes() == patch_image(small_scene(7), 1, SETTINGS)[0].tobytes()
    )
    assert (
        square_image(scene, 1, SETTINGS)[0].tobytes()
        == square_image(small_scene(7), 1, SETTINGS)[0].tobytes()
    )
    other = replace(scene, seed=8)
    assert hole_crops(scene, 1, SETTINGS).tobytes() != hole_crops(other, 1, SETTINGS).tobytes()


def test_every_image_of_every_scene_draws_from_generators_of_its_own():
    streams = [
        tuple(rng.random(3))
        for seed in (0, 1)
        for what in (0, 1)
        for number in range(3)
        for rng in _rngs(seed, what, number)
    ]
    assert len(set(streams)) == len(streams) == 2 * 2 * 3 * 4


def test_an_uneven_beam_is_a_slope_and_a_fall_of_the_settings_size():
    rng = np.random.default_rng(3)
    at = np.linspace(-1.0, 1.0, 3)
    slopes, falls = [], []
    for _ in range(400):
        brightness = np.log(_Beam.drawn(0.2, rng).brightness(at, at).astype(float))
        slopes.append((brightness[1, 2] - brightness[1, 0]) / 2)
        falls.append(brightness[1, 1] - brightness[1, [0, 2]].mean())
    # Along x the slope, and what a fall about a middle off the centre adds.
    assert np.std(slopes) == pytest.approx(0.2, rel=0.15)
    assert np.mean(slopes) == pytest.approx(0.0, abs=0.04)
    assert np.min(falls) >= 0.0
    assert np.mean(falls) == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.15)


def test_the_beams_slopes_lie_along_columns_and_rows():
    at = np.linspace(-1.0, 1.0, 5)
    along_x = _Beam((0.3, 0.0), 0.0, (0.0, 0.0)).brightness(at, at[:3])
    assert along_x.shape == (3, 5)
    assert np.log(along_x) == pytest.approx(np.broadcast_to(0.3 * at, (3, 5)), abs=1e-6)
    along_y = _Beam((0.0, 0.3), 0.0, (0.0, 0.0)).brightness(at, at)
    assert np.log(along_y) == pytest.approx(np.broadcast_to(0.3 * at[:, None], (5, 5)), abs=1e-6)


@pytest.mark.parametrize(
    ("slope", "ends"),
    [((0.3, 0.0), (np.s_[:, :50], np.s_[:, -50:])), ((0.0, 0.3), (np.s_[-50:], np.s_[:50]))],
)
def test_a_slope_is_that_from_the_middle_to_the_border_and_y_points_up(slope, ends, monkeypatch):
    monkeypatch.setattr(_Beam, "drawn", lambda spread, rng: _Beam(slope, 0.0, (0.0, 0.0)))
    scene, uneven = clean_scene(40.0), NO_DIRT.model_copy(update={"uneven_illumination": 0.3})
    ratio = patch_counts(scene, 0, uneven).astype(float) / patch_counts(scene, 0, NO_DIRT)
    low, high = (np.log(np.median(ratio[end])) for end in ends)
    assert (low, high) == pytest.approx((-0.3, 0.3), abs=0.03)


def test_crops_and_patch_image_have_the_same_beam():
    scene = small_scene(5)
    settings = NO_DIRT.model_copy(update={"uneven_illumination": 0.4, "film_mottle": 0.0})
    for patch in range(4):
        fast, slow = hole_crops(scene, patch, settings), cut_from_patch_image(scene, patch, settings)
        assert middle_of(fast.astype(float)) == pytest.approx(middle_of(slow.astype(float)), abs=6)


def test_an_uneven_beam_shows_in_a_patch_image_and_leaves_all_else():
    scene = clean_scene(40.0)
    uneven = NO_DIRT.model_copy(update={"uneven_illumination": 0.3})
    even_counts, counts = (patch_counts(scene, 0, settings).astype(float) for settings in (NO_DIRT, uneven))
    ratio = ndimage.zoom(ndimage.gaussian_filter(counts, 40) / ndimage.gaussian_filter(even_counts, 40), 0.02)
    assert np.ptp(np.log(ratio)) > 0.1
    # Smooth: a plane and a bowl say nearly all of it.
    y, x = np.indices(ratio.shape) / len(ratio)
    terms = np.stack([np.ones(ratio.size), *(t.ravel() for t in (x, y, x**2, y**2))], axis=1)
    rest = np.linalg.lstsq(terms, np.log(ratio).ravel(), rcond=None)[1]
    assert rest[0] / ratio.size < 1e-4
    assert (square_counts(scene, 0, uneven) == square_counts(scene, 0, NO_DIRT)).all()


def test_squares_differ_in_film_and_dirt_and_each_looks_the_same_everywhere():
    scene = small_scene(5)
    settings = SETTINGS.model_copy(update={"square_spread": 0.8})
    looks = [look_of_square(scene, square, settings) for square in range(2)]
    assert looks[0] != looks[1]
    assert looks[0] == look_of_square(scene, 0, settings)
    assert look_of_square(scene, 0, SETTINGS) == SETTINGS
    own = [look_of_square(replace(scene, seed=seed), 0, settings) for seed in range(300)]
    for name, spread in (
        ("film_optical_depth", 0.4), ("film_mottle", 0.8), ("rim_optical_depth", 0.8), ("specks_per_um2", 0.8),
    ):  # fmt: skip
        ln = np.log([getattr(look, name) / getattr(SETTINGS, name) for look in own])
        assert np.std(ln) == pytest.approx(spread, rel=0.15)
        assert np.mean(ln) == pytest.approx(0.0, abs=0.15)
    # The ice, the holes and the aim stay.
    assert hole_crops(scene, 0, settings).tobytes() != hole_crops(scene, 0, SETTINGS).tobytes()
    assert specimen_of(scene, 0, looks[0]).ice_nm == pytest.approx(specimen_of(scene, 0, SETTINGS).ice_nm)


def test_another_process_makes_the_same_crops():
    code = (
        "import hashlib; from cryoscout.simulate.scene import simulate_scene;"
        "from cryoscout.simulate.scene_settings import SceneSettings;"
        "from cryoscout.simulate.image_settings import ImageSettings;"
        "from cryoscout.simulate.images import hole_crops;"
        "s = simulate_scene(SceneSettings(holes=48, patches=4, squares=2, grids=1), 7);"
        "print(hashlib.sha256(hole_crops(s, 2, ImageSettings()).tobytes()).hexdigest())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    import hashlib

    assert told.strip() == hashlib.sha256(hole_crops(small_scene(7), 2, SETTINGS).tobytes()).hexdigest()


@pytest.mark.slow
def test_crops_of_the_preset_y3_have_the_level_of_those_cut_from_the_full_image():
    scene, settings = small_scene(5), IMAGE_PRESETS["y3"]
    fast = np.concatenate([hole_crops(scene, p, settings) for p in range(4)]).astype(float)
    slow = np.concatenate([cut_from_patch_image(scene, p, settings) for p in range(4)]).astype(float)
    assert np.abs(middle_of(fast) - middle_of(slow)).max() < 8
    assert fast.std(axis=(1, 2)) == pytest.approx(slow.std(axis=(1, 2)), rel=0.1)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_patch_alone_is_as_in_a_series(workers):
    scene = small_scene(9)
    series = dict(crops_in_order(scene, ["a", "b", "c", "d"], SETTINGS, 32, workers))
    assert list(series) == ["a", "b", "c", "d"]
    for patch in (3, 0, 2, 1):
        assert series["abcd"[patch]].tobytes() == hole_crops(scene, patch, SETTINGS, 32).tobytes()


def test_crops_in_order_stay_few_patches_ahead(monkeypatch):
    from cryoscout.simulate import images

    asked = []

    class Ids(list):
        def __iter__(self):
            for patch_id in super().__iter__():
                asked.append(patch_id)
                yield patch_id

    monkeypatch.setattr(images, "hole_crops", lambda *_: np.zeros((1, 2, 2), "u1"))
    scene = small_scene(2, holes=120, patches=40)
    crops = crops_in_order(scene, Ids(map(str, range(40))), SETTINGS, 32, 2)
    assert next(crops)[0] == "0"
    assert len(asked) <= 6
    assert [patch_id for patch_id, _ in crops] == [str(patch) for patch in range(1, 40)]


def test_the_dirt_does_not_depend_on_what_is_asked_for():
    """A crop and the patch image show the same crystals: the darkest places agree."""
    scene = small_scene(5, contamination_logit=-1.5)
    fast = hole_crops(scene, 0, SETTINGS, 75).astype(float)
    slow = cut_from_patch_image(scene, 0, SETTINGS, 75).astype(float)
    dark = [ndimage.gaussian_filter(crops, (0, 1, 1)) < 60 for crops in (fast, slow)]
    assert dark[0].any()
    assert (dark[0] & dark[1]).sum() > 0.8 * (dark[0] | dark[1]).sum()


def _found_share(image: np.ndarray, centres: np.ndarray, within_px: float) -> float:
    holes = find_holes(image).holes
    places = np.array([(hole.row_px, hole.column_px) for hole in holes])
    return float((KDTree(places).query(centres)[0] < within_px).mean())


@pytest.mark.slow
@pytest.mark.parametrize("patch", [0, 3])
def test_find_holes_finds_the_intact_holes_of_a_patch_image(patch):
    scene = small_scene(6, holes=88)
    holes = holes_of_patch(scene, patch)
    intact = (scene.kind[holes] == HoleKind.VITREOUS) | (scene.kind[holes] == HoleKind.EMPTY)
    centres = hole_centres_px(scene, patch, SETTINGS)[intact]
    assert _found_share(patch_counts(scene, patch, SETTINGS), centres, 8) >= 0.9


def test_find_holes_finds_the_intact_holes_of_a_square_image():
    scene = small_scene(6, holes=88)
    counts, centres = square_counts(scene, 0, SETTINGS), square_centres_px(scene, 0, SETTINGS)
    kind = scene.kind[holes_of_square(scene, 0)]
    intact = (kind == HoleKind.VITREOUS) | (kind == HoleKind.EMPTY)
    assert _found_share(counts, centres[intact], 4) >= 0.9


def test_a_square_image_shows_bars_around_and_holes_within():
    scene = clean_scene()
    image, centres = square_image(scene, 0, NO_DIRT)
    side = len(image)
    assert image.shape == (side, side)
    border = np.concatenate(
        [image[:20].ravel(), image[-20:].ravel(), image[:, :20].ravel(), image[:, -20:].ravel()]
    )
    assert border.max() < 20
    assert np.median(image[side // 3 : -side // 3, side // 3 : -side // 3]) > 120
    holes = np.mean([disc.mean() for disc in _discs(image, centres, 5)])
    film = np.median([np.percentile(disc, 5) for disc in _discs(image, centres, 14)])
    assert holes > film + 10


def test_what_cannot_be_drawn_is_refused():
    scene = clean_scene()
    for crop_px in (15, 151, 0, -3):
        with pytest.raises(InputError, match=rf"side of a crop must be 16 to 150 px.*Got {crop_px} instead"):
            hole_crops(scene, 0, SETTINGS, crop_px)
    for patch in (-1, 4):
        with pytest.raises(InputError, match=r"A patch must be 0 to 3"):
            patch_image(scene, patch, SETTINGS)
    with pytest.raises(InputError, match=r"A square must be 0 to 1"):
        square_image(scene, 2, SETTINGS)
    with pytest.raises(InputError, match="an id for each of 4 patches"):
        crops_in_order(scene, ["a"], SETTINGS)
    with pytest.raises(InputError, match="hole_diameter_um must be at most"):
        hole_crops(clean_scene(hole_diameter_um=1.6), 0, SETTINGS)
