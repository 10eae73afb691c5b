"""Clocks that were set: the microscope's (summer time, a correction), this computer's, and a computer that slept.

The microscope's clock orders the exposures and says when the session ends; our own says how fresh things are. Both are
folded from what came, so that a server that starts again knows the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

AGREE_S = 180.0
"""Offsets of exposures that came one after another are the same clock when they agree so well."""
FEWEST = 3
LEAST_APART_S = 30.0
"""Exposures that came more closely were copied, or are played; their offsets say nothing of a clock."""
JUMP_S = 600.0
"""A clock was set when its offset has changed by more than this; less may be a share that is late."""
TOLD_FOR_S = 7200.0
"""What happened to a clock is told for so long."""
OWN_JUMP_S = 60.0


@dataclass
class MicroscopeClock:
    """Whether the microscope's clock was set; `take` each arrival in its order.

    An arrival that is late has an old time too, but times still ascend, and a backlog comes faster than it was made. So
    a clock was set back where several exposures in a row lag by the same time and began before the newest one known;
    it was set ahead where they come from further in the future than before.
    """

    newest_s: float | None = None
    is_back: bool = False
    """Times have not caught up yet with those before the clock was set back."""
    changed_by_s: float | None = None
    changed_at_s: float | None = None
    _usual_s: float | None = None
    _lately: list[tuple[float, float, float]] = field(default_factory=list)
    _before_s: float | None = None

    def take(self, started_s: float, came_s: float) -> None:
        """An exposure came.     started_s : by the microscope's clock     came_s : by ours"""
        offset_s = started_s - came_s
        if self._lately and abs(offset_s - self._lately[-1][0]) > AGREE_S:
            self._lately.clear()
        if not self._lately:
            self._before_s = self.newest_s
        self._lately = [*self._lately, (offset_s, started_s, came_s)][-FEWEST:]
        if len(self._lately) == FEWEST and came_s - self._lately[0][2] >= LEAST_APART_S:
            self._compare(came_s)
        self.newest_s = started_s if self.newest_s is None else max(self.newest_s, started_s)
        if self.is_back and started_s >= self.newest_s:
            self.is_back = False

    def _compare(self, came_s: float) -> None:
        offset_s = self._lately[-1][0]
        shift_s = 0.0 if self._usual_s is None else offset_s - self._usual_s
        first_s = self._lately[0][1]
        is_back = shift_s < -JUMP_S and self._before_s is not None and first_s < self._before_s
        if is_back or shift_s > JUMP_S:
            self.changed_by_s, self.changed_at_s = shift_s, came_s
            self.is_back = is_back
        elif shift_s < -JUMP_S:
            return  # late, and no other clock: the usual offset is that of exposures that come at once
        self._usual_s = offset_s

    def sentence(self, now_s: float) -> str | None:
        """What happened lately; None for nothing."""
        if self.changed_by_s is None or self.changed_at_s is None:
            return None
        if abs(now_s - self.changed_at_s) > TOLD_FOR_S:
            return None
        way = "ahead" if self.changed_by_s > 0 else "back"
        return f"The microscope's clock was set {way} by {abs(self.changed_by_s) / 60.0:.0f} min."


@dataclass
class OwnClock:
    """Whether this computer's clock was set, or it slept: its clock against one that only counts."""

    _at: tuple[float, float] | None = None

    def look(self, clock_s: float, counted_s: float) -> float | None:
        """Seconds by which the clock has jumped since the last look; None where it went as it should."""
        before, self._at = self._at, (clock_s, counted_s)
        if before is None:
            return None
        jump_s = (clock_s - before[0]) - (counted_s - before[1])
        return jump_s if abs(jump_s) > OWN_JUMP_S else None


def own_clock_sentence(jump_s: float) -> str:
    """What happened, for people."""
    minutes = abs(jump_s) / 60.0
    if jump_s < 0:
        return f"This computer's clock was set back by {minutes:.0f} min."
    return f"This computer slept, or its clock was set ahead: {minutes:.0f} min are missing."
