"""How good probabilities are: Brier score and skill, log loss, and a calibration error without its bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.ties import at_least, order_lowest_first

BINS = 10
BIAS_DRAWS = 1000
MOST_DRAWN_AT_ONCE = 4_000_000  # outcomes in memory


def expected_calibration_error(p: NDArray[np.float64], good: NDArray[np.float64], bins: int = BINS) -> float:
    """Plug-in ECE over equal-mass bins: mean over bins of |mean p - share good|, weighted by bin size.

    p, good : (n,); ties in p keep their order, so bins differ in size by one at most; fewer holes than bins have
    one bin each
    Raises InputError when there are no holes.
    """
    check_not_empty(p)
    return float(_calibration_errors(p, good[None, :], bins)[0])


def check_not_empty(p: NDArray[np.float64]) -> None:
    """Raise InputError when there are no holes."""
    if len(p) == 0:
        raise InputError(
            "Probabilities must be scored on at least one hole. Got none instead. "
            "Remedy: score holes that have an outcome."
        )


def bins_of(p: NDArray[np.float64], bins: int = BINS) -> NDArray[np.int64]:
    """(n,) equal-mass bin of each hole, the lowest p in bin 0; at most as many bins as holes."""
    bin_of_hole = np.empty(len(p), dtype=np.int64)
    first = _first_of_bins(len(p), bins)
    bin_of_hole[order_lowest_first(p)] = np.repeat(np.arange(len(first)), np.diff(first, append=len(p)))
    return bin_of_hole


def _first_of_bins(n: int, bins: int) -> NDArray[np.int64]:
    return np.linspace(0, n, min(bins, n) + 1).round().astype(np.int64)[:-1]


def _calibration_errors(p: NDArray[np.float64], good: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """ECE of each row of outcomes, (draws, n) -> (draws,)."""
    order = order_lowest_first(p)
    sums = np.add.reduceat(p[order] - good[:, order], _first_of_bins(len(p), bins), axis=1)
    return np.asarray(np.abs(sums).sum(axis=1) / len(p))


def debiased_calibration_error(
    p: NDArray[np.float64], good: NDArray[np.float64], rng: np.random.Generator, bins: int = BINS
) -> float:
    """Plug-in ECE minus what perfectly calibrated probabilities would show, floored at 0.

    The expected ECE under calibration is its mean over 1,000 draws good ~ Bernoulli(p).
    Raises InputError when there are no holes.
    """
    check_not_empty(p)
    errors = []
    # A part of the draws at a time, so that 100,000 holes do not take gigabytes.
    for first in range(0, BIAS_DRAWS, at_once := max(1, MOST_DRAWN_AT_ONCE // len(p))):
        draws = rng.random((min(at_once, BIAS_DRAWS - first), len(p))) < p
        errors.append(_calibration_errors(p, draws.astype(np.float64), bins))
    return max(0.0, expected_calibration_error(p, good, bins) - float(np.concatenate(errors).mean()))


@dataclass(frozen=True)
class ProbabilityScores:
    """Scores of probabilities against outcomes."""

    holes: int
    accuracy: float
    brier: float
    brier_skill: float  # 1 - Brier / Brier of always saying the share of good; NaN for one class
    log_loss: float  # nats
    ece: float  # plug-in
    ece_debiased: float


def score_probabilities(
    p: NDArray[np.float64], good: NDArray[np.float64], rng: np.random.Generator
) -> ProbabilityScores:
    """All scores of probabilities p, (n,), against outcomes good, (n,) 0 or 1.

    Raises InputError when there are no holes.
    """
    check_not_empty(p)
    share = float(good.mean())
    brier = float(np.mean((p - good) ** 2))
    inside = np.clip(p, 1e-12, 1.0 - 1e-12)
    return ProbabilityScores(
        holes=len(p),
        accuracy=float(np.mean(at_least(p, 0.5) == (good >= 0.5))),
        brier=brier,
        brier_skill=1.0 - brier / (share * (1.0 - share)) if 0.0 < share < 1.0 else float("nan"),
        log_loss=float(-np.mean(good * np.log(inside) + (1.0 - good) * np.log1p(-inside))),
        ece=expected_calibration_error(p, good),
        ece_debiased=debiased_calibration_error(p, good, rng),
    )
