"""What a camera makes of the electrons that reach it: blurs, shot and readout noise, 8 bits."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtr

from cryoscout.core.grey_levels import stretched
from cryoscout.simulate.image_settings import ImageSettings


def detected(
    transmitted: NDArray[np.float32],
    dose_e: float,
    readout_e: float,
    taps: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Electrons that a camera reports: shot noise and readout noise, then spread over neighbours.

    transmitted : (m, h + 2, w + 2) share of the dose; taps : (3,) of `spread_taps`     Returns (m, h, w).
    """
    electrons = rng.poisson(transmitted * np.float32(dose_e)).astype(np.float32)
    if readout_e > 0:
        electrons += np.float32(readout_e) * rng.standard_normal(electrons.shape, dtype=np.float32)
    spread: NDArray[np.float32] = blurred(electrons, taps)
    return spread


def averaged_8_bit(
    electrons: NDArray[np.float32], dark: float, bright: float, settings: ImageSettings, crop_px: int
) -> NDArray[np.uint8]:
    """8 bits of crops whose pixels average pixels of the patch image, which was scaled, and cut at 0 and 255, before.

    electrons : (m, crop_px, crop_px) mean of the full pixels     dark, bright : as in `stretched`
    Noise that is cut at full size shifts the average: what is bright comes out a little darker. The full pixels are
    taken as normal about their average.
    """
    if bright <= dark:
        return stretched(electrons, dark, bright)
    full = float((spread_taps(settings.mtf_blur_px).astype(np.float64) ** 2).sum())
    averaged = _kept(settings.mtf_blur_px, settings.crop_full_px, crop_px)
    within = np.sqrt(max(full**2 - averaged**2, 0.0))  # of the standard deviation, about the average
    values = np.linspace(dark - (bright - dark), bright + (bright - dark), 1024)
    per_e = 255.0 / (bright - dark)
    level = (values - dark) * per_e
    spread = np.maximum(per_e * within * np.sqrt(np.maximum(values, 0.0) + settings.readout_e**2), 1e-6)
    cut = level - _lost(255.0 - level, spread) + _lost(level, spread)
    grey: NDArray[np.uint8] = np.rint(np.clip(np.interp(electrons, values, cut), 0.0, 255.0)).astype(np.uint8)
    return grey


def _lost(room: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of what normal noise has beyond a limit that is `room` above its mean."""
    z = room / spread
    lost: NDArray[np.float64] = spread * (np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - z * ndtr(-z))
    return lost


def expected_limits_e(coarse: NDArray[np.float32], settings: ImageSettings) -> tuple[float, float]:
    """What 0 and 255 stand for in a patch image, electrons per pixel.

    coarse : its transmission at large pixels, without noise
    The noise of the full image widens the distribution of brightness and makes it skew; both are folded in, the
    skewness by the first term of Edgeworth's series.
    """
    numbers, edges = np.histogram(coarse, bins=128)
    taken = numbers > 0
    weights, middle = numbers[taken] / coarse.size, ((edges[:-1] + edges[1:]) / 2)[taken]
    mean = settings.dose_e_per_px * middle
    taps = spread_taps(settings.mtf_blur_px).astype(np.float64)
    # Cumulants of a weighted sum go with the powers of the weights, once for each direction.
    spread = np.maximum(np.sqrt(mean + settings.readout_e**2) * (taps**2).sum(), 1e-9)
    skewness = mean * (taps**3).sum() ** 2 / spread**3
    values = np.linspace(float((mean - 5 * spread).min()), float((mean + 5 * spread).max()), 300)
    z = (values[:, None] - mean) / spread
    below = ndtr(z) - skewness / 6 * (z**2 - 1) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    reached = np.maximum.accumulate(below @ weights)
    shares = np.array([settings.darkest_percent, settings.brightest_percent]) / 100
    dark, bright = np.interp(shares, reached, values)
    return float(dark), float(bright)


@njit(cache=True, nogil=True)
def blurred(images: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images (m, h, w) convolved along rows and columns with symmetric taps (2 r + 1,); smaller by r on all sides."""
    reach = len(taps) // 2
    m, rows, columns = images.shape
    half = np.empty((rows, columns - 2 * reach), dtype=np.float32)
    out = np.empty((m, rows - 2 * reach, columns - 2 * reach), dtype=np.float32)
    for n in range(m):
        for row in range(rows):
            for column in range(columns - 2 * reach):
                total = np.float32(0.0)
                for k in range(len(taps)):
                    total += taps[k] * images[n, row, column + k]
                half[row, column] = total
        for row in range(rows - 2 * reach):
            for column in range(columns - 2 * reach):
                total = np.float32(0.0)
                for k in range(len(taps)):
                    total += taps[k] * half[row + k, column]
                out[n, row, column] = total
    return out


def gaussian_taps(sigma_px: float) -> NDArray[np.float32]:
    """Taps of a Gaussian blur, sum 1; a single 1 without one."""
    if sigma_px == 0:
        return np.ones(1, dtype=np.float32)
    if sigma_px < 0.6:
        # Values of a bell so narrow would blur too little: three taps of its variance.
        side = sigma_px**2 / 2
        return np.array([side, 1 - 2 * side, side], dtype=np.float32)
    reach = math.ceil(3 * sigma_px)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    taps: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return taps


def averaging(full_px: int, small_px: int) -> NDArray[np.float64]:
    """(small, full) weights that reduce a row of pixels by averaging over areas; each row sums to 1."""
    edges = np.linspace(0.0, full_px, small_px + 1)
    pixel = np.arange(full_px)
    low = np.maximum(edges[:-1, None], pixel)
    high = np.minimum(edges[1:, None], pixel + 1)
    weights: NDArray[np.float64] = np.maximum(high - low, 0.0) * small_px / full_px
    return weights


@lru_cache(maxsize=16)
def spread_taps(mtf_blur_px: float, full_px: int = 1, small_px: int = 1) -> NDArray[np.float32]:
    """(3,) taps of the detector's spread for images reduced from full_px to small_px a side.

    At full size a variance of mtf_blur_px^2; reduced, what makes the noise of a pixel as large as averaging leaves it.
    """
    side = mtf_blur_px**2 / 2
    if small_px < full_px:
        kept = min(_kept(mtf_blur_px, full_px, small_px) * full_px / small_px, 1.0)
        # (1 - 2 a)^2 + 2 a^2 = kept, the smaller root.
        side = (4 - math.sqrt(max(16 - 24 * (1 - kept), 0.0))) / 12
    return np.array([side, 1 - 2 * side, side], dtype=np.float32)


@lru_cache(maxsize=16)
def _kept(mtf_blur_px: float, full_px: int, small_px: int) -> float:
    """Variance that noise of variance 1 keeps along one direction after the detector's spread and the averaging."""
    side = mtf_blur_px**2 / 2
    at = np.arange(full_px)
    spread = np.zeros((full_px, full_px))
    spread[at, at] = 1 - 2 * side
    spread[at[1:], at[:-1]] = spread[at[:-1], at[1:]] = side
    inner = averaging(full_px, small_px)[1:-1] @ spread
    return float((inner**2).sum(axis=1).mean())
