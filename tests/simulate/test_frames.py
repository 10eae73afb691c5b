"""Frames: where stage places lie in images, and that the session says the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_scenes import small_scene

from cryoscout.core.errors import InputError
from cryoscout.simulate.frames import (
    COARSE,
    Frame,
    hole_centres_px,
    holes_of_patch,
    patch_frame,
    square_centres_px,
    square_frame,
)
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.session import scene_to_session

SETTINGS = ImageSettings()


@given(st.floats(-900, 900), st.floats(-900, 900), st.integers(16, 2000), st.floats(0.001, 0.2))
def test_the_middle_of_a_frame_is_its_centre_and_a_coarser_one_shows_the_same(x_um, y_um, side_px, pixel_um):
    frame = Frame(x_um, y_um, side_px * COARSE, pixel_um)
    for seen in (frame, frame.coarser(COARSE)):
        middle = seen.places_px(np.array([x_um]), np.array([y_um]))[0]
        assert middle == pytest.approx((seen.side_px - 1) / 2, abs=1e-6)
        assert seen.half_um == pytest.approx(frame.half_um)
        assert seen.left_um - seen.pixel_um / 2 == pytest.approx(frame.left_um - frame.pixel_um / 2, abs=1e-6)


def test_all_holes_of_a_patch_lie_in_its_image_with_room_for_their_crops():
    scene = small_scene(21, holes=150)
    for patch in range(4):
        frame = patch_frame(scene, patch, SETTINGS)
        centres = hole_centres_px(scene, patch, SETTINGS)
        assert frame.side_px >= 1024
        assert frame.side_px % COARSE == 0
        assert centres.min() >= SETTINGS.crop_full_px / 2
        assert centres.max() <= frame.side_px - 1 - SETTINGS.crop_full_px / 2
    for square in range(2):
        side = square_frame(scene, square, SETTINGS).side_px
        assert square_centres_px(scene, square, SETTINGS).min() > 4 / 0.08
        assert square_centres_px(scene, square, SETTINGS).max() < side - 4 / 0.08


def test_the_session_places_holes_where_the_patch_image_has_them():
    scene = small_scene(22)
    holes = scene_to_session(scene, "s", images=SETTINGS).holes
    for patch in range(4):
        rows = holes_of_patch(scene, patch)
        middle = (patch_frame(scene, patch, SETTINGS).side_px - 1) / 2
        centres = hole_centres_px(scene, patch, SETTINGS)
        assert holes["y_px"].to_numpy()[rows] + middle == pytest.approx(centres[:, 0])
        assert holes["x_px"].to_numpy()[rows] + middle == pytest.approx(centres[:, 1])


def test_unknown_patches_and_squares_are_refused():
    scene = small_scene(23)
    with pytest.raises(InputError, match=r"A patch must be 0 to 3. Got 4 instead"):
        patch_frame(scene, 4, SETTINGS)
    with pytest.raises(InputError, match=r"A square must be 0 to 1. Got -1 instead"):
        square_frame(scene, -1, SETTINGS)
