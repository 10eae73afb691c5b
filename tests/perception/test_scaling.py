"""Scaling in numpy: judged by torch's and Pillow's own, and by what scaling may not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cryoscout.perception.scaling import scale_crops
from cryoscout.perception.training import scaled

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(150, 150, 64), (40, 64, 32), (17, 33, 64), (30, 30, 30)]
)
def test_it_is_torchs_antialiased_scaling(height: int, width: int, side: int) -> None:
    images = RNG.integers(0, 256, (300, height, width), dtype=np.uint8)
    ours, theirs = scale_crops(images, side), scaled(images, side)[:, 0].numpy()
    # They add up in another order, so that halves may be rounded the other way.
    off = np.abs(ours.astype(int) - theirs)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01


def test_it_is_pillows_bilinear_scaling() -> None:
    images = RNG.integers(0, 256, (3, 50, 70), dtype=np.uint8)
    theirs = [
        np.asarray(Image.fromarray(each.astype(np.float32)).resize((24, 24), Image.Resampling.BILINEAR))
        for each in images
    ]
    assert np.abs(scale_crops(images, 24) - np.array(theirs)).max() < 0.51


@given(
    level=st.integers(0, 255), height=st.integers(8, 60), width=st.integers(8, 60), side=st.integers(8, 60)
)
def test_one_grey_level_stays_as_it_is(level: int, height: int, width: int, side: int) -> None:
    images = np.full((2, height, width), level, dtype=np.uint8)
    assert (scale_crops(images, side) == level).all()


def test_no_crops_and_crops_of_the_size_pass() -> None:
    assert scale_crops(np.zeros((0, 20, 20), dtype=np.uint8), 8).shape == (0, 8, 8)
    images = RNG.integers(0, 256, (2, 16, 16), dtype=np.uint8)
    assert scale_crops(images, 16) is images
    assert torch.equal(scaled(images, 16)[:, 0], torch.from_numpy(images))
