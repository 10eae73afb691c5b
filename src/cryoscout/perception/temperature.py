"""One temperature for a network's probabilities, fitted on held-out labels. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cryoscout.belief.calibration import FEWEST_LABELS, Calibration

_SMALLEST = 1e-12
_CLIP = 1e-6
"""A network's own probabilities have more digits than published tables."""
LOG_SLOPE_SPREAD = 0.7
"""Standard deviation of log slope before any label: a network is off by a factor of 2 as a rule, not of 10.

A hundred held-out labels leave the slope open by more than that where images say little, and labels of whole patches by
more still; without it, the few that happen to disagree took all meaning from good probabilities. Chosen by
`scripts/select_temperature.py`, on simulated sessions of development alone.
"""


def fit_slope(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], spread: float = LOG_SLOPE_SPREAD
) -> float | None:
    """1 / temperature, the likeliest given the labels; None when there are fewer than 10 or only one class of them.

    probabilities : (n, classes)     labels : (n,)     spread : of log slope around 0 beforehand
    Where the labels contradict the order of the probabilities the slope is small: they say little then.
    """
    if len(labels) < FEWEST_LABELS or len(np.unique(labels)) < 2:
        return None

    def loss(log_slope: float) -> float:
        p = apply_slope(probabilities, float(np.exp(log_slope)))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(p, _SMALLEST)).sum() + (log_slope / spread) ** 2 / 2.0)

    return float(np.exp(minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded").x))


def apply_slope(probabilities: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """(n, classes) calibrated probabilities, rows summing to 1."""
    if probabilities.shape[1] == 2:
        second = Calibration(slope=slope).apply(probabilities[:, 1], _CLIP)
        return np.stack([1.0 - second, second], axis=1)
    powers = slope * np.log(np.maximum(probabilities, _SMALLEST))
    powers -= powers.max(axis=1, keepdims=True)
    whole: NDArray[np.float64] = np.exp(powers)
    return np.asarray(whole / whole.sum(axis=1, keepdims=True))
