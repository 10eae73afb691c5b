"""What is believed of places that were not looked at: against draws of the same model, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.belief.effects import Y1_EFFECTS, EffectBelief
from cryoscout.belief.unseen import FLAT_UNSEEN, Y1_UNSEEN, believe_unseen, draw_looks
from cryoscout.core.hole_tree import HoleTree

PRIOR = Y1_UNSEEN.model_copy(update={"spread_weighs": 1e9, "mean_variance": 1.0})


def tree_of(n_squares=6, patches=2, holes=8, seen_squares=3):
    """Squares of two grids; the last ones show no patches."""
    square_of_patch = np.repeat(np.arange(seen_squares), patches).astype(np.int32)
    return HoleTree(
        np.repeat(np.arange(len(square_of_patch)), holes).astype(np.int32),
        square_of_patch,
        (np.arange(n_squares) % n_squares >= n_squares // 2).astype(np.int32),
    )


def believed(tree, location, features=None, good=None, prior=PRIOR, room=None):
    belief = EffectBelief(location, tree.patch_of_hole, tree, Y1_EFFECTS)
    if good is not None:
        belief.observe_many(np.arange(len(location)), good)
    looked = np.bincount(tree.square_of_patch, minlength=tree.n_squares) > 0
    features = np.empty((tree.n_squares, 0)) if features is None else features
    everything = np.ones(tree.n_patches, dtype=bool)
    return believe_unseen(
        tree, location, belief.evidence, Y1_EFFECTS, looked, everything, features, prior, room
    )


def test_the_prediction_of_unseen_squares_is_that_of_the_joint_gaussian():
    rng = np.random.default_rng(0)
    tree = tree_of()
    location = rng.normal(-1.0, 2.0, tree.n_holes)
    found = believed(tree, location)
    level = location.reshape(tree.n_patches, -1).mean(axis=1)
    apart = ((location - level[tree.patch_of_hole]) ** 2).sum() / tree.n_holes * tree.n_patches
    free = (tree.n_holes - tree.n_patches) / tree.n_holes * tree.n_patches
    within = (1e9 * PRIOR.within + apart) / (1e9 + free)
    square, grid = tree.square_of_patch, tree.grid_of_patch
    covariance = (
        PRIOR.mean_variance
        + PRIOR.grid * (grid[:, None] == grid)
        + PRIOR.square * (square[:, None] == square)
        + np.eye(tree.n_patches) * (PRIOR.patch + within / 8)
    )
    every, on = np.arange(tree.n_squares), tree.grid_of_square
    cross = (
        PRIOR.mean_variance + PRIOR.grid * (on[:, None] == grid) + PRIOR.square * (every[:, None] == square)
    )
    gain = np.linalg.solve(covariance, cross.T).T
    np.testing.assert_allclose(found.prediction, PRIOR.mean + gain @ (level - PRIOR.mean), rtol=1e-6)
    variance = PRIOR.mean_variance + PRIOR.grid + PRIOR.square - np.einsum("ij,ij->i", gain, cross)
    np.testing.assert_allclose(found.prediction_shared, variance, rtol=1e-5)


def test_results_move_what_is_believed_of_unseen_squares_of_the_grid():
    tree = tree_of()
    location = np.full(tree.n_holes, -0.5) + np.tile([-0.1, 0.1], tree.n_holes // 2)
    nothing = believed(tree, location)
    good = believed(tree, location, good=np.ones(tree.n_holes))
    bad = believed(tree, location, good=np.zeros(tree.n_holes))
    unseen = 5  # of the other grid; squares 0..2 are of the first
    assert np.all(nothing.effect == 0)
    assert good.effect[0] > good.effect[unseen] >= 0 >= bad.effect[unseen] > bad.effect[0]
    assert good.effect_shared[0] < nothing.effect_shared[0]


def test_what_the_atlas_shows_is_learned_from_what_was_found():
    rng = np.random.default_rng(1)
    tree = tree_of(n_squares=12, seen_squares=8, patches=3)
    bright = rng.normal(size=12)
    location = 1.5 * bright[tree.square_of_hole] - 1.0 + rng.normal(0, 0.5, tree.n_holes)
    found = believed(tree, location, bright[:, None])
    unseen = np.arange(8, 12)
    blind = believed(tree, location)
    assert np.corrcoef(found.prediction[unseen], bright[unseen])[0, 1] > 0.95
    assert np.abs(np.diff(blind.prediction[unseen])).max() < 1e-9
    missing = believed(tree, location, np.full((12, 1), np.nan))
    np.testing.assert_allclose(missing.prediction, blind.prediction, atol=1e-9)


def test_a_prediction_that_tells_no_hole_apart_tells_no_unseen_one_apart():
    tree = tree_of()
    found = believed(tree, np.full(tree.n_holes, -0.7), prior=Y1_UNSEEN)
    assert found.prediction_own == found.within == 0.0
    # All that is left of the prior is what six patches that agree say of its mean.
    assert found.prediction_shared.max() < 1e-6


def test_where_nothing_predicts_no_look_shows_a_prediction_whatever_the_atlas_says():
    features = np.array([[-3.0, 2.0], [0.0, np.nan], [1.0, 0.0], [4.0, -4.0], [0.5, 0.5], [np.nan, 1.0]])
    tree = tree_of(seen_squares=0)
    found = believed(tree, np.empty(0), features, prior=FLAT_UNSEEN)
    assert np.all(found.prediction_shared == 0.0)
    assert np.all(found.prediction == FLAT_UNSEEN.mean)
    assert found.prediction_own == found.within == 0.0
    assert np.all(found.effect == 0.0)
    assert np.ptp(found.effect_shared) > 1.0  # results may show what the atlas means
    predicted = believed(tree, np.empty(0), features, prior=Y1_UNSEEN)
    assert np.ptp(predicted.prediction_shared) > 1.0


def test_effects_of_unseen_squares_are_drawn_together():
    rng = np.random.default_rng(5)
    tree = tree_of()
    bright = np.array([[0.5], [-1.0], [1.5], [0.0], [2.0], [-2.0]])
    found = believed(tree, rng.normal(0.0, 1.0, tree.n_holes), bright, good=rng.integers(0, 2, tree.n_holes))
    draws = found.draw_effects(200_000, rng)
    np.testing.assert_allclose(draws.mean(axis=0), found.effect, atol=0.01)
    np.testing.assert_allclose(draws.var(axis=0), found.effect_shared, rtol=0.02)
    # Before any result they have the covariance of the model.
    nothing = believed(tree_of(seen_squares=0), np.empty(0), bright)
    session, grid, square = Y1_EFFECTS.session, Y1_EFFECTS.grid, Y1_EFFECTS.square
    same_grid = tree.grid_of_square[:, None] == tree.grid_of_square
    prior = session + grid * same_grid + square * np.eye(6) + PRIOR.feature_sd**2 * bright @ bright.T
    np.testing.assert_allclose(np.cov(nothing.draw_effects(200_000, rng).T), prior, atol=0.03)


def test_draws_of_whole_places_have_the_expected_numbers():
    tree = tree_of()
    rng = np.random.default_rng(2)
    found = believed(tree, rng.normal(0.0, 1.0, tree.n_holes))
    good, imaged, patches = draw_looks(found, 5, None, 0.0, 1.0, 4000, rng)
    assert patches.mean() == pytest.approx((2.0 * 3 + Y1_UNSEEN.patches_per_square) / 4, rel=0.1)
    assert imaged.sum() / patches.sum() == pytest.approx((8.0 * 6 + Y1_UNSEEN.holes_per_patch) / 7, rel=0.1)
    assert np.all(good <= imaged)
    fewer, chosen, _ = draw_looks(found, 5, 2, 0.5, 1.0, 4000, rng)
    assert fewer.sum() / chosen.sum() > good.sum() / imaged.sum()


def test_a_square_holds_patches_in_proportion_to_its_room():
    tree = tree_of()
    location = np.random.default_rng(2).normal(0.0, 1.0, tree.n_holes)
    # Three squares were looked at, of half the usual room, with two patches each: a usual one has four.
    room = np.array([0.5, 0.5, 0.5, 1.0, 0.1, np.nan])
    found = believed(tree, location, room=room)
    usual = (2.0 * 3 + Y1_UNSEEN.patches_per_square) / (0.5 * 3 + 1)
    assert found.patches_per_square == pytest.approx(usual)
    np.testing.assert_allclose(found.patches_of_square()[3:], [usual, 0.1 * usual, usual])
    rng = np.random.default_rng(4)
    for square, share in ((3, 1.0), (4, 0.1), (5, 1.0)):
        drawn = found.draw_patches(square, 8000, rng)
        assert drawn.mean() == pytest.approx(share * (3 * 4.0 + Y1_UNSEEN.patches_per_square) / 4, rel=0.05)
    # An outline around half a grid is no square of a hundred.
    giant = believed(tree, location, room=np.array([1.0, 1.0, 1.0, 1e4, np.inf, 4.0]))
    np.testing.assert_allclose(giant.patches_of_square()[3:], 4.0 * giant.patches_per_square)
    assert giant.draw_patches(3, 4000, rng).max() < 60
    # What a speck showed is not blown up, neither in what is drawn nor in what is expected.
    speck = believed(tree, location, room=np.array([0.001, 0.001, 0.001, 1.0, 1.0, 1.0]))
    assert speck.draw_patches(3, 4000, rng).max() <= max(2.0 / 0.25 + 1, 20)
    assert speck.patches_per_square == pytest.approx(
        (2.0 * 3 + Y1_UNSEEN.patches_per_square) / (0.25 * 3 + 1)
    )


def test_where_no_atlas_says_a_size_all_squares_are_alike_to_the_digit():
    tree = tree_of()
    location = np.random.default_rng(2).normal(0.0, 1.0, tree.n_holes)
    draws = [
        draw_looks(believed(tree, location, room=room), 5, None, 0.0, 1.0, 200, np.random.default_rng(3))
        for room in (None, np.full(6, np.nan), np.ones(6))
    ]
    for other in draws[1:]:
        for one, two in zip(draws[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_draws_look_at_the_others_only_where_the_first_patch_shows_enough():
    tree = tree_of()
    found = believed(tree, np.random.default_rng(2).normal(0.0, 1.0, tree.n_holes))
    good, imaged, patches = draw_looks(found, 5, 4, 0.0, 0.25, 4000, np.random.default_rng(3))
    assert set(patches) == {1.0, 4.0}
    assert (patches == 4).mean() == pytest.approx(0.25, abs=0.02)
    share = [good[patches == number].sum() / imaged[patches == number].sum() for number in (1, 4)]
    assert share[1] > share[0] + 0.2  # what they share is good there
    never = draw_looks(found, 5, 4, 0.0, 0.0, 50, np.random.default_rng(3))[2]
    assert set(never) == {1.0}
    assert set(draw_looks(found, 5, 0, 0.0, 0.25, 50, np.random.default_rng(3))[2]) == {0.0}


def test_without_anything_seen_the_prior_stands():
    tree = HoleTree(np.empty(0, np.int32), np.empty(0, np.int32), np.zeros(3, np.int32))
    found = believed(tree, np.empty(0), prior=Y1_UNSEEN)
    np.testing.assert_allclose(found.prediction, Y1_UNSEEN.mean)
    assert found.holes_per_patch == Y1_UNSEEN.holes_per_patch
    assert found.patches_per_square == Y1_UNSEEN.patches_per_square
