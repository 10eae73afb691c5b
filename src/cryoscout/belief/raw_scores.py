"""From raw scores of any scale (a classifier's output, an ice thickness) to probabilities, by the results there are.

Logistic regression of good against bad micrographs on the score, its square among the terms, because ice can be too
thin and too thick. Scores are put on one scale by median and quartiles, and what lies far outside counts as the edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from cryoscout.belief.calibration import FEWEST_LABELS, sigmoid
from cryoscout.core.errors import InputError

EDGE = 3.0
"""Scaled scores are clipped to -EDGE..EDGE: beyond, no result says how the curve goes on."""

SLOPE_SD, CURVATURE_SD = 2.0, 0.5
"""Of the normal priors of the two terms, in logits per scaled score and its square. Few results change little; the
curvature needs more of them than the slope."""

_QUARTILES_IN_SD = 1.349
_AMONG_THE_SCORES = 1.5


@dataclass(frozen=True)
class RawScoreFit:
    """p = sigmoid(offset + slope z + curvature (z^2 - 1)), z the scaled and clipped score."""

    centre: float
    scale: float
    offset: float
    slope: float
    curvature: float
    n_results: int
    """Micrographs that it was fitted to."""

    def apply(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of scores of any scale, same shape; NaN stays NaN."""
        z = _scaled(score, self.centre, self.scale)
        return sigmoid(self.offset + self.slope * z + self.curvature * (z**2 - 1.0))

    @property
    def in_words(self) -> str:
        """Which scores are good, for people."""
        turns_at = abs(self.slope) / (2.0 * abs(self.curvature)) if self.curvature else np.inf
        if turns_at < _AMONG_THE_SCORES:
            best = self.centre - self.scale * self.slope / (2.0 * self.curvature)
            return f"scores near {best:.4g} are {'best' if self.curvature < 0 else 'worst'}"
        return "higher scores are better" if self.slope > 0 else "lower scores are better"


def fit_raw_scores(
    score: NDArray[np.float64], good: NDArray[np.float64], results: NDArray[np.float64]
) -> RawScoreFit:
    """Fit to the holes that have a score and a result.

    score : (n,) any scale, NaN without one     good, results : (n,) good micrographs and micrographs with a result
    Raises InputError for fewer than 10 results of scored holes, for results of one kind alone, and for scores that are
    all equal.
    """
    scored = np.isfinite(score)
    used = scored & (results > 0)
    n, n_good = float(results[used].sum()), float(good[used].sum())
    if n < FEWEST_LABELS or not 0 < n_good < n:
        raise InputError(
            f"Raw scores must have at least {FEWEST_LABELS} results of both kinds to become probabilities. Got "
            f"{n:.0f} results of holes with a score, {n_good:.0f} of them good, instead. Remedy: import more results "
            "first, or give probabilities with --column p_good=NAME."
        )
    low, centre, high = np.quantile(score[scored], [0.25, 0.5, 0.75])
    scale = float(high - low) / _QUARTILES_IN_SD or float(np.std(score[scored]))
    if scale == 0:
        raise InputError(
            f"Scores must differ from hole to hole. Got {centre:g} for all {int(scored.sum())} instead. "
            "Remedy: name another column."
        )
    z = _scaled(score[used], float(centre), scale)
    terms = np.column_stack([np.ones(len(z)), z, z**2 - 1.0])
    bad = results[used] - good[used]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = terms @ weights
        value = float(np.sum(good[used] * np.logaddexp(0, -logits) + bad * np.logaddexp(0, logits)))
        slope = terms.T @ (results[used] * sigmoid(logits) - good[used])
        prior = weights / np.array([np.inf, SLOPE_SD**2, CURVATURE_SD**2])
        return value + float(0.5 * weights @ prior), slope + prior

    start = np.array([np.log(n_good) - np.log(n - n_good), 0.0, 0.0])
    offset, slope, curvature = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return RawScoreFit(float(centre), scale, float(offset), float(slope), float(curvature), int(n))


def _scaled(score: NDArray[np.float64], centre: float, scale: float) -> NDArray[np.float64]:
    return np.clip((score - centre) / scale, -EDGE, EDGE)
