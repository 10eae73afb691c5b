"""Means, deviations and paired bootstrap intervals: the only statistics the study tables print."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A mean with a percentile bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def paired_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    seed: int,
    *,
    coverage: float = 0.95,
    draws: int = 4000,
) -> Interval:
    """Mean of first - second over pairs, with a percentile bootstrap interval over the pairs.

    first, second : (k,) results of two policies from the same starts, in the same order
    The interval holds what the choice of start explains; it says nothing about other sessions.
    Raises InputError when the two have different lengths or are empty.
    """
    if len(first) != len(second) or len(first) == 0:
        raise InputError(
            f"Paired results must come from the same starts, at least one. Got {len(first)} and "
            f"{len(second)} instead. "
            "Remedy: replay both policies from the same list of starts."
        )
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    rng = np.random.default_rng(seed)
    k = len(difference)
    means = np.concatenate(
        [difference[rng.integers(0, k, size=(block, k))].mean(axis=1) for block in _blocks(draws, k)]
    )
    tail = (1.0 - coverage) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(difference.mean()), float(low), float(high))


def _blocks(draws: int, width: int) -> list[int]:
    """Split the draws so that no block indexes more than about a million entries at once."""
    size = max(1, 1_000_000 // width)
    return [min(size, draws - first) for first in range(0, draws, size)]


def mean_and_std(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and population standard deviation of (k,) values, k >= 1."""
    if len(values) == 0:
        raise InputError("A mean must be taken over at least one value. Got none instead.")
    return float(np.mean(values)), float(np.std(values))
