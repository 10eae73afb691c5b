"""The lattice of holes in images made here, of known spacing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cryoscout.perception.hole_lattice import find_lattice

SIDE_PX = 400


def holes_in_noise(seed: int, spacing_px: float, radius: float, contrast: float) -> np.ndarray:
    """A square lattice at any angle, holes of `radius` spacings, `contrast` above noise of spread 1 in each pixel.

    A third of the holes is missing, the others differ in brightness.
    """
    rng = np.random.default_rng(seed)
    angle = np.radians(rng.uniform(0.0, 90.0))
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - rng.uniform(0.0, spacing_px, size=(2, 1, 1))
    u = (np.cos(angle) * x + np.sin(angle) * y) / spacing_px
    v = (np.cos(angle) * y - np.sin(angle) * x) / spacing_px
    inside = np.hypot(u - np.round(u), v - np.round(v)) < radius
    brightness = rng.uniform(0.7, 1.3, size=(100, 100)) * (rng.random((100, 100)) > 0.33)
    inside = inside * brightness[np.round(u).astype(int) % 100, np.round(v).astype(int) % 100]
    image = contrast * ndimage.gaussian_filter(inside, 1.0)
    return (image + rng.normal(size=image.shape)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("spacing_px", "radius", "contrast"),
    [(40.0, 0.45, 0.5), (40.0, 0.42, 0.5), (40.0, 0.2, 1.0), (25.0, 0.3, 3.0)],
)
def test_the_spacing_is_that_of_neighbours_however_weak_and_close_the_holes_are(
    seed, spacing_px, radius, contrast
):
    """Where holes nearly touch, every third hole makes a clearer lattice than all of them, at sqrt(2) the spacing."""
    image = holes_in_noise(seed, spacing_px, radius, contrast)
    lattice = find_lattice(image, np.ones(image.shape, dtype=np.bool_))
    assert lattice is not None
    assert lattice.spacing_px == pytest.approx(spacing_px, rel=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_noise_has_no_lattice(seed):
    image = np.random.default_rng(seed).normal(size=(SIDE_PX, SIDE_PX)).astype(np.float32)
    assert find_lattice(image, np.ones(image.shape, dtype=np.bool_)) is None
