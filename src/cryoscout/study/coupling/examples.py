"""The toy problems of the study `localization`: states on a map, a classifier that errs, parts that lie together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.coupling.best_route import BestRoute, best_route
from cryoscout.coupling.theory import labels_of_route


@dataclass(frozen=True)
class Example:
    """n states on a map.

    The policy knows the map and the classifier, not the targets; it is told how many targets there are.
    """

    xy: NDArray[np.float64]  # (n, 2)
    part: NDArray[np.int64]  # (n,) which lie together
    target: NDArray[np.bool_]  # (n,)
    p_target: NDArray[np.float64]  # (n,) what the classifier says
    line: tuple[float, float, float] | None = None
    """a, b, c of the classifier's boundary a x + b y = c, where it has one"""

    @property
    def n_positive(self) -> int:
        """N_C: the number of targets."""
        return int(self.target.sum())

    def by_classifier(self) -> NDArray[np.bool_]:
        """(n,) labels of the classifier alone."""
        return np.asarray(self.p_target > 0.5)

    def best_route(self, cost_per_length: float) -> BestRoute:
        """The best route where a move costs its length times this."""
        away = self.xy[:, None] - self.xy[None]
        cost = cost_per_length * np.hypot(away[..., 0], away[..., 1])
        return best_route(self.p_target, cost, self.n_positive)

    def by_route(self, route: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) labels of a route."""
        return labels_of_route(route, self.n_positive)

    def accuracy(self, labels: NDArray[np.bool_]) -> float:
        """Share of the states that are labelled right."""
        return float((labels == self.target).mean())


def _around(centres: list[tuple[float, float]], offsets: list[tuple[float, float]]) -> NDArray[np.float64]:
    return np.asarray((np.array(centres)[:, None] + np.array(offsets)).reshape(-1, 2), dtype=np.float64)


def _path_planning() -> Example:
    """In the manner of the paper's Figure 1: three groups, in each one state that the classifier gets wrong."""
    xy = np.array(
        [[0.0, 3.0], [1.0, 3.4], [0.6, 2.3], [1.5, 2.6], [2.6, 0.2], [3.4, 0.6], [3.1, -0.5],
         [5.6, 2.6], [6.3, 3.3], [6.9, 2.5], [6.1, 1.9], [5.3, 3.5]]
    )  # fmt: skip
    p = np.array([0.9, 0.8, 0.35, 0.85, 0.8, 0.4, 0.75, 0.2, 0.3, 0.6, 0.15, 0.25])
    part = np.repeat([0, 1, 2], [4, 3, 5])
    return Example(xy, part, part < 2, p)


def _four_groups() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """(places, groups, p by a straight boundary through two of them)."""
    centres = [(1.0, 1.0), (2.2, 3.2), (5.2, 3.4), (4.2, 1.1)]
    xy = _around(centres, [(-0.35, -0.2), (0.3, -0.25), (0.05, 0.4)])
    beyond = 1.1 * (xy[:, 0] - 3.6) + (xy[:, 1] - 2.0)
    return xy, np.repeat(np.arange(4), 3), 1.0 / (1.0 + np.exp(-beyond))


_LINE = (1.1, 1.0, 1.1 * 3.6 + 2.0)


def _localization() -> Example:
    """In the manner of the paper's Figure 6: the boundary cuts the fourth group, which lies near the third."""
    xy, part, p = _four_groups()
    return Example(xy, part, part >= 2, p, _LINE)


def _not_local() -> Example:
    """The same map and classifier, but half of each group beyond the boundary is no target: nothing to propagate."""
    xy, part, p = _four_groups()
    return Example(xy, part, p > 0.5, p, _LINE)


EXAMPLES: Mapping[str, Example] = {
    "path planning": _path_planning(),
    "localization": _localization(),
    "labels that are not local": _not_local(),
}
