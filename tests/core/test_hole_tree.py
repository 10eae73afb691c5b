"""The tree of holes: sorted indices, what lies above a hole, and the tier of a way."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import NOWHERE, HoleTree


def index(*of: int) -> np.ndarray:
    return np.array(of, dtype=np.int32)


TREE = HoleTree(index(0, 0, 1, 2, 3), index(0, 0, 1, 2), index(0, 0, 1))


def test_what_lies_above_a_hole():
    assert TREE.square_of_hole.tolist() == [0, 0, 0, 1, 2]
    assert TREE.grid_of_hole.tolist() == [0, 0, 0, 0, 1]
    assert TREE.grid_of_patch.tolist() == [0, 0, 0, 1]
    assert (TREE.n_holes, TREE.n_patches, TREE.n_squares, TREE.n_grids) == (5, 4, 3, 2)


@pytest.mark.parametrize(
    ("here", "there", "tier"), [(0, 1, 0), (0, 2, 1), (0, 3, 2), (0, 4, 3), (NOWHERE, 0, 3), (4, 0, 3)]
)
def test_the_tier_of_a_way(here, there, tier):
    assert TREE.tier_between(here, there) == tier


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (((1, 0), (0, 0), (0,)), "patch_of_hole must be sorted indices below 2"),
        (((0, 2), (0, 0), (0,)), "patch_of_hole must be sorted indices below 2"),
        (((0, 1), (0, 1), (0,)), "square_of_patch must be sorted indices below 1"),
        (((0, 1), (0, 0), (-1,)), "grid_of_square must be sorted"),
        (((-1, 1), (0, 0), (0,)), "patch_of_hole must be sorted"),
    ],
)
def test_indices_that_are_not_sorted_or_lead_nowhere_are_refused(arrays, message):
    with pytest.raises(InputError, match=message):
        HoleTree(*(index(*each) for each in arrays))


def test_a_tree_without_holes_is_a_tree():
    assert HoleTree(index(), index(), index()).n_grids == 0
