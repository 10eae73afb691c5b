"""Pictures scaled to 8 bits as a whole."""

import numpy as np
import pytest

from cryoscout.core.grey_levels import stretched, to_8_bit


def test_8_bits_run_from_the_darkest_to_the_brightest_percentile():
    image = np.arange(10_000, dtype=np.float32).reshape(100, 100) - 3000
    grey = to_8_bit(image)
    assert grey.dtype == np.uint8
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()
    assert (grey == 0).mean() == pytest.approx(0.007, abs=0.003)
    assert (grey == 255).mean() == pytest.approx(0.007, abs=0.003)
    assert (to_8_bit(image, 20.0, 80.0) == 0).mean() == pytest.approx(0.2, abs=0.003)


def test_8_bits_drop_the_level_of_a_picture_and_its_contrast():
    image = np.random.default_rng(1).normal(1000, 50, (30, 30))
    grey = to_8_bit(image)
    # Half a grey level either way is rounding.
    assert np.abs(to_8_bit(image * 3 + 7).astype(int) - grey).max() <= 1
    assert grey.mean() == pytest.approx(127.5, abs=5)


def test_hot_pixels_do_not_set_the_contrast():
    image = np.random.default_rng(2).normal(1000, 50, (100, 100))
    hot = np.zeros(image.shape, dtype=bool)
    hot[::40, ::40] = True
    grey = to_8_bit(np.where(hot, 1e6, image))
    assert np.abs(grey.astype(int) - to_8_bit(image))[~hot].max() <= 8


def test_a_picture_of_one_brightness_is_grey():
    assert (to_8_bit(np.full((9, 9), 5.0)) == 128).all()
    assert (stretched(np.array([1.0, 2.0]), 3.0, 3.0) == 128).all()


def test_what_lies_beyond_the_limits_is_cut():
    assert stretched(np.array([-1.0, 0.0, 5.0, 10.0, 99.0]), 0.0, 10.0).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("level", [0.0, 5000.0])
def test_a_border_of_one_level_does_not_set_the_contrast(level):
    image = np.random.default_rng(3).normal(1000, 50, (60, 80))
    framed = np.full((70, 100), level)
    framed[4:64, 12:92] = image
    assert np.array_equal(to_8_bit(framed)[4:64, 12:92], to_8_bit(image))
    assert set(to_8_bit(framed)[:4].ravel()) == {0 if level == 0.0 else 255}


def test_a_small_spread_about_a_large_level_is_kept():
    image = 1e9 + np.random.default_rng(4).normal(0.0, 1.0, (50, 50))
    grey = to_8_bit(image)
    assert (grey.min(), grey.max()) == (0, 255)
