"""Augmentation of hole crops, drawn per image: one affine resampling, then pixel operations on some of the images.

Only what makes sense for a hole: turns, shifts and blur (defocus), noise (dose), contrast. The grey level of a crop
relative to its patch carries ice thickness, so brightness moves by 10 % at most, and nothing is inverted or equalised.
Other images keep their class under fewer changes: `augmentations` names the sets.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional

from cryoscout.core.errors import InputError
from cryoscout.perception.augmentations import AUGMENTATIONS, EVERY_CHANGE, Change, check_augmentation

LARGEST_SHIFT = 0.12
"""Of a side."""
SCALES = (0.8, 1.25)
LARGEST_SHEAR = 0.1
LARGEST_BLUR_PX = 1.5
"""Standard deviation of the Gaussian."""
LARGEST_NOISE = 0.08
"""Standard deviation of Gaussian noise; white is 1."""
DOSES = (50.0, 1000.0)
"""Counts per pixel at white: Poisson noise, in its normal limit."""
CONTRASTS = (0.7, 1.4)
LARGEST_BRIGHTENING = 0.1
LARGEST_CUTOUT = 0.3
"""Of a side."""
CHANCE = 0.5
"""That a pixel operation is applied to an image."""

_BLUR_REACH = 4

Strength = Literal["weak", "strong"]


class Augmentation(Protocol):
    """Changes images and leaves their class alone."""

    def __call__(self, images: Tensor, strength: Strength, generator: Generator) -> Tensor:
        """images : (n, 1, s, s) float32, 0..1     Returns the same shape, all draws from the generator."""
        ...


def augmentation_named(name: str) -> Augmentation:
    """The augmentation of a name in AUGMENTATIONS.

    Raises UnknownNameError with the nearest name; InputError for the name of an own one, which only its caller has.
    """
    if check_augmentation(name) not in AUGMENTATIONS:
        raise InputError(
            f"An own augmentation must be given as the function itself. Got its name, {name}, instead. Remedy: "
            "augmentation=FUNCTION."
        )
    changes = AUGMENTATIONS[name]

    def augmentation(images: Tensor, strength: Strength, generator: Generator) -> Tensor:
        return (weak if strength == "weak" else strong)(images, generator, changes)

    return augmentation


def checked(own: Augmentation) -> Augmentation:
    """An own augmentation that says what it returned where that is no image. It raises InputError then."""

    def augmentation(images: Tensor, strength: Strength, generator: Generator) -> Tensor:
        shape, kind = images.shape, images.dtype
        changed = own(images, strength, generator)
        if not isinstance(changed, Tensor) or changed.shape != shape or changed.dtype != kind:
            got = (
                f"{changed.dtype} {tuple(changed.shape)}"
                if isinstance(changed, Tensor)
                else type(changed).__name__
            )
            raise InputError(
                f"An augmentation must return images as it was given, {kind} {tuple(shape)}. Got {got} instead."
            )
        # What it returned may be kept by it, or share its memory; the training writes into it.
        return changed.clone()

    return augmentation


def weak(images: Tensor, generator: Generator, changes: frozenset[Change] = EVERY_CHANGE) -> Tensor:
    """Flips, 90 degree turns and whole-pixel shifts up to 12 %; the edge is mirrored.

    images : (n, 1, s, s) float, 0..1, square     Returns the same shape; the same generator state gives the same.
    """
    turns = _turns(images, generator) if "turns" in changes else _upright(images)
    return _moved(images, turns, _shifts(images, generator))


def strong(images: Tensor, generator: Generator, changes: frozenset[Change] = EVERY_CHANGE) -> Tensor:
    """Weak, then rotation, scale 0.8-1.25, shear, blur, contrast, brightness, noise and a cut-out.

    images : (n, 1, s, s) float, 0..1, square     Returns the same shape, 0..1.
    """
    turns = _turns(images, generator) if "turns" in changes else _upright(images)
    matrix = turns @ _deformations(images, generator, changes)
    y = _resampled(images, matrix, _shifts(images, generator))
    if "blur" in changes:
        y = _blurred(y, generator)
    # In place, here and below: at this size a new tensor costs more than the operation.
    if "contrast" in changes:
        mean = y.mean(dim=(1, 2, 3), keepdim=True)
        y.sub_(mean).mul_(_or_else(_log_uniform(y, CONTRASTS, generator), 1.0, generator)).add_(mean)
    if "brightness" in changes:
        brightening = 1.0 + LARGEST_BRIGHTENING * (2.0 * _uniform(y, generator) - 1.0)
        y.mul_(_or_else(brightening, 1.0, generator))
    y.clamp_(0.0, 1.0)
    if "noise" in changes:
        y = _noisy(y, generator)
    if "cut-out" in changes:
        y = _cut_out(y, generator)
    return y.clamp_(0.0, 1.0)


def _upright(images: Tensor) -> Tensor:
    """(n, 2, 2) that turn nothing."""
    return torch.eye(2, device=images.device).expand(len(images), 2, 2)


def _uniform(images: Tensor, generator: Generator) -> Tensor:
    return torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)


def _log_uniform(images: Tensor, ends: tuple[float, float], generator: Generator) -> Tensor:
    low, high = math.log(ends[0]), math.log(ends[1])
    return torch.exp(low + (high - low) * _uniform(images, generator))


def _or_else(value: Tensor, otherwise: float, generator: Generator) -> Tensor:
    """The value with probability CHANCE, per image."""
    return torch.where(_uniform(value, generator) < CHANCE, value, torch.full_like(value, otherwise))


def _matrices(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(n, 2, 2) of four vectors (n,), row by row."""
    return torch.stack([a, b, c, d], dim=1).reshape(-1, 2, 2)


