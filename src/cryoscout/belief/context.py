"""Prediction with context: a classifier's score together with the scores around it, and its prior effects.

A hole's logit is linear in the logit of its score and in the mean logits of its patch, square and grid (of the
scores alone, never of outcomes); the effects that the scores do not explain are EffectVariances. Both are fitted
together by maximum marginal likelihood, the effects integrated out. A classifier that already sees its surroundings
gains nothing from context, so the context weights have a prior around 0 whose width is chosen on held-out patches.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from cryoscout.belief.calibration import clipped_logit
from cryoscout.belief.effects import (
    EffectVariances,
    log_marginal_likelihood,
    log_marginal_likelihood_and_gradient,
    marginal_probability,
)
from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.settings import Settings

CONTEXT_SD = 0.3
"""Prior standard deviation of the context weights where nothing better is known of the classifier."""

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
    context_sd: float
    """Prior standard deviation of the patch, square and grid weights in the fit."""
    holes: int
    """Number of labelled holes behind the fit."""
    covariance: tuple[tuple[float, ...], ...] = ()
    """(5, 5) covariance of the weights in the order above: how far another session of the same kind and size would
    have moved them (Laplace's approximation at the fitted variances); empty where it was not kept."""

    def location(
        self, score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: HoleTree
    ) -> NDArray[np.float64]:
        """(n,) logit of each hole without effects."""
        weights = np.array([self.intercept, self.score, self.patch, self.square, self.grid])
        return np.asarray(context_features(score_p, patch_of_hole, tree) @ weights)

    def p_good(
        self, score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: HoleTree
    ) -> NDArray[np.float64]:
        """(n,) probability that one exposure is good, the effects integrated out; score_p (n,) in 0..1."""
        location = self.location(score_p, patch_of_hole, tree)
        return marginal_probability(location, np.full(len(location), self.effects.total))

    def loadings(
        self, score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: HoleTree
    ) -> NDArray[np.float64]:
        """(n, 5) change of each hole's logit with five independent standard normal errors of the fit.

        (n, 0) where the covariance was not kept.
        """
        if not self.covariance:
            return np.empty((len(score_p), 0))
        root = np.linalg.cholesky(np.array(self.covariance))
        return np.asarray(context_features(score_p, patch_of_hole, tree) @ root)


def context_features(
    score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: HoleTree
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
    tree: HoleTree,
    context_sd: float = CONTEXT_SD,
    variances_off_zero: bool = False,
) -> ContextModel:
    """Fit coefficients and effect variances to labelled holes by maximum marginal likelihood.

    score_p : (n,) in 0..1     good : (n,) 0 or 1, NaN where not labelled (context is taken from all holes)
    context_sd : prior standard deviation of the context weights, > 0
    variances_off_zero : a uniform prior on the standard deviations of the effects, its mode taken in log variance
        (Gelman 2006; Chung et al. 2013). Without it the variance of squares or grids is often fitted as 0 because
        few of them were seen, and forecasts are too sure (docs/results/coverage.md).
    Raises InputError when no hole of one class is labelled.
    """
    labelled = _labelled(good)
    features = context_features(score_p, patch_of_hole, tree)[labelled]
    prior_sd = np.array([np.inf, np.inf, context_sd, context_sd, context_sd])
    patches, outcomes = patch_of_hole[labelled], good[labelled]
    weights, effects, log_likelihood = _fit(
        features,
        np.eye(features.shape[1])[1],
        prior_sd,
        patches,
        outcomes,
        tree,
        variances_off_zero=variances_off_zero,
    )
    return ContextModel(
        **dict(zip(("intercept", "score", "patch", "square", "grid"), weights.tolist(), strict=True)),
        effects=effects,
        log_likelihood=log_likelihood,
        context_sd=context_sd,
        holes=int(labelled.sum()),
        covariance=_covariance(features, weights, prior_sd, patches, outcomes, tree, effects),
    )


def held_out_log_likelihood(
    score_p: NDArray[np.float64],
    good: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    tree: HoleTree,
    context_sd: float,
    fold_of_patch: NDArray[np.int64],
) -> float:
    """Log likelihood (nats) of each fold's outcomes under a model fitted to the other folds, summed.

    good : (n,) 0 or 1     fold_of_patch : (P,) fold of each patch, so that a patch is held out whole
    """
    total = 0.0
    for fold in np.unique(fold_of_patch):
        held_out = (fold_of_patch == fold)[patch_of_hole]
        model = fit_context(score_p, np.where(held_out, np.nan, good), patch_of_hole, tree, context_sd)
        location = model.location(score_p, patch_of_hole, tree)[held_out]
        total += log_marginal_likelihood(
            location, patch_of_hole[held_out], good[held_out], tree, model.effects
        )
    return total


def fit_effects(
    location: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    good: NDArray[np.float64],
    tree: HoleTree,
) -> EffectVariances:
    """Effect variances of outcomes around given logits, up to a common offset that is fitted with them.

    location : (n,) logit of each hole without effects     good : (n,) 0 or 1, NaN where not labelled
    Raises InputError when no hole of one class is labelled.
    """
    labelled = _labelled(good)
    shifted = location[labelled]
    _, effects, _ = _fit(
        np.ones((len(shifted), 1)),
        np.zeros(1),
        np.array([np.inf]),
        patch_of_hole[labelled],
        good[labelled],
        tree,
        shifted,
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
    prior_sd: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    good: NDArray[np.float64],
    tree: HoleTree,
    offset: NDArray[np.float64] | float = 0.0,
    *,
    variances_off_zero: bool = False,
) -> tuple[NDArray[np.float64], EffectVariances, float]:
    """Weights, (k,), variances and log likelihood of logits = features (n, k) @ weights + offset + effects.

    prior_sd : (k,) of the zero-mean Gaussian priors of the weights, inf for none
    """
    k = features.shape[1]
    precision = 1.0 / np.square(prior_sd)
    # A uniform density in a standard deviation is exp(half the log variance) in the log variance.
    pull = 0.5 if variances_off_zero else 0.0

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        location = features @ parameters[:k] + offset
        value, by_location, by_variance = log_marginal_likelihood_and_gradient(
            location, patch_of_hole, good, tree, _variances(parameters[k:])
        )
        # The last three parameters are logarithms of variances.
        gradient = np.concatenate([features.T @ by_location, by_variance * np.exp(parameters[k:])])
        gradient[:k] -= precision * parameters[:k]
        gradient[k:] += pull
        return log_prior_cost(parameters) - value, -gradient

    def log_prior_cost(parameters: NDArray[np.float64]) -> float:
        return 0.5 * float(precision @ np.square(parameters[:k])) - pull * float(parameters[k:].sum())

    start = np.concatenate([first_weights, np.log([0.3, 0.2, 0.1])])
    bounds = [(None, None)] * k + [_LOG_VARIANCE_BOUNDS] * 3
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    log_likelihood = log_prior_cost(fit.x) - float(fit.fun)
    return fit.x[:k], _variances(fit.x[k:]), log_likelihood


_HESSIAN_STEP = 1e-3


def _covariance(
    features: NDArray[np.float64],
    weights: NDArray[np.float64],
    prior_sd: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    good: NDArray[np.float64],
    tree: HoleTree,
    effects: EffectVariances,
) -> tuple[tuple[float, ...], ...]:
    """Inverse of minus the Hessian by the weights, (k, k), from central differences of the exact gradient.

    Empty where the likelihood is not curved in every direction: then the labels do not determine the weights.
    """
    k = len(weights)

    def gradient(at: NDArray[np.float64]) -> NDArray[np.float64]:
        _, by_location, _ = log_marginal_likelihood_and_gradient(
            features @ at, patch_of_hole, good, tree, effects
        )
        return np.asarray(features.T @ by_location)

    steps = _HESSIAN_STEP * np.eye(k)
    hessian = np.array([gradient(weights + step) - gradient(weights - step) for step in steps])
    information = np.diag(1.0 / np.square(prior_sd)) - (hessian + hessian.T) / (4.0 * _HESSIAN_STEP)
    if np.linalg.eigvalsh(information).min() <= 1e-8 * np.trace(information):
        return ()
    inverse = np.linalg.inv(information)
    return tuple(tuple(row) for row in ((inverse + inverse.T) / 2.0).tolist())


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
    score_p: NDArray[np.float64], patch_of_hole: NDArray[np.int32], tree: HoleTree
) -> NDArray[np.float64]:
    """The named prediction `combined`, (n,): a classifier's scores in context, by the model fitted on Y1 training."""
    return y1_context().p_good(score_p, patch_of_hole, tree)
