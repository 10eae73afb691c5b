"""The sheet of examples: a picture, the same for the same scene."""

from __future__ import annotations

import io

import numpy as np
import pytest
from image_scenes import small_scene
from PIL import Image

from cryoscout.simulate import example_sheet as sheet
from cryoscout.simulate.example_sheet import example_sheet


@pytest.fixture(autouse=True)
def _few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "CROPS_PER_KIND", 2)


def test_the_sheet_is_a_picture_with_bright_and_dark_and_does_not_change():
    scene = small_scene(41)
    png = example_sheet(scene, dpi=60)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == (810, 270)
        grey = np.asarray(picture.convert("L"))
    assert grey.std() > 40
    assert png == example_sheet(scene, dpi=60)


def test_a_scene_with_one_kind_alone_says_so_and_is_drawn():
    scene = small_scene(41, crystalline_logit=-20.0, crystalline_square_sd=0.0, contamination_logit=-20.0)
    assert len(example_sheet(scene, dpi=40)) > 1000
