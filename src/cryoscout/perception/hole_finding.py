"""Finds the holes of a square or patch image without being told their size, spacing or direction.

Three steps. The autocorrelation gives the lattice (`hole_lattice`). A disc within a ring is correlated with the image
at every place, for discs of several sizes; the correlation does not depend on the local brightness and contrast, so
it works in the shade at the border of a square. What correlates is a hole when neighbours stand where the lattice
says, a step or two away: a montage whose tiles do not fit is followed too. Holes that are torn, missing, or cut by
the border of the image are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cryoscout.core.errors import InputError
from cryoscout.perception.hole_lattice import Lattice, blurred, find_lattice, subpixel_tops
from cryoscout.perception.images import Picture, reduced_image
from cryoscout.perception.tiles import Tile, quarters

REDUCED_PX = 900
"""The image is reduced by a whole number until its longer side is about this: speed, and less noise."""
RING = 1.4  # outer radius of the ring around the disc, in radii of the disc
LEAST_SCORE = 0.22
NEIGHBOURS_NEEDED = 2
MEAN_NEIGHBOURS_NEEDED = 3.4
"""Of the eight around: two rows of three have 3.7; blobs that stand anywhere reach about 3."""
HOLES_NEEDED = 3
PIECE_NEEDED = 6
"""Holes of a further piece of a picture, whose lattice does not go on from the largest one's: two rows of three."""
RECORDED_SHARE = 0.5
"""Of a quarter of the picture, for it to count as one that should have holes."""
MOST_UNLIKE = 1.2
"""Ratio of spacings, and of diameters, of parts of one picture."""
TORN_SHARE = 0.015  # of the disc: more of it as bright as vacuum is a tear
_NEAR = 0.17  # of the spacing: how far a neighbour may stand from where the lattice says
_RADII = np.linspace(0.15, 0.45, 9)  # of the spacing
SMALLEST_SIDE_PX = 16
"""Of the reduced image: less than three holes, which are at least `SMALLEST_SPACING_PX` apart."""


@dataclass(frozen=True)
class Hole:
    """One hole: its centre in px of the image (row, column; pixel centres are whole) and how much it looks like one.

    score : correlation with a bright disc, 0 to 1
    """

    row_px: float
    column_px: float
    score: float


@dataclass(frozen=True)
class FoundHoles:
    """What an image shows; without a lattice `diameter_px` and `lattice` are None and there are no holes.

    lattice : steps between neighbours, px of the image     holes : sorted by row, then column
    are_dark : whether the holes are darker than the film: the image has inverted contrast
    parts : tiles of a montage, where they are known, else the quarters of the picture that a camera recorded
    parts_with_holes : how many of them have a hole that is theirs
    """

    diameter_px: float | None
    lattice: Lattice | None
    holes: tuple[Hole, ...]
    are_dark: bool = False
    parts: int = 0
    parts_with_holes: int = 0

    @property
    def mean_score(self) -> float:
        """Of the holes; 0 without any."""
        return float(np.mean([hole.score for hole in self.holes])) if self.holes else 0.0


class _Likeness(Protocol):
    """See `_likeness`."""

    def __call__(self, radius_px: float, bowl_too: bool = False) -> NDArray[np.float32]: ...


CALMED_SHARE = 0.0075
"""Side of the smoothing over that of the image: a small part of a hole in any patch or square image."""
CALMED_PERCENT = 10.0

NO_HOLES = FoundHoles(None, None, ())


SURE_SCORE = 0.4
"""Mean score from which the other contrast is not tried: holes reach 0.43 to 0.54 in real and drawn images, the film
between them, taken for holes, at most 0.28."""
BETTER = 1.3
"""How much higher the mean score of dark holes must be than that of bright ones in the same image."""


