"""The lattice of holes in an image, from the peaks of its autocorrelation: nothing has to be known beforehand.

A lattice shows in the autocorrelation at any brightness, with holes missing and under dirt, because every pair of
neighbours adds to the same few peaks. Two vectors count as a lattice when the peaks at their sums stand out and the
places half-way between stay low.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

SMALLEST_SPACING_PX = 6.0
"""Of neighbouring holes, in the reduced image: below, a hole has too few pixels to be told from noise."""
LARGEST_SHIFT = 0.62  # of the image's side: beyond, too little of the image overlaps itself
LEAST_CONTRAST = 0.02
"""Of the autocorrelation: peaks of the lattice above the places half-way between, 1 for an image without noise."""
PEAKS_TRIED = 36
HIGHEST_TRIED = 12
_ANGLE_DEG = (50.0, 130.0)
_LENGTH_RATIO = 1.7
_CLEAR = 0.4
"""Of the contrast of the clearest: as clear lattices are compared by their cells."""
_SAME_AREA = 1.2
_BAND_SIGMAS_PX = (5.0, 10.0, 20.0, 40.0, 80.0)


@dataclass(frozen=True)
class Lattice:
    """Two vectors from a hole to its neighbours, (row, column), px; `contrast` as for LEAST_CONTRAST."""

    first_px: tuple[float, float]
    second_px: tuple[float, float]
    contrast: float

    @property
    def spacing_px(self) -> float:
        """Length of the shorter vector."""
        return float(min(np.hypot(*self.first_px), np.hypot(*self.second_px)))

    @property
    def angle_deg(self) -> float:
        """Angle of the first vector from the columns' axis, counted towards the rows, [0, 180)."""
        return float(np.degrees(np.arctan2(self.first_px[0], self.first_px[1])) % 180.0)

    def neighbours_px(self) -> NDArray[np.float64]:
        """(8, 2) steps (row, column) to the holes around one."""
        first, second = np.array(self.first_px), np.array(self.second_px)
        half = np.array([first, second, first + second, first - second])
        return np.concatenate([half, -half])


