"""Prediction with context: a classifier's score together with the scores around it, and its prior effects.

A hole's logit is linear in the logit of its score and in the mean logits of its patch, square and grid (of the
scores alone, never of outcomes); the effects that the scores do not explain are EffectVariances. Both are fitted
together by maximum marginal likelihood, the effects integrated out.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from cryoscout.belief.calibration import clipped_logit
from cryoscout.belief.effects import (
    EffectTree,
    EffectVariances,
    log_marginal_likelihood,
    marginal_probability,
)
from cryoscout.core.errors import InputError
from cryoscout.core.settings import Settings

_LOG_VARIANCE_BOUNDS = (-8.0, 3.0)


class ContextModel(Settings):
    """location = intercept + score * x + patch * mean x of the patch + square * ... + grid * ..., x = logit score."""

    intercept: float
    score: float
    patch: float
    square: float
    grid: float
    effects: EffectVariances
    """Variances of what the scores leave unexplained, as fitted."""
    log_likelihood: float
    holes: int
    """Number of labelled holes behind the fit."""

    def location(
        self, score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: EffectTree
    ) -> NDArray[np.float64]:
        """(n,) logit of each hole without effects."""
        weights = np.array([self.intercept, self.score, self.patch, self.square, self.grid])
        return np.asarray(context_features(score_p, patch_of_hole, tree) @ weights)

    def p_good(
        self, score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: EffectTree
    ) -> NDArray[np.float64]:
        """(n,) probability that one exposure is good, the effects integrated out; score_p (n,) in 0..1."""
        location = self.location(score_p, patch_of_hole, tree)
        return marginal_probability(location, np.full(len(location), self.effects.total))


def context_features(
    score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: EffectTree
) -> NDArray[np.float64]:
    """(n, 5): 1, the logit of the score, and its mean over the holes of the patch, the square and the grid."""
    x = clipped_logit(score_p)
    square_of_hole = tree.square_of_patch[patch_of_hole]
    grid_of_hole = tree.grid_of_square[square_of_hole]
    means = [_mean_within(x, level) for level in (patch_of_hole, square_of_hole, grid_of_hole)]
    return np.stack([np.ones_like(x), x, *means], axis=1)


def _mean_within(x: NDArray[np.float64], group: NDArray[np.int32]) -> NDArray[np.float64]:
    totals = np.bincount(group, weights=x)
    return np.asarray((totals / np.maximum(np.bincount(group), 1))[group])


def fit_context(
    score_p: NDArray[np.float64],
    good: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    tree: EffectTree,
) -> ContextModel:
    """Fit coefficients and effect variances to labelled holes by maximum marginal likelihood.

    score_p : (n,) in 0..1     good : (n,) 0 or 1, NaN where not labelled (context is taken from all holes)
    Raises InputError when no hole of one class is labelled.
    """
    labelled = _labelled(good)
    features = context_features(score_p, patch_of_hole, tree)[labelled]
    weights, effects, log_likelihood = _fit(
        features, np.eye(features.shape[1])[1], patch_of_hole[labelled], good[labelled], tree
    )
    return ContextModel(
        **dict(zip(("intercept", "score", "patch", "square", "grid"), weights.tolist(), strict=True)),
        effects=effects,
        log_likelihood=log_likelihood,
        holes=int(labelled.sum()),
    )


def fit_effects(
    location: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    good: NDArray[np.float64],
    tree: EffectTree,
) -> EffectVariances:
    """Effect variances of outcomes around given logits, up to a common offset that is fitted with them.

    location : (n,) logit of each hole without effects     good : (n,) 0 or 1, NaN where not labelled
    Raises InputError when no hole of one class is labelled.
    """
    labelled = _labelled(good)
    shifted = location[labelled]
    _, effects, _ = _fit(
        np.ones((len(shifted), 1)), np.zeros(1), patch_of_hole[labelled], good[labelled], tree, shifted
    )
    return effects


def _labelled(good: NDArray[np.float64]) -> NDArray[np.bool_]:
    labelled = ~np.isnan(good)
    if not 0 < good[labelled].sum() < labelled.sum():
        raise InputError(
            f"A prediction must be fitted to labelled holes of both classes. Got {int(labelled.sum())} "
            f"labels, {int(good[labelled].sum())} good, instead. Remedy: label more holes."
        )
    return np.asarray(labelled)


def _fit(
    features: NDArray[np.float64],
    first_weights: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    good: NDArray[np.float64],
    tree: EffectTree,
    offset: NDArray[np.float64] | float = 0.0,
) -> tuple[NDArray[np.float64], EffectVariances, float]:
    """Weights, (k,), variances and log likelihood of logits = features (n, k) @ weights + offset + effects."""
    k = features.shape[1]

    def loss(parameters: NDArray[np.float64]) -> float:
        location = features @ parameters[:k] + offset
        return -log_marginal_likelihood(location, patch_of_hole, good, tree, _variances(parameters[k:]))

    start = np.concatenate([first_weights, np.log([0.3, 0.2, 0.1])])
    bounds = [(None, None)] * k + [_LOG_VARIANCE_BOUNDS] * 3
    fit = minimize(loss, start, method="L-BFGS-B", bounds=bounds)
    return fit.x[:k], _variances(fit.x[k:]), -float(fit.fun)


def _variances(logs: NDArray[np.float64]) -> EffectVariances:
    patch, square, grid = np.exp(logs).tolist()
    return EffectVariances(patch=patch, square=square, grid=grid)


def y1_context() -> ContextModel:
    """The model fitted to the training split of the Y1 session and its ResNet-18, as shipped.

    Made by scripts/fit_y1_context.py.
    """
    text = files("cryoscout.belief").joinpath("data/y1_context.json").read_text(encoding="utf-8")
    return ContextModel.model_validate_json(text)


def combined_p_good(
    score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: EffectTree
) -> NDArray[np.float64]:
    """The named prediction `combined`, (n,): a classifier's scores in context, by the model fitted on Y1 training."""
    return y1_context().p_good(score_p, patch_of_hole, tree)
