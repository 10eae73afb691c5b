"""Small crops with a known class, and settings with which a network learns them in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TINY: dict[str, Any] = {
    "width": 8,
    "size_px": 16,
    "stem_stride": 2,
    "steps": 40,
    "batch_size": 8,
    "unlabelled_ratio": 2,
    "evaluate_every": 10,
    "precision": "float32",
    "rounds": 2,
    "pretrain_steps": 10,
    "embedding": 8,
}


def textures(n: int, seed: int, side: int = 16) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Stripes, fine (class 0) or coarse (class 1), with noise: (n, side, side) and (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    places = np.arange(side)
    period = np.where(labels == 1, 8.0, 3.0)[:, None]
    stripes = np.sin(2.0 * np.pi * places / period + rng.uniform(0.0, 6.28, n)[:, None])
    grey = 128.0 + 50.0 * stripes[:, None, :] + 20.0 * rng.standard_normal((n, side, side))
    return np.clip(grey, 0, 255).astype(np.uint8), labels.astype(np.int64)


def partly_labelled(n: int = 160, labelled: int = 60) -> tuple[Any, Any, Any]:
    """Images, labels with -1 from `labelled` on, and the truth."""
    images, truth = textures(n, 0)
    labels = truth.copy()
    labels[labelled:] = -1
    return images, labels, truth
