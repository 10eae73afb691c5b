"""Gaussian messages on the session > grid > square > patch tree, and the sites of the patches' results, in numba.

Evidence on a patch's effect e is kept as (precision, precision times mean); messages up are the same for the level
above. Each change of one patch's evidence touches only its path, so a message down costs a few operations.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.belief.hole_results import site_of, tilted

Messages = tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
]
"""patch_up (P,2), square_sum (S,2), square_up (S,2), grid_sum (G,2), grid_up (G,2), session_sum (2,)."""

_SETTLED = 1e-8
"""Logits, and logits squared: surroundings that moved by less leave a site as it is."""
_WHOLE_STEPS = 30
_MOST_SWEEPS = 200


@njit(cache=True)
def _log_mass(mean, variance, evidence):  # type: ignore[no-untyped-def]
    """log of the integral of N(e; mean, variance) exp(-precision e^2 / 2 + shift e)."""
    precision, shift = evidence[0], evidence[1]
    scale = 1.0 + variance * precision
    quadratic = -0.5 * precision * mean * mean + shift * mean + 0.5 * shift * shift * variance
    return quadratic / scale - 0.5 * math.log(scale)


@njit(cache=True)
def _given(mean, variance, precision, shift):  # type: ignore[no-untyped-def]
    """`with_evidence` with its two numbers: an array of two, made for every patch, would take most of the time."""
    scale = 1.0 + variance * precision
    return (mean + variance * shift) / scale, variance / scale


@njit(cache=True)
def with_evidence(mean, variance, evidence):  # type: ignore[no-untyped-def]
    """Mean and variance of N(mean, variance) after evidence."""
    return _given(mean, variance, evidence[0], evidence[1])


@njit(cache=True)
def messages_up(evidence, square_of_patch, grid_of_square, variances):  # type: ignore[no-untyped-def]
    """All messages up from the patches' evidence, (P,2); see Messages."""
    n_squares, n_grids = len(grid_of_square), grid_of_square[-1] + 1
    patch_up = np.zeros((len(evidence), 2))
    square_sum, square_up = np.zeros((n_squares, 2)), np.zeros((n_squares, 2))
    grid_sum, grid_up = np.zeros((n_grids, 2)), np.zeros((n_grids, 2))
    session_sum = np.zeros(2)
    for patch in range(len(evidence)):
        _replace(patch_up[patch], evidence[patch], variances[0], square_sum[square_of_patch[patch]])
    for square in range(n_squares):
        _replace(square_up[square], square_sum[square], variances[1], grid_sum[grid_of_square[square]])
    for grid in range(n_grids):
        _replace(grid_up[grid], grid_sum[grid], variances[2], session_sum)
    return patch_up, square_sum, square_up, grid_sum, grid_up, session_sum


@njit(cache=True)
def _replace(message, evidence, variance, total):  # type: ignore[no-untyped-def]
    """Make one message up anew from its evidence, and let the sum it is part of follow; in place."""
    scale = 1.0 + variance * evidence[0]
    for part in range(2):
        new = evidence[part] / scale
        total[part] += new - message[part]
        message[part] = new


@njit(cache=True)
def update_path(patch, evidence, square_of_patch, grid_of_square, variances, messages):  # type: ignore[no-untyped-def]
    """Carry a changed evidence of one patch up to the session."""
    patch_up, square_sum, square_up, grid_sum, grid_up, session_sum = messages
    square = square_of_patch[patch]
    grid = grid_of_square[square]
    _replace(patch_up[patch], evidence[patch], variances[0], square_sum[square])
    _replace(square_up[square], square_sum[square], variances[1], grid_sum[grid])
    _replace(grid_up[grid], grid_sum[grid], variances[2], session_sum)


