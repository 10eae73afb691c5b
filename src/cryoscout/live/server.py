"""What a server serves: its sessions, sockets, and the past on request. The API is a thin layer over this."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryoscout.advice.past import last_event_before
from cryoscout.core.errors import UnknownNameError
from cryoscout.live.advisor import Advisor
from cryoscout.live.hub import Hub
from cryoscout.live.past import moment_as_of
from cryoscout.live.replay_bound import ReplayBound
from cryoscout.live.running import Moment
from cryoscout.live.settings import LiveSettings
from cryoscout.live.views import collected
from cryoscout.session.model import Session

PAST_KEPT = 8
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

    def __post_init__(self) -> None:
        self._past: OrderedDict[tuple[str, int], Moment] = OrderedDict()
        self._past_lock = threading.Lock()
        self._sessions: dict[str, tuple[int, Session]] = {}
        for name, advisor in self.advisors.items():
            advisor.on_moment.append(partial(self._publish, name))

    def _publish(self, name: str, moment: Moment) -> None:
        self.hub.publish(moment, name)

    def start(self) -> None:
        """Begin to advise."""
        for advisor in self.advisors.values():
            advisor.start()

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
        key = advisor.name, event
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
        kept = self._sessions.get(advisor.name)
        if kept is None or kept[0] != newest.revision:
            kept = newest.revision, advisor.reading(lambda store: store.load())
            self._sessions[advisor.name] = kept
        return kept[1]

    def collected(self, name: str | None, moment: Moment) -> list[tuple[str, float]]:
        """Good micrographs by microscope time."""
        return collected(self.session_of(name, moment), moment.threshold_angstrom)

    def others(self, name: str | None) -> list[dict[str, Any]]:
        """What changing to another open session would give in the minutes that are left here."""
        here = self.advisor(name)
        minutes_left = here.moment.content["minutes_left"]
        found = []
        for other in self.advisors.values():
            if other is here:
                continue
            seen = other.moment.advice
            change_min = float(seen.problem.time_model.tiers_min(seen.problem.shots)[3])
            room_min = minutes_left - change_min
            minutes = seen.walk.minutes
            fits = minutes <= room_min
            good = float(seen.problem.shots * seen.p_good[seen.walk.holes[fits]].sum())
            found.append({"session": other.name, "change_min": change_min, "expected_good": round(good, 4)})
        return found


def new_run_id() -> str:
    """What tells one run of a server from the next."""
    return secrets.token_hex(4)


def advisor_of(location: Path | str, name: str, settings: LiveSettings, run_id: str) -> Advisor:
    """The advisor of a stored session."""
    return Advisor(name, location, settings, run_id)
