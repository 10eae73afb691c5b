"""Crops scaled to the side that a network takes, in numpy: the same pixels whether torch or ONNX computes after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 256


def scale_crops(images: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Crops (n, h, w) uint8 scaled to (n, size_px, size_px) with antialiasing; both sides, whatever their ratio.

    Bilinear with a triangle as wide as a pixel of the result, as Pillow and torch's antialiased interpolation have
    it. Crops of that size come back as they are.
    """
    n, height, width = images.shape
    if (height, width) == (size_px, size_px):
        return images
    down, across = _weights(height, size_px), _weights(width, size_px)
    scaled = np.empty((n, size_px, size_px), dtype=np.uint8)
    for start in range(0, n, _AT_ONCE):
        part = images[start : start + _AT_ONCE].astype(np.float32)
        rows = (part.reshape(-1, width) @ across.T).reshape(len(part), height, size_px)
        scaled[start : start + len(part)] = np.clip(np.rint(down @ rows), 0, 255)
    return scaled


def _weights(from_px: int, to_px: int) -> NDArray[np.float32]:
    """(to_px, from_px) weights of the pixels of a side, rows summing to 1."""
    step = from_px / to_px
    reach = max(step, 1.0)
    centre = step * (np.arange(to_px) + 0.5)
    away = np.abs(np.arange(from_px) + 0.5 - centre[:, None]) / reach
    weights = np.maximum(1.0 - away, 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
