"""Bad days: clocks that are set, a computer that sleeps, a store that is held or full, a share that goes."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from cryoscout.core.errors import StoreError, StoreHeldError
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources
from cryoscout.live import hub as hub_module
from cryoscout.live.advisor import Trouble
from cryoscout.live.clocks import MicroscopeClock, OwnClock, own_clock_sentence
from cryoscout.live.facts import Facts, Ticks
from cryoscout.live.hub import Hub
from cryoscout.live.serving import ServeRequest, serving
from cryoscout.live.sources import Follower
from cryoscout.live.views import message_json
from cryoscout.session.store import SessionStore

HOUR_S = 3600.0


def arrivals(clock, times):
    for started_s, came_s in times:
        clock.take(started_s, came_s)
    return clock


def every(minutes, begin=0.0, how_many=10, shift_s=0.0):
    return [
        (begin + 60.0 * minutes * at + shift_s, begin + 60.0 * minutes * at + 5.0) for at in range(how_many)
    ]


@pytest.mark.parametrize(
    ("shift_s", "way"), [(-HOUR_S, "back by 60 min"), (HOUR_S, "ahead by 60 min"), (-900.0, "back by 15 min")]
)
def test_a_microscope_clock_that_is_set_is_told(shift_s, way):
    clock = arrivals(MicroscopeClock(), every(1.5))
    assert clock.sentence(900.0) is None
    arrivals(clock, every(1.5, 900.0, 4, shift_s))
    assert way in clock.sentence(1300.0)
    assert clock.is_back == (shift_s < 0)
    assert clock.sentence(1300.0 + 3 * HOUR_S) is None


@pytest.mark.parametrize("per_hour", [60, 240, 300, 600, 1200])
@pytest.mark.parametrize("way", ["ahead", "back"])
def test_a_clock_that_is_set_is_told_at_any_rate(per_hour, way):
    pace_min = 60.0 / per_hour
    clock = arrivals(MicroscopeClock(), every(pace_min, how_many=per_hour))
    shift_s = HOUR_S if way == "ahead" else -HOUR_S
    arrivals(clock, every(pace_min, HOUR_S, per_hour // 4, shift_s))
    assert clock.sentence(1.25 * HOUR_S) == f"The microscope's clock was set {way} by 60 min."
    [(began_s, by_s)] = clock.changes
    assert (began_s, by_s) == (HOUR_S + 5.0, shift_s)


@pytest.mark.parametrize("slower_s", [15.0, 60.0, 150.0])
def test_a_lag_that_grows_slowly_and_goes_is_no_clock_that_was_set(slower_s):
    """Each file comes a little later than the one before, up to half an hour; then all that wait come at once."""
    lags_s = np.minimum(np.arange(150) * slower_s, 1800.0)
    late = [(60.0 * at, 60.0 * at + 5.0 + lag_s) for at, lag_s in enumerate(lags_s.tolist())]
    last_s = late[-1][1]
    waiting = [(60.0 * at, last_s + 1.0 + 0.5 * (at - 150)) for at in range(150, int(last_s / 60.0))]
    well = [(60.0 * at, 60.0 * at + 5.0) for at in range(int(last_s / 60.0) + 1, int(last_s / 60.0) + 40)]
    clock = MicroscopeClock()
    for started_s, came_s in [*late, *waiting, *well]:
        clock.take(started_s, came_s)
        assert clock.sentence(came_s) is None
    assert clock.changes == []


def test_files_that_were_late_from_the_beginning_and_are_not_any_more_are_no_clock_that_was_set():
    late = every(1.5, how_many=40)
    late = [(started_s, came_s + 2 * HOUR_S) for started_s, came_s in late]
    last_s = late[-1][1]
    waiting = [(90.0 * at, last_s + 1.0 + 0.5 * (at - 40)) for at in range(40, int(last_s / 90.0))]
    clock = arrivals(MicroscopeClock(), [*late, *waiting, *every(1.5, last_s + 90.0, 30)])
    assert clock.sentence(last_s + HOUR_S) is None


def test_times_that_have_caught_up_order_the_exposures_again():
    clock = arrivals(MicroscopeClock(), [*every(1.5), *every(1.5, 900.0, 8, -900.0)])
    assert clock.is_back
    arrivals(clock, every(1.5, 1700.0, 10, -900.0))
    assert not clock.is_back


@pytest.mark.parametrize(
    "late",
    [
        pytest.param([(900.0 + 90.0 * at, 4500.0 + at) for at in range(20)], id="a backlog"),
        pytest.param(every(1.5, 900.0, 20, -60.0), id="a share that is 60 s late"),
        pytest.param(
            [(900.0 + 90.0 * at, 900.0 + 90.0 * at + 1200.0) for at in range(20)], id="always 20 min late"
        ),
    ],
)
def test_what_is_late_is_no_clock_that_was_set(late):
    clock = arrivals(MicroscopeClock(), [*every(1.5), *late])
    assert clock.sentence(late[-1][1]) is None
    assert not clock.is_back


def test_a_session_that_is_copied_or_played_fast_has_no_clock_that_was_set():
    played = [(90.0 * at + HOUR_S * (at > 10), 800.0 + at) for at in range(20)]
    assert arrivals(MicroscopeClock(), [*every(1.5), *played]).sentence(820.0) is None


def test_this_computers_clock_and_sleep_are_told():
    clock = OwnClock()
    assert clock.look(0.0, 0.0) is None
    assert clock.look(10.0, 10.0) is None
    assert clock.look(10.0 + 5 * HOUR_S, 11.0) == pytest.approx(5 * HOUR_S - 1.0)
    assert clock.look(10.0 + 4 * HOUR_S, 12.0) == pytest.approx(-HOUR_S - 1.0)
    assert "slept" in own_clock_sentence(5 * HOUR_S)
    assert "set back by 60 min" in own_clock_sentence(-HOUR_S)


def test_a_clock_that_was_set_back_makes_no_age_of_an_hour():
    ticks = Ticks()
    for at in (0.0, 90.0, 180.0, 270.0):
        ticks.tick(at)
    ticks.tick(270.0 - HOUR_S)
    assert ticks.last_s == 270.0 - HOUR_S
    assert list(ticks.intervals_s) == [90.0, 90.0, 90.0]


@pytest.mark.parametrize(
    ("ahead_s", "said"),
    [(30.0, None), (420.0, "7 min ahead of this computer's"), (-HOUR_S, "60 min behind this computer's")],
)
def test_a_clock_that_is_another_by_more_than_a_minute_is_shown(served, ahead_s, said):
    """Whatever the time zone: the microscope's times are local."""
    now_s = time.time()
    local_s = datetime.fromtimestamp(now_s).astimezone().utcoffset().total_seconds()
    clock = arrivals(
        MicroscopeClock(),
        [(now_s + local_s + ahead_s + 60.0 * at, now_s + 60.0 * at) for at in range(5)],
    )
    facts = Facts(lambda hole: None, lambda exposure: None, lambda: 4.0, microscope_clock=clock)
    moment = served.advisor("run").moment
    for keeps_time in (True, False):
        moment.facts.update(facts.to_json(now_s, keeps_time))
        told = [
            each["sentence"]
            for each in message_json(moment, now_s, [], None)["all"]
            if each["cause"] == "clock offset"
        ]
        assert len(told) == (said is not None and keeps_time)
        assert all(said in each for each in told)


