"""One session that is advised while it runs: the store followed, the planner kept in step, the advice written down.

Everything here is a function of the events and of the time that has passed, so that a server that was killed goes on
with the same advice. It is used by one thread; what others may look at is the `Moment` that each step gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.drift import Promise, Promises
from cryoscout.advice.running import Now, RunningAdvice, RunningPlanner, Standing
from cryoscout.advice.setting import AdviceRequest, default_policy
from cryoscout.advice.why import Json, Verdict, advice_json, rounded, squares_of, verdict_of
from cryoscout.core.errors import DataError
from cryoscout.live.facts import Facts, moment
from cryoscout.live.settings import HORIZON_MIN, LiveSettings
from cryoscout.routing.problem import NOWHERE
from cryoscout.session.following import CaughtUp, FollowedSession
from cryoscout.session.model import Session
from cryoscout.session.overrides import Overrides
from cryoscout.session.store_contents import Event

FACTS_FROM_LAST_EVENTS = 4000
"""A server that starts takes what it knows of intervals, followed holes and drift from so many events at most."""
_CHANGES_SETTING = frozenset(
    ("session", "rows", "info", "emptied", "patches", "chosen", "filled")
)  # parts of imports that change places or times

MOST_PASSED_OVER = 1000
RELISTED = 5
"""A plan that stands is written down again when one of so many first holes was not listed then."""
RESTATED = 0.03
"""And when the chance of its first hole has moved by so much: what was stated is what results are judged by."""
SINCE_1970 = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Moment:
    """What others may look at: the session as it stood after one step. Never changed."""

    run_id: str
    revision: int
    at_s: float  # seconds since 1970, by our clock
    session_name: str
    threshold_angstrom: float
    advice: RunningAdvice
    content: Json  # the advice as JSON
    squares: list[Json]
    facts: Json
    image_p_good: NDArray[np.float64] | None
    taken: NDArray[np.int64]  # (n,) exposures taken
    microscope_at: datetime | None
    session: Session | None = None  # of the last setting: places, predictions; results may be newer elsewhere
    last_override_event: int = 0

    @property
    def verdict(self) -> Verdict:
        """What to do now."""
        return verdict_of(self.advice)


@dataclass
class LiveSession:
    """Follow, advise, write down."""

    followed: FollowedSession
    settings: LiveSettings
    run_id: str
    clock: Callable[[], float] = time.time
    standing: Standing | None = None
    _planner: RunningPlanner | None = None
    _promises: tuple[int, Promises] | None = None
    """By the number of the planner's setting."""
    _is_stale: bool = True
    _threshold: float | None = None
    _notes: tuple[str, ...] = ()
    _budget_said_min: dict[str, float] = field(default_factory=dict)
    _taken_before: int = 0
    """Exposures when the server began to advise."""
    _replaced: int = 0
    """How often another session was put in the place of this one; it stands after the dot of `run_id`."""
    passed_over: list[str] = field(default_factory=list)
    """Events of which what they say beside the tables was not understood."""

    def __post_init__(self) -> None:
        self.facts = Facts(self._promise_of, self.followed.hole_of_exposure, lambda: self.threshold_angstrom)
        self._session = self.followed.session
        self._taken_before = int(self.followed.taken_by_hole().sum())
        self._is_stale = True
        self._ensure_planner()
        last = self.followed.last_event.id
        for event in self._events(max(0, last - FACTS_FROM_LAST_EVENTS), last):
            self._take(event)
        self._stand_on(self.facts.last_planned)

    def _events(self, after: int, upto: int) -> list[Event]:
        return [event for event in self.followed.store.events(after=after) if event.id <= upto]

    @property
    def threshold_angstrom(self) -> float:
        """Up to which resolution a micrograph is good: as the operator said last, else the server, the session."""
        said = self.followed.overrides.threshold_angstrom
        if said is not None:
            return said
        asked = self.settings.threshold_angstrom
        return self._session.info.threshold_angstrom if asked is None else asked

    def _promise_of(self, hole: str) -> Promise | None:
        planner = self._planner
        place = None if planner is None else planner.index.holes.get(hole)
        if planner is None or place is None:
            return None
        problem, names = planner.problem, planner.names
        if self._promises is None or self._promises[0] != planner.number:
            self._promises = planner.number, Promises(problem.prior_p_good, problem.tree)
        square = int(problem.square_of_hole[place])
        grid = names.grids[int(problem.grid_of_square[square])]
        patch = names.patches[int(problem.patch_of_hole[place])]
        return self._promises[1].of(place, patch, names.squares[square], grid)

    def _stand_on(self, planned: Json | None) -> None:
        """Take up the plan that was written down last: a server that starts again is as calm as before."""
        if planned is None or self._planner is None:
            return
        index = self._planner.index.holes
        holes = planned.get("route") or [each["hole"] for each in planned.get("holes", [])]
        places = tuple(index[name] for name in holes if name in index)
        self.standing = Standing(places, self.followed.overrides, self._planner.number)

    def catch_up(self) -> CaughtUp:
        """Take in what others wrote since; raises StoreError when the store cannot be read, and nothing is lost."""
        caught = self.followed.catch_up()
        if caught.is_replaced:
            # Numbers of events and of holes are those of another session now: whoever kept any must begin anew.
            self._replaced += 1
            self.run_id = f"{self.run_id.partition('.')[0]}.{self._replaced}"
            self.__post_init__()
            return caught
        for event in caught.events:
            self._is_stale |= self._changes_setting(event)
            self._take(event)
        return caught

    def _take(self, event: Event) -> None:
        """Take an event into the facts; one that is not understood is passed over and said, and the rest taken."""
        try:
            self.facts.take(event)
        except Exception as error:  # noqa: BLE001  programs may write what they like into an event
            if len(self.passed_over) < MOST_PASSED_OVER:
                said = f"event {event.id} ({event.kind}): {type(error).__name__}: {error}"
                self.passed_over.append(said)

    def _changes_setting(self, event: Event) -> bool:
        """Whether the planner must be made anew: places, predictions or the threshold are others now."""
        if event.kind == "predicted":
            return True
        if event.kind == "overridden":
            return event.payload.get("kind") == "threshold" or event.payload.get("of") == "threshold"
        if event.kind != "imported":
            return False
        part = event.payload.get("part")
        if part == "rows":
            return event.payload.get("table") in ("grids", "squares", "patches", "holes", "predictions")
        return part in _CHANGES_SETTING

    def _ensure_planner(self) -> RunningPlanner:
        if self._planner is not None and not self._is_stale and self._threshold == self.threshold_angstrom:
            return self._planner
        self._session = self.followed.session
        threshold = self._threshold = self.threshold_angstrom
        request = AdviceRequest(
            budget_min=HORIZON_MIN,
            policy=self.settings.policy or default_policy(self._session, self.settings.looks),
            looks=self.settings.looks,
            prediction=self.settings.prediction,
            threshold_angstrom=threshold,
            time_model=self.settings.time_model,
            minutes_per_exposure=self.settings.minutes_per_exposure,
            loaded=self.settings.loaded,
            also_unchosen=self.settings.also_unchosen,
            seed=self.settings.seed,
        )
        notes: list[str] = []
        try:
            planner = RunningPlanner(self._session, request, self.settings.calm)
        except DataError as error:
            # Predictions were made for another threshold: they still rank the holes, and results correct them.
            notes.append(f"Predictions of another threshold are planned on. {error}")
            own = replace(request, threshold_angstrom=None)
            planner = RunningPlanner(self._session, own, self.settings.calm)
        planner.problem = replace(
            planner.problem,
            outcome=self.followed.good_by_hole(threshold),
            results=self.followed.results_by_hole(),
        )
        self._planner, self._is_stale, self._notes = planner, False, tuple(notes)
        self._image_p_good = image_p_good(self._session, planner.setting.prediction.name, threshold)
        return planner

    def microscope_now(self, now_s: float) -> datetime | None:
        """The microscope's time now: that of the last exposure, and what has passed here since it came."""
        last = self._last_started_at()
        if last is None:
            return None
        started = SINCE_1970 + timedelta(microseconds=int(last.astype("datetime64[us]").astype(np.int64)))
        came_s = self.facts.microscope.last_s
        passed_s = 0.0 if came_s is None else max(0.0, now_s - came_s) * self.settings.clock_scale
        return started + timedelta(seconds=passed_s)

    def _last_started_at(self) -> np.datetime64 | None:
        """That of the last exposure; where the clock was set back, of the one that came last."""
        if self.facts.microscope_clock.is_back:
            return self.followed.started_at_of_last_row()
        return self.followed.last_started_at()

    def minutes_left(self, now_s: float) -> float:
        """Minutes until the end that was said; HORIZON_MIN where nobody said one."""
        budget, at = self.followed.overrides.budget, self.microscope_now(now_s)
        end = self.settings.until
        if budget is not None and budget.end_at is not None:
            end = budget.end_at
        elif budget is not None and budget.budget_min is not None:
            return budget.budget_min - self._passed_since_budget(now_s)
        if end is not None:
            return (end - (at or datetime.fromtimestamp(now_s))).total_seconds() / 60.0
        return HORIZON_MIN

    def _passed_since_budget(self, now_s: float) -> float:
        """Minutes of the microscope since the budget was said.

        Where the exposures have times these count: from the one that was the last when the budget was said, less what
        the microscope's clock was set by since.
        """
        said_at = self.followed.overrides.budget_said_at or ""
        at = self.microscope_now(now_s)
        if at is None:
            return max(0.0, now_s - moment(said_at)) / 60.0 * self.settings.clock_scale
        if said_at not in self._budget_said_min:
            self._budget_said_min = {said_at: self._microscope_min_at(said_at)}
        set_min = self.facts.microscope_clock.changed_since_s(moment(said_at)) / 60.0
        return (at - SINCE_1970).total_seconds() / 60.0 - self._budget_said_min[said_at] - set_min

    def _microscope_min_at(self, said_at: str) -> float:
        """Microscope time (minutes since 1970) when the budget was said: that of the last exposure that was known then,
        and what had passed here since it came. Of a budget said before the first exposure: of that one."""
        came: tuple[float, float] | None = None
        first_min: float | None = None
        is_said = False
        for event in self.followed.store.events():
            # Events are told apart by their order: this computer's clock may have been set back.
            if event.kind == "overridden" and event.payload.get("kind") == "budget" and event.at == said_at:
                is_said = True
                if came is not None:
                    break
            times = _times_of(event)
            if times and is_said:
                first_min = min(times)
                break
            if times:
                newest = max(times) if came is None else max(came[0], *times)
                came = newest, moment(event.at)
        if came is None:
            return 0.0 if first_min is None else first_min
        last_min, came_s = came
        return last_min + max(0.0, moment(said_at) - came_s) / 60.0 * self.settings.clock_scale

    def now(self, now_s: float) -> Now:
        """Where the session stands."""
        followed = self.followed
        here = None if self.facts.microscope_clock.is_back else followed.last_imaged_hole()
        here = self._last_without_times() if here is None else here
        results = followed.results_by_hole()
        taken = followed.taken_by_hole()
        return Now(
            imaged=taken > 0,
            outcome=followed.good_by_hole(self.threshold_angstrom),
            results=results,
            here=NOWHERE if self._was_changed(here) else here,
            minutes_left=self._ensure_planner().problem.time_model.visits_min(self.minutes_left(now_s)),
            awaited=np.maximum(taken - results, 0.0),
            overrides=followed.overrides,
            revision=followed.last_event.id,
        )

    def _was_changed(self, here: int) -> bool:
        """Whether the grid was changed after the last exposure, as the operator says who names the loaded one."""
        if self.settings.loaded is None or here == NOWHERE:
            return False
        tree = self._ensure_planner().problem.tree
        is_elsewhere = int(tree.grid_of_hole[here]) != tree.loaded_grid
        return is_elsewhere and int(self.followed.taken_by_hole().sum()) == self._taken_before

    def _last_without_times(self) -> int:
        """The hole of the exposure that was recorded last, where exposures have no times."""
        exposures = self.followed.exposure_holes()
        return exposures[-1] if exposures else NOWHERE

    def advise(self, looks_at_drift: bool = True) -> Moment:
        """The advice now; it is not written down (see `write_down`).

        looks_at_drift : False: a look at the drift that is due is left to `look_at_drift`
        """
        now_s = self.clock()
        planner = self._ensure_planner()
        if looks_at_drift:
            self.facts.drift.look_on(lambda: True)
        advice = planner.advise(self.now(now_s), self.standing)
        self.standing = advice.standing
        return self._moment(advice, now_s)

    def look_at_drift(self, at: Moment, has_time: Callable[[], bool]) -> Moment | None:
        """Look on at the drift while there is time for it.

        at : the last moment that was advised
        Returns it with what is said of the drift now, None where that is the same.
        """
        before = self.facts.drift.told
        if not self.facts.drift.look_on(has_time) or self.facts.drift.told == before:
            return None
        return replace(at, facts=self.facts.to_json(self.clock(), self.settings.clock_scale == 1.0))

    def _moment(self, advice: RunningAdvice, now_s: float) -> Moment:
        content = advice_json(advice, self._image_p_good)
        at = self.microscope_now(now_s)
        content["minutes_left"] = round(max(0.0, self.minutes_left(now_s)), 4)
        content["notes"] = [*content["notes"], *self._notes]
        content["target"] = self._target(advice, at)
        content["threshold_angstrom"] = self.threshold_angstrom
        content["has_end"] = self.settings.until is not None or advice.now.overrides.budget is not None
        content["microscope_at"] = None if at is None else at.isoformat(timespec="seconds")
        planner = self._ensure_planner()
        content["policy"], content["prediction"] = (
            planner.setting.policy_name,
            planner.setting.prediction.name,
        )
        content["time_model"] = planner.setting.time_model.name
        return Moment(
            self.run_id,
            advice.revision,
            now_s,
            self._session.name,
            self.threshold_angstrom,
            advice,
            content,
            rounded(squares_of(advice)),
            self.facts.to_json(now_s, self.settings.clock_scale == 1.0),
            self._image_p_good,
            self.followed.taken_by_hole(),
            at,
            self._session,
            self.facts.last_override_event,
        )

    def what_if(self, overrides: Overrides, threshold_angstrom: float | None = None) -> Moment:
        """The advice if something else had been said; nothing is changed, and nothing written."""
        now_s = self.clock()
        said = replace(self.now(now_s), overrides=overrides)
        if overrides.budget is not None and overrides.budget != self.followed.overrides.budget:
            if overrides.budget.budget_min is not None:
                said = replace(said, minutes_left=overrides.budget.budget_min)
            elif overrides.budget.end_at is not None:
                at = self.microscope_now(now_s) or datetime.fromtimestamp(now_s)
                said = replace(said, minutes_left=(overrides.budget.end_at - at).total_seconds() / 60.0)
        if threshold_angstrom is not None:
            said = replace(said, outcome=self.followed.good_by_hole(threshold_angstrom))
        return self._moment(self._ensure_planner().advise(said, self.standing), now_s)

    def _target(self, advice: RunningAdvice, at: datetime | None) -> Json | None:
        target = advice.now.overrides.target
        if target is None:
            return None
        within_min = None
        if target.by is not None and at is not None:
            within_min = advice.problem.time_model.visits_min(
                max(0.0, (target.by - at).total_seconds() / 60.0)
            )
        return {
            "good": target.good,
            "by": None if target.by is None else target.by.isoformat(timespec="minutes"),
            "within_min": within_min,
            "probability": round(advice.outlook.probability_of(target.good, within_min), 3),
        }

    def _listed_lately(self, at: Moment, route: list[str]) -> bool:
        """Whether the first holes of a route were given with their chances, and the first one's is still that."""
        stated = self.facts.stated
        if not route or not all(hole in stated for hole in route[:RELISTED]):
            return not route
        place = self._ensure_planner().index.holes[route[0]]
        return abs(stated[route[0]] - float(at.advice.p_good[place])) < RESTATED

    def planned_event(self, at: Moment) -> Json | None:
        """The payload that writes an advice down; None where it says what the last one said.

        It holds the first holes with their chances and the reasons, the whole route as ids, and what the belief is made
        of; chances of all holes follow from these and the results.
        """
        holes = at.content["holes"]
        last = self.facts.last_planned
        names = at.advice.names.holes
        route = [names[hole] for hole in at.advice.walk.holes.tolist()]
        stands = list(self.facts.advised)
        if last is not None and stands == route and self._listed_lately(at, route):
            return None
        planner = self._ensure_planner()
        return {
            "by": "serve",
            "revision": at.revision,
            "verdict": at.content["verdict"],
            "holes": [{"hole": each["hole"], "p_good": each["p_good"]} for each in holes],
            "route": route,
            "why": at.content["why"],
            "expected_good": at.content["expected_good"],
            "interval_80": at.content["interval_80"],
            "minutes_left": round(at.content["minutes_left"], 3),
            "belief": {
                "policy": planner.setting.policy_name,
                "prediction": planner.setting.prediction.name,
                "threshold_angstrom": at.threshold_angstrom,
                "effects": list(planner.problem.effects.as_tuple()),
                "time_model": planner.setting.time_model.model_dump(mode="json"),
                "seed": self.settings.seed,
            },
        }


def _times_of(event: Event) -> list[float]:
    """Microscope times of the exposures that an event brought, minutes since 1970."""
    if event.kind == "imaged":
        given: list[Any] = [event.payload.get("started_at")]
    elif event.kind == "imported" and event.payload.get("table") == "exposures":
        given = event.payload["columns"].get("started_at", [])
    else:
        return []
    known = [np.datetime64(each, "us") for each in given if each is not None]
    return [float(each.astype(np.int64)) / 6e7 for each in known]


def image_p_good(session: Session, prediction: str, threshold_angstrom: float) -> NDArray[np.float64] | None:
    """(n,) what the one classifier says of the images alone, where the prediction puts it into context; else None."""
    from cryoscout.routing.predictions import COMBINED, combined_is_checked

    if prediction != COMBINED:
        return None
    try:
        return session.prediction(combined_is_checked(session)[1], threshold_angstrom)
    except DataError:
        return None
