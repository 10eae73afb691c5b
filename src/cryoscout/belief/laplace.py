"""Laplace's approximation of a logistic model with Gaussian terms, for the labelled holes of one grid.

The logits are location + columns @ z + the effect of the hole's patch, with z ~ N(0, I) and independent patch
effects; the prior's standard deviations are in the columns, so a term of variance zero is a column of zeros. Patch
effects are eliminated by hand (their block is diagonal), which makes the cost independent of how many patches there
are. Rasmussen & Williams (2006), sections 3.4 and 5.5.1, written for the weights instead of the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from cryoscout.belief.calibration import sigmoid

_MOST_STEPS = 100
_CONVERGED = 1e-15
"""Twice the log posterior (nats) that one more Newton step would gain. The evidence's curvature term changes with the
root of it, and a fit must not see where the search for the mode began."""

_NOISE = 1e-12
"""Relative rounding error of a log posterior: a step that loses less is taken."""

_MOST_HALVINGS = 30

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class LabelledBlock:
    """What is known of the labelled holes of one grid. Holes are sorted by patch, every patch has a hole."""

    location: Numbers  # (m,) logit without effects
    columns: Numbers  # (m, r) change of the logit with each standard normal z
    patch: NDArray[np.int64]  # (m,) 0..k-1, sorted
    patch_variance: float  # logit squared
    good: Numbers  # (m,) 0 or 1
    kept: Numbers | None = None  # (m,) 0..1, share of the good micrographs that were not lost; None: all

    def by_patch(self, values: Numbers) -> Numbers:
        """Sums over the holes of each patch: (m, ...) to (k, ...)."""
        return np.asarray(np.add.reduceat(values, self._first_of_patch, axis=0))

    @cached_property
    def _first_of_patch(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.diff(self.patch, prepend=-1))

    def logits(self, z: Numbers, patch_effect: Numbers) -> Numbers:
        """(m,) of z (r,) and patch effects (k,)."""
        return np.asarray(self.location + self.columns @ z + patch_effect[self.patch])

    def log_joint(self, z: Numbers, patch_effect: Numbers) -> float:
        """log p(good | z, patch effects) and the log prior, without the normal densities' constants."""
        logits = self.logits(z, patch_effect)
        signed = (2.0 * self.good - 1.0) * logits
        each = -np.logaddexp(0.0, -signed)
        if self.kept is not None:
            lossy = self.kept < 1.0
            kept, good = self.kept[lossy], self.good[lossy] > 0
            each[lossy] = np.where(good, np.log(kept) + each[lossy], np.log1p(-kept * sigmoid(logits[lossy])))
        value = float(each.sum()) - 0.5 * float(z @ z)
        return value - 0.5 * float(patch_effect @ self._over_variance(patch_effect))

    def _over_variance(self, patch_effect: Numbers) -> Numbers:
        """Effects over their variance; an effect without variance is 0 and stays so."""
        return patch_effect / self.patch_variance if self.patch_variance > 0 else np.zeros_like(patch_effect)

    def newton_step(self, z: Numbers, patch_effect: Numbers) -> tuple[Numbers, Numbers, float, _Curvature]:
        """Changes of z and the patch effects, twice what they gain by the quadratic model, the curvature here."""
        p = sigmoid(self.logits(z, patch_effect))
        residual, weight = self.good - p, p * (1.0 - p)
        if self.kept is not None:
            # Of good with probability kept p: the slope and the expected curvature, which is never negative.
            lossy = self.kept < 1.0
            chance, fails = self.kept[lossy] * p[lossy], 1.0 - p[lossy]
            share = fails / (1.0 - chance)
            residual[lossy] = (self.good[lossy] - chance) * share
            weight[lossy] = chance * fails * share
        curvature = _Curvature.of(self, weight)
        of_z = self.columns.T @ residual - z
        of_patch = self.by_patch(residual) - self._over_variance(patch_effect)
        step = cho_solve((curvature.factor, True), of_z - curvature.pull.T @ of_patch, check_finite=False)
        patch_step = curvature.patch_variance * of_patch - curvature.pull @ step
        return step, patch_step, float(of_z @ step + of_patch @ patch_step), curvature


