"""Gaussian messages on the session > grid > square > patch tree, and the logistic sites on it, in numba.

Evidence on a patch's effect e is kept as (precision, precision times mean); messages up are the same for the level
above. Each change of one patch's evidence touches only its path, so a message down costs a few operations.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Messages = tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
]
"""patch_up (P,2), square_sum (S,2), square_up (S,2), grid_sum (G,2), grid_up (G,2), session_sum (2,)."""


@njit(cache=True)
def _through(evidence, variance):  # type: ignore[no-untyped-def]
    """Evidence on x + u as evidence on x, u ~ N(0, variance)."""
    return evidence / (1.0 + variance * evidence[0])


@njit(cache=True)
def _log_mass(mean, variance, evidence):  # type: ignore[no-untyped-def]
    """log of the integral of N(e; mean, variance) exp(-precision e^2 / 2 + shift e)."""
    precision, shift = evidence[0], evidence[1]
    scale = 1.0 + variance * precision
    quadratic = -0.5 * precision * mean * mean + shift * mean + 0.5 * shift * shift * variance
    return quadratic / scale - 0.5 * math.log(scale)


@njit(cache=True)
def with_evidence(mean, variance, evidence):  # type: ignore[no-untyped-def]
    """Mean and variance of N(mean, variance) after evidence."""
    scale = 1.0 + variance * evidence[0]
    return (mean + variance * evidence[1]) / scale, variance / scale


@njit(cache=True)
def messages_up(evidence, square_of_patch, grid_of_square, variances):  # type: ignore[no-untyped-def]
    """All messages up from the patches' evidence, (P,2); see Messages."""
    n_squares, n_grids = len(grid_of_square), grid_of_square[-1] + 1
    patch_up = np.empty_like(evidence)
    square_sum, square_up = np.zeros((n_squares, 2)), np.empty((n_squares, 2))
    grid_sum, grid_up = np.zeros((n_grids, 2)), np.empty((n_grids, 2))
    session_sum = np.zeros(2)
    for patch in range(len(evidence)):
        patch_up[patch] = _through(evidence[patch], variances[0])
        square_sum[square_of_patch[patch]] += patch_up[patch]
    for square in range(n_squares):
        square_up[square] = _through(square_sum[square], variances[1])
        grid_sum[grid_of_square[square]] += square_up[square]
    for grid in range(n_grids):
        grid_up[grid] = _through(grid_sum[grid], variances[2])
        session_sum += grid_up[grid]
    return patch_up, square_sum, square_up, grid_sum, grid_up, session_sum


@njit(cache=True)
def update_path(patch, evidence, square_of_patch, grid_of_square, variances, messages):  # type: ignore[no-untyped-def]
    """Carry a changed evidence of one patch up to the session."""
    patch_up, square_sum, square_up, grid_sum, grid_up, session_sum = messages
    square = square_of_patch[patch]
    grid = grid_of_square[square]
    new = _through(evidence[patch], variances[0])
    square_sum[square] += new - patch_up[patch]
    patch_up[patch] = new
    new = _through(square_sum[square], variances[1])
    grid_sum[grid] += new - square_up[square]
    square_up[square] = new
    new = _through(grid_sum[grid], variances[2])
    session_sum += new - grid_up[grid]
    grid_up[grid] = new


@njit(cache=True)
def given_others(patch, square_of_patch, grid_of_square, variances, messages):  # type: ignore[no-untyped-def]
    """Mean and variance of the patch's effect given everything but the patch's own evidence."""
    patch_up, square_sum, square_up, grid_sum, grid_up, session_sum = messages
    square = square_of_patch[patch]
    grid = grid_of_square[square]
    mean, variance = with_evidence(0.0, variances[3], session_sum - grid_up[grid])
    mean, variance = with_evidence(mean, variance + variances[2], grid_sum[grid] - square_up[square])
    mean, variance = with_evidence(mean, variance + variances[1], square_sum[square] - patch_up[patch])
    return mean, variance + variances[0]


