"""What the exposures of each hole come to, kept up while exposures change: results, good ones, the last one imaged.

The same figures as the methods of `Session` of these names, without going over all exposures for one new result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RESULTS = ("measured", "failed")


class HoleCounts:
    """Counts of n holes, of exposures that are put in and taken out one by one or all at once."""

    def __init__(
        self,
        n_holes: int,
        hole: NDArray[np.int64],
        outcome: NDArray[np.object_],
        ctf_max_res_angstrom: NDArray[np.float64],
    ) -> None:
        """hole, outcome, ctf_max_res_angstrom : (m,) of every exposure; hole is an index, outcome one of OUTCOMES"""
        has_result = np.isin(outcome, _RESULTS)
        self._imaged = np.bincount(hole[outcome != "none"], minlength=n_holes)
        self._results = np.bincount(hole[has_result], minlength=n_holes).astype(np.float64)
        self._good: dict[float, NDArray[np.float64]] = {}

    def change(self, hole: int, outcome: str, ctf_max_res_angstrom: float, by: int) -> None:
        """Put an exposure in (by 1) or take it out (by -1)."""
        self._imaged[hole] += by * (outcome != "none")
        if outcome in _RESULTS:
            self._results[hole] += by
            for threshold_angstrom, good in self._good.items():
                good[hole] += by * (ctf_max_res_angstrom <= threshold_angstrom)

    def knows(self, threshold_angstrom: float) -> bool:
        """Whether good ones are counted for a threshold."""
        return threshold_angstrom in self._good

    def count_good(
        self, threshold_angstrom: float, hole: NDArray[np.int64], ctf_max_res_angstrom: NDArray[np.float64]
    ) -> None:
        """Begin to count good ones for a threshold.     hole, ctf_max_res_angstrom : (m,) of every exposure"""
        is_good = ctf_max_res_angstrom <= threshold_angstrom
        count = np.bincount(hole[is_good], minlength=len(self._results))
        self._good[threshold_angstrom] = count.astype(np.float64)

    def good(self, threshold_angstrom: float) -> NDArray[np.float64]:
        """(n,) good micrographs; NaN where the hole has no result."""
        return np.where(self._results > 0, self._good[threshold_angstrom], np.nan)

    def results(self) -> NDArray[np.float64]:
        """(n,) exposures that have a result."""
        return self._results.copy()

    def taken(self) -> NDArray[np.int64]:
        """(n,) exposures that were taken."""
        return self._imaged.astype(np.int64)

    def is_imaged(self) -> NDArray[np.bool_]:
        """(n,) whether an exposure was taken."""
        return self._imaged > 0
