"""A smooth random field over the stage coordinates of grids, at a million places in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIELD_WAVES = 48
"""Waves in the sum that makes the smooth field: enough for values close to normal; cost grows with it."""

Places = NDArray[np.float64]


@dataclass(frozen=True)
class SmoothField:
    """Correlation exp(-d^2 / (2 length^2)) within a grid, 0 between grids; mean 0, standard deviation `sd`.

    Random Fourier features (Rahimi and Recht 2007): a sum of FIELD_WAVES plane waves with normal wave
    vectors, phases drawn per grid. It has a value at any place, not at the holes alone.
    """

    sd: float
    waves_per_um: NDArray[np.float64]  # (FIELD_WAVES, 2) along x and y
    phases: NDArray[np.float64]  # (FIELD_WAVES, grids) radian

    @classmethod
    def drawn(cls, sd: float, length_um: float, grids: int, rng: np.random.Generator) -> SmoothField:
        """A field of that deviation and correlation length on each of the grids."""
        waves_per_um = rng.normal(0.0, 1.0 / length_um, (FIELD_WAVES, 2))
        return cls(sd, waves_per_um, rng.uniform(0.0, 2 * np.pi, (FIELD_WAVES, grids)))

    def at(self, grid: NDArray[np.int32], x_um: Places, y_um: Places) -> Places:
        """(n,) values; one wave at a time, so that memory stays at a few (n,) arrays."""
        value = np.zeros(len(grid))
        if self.sd == 0:
            return value
        for (along_x, along_y), phase in zip(self.waves_per_um, self.phases, strict=True):
            value += np.cos(_angle(along_x, along_y, phase[grid], x_um, y_um))
        value *= self._scale
        return value

    def gradient_per_um(self, grid: NDArray[np.int32], x_um: Places, y_um: Places) -> NDArray[np.float64]:
        """(n, 2) change along x and y per um."""
        gradient = np.zeros((len(grid), 2))
        if self.sd == 0:
            return gradient
        for (along_x, along_y), phase in zip(self.waves_per_um, self.phases, strict=True):
            slope = np.sin(_angle(along_x, along_y, phase[grid], x_um, y_um))
            gradient[:, 0] -= along_x * slope
            gradient[:, 1] -= along_y * slope
        gradient *= self._scale
        return gradient

    @property
    def _scale(self) -> float:
        return self.sd * float(np.sqrt(2 / FIELD_WAVES))


def _angle(along_x: float, along_y: float, phase: Places, x_um: Places, y_um: Places) -> Places:
    """(n,) `phase` is a copy already and is written over."""
    phase += along_x * x_um
    phase += along_y * y_um
    return phase
