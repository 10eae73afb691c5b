"""A smooth random field over the stage of one grid, as a few standard normal weights: kernel and low-rank basis.

With the field's values at the inducing positions as C w, where C C' is their correlation and w ~ N(0, I), its mean at
any position is a row of the basis times w (Quinonero-Candela & Rasmussen 2005). At the inducing positions it is exact.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from cryoscout.core.ties import first_of_the_best

_JITTER = 1e-6
"""Added to each correlation of 1, for positions that nearly coincide."""

Numbers = NDArray[np.float64]


def inducing_positions(xy_um: Numbers, most: int) -> Numbers:
    """(i, 2) distinct positions of xy_um, (m, 2): all of them, or `most` spread out by farthest-point selection.

    The first is the one farthest from the middle, each further one the farthest from those chosen (Gonzalez 1985); of
    equally far ones, which lattices are full of, the one of lowest x, then y.
    """
    distinct = np.unique(xy_um, axis=0)
    if len(distinct) <= most:
        return distinct
    nearest = np.linalg.norm(distinct - distinct.mean(axis=0), axis=1)
    chosen = np.empty(most, dtype=np.int64)
    for i in range(most):
        chosen[i] = first_of_the_best(nearest)
        distance = np.linalg.norm(distinct - distinct[chosen[i]], axis=1)
        nearest = np.minimum(nearest, distance) if i else distance
    return np.asarray(distinct[chosen])


def matern(distance_um: Numbers, length_um: float) -> Numbers:
    """Matern 3/2 correlation (1 + s) exp(-s), s = sqrt(3) distance / length, at these distances, same shape."""
    scaled = np.sqrt(3.0) / length_um * distance_um
    return np.asarray((1.0 + scaled) * np.exp(-scaled))


def matern_by_log_length(distance_um: Numbers, length_um: float) -> Numbers:
    """Derivative of `matern` by the natural logarithm of the length."""
    scaled = np.sqrt(3.0) / length_um * distance_um
    return np.asarray(np.square(scaled) * np.exp(-scaled))


class FieldBasis:
    """The field of one length, given by its values at inducing positions.

    between_um : (i, i) distances of the inducing positions; there may be none, i = 0
    """

    def __init__(self, between_um: Numbers, length_um: float) -> None:
        self._between_um, self._length_um = between_um, length_um

    @cached_property
    def _root(self) -> Numbers:
        likeness = matern(self._between_um, self._length_um)
        likeness[np.diag_indices_from(likeness)] += _JITTER
        return np.asarray(cholesky(likeness, lower=True, check_finite=False))

    def rows(self, distance_um: Numbers) -> Numbers:
        """(w, i) the field for each weight, at positions of these distances, (w, i), from the inducing ones."""
        return self._solved(matern(distance_um, self._length_um).T).T

    def rows_by_log_length(self, distance_um: Numbers, rows: Numbers) -> Numbers:
        """(w, i) derivative of `rows` by the natural logarithm of the length."""
        # Derivative of a Cholesky factor C: C times the lower triangle, its diagonal halved, of C^-1 dK C^-T.
        change = matern_by_log_length(self._between_um, self._length_um)
        inner = np.tril(self._solved(self._solved(change).T))
        inner[np.diag_indices_from(inner)] /= 2.0
        return self._solved(matern_by_log_length(distance_um, self._length_um).T).T - rows @ inner.T

    def _solved(self, right: Numbers) -> Numbers:
        if len(right) == 0:
            return right
        return np.asarray(solve_triangular(self._root, right, lower=True, check_finite=False))
