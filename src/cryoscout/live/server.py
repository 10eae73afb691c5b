"""What a server serves: its sessions, sockets, and the past on request. The API is a thin layer over this."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryoscout.advice.night import Night, night_of
from cryoscout.advice.past import last_event_before
from cryoscout.advice.several import best_change, probability_with
from cryoscout.core.errors import UnknownNameError
from cryoscout.live.advisor import Advisor
from cryoscout.live.hub import Hub
from cryoscout.live.past import moment_as_of
from cryoscout.live.replay_bound import ReplayBound
from cryoscout.live.running import Moment
from cryoscout.live.settings import LiveSettings
from cryoscout.live.views import collected
from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore
from cryoscout.session.store_contents import EventMark

PAST_KEPT = 8
LEAST_GAIN_OF_CHANGE = 1.0
"""Good micrographs; a grid is changed for no less, because a change is sure and a gain is not."""
Mode = str


@dataclass
class ServedSessions:
    """The sessions of one server, by name; the first is meant where none is named."""

    advisors: dict[str, Advisor]
    clock: Callable[[], float] = time.time
    hub: Hub = field(default_factory=Hub)
    folder_clock: Callable[[], Mapping[str, Any] | None] = lambda: None
    replay_bound: ReplayBound | None = None
    """Of a recorded session that is played, and no microscope."""
    mode: Mode = "watch"
    armed_until_s: float | None = None
    writes_files: bool = False
    """Whether there is a folder for next.json and next.txt."""
    bridge: str | None = None
    """What hands the advice over while sending is armed; without files and bridge there is the mode watch alone."""

    saying: threading.Lock = field(default_factory=threading.Lock)
    """Held from the look at what others said until the own word is written: of two with one revision, one is told."""

    @property
    def armed_until(self) -> str | None:
        """When sending ends by itself, ISO 8601; None where it is not armed."""
        if self.armed_until_s is None:
            return None
        return datetime.fromtimestamp(self.armed_until_s).astimezone().isoformat(timespec="seconds")

    def __post_init__(self) -> None:
        self._past: OrderedDict[tuple[str, str, int], Moment] = OrderedDict()
        self._past_lock = threading.Lock()
        self._sessions: dict[str, tuple[tuple[str, int], Session]] = {}
        self._sessions_lock = threading.Lock()
        self._nights: dict[str, tuple[EventMark | None, Night]] = {}
        self._nights_lock = threading.Lock()
        for name, advisor in self.advisors.items():
            advisor.on_moment.append(partial(self._publish, name))
            if len(self.advisors) > 1:
                advisor.among_others = partial(self._among_others, here=advisor)

    def _publish(self, name: str, moment: Moment) -> None:
        self.hub.publish(moment, name)

    def start(self) -> None:
        """Begin to advise."""
        for advisor in self.advisors.values():
            advisor.start()
        if len(self.advisors) > 1:
            for advisor in self.advisors.values():
                advisor.advise_again()  # the first advice of each was made before the others were there

    def close(self) -> None:
        """End all threads."""
        for advisor in self.advisors.values():
            advisor.close()

    def advisor(self, name: str | None) -> Advisor:
        """The session of that name, the first where none is given. Raises UnknownNameError."""
        if name is None:
            return next(iter(self.advisors.values()))
        if name not in self.advisors:
            raise UnknownNameError("The session", name, self.advisors)
        return self.advisors[name]

    def moment(self, name: str | None, as_of: datetime | None = None) -> Moment:
        """The newest moment, or that of a time; raises InputError for a time before the session."""
        advisor = self.advisor(name)
        if as_of is None:
            return advisor.moment
        moment_asked = as_of.astimezone()
        event = advisor.reading(lambda store: last_event_before(store, moment_asked))
        key = advisor.name, advisor.run_id_now, event
        with self._past_lock:
            if key in self._past:
                self._past.move_to_end(key)
                return self._past[key]
            made = moment_as_of(advisor, event, as_of)
            self._past[key] = made
            while len(self._past) > PAST_KEPT:
                self._past.popitem(last=False)
            return made

    def session_of(self, name: str | None, moment: Moment) -> Session:
        """The whole session, read from the store; kept until its revision changes."""
        advisor = self.advisor(name)
        newest = advisor.moment
        if moment is not newest and moment.session is not None and moment.revision != newest.revision:
            return moment.session
        with self._sessions_lock:  # who asks at the same time waits for the one reading
            kept = self._sessions.get(advisor.name)
            key = newest.run_id, newest.revision
            if kept is None or kept[0] != key:
                kept = key, advisor.reading(lambda store: store.load())
                self._sessions[advisor.name] = kept
            return kept[1]

    def notes(self, name: str | None, as_of: datetime | None) -> list[Mapping[str, Any]]:
        """Payloads of all notes, each with the microscope's time when it was entered: as the report has them."""
        advisor = self.advisor(name)
        if as_of is not None:
            upto = advisor.reading(lambda store: last_event_before(store, as_of.astimezone()))
            past: Night = advisor.reading(
                lambda store: night_of(event for event in store.events() if event.id <= upto)
            )
            return past.notes

        def read_on(store: SessionStore) -> list[Mapping[str, Any]]:
            mark, night = self._nights.get(advisor.name, (None, Night()))
            events = list(store.events(after=0 if mark is None else mark.id - 1))
            if mark is not None and (not events or events[0].mark != mark):
                mark, night, events = None, Night(), list(store.events())  # another store stands there now
            for event in events[0 if mark is None else 1 :]:
                night.take(event)
            self._nights[advisor.name] = events[-1].mark if events else None, night
            return list(night.notes)

        with self._nights_lock:
            found: list[Mapping[str, Any]] = advisor.reading(read_on)
        return found

    def collected(self, name: str | None, moment: Moment) -> list[tuple[str, float]]:
        """Good micrographs by microscope time."""
        return collected(self.session_of(name, moment), moment.threshold_angstrom)

    @property
    def in_microscope(self) -> str | None:
        """Of several sessions the one whose last exposure came last; None before any, or of one alone."""
        came = {
            name: at_s
            for name, advisor in self.advisors.items()
            if advisor.has_moment and (at_s := advisor.moment.facts["microscope"]["last_s"]) is not None
        }
        return max(came, key=lambda name: came[name]) if came and len(self.advisors) > 1 else None

    @property
    def to_obey(self) -> str:
        """The session whose advice the microscope is to obey: that in it, the first one before any exposure."""
        return self.in_microscope or next(iter(self.advisors))

    def others(self, name: str | None) -> list[dict[str, Any]]:
        """What changing to each other open session would give in the minutes that are left here, and when to change."""
        here = self.advisor(name)
        return [change_json(here.moment, other.moment, other.name) for other in self._advised_beside(here)]

    def others_than(self, here: Advisor) -> list[Advisor]:
        """The other sessions."""
        return [other for other in self.advisors.values() if other is not here]

    def _advised_beside(self, here: Advisor) -> list[Advisor]:
        return [other for other in self.others_than(here) if other.has_moment]

    def _among_others(self, moment: Moment, here: Advisor) -> Moment:
        """The moment of one of several sessions: the verdict is of all of them, because there is one microscope."""
        others, loaded = self._advised_beside(here), self.in_microscope
        if not others or moment.content["verdict"]["verb"] == "WAIT":
            return moment
        if loaded is not None and loaded != here.name:
            at_work = self.advisors[loaded].moment.content["verdict"]
            if (at_work["verb"], at_work["place"]) == ("CHANGE GRID", here.name):
                return moment
            sentence = f"Session {loaded} is in the microscope: {at_work['sentence']}"
            return _with_verdict(moment, "WAIT", loaded, 0.0, sentence)
        rows = [(change_json(moment, other.moment, other.name), other) for other in others]
        best, other = max(rows, key=lambda row: float(row[0]["gain"]))
        least = self.advisors[here.name].settings.calm.hysteresis
        if loaded is None or best["after_min"] > 0.0 or best["gain"] <= max(least, LEAST_GAIN_OF_CHANGE):
            return moment
        stays_min = float(other.moment.content["minutes_left"])
        return _with_verdict(moment, "CHANGE GRID", other.name, stays_min, best["sentence"])


