"""Crops lie where the holes are, and a patch image keeps the relative brightness of its holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.perception.crops import cut_crops

PATCH = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)


@given(row=st.integers(0, 39), column=st.integers(0, 59), side=st.integers(1, 30))
def test_a_crop_holds_the_pixels_around_its_centre(row, column, side):
    (crop,) = cut_crops(PATCH, [[row + 0.3, column - 0.3]], ["h1"], side)
    assert crop.shape == (side, side)
    assert crop[side // 2, side // 2] == PATCH[row, column]
    rows = np.clip(np.arange(side) + row - side // 2, 0, 39)
    columns = np.clip(np.arange(side) + column - side // 2, 0, 59)
    assert np.array_equal(crop, PATCH[np.ix_(rows, columns)])


def test_no_holes_give_no_crops():
    assert cut_crops(PATCH, np.empty((0, 2)), [], 8).shape == (0, 8, 8)


def test_holes_outside_are_refused_by_name():
    with pytest.raises(InputError, match=r"Got h2 outside, h2 at row 10, column 61, instead"):
        cut_crops(PATCH, [[10, 10], [10, 61]], ["h1", "h2"], 8)
    with pytest.raises(InputError, match="h1 outside"):
        cut_crops(PATCH, [[np.nan, 3]], ["h1"], 8)


@pytest.mark.parametrize(("centres", "side"), [([[1, 2, 3]], 8), ([[1, 2]], 0), ([[1, 2], [3, 4]], 8)])
def test_wrong_shapes_are_refused(centres, side):
    with pytest.raises(InputError, match="Crops must have"):
        cut_crops(PATCH, centres, ["h1"], side)
