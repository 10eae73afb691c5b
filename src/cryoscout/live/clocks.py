"""Clocks that were set: the microscope's (summer time, a correction), this computer's, and a computer that slept.

The microscope's clock orders the exposures and says when the session ends; our own says how fresh things are. Both are
folded from what came, so that a server that starts again knows the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

AGREE_S = 180.0
"""Offsets of exposures that came one after another are the same clock when they agree so well."""
FEWEST = 3
LEAST_APART_S = 30.0
"""So long a run of exposures must last: those that came more closely were copied, or are played."""
JUMP_S = 600.0
"""A clock was set when its offset has changed by more than this; less may be a share that is late."""
TOLD_FOR_S = 7200.0
"""What happened to a clock is told for so long."""
OWN_JUMP_S = 60.0


@dataclass(frozen=True)
class _Arrival:
    """One exposure that came: when it started by the microscope's clock, when it came by ours."""

    started_s: float
    came_s: float
    newest_before_s: float | None  # newest start known before it
    stepped_s: float  # by how much its offset differs from that of the arrival before it

    @property
    def offset_s(self) -> float:
        """How far the microscope's clock is ahead of ours, less what the file was late."""
        return self.started_s - self.came_s


@dataclass
class MicroscopeClock:
    """Whether the microscope's clock was set; `take` each arrival in its order.

    Files are never early, so the usual offset is the largest one: that of exposures that come at once. An arrival that
    is late has an old time too, but times still ascend, and a backlog comes faster than it was made. So a clock was set
    back where several exposures in a row lag by the same time and began before the newest one known. It was set ahead
    where they come from further in the future than ever before, and did so from one exposure to the next: what was
    late and is late no longer comes nearer step by step.
    """

    newest_s: float | None = None
    is_back: bool = False
    """Times have not caught up yet with those before the clock was set back."""
    changed_by_s: float | None = None
    changed_at_s: float | None = None
    changes: list[tuple[float, float]] = field(default_factory=list)
    """(when the first exposure of the new time came, by our clock; by how many seconds it was set)."""
    _usual_s: float | None = None
    _run: deque[_Arrival] = field(default_factory=deque)
    """The last arrivals whose offsets agree, no more than are needed to compare."""
    _run_began: _Arrival | None = None
    _last_offset_s: float | None = None

    def take(self, started_s: float, came_s: float) -> None:
        """An exposure came.     started_s : by the microscope's clock     came_s : by ours"""
        offset_s = started_s - came_s
        stepped_s = 0.0 if self._last_offset_s is None else offset_s - self._last_offset_s
        arrival = _Arrival(started_s, came_s, self.newest_s, stepped_s)
        self._last_offset_s = offset_s
        if self._run and abs(stepped_s) > AGREE_S:
            self._run.clear()
        while self._run and abs(offset_s - self._run[0].offset_s) > AGREE_S:
            self._run.popleft()
        if not self._run:
            self._run_began = arrival
        self._run.append(arrival)
        while len(self._run) > FEWEST and came_s - self._run[1].came_s >= LEAST_APART_S:
            self._run.popleft()
        if len(self._run) >= FEWEST and came_s - self._run[0].came_s >= LEAST_APART_S:
            self._compare(came_s)
        self.newest_s = started_s if self.newest_s is None else max(self.newest_s, started_s)
        if self.is_back and started_s >= self.newest_s:
            self.is_back = False

    def _compare(self, came_s: float) -> None:
        offset_s, began = self._run[-1].offset_s, self._run_began
        if self._usual_s is None or began is None:
            self._usual_s = offset_s
            return
        shift_s = offset_s - self._usual_s
        first = self._run[0]
        is_back = (
            shift_s < -JUMP_S
            and began.newest_before_s is not None
            and first.started_s < began.newest_before_s
        )
        is_ahead = shift_s > JUMP_S and began.stepped_s > JUMP_S
        if is_back or is_ahead:
            self.changed_by_s, self.changed_at_s = shift_s, came_s
            self.changes.append((began.came_s, shift_s))
            self.is_back = is_back
            self._usual_s = offset_s
        else:
            self._usual_s = max(self._usual_s, offset_s)

    @property
    def offset_s(self) -> float | None:
        """How far its times, taken as UTC, are ahead of our clock, s; None while too few exposures came."""
        return self._usual_s

    def changed_since_s(self, at_s: float) -> float:
        """Seconds by which the clock was set, all in all, since a moment of our clock."""
        return sum(by_s for came_s, by_s in self.changes if came_s >= at_s)

    def sentence(self, now_s: float) -> str | None:
        """What happened lately; None for nothing."""
        if self.changed_by_s is None or self.changed_at_s is None:
            return None
        if abs(now_s - self.changed_at_s) > TOLD_FOR_S:
            return None
        way = "ahead" if self.changed_by_s > 0 else "back"
        return f"The microscope's clock was set {way} by {abs(self.changed_by_s) / 60.0:.0f} min."


def offset_sentence(offset_s: float, local_ahead_s: float) -> str | None:
    """What people are told of a clock that is another than this computer's by more than a minute; None for less.

    offset_s : of `MicroscopeClock`     local_ahead_s : how far this computer's local time is ahead of UTC
    """
    ahead_s = offset_s - local_ahead_s
    if abs(ahead_s) <= OWN_JUMP_S:
        return None
    way = "ahead of" if ahead_s > 0 else "behind"
    return f"The microscope's times are {abs(ahead_s) / 60.0:.0f} min {way} this computer's."


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
