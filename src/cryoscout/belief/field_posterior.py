"""The Gaussian posterior of one grid with a smooth field, and the sites of its results, in numba.

Loops, not matrix products: with products of numpy this compiles three times as long and runs no faster.

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
def _add_products(total, left, right, weights, begin, end):  # type: ignore[no-untyped-def]
    """Add the sum over the rows begin..end-1 of weight * left' right to `total`, in place.

    total : (p, q)     left : (n, p)     right : (n, q)     weights : (n,)
    """
    for i in range(begin, end):
        for a in range(left.shape[1]):
            factor = weights[i] * left[i, a]
            for b in range(right.shape[1]):
                total[a, b] += factor * right[i, b]


@njit(cache=True)
def _add_gram(total, rows, weights, begin, end):  # type: ignore[no-untyped-def]
    """`_add_products` of the rows with themselves, into the lower triangle of `total`, (p, p), alone."""
    for i in range(begin, end):
        for a in range(rows.shape[1]):
            factor = weights[i] * rows[i, a]
            for b in range(a + 1):
                total[a, b] += factor * rows[i, b]


@njit(cache=True)
def _invert(matrix, inverse):  # type: ignore[no-untyped-def]
    """Write the inverse of a positive definite matrix, given by its lower triangle; the log of its determinant."""
    n = len(matrix)
    factor, apart = np.zeros((n, n)), np.zeros((n, n))
    log_determinant = 0.0
    for i in range(n):
        for j in range(i + 1):
            left = matrix[i, j]
            for m in range(j):
                left -= factor[i, m] * factor[j, m]
            factor[i, j] = math.sqrt(left) if i == j else left / factor[j, j]
        log_determinant += 2.0 * math.log(factor[i, i])
    # Row j of `apart` is column j of the inverse of the Cholesky factor.
    for j in range(n):
        apart[j, j] = 1.0 / factor[j, j]
        for i in range(j + 1, n):
            total = 0.0
            for m in range(j, i):
                total -= factor[i, m] * apart[j, m]
            apart[j, i] = total / factor[i, i]
    for i in range(n):
        for j in range(i + 1):
            total = 0.0
            for m in range(i, n):
                total += apart[i, m] * apart[j, m]
            inverse[i, j] = inverse[j, i] = total
    return log_determinant


@njit(cache=True)
def posterior(u, psi, own_variance, block, n_blocks, sites):  # type: ignore[no-untyped-def]
    """What the sites of leaves say of z and of each block's y.

    u : (k, r)     psi : (k, s)     own_variance : (k,) d     block : (k,) 0..n_blocks-1, sorted
    sites : (k, 2) precision, precision times mean of each leaf's effect
    Returns mean_z (r, 1), covariance_z (r, r), of each block covariance_y (b, s, s) given z, pull (b, s, r) and
    mean_y (b, s, 1), with y | z ~ N(mean_y - pull z, covariance_y), and the log of the integral of prior times sites.
    """
    k, r, s = len(u), u.shape[1], psi.shape[1]
    precision, shift, ones = np.empty(k), np.empty((k, 1)), np.ones(max(k, r, s))
    log_mass = 0.0
    for i in range(k):
        scale = 1.0 + own_variance[i] * sites[i, 0]
        precision[i], shift[i, 0] = sites[i, 0] / scale, sites[i, 1] / scale
        log_mass += 0.5 * sites[i, 1] * shift[i, 0] * own_variance[i] - 0.5 * math.log(scale)
    precision_z, shift_z = np.eye(r), np.zeros((r, 1))
    _add_gram(precision_z, u, precision, 0, k)
    _add_products(shift_z, u, shift, ones, 0, k)
    covariance_y, pull = np.zeros((n_blocks, s, s)), np.zeros((n_blocks, s, r))
    mean_y = np.zeros((n_blocks, s, 1))
    begin = 0
    for b in range(n_blocks):
        end = begin
        while end < k and block[end] == b:
            end += 1
        precision_y, across, shift_y = np.eye(s), np.zeros((s, r)), np.zeros((s, 1))
        _add_gram(precision_y, psi, precision, begin, end)
        log_mass -= 0.5 * _invert(precision_y, covariance_y[b])
        if end == begin:
            continue
        _add_products(across, psi, u, precision, begin, end)
        _add_products(shift_y, psi, shift, ones, begin, end)
        _add_products(pull[b], covariance_y[b], across, ones, 0, s)
        _add_products(mean_y[b], covariance_y[b], shift_y, ones, 0, s)
        _add_products(precision_z, across, pull[b], -ones, 0, s)
        _add_products(shift_z, across, mean_y[b], -ones, 0, s)
        for a in range(s):
            log_mass += 0.5 * shift_y[a, 0] * mean_y[b, a, 0]
        begin = end
    mean_z, covariance_z = np.zeros((r, 1)), np.empty((r, r))
    log_mass -= 0.5 * _invert(precision_z, covariance_z)
    _add_products(mean_z, covariance_z, shift_z, ones, 0, r)
    for a in range(r):
        log_mass += 0.5 * shift_z[a, 0] * mean_z[a, 0]
    return mean_z, covariance_z, covariance_y, pull, mean_y, log_mass


@njit(cache=True)
def _quadratic(rows, at, covariance, product):  # type: ignore[no-untyped-def]
    """x' C x of row `at`; product : (q,) room for C x."""
    product[:] = 0.0
    for a in range(rows.shape[1]):
        for b in range(rows.shape[1]):
            product[b] += rows[at, a] * covariance[a, b]
    total = 0.0
    for b in range(rows.shape[1]):
        total += product[b] * rows[at, b]
    return total


@njit(cache=True)
def marginals(u, psi, own_variance, block, sites, found):  # type: ignore[no-untyped-def]
    """Mean and variance of the effects of leaves, (m,), (m,), given a `posterior`.

    u, psi, own_variance, block : of these leaves, sorted by block
    sites : (m, 2) of theirs, 0 where they have no result
    """
    mean_z, covariance_z, covariance_y, pull, mean_y, _ = found
    m, r, s = len(u), u.shape[1], psi.shape[1]
    apart, mean, variance = u.copy(), np.zeros(m), np.zeros(m)
    room_y, room_z = np.empty(s), np.empty(r)
    for i in range(m):
        b = block[i]
        for a in range(s):
            mean[i] += psi[i, a] * mean_y[b, a, 0]
            for c in range(r):
                apart[i, c] -= psi[i, a] * pull[b, a, c]
        for c in range(r):
            mean[i] += apart[i, c] * mean_z[c, 0]
        variance[i] = _quadratic(psi, i, covariance_y[b], room_y) + _quadratic(apart, i, covariance_z, room_z)
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
