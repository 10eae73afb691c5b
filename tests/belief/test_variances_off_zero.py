"""The prior on the effects' standard deviations keeps fitted variances off zero, and is the one its formula says."""

from __future__ import annotations

import numpy as np

from cryoscout.belief.context import fit_context
from cryoscout.belief.effects import EffectVariances, log_marginal_likelihood
from cryoscout.core.hole_tree import HoleTree

TREE = HoleTree(
    np.empty(0, dtype=np.int32),
    np.repeat(np.arange(6, dtype=np.int32), 4),
    np.repeat(np.arange(2, dtype=np.int32), 3),
)
PATCH_OF_HOLE = np.repeat(np.arange(24, dtype=np.int32), 12)


def labelled(seed):
    """Scores and outcomes with a patch effect alone, so that squares and grids tend to be fitted as 0."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 1.0, len(PATCH_OF_HOLE)) + rng.normal(0.0, 0.7, 24)[PATCH_OF_HOLE]
    score = 1.0 / (1.0 + np.exp(-rng.normal(0.0, 1.0, len(PATCH_OF_HOLE)) - logits))
    return score, (rng.random(len(PATCH_OF_HOLE)) < 1.0 / (1.0 + np.exp(-logits))).astype(float)


def test_variances_that_would_be_zero_are_not():
    score, good = labelled(0)
    plain = fit_context(score, good, PATCH_OF_HOLE, TREE)
    kept = fit_context(score, good, PATCH_OF_HOLE, TREE, variances_off_zero=True)
    assert min(plain.effects.square, plain.effects.grid) < 0.001
    assert min(kept.effects.square, kept.effects.grid) > 0.005
    assert kept.log_likelihood < plain.log_likelihood < kept.log_likelihood + 2.0


def test_the_fit_is_the_mode_in_log_variance_under_a_uniform_prior_on_the_standard_deviations():
    score, good = labelled(1)
    model = fit_context(score, good, PATCH_OF_HOLE, TREE, variances_off_zero=True)
    location = model.location(score, PATCH_OF_HOLE, TREE)

    def density(log_variances):
        patch, square, grid = np.exp(log_variances)
        effects = EffectVariances(patch=patch, square=square, grid=grid)
        return log_marginal_likelihood(location, PATCH_OF_HOLE, good, TREE, effects) + log_variances.sum() / 2

    fitted = np.log([model.effects.patch, model.effects.square, model.effects.grid])
    for direction in np.eye(3):
        for step in (-0.3, 0.3):
            assert density(fitted + step * direction) < density(fitted)