def change_json(here: Moment, there: Moment, name: str) -> dict[str, Any]:
    """What a change from the session of one moment to that of another gives."""
    mine, theirs = here.advice, there.advice
    change_min = float(theirs.problem.time_model.tiers_min(theirs.problem.shots)[3])
    change = best_change(mine.outlook, theirs.outlook, change_min)
    target = here.content["target"]
    chance = None
    if target is not None:
        chance = probability_with(mine.outlook, theirs.outlook, change, target["good"])
    return {
        "session": name,
        "change_min": change_min,
        "expected_good": round(change.now_good, 4),
        "after_min": round(change.after_min, 4),
        "gain": round(change.gain, 4),
        "target_probability": None if chance is None else round(chance, 3),
        "sentence": change.sentence(f"session {name}"),
    }


def _with_verdict(moment: Moment, verb: str, place: str, minutes: float, sentence: str) -> Moment:
    verdict = {"verb": verb, "place": place, "minutes": round(minutes, 4), "sentence": sentence}
    return replace(moment, content={**moment.content, "verdict": verdict})


def new_run_id() -> str:
    """What tells one run of a server from the next."""
    return secrets.token_hex(4)


def advisor_of(location: Path | str, name: str, settings: LiveSettings, run_id: str) -> Advisor:
    """The advisor of a stored session."""
    return Advisor(name, location, settings, run_id)