@dataclass(frozen=True)
class _Curvature:
    """Minus the second derivative of the log joint, patches eliminated."""

    weight: Numbers  # (m,) p (1 - p)
    patch_variance: Numbers  # (k,) of each patch's effect given z
    pull: Numbers  # (k, r) how the mean of each patch's effect falls with z
    factor: Numbers  # (r, r) lower Cholesky factor of the precision of z; above the diagonal anything
    log_determinant: float  # of the whole precision, in units of the prior's

    @classmethod
    def of(cls, block: LabelledBlock, weight: Numbers) -> _Curvature:
        """At these weights, (m,)."""
        root = np.sqrt(weight)
        scaled = root[:, None] * block.columns
        shared, total = block.by_patch(root[:, None] * scaled), block.by_patch(weight)
        patch_variance = block.patch_variance / (1.0 + block.patch_variance * total)
        pull = patch_variance[:, None] * shared
        precision = scaled.T @ scaled - shared.T @ pull
        precision[np.diag_indices_from(precision)] += 1.0
        factor = cho_factor(precision, lower=True, check_finite=False)[0]
        log_determinant = 2.0 * float(np.log(np.diagonal(factor)).sum())
        log_determinant += float(np.log1p(block.patch_variance * total).sum())
        return cls(weight, patch_variance, pull, factor, log_determinant)


@dataclass(frozen=True)
class EvidenceGradient:
    """Derivatives of the log evidence, the mode moving along."""

    by_location: Numbers  # (m,)
    by_columns: Numbers  # (m, r)
    by_log_patch_variance: float


@dataclass(frozen=True)
class LaplacePosterior:
    """The Gaussian around the mode: z ~ N(mean, covariance), patch effect ~ N(patch_mean - pull (z - mean), ...)."""

    block: LabelledBlock
    mean: Numbers  # (r,)
    covariance: Numbers  # (r, r)
    patch_mean: Numbers  # (k,)
    patch_variance: Numbers  # (k,) given z
    pull: Numbers  # (k, r)
    weight: Numbers  # (m,) p (1 - p) at the mode
    log_evidence: float  # nats

    def evidence_gradient(self) -> EvidenceGradient:
        """Exact for this approximation: the third derivative of the likelihood is in it (section 5.5.1).

        Only where nothing is lost (`kept` None).
        """
        block, patch, weight = self.block, self.block.patch, self.weight
        p = sigmoid(block.logits(self.mean, self.patch_mean))
        residual = block.good - p
        apart = block.columns - self.pull[patch]
        with_z = apart @ self.covariance
        variance = np.einsum("ij,ij->i", with_z, apart) + self.patch_variance[patch]
        # Half the change of the log determinant with each logit, and what it does to the mode.
        bend = 0.5 * variance * weight * (1.0 - 2.0 * p)
        moved = self.covariance @ (apart.T @ bend)
        patch_moved = self.patch_variance * block.by_patch(bend) - self.pull @ moved
        slope = residual - bend + weight * (block.columns @ moved + patch_moved[patch])
        with_patch = self.patch_variance[patch] - np.einsum("ij,ij->i", with_z, self.pull[patch])
        of_patch = slope * self.patch_mean[patch] - residual * patch_moved[patch] - weight * with_patch
        return EvidenceGradient(
            by_location=slope,
            by_columns=np.outer(slope, self.mean) - np.outer(residual, moved) - weight[:, None] * with_z,
            by_log_patch_variance=0.5 * float(of_patch.sum()),
        )


def laplace_posterior(
    block: LabelledBlock, start: tuple[Numbers, Numbers] | None = None, settled: float = _CONVERGED
) -> LaplacePosterior:
    """The posterior of one grid's effects by Newton's method; the log joint is concave, so there is one mode.

    Where good micrographs may be lost (`kept`) it need not be: then the mode that is reached from the start, with the
    expected curvature there.
    start : z (r,) and patch effects (k,) near the mode, zeros when None; changes the time alone
    settled : twice the log posterior (nats) that one more step would gain where the search ends
    """
    n_patches = int(block.patch[-1]) + 1
    z, patch_effect = start or (np.zeros(block.columns.shape[1]), np.zeros(n_patches))
    if block.patch_variance == 0:
        patch_effect = np.zeros(n_patches)
    height = block.log_joint(z, patch_effect)
    for _ in range(_MOST_STEPS):
        step, patch_step, gain, curvature = block.newton_step(z, patch_effect)
        if gain < settled:
            break
        for _ in range(_MOST_HALVINGS):
            reached = block.log_joint(z + step, patch_effect + patch_step)
            if reached >= height - _NOISE * (1.0 + abs(height)):
                break
            step, patch_step = step / 2.0, patch_step / 2.0
        else:
            break
        z, patch_effect, height = z + step, patch_effect + patch_step, reached
    return LaplacePosterior(
        block=block,
        mean=z,
        covariance=cho_solve((curvature.factor, True), np.eye(len(z)), check_finite=False),
        patch_mean=patch_effect,
        patch_variance=curvature.patch_variance,
        pull=curvature.pull,
        weight=curvature.weight,
        log_evidence=height - 0.5 * curvature.log_determinant,
    )
