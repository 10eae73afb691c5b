"""A tiny problem for the loop: states on a line, a linear perception, a policy that goes from part to part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.coupling.lesson import UNLABELLED, Lesson, Told
from cryoscout.coupling.linear_perception import LinearPerception

N, PARTS = 60, 6
PART = np.repeat(np.arange(PARTS), N // PARTS)


def truth() -> NDArray[np.int64]:
    """(60,) whole parts are positive or not."""
    return np.asarray(PART % 2, dtype=np.int64)


def features() -> NDArray[np.float64]:
    """(60, 2) that say the truth with noise."""
    rng = np.random.default_rng(3)
    return np.stack([truth() + rng.normal(0.0, 1.0, N), rng.normal(0.0, 1.0, N)], axis=1)


def told() -> Told:
    """Four labels a part, one of them held out in the first two."""
    labels = np.full(N, UNLABELLED, dtype=np.int64)
    shown = np.concatenate([np.arange(4) + N // PARTS * part for part in range(PARTS)])
    labels[shown] = truth()[shown]
    held = np.zeros(N, dtype=np.bool_)
    held[[0, N // PARTS]] = True
    return Told(labels, held)


class KilledError(Exception):
    """Stands for a power cut."""


@dataclass
class Linear:
    """Perception of the sample; `dies_in` raises when so many trainings have begun."""

    x: NDArray[np.float64] = field(default_factory=features)
    dies_in: int = 99
    lessons: list[Lesson] = field(default_factory=list)

    def _count(self) -> None:
        self.dies_in -= 1
        if self.dies_in < 0:
            raise KilledError

    def pretrained(self, told: Told, folder: Path) -> LinearPerception:
        self._count()
        shown = told.shown
        return LinearPerception.fit(self.x, np.where(shown == UNLABELLED, np.nan, shown))

    def fine_tuned(
        self, model: LinearPerception, lesson: Lesson, told: Told, seed: int, folder: Path
    ) -> LinearPerception:
        self._count()
        self.lessons.append(lesson)
        shown = told.shown
        targets = np.where(shown == UNLABELLED, lesson.p_positive, shown)
        weights = np.where(shown == UNLABELLED, lesson.weight, 1.0)
        return LinearPerception.fit(self.x, targets, weights)

    def p_positive(self, model: LinearPerception) -> NDArray[np.float64]:
        return model.p_positive(self.x)

    def save(self, model: LinearPerception, path: Path) -> None:
        write_arrays(vars(model), {"kind": "linear"}, path)

    def load(self, path: Path) -> LinearPerception:
        arrays, _ = read_arrays(path, "linear")
        return LinearPerception(**{name: array.astype(np.float64) for name, array in arrays.items()})


@dataclass
class PartByPart:
    """Visits whole parts, the best first; remembers what it was told."""

    rewards: list[NDArray[np.float64]] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    before: list[Path | None] = field(default_factory=list)

    def routes(
        self,
        p_positive: NDArray[np.float64],
        told: Told,
        starts: NDArray[np.int64],
        seed: int,
        folder: Path,
        before: Path | None = None,
    ) -> NDArray[np.int64]:
        self.before.append(before)
        reward = np.where(told.shown == UNLABELLED, p_positive, told.shown)
        self.rewards.append(reward)
        of_part = np.bincount(PART, weights=reward)
        routes = []
        for start in starts:
            order = np.lexsort((np.arange(N), -of_part[PART]))
            routes.append(np.concatenate([[start], order[order != start]]))
        return np.array(routes)

    def held_out_return(self, p_positive: NDArray[np.float64], told: Told, folder: Path) -> float:
        return self.returns.pop(0) if self.returns else 0.0
