"""The thread that keeps one session advised: it wakes for every write, plans, publishes, and writes the plan down.

Results that arrive while an advice is computed are taken in together by the next. Writers of other processes are looked
for every POLL_S. Nothing that fails here ends the thread: it is told in the message line and tried again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoscout.core.errors import CryoscoutError, StoreError
from cryoscout.core.new_files import finite
from cryoscout.live.clocks import OwnClock, own_clock_sentence
from cryoscout.live.running import LiveSession, Moment
from cryoscout.live.settings import LiveSettings
from cryoscout.session.following import FollowedSession
from cryoscout.session.overrides import Overrides
from cryoscout.session.store import SessionStore

POLL_S = 0.5
"""How often events of other processes are looked for."""
OWN_CLOCK_TOLD_S = 1800.0
REPLACED_TOLD_S = 1800.0
REPLACED = (
    "Another session was put in the place of this one while it was served.",
    "What is shown is of that one: put the right one back, or say its end and target again.",
)
"""The sentence, and what to do."""
TICK_S = 60.0
"""An advice is computed anew at least so often, because minutes pass."""
_NEEDS_NO_ADVICE = frozenset(("planned", "sent", "accepted", "noted", "error"))


@dataclass
class Trouble:
    """Something that is wrong, since when, and what to do; gone when it is well again."""

    cause: str
    sentence: str
    remedy: str
    since_s: float
    weight: int  # the worst is shown first
    has_beginning: bool = True  # False: it holds now, and nobody knows since when


@dataclass
class Advisor:
    """One session that is served."""

    name: str
    location: Path | str
    settings: LiveSettings
    run_id: str
    clock: Callable[[], float] = time.time
    on_moment: list[Callable[[Moment], None]] = field(default_factory=list)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    planning_since_s: float | None = None
    among_others: Callable[[Moment], Moment] | None = None
    """What of a moment is another where several sessions share one microscope; None: this one is alone."""

    def __post_init__(self) -> None:
        self._own_clock = OwnClock()
        self._wake = threading.Event()
        self._new = threading.Condition()
        self._ends = False
        self._is_behind = False
        self._moment: Moment | None = None
        self._thread: threading.Thread | None = None
        self._writes = threading.Lock()
        self._plans = threading.Lock()
        self._writer, self._writer_run_id = self._opened(), self.run_id
        self._live = LiveSession(FollowedSession.open(self.location), self.settings, self.run_id, self.clock)

    def _opened(self) -> SessionStore:
        store = SessionStore.open(self.location)
        store.keep_open()
        return store

    @property
    def run_id_now(self) -> str:
        """What tells what is advised from what was before: `run_id`, and a number where another session came."""
        return self._live.run_id

    def start(self) -> None:
        """Begin to advise, in a thread of its own; the first advice is there when this returns."""
        self._step(force=True)
        self._thread = threading.Thread(target=self._run, name=f"advisor-{self.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and release the store."""
        self._ends = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30.0)
        self._live.followed.store.close()
        self._writer.close()

    @property
    def moment(self) -> Moment:
        """The newest advice. Raises StoreError before the first one."""
        if self._moment is None:
            raise StoreError(
                f"Session {self.name} must be advised before it is asked. Got no advice yet instead."
            )
        return self._moment

    @property
    def has_moment(self) -> bool:
        """Whether a first advice was made."""
        return self._moment is not None

    def advise_again(self) -> None:
        """Make an advice although nothing was written: what it depends on outside the session has changed."""
        self._is_behind = True
        self._wake.set()

    def wake(self) -> None:
        """Something was written."""
        self._wake.set()

    def wait_for(self, revision: int, timeout_s: float) -> Moment:
        """The first advice that includes an event, or the newest one when the time is up."""
        with self._new:
            self._new.wait_for(
                lambda: self._moment is not None and self._moment.revision >= revision, timeout_s
            )
        return self.moment

    def _run(self) -> None:
        last_s = self.clock()
        while not self._ends:
            self._wake.wait(POLL_S)
            self._wake.clear()
            if self._ends:
                return
            self._look_at_own_clock()
            told = self.troubles.get("replaced")
            if told is not None and abs(self.clock() - told.since_s) > REPLACED_TOLD_S:
                self.well("replaced")
            due = abs(self.clock() - last_s) >= TICK_S
            if self._step(force=due):
                last_s = self.clock()
            self._look_at_drift()

    def _look_at_drift(self) -> None:
        """After the advice, and while nothing else comes: a result is advised on before its drift is looked at."""
        if self._moment is None or self._is_behind:
            return
        try:
            with self._plans:
                moment = self._live.look_at_drift(self._moment, lambda: not self._wake.is_set())
        except Exception as error:  # noqa: BLE001  the thread goes on: the advice does not hang on it
            self.trouble("drift look", f"The drift cannot be looked at: {error}.", "The advice goes on.", 2)
            return
        self.well("drift look")
        if moment is not None:
            self._publish(moment)

    def _look_at_own_clock(self) -> None:
        """Ages and ends go by this computer's clock: where it jumped, people are told for a while."""
        jump_s = self._own_clock.look(self.clock(), time.monotonic())
        told = self.troubles.get("own clock")
        if jump_s is not None:
            self.well("own clock")
            remedy = "What came meanwhile is read first; ages are right again with the next exposure."
            self.trouble("own clock", own_clock_sentence(jump_s), remedy, 4)
        elif told is not None and abs(self.clock() - told.since_s) > OWN_CLOCK_TOLD_S:
            self.well("own clock")

    def _step(self, force: bool = False) -> bool:
        """Catch up and advise where something has changed; whether an advice was made."""
        try:
            with self._plans:
                caught = self._live.catch_up()
            self._say_passed_over()
            if self._writer_run_id != self.run_id_now:  # wherever that was found out, and until it is done
                self._is_behind = True
                self.trouble("replaced", *REPLACED, 5)
                self._write_to_what_stands_there()
            needs = self._is_behind or any(event.kind not in _NEEDS_NO_ADVICE for event in caught.events)
            told = any(event.kind in _NEEDS_NO_ADVICE and event.kind != "planned" for event in caught.events)
            if not (needs or force or told):
                return False
            self.planning_since_s = self.clock()
            self._is_behind = False
            with self._plans:
                moment = self._live.advise(looks_at_drift=self._moment is None)
            self.planning_since_s = None
            if self.among_others is not None:
                moment = self.among_others(moment)
            self._publish(moment)
            self._write_down(moment)
        except Exception as error:
            # Whatever it was: what came is not advised on yet, and a thread that ended would show old advice as new.
            if self._moment is None:
                raise
            self.planning_since_s = None
            self._is_behind = True
            said = str(error) if isinstance(error, CryoscoutError) else f"{type(error).__name__}: {error}"
            self.trouble("advice", said, "The advice shown is of before; it is tried again by itself.", 8)
            return False
        self.well("advice")
        return True

    def _write_to_what_stands_there(self) -> None:
        """A store refuses to write where another one has come; people are told, and what they say is of that one."""
        run_id = self.run_id_now
        with self._writes:
            before, self._writer = self._writer, self._opened()
            self._writer_run_id = run_id
            before.close()

    def _say_passed_over(self) -> None:
        """What was not understood of the events stays said: it is not taken in by itself."""
        lost = self._live.passed_over
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            sentence = f"Not understood, and passed over: {lost[0]}{more}."
            remedy = "Tables and results are whole; look at cryoscout log, and at the program that wrote it."
            self.trouble("events", sentence, remedy, 3)

    def _publish(self, moment: Moment) -> None:
        with self._new:
            self._moment = moment
            self._new.notify_all()
        for told in self.on_moment:
            told(moment)

    def _write_down(self, moment: Moment) -> None:
        payload = self._live.planned_event(moment)
        if payload is None:
            return
        try:
            self.write("planned", payload)
        except StoreError as error:
            self.trouble("store", str(error), "Free space or end the program that holds the session.", 9)
        else:
            self.well("store")
        # Its own event is in at once, so that the next step does not take it for news.
        with suppress(StoreError), self._plans:
            caught = self._live.catch_up()
            # What others wrote in between is taken in too, and is advised on at once.
            if caught.is_replaced or any(event.kind not in _NEEDS_NO_ADVICE for event in caught.events):
                self._is_behind = True
                self.wake()

    def trouble(self, cause: str, sentence: str, remedy: str, weight: int) -> None:
        """Something is wrong from now on, or still is."""
        before = self.troubles.get(cause)
        since_s = self.clock() if before is None else before.since_s
        self.troubles[cause] = Trouble(cause, sentence, remedy, since_s, weight)

    def well(self, cause: str) -> None:
        """It is well again."""
        self.troubles.pop(cause, None)

    def write(self, kind: str, payload: Mapping[str, Any]) -> int:
        """Append one event; it is in the store when this returns. Raises the errors of `SessionStore.append`."""
        with self._writes:
            number = self._writer.append(kind, finite(payload))
        self.wake()
        return number

    def writing(self, work: Callable[[SessionStore], Any]) -> Any:
        """Do something with the store that writes; one at a time."""
        with self._writes:
            done = work(self._writer)
        self.wake()
        return done

    def reading(self, work: Callable[[SessionStore], Any]) -> Any:
        """Read from the store in another thread than the advisor's."""
        return work(self._writer)

    def what_if(self, overrides: Overrides) -> Moment:
        """The advice if that had been said; see `LiveSession.what_if`."""
        with self._plans:
            return self._live.what_if(overrides, overrides.threshold_angstrom)

    @property
    def overrides(self) -> Overrides:
        """What operators said, as of the newest advice."""
        return self.moment.advice.now.overrides