def _turns(images: Tensor, generator: Generator) -> Tensor:
    """(n, 2, 2): a flip or none, and 0 to 3 quarter turns: whole numbers, so that pixels land on pixels."""
    n = len(images)
    quarter = torch.randint(4, (n,), generator=generator, device=images.device)
    cosines = torch.tensor([1.0, 0.0, -1.0, 0.0], device=images.device)
    c, s = cosines[quarter], cosines[(quarter + 3) % 4]
    flip = 1.0 - 2.0 * torch.randint(2, (n,), generator=generator, device=images.device)
    return _matrices(c * flip, -s, s * flip, c)


def _shifts(images: Tensor, generator: Generator) -> Tensor:
    """(n, 2) whole pixels in units of half a side."""
    side = images.shape[-1]
    most = int(LARGEST_SHIFT * side)
    pixels = torch.randint(-most, most + 1, (len(images), 2), generator=generator, device=images.device)
    return pixels * (2.0 / side)


def _deformations(images: Tensor, generator: Generator, changes: frozenset[Change] = EVERY_CHANGE) -> Tensor:
    """(n, 2, 2): rotation, scale and shear of some of the images."""
    angle = torch.zeros(len(images), device=images.device)
    zoom, tilt = torch.ones_like(angle), torch.zeros_like(angle)
    if "rotation" in changes:
        angle = _or_else(2.0 * math.pi * _uniform(images, generator), 0.0, generator).flatten()
    if "scale" in changes:
        # The matrix takes places of the result to places of the image: 1 / scale.
        zoom = 1.0 / _or_else(_log_uniform(images, SCALES, generator), 1.0, generator).flatten()
    if "shear" in changes:
        shear = LARGEST_SHEAR * (2.0 * _uniform(images, generator) - 1.0)
        tilt = _or_else(shear, 0.0, generator).flatten()
    c, s = torch.cos(angle), torch.sin(angle)
    one, none = torch.ones_like(c), torch.zeros_like(c)
    return _matrices(c * zoom, -s * zoom, s * zoom, c * zoom) @ _matrices(one, tilt, none, one)


