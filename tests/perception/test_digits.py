"""FixMatch on handwritten digits of scikit-learn, where semi-supervised learning is known to help: ours does too."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from cryoscout.perception import fit

LABELS_PER_CLASS = 5
DIGITS = load_digits()
IMAGES: NDArray[np.uint8] = np.round(DIGITS.images * 255.0 / 16.0).astype(np.uint8)
TRUTH: NDArray[np.int64] = DIGITS.target.astype(np.int64)
BUDGET = {"size_px": 32, "width": 16, "steps": 500, "batch_size": 16, "held_out": 0.0, "precision": "float32"}


def accuracy(method: str, augmentation: str, seed: int) -> float:
    """On the 1,747 digits without a label."""
    rng = np.random.default_rng([seed, 2])
    labels = np.full(len(TRUTH), -1)
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(np.equal(TRUTH, digit)))
        labels[rows[:LABELS_PER_CLASS]] = digit
    trained = fit(IMAGES, labels, method, seed=seed, augmentation=augmentation, **BUDGET)
    rest = labels < 0
    return float((trained.predict_proba(IMAGES[rest]).argmax(axis=1) == TRUTH[rest]).mean())


@pytest.mark.slow
def test_fixmatch_is_well_above_supervised_on_digits_and_turns_spoil_it() -> None:
    supervised, plain = (accuracy(method, "plain", 0) for method in ("supervised", "fixmatch"))
    assert supervised > 0.75
    assert plain > 0.9
    assert plain > supervised + 0.04
    # A 6 is not a 9.
    assert accuracy("fixmatch", "hole", 0) < plain - 0.04