def find_holes(
    image: NDArray[np.generic] | Picture, dark: bool | None = None, tiles: Sequence[Tile] | None = None
) -> FoundHoles:
    """The intact holes of an image: bright discs on a lattice, or dark ones, where these look more like discs.

    Where none shows, the smoothed image is tried.
    image : (h, w) finite numbers, any brightness; or a picture, of which no more than some rows are in memory at once
    dark : whether the holes are darker than the film; None to find out
    tiles : of a montage, px of the image; None where it is none, or they are not known
    Raises InputError for another shape, for an image of fewer than SMALLEST_SIDE_PX rows or columns when its longer
    side is reduced to about REDUCED_PX (thinner than a few holes), or where a value is not finite.
    """
    factor = max(1, round(max(image.shape, default=0) / REDUCED_PX))
    reduced = _reduced(_Array(_checked(image)) if isinstance(image, np.ndarray) else image, factor)
    found = _by_contrast(reduced, factor, dark)
    is_calmed = not found.holes
    if is_calmed:
        found = _by_contrast(reduced, factor, dark, calmed=True)
    if not found.holes:
        return found
    image = np.float32(1.0) - reduced if found.are_dark else reduced
    reduced = _calmed(image) if is_calmed else image
    if tiles is not None:
        return _with_every_part(found, reduced, factor, tiles, least_recorded=0.0)
    return _with_every_part(found, reduced, factor, quarters(_shape(image, factor)), RECORDED_SHARE)


def _by_contrast(
    reduced: NDArray[np.float32], factor: int, dark: bool | None, calmed: bool = False
) -> FoundHoles:
    # The darkest tenth of an image, which is smoothed away, is not that of its inverse.
    of_both = None if calmed else _Prepared(reduced)

    def look(is_dark: bool) -> FoundHoles:
        if of_both is not None:
            return replace(_found(of_both, factor, inverted=is_dark), are_dark=is_dark)
        image = np.float32(1.0) - reduced if is_dark else reduced
        return replace(_found(_Prepared(_calmed(image)), factor), are_dark=is_dark)

    if dark is not None:
        return look(dark)
    bright = look(False)
    if bright.mean_score >= SURE_SCORE:
        return bright
    inverted = look(True)
    return inverted if inverted.mean_score > BETTER * bright.mean_score else bright


def _shape(reduced: NDArray[np.float32], factor: int) -> tuple[int, int]:
    """(rows, columns) of the image, but for what is left over at the border."""
    return reduced.shape[0] * factor, reduced.shape[1] * factor


def _with_every_part(
    found: FoundHoles,
    reduced: NDArray[np.float32],
    factor: int,
    parts: Sequence[Tile],
    least_recorded: float,
) -> FoundHoles:
    """Parts without a hole looked at alone: a montage has tiles of other brightness, or turned a little.

    What is found there counts where it has about the spacing and diameter of the others.
    least_recorded : share of a part that a camera must have recorded for it to be one
    """
    valid = _recorded(reduced)
    holes, with_holes, number = list(found.holes), 0, 0
    for part in parts:
        rows, columns = (
            slice(max(0, round(first / factor)), round(last / factor))
            for first, last in ((part.top, part.bottom), (part.left, part.right))
        )
        alone = reduced[rows, columns]
        if alone.size and valid[rows, columns].mean() < least_recorded:
            continue
        number += 1
        if any(_is_in(hole, part) for hole in found.holes):
            with_holes += 1
            continue
        more = _found(_Prepared(alone), factor) if min(alone.shape) >= SMALLEST_SIDE_PX else NO_HOLES
        if not _alike(more, found):
            continue
        with_holes += 1
        down, across = rows.start * factor, columns.start * factor
        holes += [Hole(each.row_px + down, each.column_px + across, each.score) for each in more.holes]
    holes.sort(key=lambda hole: (hole.row_px, hole.column_px))
    return replace(found, holes=tuple(holes), parts=number, parts_with_holes=with_holes)


def _is_in(hole: Hole, part: Tile) -> bool:
    return part.top <= hole.row_px + 0.5 < part.bottom and part.left <= hole.column_px + 0.5 < part.right


def _alike(one: FoundHoles, other: FoundHoles) -> bool:
    """Whether two parts of a picture show holes of the same film."""
    if one.lattice is None or other.lattice is None or not one.diameter_px or not other.diameter_px:
        return False
    ratios = one.lattice.spacing_px / other.lattice.spacing_px, one.diameter_px / other.diameter_px
    return all(1 / MOST_UNLIKE <= ratio <= MOST_UNLIKE for ratio in ratios)


