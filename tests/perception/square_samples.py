"""Square and patch images with known holes, drawn coarsely: enough to judge what finds holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class Drawn:
    """An image and the centres (row, column; px) of what is in it."""

    image: NDArray[np.float32]
    intact: NDArray[np.float64]  # (n, 2) whole, clean enough, not cut by the border or a bar
    torn: NDArray[np.float64]  # (k, 2) half ice, half vacuum
    unclear: NDArray[np.float64]  # (m, 2) cut, under dirt
    diameter_px: float


@dataclass(frozen=True)
class Look:
    """What is drawn. Lengths in px; brightness: film 100, a hole brighter by `contrast`."""

    shape: tuple[int, int] = (330, 360)
    spacing_px: float = 40.0
    aspect: float = 1.0  # second spacing over the first
    rotation_deg: float = 12.0
    diameter_share: float = 0.5  # of the shorter spacing
    contrast: float = 12.0
    noise: float = 6.0
    missing: float = 0.1
    torn: float = 0.0
    dirt: int = 3
    gradient: float = 0.0  # brightness at the one side over the other, 0 none
    bar_px: float = 0.0  # a dark bar of the grid along two sides


def draw(look: Look, seed: int) -> Drawn:
    """The image of a look; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: look.shape[0], : look.shape[1]].astype(np.float64)
    image = np.full(look.shape, 100.0)
    centres = _lattice(look, rng)
    diameter_px = look.diameter_share * look.spacing_px * min(1.0, look.aspect)
    radius = diameter_px / 2
    torn = rng.random(len(centres)) < look.torn
    for (row, column), is_torn in zip(centres, torn, strict=True):
        window, down, across = _around(row, column, radius, look.shape)
        disc = np.clip(radius - np.hypot(down, across) + 0.5, 0, 1)
        image[window] += disc * look.contrast * rng.uniform(0.85, 1.15)
        if is_torn:
            image[window] += disc * (down > 0.2 * radius) * 4 * look.contrast
    for _ in range(look.dirt):
        row, column = rng.uniform(0, look.shape[0]), rng.uniform(0, look.shape[1])
        window, down, across = _around(row, column, radius, look.shape)
        image[window] *= 1 - 0.7 * (np.hypot(down, across) < radius * 0.8)
    dirty = np.zeros(look.shape, bool) if look.dirt == 0 else image < 60
    if look.gradient:
        image *= np.exp(-look.gradient * (columns / look.shape[1]))
    reach = np.minimum(rows, columns)
    if look.bar_px:
        image *= 1 / (1 + np.exp(-(reach - look.bar_px) / 4)) * 0.95 + 0.05
    image = rng.normal(image, look.noise * np.sqrt(image / 100))
    from_dirt = ndimage.distance_transform_edt(~dirty) if dirty.any() else np.full(look.shape, np.inf)
    at = np.clip(np.round(centres).astype(int), 0, np.array(look.shape) - 1)
    whole = np.all((centres > radius + 2) & (centres < np.array(look.shape) - radius - 3), axis=1)
    whole &= centres.min(axis=1) > look.bar_px + radius + 16 * (look.bar_px > 0)
    clean = whole & (from_dirt[at[:, 0], at[:, 1]] > radius + 1)
    return Drawn(
        image.astype(np.float32), centres[clean & ~torn], centres[clean & torn], centres[~clean], diameter_px
    )


def _around(
    row: float, column: float, radius: float, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], NDArray[np.float64], NDArray[np.float64]]:
    """The part of the image that a disc can touch, and the way of its pixels from the disc's centre."""
    parts = [
        slice(max(0, int(at - radius) - 2), max(0, min(length, int(at + radius) + 3)))
        for at, length in zip((row, column), shape, strict=True)
    ]
    down, across = (np.arange(part.start, part.stop, dtype=np.float64) for part in parts)
    return (parts[0], parts[1]), (down - row)[:, None], (across - column)[None, :]


def _lattice(look: Look, rng: np.random.Generator) -> NDArray[np.float64]:
    angle = np.radians(look.rotation_deg)
    first = look.spacing_px * np.array([np.sin(angle), np.cos(angle)])
    second = look.spacing_px * look.aspect * np.array([np.cos(angle), -np.sin(angle)])
    reach = int(2 * max(look.shape) / (look.spacing_px * min(1.0, look.aspect)))
    numbers = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    centres = numbers @ np.array([first, second]) + np.array(look.shape) / 2 + rng.uniform(-5, 5, 2)
    near = np.all((centres > -look.spacing_px) & (centres < np.array(look.shape) + look.spacing_px), axis=1)
    centres = centres[near]
    return centres[rng.random(len(centres)) >= look.missing]
