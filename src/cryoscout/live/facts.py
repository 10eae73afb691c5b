"""What the events of a running session say beside its tables: when things came, what was advised, what was followed.

A fold over events in their order, so that a server that was killed knows the same after its restart. Nothing here
reads a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np

from cryoscout.advice.drift import EVERY, KEPT, DriftWarning, DriftWatch, Promise
from cryoscout.live.clocks import MicroscopeClock
from cryoscout.session.live_exposures import shot_of_live_id
from cryoscout.session.store_contents import Event

KEPT_INTERVALS = 200
"""Newest intervals of each clock that its usual one is the median of."""
OVERDUE = 10.0
"""A result is overdue when it takes this many times the usual lag."""
FEWEST_FOR_USUAL = 5
MOST_ADVISED = 50_000
LISTED = 20
"""Holes of a plan that people are shown."""
KEPT_NOTES = 500
MOST_LISTED = 100
"""Overdue results that are named."""


def moment(at: str) -> float:
    """Seconds since 1970 of an event's time (UTC, ISO 8601)."""
    return datetime.fromisoformat(at).timestamp()


@dataclass
class Ticks:
    """A clock: when something came last, and how long it usually takes until the next."""

    last_s: float | None = None
    intervals_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_INTERVALS))

    def tick(self, at_s: float) -> None:
        """It came. A clock that was set back counts no interval, and ages are those of the clock as it is now."""
        if self.last_s is not None and at_s > self.last_s:
            self.intervals_s.append(at_s - self.last_s)
        self.last_s = at_s

    @property
    def usual_s(self) -> float | None:
        """Median interval; None while there are too few."""
        return None if len(self.intervals_s) < FEWEST_FOR_USUAL else float(np.median(self.intervals_s))


