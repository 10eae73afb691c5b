"""The inputs of every candidate, slowly and in the paper's words: from the order of the visits, with sets and loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cryoscout.learning.settings import ViewSettings
from cryoscout.routing.problem import RoutingProblem


@dataclass
class SlowState:
    """One route: what was known before it, and its visits so far, the start hole first."""

    problem: RoutingProblem
    view: ViewSettings
    good: Sequence[float]  # micrographs each hole gives when visited
    visits: list[int] = field(default_factory=list)
    starts: int = 1  # how many of the visits, 0 or 1, are the start

    def predicted(self, hole: int) -> float:
        p = float(self.problem.prior_p_good[hole])
        if self.view.labels == "hard":
            return 1.0 if p >= 0.5 else 0.0
        return float(np.floor(round(10.0 * p, 6) + 0.5) / 10.0) if self.view.candidates == "classes" else p

    def may_be_visited(self, hole: int) -> bool:
        allowed = self.problem.allowed is None or bool(self.problem.allowed[hole])
        return allowed and not self.imaged_before(hole)

    def imaged_before(self, hole: int) -> bool:
        return self.problem.imaged is not None and bool(self.problem.imaged[hole])

    def candidates(self) -> set[int]:
        """The hole each candidate stands for: the surest of those that look alike, the first of equals."""
        groups: dict[object, list[int]] = {}
        for hole in range(self.problem.n_holes):
            if self.may_be_visited(hole) and hole not in self.visits:
                patch = int(self.problem.patch_of_hole[hole])
                key = {"holes": hole, "classes": (patch, self.predicted(hole)), "dominant": patch}
                groups.setdefault(key[self.view.candidates], []).append(hole)
        return {
            max(group, key=lambda hole: (self.problem.prior_p_good[hole], -hole)) for group in groups.values()
        }

    def inputs(self, candidate: int) -> list[float]:
        """(68,) oldest frame first."""
        frames: list[list[float]] = []
        n = len(self.visits)
        for back in (3, 2, 1):
            if self.view.history == "candidate":
                undone = min(back, max(n - 1, 0))
                frames.append(self._features(candidate, self.visits[: n - undone], self.visits[: n - undone]))
            elif back <= n:
                frames.append(self._features(self.visits[n - back], self.visits, self.visits[: n - back]))
            else:
                frames.append([0.0] * 17)
        frames.append(self._features(candidate, self.visits, self.visits))
        return [number for frame in frames for number in frame]

    def _features(self, hole: int, visits: Sequence[int], before: Sequence[int]) -> list[float]:
        """(17,) of a hole after `visits`, reached after the visits `before`."""
        where = self._places(hole)
        numbers = [self.predicted(hole), float(hole in visits or self.imaged_before(hole))]
        for level, full in enumerate((25, 150, 500)):
            members = [h for h in range(self.problem.n_holes) if self._places(h)[level] == where[level]]
            open_ones = [h for h in members if self.may_be_visited(h) and h not in visits]
            counts = [
                len(open_ones),
                sum(self.predicted(h) for h in open_ones),
                len([h for h in members if h in visits or self.imaged_before(h)]),
                sum(self._found(h) for h in members if h in visits or self.imaged_before(h)),
            ]
            numbers += [min(count / full, 1.0) for count in counts]
        came_from = self._places(before[-1]) if before else (None, None, None)
        return numbers + [float(came_from[level] != where[level]) for level in range(3)]

    def _found(self, hole: int) -> float:
        if not self.imaged_before(hole):
            return float(self.good[hole])
        known = self.problem.outcome is not None and not np.isnan(self.problem.outcome[hole])
        return float(self.problem.outcome[hole]) if known and self.problem.outcome is not None else 0.0

    def _places(self, hole: int) -> tuple[int, int, int]:
        patch = int(self.problem.patch_of_hole[hole])
        square = int(self.problem.square_of_patch[patch])
        return patch, square, int(self.problem.grid_of_square[square])