def test_an_advisor_that_slept_says_so_and_calls_nothing_stalled_at_once(served):
    advisor = served.advisor("run")
    advisor._look_at_own_clock()
    now_s = time.time() + 5 * HOUR_S
    advisor.clock = lambda: now_s
    advisor._look_at_own_clock()
    assert "slept" in advisor.troubles["own clock"].sentence
    moment = advisor.moment
    moment.facts["microscope"] = {"last_s": now_s - 5 * HOUR_S, "usual_s": 60.0}
    said = [
        each["cause"] for each in message_json(moment, now_s, list(advisor.troubles.values()), None)["all"]
    ]
    assert "microscope" not in said
    later = [
        each["cause"]
        for each in message_json(moment, now_s + 120.0, list(advisor.troubles.values()), None)["all"]
    ]
    assert "microscope" in later


def test_after_summer_time_the_stage_is_where_the_last_exposure_was(served, stored):
    """Three exposures before the hour is repeated, four in the repeated one: the last of these is here."""
    advisor, facts = served.advisor("run"), served.advisor("run")._live.facts
    holes = advisor.moment.advice.names.holes
    began = datetime(2026, 10, 25, 2, 50)
    with SessionStore.open(stored) as store:
        for at, hole in enumerate(holes[:7]):
            back = timedelta(hours=1 if at >= 3 else 0)
            store.record_imaged(hole, began + timedelta(minutes=2 * at) - back)
        number = store.newest_event()
    advisor.wake()
    advisor.wait_for(number, 20.0)
    assert advisor.moment.advice.now.here == 2  # all came at once: nobody can tell yet
    facts.microscope_clock = MicroscopeClock(is_back=True, newest_s=4e9)
    with SessionStore.open(stored) as store:
        number = store.append("overridden", {"kind": "target", "good": 9, "author": "A"})
    advisor.wake()
    assert advisor.wait_for(number, 20.0).advice.now.here == 6
    assert advisor.moment.microscope_at < datetime(2026, 10, 25, 2, 30)


