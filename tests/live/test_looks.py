"""A session of which squares are not seen yet: what is looked at next, what is promised, what operators say of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from page_sessions import session_with_places, session_with_unseen_patches, stored

from cryoscout.live.outputs import next_json
from cryoscout.live.running import LiveSession
from cryoscout.live.settings import LiveSettings
from cryoscout.session.following import FollowedSession
from cryoscout.session.store import SessionStore

SETTINGS = LiveSettings(clock_scale=0.0, time_model="y1-looks-as-sketched")
BUDGET = {"kind": "budget", "budget_min": 240.0}


@pytest.fixture
def live_of(tmp_path):
    """A running session whose seen holes are all imaged, as far as nothing else is said, and six squares are unseen."""
    opened = []

    def make(*payloads, holes=100, imaged=100, **more):
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        place = stored(session_with_places(holes, imaged=imaged, unseen=6, **more), folder)
        with SessionStore.open(place) as store:
            for payload in (BUDGET, *payloads):
                store.append("overridden", {"author": "AB", **payload})
        opened.append(LiveSession(FollowedSession.open(place), SETTINGS, "test"))
        return opened[-1]

    yield make
    for live in opened:
        live.followed.store.close()


def say(live, payload):
    """Another program says something; the moment after it."""
    live.followed.store.append("overridden", {"author": "AB", **payload})
    live.catch_up()
    return live.advise()


def rows(moment):
    return {row["square"]: row for row in moment.squares}


def test_what_looks_will_show_is_in_the_forecast_and_in_the_chance_of_a_target(live_of):
    live = live_of({"kind": "target", "good": 90})
    moment = live.advise()
    said, seen = moment.content, moment.advice.outlook
    assert said["verdict"]["verb"] == "LOOK"
    assert said["planned_holes"] == 0
    # 240 minutes of unseen squares give tens of micrographs; what is seen gives none any more.
    assert said["expected_good"] > said["good_so_far"] + 10
    assert seen.expected[0] == said["good_so_far"]
    assert (np.diff(seen.expected) >= 0).all()
    assert seen.interval_80[-1, 0] <= seen.expected[-1] <= seen.interval_80[-1, 1]
    wide = seen.interval_80[:, 1] - seen.interval_80[:, 0]
    assert wide.max() <= 1.3 * wide[-1]  # what takes less time than expected is followed by the next place
    assert seen.interval_80[-1].tolist() == said["interval_80"]
    assert said["target"]["probability"] == pytest.approx(seen.probability_of(90), abs=1e-3)
    assert said["target"]["probability"] > 0.3
    assert not any("looks will show" in note for note in said["notes"])


def test_pending_results_are_counted_beside_what_looks_will_show(live_of):
    pending = live_of(imaged=58, pending=40).advise().advice.outlook
    nothing = live_of(imaged=58, pending=0, seed=1).advise().advice.outlook
    at_once = pending.expected[0] - pending.good_so_far
    assert 10 < at_once < 40
    assert nothing.expected[0] == nothing.good_so_far


@pytest.mark.parametrize("kind", ["ban", pytest.param("skip", marks=pytest.mark.slow)])
def test_a_square_that_is_left_out_is_not_looked_into(live_of, kind):
    live = live_of()
    first = live.advise().content["verdict"]["place"]
    moment = say(live, {"kind": kind, "square_id": first})
    assert moment.content["verdict"]["verb"] == "LOOK"
    assert moment.content["verdict"]["place"] != first
    assert first not in [look["square"] for look in moment.content["looks"]]
    assert (rows(moment)[first]["advice"], rows(moment)[first]["out"]) == ("skip", True)
    assert moment.content["squares_unseen"] == 5
    assert say(live, {"kind": "undo", "of": kind, "square_id": first}).content["verdict"]["place"] == first


def test_when_all_unseen_squares_are_left_out_the_seen_holes_are_imaged_and_then_it_is_over(live_of):
    skips = [{"kind": "skip", "square_id": f"u{at:04d}"} for at in range(6)]
    moment = live_of(*skips, imaged=98).advise()
    assert moment.content["verdict"]["verb"] in ("STAY", "LEAVE")
    assert moment.content["looks"] == []
    seen = [{"kind": "ban", "square_id": "s0000"}]
    moment = live_of(*skips, *seen, seed=2, imaged=98).advise()
    assert moment.content["verdict"]["verb"] == "STOP"
    assert moment.content["verdict"]["sentence"] == "All that is left is banned or skipped."


def test_holes_of_the_open_patch_that_are_worth_their_minutes_come_before_any_look(live_of):
    moment = live_of({"kind": "pin", "square_id": "u0004"}, imaged=98).advise()
    assert moment.content["verdict"]["verb"] == "STAY"
    assert moment.content["looks"] == []
    assert rows(moment)["u0004"]["advice"] == "look into"


def test_a_pinned_square_that_nobody_saw_is_looked_at_first(live_of):
    moment = live_of({"kind": "pin", "square_id": "u0004"}).advise()
    assert moment.content["verdict"]["place"] == "u0004"
    assert moment.content["looks"][0]["square"] == "u0004"
    assert rows(moment)["u0004"]["look"] == 1


def test_squares_are_looked_at_in_the_order_that_is_said(live_of):
    moment = live_of({"kind": "order", "square_ids": ["u0005", "u0002"]}).advise()
    assert [look["square"] for look in moment.content["looks"]][:2] == ["u0005", "u0002"]


def test_a_pinned_hole_that_is_imaged_keeps_no_look_back(live_of):
    moment = live_of({"kind": "pin", "hole_id": "h000003"}).advise()
    assert moment.content["verdict"]["verb"] == "LOOK"


def test_squares_say_where_they_are_and_whether_they_were_looked_at(live_of):
    moment = live_of().advise()
    unseen, seen = rows(moment)["u0002"], rows(moment)["s0000"]
    assert (unseen["x_um"], unseen["y_um"], unseen["looked"], unseen["advice"]) == (
        120.0,
        -80.0,
        False,
        "look into",
    )
    assert seen["looked"] is True
    written = next_json("run", moment, moment.at_s, "suggest")
    assert written["looks"][0]["square"] == moment.content["verdict"]["place"]


def test_squares_say_how_many_of_their_patches_nobody_looked_at(tmp_path):
    with_patches = session_with_unseen_patches(400, {"s0001": 2, "s0003": 1, "u0000": 3})
    with SessionStore.open(stored(with_patches, tmp_path)) as store:
        store.append("overridden", {"author": "AB", **BUDGET})
    live = LiveSession(FollowedSession.open(tmp_path / "night.session"), SETTINGS, "test")
    try:
        found = {name: row["patches_unseen"] for name, row in rows(live.advise()).items()}
    finally:
        live.followed.store.close()
    assert {name: count for name, count in found.items() if count} == {"s0001": 2, "s0003": 1, "u0000": 3}


def test_without_time_for_anything_it_is_over(live_of):
    live = live_of(imaged=98)
    short = live._ensure_planner().advise(replace(live.now(live.clock()), minutes_left=0.01))
    from cryoscout.advice.why import verdict_of

    assert verdict_of(short).sentence == "No hole and no look fits in the 0 minutes that are left."
