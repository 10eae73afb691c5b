"""The night of a session that was collected: good micrographs by the microscope's time, and where the time went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.advice.why import Json, rounded
from cryoscout.routing.problem import RoutingProblem

if TYPE_CHECKING:
    from cryoscout.session.model import Session
    from cryoscout.session.store_contents import Event

KINDS = ("imaging", "moving", "looking", "focus", "waiting", "pause", "lost")
_KIND_OF_NOTE = {
    "nitrogen": "pause",
    "zero-loss": "pause",
    "focus": "focus",
    "look": "looking",
    "other pause": "pause",
}


def timed_exposures(session: Session) -> pd.DataFrame:
    """Exposures that were taken and have a time, in its order."""
    exposures = session.exposures
    return exposures[exposures["started_at"].notna() & (exposures["outcome"] != "none")].sort_values(
        "started_at"
    )


def collected(session: Session, threshold_angstrom: float) -> tuple[list[pd.Timestamp], NDArray[np.float64]]:
    """(microscope times, good micrographs by then) at every timed exposure, ascending."""
    timed = timed_exposures(session)
    is_good = (timed["ctf_max_res_angstrom"] <= threshold_angstrom).to_numpy(dtype=np.float64)
    good: NDArray[np.float64] = np.cumsum(is_good)
    return [pd.Timestamp(at) for at in timed["started_at"]], good


def minutes_spent(
    session: Session, problem: RoutingProblem, holes: Sequence[str], notes: Sequence[Mapping[str, Any]]
) -> Json:
    """Where the time went: minutes of imaging, moving, looking, focus, waiting, pause, lost; by interval.

    holes : ids, in the problem's order     notes : of `Night`: what was entered, with kind, minutes and microscope_at,
    the time of the last exposure before it
    From the start of each timed exposure to that of the next one: as long as an exposure in the same patch takes is
    imaging; what a switch takes on top, by the time model, is moving; the rest is what was entered (focus, look, pause)
    as far as entries reach, waiting up to three visits, and lost beyond. An interval names its exposure.
    """
    timed = timed_exposures(session)
    tiers_min = problem.time_model.tiers_min(problem.shots)
    index = {name: place for place, name in enumerate(holes)}
    totals = dict.fromkeys(KINDS, 0.0)
    entered: list[tuple[str, float, Any]] = [
        (_KIND_OF_NOTE[str(note.get("kind"))], minutes, note.get("microscope_at"))
        for note in notes
        if str(note.get("kind")) in _KIND_OF_NOTE and (minutes := _minutes_of(note)) > 0.0
    ]
    intervals: list[Json] = []
    columns = zip(timed["started_at"], timed["hole_id"], timed["exposure_id"], strict=True)
    visits = [(at, index[hole], exposure) for at, hole, exposure in columns if hole in index]
    for (begins, before, exposure), (ends, after, _) in pairwise(visits):
        gap = max(0.0, (ends - begins).total_seconds() / 60.0)
        tier = problem.tier_between(before, after)
        parts = dict.fromkeys(totals, 0.0)
        parts["imaging"] = min(gap, float(tiers_min[0]))
        parts["moving"] = min(gap - parts["imaging"], max(0.0, float(tiers_min[tier] - tiers_min[0])))
        rest = gap - parts["imaging"] - parts["moving"]
        while entered and rest > float(tiers_min[0]):
            kind, minutes, since = entered[0]
            if since is not None and since > begins:
                break
            taken = min(rest, minutes)
            parts[kind] += taken
            rest -= taken
            if taken >= minutes:
                entered.pop(0)
            else:
                entered[0] = kind, minutes - taken, since
        parts["lost" if rest > 3.0 * float(tiers_min[0]) else "waiting"] += rest
        for name, minutes in parts.items():
            totals[name] += minutes
        intervals.append(
            {
                "from": begins.isoformat(timespec="seconds"),
                "to": ends.isoformat(timespec="seconds"),
                "exposure": exposure,
                **rounded(parts),
            }
        )
    return {"minutes": rounded(totals), "intervals": intervals}


def minutes_on_bad(
    session: Session, spent: Mapping[str, Any], threshold_angstrom: float
) -> tuple[int, float]:
    """(exposures with a result that was not good, minutes of imaging that they took), of the intervals of a night."""
    exposures = session.exposures
    has_result = exposures["outcome"].isin(("measured", "failed"))
    is_bad = has_result & ~(exposures["ctf_max_res_angstrom"] <= threshold_angstrom)
    bad = set(exposures.loc[is_bad, "exposure_id"])
    theirs = [each["imaging"] for each in spent["intervals"] if each["exposure"] in bad]
    return len(theirs), float(sum(theirs))


def _minutes_of(note: Mapping[str, Any]) -> float:
    """Minutes of a note, 0 where none are said: programs may write what they like into one."""
    minutes = note.get("minutes")
    if isinstance(minutes, bool) or not isinstance(minutes, int | float):
        return 0.0
    return float(minutes) if isfinite(minutes) else 0.0


@dataclass(frozen=True)
class Said:
    """Something that happened besides exposures."""

    microscope_at: datetime | None  # of the last exposure that was known then
    at: str  # our clock, UTC
    what: str
    author: str


_NAMES = ("hole_id", "square_id", "hole_ids", "square_ids", "budget_min", "end_at", "threshold_angstrom",
          "good", "by", "of", "note")  # fmt: skip


def override_words(payload: Mapping[str, Any]) -> str:
    """An override in words, as the log has it."""
    parts = [f"{name} {payload[name]}" for name in _NAMES if payload.get(name) not in (None, [])]
    return " ".join([str(payload.get("kind")), *parts])


def _taken_of(payload: Mapping[str, Any]) -> list[tuple[str | None, Any]]:
    """(hole, time) of the exposures that an import brought; no hole for times that were filled in later."""
    columns = payload["columns"]
    times = columns.get("started_at")
    if payload.get("part") != "rows":
        return [(None, at) for at in times or ()]
    nothing: list[Any] = [None] * len(columns["hole_id"])
    rows = zip(columns["hole_id"], columns["outcome"], times or nothing, strict=True)
    return [(hole, at) for hole, outcome, at in rows if outcome != "none"]


@dataclass
class Night:
    """What the events of a stored session say of how it was collected: a fold, `take` each event in its order."""

    said: list[Said] = field(default_factory=list)
    notes: list[Mapping[str, Any]] = field(default_factory=list)
    """Payloads of notes, each with microscope_at, the time of the last exposure that was known then."""
    advised: int = 0
    """Exposures that were taken while an advice stood."""
    followed: int = 0
    """Those of them that were of the hole advised first."""
    passed_over: int = 0
    """Events that were not understood."""
    _newest: datetime | None = None
    _route: dict[str, None] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Take one event in; one that is not understood is counted and passed over."""
        try:
            self._take(event)
        except Exception:  # noqa: BLE001  programs may write what they like into an event
            self.passed_over += 1

    def _take(self, event: Event) -> None:
        payload = event.payload
        taken: list[tuple[str | None, Any]] = []
        if event.kind == "imaged":
            taken = [(payload["hole_id"], payload.get("started_at"))]
        elif event.kind == "imported" and payload.get("table") == "exposures":
            taken = _taken_of(payload)
        elif event.kind == "planned" and payload.get("by") == "serve":
            holes = payload.get("route") or [each["hole"] for each in payload.get("holes") or []]
            self._route = dict.fromkeys(map(str, holes))
        elif event.kind in ("overridden", "noted"):
            if event.kind == "noted":
                self.notes.append({**payload, "microscope_at": self._newest})
                what = f"{payload.get('kind', 'note')}: {payload.get('text', '')}"
            else:
                what = override_words(payload)
            self.said.append(Said(self._newest, event.at, what, str(payload.get("author") or "")))
        for hole, at in taken:
            if at is not None:
                self._newest = max(self._newest or datetime.min, pd.Timestamp(at).floor("us").to_pydatetime())
            if self._route and hole is not None:
                self.advised += 1
                self.followed += hole == next(iter(self._route))
                self._route.pop(hole, None)


def night_of(events: Iterable[Event]) -> Night:
    """Fold the events of a stored session, in their order."""
    night = Night()
    for event in events:
        night.take(event)
    return night
