"""One temperature for a network's probabilities, fitted on held-out labels. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cryoscout.belief.calibration import FEWEST_LABELS, Calibration, fit_calibration
from cryoscout.core.errors import InputError

_SMALLEST = 1e-12
_CLIP = 1e-6
"""A network's own probabilities have more digits than published tables."""


def fit_slope(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float | None:
    """1 / temperature by maximum likelihood; None when there are fewer than 10 labels or only one class of them.

    probabilities : (n, classes)     labels : (n,)
    Two classes are `belief.calibration`'s; more have the softmax of slope times log p, with its weak prior on the
    slope. A slope of 0 or less, which would turn the order round, is none.
    """
    if len(labels) < FEWEST_LABELS or len(np.unique(labels)) < 2:
        return None
    if probabilities.shape[1] == 2:
        try:
            slope = fit_calibration(
                probabilities[:, 1], labels.astype(np.float64), "temperature", _CLIP
            ).slope
        except InputError:  # the order would be turned round
            return None
    else:

        def loss(slope: float) -> float:
            p = apply_slope(probabilities, slope)[np.arange(len(labels)), labels]
            return float(-np.log(np.maximum(p, _SMALLEST)).sum() + (slope - 1.0) ** 2 / 200.0)

        slope = float(minimize_scalar(loss, bounds=(1e-3, 100.0), method="bounded").x)
    return slope if slope > 0.0 else None


def apply_slope(probabilities: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """(n, classes) calibrated probabilities, rows summing to 1."""
    if probabilities.shape[1] == 2:
        second = Calibration(slope=slope).apply(probabilities[:, 1], _CLIP)
        return np.stack([1.0 - second, second], axis=1)
    powers = slope * np.log(np.maximum(probabilities, _SMALLEST))
    powers -= powers.max(axis=1, keepdims=True)
    whole: NDArray[np.float64] = np.exp(powers)
    return np.asarray(whole / whole.sum(axis=1, keepdims=True))
