"""A sum tree: draws places in proportion to their priorities, in time logarithmic in their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SumTree:
    """Priorities of `capacity` places, 0 at first; parents hold the sums of their children."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._depth = max(1, int(np.ceil(np.log2(max(capacity, 2)))))
        self._first_leaf = 1 << self._depth
        self._sums = np.zeros(2 * self._first_leaf)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._sums[1])

    def values(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Priorities of these places."""
        return self._sums[self._first_leaf + places]

    def leaves(self) -> NDArray[np.float64]:
        """(capacity,) priorities."""
        return self._sums[self._first_leaf : self._first_leaf + self.capacity].copy()

    def set(self, places: NDArray[np.int64], priorities: NDArray[np.float64]) -> None:
        """Set priorities; of a place named twice the last one counts."""
        nodes = self._first_leaf + places
        self._sums[nodes] = priorities
        for _ in range(self._depth):
            nodes = np.unique(nodes >> 1)
            # Sums from both children, never by differences, so that rounding does not pile up.
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def sample(self, draws: NDArray[np.float64]) -> NDArray[np.int64]:
        """Places by draws in [0, 1), one each, in proportion to their priorities."""
        mass = draws * self.total
        nodes = np.ones(len(draws), dtype=np.int64)
        for _ in range(self._depth):
            left = self._sums[2 * nodes]
            # A right child without priority is never entered, whatever rounding did to the mass.
            right = (mass >= left) & (self._sums[2 * nodes + 1] > 0)
            mass = np.where(right, mass - left, mass)
            nodes = 2 * nodes + right
        return nodes - self._first_leaf