@dataclass
class Facts:
    """Fold `take` over the events; `promise_of` tells where a hole lies and what was predicted of it."""

    promise_of: Callable[[str], Promise | None]
    hole_of: Callable[[str], str | None]
    threshold_of: Callable[[], float]
    microscope: Ticks = field(default_factory=Ticks)
    """Exposures, by our own clock."""
    microscope_clock: MicroscopeClock = field(default_factory=MicroscopeClock)
    ctf: Ticks = field(default_factory=Ticks)
    lags_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_INTERVALS))
    waiting: dict[str, float] = field(default_factory=dict)
    """Exposure -> when it came, of those without a result."""
    stated: dict[str, float] = field(default_factory=dict)
    """Hole -> chance that was stated when it was last advised."""
    advised: dict[str, None] = field(default_factory=dict)
    """Holes of the plan that stands, in its order, that are not imaged yet."""
    followed: int = 0
    """Exposures that were of the hole advised first."""
    near: int = 0
    """Exposures that were of a hole among the listed ones."""
    compared: int = 0
    last_20: deque[bool] = field(default_factory=lambda: deque(maxlen=20))
    trust: list[tuple[float, float, float]] = field(default_factory=list)
    """(chance stated, good shots, shots) of results of holes that were advised or predicted."""
    sent: dict[str, str] = field(default_factory=dict)
    """Hole -> sent, accepted, imaged or refused."""
    notes: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_NOTES))
    actions: deque[tuple[int, str, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=200))
    """(event, when, payload) of overrides, newest last."""
    last_planned: dict[str, Any] | None = None
    results: dict[str, tuple[float, float]] = field(default_factory=dict)
    drift: DriftWatch = field(default_factory=DriftWatch)
    result_times_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT + 2 * EVERY))
    """When the results came that the drift watch follows."""
    results_followed: int = 0
    """So many, those whose time is no longer kept included."""
    last_override_event: int = 0
    errors: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=20))

    def take(self, event: Event) -> None:
        """Take one event in."""
        payload, at_s = event.payload, moment(event.at)
        if event.kind == "planned":
            self._planned(payload)
        elif event.kind == "imaged":
            self._imaged(payload["exposure_id"], payload["hole_id"], at_s)
            self._started([payload.get("started_at")], at_s)
        elif event.kind == "measured":
            self._result(payload["exposure_id"], payload["outcome"], payload["ctf_max_res_angstrom"], at_s)
        elif event.kind == "imported":
            self._imported(payload, at_s)
        elif event.kind == "overridden":
            self.actions.append((event.id, event.at, payload))
            self.last_override_event = event.id
        elif event.kind == "noted":
            self.notes.append({"event": event.id, "at": event.at, **payload})
        elif event.kind in ("sent", "accepted"):
            for hole in payload.get("holes", ()):
                if self.sent.get(hole) != "imaged":  # an answer may be read after the image
                    self.sent[hole] = payload.get("state", event.kind)
        elif event.kind == "error":
            self.errors.append((event.at, str(payload.get("message", ""))))

    @property
    def usual_lag_s(self) -> float | None:
        """Median time from an exposure to its result; None while there are too few."""
        return None if len(self.lags_s) < FEWEST_FOR_USUAL else float(np.median(self.lags_s))

    def overdue(self, now_s: float) -> list[str]:
        """Exposures that wait for their result more than OVERDUE times as long as usual."""
        usual_s = self.usual_lag_s
        if usual_s is None:
            return []
        return [
            each for each, since_s in self.waiting.items() if now_s - since_s > OVERDUE * max(usual_s, 1.0)
        ]

    def _since(self, warning: DriftWarning) -> str:
        """When the first result came that the drift holds for."""
        at_s = self.result_times_s[warning.since_result - self.results_followed + len(self.result_times_s)]
        return datetime.fromtimestamp(at_s).astimezone().isoformat(timespec="seconds")

    def to_json(self, now_s: float, keeps_time: bool = True) -> dict[str, Any]:
        """What a moment says of them, of a drift what the last look at it said.

        keeps_time : whether the session goes as fast as time, and is not played
        """
        drift, overdue = self.drift.told, self.overdue(now_s)
        return {
            "followed": self.followed,
            "followed_near": self.near,
            "compared": self.compared,
            "followed_of_last_20": sum(self.last_20),
            "last_20": len(self.last_20),
            "overdue": overdue[:MOST_LISTED],
            "n_overdue": len(overdue),
            "waiting": len(self.waiting),
            "usual_lag_s": self.usual_lag_s,
            "microscope": {"last_s": self.microscope.last_s, "usual_s": self.microscope.usual_s},
            "ctf": {"last_s": self.ctf.last_s, "usual_s": self.ctf.usual_s},
            "drift": None
            if drift is None
            else {
                "level": drift.level,
                "place": drift.place,
                "results": drift.results,
                "good": drift.good,
                "expected": round(drift.expected, 2),
                "sentence": drift.sentence,
                "since": self._since(drift),
            },
            "clock_offset_s": self.microscope_clock.offset_s if keeps_time else None,
            "clock": self.microscope_clock.sentence(now_s),
            "clock_since_s": self.microscope_clock.changed_at_s,
            "sent": dict(self.sent),
            "notes": list(self.notes),
            "trust": _by_tenth(self.trust),
        }

    def _planned(self, payload: Mapping[str, Any]) -> None:
        holes = payload.get("holes") or []
        names = tuple(str(each["hole"]) for each in holes if "hole" in each)
        for each in holes:
            if "hole" in each and each.get("p_good") is not None and len(self.stated) < MOST_ADVISED:
                self.stated[str(each["hole"])] = float(each["p_good"])
        if payload.get("by") == "serve":
            self.advised = dict.fromkeys(str(each) for each in payload.get("route") or names)
            self.last_planned = dict(payload)

    def _imaged(self, exposure_id: str, hole: str, at_s: float) -> None:
        self.microscope.tick(at_s)
        self.waiting.setdefault(exposure_id, at_s)
        if hole in self.sent:
            self.sent[hole] = "imaged"
        if self.advised:
            is_first = hole == next(iter(self.advised))
            self.compared += 1
            self.followed += is_first
            self.near += hole in islice(self.advised, LISTED)
            self.last_20.append(is_first)
            self.advised.pop(hole, None)

    def _started(self, times: Iterable[Any], at_s: float) -> None:
        """Microscope times of exposures that came together."""
        known = [np.datetime64(each, "ms").astype(np.int64) / 1000.0 for each in times if each is not None]
        if known:
            self.microscope_clock.take(float(max(known)), at_s)

    def _imported(self, payload: Mapping[str, Any], at_s: float) -> None:
        part, columns = payload.get("part"), payload.get("columns", {})
        if part == "rows" and payload.get("table") == "exposures":
            self._started(columns.get("started_at", ()), at_s)
            for row in _rows(columns):
                if row["outcome"] == "none":
                    continue
                self._imaged(row["exposure_id"], row["hole_id"], at_s)
                self._result(row["exposure_id"], row["outcome"], row.get("ctf_max_res_angstrom"), at_s)
        elif part in ("outcomes", "better"):
            for row in _rows(columns):
                self._result(row["exposure_id"], row["outcome"], row.get("ctf_max_res_angstrom"), at_s)
        elif part == "renamed":
            for row in _rows(columns):
                if row["exposure_id"] in self.waiting:
                    self.waiting[row["new_id"]] = self.waiting.pop(row["exposure_id"])

    def _result(self, exposure_id: str, outcome: str, ctf: float | None, at_s: float) -> None:
        if outcome not in ("measured", "failed"):
            return
        since_s = self.waiting.pop(exposure_id, None)
        if since_s is None:
            return  # a result that changed: it was counted when it came first
        self.ctf.tick(at_s)
        if at_s >= since_s:
            self.lags_s.append(at_s - since_s)
        live = shot_of_live_id(exposure_id)
        hole = self.hole_of(exposure_id) or (live[0] if live is not None else None)
        promise = None if hole is None else self.promise_of(hole)
        if hole is None or promise is None or self.last_planned is None:
            return  # nothing was stated yet
        good = outcome == "measured" and ctf is not None and ctf <= self.threshold_of()
        p_good = self.stated.get(hole, promise.p_good)
        self.trust.append((p_good, float(good), 1.0))
        self.drift.take(promise, good)
        self.result_times_s.append(at_s)
        self.results_followed += 1


def _rows(columns: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _by_tenth(trust: list[tuple[float, float, float]]) -> list[dict[str, Any]]:
    """Given against found: results by the tenth of the chance that was stated."""
    rows: list[dict[str, Any]] = []
    if not trust:
        return rows
    table = np.array(trust)
    tenth = np.minimum((table[:, 0] * 10).astype(int), 9)
    for number in range(10):
        mine = table[tenth == number]
        if len(mine):
            rows.append(
                {
                    "from": number / 10,
                    "to": (number + 1) / 10,
                    "given": round(float(mine[:, 0].mean()), 4),
                    "found": round(float(mine[:, 1].sum() / mine[:, 2].sum()), 4),
                    "results": int(mine[:, 2].sum()),
                }
            )
    return rows
