"""The smallest perception model: a logistic regression of feature vectors, taught by labels hard or soft."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.coupling.lesson import UNLABELLED, Lesson, Told

KIND = "linear perception"
STEPS = 50
SMALL_STEP = 1e-10


@dataclass(frozen=True)
class LinearPerception:
    """p(positive) = 1 / (1 + exp(-(w . z + b))), z the features in units of their spread."""

    mean: NDArray[np.float64]  # (d,)
    spread: NDArray[np.float64]  # (d,)
    weights: NDArray[np.float64]  # (d + 1,) the last is b

    @classmethod
    def fit(
        cls,
        features: NDArray[np.float64],
        targets: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
        ridge: float = 1.0,
    ) -> LinearPerception:
        """The maximum of sum_i w_i log-likelihood_i - ridge/2 |w|^2, b not punished, by Newton's method.

        features : (n, d)     targets : (n,) 0..1, probabilities of positive; NaN: no target
        weights : (n,) 0 or more; None: 1     ridge : above 0
        Raises InputError for targets outside 0..1, none at all, wrong weights or ridge.
        """
        w = np.ones(len(targets)) if weights is None else np.asarray(weights, dtype=np.float64)
        known = np.isfinite(targets) & (w > 0.0)
        if not known.any() or not ridge > 0.0:
            raise InputError(
                f"Perception must have a target and a ridge above 0. Got {int(known.sum())} targets and ridge "
                f"{ridge:g} instead."
            )
        if not ((targets[known] >= 0.0) & (targets[known] <= 1.0)).all() or not (w >= 0.0).all():
            raise InputError("Targets must lie in 0..1 and weights must be 0 or more. Got others instead.")
        mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-12
        x = _with_one((features[known] - mean) / spread)
        y, w = targets[known], w[known]
        punished = ridge * np.append(np.ones(x.shape[1] - 1), 1e-6)
        beta = np.zeros(x.shape[1])
        for _ in range(STEPS):
            p = expit(x @ beta)
            gradient = x.T @ (w * (y - p)) - punished * beta
            curvature = (x * (w * np.maximum(p * (1.0 - p), 1e-9))[:, None]).T @ x + np.diag(punished)
            step = np.linalg.solve(curvature, gradient)
            beta = beta + step / max(1.0, float(np.abs(step).max()))
            if float(np.abs(step).max()) < SMALL_STEP:
                break
        return cls(mean, spread, beta)

    def p_positive(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m,) of features (m, d)."""
        return np.asarray(expit(_with_one((features - self.mean) / self.spread) @ self.weights))


@dataclass(frozen=True)
class LinearStates:
    """The perception of the loop that needs no network: a logistic regression of a few features of every state."""

    features: NDArray[np.float64]  # (n, d)
    ridge: float = 1.0

    def pretrained(self, told: Told, folder: Path) -> LinearPerception:
        """Of the shown labels; a linear model learns nothing from the other states."""
        del folder
        shown = told.shown
        targets = np.where(shown == UNLABELLED, np.nan, shown)
        return LinearPerception.fit(self.features, targets, ridge=self.ridge)

    def fine_tuned(
        self, model: LinearPerception, lesson: Lesson, told: Told, seed: int, folder: Path
    ) -> LinearPerception:
        """Of the shown labels and the guesses; the optimum does not depend on where it starts."""
        del model, seed, folder
        shown = told.shown
        targets = np.where(shown == UNLABELLED, lesson.p_positive, shown)
        weights = np.where(shown == UNLABELLED, lesson.weight, 1.0)
        return LinearPerception.fit(self.features, targets, weights, self.ridge)

    def p_positive(self, model: LinearPerception) -> NDArray[np.float64]:
        """(n,)."""
        return model.p_positive(self.features)

    def save(self, model: LinearPerception, path: Path) -> None:
        """As one file of arrays."""
        write_arrays(vars(model), {"kind": KIND}, path)

    def load(self, path: Path) -> LinearPerception:
        """What `save` wrote."""
        arrays, _ = read_arrays(path, KIND)
        return LinearPerception(**{name: array.astype(np.float64) for name, array in arrays.items()})


def _with_one(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)
