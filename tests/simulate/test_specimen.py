"""What stands on a square: the scene's holes as they are, and what its ice gives between them."""

from __future__ import annotations

import numpy as np
import pytest
from image_scenes import clean_scene, small_scene, with_holes

from cryoscout.simulate import optics
from cryoscout.simulate.frames import Frame, holes_of_square, patch_frame
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.specimen import crystals_in_field, specimen_of

SETTINGS = ImageSettings()


def test_every_hole_of_the_scene_stands_at_its_place_with_its_ice():
    scene = small_scene(11)
    for square in range(2):
        specimen = specimen_of(scene, square, SETTINGS)
        holes = holes_of_square(scene, square)
        assert specimen.is_target.sum() == holes.stop - holes.start
        reach = len(specimen.kind) // 2
        at = tuple((scene.lattice_ij[holes] + reach).T)
        assert specimen.node_x_um[at] == pytest.approx(scene.x_um[holes])
        assert specimen.node_y_um[at] == pytest.approx(scene.y_um[holes])
        for name, of_scene in (
            ("kind", scene.kind),
            ("ice_nm", scene.thickness_nm),
            ("contamination", scene.contamination),
        ):
            assert (getattr(specimen, name)[at] == of_scene[holes]).all()
        assert (specimen.slope[at] == scene.thickness_gradient[holes]).all()


def test_nodes_that_the_scene_calls_missing_or_torn_are():
    scene = small_scene(12, missing_share=0.2, broken_share=0.2)
    assert len(scene.missing) > 5
    for patch, x_um, y_um, torn in scene.missing:
        specimen = specimen_of(scene, int(scene.square_of_patch[int(patch)]), SETTINGS)
        away = np.hypot(specimen.node_x_um - x_um, specimen.node_y_um - y_um)
        at = np.unravel_index(away.argmin(), away.shape)
        assert away[at] < 1e-6
        assert specimen.kind[at] == (optics.TORN if torn else optics.NO_HOLE)


def test_nodes_between_patches_have_the_films_ice_and_dry_where_it_is_thin():
    scene = small_scene(13, thickness_nm=20.0, field_thickness_sd_nm=20.0)
    specimen = specimen_of(scene, 0, SETTINGS)
    inside = ~specimen.is_target & np.isin(specimen.kind, (0, 1, 2))
    film = scene.film.thickness_nm(
        np.zeros(inside.sum(), np.int32), specimen.node_x_um[inside], specimen.node_y_um[inside]
    )
    expected = np.select(
        [film < scene.settings.empty_below_nm, film < scene.settings.dry_below_nm], [1, 2], 0
    )
    assert len(np.unique(expected)) == 3
    assert (specimen.kind[inside] == expected).all()
    vitreous = expected == 0
    assert specimen.ice_nm[inside][vitreous] == pytest.approx(film[vitreous])
    even = specimen_of(scene, 0, SETTINGS.model_copy(update={"film_mottle": 0.0, "film_ice_share": 0.5}))
    assert even.film_depth[inside] == pytest.approx(0.15 + 0.5 * np.maximum(film, 0) / 350)


def test_the_look_of_a_node_is_its_own():
    seeds = [specimen_of(small_scene(14), square, SETTINGS).seed for square in range(2)]
    assert len(np.unique(np.concatenate([s.ravel() for s in seeds]))) == sum(s.size for s in seeds)
    assert (seeds[0] == specimen_of(small_scene(14), 0, SETTINGS).seed).all()
    uneven, even = (
        specimen_of(small_scene(14), 0, SETTINGS.model_copy(update={"film_mottle": sd})).film_depth
        for sd in (0.01, 0.0)
    )
    assert (uneven - even).mean() == pytest.approx(0.0, abs=0.0015)
    assert (uneven - even).std() == pytest.approx(0.01, rel=0.1)


def test_the_opening_holds_all_patches_however_wide():
    scene = clean_scene(holes=400, patches=20, squares=1)
    specimen = specimen_of(scene, 0, SETTINGS.model_copy(update={"square_opening_um": 10.0}))
    widest = max(
        np.abs(scene.x_um - scene.square_x_um[0]).max(), np.abs(scene.y_um - scene.square_y_um[0]).max()
    )
    assert specimen.opening_um == pytest.approx(2 * (widest + SETTINGS.square_margin_um))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.7])
def test_crystals_cover_each_hole_as_far_as_its_contamination_says(share):
    scene = with_holes(clean_scene(), contamination=share)
    specimen = specimen_of(scene, 0, SETTINGS)
    frame = patch_frame(scene, 0, SETTINGS)
    no_specks = SETTINGS.model_copy(update={"specks_per_um2": 0.0})
    crystals = crystals_in_field(specimen, no_specks, frame, np.random.default_rng(0))
    axis = np.linspace(-0.6, 0.6, 61)
    x, y = np.meshgrid(axis, axis)
    disc = np.hypot(x, y) <= 0.6
    shares = []
    for hole in range(12):
        covered = np.zeros(x.shape, dtype=bool)
        for cx, cy, radius, angle, stretch, _ in crystals:
            dx, dy = scene.x_um[hole] + x - cx, scene.y_um[hole] + y - cy
            for at in np.argwhere(np.hypot(dx, dy) < 2 * radius * stretch):
                a, b = tuple(at)
                covered[a, b] |= optics.crystal_radius(dx[a, b], dy[a, b], radius, angle, stretch) < 1
        shares.append(covered[disc].mean())
    assert np.mean(shares) == pytest.approx(share, abs=0.03)


def test_crystals_on_the_film_keep_off_the_holes_of_the_scene_and_grow_with_dirt():
    scene = clean_scene()
    specimen = specimen_of(scene, 0, SETTINGS)
    frame = patch_frame(scene, 0, SETTINGS)
    many = SETTINGS.model_copy(update={"specks_per_um2": 3.0})
    crystals = crystals_in_field(specimen, many, frame, np.random.default_rng(1))
    assert len(crystals) > 50
    away = np.hypot(crystals[:, :1] - scene.x_um[:12], crystals[:, 1:2] - scene.y_um[:12])
    assert (away > 0.6 + crystals[:, 2:3]).all()
    wide = Frame(frame.centre_x_um, frame.centre_y_um, 2 * frame.side_px, frame.pixel_um)
    assert len(crystals_in_field(specimen, many, wide, np.random.default_rng(1))) > 2 * len(crystals)
    dirty = specimen_of(with_holes(scene, contamination=0.3), 0, SETTINGS)
    more = crystals_in_field(dirty, many, frame, np.random.default_rng(1))
    assert (
        np.hypot(more[:, :1] - scene.x_um[:12], more[:, 1:2] - scene.y_um[:12]).min(axis=1) > 0.9
    ).sum() > 1.3 * len(crystals) * 0.5
