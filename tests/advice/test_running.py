"""The advice of a running session: the route of a replay, calm where nothing is gained, and what operators say."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature

import numpy as np
import pandas as pd
import pytest

import cryoscout.advice.advise as advise_module
from cryoscout.advice import running
from cryoscout.advice.advise import advise
from cryoscout.advice.running import CalmSettings, Now, RunningPlanner
from cryoscout.advice.setting import AdviceRequest
from cryoscout.advice.why import LEAST_FEWER, advice_json, squares_of, verdict_of, why_this
from cryoscout.routing.from_session import truth_from_session
from cryoscout.routing.problem import NOWHERE
from cryoscout.routing.replay import replay
from cryoscout.session.overrides import Overrides, Pause, Pin, override_of
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables

FREE = CalmSettings(committed=0, hysteresis=0.0)
BUDGET_MIN = 150.0


@pytest.fixture(scope="module")
def session():
    settings = simulation_named("small").model_copy(update={"holes": 200})
    return to_session(simulate_tables(settings, seed=3), "running")


def planner_of(session, calm=FREE, **asked):
    return RunningPlanner(session, AdviceRequest(BUDGET_MIN, as_new=True, **asked), calm)


class Drive:
    """A microscope that takes what is advised; results come at once."""

    def __init__(self, session, planner, start=0):
        self.truth, self.planner, n = truth_from_session(session), planner, session.n_holes
        self.now = Now(np.zeros(n, dtype=bool), np.full(n, np.nan), np.zeros(n), NOWHERE, BUDGET_MIN)
        self.standing, self.route = None, []
        self._image(start, BUDGET_MIN)

    def _image(self, hole, minutes_left):
        imaged, outcome, results = (
            each.copy() for each in (self.now.imaged, self.now.outcome, self.now.results)
        )
        imaged[hole], outcome[hole], results[hole] = True, self.truth.good[hole], 1
        self.now = replace(
            self.now, imaged=imaged, outcome=outcome, results=results, here=hole, minutes_left=minutes_left
        )

    def say(self, *payloads):
        said = self.now.overrides
        for payload in payloads:
            said = said.of(override_of(payload), "2026-01-01T00:00:00+00:00")
        self.now = replace(self.now, overrides=said)

    def step(self):
        advice = self.planner.advise(self.now, self.standing)
        self.standing = advice.standing
        hole = advice.next_hole
        if hole is not None:
            self.route.append(hole)
            self._image(hole, self.now.minutes_left - float(advice.walk.minutes[0]))
        return advice


@pytest.mark.parametrize("policy", ["adaptive", "adaptive-trust", "expected"])
def test_planning_freely_takes_the_route_of_a_replay_hole_for_hole(session, policy):
    planner = planner_of(session, policy=policy)
    drive = Drive(session, planner)
    for _ in range(25):
        drive.step()
    expected = replay(
        planner.setting.problem, drive.truth, planner_of(session, policy=policy).setting.policy, [0], 0
    )
    if policy != "expected":  # a fixed plan plans anew with the results
        assert drive.route == expected[0].route[:25].tolist()
    assert len(set(drive.route)) == 25


def test_a_planner_started_anew_gives_the_same_advice(session):
    drive = Drive(session, planner_of(session))
    for _ in range(12):
        drive.step()
    again = planner_of(session).advise(drive.now, drive.standing)
    first = drive.planner.advise(drive.now, drive.standing)
    assert again.walk.holes.tolist() == first.walk.holes.tolist()
    assert advice_json(again) == advice_json(first)


def test_the_plan_ends_within_the_minutes_left(session):
    advice = planner_of(session).advise(Drive(session, planner_of(session)).now)
    assert advice.walk.minutes[-1] <= BUDGET_MIN
    assert advice.outlook.minutes[-1] == BUDGET_MIN
    assert len(advice.outlook.minutes) >= 20
    assert advice.outlook.expected[-1] == pytest.approx(advice.outlook.final.expected)


def test_banned_and_skipped_places_are_in_no_plan_and_come_back_by_an_undo(session):
    drive = Drive(session, planner_of(session))
    advice = drive.step()
    hole, square = advice.names.holes[advice.walk.holes[1]], advice.names.squares[-1]
    drive.say({"kind": "ban", "hole_id": hole}, {"kind": "skip", "square_id": square})
    banned = drive.planner.advise(drive.now, drive.standing)
    planned = [banned.names.holes[each] for each in banned.walk.holes]
    assert hole not in planned
    assert square not in {
        banned.names.squares[banned.problem.square_of_hole[each]] for each in banned.walk.holes
    }
    drive.say({"kind": "undo", "of": "ban", "hole_id": hole})
    back = drive.planner.advise(drive.now, drive.standing)
    assert hole in [back.names.holes[each] for each in back.walk.holes]


def test_a_pinned_hole_is_in_every_plan_even_where_minutes_are_few(session):
    drive = Drive(session, planner_of(session))
    worst = int(np.argmin(drive.planner.problem.prior_p_good))
    drive.now = replace(drive.now, minutes_left=60.0)
    drive.say({"kind": "pin", "hole_id": drive.planner.names.holes[worst]})
    advice = drive.planner.advise(drive.now)
    assert worst in advice.walk.holes.tolist()
    assert advice.walk.minutes[-1] <= 60.0


def test_a_pinned_square_gets_its_best_hole(session):
    drive = Drive(session, planner_of(session))
    square = drive.planner.problem.square_of_hole[int(np.argmin(drive.planner.problem.prior_p_good))]
    drive.say({"kind": "pin", "square_id": drive.planner.names.squares[square]})
    advice = drive.planner.advise(drive.now)
    assert square in advice.problem.square_of_hole[advice.walk.holes]


def test_an_order_of_holes_comes_first_and_the_rest_is_planned_behind_it(session):
    drive = Drive(session, planner_of(session))
    wanted = drive.planner.names.holes[150], drive.planner.names.holes[40]
    drive.say({"kind": "order", "hole_ids": list(wanted)})
    advice = drive.planner.advise(drive.now)
    assert [advice.names.holes[each] for each in advice.walk.holes[:2]] == list(wanted)
    assert len(advice.walk) > 2


def test_an_order_of_squares_is_kept(session):
    drive = Drive(session, planner_of(session))
    before = drive.planner.advise(drive.now)
    squares = list(dict.fromkeys(before.problem.square_of_hole[before.walk.holes].tolist()))
    last = squares[-1]
    drive.say({"kind": "order", "square_ids": [drive.planner.names.squares[last]]})
    advice = drive.planner.advise(drive.now)
    assert advice.problem.square_of_hole[advice.walk.holes[0]] == last


def test_a_pause_stops_the_advice_and_says_so(session):
    drive = Drive(session, planner_of(session))
    drive.say({"kind": "pause"})
    advice = drive.planner.advise(drive.now)
    assert advice.next_hole is None
    assert verdict_of(advice).verb == "WAIT"
    drive.say({"kind": "resume"})
    assert drive.planner.advise(drive.now).next_hole is not None


def test_committed_holes_stand_whatever_the_results(session):
    drive = Drive(session, planner_of(session, CalmSettings(committed=4, hysteresis=0.0)))
    advice = drive.step()
    stands = advice.walk.holes[1:4].tolist()
    drive.now.outcome[drive.now.here] = 0.0
    after = drive.planner.advise(drive.now, drive.standing)
    assert after.walk.holes[:3].tolist() == stands


def test_without_a_gain_the_plan_that_stands_is_kept(session):
    drive = Drive(session, planner_of(session, CalmSettings(committed=0, hysteresis=1e6)))
    standing = drive.step().walk.holes.tolist()
    for _ in range(8):
        drive.step()
    assert drive.route == standing[:9]


def test_planning_past_its_time_keeps_the_plan_that_stands_but_never_says_that_there_is_nothing(session):
    drive = Drive(session, planner_of(session, CalmSettings(time_limit_s=1e-9)))
    first = drive.step()  # no plan stands yet: the first one is waited for
    assert len(first.walk) > 5
    after = drive.step()
    assert after.kept
    assert after.walk.holes.tolist() == first.walk.holes.tolist()[1:]


def test_a_microscope_that_goes_elsewhere_is_followed(session):
    drive = Drive(session, planner_of(session))
    drive.step()
    elsewhere = int(drive.planner.problem.n_holes - 1)
    drive._image(elsewhere, drive.now.minutes_left - 10)
    advice = drive.planner.advise(drive.now, drive.standing)
    assert elsewhere not in advice.walk.holes
    assert advice.now.here == elsewhere


def test_verdicts_name_what_is_done_next(session):
    drive = Drive(session, planner_of(session))
    verbs = set()
    for _ in range(60):
        advice = drive.planner.advise(drive.now, drive.standing)
        verdict = verdict_of(advice)
        verbs.add(verdict.verb)
        if advice.next_hole is None:
            break
        drive.step()
    assert {"STAY", "STOP"} <= verbs
    assert verdict.sentence.startswith("No hole fits in the")


def test_every_square_has_an_advice_and_the_numbers_add_up(session):
    drive = Drive(session, planner_of(session))
    advice = [drive.step() for _ in range(10)][-1]
    rows = squares_of(advice)
    assert {row["advice"] for row in rows} <= {"go on", "leave", "skip", "look into"}
    assert sum(row["planned"] for row in rows) == len(advice.walk)
    assert sum(row["imaged"] for row in rows) == advice.now.imaged.sum()


def test_why_names_the_parts_and_the_runner_up(session):
    drive = Drive(session, planner_of(session))
    advice = [drive.step() for _ in range(6)][-1]
    why = why_this(advice)
    assert why["hole"] == advice.names.holes[advice.walk.holes[0]]
    assert why["runner_up"]["fewer_good"] >= 0.0
    is_less = why["runner_up"]["fewer_good"] >= LEAST_FEWER
    assert why["sentence"].endswith("good fewer." if is_less else "just as good.")


def test_shots_that_are_awaited_widen_the_interval(session):
    drive = Drive(session, planner_of(session))
    for _ in range(10):
        drive.step()
    known = drive.planner.advise(drive.now)
    unknown = drive.now.results.copy()
    unknown[drive.route[-5:]] = 0
    outcome = np.where(unknown > 0, drive.now.outcome, np.nan)
    waits = drive.planner.advise(replace(drive.now, results=unknown, outcome=outcome))
    widths = [each.outlook.counts.std() for each in (known, waits)]
    assert widths[1] > widths[0]
    assert waits.outlook.good_so_far < known.outlook.good_so_far + 1e-9


def test_overrides_of_places_that_are_gone_are_passed_over(session):
    said = Overrides().of(Pin(hole_id="no such hole"), "2026-01-01T00:00:00+00:00").of(Pause(), "")
    drive = Drive(session, planner_of(session))
    assert drive.planner.advise(replace(drive.now, overrides=said)).said.pinned == ()


def test_a_plan_of_a_stored_session_obeys_what_was_said(session):
    half = replace(
        session,
        exposures=session.exposures.iloc[:60],
        overrides=Overrides()
        .of(override_of({"kind": "ban", "square_id": session.squares["square_id"].iloc[-1]}), "")
        .of(override_of({"kind": "pin", "hole_id": session.holes["hole_id"].iloc[70]}), ""),
    )
    said = advise(half, AdviceRequest(BUDGET_MIN)).work_list
    free = advise(replace(half, overrides=Overrides()), AdviceRequest(BUDGET_MIN)).work_list
    banned = session.squares["square_id"].iloc[-1]
    assert banned in {visit.square for visit in free.visits}
    assert banned not in {visit.square for visit in said.visits}
    assert session.holes["hole_id"].iloc[70] in {visit.hole for visit in said.visits}
    assert said.minutes_used <= BUDGET_MIN
    assert any("operator" in note for note in said.notes)


def test_past_the_time_limit_the_plan_that_stands_stays_and_without_one_planning_goes_on(session):
    drive = Drive(session, planner_of(session, CalmSettings(committed=0, hysteresis=0.0, time_limit_s=1e-9)))
    first = drive.step()
    assert len(first.walk) > 5
    second = drive.step()
    assert second.kept
    assert second.walk.holes.tolist() == first.walk.holes[1:].tolist()


def test_equally_good_holes_are_advised_by_the_shortest_way_as_a_list_has_them():
    """Before, only lists were ordered so, and the running advice went by id."""
    settings = simulation_named("small").model_copy(update={"holes": 200, "patches": 4, "squares": 2})
    session = to_session(simulate_tables(settings, seed=3), "flat")
    at_um = np.random.default_rng(0).uniform(-5.0, 5.0, (session.n_holes, 2))
    session = replace(session, holes=session.holes.assign(x_um=at_um[:, 0], y_um=at_um[:, 1]))
    asked = AdviceRequest(BUDGET_MIN, policy="expected", prediction="flat", as_new=True)
    listed = advise(session, asked).planned.course.route.tolist()
    n = session.n_holes
    now = Now(np.zeros(n, dtype=bool), np.full(n, np.nan), np.zeros(n), NOWHERE, BUDGET_MIN)
    advised = RunningPlanner(session, asked, FREE).advise(now)
    assert advised.walk.holes.tolist() == listed
    steps = np.diff(listed)
    assert (steps == 1).mean() < 0.5, "not by id"
    again = RunningPlanner(session, asked).advise(now, advised.standing)
    assert again.walk.holes.tolist() == listed, "what stands stays"


def looked_at_after_the_exposure(session, start, patch):
    """The session with the exposure of one hole, and a look at a patch afterwards."""
    began = pd.Timestamp(2024, 1, 5, 10)
    taken = session.exposures["hole_id"] == session.holes["hole_id"].iloc[start]
    exposures = session.exposures.assign(
        outcome=session.exposures["outcome"].where(taken, "none"),
        ctf_max_res_angstrom=session.exposures["ctf_max_res_angstrom"].where(taken),
        started_at=pd.Series(began, index=session.exposures.index).where(taken),
    )
    looked_at = pd.Series(pd.NaT, index=session.patches.index, dtype="datetime64[ns]")
    looked_at.iloc[patch] = began + pd.Timedelta(minutes=5)
    info = session.info.model_copy(update={"format": "generic"})
    return replace(
        session,
        info=info,
        exposures=exposures,
        patches=session.patches.assign(looked_at=looked_at, looked=True),
    )


def test_lists_and_running_advice_are_arranged_from_where_a_look_left_the_stage(session, monkeypatch):
    patch = int(session.tree().patch_of_hole[-1])
    looked = looked_at_after_the_exposure(session, 0, patch)
    told = []
    for module in (advise_module, running):
        arrange = module.as_listed
        parameters = signature(arrange)

        def watched(*given, arrange=arrange, parameters=parameters, **named):
            told.append(parameters.bind(*given, **named).arguments.get("at"))
            return arrange(*given, **named)

        monkeypatch.setattr(module, "as_listed", watched)
    advise(looked, AdviceRequest(BUDGET_MIN))
    imaged = np.arange(session.n_holes) == 0
    now = Now(imaged, np.where(imaged, 1.0, np.nan), imaged * 1.0, 0, BUDGET_MIN)
    RunningPlanner(looked, AdviceRequest(BUDGET_MIN), FREE).advise(now)
    assert told == [session.tree().place_of_patch(patch)] * 2


def test_a_look_moves_the_stage_until_something_is_imaged(session):
    """Square and patch of the last hole are looked at after the only exposure: imaging there costs no move."""
    start, tree = 0, session.tree()
    patch = int(tree.patch_of_hole[-1])
    assert tree.square_of_patch[patch] != tree.square_of_patch[tree.patch_of_hole[start]]
    looked = looked_at_after_the_exposure(session, start, patch)
    planner = RunningPlanner(looked, AdviceRequest(BUDGET_MIN), FREE)
    n = session.n_holes
    imaged = np.arange(n) == start
    now = Now(imaged, np.where(imaged, 1.0, np.nan), imaged * 1.0, start, BUDGET_MIN)
    advice = planner.advise(now)
    assert advice.now.at == tree.place_of_patch(patch)
    first = int(advice.walk.holes[0])
    tiers = planner.problem.time_model.tiers_min(1)
    assert advice.walk.minutes[0] == tiers[tree.tier_from(tree.place_of_patch(patch), tree.place_of(first))]
    is_there = tree.place_of(first).square == tree.place_of_patch(patch).square
    assert (verdict_of(advice).verb == "STAY") == is_there
    # One more exposure than the session had when the planner was told of the look: the stage is there.
    imaged = imaged | (np.arange(n) == 1)
    later = planner.advise(replace(now, imaged=imaged, results=imaged * 1.0, here=1))
    assert later.now.at is None
