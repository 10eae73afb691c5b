"""The belief that learns how far to trust the predictions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from cryoscout.belief.effects import EffectBelief, EffectVariances, location_of
from cryoscout.belief.mixture import ASSUMPTIONS, Assumption, MixtureBelief
from cryoscout.core.hole_tree import HoleTree
from examples import share

VARIANCES = EffectVariances(patch=0.5, square=0.1, grid=0.1)
N_PATCHES, HOLES_EACH = 12, 10


TREE = HoleTree(
    np.empty(0, dtype=np.int32),
    np.repeat(np.arange(4), 3).astype(np.int32),
    np.array([0, 0, 1, 1], dtype=np.int32),
)
PATCH_OF_HOLE = np.repeat(np.arange(N_PATCHES), HOLES_EACH).astype(np.int32)


@pytest.fixture
def tree() -> HoleTree:
    return TREE


@pytest.fixture
def patch_of_hole() -> np.ndarray:
    return PATCH_OF_HOLE


def _p_good(seed: int = 0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).beta(0.5, 0.5, N_PATCHES * HOLES_EACH), 0.02, 0.98)


def test_one_assumption_at_face_value_is_the_effect_belief(tree, patch_of_hole):
    p = _p_good()
    mixture = MixtureBelief(p, patch_of_hole, tree, VARIANCES, (Assumption(1.0, 1.0, 0.0),))
    plain = EffectBelief(location_of(p, VARIANCES.total), patch_of_hole, tree, VARIANCES)
    for hole, good in ((3, 1.0), (17, 0.0), (18, 0.0)):
        mixture.observe(hole, good)
        plain.observe(hole, good)
    np.testing.assert_allclose(mixture.p_good(), plain.p_good(), atol=1e-12)


def test_before_an_outcome_all_assumptions_weigh_the_same(tree, patch_of_hole):
    mixture = MixtureBelief(_p_good(), patch_of_hole, tree, VARIANCES)
    np.testing.assert_allclose(mixture.weights, 1.0 / len(ASSUMPTIONS))


@pytest.mark.parametrize(("true_slope", "nearest"), [(1.0, 1.0), (0.2, 0.5)])
def test_outcomes_say_which_slope_is_right(tree, patch_of_hole, true_slope, nearest):
    p, rng = _p_good(), np.random.default_rng(1)
    logit = np.log(p / (1 - p)) * true_slope
    good = (rng.random(len(p)) < 1 / (1 + np.exp(-logit))).astype(float)
    mixture = MixtureBelief(p, patch_of_hole, tree, VARIANCES)
    mixture.observe_many(np.arange(len(p)), good)
    by_slope = {
        slope: sum(
            weight
            for weight, assumed in zip(mixture.weights, mixture.assumptions, strict=True)
            if assumed.slope == slope
        )
        for slope in (1.0, 0.75, 0.5)
    }
    assert max(by_slope, key=by_slope.__getitem__) == nearest
    assert sum(by_slope.values()) == pytest.approx(1.0)


def test_a_classifier_that_promises_too_much_is_believed_less(tree, patch_of_hole):
    p, rng = _p_good(2), np.random.default_rng(3)
    chance = 0.5 + 0.2 * (p - 0.5)
    good = (rng.random(len(p)) < chance).astype(float)
    seen = rng.permutation(len(p))[:90]
    unseen = np.setdiff1d(np.arange(len(p)), seen)
    mixture = MixtureBelief(p, patch_of_hole, tree, VARIANCES)
    plain = EffectBelief(location_of(p, VARIANCES.total), patch_of_hole, tree, VARIANCES)
    for belief in (mixture, plain):
        belief.observe_many(seen, good[seen])
    error = [np.abs(belief.p_good()[unseen] - chance[unseen]).mean() for belief in (mixture, plain)]
    assert error[0] < 0.8 * error[1]


@settings(max_examples=share(30))
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1, 5]))
def test_results_in_any_order_one_by_one_or_at_once_give_the_same_belief(seed, n_results, shots):
    p, rng = _p_good(seed), np.random.default_rng(seed)
    holes = rng.permutation(len(p))[:n_results]
    good = rng.binomial(shots, 1.0 - p[holes]).astype(float)  # as wrong as can be: many components matter
    beliefs = [MixtureBelief(p, PATCH_OF_HOLE, TREE, VARIANCES) for _ in range(3)]
    for belief, order in zip(beliefs, (np.arange(n_results), rng.permutation(n_results)), strict=False):
        for i in order:
            belief.observe(int(holes[i]), float(good[i]), shots)
    beliefs[2].observe_many(holes, good, shots)
    for belief in beliefs[:2]:
        np.testing.assert_allclose(belief.p_good(), beliefs[2].p_good(), atol=1e-6)
        np.testing.assert_allclose(belief.weights, beliefs[2].weights, atol=1e-6)


def test_draws_are_of_the_components_by_their_weights(tree, patch_of_hole):
    p, rng = _p_good(6), np.random.default_rng(7)
    mixture = MixtureBelief(p, patch_of_hole, tree, VARIANCES)
    holes = rng.permutation(len(p))[:25]
    mixture.observe_many(holes, (rng.random(25) < 0.5 * p[holes]).astype(float))
    ahead = np.array([3, 40, 77, 119])
    drawn = expit(mixture.draw_logits(20_000, np.random.default_rng(8), ahead))
    assert drawn.shape == (20_000, 4)
    # `p_good` has the error of `marginal_probability`.
    np.testing.assert_allclose(drawn.mean(axis=0), mixture.p_good()[ahead], atol=0.012)


def test_draws_with_errors_of_the_fit_are_stretched_by_the_slope(tree, patch_of_hole):
    certain = EffectVariances(patch=0.0, square=0.0, grid=0.0)
    p, loadings = _p_good(9), np.full((N_PATCHES * HOLES_EACH, 1), 0.8)
    half = MixtureBelief(p, patch_of_hole, tree, certain, (Assumption(0.5, 1.0, 0.0),))
    drawn = half.draw_logits(20_000, np.random.default_rng(10), np.array([5]), loadings)
    assert drawn.mean() == pytest.approx(0.5 * np.log(p[5] / (1.0 - p[5])), abs=0.02)
    assert drawn.std() == pytest.approx(0.4, abs=0.01)