@njit(cache=True)
def patch_marginals(evidence, square_of_patch, grid_of_square, variances):  # type: ignore[no-untyped-def]
    """Posterior mean and variance of every patch's effect, (P,), (P,)."""
    messages = messages_up(evidence, square_of_patch, grid_of_square, variances)
    mean, variance = np.empty(len(evidence)), np.empty(len(evidence))
    for patch in range(len(evidence)):
        m, v = given_others(patch, square_of_patch, grid_of_square, variances, messages)
        mean[patch], variance[patch] = with_evidence(m, v, evidence[patch])
    return mean, variance


@njit(cache=True)
def tilted(mean, variance, location, good, bad, nodes, weights):  # type: ignore[no-untyped-def]
    """log mass, mean and variance of N(mean, variance) sigmoid(location + e)^good sigmoid(-location - e)^bad."""
    scale = math.sqrt(variance)
    log_likelihood = np.empty(len(nodes))
    for k in range(len(nodes)):
        f = location + mean + scale * nodes[k]
        # log sigmoid(f) and log sigmoid(-f), stable at both ends.
        log_good = -math.log1p(math.exp(-f)) if f > 0 else f - math.log1p(math.exp(f))
        log_likelihood[k] = good * log_good + bad * (log_good - f)
    # Zero but far in a tail, where the mass of an outcome that nobody expected would underflow to nothing.
    shift = min(0.0, log_likelihood.max() + 500.0)
    mass, first, second = 0.0, 0.0, 0.0
    for k in range(len(nodes)):
        w = weights[k] * math.exp(log_likelihood[k] - shift)
        mass += w
        first += w * nodes[k]
        second += w * nodes[k] * nodes[k]
    first /= mass
    # The curvature of an outcome is at most 1/4 per shot, so the variance is no smaller than this; where the mass
    # lies on one node alone, the quadrature would say 0.
    least = 1.0 / (1.0 + 0.25 * (good + bad) * variance)
    second = max(second / mass - first * first, least)
    return math.log(mass) + shift, mean + scale * first, variance * second


@njit(cache=True)
def ep_sweep(  # type: ignore[no-untyped-def]
    location,
    patch_of_site,
    sites,
    order,
    evidence,
    square_of_patch,
    grid_of_square,
    variances,
    nodes,
    weights,
):
    """Refine the sites named in `order` once, in place: `sites` (m,4) and `evidence` (P,2)."""
    messages = messages_up(evidence, square_of_patch, grid_of_square, variances)
    for i in order:
        patch = patch_of_site[i]
        mean, variance = given_others(patch, square_of_patch, grid_of_square, variances, messages)
        if variance <= 0.0:
            continue
        cavity = evidence[patch] - sites[i, 2:]
        mean, variance = with_evidence(mean, variance, cavity)
        _, tilted_mean, tilted_variance = tilted(
            mean, variance, location[i], sites[i, 0], sites[i, 1], nodes, weights
        )
        # The logistic likelihood is log-concave: its site never takes precision away.
        precision = max(1.0 / tilted_variance - 1.0 / variance, 0.0)
        evidence[patch] = cavity
        sites[i, 2] = precision
        sites[i, 3] = tilted_mean * (precision + 1.0 / variance) - mean / variance
        evidence[patch] += sites[i, 2:]
        update_path(patch, evidence, square_of_patch, grid_of_square, variances, messages)


@njit(cache=True)
def ep_log_likelihood(  # type: ignore[no-untyped-def]
    location, patch_of_site, sites, evidence, square_of_patch, grid_of_square, variances, nodes, weights
):
    """The approximate log marginal likelihood of the outcomes at converged sites."""
    messages = messages_up(evidence, square_of_patch, grid_of_square, variances)
    _, square_sum, _, grid_sum, _, session_sum = messages
    total = _log_mass(0.0, variances[3], session_sum)
    for patch in range(len(evidence)):
        total += _log_mass(0.0, variances[0], evidence[patch])
    for square in range(len(square_sum)):
        total += _log_mass(0.0, variances[1], square_sum[square])
    for grid in range(len(grid_sum)):
        total += _log_mass(0.0, variances[2], grid_sum[grid])
    for i in range(len(sites)):
        patch = patch_of_site[i]
        mean, variance = given_others(patch, square_of_patch, grid_of_square, variances, messages)
        mean, variance = with_evidence(mean, variance, evidence[patch] - sites[i, 2:])
        log_mass, _, _ = tilted(mean, variance, location[i], sites[i, 0], sites[i, 1], nodes, weights)
        total += log_mass - _log_mass(mean, variance, sites[i, 2:])
    return total


