"""The Gaussian posterior of one grid with a smooth field, and the sites of its results, in numba.

The effect of leaf k is e_k = U_k z + Psi_k y_block + epsilon_k with z, y standard normal: z holds the grid's effect and
a field over the whole grid by its inducing points, y the block's effect and a field within the block, epsilon has
variance d_k. Given z the blocks are independent, and given y the leaves, so they are eliminated in turn: with r, s
columns of U and Psi a posterior costs O(k (r + s)^2 + blocks s^3 + r^3) for k leaves with results.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cryoscout.belief.hole_results import site_of, tilted

_SETTLED = 1e-7
"""Logits, and logits squared: surroundings that moved by less leave a site as it is."""
_WHOLE_STEPS = 30
_MOST_SWEEPS = 200


@njit(cache=True)
def posterior(u, psi, own_variance, block, n_blocks, sites):  # type: ignore[no-untyped-def]
    """What the sites of leaves say of z and of each block's y.

    u : (k, r)     psi : (k, s)     own_variance : (k,) d     block : (k,) 0..n_blocks-1, sorted
    sites : (k, 2) precision, precision times mean of each leaf's effect
    Returns mean_z (r,), covariance_z (r, r), of each block covariance_y (b, s, s) given z, pull (b, s, r) and
    mean_y (b, s), with y | z ~ N(mean_y - pull z, covariance_y), and the log of the integral of prior times sites.
    """
    k, r, s = len(u), u.shape[1], psi.shape[1]
    scale = 1.0 + own_variance * sites[:, 0]
    precision, shift = sites[:, 0] / scale, sites[:, 1] / scale
    log_mass = 0.0
    for i in range(k):
        log_mass += 0.5 * sites[i, 1] * shift[i] * own_variance[i] - 0.5 * math.log(scale[i])
    precision_z = np.eye(r) + (u * precision.reshape(-1, 1)).T @ u
    shift_z = u.T @ shift
    covariance_y, pull, mean_y = (
        np.empty((n_blocks, s, s)),
        np.zeros((n_blocks, s, r)),
        np.zeros((n_blocks, s)),
    )
    begin = 0
    for b in range(n_blocks):
        end = begin
        while end < k and block[end] == b:
            end += 1
        if end == begin:
            covariance_y[b] = np.eye(s)
            continue
        psi_b, u_b = psi[begin:end], u[begin:end]
        weighted = (psi_b * precision[begin:end].reshape(-1, 1)).T
        precision_y = np.eye(s) + weighted @ psi_b
        across, shift_y = weighted @ u_b, psi_b.T @ shift[begin:end]
        covariance = np.linalg.inv(precision_y)
        covariance = 0.5 * (covariance + covariance.T)
        covariance_y[b] = covariance
        pull[b], mean_y[b] = covariance @ across, covariance @ shift_y
        precision_z -= across.T @ pull[b]
        shift_z -= across.T @ mean_y[b]
        log_mass += 0.5 * shift_y @ mean_y[b] - 0.5 * np.linalg.slogdet(precision_y)[1]
        begin = end
    precision_z = 0.5 * (precision_z + precision_z.T)
    covariance_z = np.linalg.inv(precision_z)
    covariance_z = 0.5 * (covariance_z + covariance_z.T)
    mean_z = covariance_z @ shift_z
    log_mass += 0.5 * shift_z @ mean_z - 0.5 * np.linalg.slogdet(precision_z)[1]
    return mean_z, covariance_z, covariance_y, pull, mean_y, log_mass


@njit(cache=True)
def marginals(u, psi, own_variance, block, sites, found):  # type: ignore[no-untyped-def]
    """Mean and variance of the effects of leaves, (m,), (m,), given a `posterior`.

    u, psi, own_variance, block : of these leaves, sorted by block
    sites : (m, 2) of theirs, 0 where they have no result
    """
    mean_z, covariance_z, covariance_y, pull, mean_y, _ = found
    m = len(u)
    apart, mean, variance = np.empty_like(u), np.empty(m), np.empty(m)
    begin = 0
    while begin < m:
        b, end = block[begin], begin
        while end < m and block[end] == b:
            end += 1
        psi_b = psi[begin:end]
        apart[begin:end] = u[begin:end] - psi_b @ pull[b]
        mean[begin:end] = psi_b @ mean_y[b]
        variance[begin:end] = ((psi_b @ covariance_y[b]) * psi_b).sum(axis=1)
        begin = end
    mean += apart @ mean_z
    variance += ((apart @ covariance_z) * apart).sum(axis=1)
    for i in range(m):
        scale = 1.0 + own_variance[i] * sites[i, 0]
        mean[i] = (mean[i] + own_variance[i] * sites[i, 1]) / scale
        variance[i] = own_variance[i] / scale + variance[i] / (scale * scale)
    return mean, variance


@njit(cache=True)
def settle_leaf_sites(u, psi, own_variance, block, n_blocks, results, sites, seen, moments):  # type: ignore[no-untyped-def]
    """Expectation propagation to convergence, one site per leaf with results, in place; their log evidence (nats).

    results : first (k + 1,) row of each leaf, location, good, bad (rows,): of the holes with results, sorted by leaf
    sites : (k, 2) from where they are     seen : (k, 2) mean and variance of the leaf's effect without its results,
        as its site was last made from them; NaN where results are new
    moments : (k, 2) log mass and third central moment of the tilted distribution
    The point where nothing moves any more is a function of the results alone, wherever the sites were before.
    """
    first, location, good, bad = results
    found = posterior(u, psi, own_variance, block, n_blocks, sites)
    for sweep in range(_MOST_SWEEPS):
        mean, variance = marginals(u, psi, own_variance, block, sites, found)
        settled = True
        for i in range(len(sites)):
            left = 1.0 / (1.0 / variance[i] - sites[i, 0])
            without, spread = left * (mean[i] / variance[i] - sites[i, 1]), left
            if abs(without - seen[i, 0]) <= _SETTLED and abs(spread - seen[i, 1]) <= _SETTLED:
                continue
            settled = False
            if sweep >= _WHOLE_STEPS:
                without, spread = 0.5 * (without + seen[i, 0]), 0.5 * (spread + seen[i, 1])
            seen[i, 0], seen[i, 1] = without, spread
            rows = slice(first[i], first[i + 1])
            log_mass, tilted_mean, tilted_variance, third = tilted(
                without, spread, location[rows], good[rows], bad[rows]
            )
            moments[i, 0], moments[i, 1] = log_mass, third
            sites[i, 0], sites[i, 1] = site_of(without, spread, tilted_mean, tilted_variance)
        if settled:
            break
        found = posterior(u, psi, own_variance, block, n_blocks, sites)
    total = found[5]
    for i in range(len(sites)):
        without, spread = seen[i, 0], seen[i, 1]
        scale = 1.0 + spread * sites[i, 0]
        quadratic = -0.5 * sites[i, 0] * without**2 + sites[i, 1] * without + 0.5 * sites[i, 1] ** 2 * spread
        total += moments[i, 0] - (quadratic / scale - 0.5 * math.log(scale))
    return total