@njit(cache=True)
def given_others(patch, square_of_patch, grid_of_square, variances, messages):  # type: ignore[no-untyped-def]
    """Mean and variance of the patch's effect given everything but the patch's own evidence."""
    patch_up, square_sum, square_up, grid_sum, grid_up, session_sum = messages
    square = square_of_patch[patch]
    grid = grid_of_square[square]
    up, down = grid_up[grid], session_sum
    mean, variance = _given(0.0, variances[3], down[0] - up[0], down[1] - up[1])
    up, down = square_up[square], grid_sum[grid]
    mean, variance = _given(mean, variance + variances[2], down[0] - up[0], down[1] - up[1])
    up, down = patch_up[patch], square_sum[square]
    mean, variance = _given(mean, variance + variances[1], down[0] - up[0], down[1] - up[1])
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
def settle_sites(  # type: ignore[no-untyped-def]
    results, sites, seen, log_mass, evidence, square_of_patch, grid_of_square, variances
):
    """Expectation propagation to convergence, one site per hole with results, in place; the sweeps it took.

    results : patch, location, good, bad, (m,) each: of the holes with results, and their shots with such a result
    sites : (m, 2) from where they are     seen : (m, 2) mean and variance of the effect without the hole's results, as
        each site was last made from them; NaN where results are new     log_mass : (m,) of the tilted distribution
    evidence : (P, 2) is written: the sum of each patch's sites
    Only sites whose surroundings have moved are made again, so one more result costs little. The point where nothing
    moves any more is a function of the results alone, wherever the sites were before.
    """
    patch_of_row, location, good, bad = results
    evidence[:] = 0.0
    for i in range(len(sites)):
        for part in range(2):  # not the rows themselves: a sum of arrays takes seconds to compile
            evidence[patch_of_row[i], part] += sites[i, part]
    for sweep in range(_MOST_SWEEPS):
        messages = messages_up(evidence, square_of_patch, grid_of_square, variances)
        settled = True
        for i in range(len(sites)):
            # As elsewhere: each kind of integer compiles all that is called.
            patch = np.int64(patch_of_row[i])
            here, site = evidence[patch], sites[i]
            mean, variance = given_others(patch, square_of_patch, grid_of_square, variances, messages)
            mean, variance = _given(mean, variance, here[0] - site[0], here[1] - site[1])
            if abs(mean - seen[i, 0]) <= _SETTLED and abs(variance - seen[i, 1]) <= _SETTLED:
                continue
            settled = False
            if sweep >= _WHOLE_STEPS:
                # Whole steps converge in a few sweeps; where they should ever go round in circles, half steps end it.
                mean, variance = 0.5 * (mean + seen[i, 0]), 0.5 * (variance + seen[i, 1])
            seen[i, 0], seen[i, 1] = mean, variance
            row = slice(i, i + 1)
            log_mass[i], tilted_mean, tilted_variance, _ = tilted(
                mean, variance, location[row], good[row], bad[row]
            )
            if variance <= 0.0:
                continue
            precision, shift = site_of(mean, variance, tilted_mean, tilted_variance)
            here[0] += precision - site[0]
            here[1] += shift - site[1]
            site[0], site[1] = precision, shift
            update_path(patch, evidence, square_of_patch, grid_of_square, variances, messages)
        if settled:
            return sweep
    return _MOST_SWEEPS


@njit(cache=True)
def third_moments(results, evidence, square_of_patch, grid_of_square, variances):  # type: ignore[no-untyped-def]
    """Third central moment of every patch's effect given all its results at once, (P,); 0 where it has none.

    results : as in `settle_sites`, sorted by patch. The Gaussian of the sites has none, but few results that all say
    the same leave an effect skewed.
    """
    patch_of_row, location, good, bad = results
    third = np.zeros(len(evidence))
    messages = messages_up(evidence, square_of_patch, grid_of_square, variances)
    begin = 0
    for end in range(1, len(location) + 1):
        if end < len(location) and patch_of_row[end] == patch_of_row[begin]:
            continue
        patch, rows = np.int64(patch_of_row[begin]), slice(begin, end)
        mean, variance = given_others(patch, square_of_patch, grid_of_square, variances, messages)
        third[patch] = tilted(mean, variance, location[rows], good[rows], bad[rows])[3]
        begin = end
    return third


@njit(cache=True)
def ep_log_likelihood(  # type: ignore[no-untyped-def]
    sites, seen, log_mass, evidence, square_of_patch, grid_of_square, variances
):
    """The approximate log marginal likelihood of the results at converged sites; arguments as in `settle_sites`."""
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
        total += log_mass[i] - _log_mass(seen[i, 0], seen[i, 1], sites[i])
    return total


@njit(cache=True)
def _change_with_variance(mean, variance, evidence):  # type: ignore[no-untyped-def]
    """Derivative of `_log_mass` with respect to the variance."""
    scale = 1.0 + variance * evidence[0]
    residual = (evidence[1] - evidence[0] * mean) / scale
    return 0.5 * (residual * residual - evidence[0] / scale)


@njit(cache=True)
def ep_log_likelihood_gradient(  # type: ignore[no-untyped-def]
    sites, seen, evidence, square_of_patch, grid_of_square, variances
):
    """Derivatives of the log marginal likelihood: by the location of each result, (m,), and by the variances, (3,).

    At converged sites the likelihood does not change with them (Seeger 2005), so only what stands outside of the
    sites is derived: the tilted mass by its location, the prior by the variances of patch, square and grid.
    """
    messages = messages_up(evidence, square_of_patch, grid_of_square, variances)
    _, square_sum, square_up, grid_sum, grid_up, session_sum = messages
    by_location = np.empty(len(sites))
    for i in range(len(sites)):
        tilted_mean, _ = with_evidence(seen[i, 0], seen[i, 1], sites[i])
        by_location[i] = (tilted_mean - seen[i, 0]) / seen[i, 1]
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
