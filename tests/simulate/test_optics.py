"""The compiled transmission: a node's own random numbers, the shape of crystals, edges shared out over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_scenes import clean_scene

from cryoscout.simulate import optics
from cryoscout.simulate.frames import patch_frame
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.specimen import specimen_of

BARE = ImageSettings(rim_optical_depth=0, film_mottle=0, meniscus=0)


def _seen(
    pixel_um: float, side_px: int, thickness_nm: float = 50.0, settings: ImageSettings = BARE
) -> np.ndarray:
    """Transmission of a square field about the first hole of a clean scene."""
    scene = clean_scene(thickness_nm)
    s = specimen_of(scene, 0, settings)
    image = np.empty((1, side_px, side_px), np.float32)
    half = (side_px - 1) / 2 * pixel_um
    left, top = np.array([scene.x_um[0] - half]), np.array([scene.y_um[0] + half])
    tables = (s.square, s.kind, s.seed, s.ice_nm, s.slope, s.film_depth)
    optics.transmitted(left, top, pixel_um, image, np.empty((0, 6)), *tables)
    return image[0]


@given(st.integers(0, 2**62), st.integers(0, 10**7))
def test_random_numbers_of_a_node_lie_in_0_to_1(seed, number):
    assert 0.0 <= optics.uniform_of(seed, number) < 1.0


def test_random_numbers_of_a_node_are_even_and_unlike_those_of_the_next():
    table = np.array([[optics.uniform_of(seed, number) for number in range(60)] for seed in range(60)])
    assert np.histogram(table, 10, (0, 1))[0] == pytest.approx(360, abs=80)
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(table[:, :-1].ravel(), table[:, 1:].ravel())[0, 1]) < 0.05


def test_inside_and_outside_of_a_hole_follow_the_law_exactly():
    image = _seen(0.01, 141)
    assert image[70, 70] == pytest.approx(np.exp(-50 / 350), rel=1e-5)
    assert image[0, 70] == pytest.approx(np.exp(-50 / 350 - 0.15), rel=1e-5)


@pytest.mark.parametrize("pixel_um", [0.01, 0.025, 0.08])
def test_the_area_of_a_hole_is_right_at_any_pixel_size(pixel_um):
    image = _seen(pixel_um, round(1.5 / pixel_um))
    film, hole = np.exp(-50 / 350 - 0.15), np.exp(-50 / 350)
    area_um2 = ((image - film) / (hole - film)).sum() * pixel_um**2
    assert area_um2 == pytest.approx(np.pi * 0.6**2, rel=0.01)


def test_a_crystal_is_six_sided_and_ends_at_its_radius():
    turns = np.linspace(0, 2 * np.pi, 361)[:-1]
    out = np.array([optics.crystal_radius(np.cos(t), np.sin(t), 1.0, 0.0, 1.0) for t in turns])
    assert out.max() == pytest.approx(1.0)
    assert np.roll(out, 60) == pytest.approx(out)
    assert optics.crystal_radius(0.6, 0.0, 0.3, 0.0, 2.0) == pytest.approx(1.0)


def test_the_frame_of_a_patch_is_covered_by_the_tables_of_its_square():
    scene = clean_scene()
    s = specimen_of(scene, 0, BARE)
    frame = patch_frame(scene, 0, BARE)
    for x, y in ((-1, -1), (1, 1), (-1, 1), (1, -1)):
        away = np.hypot(
            s.node_x_um - frame.centre_x_um - x * frame.half_um,
            s.node_y_um - frame.centre_y_um - y * frame.half_um,
        )
        at = np.unravel_index(away.argmin(), away.shape)
        assert min(at) > 0
        assert max(at) < len(s.kind) - 1
