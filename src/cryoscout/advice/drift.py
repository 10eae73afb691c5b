"""Drift: results that fall below what was predicted beyond chance, and at which level.

A CUSUM of the log likelihood ratio between the chance that was stated for each result and one that is lower by about
20 points, taken back to 0 where it would fall below. When it passes the limit it warns; the results since it left 0
say the level: all of one square, all of one grid that was new then, or all at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Level = Literal["this square", "this grid", "all at once"]

LIMIT = 6.5
"""Log likelihood ratio at which a drift is told; chosen on simulated sessions of other seeds than the study's."""
SHIFT_LOGIT = -0.85
"""What a drift does to the logit of a result: about 20 points at a chance of 0.6."""
PRIOR_SD = 1.0
"""How far, in logits, a prediction may be off from the beginning."""
MOST = 0.8
"""Share of the results since a drift began that must lie in one place for it to be that place's."""
CONFIDENT = 0.97
"""Stated chances are taken as at most this: one bad hole of a perfect prediction must not be a drift."""


@dataclass(frozen=True)
class StatedResult:
    """One result, beside what was stated before it was known."""

    p_good: float  # of one shot
    good: float  # good shots
    shots: float  # with a result
    square: str
    grid: str


@dataclass(frozen=True)
class DriftWarning:
    """Results have fallen below prediction."""

    level: Level
    place: str
    since_result: int  # index of the first result since when they have
    results: int
    good: float
    expected: float
    sentence: str


class DriftWatch:
    """Follows results in the order they came."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._sum = 0.0
        self._since: list[StatedResult] = []
        self._seen_grids: set[str] = set()
        self._grids_before: set[str] = set()
        self._count = 0
        self._offset, self._precision = 0.0, PRIOR_SD**-2
        self.warning: DriftWarning | None = None

    def take(self, result: StatedResult) -> DriftWarning | None:
        """Take one more result in; the warning that holds now."""
        p = self._usual(result)
        lower = 1.0 / (1.0 + (1.0 - p) / p * np.exp(-SHIFT_LOGIT))
        step = result.good * np.log(lower / p) + (result.shots - result.good) * np.log(
            (1.0 - lower) / (1.0 - p)
        )
        if self._sum <= 0.0:
            self._since, self._grids_before = [], set(self._seen_grids)
        self._since.append(result)
        self._seen_grids.add(result.grid)
        self._count += 1
        self._sum = max(0.0, self._sum + float(step))
        if self._sum <= 0.0:
            self.warning = None
        elif self._sum >= self._limit or self.warning is not None:
            self.warning = self._told()
        self._sum = min(self._sum, 1.5 * self._limit)
        return self.warning

    def take_all(self, results: Sequence[StatedResult]) -> DriftWarning | None:
        """The same for several, in their order."""
        for result in results:
            self.take(result)
        return self.warning

    def _usual(self, result: StatedResult) -> float:
        """The stated chance, moved by how far all results so far lay from theirs; then this one is taken in.

        A prediction that always promises too much is no drift: its offset (logit, a priori 0 within PRIOR_SD) is
        learned result by result. After many results it moves slowly: a drift is seen before it is taken for usual.
        """
        stated = min(max(result.p_good, 1.0 - CONFIDENT), CONFIDENT)
        logit = np.log(stated) - np.log1p(-stated) + self._offset
        p = float(np.clip(1.0 / (1.0 + np.exp(-logit)), 1.0 - CONFIDENT, CONFIDENT))
        self._precision += result.shots * p * (1.0 - p)
        self._offset += (result.good - result.shots * p) / self._precision
        return p

    def _told(self) -> DriftWarning:
        since = self._since
        square, in_square = _most([each.square for each in since])
        grid, in_grid = _most([each.grid for each in since])
        good, expected = sum(each.good for each in since), sum(each.p_good * each.shots for each in since)
        shots = sum(each.shots for each in since)
        numbers = f"{good:.0f} of the last {shots:.0f} results are good, {expected:.0f} were expected"
        level: Level
        if in_square >= MOST:
            level, place = "this square", square
            what = f"Square {place} is worse than predicted: {numbers}."
        elif in_grid >= MOST and self._grids_before and grid not in self._grids_before:
            level, place = "this grid", grid
            what = f"Grid {place} is worse than predicted: {numbers}."
        else:
            level, place = "all at once", ""
            what = f"All at once: {numbers}. Look at focus and beam, not at the ice."
        return DriftWarning(level, place, self._count - len(since), len(since), good, expected, what)


def _most(names: Sequence[str]) -> tuple[str, float]:
    """The most frequent name, and its share."""
    [(name, count)] = Counter(names).most_common(1)
    return name, count / len(names)
