"""The belief that learns how far to trust the predictions."""

import numpy as np
import pytest

from cryoscout.belief.effects import EffectBelief, EffectTree, EffectVariances, location_of
from cryoscout.belief.mixture import ASSUMPTIONS, Assumption, MixtureBelief

VARIANCES = EffectVariances(patch=0.5, square=0.1, grid=0.1)
N_PATCHES, HOLES_EACH = 12, 10


@pytest.fixture
def tree() -> EffectTree:
    return EffectTree(np.repeat(np.arange(4), 3).astype(np.int32), np.array([0, 0, 1, 1], dtype=np.int32))


@pytest.fixture
def patch_of_hole() -> np.ndarray:
    return np.repeat(np.arange(N_PATCHES), HOLES_EACH).astype(np.int32)


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


def test_one_by_one_and_all_at_once_agree(tree, patch_of_hole):
    p, rng = _p_good(4), np.random.default_rng(5)
    holes = rng.permutation(len(p))[:30]
    good = (rng.random(30) < p[holes]).astype(float)
    one_by_one = MixtureBelief(p, patch_of_hole, tree, VARIANCES)
    for hole, outcome in zip(holes, good, strict=True):
        one_by_one.observe(int(hole), float(outcome))
    at_once = MixtureBelief(p, patch_of_hole, tree, VARIANCES)
    at_once.observe_many(holes, good)
    np.testing.assert_allclose(one_by_one.p_good(), at_once.p_good(), atol=0.02)
