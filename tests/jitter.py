"""Noise of the size of rounding, for scores before a decision: what is equal by construction must stay equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

DOUBLE, SINGLE = 1e-12, 1e-6
"""Relative noise of float64 and float32 scores: what other processors and libraries make of the same sum is less."""


def jittered(values: NDArray[Any], rng: np.random.Generator, within: tuple[float, float]) -> NDArray[Any]:
    """The values times 1 + noise, each its own, kept within what values of this kind can be."""
    noise = SINGLE if values.dtype == np.float32 else DOUBLE
    factor = 1.0 + noise * rng.uniform(-1.0, 1.0, values.shape)
    return np.clip(values * factor, *within).astype(values.dtype)


def jitter_results_of(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    rng: np.random.Generator,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> None:
    """From now on the array that this method returns is jittered, anew at every call."""
    plain: Callable[..., NDArray[Any]] = getattr(owner, method)

    def noisy(self: object, *arguments: object, **others: object) -> NDArray[Any]:
        return jittered(plain(self, *arguments, **others), rng, within)

    monkeypatch.setattr(owner, method, noisy)