def test_minutes_that_were_given_pass_as_they_are_though_the_clock_was_set(served, stored):
    """240 minutes were given; after 30 of them the microscope's clock is set an hour ahead."""
    live = served.advisor("run")._live
    holes = served.advisor("run").moment.advice.names.holes
    began = datetime(2026, 3, 29, 0, 40)
    with SessionStore.open(stored) as store:
        store.record_imaged(holes[0], began)
        store.append("overridden", {"kind": "budget", "budget_min": 240.0, "author": "AB"})
        store.record_imaged(holes[1], began + timedelta(minutes=30))
        store.record_imaged(holes[2], began + timedelta(minutes=92))
    live.catch_up()
    now_s = time.time()
    assert live._passed_since_budget(now_s) == pytest.approx(92.0, abs=0.1)  # nobody can tell yet
    live.facts.microscope_clock.changes.append((now_s, HOUR_S))
    assert live._passed_since_budget(now_s) == pytest.approx(32.0, abs=0.1)
    live.facts.microscope_clock.changes[0] = (now_s - 300.0, HOUR_S)  # before the minutes were given
    assert live._passed_since_budget(now_s) == pytest.approx(92.0, abs=0.1)


def test_minutes_count_from_their_own_event_though_this_computers_clock_is_set_back(served, stored):
    live = served.advisor("run")._live
    holes = served.advisor("run").moment.advice.names.holes
    began = datetime(2026, 1, 30, 20, 0)
    with SessionStore.open(stored) as store:
        store.record_imaged(holes[0], began)
        store.append("overridden", {"kind": "budget", "budget_min": 240.0, "author": "AB"})
        store.record_imaged(holes[1], began + timedelta(minutes=30))
    live.catch_up()
    said_at = live.followed.overrides.budget_said_at
    events = list(live.followed.store.events())
    back = (datetime.fromisoformat(said_at) - timedelta(hours=1)).isoformat()
    live.followed.store.events = lambda **asked: [
        replace(event, at=back) if event.kind == "imaged" and event.payload["hole_id"] == holes[1] else event
        for event in events
    ]
    assert live._passed_since_budget(time.time()) == pytest.approx(30.0, abs=0.1)


def test_results_that_never_come_are_overdue_and_said(served):
    facts = Facts(lambda hole: None, lambda exposure: None, lambda: 4.0)

    def event(number, kind, at_s, **payload):
        at = datetime.fromtimestamp(at_s).astimezone().isoformat()
        return SimpleNamespace(id=number, at=at, kind=kind, payload=payload)

    for at in range(8):
        facts.take(event(2 * at, "imaged", 1e9 + 60.0 * at, exposure_id=f"e{at}", hole_id="h"))
        if at < 7:
            facts.take(
                event(
                    2 * at + 1,
                    "measured",
                    1e9 + 60.0 * at + 20.0,
                    exposure_id=f"e{at}",
                    outcome="measured",
                    ctf_max_res_angstrom=3.0,
                )
            )
    assert facts.overdue(1e9 + 500.0) == []
    assert facts.overdue(1e9 + 7 * 60.0 + 201.0) == ["e7"]
    moment = served.advisor("run").moment
    moment.facts["n_overdue"] = 1
    told = [each for each in message_json(moment, 1e9, [], None)["all"] if each["cause"] == "overdue"]
    assert [each["sentence"] for each in told] == ["Overdue results, ten times the usual wait: 1."]


