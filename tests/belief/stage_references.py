"""Slow and obvious references for the field over the stage: one dense covariance, hole by hole, and brute force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from effect_references import make_tree
from scipy.special import expit, log_expit


@dataclass(frozen=True)
class Session:
    """A few holes with everything that a prediction takes."""

    score_p: np.ndarray
    labels: np.ndarray
    patch_of_hole: np.ndarray
    tree: object
    x_um: np.ndarray
    y_um: np.ndarray

    @property
    def arguments(self):
        return (self.score_p, self.labels, self.patch_of_hole, self.tree, self.x_um, self.y_um)

    def changed(self, **new):
        return Session(**{**vars(self), **new})


def make_session(
    seed=0, patches_per_square=((2, 1), (2,)), holes_per_patch=4, unlabelled=0.3, spread_um=40.0
):
    """Holes at random positions, outcomes that follow scores, patches and a wave over the stage."""
    rng = np.random.default_rng(seed)
    tree = make_tree([list(squares) for squares in patches_per_square])
    n_patches = len(tree.square_of_patch)
    patch_of_hole = np.repeat(np.arange(n_patches, dtype=np.int32), holes_per_patch)
    n = len(patch_of_hole)
    x_um, y_um = rng.uniform(-spread_um, spread_um, (2, n))
    x = rng.normal(0.0, 1.5, n)
    logit = 0.8 * x + rng.normal(0.0, 1.0, n_patches)[patch_of_hole] + 1.5 * np.sin(x_um / 25.0)
    good = (rng.random(n) < expit(logit)).astype(float)
    labels = np.where(rng.random(n) < unlabelled, np.nan, good)
    return Session(expit(x), labels, patch_of_hole, tree, x_um, y_um)


def covariance_of_logits(session, model):
    """(n, n) prior covariance of the holes' effects and field, entry by entry; a missing position shares no field."""
    n = len(session.labels)
    square = session.tree.square_of_patch[session.patch_of_hole]
    grid = session.tree.grid_of_square[square]
    out = np.zeros((n, n))
    for h in range(n):
        for k in range(n):
            out[h, k] += model.effects.patch * (session.patch_of_hole[h] == session.patch_of_hole[k])
            out[h, k] += model.effects.square * (square[h] == square[k])
            out[h, k] += model.effects.grid * (grid[h] == grid[k])
            distance = np.hypot(session.x_um[h] - session.x_um[k], session.y_um[h] - session.y_um[k])
            s = np.sqrt(3.0) * distance / model.length_um
            if grid[h] == grid[k] and not np.isnan(s):
                out[h, k] += model.stage_variance * (1.0 + s) * np.exp(-s)
    return out


@dataclass(frozen=True)
class DenseLaplace:
    """Mean and variance of every hole's logit less its location, and the log evidence."""

    mean: np.ndarray  # (n,)
    variance: np.ndarray  # (n,)
    log_evidence: float


def dense_laplace(location, labels, covariance):
    """Algorithms 3.1 and 3.2 of Rasmussen & Williams (2006), all labelled holes in one matrix."""
    known = ~np.isnan(labels)
    prior, good, offset = covariance[np.ix_(known, known)], labels[known], location[known]
    latent = np.zeros(len(good))
    for _ in range(200):
        p = expit(offset + latent)
        root = np.sqrt(p * (1.0 - p))
        inner = np.eye(len(good)) + root[:, None] * prior * root
        b = root**2 * latent + good - p
        pull = b - root * np.linalg.solve(inner, root * (prior @ b))
        # Half steps: slow, and never past the mode.
        latent = 0.5 * latent + 0.5 * prior @ pull
    p = expit(offset + latent)
    root = np.sqrt(p * (1.0 - p))
    inner = np.eye(len(good)) + root[:, None] * prior * root
    signed = (2.0 * good - 1.0) * (offset + latent)
    log_evidence = log_expit(signed).sum() - 0.5 * latent @ pull - 0.5 * np.linalg.slogdet(inner)[1]
    across = root[:, None] * covariance[known]
    variance = np.diag(covariance) - np.einsum("ij,ij->j", across, np.linalg.solve(inner, across))
    return DenseLaplace(covariance[:, known] @ (good - p), variance, float(log_evidence))


def exact_p_good(location, labels, covariance, nodes=80):
    """(n,) p_good of each hole, and the log evidence, as sums over a full product of nodes; for 2 or 3 holes."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    n = len(location)
    z = np.stack(np.meshgrid(*[node] * n, indexing="ij"), axis=-1).reshape(-1, n)
    mass = np.prod(np.meshgrid(*[weight / weight.sum()] * n, indexing="ij"), axis=0).ravel()
    logit = location + z @ root.T
    known = ~np.isnan(labels)
    mass = mass * np.exp(log_expit((2.0 * labels[known] - 1.0) * logit[:, known]).sum(axis=1))
    return (mass @ expit(logit)) / mass.sum(), float(np.log(mass.sum()))
