"""The interval of a calibration error, which holds as often as it says, for calibrated probabilities too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.scores import BINS, bins_of, check_not_empty, expected_calibration_error

_STEPS = 400
_LOWER_TAIL = 0.025

Numbers = NDArray[np.float64]


def calibration_error_interval(
    p: Numbers,
    good: Numbers,
    cluster_of_hole: NDArray[np.integer],
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Lowest and highest true calibration error, 0..1, under which the measured one would be nothing unusual.

    p : (n,) in 0..1     good : (n,) 0 or 1; ties in p keep their order     cluster_of_hole : (n,) what varies together
    The plug-in error of n holes is positive even where p is calibrated, and a bootstrap of it adds that excess once
    more, so its intervals exclude 0 far too often. Here the interval is the inversion of a test: for every true error e
    the plug-in error is drawn with |share good - mean p| = e in every bin plus the noise of bins, and e is in the
    interval when the measured one is within the middle `level` of the draws (within the lowest `level` at e = 0, so
    that 0 is kept as often as it should be; in between, the tails change over steadily). The noise of a
    bin has the variance that p states, times what holes of one cluster that resemble add to it. At e = 0 this is the
    consistency resampling of Broecker and Smith, Weather and Forecasting 22, 651 (2007), with clusters; the changing
    tails follow Feldman and Cousins, Phys. Rev. D 57, 3873 (1998).
    How often it holds: tests/belief/test_calibration_interval.py. Raises InputError when there are no holes.
    """
    check_not_empty(p)
    measured = expected_calibration_error(p, good)
    bin_of_hole = bins_of(p, BINS)
    share = np.bincount(bin_of_hole) / len(p)
    noise = _noise_of_bins(p, good, bin_of_hole, cluster_of_hole, rng, draws)
    calibrated = np.abs(noise) @ share
    settled = 2.0 * float(calibrated.std()) + 1e-12
    kept = []
    for error in np.linspace(0.0, min(1.0, measured + 6.0 * settled), _STEPS):
        drawn = np.abs(error + noise) @ share
        lower = _LOWER_TAIL * min(1.0, error / settled)
        low = -np.inf if lower == 0.0 else float(np.quantile(drawn, lower))
        if low <= measured <= float(np.quantile(drawn, lower + level)):
            kept.append(float(error))
    return (kept[0], kept[-1]) if kept else (measured, measured)


def _noise_of_bins(
    p: Numbers,
    good: Numbers,
    bin_of_hole: NDArray[np.int64],
    cluster_of_hole: NDArray[np.integer],
    rng: np.random.Generator,
    draws: int,
) -> Numbers:
    """(draws, bins) noise of each bin's mean residual.

    Whole clusters get random signs (wild bootstrap), which gives the correlations; the variance is that of outcomes
    drawn with p, because the residuals of a few holes tell their own too badly, times the excess of clusters over
    single holes, which is taken over all bins together and is 1 or more.
    """
    holes = np.bincount(bin_of_hole)
    n_bins = len(holes)
    residual = p - good
    centred = residual - (np.bincount(bin_of_hole, weights=residual) / holes)[bin_of_hole]
    _, cluster = np.unique(cluster_of_hole, return_inverse=True)
    pairs, pair_of_hole = np.unique(cluster * n_bins + bin_of_hole, return_inverse=True)
    sums = np.bincount(pair_of_hole, weights=centred)
    excess = max(1.0, float((sums**2).sum() / max((centred**2).sum(), 1e-12)))
    variance = excess * np.bincount(bin_of_hole, weights=p * (1.0 - p)) / holes**2
    signs = rng.standard_normal((draws, int(cluster.max()) + 1))
    noise = np.zeros((draws, n_bins))
    for each in range(n_bins):
        of_bin = pairs % n_bins == each
        length = np.sqrt((sums[of_bin] ** 2).sum())
        if length > 0.0:
            noise[:, each] = signs[:, pairs[of_bin] // n_bins] @ (sums[of_bin] / length)
        else:
            noise[:, each] = rng.standard_normal(draws)
    return np.asarray(noise * np.sqrt(variance))
