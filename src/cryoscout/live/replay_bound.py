"""The bound of a session that is played: the most good micrographs that any route could have by each time.

The player knows every result, so the exact bound of `routing.bound` can stand beside what was collected and what is
expected. It starts where the played session started, at its first hole, which counts for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.live.running import Moment
from cryoscout.routing.bound import good_holes_bound_course
from cryoscout.routing.replay import Truth

LEAST_MIN = 60.0
Json = dict[str, Any]


@dataclass(frozen=True)
class ReplayBound:
    """The exact bound of one played session.

    first_exposure : of the session as read, hole and microscope time of its first exposure; None before it
    truth_of : (threshold in angstrom, ids of the holes) -> what each hole gives, of those that the player can play
    """

    first_exposure: Callable[[], tuple[str, datetime] | None]
    truth_of: Callable[[float, tuple[str, ...]], Truth]

    def points(self, moment: Moment, collected: Sequence[tuple[str, float]]) -> list[Json]:
        """{at, good} at every drawn point, of what was collected and of the forecast; none before the first exposure.

        Minutes are those of the time model: of a record that was played at its own times the curve of what was
        collected may lie above, because its microscope was faster than the model.
        """
        first = self.first_exposure()
        if first is None or moment.microscope_at is None:
            return []
        hole, began = first
        ahead = [float(each) for each in moment.advice.outlook.minutes]
        elapsed = _minutes(moment.microscope_at, began)
        times = [_minutes(datetime.fromisoformat(at), began) for at, _ in collected]
        found = self._bound(moment, hole, np.array([*times, *(elapsed + each for each in ahead)]))
        seen = [{"at": at, "good": good} for (at, _), good in zip(collected, found.tolist(), strict=False)]
        return [
            *(
                {**each, "minutes": round(at_min - elapsed, 4)}
                for each, at_min in zip(seen, times, strict=True)
            ),
            *(
                {"at": None, "minutes": round(each, 4), "good": good}
                for each, good in zip(ahead, found[len(times) :].tolist(), strict=True)
            ),
        ]

    def _bound(self, moment: Moment, first: str, minutes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(t,) most good micrographs by each moment, minutes since the first exposure; 0 before it."""
        names = moment.advice.names.holes
        start = names.index(first)
        truth = self.truth_of(moment.threshold_angstrom, names)
        problem = replace(
            moment.advice.problem,
            budget_min=max(LEAST_MIN, float(minutes.max())),
            imaged=None,
            outcome=None,
            results=None,
            crossing="drop",
        )
        found = good_holes_bound_course(problem, truth, start, np.maximum(minutes, 0.0))
        return np.where(minutes < 0.0, 0.0, truth.good[start] + found)


def _minutes(at: datetime, since: datetime) -> float:
    return (at - since).total_seconds() / 60.0
