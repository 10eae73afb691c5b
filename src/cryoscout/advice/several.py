"""Several sessions under one budget, in one microscope: whether a change to another one's grid gives more, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.outlook import Outlook


@dataclass(frozen=True)
class Change:
    """A change from the session that is in the microscope to another one, at the best moment."""

    after_min: float  # minutes to stay first; 0: change now
    change_min: float  # minutes of the change itself
    good: float  # micrographs expected from now on, of both together; those of pending results included
    gain: float  # so many more than by staying to the end; 0 where staying is best
    now_good: float  # micrographs expected there if it is changed to now

    def sentence(self, name: str) -> str:
        """For people."""
        if self.gain <= 0.0:
            return f"Changing to {name} gains nothing in the time that is left."
        when = "Change now" if self.after_min == 0.0 else f"Change after about {self.after_min:.0f} min"
        minutes = f"the {self.change_min:.0f} min of the change taken off"
        return f"{when} to {name}: about {self.gain:.1f} good more, {minutes}."


def best_change(here: Outlook, there: Outlook, change_min: float) -> Change:
    """When to change, of the moments of the outlook here; all minutes that the other one gets come after the change.

    here : of the session in the microscope; its last moment is the end of the budget
    there : of the other one, from the beginning of its plan     change_min : minutes until it is in the microscope
    """
    end = float(here.minutes[-1])
    found_here = here.expected - here.good_so_far
    found_there = _there(there.minutes, there.expected, end - here.minutes - change_min)
    together = found_here + found_there
    # Of moments that give the same the last: who is in doubt stays.
    best = int(len(together) - 1 - np.argmax(together[::-1]))
    gain = float(together[best] - found_here[-1])
    return Change(float(here.minutes[best]), change_min, float(together[best]), gain, float(found_there[0]))


def probability_with(here: Outlook, there: Outlook, change: Change, good: float) -> float:
    """Probability of so many good micrographs, those so far here included, when it is changed at that moment.

    The two are drawn independently: grids share nothing.
    """
    at = int(np.searchsorted(here.minutes, change.after_min))
    mine = here.chances[:, at]
    left = float(here.minutes[-1]) - change.after_min - change.change_min
    place = max(0, int(np.searchsorted(there.minutes, left, side="right")) - 1) if left > 0 else 0
    theirs = there.chances[:, place] - there.chances[:, 0]
    # A session in which nothing is left has one draw, that of nothing.
    n = max(len(mine), len(theirs))
    return float((np.resize(mine, n) + np.resize(theirs, n) >= good).mean())


def _there(
    minutes: NDArray[np.float64], expected: NDArray[np.float64], left_min: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(t,) what its plan gives in so many minutes, pending results not counted: they come whether or not."""
    return np.asarray(np.interp(np.maximum(left_min, 0.0), minutes, expected - expected[0]))
