"""Calibration: from a classifier's score to a probability that means what it says, on the logit scale."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from cryoscout.core.errors import InputError
from cryoscout.core.settings import Settings

SCORE_CLIP = 0.005
"""Scores are clipped to 0.005..0.995 before a logit: published tables have two decimals and many exact 0 and 1."""

FEWEST_LABELS = 10


def clipped_logit(p: NDArray[np.float64], clip: float = SCORE_CLIP) -> NDArray[np.float64]:
    """log(p / (1 - p)) of p clipped to clip..1 - clip; shape kept. Raises InputError for NaN or p outside 0..1."""
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        raise InputError(
            f"Scores must be probabilities between 0 and 1. Got {p[bad][0]} instead ({int(bad.sum())} such scores). "
            "Remedy: predict again, or import the prediction table with the right columns."
        )
    clipped = np.clip(p, clip, 1.0 - clip)
    return np.log(clipped) - np.log1p(-clipped)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), stable at both ends."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


class Calibration(Settings):
    """p = sigmoid(slope * logit(score) + offset); temperature scaling has offset 0 and slope 1 / T."""

    slope: float
    offset: float = 0.0

    def apply(self, score: NDArray[np.float64], clip: float = SCORE_CLIP) -> NDArray[np.float64]:
        """Calibrated probabilities of scores in 0..1, same shape. Ties stay ties; the order is kept if slope > 0."""
        return sigmoid(self.slope * clipped_logit(score, clip) + self.offset)


def fit_calibration(
    score: NDArray[np.float64],
    good: NDArray[np.float64],
    method: Literal["temperature", "platt"] = "platt",
    clip: float = SCORE_CLIP,
) -> Calibration:
    """Maximum-likelihood calibration on held-out labels.

    score : (n,) in 0..1, clipped to clip..1 - clip     good : (n,) 0 or 1
    Raises InputError when there are fewer than 10 labels or only one class: then nothing can be fitted; when a label is
    neither 0 nor 1; and when good holes have the lower scores, a slope of 0 or less, which would turn the order round.
    """
    if len(score) != len(good):
        raise InputError(
            f"Calibration must have one label per score. Got {len(good)} and {len(score)} instead."
        )
    strange = ~np.isin(good, (0.0, 1.0))
    if strange.any():
        raise InputError(
            f"Labels must be 0 or 1. Got {good[strange][0]} instead ({int(strange.sum())} such labels). "
            "Remedy: leave out holes without an outcome; give the shots of a hole one by one."
        )
    if len(good) < FEWEST_LABELS or not 0 < good.sum() < len(good):
        raise InputError(
            f"Calibration must have at least {FEWEST_LABELS} labels of both classes. Got {len(good)} labels, "
            f"{int(good.sum())} good, instead. Remedy: label more holes, or use the scores as they are."
        )
    x = clipped_logit(score, clip)

    def loss(parameters: NDArray[np.float64]) -> float:
        logits = parameters[0] * x + (parameters[1] if method == "platt" else 0.0)
        # A weak prior N(1, 10^2) on the slope keeps separable labels finite.
        return float(np.sum(np.logaddexp(0.0, logits) - good * logits) + (parameters[0] - 1.0) ** 2 / 200.0)

    start = np.array([1.0, 0.0]) if method == "platt" else np.array([1.0])
    best = minimize(loss, start, method="L-BFGS-B").x
    if best[0] <= 0.0:
        raise InputError(
            f"Scores must be higher for good holes than for others. Got the opposite on {len(good)} labels instead "
            f"(a slope of {best[0]:.2f}). Remedy: give 1 - score if the classifier's score is that of a bad hole; "
            "otherwise leave the classifier out."
        )
    return Calibration(slope=float(best[0]), offset=float(best[1]) if method == "platt" else 0.0)