def _moved(images: Tensor, turn: Tensor, shift: Tensor) -> Tensor:
    """What `_resampled` makes of whole turns and shifts, pixel for pixel: each row and each column has one source."""
    side = images.shape[-1]
    centred = torch.arange(side, device=images.device) - (side - 1) / 2.0
    pixels = shift * (side / 2.0) + (side - 1) / 2.0
    sources = []
    for axis in (0, 1):  # x, y: only one of the two factors is not 0
        factor = turn[:, axis].sum(dim=1, keepdim=True)
        place = torch.round(factor * centred + pixels[:, axis, None]).long() % (2 * side)
        sources.append(torch.where(place < side, place, 2 * side - 1 - place))
    x, y = sources
    swapped = turn[:, 0, 1, None] != 0.0  # x of the source follows the row
    of_row, of_column = torch.where(swapped, x, y * side), torch.where(swapped, y * side, x)
    source = (of_row[:, :, None] + of_column[:, None, :]).flatten(1)
    return images.flatten(1).gather(1, source).reshape(images.shape)


def _resampled(images: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """images : (n, 1, s, s)     matrix, shift : (n, 2, 2) and (n, 2), from places of the result to those of the images.

    Places are x, y in units of half a side from the middle.
    """
    side = images.shape[-1]
    centred = ((2.0 * torch.arange(side, device=images.device) + 1.0) / side - 1.0)[:, None]
    of_column = matrix[:, None, :, 0] * centred + shift[:, None, :]
    of_row = matrix[:, None, :, 1] * centred
    # affine_grid gives the same, in three times the time.
    grid = of_row[:, :, None, :] + of_column[:, None, :, :]
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _blurred(images: Tensor, generator: Generator) -> Tensor:
    """The images themselves, some of them blurred."""
    sigma = _or_else(LARGEST_BLUR_PX * _uniform(images, generator), 0.0, generator).flatten()
    chosen = torch.nonzero(sigma > 0.0).flatten()
    some, steps = images[chosen], torch.arange(-_BLUR_REACH, _BLUR_REACH + 1, device=images.device)
    taps = torch.exp(-0.5 * (steps / sigma[chosen, None].clamp(min=1e-3)) ** 2)
    taps = (taps / taps.sum(dim=1, keepdim=True))[:, :, None, None, None]
    for axis in (2, 3):
        pad = (_BLUR_REACH, _BLUR_REACH, 0, 0) if axis == 3 else (0, 0, _BLUR_REACH, _BLUR_REACH)
        padded, size = functional.pad(some, pad, mode="replicate"), some.shape[axis]
        some = padded.narrow(axis, 0, size) * taps[:, 0]
        for k in range(1, 2 * _BLUR_REACH + 1):
            some.addcmul_(padded.narrow(axis, k, size), taps[:, k])
    images[chosen] = some
    return images


def _noisy(images: Tensor, generator: Generator) -> Tensor:
    """The images themselves, some of them with noise."""
    even = _or_else(LARGEST_NOISE * _uniform(images, generator), 0.0, generator)
    per_count = _or_else(1.0 / _log_uniform(images, DOSES, generator), 0.0, generator)
    deviation = (images * per_count).add_(even**2).sqrt_()
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return images.add_(noise.mul_(deviation))


def _cut_out(images: Tensor, generator: Generator) -> Tensor:
    """A square anywhere, at most 0.3 of a side, filled with the crop's mean."""
    side = images.shape[-1]
    half = _or_else(LARGEST_CUTOUT * side * _uniform(images, generator), 0.0, generator) / 2.0
    row, column = side * _uniform(images, generator), side * _uniform(images, generator)
    place = torch.arange(side, device=images.device) + 0.5
    inside = ((place[:, None] - row).abs() < half) & ((place[None, :] - column).abs() < half)
    return torch.where(inside, images.mean(dim=(1, 2, 3), keepdim=True), images)