class _Prepared:
    """What is found out of a reduced image once, for bright holes and for dark ones.

    The inverse of an image has the same lattice, and is as unlike a disc as the image is like it.
    """

    def __init__(self, reduced: NDArray[np.float32]) -> None:
        self.reduced = reduced  # brightness about 0 to 1
        self.valid = _recorded(reduced)
        self.lattice = find_lattice(reduced, self.valid) if self.valid.any() else None
        self._known: dict[tuple[float, bool], NDArray[np.float32]] = {}

    @cached_property
    def calm(self) -> NDArray[np.float32]:
        """What is far brighter or darker than the image (tears, ice, bars) must not outweigh a hole."""
        if self.lattice is None:
            raise AssertionError("there is a lattice")
        return _without_extremes(self.reduced, self.lattice)

    @cached_property
    def _likeness(self) -> _Likeness:
        return _likeness(self.calm, self.valid)

    def likeness(self, radius_px: float, bowl_too: bool = False) -> NDArray[np.float32]:
        """See `_likeness`."""
        key = (radius_px, bowl_too)
        if key not in self._known:
            self._known[key] = self._likeness(radius_px, bowl_too)
        return self._known[key]


def _found(prepared: _Prepared, factor: int, inverted: bool = False) -> FoundHoles:
    """The bright holes of a reduced image, or of its inverse, in px of the image itself."""
    lattice, valid = prepared.lattice, prepared.valid
    if lattice is None:
        return NO_HOLES
    reduced = np.float32(1.0) - prepared.reduced if inverted else prepared.reduced
    calm = -prepared.calm if inverted else prepared.calm

    def likeness_of(radius_px: float, bowl_too: bool = False) -> NDArray[np.float32]:
        likeness = prepared.likeness(radius_px, bowl_too)
        return -likeness if inverted else likeness

    radius_px, places, kept = _first_look(calm, valid, lattice, likeness_of)
    if len(kept) < HOLES_NEEDED:
        return NO_HOLES
    radius_px = _rim_radius(calm, places[kept], radius_px)
    likeness = np.float32(0.5) * (likeness_of(radius_px) + likeness_of(radius_px, bowl_too=True))
    places, scores = _tops(likeness, 0.35 * lattice.spacing_px)
    kept = _on_lattice(places, scores, lattice)
    kept = kept[_whole(reduced, valid, places[kept], radius_px)]
    if len(kept) < HOLES_NEEDED:
        return NO_HOLES
    radius_px = _rim_radius(calm, places[kept], radius_px)
    intact = kept[~_torn(reduced, places[kept], radius_px)]
    if len(intact) == 0:
        return NO_HOLES
    centres = (places[intact] + 0.5) * factor - 0.5
    order = np.lexsort((centres[:, 1], centres[:, 0]))
    values = np.minimum(scores[intact], 1.0)
    holes = tuple(
        Hole(row, column, score)
        for (row, column), score in zip(centres[order].tolist(), values[order].tolist(), strict=True)
    )
    return FoundHoles(2 * radius_px * factor, _scaled(lattice, factor), holes)


@dataclass(frozen=True)
class _Array:
    """An array as a picture."""

    pixels: NDArray[np.generic]

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def bottom_first(self) -> bool:
        return False

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            block: NDArray[np.float32] = self.pixels[first:last].astype(np.float32)
        if not np.isfinite(block).all():
            raise InputError(
                "An image must hold finite numbers. Got NaN or infinity instead. Remedy: replace them before."
            )
        return block


def _checked(image: NDArray[np.generic]) -> NDArray[np.generic]:
    if image.ndim != 2 or image.dtype.kind not in "buif":
        raise InputError(
            f"An image must be a 2-D array of numbers. Got {image.dtype} {image.shape} instead. "
            "Remedy: give one grey picture."
        )
    return image


