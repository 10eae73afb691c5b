"""Slow and obvious references for the belief: dense covariances and brute-force integrals, on generated trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from scipy.special import expit, log_expit

from cryoscout.belief.effects import EffectVariances
from cryoscout.core.hole_tree import HoleTree

NO_HOLES = np.empty(0, dtype=np.int32)
"""Of a tree that stands for the places above the holes alone; tests say their holes' patches beside it."""


def make_tree(patches_per_square):
    """A tree from nested lists: for each grid, for each of its squares, its number of patches."""
    squares = [(grid, patches) for grid, squares in enumerate(patches_per_square) for patches in squares]
    square_of_patch = [square for square, (_, patches) in enumerate(squares) for _ in range(patches)]
    return HoleTree(
        NO_HOLES,
        np.array(square_of_patch, dtype=np.int32),
        np.array([grid for grid, _ in squares], dtype=np.int32),
    )


def trees(patches=4, squares=3, grids=3):
    """Generated trees; every square has at least one patch and every grid at least one square."""
    square = st.lists(st.integers(1, patches), min_size=1, max_size=squares)
    return st.lists(square, min_size=1, max_size=grids).map(make_tree)


def variances(largest=3.0):
    """Generated prior variances; each is zero now and then."""
    one = st.one_of(st.just(0.0), st.floats(0.01, largest))
    return st.builds(EffectVariances, patch=one, square=one, grid=one, session=one)


def prior_covariance(tree, effects):
    """(P, P) prior covariance of the patches' e_p, entry by entry."""
    n = len(tree.square_of_patch)
    covariance = np.empty((n, n))
    for p in range(n):
        for q in range(n):
            squares = tree.square_of_patch[p], tree.square_of_patch[q]
            covariance[p, q] = effects.session
            covariance[p, q] += effects.grid * (
                tree.grid_of_square[squares[0]] == tree.grid_of_square[squares[1]]
            )
            covariance[p, q] += effects.square * (squares[0] == squares[1])
            covariance[p, q] += effects.patch * (p == q)
    return covariance


def dense_posterior(covariance, evidence):
    """Mean (P,), covariance (P, P) and log mass of N(0, covariance) times exp(-precision e^2 / 2 + shift e).

    Written without the inverse of the covariance, which zero variances make singular.
    """
    root = np.diag(np.sqrt(evidence[:, 0]))
    inner = np.eye(len(covariance)) + root @ covariance @ root
    posterior = covariance - covariance @ root @ np.linalg.solve(inner, root @ covariance)
    mean = posterior @ evidence[:, 1]
    log_mass = 0.5 * evidence[:, 1] @ mean - 0.5 * np.linalg.slogdet(inner)[1]
    return mean, posterior, log_mass


@dataclass(frozen=True)
class ExactPosterior:
    """The posterior of the patches' effects by brute force."""

    log_likelihood: float
    mean: np.ndarray  # (P,)
    variance: np.ndarray  # (P,)
    p_good: np.ndarray  # (n,)


