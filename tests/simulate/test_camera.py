"""The camera: noise, spread, averaging and 8 bits, against slow and obvious ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cryoscout.core.grey_levels import stretched
from cryoscout.simulate import camera
from cryoscout.simulate.image_settings import ImageSettings

SETTINGS = ImageSettings()


@given(st.integers(16, 200), st.integers(1, 200))
def test_averaging_keeps_the_mean_and_uses_every_pixel_alike(full_px, small_px):
    small_px = min(small_px, full_px)
    weights = camera.averaging(full_px, small_px)
    assert weights.sum(axis=1) == pytest.approx(np.ones(small_px))
    assert weights.sum(axis=0) == pytest.approx(np.full(full_px, small_px / full_px))


def test_averaging_by_a_whole_number_is_the_mean_of_blocks():
    image = np.random.default_rng(0).random((150, 150))
    weights = camera.averaging(150, 50)
    assert weights @ image @ weights.T == pytest.approx(image.reshape(50, 3, 50, 3).mean((1, 3)))


@given(st.floats(0.0, 40.0))
def test_taps_of_a_blur_are_symmetric_sum_to_one_and_have_its_variance(sigma_px):
    taps = camera.gaussian_taps(sigma_px).astype(float)
    at = np.arange(len(taps)) - len(taps) // 2
    assert taps.sum() == pytest.approx(1.0, abs=1e-5)
    assert taps == pytest.approx(taps[::-1])
    assert (taps * at**2).sum() == pytest.approx(sigma_px**2, rel=0.05, abs=1e-6)


def test_blurring_is_convolution_along_rows_and_columns():
    images = np.random.default_rng(1).random((3, 40, 50)).astype(np.float32)
    taps = camera.gaussian_taps(1.3)
    reach = len(taps) // 2
    slow = ndimage.correlate1d(ndimage.correlate1d(images, taps, axis=1), taps, axis=2)
    assert camera.blurred(images, taps) == pytest.approx(slow[:, reach:-reach, reach:-reach], abs=1e-5)


@pytest.mark.parametrize("small_px", [40, 64, 100, 150])
def test_taps_for_smaller_images_leave_the_variance_that_averaging_leaves(small_px):
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((60, 152, 152)).astype(np.float32)
    full = camera.blurred(noise, camera.spread_taps(0.5))
    weights = camera.averaging(150, small_px)
    averaged = weights @ full @ weights.T
    white = rng.standard_normal((60, small_px + 2, small_px + 2)).astype(np.float32) * (small_px / 150)
    direct = camera.blurred(white, camera.spread_taps(0.5, 150, small_px))
    assert direct.std() == pytest.approx(averaged.std(), rel=0.03)


def test_a_detected_image_has_the_mean_of_the_dose_and_the_variance_of_its_electrons():
    transmitted = np.full((1, 402, 402), 0.5, dtype=np.float32)
    none = camera.spread_taps(0.0)
    electrons = camera.detected(transmitted, 80.0, 0.0, none, np.random.default_rng(3))
    assert electrons.shape == (1, 400, 400)
    assert electrons.mean() == pytest.approx(40.0, rel=0.005)
    assert electrons.var() == pytest.approx(40.0, rel=0.02)
    spread = camera.detected(transmitted, 80.0, 0.0, camera.spread_taps(0.5), np.random.default_rng(3))
    kept = float((camera.spread_taps(0.5).astype(float) ** 2).sum()) ** 2
    assert spread.var() == pytest.approx(40.0 * kept, rel=0.03)


@pytest.mark.parametrize("readout_e", [0.0, 6.0])
def test_the_expected_limits_are_those_of_the_full_image(readout_e):
    settings = SETTINGS.model_copy(update={"readout_e": readout_e})
    rows, columns = np.indices((802, 802))
    clear = (
        0.6 + 0.3 * (np.hypot(rows % 200 - 100, columns % 200 - 100) < 60) - 0.1 * (columns > 400)
    ).astype("f4")
    full = camera.detected(clear[None], 60.0, readout_e, camera.spread_taps(0.5), np.random.default_rng(4))
    expected = camera.expected_limits_e(clear[None], settings)
    assert expected == pytest.approx(np.percentile(full, [0.5, 99.5]).tolist(), rel=0.01)


@pytest.mark.parametrize("crop_px", [40, 64, 150])
def test_crops_are_cut_at_0_and_255_as_if_that_was_done_before_averaging(crop_px):
    levels = np.linspace(0.3, 1.05, 12, dtype=np.float32)
    transmitted = np.broadcast_to(levels[:, None, None], (12, 152, 152)).copy()
    electrons = camera.detected(transmitted, 60.0, 0.5, camera.spread_taps(0.5), np.random.default_rng(6))
    weights = camera.averaging(150, crop_px)
    slow = weights @ stretched(electrons, 25.0, 55.0) @ weights.T
    fast = camera.averaged_8_bit(
        (weights @ electrons @ weights.T).astype("f4"), 25.0, 55.0, SETTINGS, crop_px
    )
    inner = np.s_[:, 2:-2, 2:-2]
    assert fast[inner].mean((1, 2)) == pytest.approx(slow[inner].mean((1, 2)), abs=1.0)
    assert fast[inner].std((1, 2)) == pytest.approx(slow[inner].std((1, 2)), rel=0.06, abs=1.0)
    assert (camera.averaged_8_bit(electrons, 5.0, 5.0, SETTINGS, crop_px) == 128).all()
