"""When a plan with unseen places gives what it gives: its places one after the other, each evenly over its minutes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PlannedPlace(NamedTuple):
    """A seen patch, or the unseen patches of a square, of a plan."""

    rate: float  # expected good micrographs per minute from here; the best comes first
    minutes: float  # expected
    good: NDArray[np.float64]  # (draws,) drawn good micrographs


def by_moments(
    places: Sequence[PlannedPlace], counts: NDArray[np.float64], until_min: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(draws, t) good micrographs by each moment.

    counts : (draws,) of the end, >= 0; what the places do not give of it comes evenly over the time
    until_min : (t,) minutes from now, ascending, the last is the end
    """
    end_min = max(float(until_min[-1]), 1e-9)
    course = np.zeros((len(counts), len(until_min)))
    rest, begins = counts.copy(), 0.0
    for _, minutes, theirs in sorted(places, key=lambda place: -place.rate):
        done = np.clip((until_min - begins) / max(minutes, 1e-9), 0.0, 1.0)
        course += theirs[:, None] * done[None, :]
        begins += minutes
        rest -= theirs
    course += rest[:, None] * (until_min / end_min)[None, :]
    course = np.clip(course, 0.0, counts[:, None])
    course[:, -1] = counts
    return np.asarray(np.maximum.accumulate(course, axis=1))