def test_a_message_says_since_when_where_that_is_known_and_whether_somebody_must_act(served):
    moment = served.advisor("run").moment
    moment.facts.update(n_overdue=2, clock_offset_s=7200.0)
    troubles = [
        Trouble("folder", "/data cannot be seen.", "Look at the mount.", 1e9, 7),
        Trouble("events", "One event was not understood.", "Look at its program.", 1e9 + 60.0, 3),
    ]
    told = {each["cause"]: each for each in message_json(moment, 1e9 + 600.0, troubles, None)["all"]}
    levels = {cause: each["level"] for cause, each in told.items()}
    assert levels == {
        "folder": "worse",
        "events": "warn",
        "overdue": "warn",
        "clock offset": "warn",
        "end": "warn",
    }
    assert datetime.fromisoformat(told["folder"]["since"]).timestamp() == 1e9
    # What holds now and has no beginning that is known says none, rather than always the present minute.
    assert [cause for cause, each in told.items() if each["since"] is None] == [
        "overdue",
        "clock offset",
        "end",
    ]


@pytest.mark.parametrize(
    "why",
    [
        "The database must be free. Got one that is locked instead.",
        "There must be room. Got a full disk instead.",
    ],
)
def test_a_store_that_takes_nothing_is_said_and_nothing_is_acknowledged(client, served, why):
    advisor = served.advisor("run")

    def refuses(*_):
        raise StoreHeldError(why)

    append, advisor._writer.append = advisor._writer.append, refuses
    answer = client.ask("POST", "/api/v1/note", json={"author": "A", "text": "x"})
    assert (answer.status_code, answer.json()["detail"]) == (503, why)
    advisor._writer.append = append
    client.post("note", {"author": "A", "text": "x"})


def test_a_share_that_is_gone_is_said_and_read_on_when_it_is_back(served, tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    (share / "holes.csv").write_text("grid,square,patch,hole\n")
    advisor = served.advisor("run")
    follower = Follower(advisor, Sources([share], [], ReadOptions(permissive=True), str(share)))
    follower._look_for_sources()
    assert "folder" not in advisor.troubles
    shutil.move(share, tmp_path / "away")
    assert not follower._look_for_sources()
    assert str(share) in advisor.troubles["folder"].sentence
    assert "read on when it is back" in advisor.troubles["folder"].remedy
    shutil.move(tmp_path / "away", share)
    assert follower._look_for_sources()  # it is back: everything is read
    assert "folder" not in advisor.troubles


def test_half_a_session_is_refused_in_one_sentence(stored):
    database = next(path for path in stored.iterdir() if path.suffix in (".db", ".sqlite"))
    database.write_bytes(database.read_bytes()[:3000])
    with (
        pytest.raises(StoreError, match="instead"),
        serving(ServeRequest((str(stored),)), lambda message: None),
    ):
        pass


def test_a_client_that_takes_nothing_is_let_go_and_holds_up_nobody(served, monkeypatch):
    monkeypatch.setattr(hub_module, "SLOW_S", 0.2)
    closed = []

    class Slow:
        async def accept(self):
            """Accepted."""

        async def receive(self):
            await asyncio.sleep(60)

        async def send_json(self, message):
            await asyncio.sleep(60)

        async def close(self, code=1000, reason=""):
            closed.append(code)

    async def run():
        hub = Hub()
        hub.bind(asyncio.get_running_loop())
        await asyncio.wait_for(hub.serve(Slow(), "run", lambda: served.advisor("run").moment), 10)
        return hub._clients

    assert asyncio.run(run()) == set()
    assert closed == [1000]