def _reduced(picture: Picture, factor: int) -> NDArray[np.float32]:
    """Means of factor x factor pixels; what is left over at the lower and right border is cut off.

    Their brightness is about 0 to 1, so that squares and sums stay exact for any unit of it: from the darkest to the
    brightest half per cent of its pixels.
    """
    height, width = (length // factor for length in picture.shape)
    if min(height, width) < SMALLEST_SIDE_PX:
        raise InputError(
            f"An image of holes must be at least {SMALLEST_SIDE_PX * factor} px high and wide, for one that is "
            f"{max(picture.shape)} px long. Got {picture.shape[0]} x {picture.shape[1]} instead, thinner than a few "
            "holes. Remedy: give a picture of a square or patch."
        )
    means, sample = reduced_image(picture, factor)
    low, high = np.percentile(sample, [0.5, 99.5])
    spread = float(high - low)
    scaled: NDArray[np.float32] = ((means - float(low)) / (spread if spread > 0 else 1.0)).astype(np.float32)
    return scaled


def _calmed(reduced: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smoothed, and its darkest tenth of one level: noise and frost can hide a lattice that then shows."""
    smooth = ndimage.uniform_filter(reduced, max(3, round(max(reduced.shape) * CALMED_SHARE)))
    calmed: NDArray[np.float32] = np.maximum(smooth, np.percentile(smooth, CALMED_PERCENT))
    return calmed


def _recorded(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """False where a camera recorded nothing: every pixel the same as those around it, out to the border of the image.

    Inside of it pixels are the same where 8 bits were not enough, as on ice crystals.
    """
    flat = ndimage.maximum_filter(image, 5) - ndimage.minimum_filter(image, 5) <= 1e-6
    region, _ = ndimage.label(flat)
    at_border = np.unique(np.concatenate([region[0], region[-1], region[:, 0], region[:, -1]]))
    outside = np.isin(region, at_border[at_border > 0])
    empty: NDArray[np.bool_] = ndimage.binary_dilation(outside, iterations=2)
    return ~empty


def _without_extremes(image: NDArray[np.float32], lattice: Lattice) -> NDArray[np.float32]:
    """The image above its surroundings, cut at two and a half times the local spread."""
    above = image - blurred(image, lattice.spacing_px)
    size = lattice.spacing_px
    spread = blurred(np.abs(above), size)
    # A second pass: the spread without what the first one cut.
    spread = blurred(np.minimum(np.abs(above), 2.5 * spread), size)
    calm: NDArray[np.float32] = np.clip(above, -2.5 * spread, 2.5 * spread)
    return calm


def _first_look(
    image: NDArray[np.float32], valid: NDArray[np.bool_], lattice: Lattice, likeness_of: _Likeness
) -> tuple[float, NDArray[np.float64], NDArray[np.intp]]:
    """The radius whose discs correlate best, the places of these, and which of them are on the lattice."""
    expected = max(3, round(0.25 * int(valid.sum()) / _cell_px2(lattice)))
    best: tuple[float, float, NDArray[np.float64], NDArray[np.float64]] | None = None
    for radius_px in map(float, _RADII * lattice.spacing_px):
        places, scores = _tops(likeness_of(radius_px), 0.35 * lattice.spacing_px)
        value = float(scores[:expected].mean()) if len(scores) else -1.0
        if best is None or value > best[0]:
            best = (value, radius_px, places, scores)
    if best is None:
        raise AssertionError("there is a radius to try")
    _, radius_px, places, scores = best
    kept = _on_lattice(places, scores, lattice)
    return radius_px, places, kept[_whole(image, valid, places[kept], radius_px)]


def _cell_px2(lattice: Lattice) -> float:
    (a, b), (c, d) = lattice.first_px, lattice.second_px
    return abs(a * d - b * c)


def _likeness(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> _Likeness:
    """Correlation coefficient of the image with a disc in a ring at every pixel, as a function of the disc's radius.

    A shade across the hole says nothing for or against it: it is taken out of both, with `bowl_too` a curved one
    as well. What is left of the disc is then mostly its rim: less to see, but at the right place at the border of
    a square, where the brightness falls.
    """
    margin = 8 + round(RING * float(_RADII[-1]) * max(image.shape) * 0.3)
    margin = min(margin, min(image.shape) - 1)
    padded = np.pad(image, margin, mode="reflect")
    shape = tuple(int(scipy.fft.next_fast_len(length, real=True)) for length in padded.shape)
    spectrum = scipy.fft.rfft2(padded, shape)
    squares = scipy.fft.rfft2(padded * padded, shape)
    # Wrapped around, so that the weights lie about pixel 0; turned over, because a product of spectra convolves.
    down_px = -np.fft.fftfreq(shape[0], 1 / shape[0]).astype(np.float32)[:, None]
    across_px = -np.fft.fftfreq(shape[1], 1 / shape[1]).astype(np.float32)[None, :]
    distance_px = np.hypot(down_px, across_px)

    # Where nothing but rounding is left to explain, nothing is explained.
    flat = max(0.002 * float(image.var()), 1e-12)

    def mean(of: NDArray[np.complexfloating], weights: NDArray[np.floating]) -> NDArray[np.float32]:
        values = scipy.fft.irfft2(of * scipy.fft.rfft2(weights), shape)
        inner: NDArray[np.float32] = values[
            margin : margin + image.shape[0], margin : margin + image.shape[1]
        ].astype(np.float32)
        return inner

    def likeness(radius_px: float, bowl_too: bool = False) -> NDArray[np.float32]:
        # Soft borders of half a pixel, so that a small disc is round.
        disc: NDArray[np.floating] = np.clip(radius_px - distance_px + 0.5, 0, 1)
        weight: NDArray[np.floating] = np.clip(RING * radius_px - distance_px + 0.5, 0, 1)
        weight /= weight.sum()
        left: NDArray[np.floating] = mean(squares, weight) - mean(spectrum, weight) ** 2
        shades: list[NDArray[np.floating]] = [_unit(down_px, weight), _unit(across_px, weight)]
        disc = disc - (disc * weight).sum()
        if bowl_too:
            bowl: NDArray[np.floating] = distance_px**2
            bowl = _unit(bowl - (bowl * weight).sum(), weight)
            shades.append(bowl)
            disc = disc - bowl * (disc * bowl * weight).sum()
        for shade in shades:
            left = left - mean(spectrum, shade * weight) ** 2
        found = mean(spectrum, _unit(disc, weight) * weight) / np.sqrt(np.maximum(left, flat))
        found[~valid] = 0.0
        limited: NDArray[np.float32] = np.clip(found, -1.0, 1.0).astype(np.float32)
        return limited

    return likeness


def _unit(values: NDArray[np.floating], weight: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scaled to a mean square of 1 under the weight."""
    return values / np.float32(np.sqrt(float((values * values * weight).sum())))


def _tops(likeness: NDArray[np.floating], apart_px: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Local maxima above LEAST_SCORE, the highest first: (n, 2) places to a fraction of a pixel, (n,) values."""
    size = 2 * max(1, round(apart_px)) + 1
    top = (likeness == ndimage.maximum_filter(likeness, size)) & (likeness >= LEAST_SCORE)
    top[[0, -1], :] = False
    top[:, [0, -1]] = False
    at = np.argwhere(top)
    values = likeness[top].astype(np.float64)
    order = np.argsort(-values, kind="stable")
    return subpixel_tops(likeness, at[order]), values[order]


def _on_lattice(
    places: NDArray[np.float64], scores: NDArray[np.float64], lattice: Lattice
) -> NDArray[np.intp]:
    """Indices of places that hold together: enough neighbours where the lattice says, in groups that are no accident.

    A montage whose tiles do not fit falls into several groups: beside the largest one those of PIECE_NEEDED places and
    more count, with as many neighbours each. A place that correlates less than half as much as its kind is dirt between
    the holes.
    """
    kept = np.arange(len(places))
    tolerance_px = _NEAR * lattice.spacing_px
    while len(kept):
        at_step = _neighbours(places[kept], lattice, tolerance_px)
        beside = (at_step >= 0).sum(axis=1)
        enough = beside >= min(NEIGHBOURS_NEEDED, max(len(kept) - 1, 1))
        good = enough & (scores[kept] >= 0.5 * np.median(scores[kept]))
        if good.all():
            if beside.mean() < MEAN_NEIGHBOURS_NEEDED:
                return kept[:0]
            groups = _groups(at_step)
            sizes = np.bincount(groups)
            means = np.bincount(groups, weights=beside) / sizes
            largest = np.arange(len(sizes)) == sizes.argmax()
            counts = (means >= MEAN_NEIGHBOURS_NEEDED) & (largest | (sizes >= PIECE_NEEDED))
            return np.asarray(kept[counts[groups]], dtype=np.intp)
        kept = kept[good]
    return kept


def _neighbours(places: NDArray[np.float64], lattice: Lattice, tolerance_px: float) -> NDArray[np.intp]:
    """(n, 8) which place stands each step of the lattice away, -1 for none."""
    steps = lattice.neighbours_px()
    wanted = places[:, None, :] + steps[None, :, :]
    _, found = KDTree(places).query(wanted, distance_upper_bound=tolerance_px)
    return np.where(found < len(places), found, -1).astype(np.intp)


def _groups(at_step: NDArray[np.intp]) -> NDArray[np.int32]:
    """(n,) the number of the group that each place belongs to."""
    one, step = np.nonzero(at_step >= 0)
    other = at_step[one, step]
    links = csr_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(len(at_step), len(at_step)))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int32)


def _whole(
    image: NDArray[np.float32], valid: NDArray[np.bool_], places: NDArray[np.float64], radius_px: float
) -> NDArray[np.bool_]:
    """Which discs lie within the image and on recorded pixels."""
    low = (places - radius_px >= -1.0).all(axis=1)
    high = (places + radius_px <= np.array(image.shape)).all(axis=1)
    rows, columns = np.clip(np.round(places).astype(int), 0, np.array(image.shape) - 1).T
    reach = ndimage.distance_transform_edt(valid) if not valid.all() else np.full(image.shape, np.inf)
    result: NDArray[np.bool_] = low & high & (reach[rows, columns] >= 0.9 * radius_px)
    return result


def _rim_radius(image: NDArray[np.float32], places: NDArray[np.float64], radius_px: float) -> float:
    """Where the brightness falls most steeply going outwards, as the median over the holes, to half a pixel."""
    steps = np.arange(0.5 * radius_px, RING * radius_px, 0.25)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    rows = places[:, 0, None, None] + steps[None, :, None] * np.sin(angles)
    columns = places[:, 1, None, None] + steps[None, :, None] * np.cos(angles)
    values = ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest")
    profile = ndimage.gaussian_filter1d(
        np.median(values.mean(axis=2), axis=0), max(2.0, 0.06 * radius_px / 0.25)
    )
    fall = np.gradient(profile)
    lowest = int(np.argmin(fall))
    return float(steps[lowest]) if 0 < lowest < len(steps) - 1 else radius_px


def _torn(image: NDArray[np.float32], places: NDArray[np.float64], radius_px: float) -> NDArray[np.bool_]:
    """Which holes show a piece of vacuum beside ice: more than TORN_SHARE of the disc far brighter than the rest.

    How bright differs from hole to hole is left alone: a hole that is bright all over has thin ice or none.
    """
    reach = int(np.ceil(RING * radius_px))
    offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    distance_px = np.hypot(*offsets)
    disc, ring = distance_px <= 0.9 * radius_px, distance_px > 1.05 * radius_px
    ring &= distance_px <= RING * radius_px
    at = np.round(places).astype(int)[:, :, None] + offsets
    at = np.clip(at, 0, np.array(image.shape)[:, None] - 1)
    values = image[at[:, 0], at[:, 1]]
    # The film around says how the brightness falls across the hole.
    plane = np.stack([np.ones_like(distance_px), *offsets])
    values = values - (values[:, ring] @ np.linalg.pinv(plane[:, ring])) @ plane
    inside = values[:, disc]
    dark, ice, middle, brightest = np.percentile(inside, [3, 25, 50, 100 * (1 - TORN_SHARE)], axis=1)
    above_film = middle - np.median(values[:, ring], axis=1)
    noise = float(np.median(np.median(np.abs(inside - middle[:, None]), axis=1)))
    usual = abs(float(np.median(above_film)))
    # Against what is usual in this image: rims and noise make bright pixels as well.
    peak = brightest - ice
    piece = peak > max(1.3 * usual, 1.8 * float(np.median(peak)))
    mostly = (above_film > 2.3 * usual) & (middle - dark > max(usual, 4 * noise))
    torn: NDArray[np.bool_] = piece | mostly
    return torn


def _scaled(lattice: Lattice, factor: int) -> Lattice:
    first, second = (
        tuple(factor * part for part in vector) for vector in (lattice.first_px, lattice.second_px)
    )
    return Lattice((first[0], first[1]), (second[0], second[1]), lattice.contrast)