def exact_posterior(location, patch_of_hole, good, shots, covariance, nodes=40):
    """Every integral as a sum over a full product of Gauss-Hermite nodes; for 1 to 3 patches.

    good : (n,) good micrographs of 0..shots, NaN where unknown
    The effects are e = root z with z ~ N(0, 1) and root root' = covariance, so that zero variances do no harm.
    The nodes lie around the mode of the posterior of z, scaled by the curvature there, so that they are dense
    where it has its mass; what the scaled normal density puts there is divided out again.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    known = ~np.isnan(good)
    rows, m, count = root[patch_of_hole[known]], location[known], good[known]

    def log_posterior(z):
        logit = m + z @ rows.T
        return -0.5 * (z**2).sum(axis=-1) + log_expit(logit) @ count + log_expit(-logit) @ (shots - count)

    n = len(covariance)
    mode, curvature = np.zeros(n), np.eye(n)
    for _ in range(100):
        p = expit(m + rows @ mode)
        curvature = np.eye(n) + (rows.T * (shots * p * (1.0 - p))) @ rows
        step = np.linalg.solve(curvature, rows.T @ (count - shots * p) - mode)
        while log_posterior(mode + step) < log_posterior(mode) - 1e-12:
            step = step / 2.0
        mode = mode + step
    scale = np.linalg.cholesky(np.linalg.inv(curvature))
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    standard = np.stack(np.meshgrid(*[node] * n, indexing="ij"), axis=-1).reshape(-1, n)
    log_weight = sum(np.meshgrid(*[np.log(weight / weight.sum())] * n, indexing="ij")).ravel()
    z = mode + standard @ scale.T
    total = log_posterior(z) + log_weight + 0.5 * (standard**2).sum(axis=1)
    posterior = np.exp(total - total.max())
    log_mass = np.log(posterior.sum()) + total.max() + np.linalg.slogdet(scale)[1]
    posterior /= posterior.sum()
    effects = z @ root.T
    mean = posterior @ effects
    return ExactPosterior(
        log_likelihood=float(log_mass),
        mean=mean,
        variance=posterior @ (effects - mean) ** 2,
        p_good=np.array(
            [posterior @ expit(m + effects[:, p]) for m, p in zip(location, patch_of_hole, strict=True)]
        ),
    )


def exact_on_a_fine_grid(location, patch_of_hole, good, results, tree, effects, points=801):
    """The exact posterior on any tree by messages that are whole functions, each a table over a fine grid of effects.

    good, results : (n,) good micrographs and shots with a result of each hole, 0 where nothing is known
    Patch, square and grid sums are chained, e = session + grid + square + patch, so every integral is over one number.
    """
    reach = 9.0 * np.sqrt(effects.total) + 1e-3
    axis, step = np.linspace(-reach, reach, points, retstep=True)

    def spread(variance):
        """(points, points): rows are what N(0, variance) added to each point gives."""
        if variance == 0.0:
            return np.eye(points)
        density = np.exp(-0.5 * (axis[:, None] - axis[None, :]) ** 2 / variance)
        return density * step / np.sqrt(2.0 * np.pi * variance)

    by_patch, by_square, by_grid, by_session = (spread(variance) for variance in effects.as_tuple())
    n_squares = len(tree.grid_of_square)
    patch_log = np.zeros((len(tree.square_of_patch), points))
    for m, patch, count, shots in zip(location, patch_of_hole, good, results, strict=True):
        if shots > 0:
            patch_log[patch] += count * log_expit(m + axis) + (shots - count) * log_expit(-m - axis)
    top = patch_log.max(axis=1)
    up = np.exp(patch_log - top[:, None])  # likelihood of each patch's effect
    from_patch = up @ by_patch.T
    at_square = np.array([from_patch[tree.square_of_patch == s].prod(axis=0) for s in range(n_squares)])
    from_square = at_square @ by_square.T
    at_grid = np.array([from_square[tree.grid_of_square == g].prod(axis=0) for g in range(tree.n_grids)])
    from_grid = at_grid @ by_grid.T
    prior = by_session[points // 2] if effects.session > 0 else np.eye(points)[points // 2]
    log_likelihood = np.log((prior * from_grid.prod(axis=0)).sum()) + top.sum()

    def without(rows, own):
        return np.delete(rows, own, axis=0).prod(axis=0)

    means, variances, p_good = np.empty(len(up)), np.empty(len(up)), np.empty(len(location))
    for patch, square in enumerate(tree.square_of_patch):
        grid = tree.grid_of_square[square]
        down = (prior * without(from_grid, grid)) @ by_grid
        squares = np.flatnonzero(tree.grid_of_square == grid)
        down = (down * without(from_square[squares], np.flatnonzero(squares == square)[0])) @ by_square
        patches = np.flatnonzero(tree.square_of_patch == square)
        down = (down * without(from_patch[patches], np.flatnonzero(patches == patch)[0])) @ by_patch
        posterior = down * up[patch]
        posterior /= posterior.sum()
        means[patch] = posterior @ axis
        variances[patch] = posterior @ (axis - means[patch]) ** 2
        for hole in np.flatnonzero(patch_of_hole == patch):
            p_good[hole] = posterior @ expit(location[hole] + axis)
    return ExactPosterior(float(log_likelihood), means, variances, p_good)
