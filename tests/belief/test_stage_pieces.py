"""Holes as leaves and blocks: the tables' patches and squares where these are small, cut where they are not."""

import numpy as np
import pytest

from cryoscout.belief.stage_pieces import BLOCK_UM, LEAF_UM, StagePieces
from cryoscout.core.hole_tree import HoleTree


def pieces(patch_of_hole, square_of_patch, grid_of_square, stage_um):
    tree = HoleTree(
        *(np.array(each, dtype=np.int32) for each in (patch_of_hole, square_of_patch, grid_of_square))
    )
    return StagePieces.of(tree.patch_of_hole, tree, np.array(stage_um, dtype=np.float64))


def test_small_patches_are_leaves_and_squares_blocks():
    found = pieces([0, 0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 1], [[0, 0], [4, 2], [40, 0], [90, 0], [5, 5]])
    assert found.leaf_of_hole.tolist() == [0, 0, 1, 2, 3]
    assert found.block_of_leaf.tolist() == [0, 0, 1, 2]
    assert found.grid_of_leaf.tolist() == [0, 0, 0, 1]
    assert found.leaf_um[0].tolist() == [2.0, 1.0]


def test_a_square_that_is_one_patch_is_cut_into_leaves():
    x = np.arange(0.0, 100.0, 2.0)
    found = pieces(np.zeros(len(x)), [0], [0], np.stack([x, np.zeros(len(x))], axis=1))
    assert set(found.block_of_leaf) == {0}
    for leaf in range(found.leaf_of_hole.max() + 1):
        assert np.ptp(x[found.leaf_of_hole == leaf]) < LEAF_UM
    assert found.leaf_of_hole.max() + 1 == 100 / LEAF_UM


def test_a_grid_that_is_one_square_is_cut_into_blocks():
    x = np.arange(0.0, 1000.0, 50.0)
    found = pieces(np.arange(len(x)), np.zeros(len(x)), [0], np.stack([x, np.zeros(len(x))], axis=1))
    for block in set(found.block_of_leaf):
        assert np.ptp(x[np.isin(found.leaf_of_hole, np.flatnonzero(found.block_of_leaf == block))]) < BLOCK_UM
    assert np.all(np.diff(found.block_of_leaf) >= 0)


def test_holes_without_a_position_stay_with_their_patch_where_it_is_whole():
    found = pieces([0, 0, 1], [0, 0], [0], [[0, 0], [np.nan, np.nan], [np.nan, 3.0]])
    assert found.leaf_of_hole.tolist() == [0, 0, 1]
    assert found.leaf_um[0].tolist() == [0.0, 0.0]
    assert np.isnan(found.leaf_um[1]).all()


def test_holes_without_a_position_are_a_leaf_of_their_own_where_the_patch_is_cut():
    found = pieces([0, 0, 0], [0], [0], [[0, 0], [100, 0], [np.nan, np.nan]])
    assert len(set(found.leaf_of_hole)) == 3
    assert np.isnan(found.leaf_um[found.leaf_of_hole[2]]).all()


@pytest.mark.parametrize("holes", [0, 1])
def test_few_holes_have_pieces(holes):
    found = pieces(np.zeros(holes), [0], [0], np.zeros((holes, 2)))
    assert len(found.block_of_leaf) == holes