def find_lattice(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Lattice | None:
    """The lattice of an image, or None where there is none.

    image : (h, w), any brightness     valid : (h, w), False where nothing was recorded
    """
    tried: list[tuple[Lattice, NDArray[np.float64]]] = []
    overlap = _self_product(valid.astype(np.float32), _padded(image.shape))
    for sigma_px in _BAND_SIGMAS_PX:
        if sigma_px > min(image.shape) / 4:
            break
        correlation = _autocorrelation(_levelled(image, valid, sigma_px), overlap)
        found = _best_pair(correlation)
        if found is not None:
            tried.append((found, correlation))
    if not tried:
        return None
    pairs = np.array([[found.first_px, found.second_px] for found, _ in tried])
    best = _finest(pairs[:, 0], pairs[:, 1], np.array([found.contrast for found, _ in tried]))
    found, correlation = tried[best]
    return _refined(correlation, found) if found.contrast >= LEAST_CONTRAST else None


def _finest(first: NDArray[np.float64], second: NDArray[np.float64], contrast: NDArray[np.float64]) -> int:
    """Of lattices by their vectors, (n, 2) each: the one with the smallest cell among those that are clear.

    Every lattice holds coarser ones, whose peaks are as high; where holes nearly touch, those of a third of the holes
    are even clearer, because their half-way points are farther from every hole.
    """
    area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    clear = contrast >= _CLEAR * contrast.max()
    smallest = clear & (area <= _SAME_AREA * area[clear].min())
    shorter = np.minimum(np.hypot(*first.T), np.hypot(*second.T))
    return int(np.argmax(np.where(smallest, contrast / shorter, -np.inf)))


def blurred(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """About a Gaussian blur, by two running means: as fast for a wide one."""
    size = max(1, round(sigma_px * np.sqrt(6.0)))
    once = ndimage.uniform_filter(image, size, mode="reflect")
    twice: NDArray[np.float32] = ndimage.uniform_filter(once, size, mode="reflect")
    return twice


def _levelled(image: NDArray[np.float32], valid: NDArray[np.bool_], sigma_px: float) -> NDArray[np.float32]:
    """Brightness above the surroundings in units of the local spread, cut at 2; 0 where nothing was recorded."""
    weight = valid.astype(np.float32)
    little = np.float32(1e-6)
    mean = blurred(image * weight, sigma_px) / (blurred(weight, sigma_px) + little)
    above = (image - mean) * weight
    variance = blurred(above * above, 2 * sigma_px) / (blurred(weight, 2 * sigma_px) + little)
    spread = np.sqrt(np.maximum(variance, np.float32(0.0)))
    floor = 0.2 * float(np.median(spread[valid])) if valid.any() else 0.0
    scaled = above / np.maximum(spread, np.float32(max(floor, 1e-6)))
    return np.clip(scaled, -2.0, 2.0).astype(np.float32)


def _padded(shape: tuple[int, ...]) -> tuple[int, int]:
    """Twice the size and up to where the transform is fast, so that shifts do not wrap around."""
    rows, columns = (int(scipy.fft.next_fast_len(2 * length, real=True)) for length in shape)
    return rows, columns


def _autocorrelation(levelled: NDArray[np.float32], overlap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean product of the image with itself at every shift, 1 at none; shift 0 in the middle.

    overlap : number of recorded pixels that overlap at each shift, shift 0 first; where these are less than an
    eighth of all, the result is NaN
    """
    rare = overlap < max(float(overlap[0, 0]) / 8, 1.0)
    mean = np.where(rare, 0.0, _self_product(levelled, _shape_of(overlap)) / np.maximum(overlap, 1.0))
    # The spike at no shift is noise that correlates with itself alone; the smoothing takes most of it.
    smooth = ndimage.gaussian_filter(mean, 1.0, mode="wrap")
    if smooth[0, 0] > 0:
        smooth /= smooth[0, 0]
    smooth[rare] = np.nan
    middle: NDArray[np.float64] = np.fft.fftshift(smooth)
    return middle


def _shape_of(values: NDArray[np.float64]) -> tuple[int, int]:
    return int(values.shape[0]), int(values.shape[1])


def _self_product(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float64]:
    spectrum = scipy.fft.rfft2(values, shape)
    power: NDArray[np.float64] = scipy.fft.irfft2(np.abs(spectrum) ** 2, shape).astype(np.float64)
    return power


def _best_pair(correlation: NDArray[np.float64]) -> Lattice | None:
    """The two peaks that span the finest lattice that is clear."""
    peaks = _peaks(correlation)
    if len(peaks) < 2:
        return None
    one, other = np.array(list(combinations(range(len(peaks)), 2))).T
    first, second = peaks[one], peaks[other]
    lengths = np.hypot(*first.T), np.hypot(*second.T)
    shorter, longer = np.minimum(*lengths), np.maximum(*lengths)
    cosine = np.clip((first * second).sum(axis=1) / (shorter * longer), -1.0, 1.0)
    angle_deg = np.degrees(np.arccos(cosine))
    use = (longer <= _LENGTH_RATIO * shorter) & (angle_deg >= _ANGLE_DEG[0]) & (angle_deg <= _ANGLE_DEG[1])
    if not use.any():
        return None
    first, second = first[use], second[use]
    contrast = _contrast(correlation, first, second)
    if contrast.max() <= 0:
        return None
    best = _finest(first, second, contrast)
    return Lattice(_pair(first[best]), _pair(second[best]), float(contrast[best]))


def _pair(vector: NDArray[np.float64]) -> tuple[float, float]:
    return float(vector[0]), float(vector[1])


def _peaks(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) shifts (row, column) of high local maxima, one of each pair of opposite shifts."""
    filled = np.where(np.isnan(correlation), -1.0, correlation)
    middle = np.array(filled.shape) // 2
    top = (filled == ndimage.maximum_filter(filled, size=5)) & (filled > 0.02)
    shifts = np.argwhere(top) - middle
    values = filled[top]
    length = np.hypot(shifts[:, 0], shifts[:, 1])
    half = (shifts[:, 0] > 0) | ((shifts[:, 0] == 0) & (shifts[:, 1] > 0))
    longest = LARGEST_SHIFT * min(filled.shape) / 2
    use = half & (length >= SMALLEST_SPACING_PX) & (length <= longest)
    shifts, values, length = shifts[use], values[use], length[use]
    if len(shifts) == 0:
        return np.empty((0, 2))
    # In a clean image far peaks are as high as near ones: the nearest of the high ones are the steps to neighbours.
    high = values >= 0.35 * values.max()
    order = np.lexsort((length, ~high))
    chosen = np.union1d(order[:PEAKS_TRIED], np.argsort(-values, kind="stable")[:HIGHEST_TRIED])
    return np.asarray(shifts[chosen], dtype=np.float64)


def _contrast(
    correlation: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far the peaks of lattices stand above the places half-way between; -1 where that cannot be seen.

    first, second : (n, 2) vectors     Returns (n,).
    """
    on = _values(correlation, [first, second, first + second, first - second])
    half = [first / 2, second / 2, (first + second) / 2, (first - second) / 2]
    between = _values(correlation, [*half, first + second / 2, second + first / 2])
    seen = ~np.isnan(on)
    visible = seen[:2].all(axis=0) & (seen.sum(axis=0) >= 3) & ~np.isnan(between[:4]).any(axis=0)
    number = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, on, 0.0).sum(axis=0) / number
    lowest = np.where(seen, on, np.inf).min(axis=0)
    highest_between = np.where(np.isnan(between), 0.0, between).max(axis=0)
    contrast = (mean + lowest) / 2 - np.maximum(highest_between, 0.0)
    result: NDArray[np.float64] = np.where(visible, contrast, -1.0)
    return result


def _values(correlation: NDArray[np.float64], shifts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(k, n) values at k times (n, 2) shifts, NaN where nothing is known."""
    places = np.array(shifts) + np.array(correlation.shape) // 2
    values: NDArray[np.float64] = ndimage.map_coordinates(
        correlation, np.moveaxis(places, -1, 0), order=1, mode="constant", cval=np.nan
    )
    return values


def _refined(correlation: NDArray[np.float64], lattice: Lattice) -> Lattice:
    """The vectors by least squares over all peaks near their multiples."""
    basis = np.array([lattice.first_px, lattice.second_px])
    for reach in (1, 3):
        numbers, places = [], []
        for i in range(reach + 1):
            for j in range(-reach, reach + 1):
                if (i, j) <= (0, 0):
                    continue
                place = _peak_near(correlation, np.array([i, j]) @ basis, 0.2 * lattice.spacing_px)
                if place is not None:
                    numbers.append((i, j))
                    places.append(place)
        if len(places) >= 2 and np.linalg.matrix_rank(np.array(numbers)) == 2:
            basis = np.linalg.lstsq(np.array(numbers, float), np.array(places), rcond=None)[0]
    return Lattice(_pair(basis[0]), _pair(basis[1]), lattice.contrast)


def _peak_near(
    correlation: NDArray[np.float64], shift: NDArray[np.float64], radius_px: float
) -> NDArray[np.float64] | None:
    """The local maximum near a shift, to a fraction of a pixel; None at a border or below zero."""
    middle = np.array(correlation.shape) // 2
    reach = max(2, round(radius_px))
    row, column = np.round(shift + middle).astype(int)
    window = correlation[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    if window.shape != (2 * reach + 1, 2 * reach + 1) or np.isnan(window).any():
        return None
    at = np.unravel_index(int(np.argmax(window)), window.shape)
    if min(at) == 0 or max(at) == 2 * reach or window[at] <= 0:
        return None
    place = np.array([row - reach, column - reach]) + subpixel_tops(window, np.array([at]))[0]
    moved: NDArray[np.float64] = place - middle
    return moved


def subpixel_tops(values: NDArray[np.floating], at: NDArray[np.integer]) -> NDArray[np.float64]:
    """Where maxima at inner pixels lie to a fraction of a pixel: parabolas through their neighbours.

    values : (h, w)     at : (n, 2) row, column of pixels not on the border     Returns (n, 2) row, column.
    """
    rows, columns = at[:, 0], at[:, 1]
    here = values[rows, columns].astype(np.float64)
    moves = []
    for down, across in ((1, 0), (0, 1)):
        before = values[rows - down, columns - across].astype(np.float64)
        after = values[rows + down, columns + across].astype(np.float64)
        bend = before - 2 * here + after
        move = np.divide(0.5 * (before - after), bend, out=np.zeros_like(bend), where=bend < 0)
        moves.append(np.clip(move, -0.5, 0.5))
    places: NDArray[np.float64] = at + np.stack(moves, axis=1)
    return places