@njit(cache=True)
def _change_with_variance(mean, variance, evidence):  # type: ignore[no-untyped-def]
    """Derivative of `_log_mass` with respect to the variance."""
    scale = 1.0 + variance * evidence[0]
    residual = (evidence[1] - evidence[0] * mean) / scale
    return 0.5 * (residual * residual - evidence[0] / scale)


@njit(cache=True)
def ep_log_likelihood_gradient(  # type: ignore[no-untyped-def]
    location, patch_of_site, sites, evidence, square_of_patch, grid_of_square, variances, nodes, weights
):
    """Derivatives of the log marginal likelihood: by the location of each site, (m,), and by the variances, (3,).

    At converged sites the likelihood does not change with them (Seeger 2005), so only what stands outside of the
    sites is derived: the tilted mass by its location, the prior by the variances of patch, square and grid.
    """
    messages = messages_up(evidence, square_of_patch, grid_of_square, variances)
    _, square_sum, square_up, grid_sum, grid_up, session_sum = messages
    by_location = np.empty(len(sites))
    for i in range(len(sites)):
        patch = patch_of_site[i]
        mean, variance = given_others(patch, square_of_patch, grid_of_square, variances, messages)
        mean, variance = with_evidence(mean, variance, evidence[patch] - sites[i, 2:])
        _, tilted_mean, _ = tilted(mean, variance, location[i], sites[i, 0], sites[i, 1], nodes, weights)
        by_location[i] = (tilted_mean - mean) / variance
    by_variance = np.zeros(3)
    for patch in range(len(evidence)):
        mean, variance = given_others(patch, square_of_patch, grid_of_square, variances, messages)
        by_variance[0] += _change_with_variance(mean, variance, evidence[patch])
    for grid in range(len(grid_sum)):
        mean, variance = with_evidence(0.0, variances[3], session_sum - grid_up[grid])
        by_variance[2] += _change_with_variance(mean, variance + variances[2], grid_sum[grid])
    for square in range(len(square_sum)):
        grid = grid_of_square[square]
        mean, variance = with_evidence(0.0, variances[3], session_sum - grid_up[grid])
        mean, variance = with_evidence(mean, variance + variances[2], grid_sum[grid] - square_up[square])
        by_variance[1] += _change_with_variance(mean, variance + variances[1], square_sum[square])
    return by_location, by_variance


@njit(cache=True)
def draw_patch_effects(  # type: ignore[no-untyped-def]
    evidence, square_of_patch, grid_of_square, variances, standard_normals
):
    """Joint draws of the patches' effects from the posterior, (draws, P).

    standard_normals : (draws, 1 + G + S + P), one column for each effect from the session down
    """
    _, square_sum, _, grid_sum, _, session_sum = messages_up(
        evidence, square_of_patch, grid_of_square, variances
    )
    n_draws, n_patches = len(standard_normals), len(evidence)
    n_squares, n_grids = len(grid_of_square), len(grid_sum)
    out = np.empty((n_draws, n_patches))
    session_mean, session_variance = with_evidence(0.0, variances[3], session_sum)
    for draw in range(n_draws):
        z = standard_normals[draw]
        session = session_mean + math.sqrt(session_variance) * z[0]
        grids = np.empty(n_grids)
        for grid in range(n_grids):
            mean, variance = with_evidence(session, variances[2], grid_sum[grid])
            grids[grid] = mean + math.sqrt(variance) * z[1 + grid]
        squares = np.empty(n_squares)
        for square in range(n_squares):
            mean, variance = with_evidence(grids[grid_of_square[square]], variances[1], square_sum[square])
            squares[square] = mean + math.sqrt(variance) * z[1 + n_grids + square]
        for patch in range(n_patches):
            mean, variance = with_evidence(squares[square_of_patch[patch]], variances[0], evidence[patch])
            out[draw, patch] = mean + math.sqrt(variance) * z[1 + n_grids + n_squares + patch]
    return out
