"""Two sessions that are served together are two grids in one microscope, under one budget."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from live_client import Client
from live_tokens import TOKENS
from page_sessions import session_with_places, stored

from cryoscout.live.outputs import Outputs
from cryoscout.live.server import ServedSessions, advisor_of
from cryoscout.live.serving import ServeRequest, guarded
from cryoscout.live.settings import LiveSettings
from cryoscout.session.store import SessionStore


def with_results(session, angstrom):
    exposures = session.exposures.assign(ctf_max_res_angstrom=angstrom)
    return replace(session, exposures=exposures)


@pytest.fixture
def both(tmp_path):
    """Serve a session "here", of which so many holes are imaged with one result, and one "there" that is new."""
    served = []

    def serve(holes, imaged, angstrom, holes_there):
        places = {}
        for name, session in (
            ("here", with_results(session_with_places(holes, imaged=imaged), angstrom)),
            ("there", session_with_places(holes_there)),
        ):
            places[name] = stored(replace(session, name=name), tmp_path)
            with SessionStore.open(places[name]) as store:
                store.append("overridden", {"kind": "budget", "budget_min": 240.0, "author": "AB"})
        settings = LiveSettings(clock_scale=0.0, time_model="cryorl")
        advisors = {name: advisor_of(place, name, settings, "run") for name, place in places.items()}
        served.append(ServedSessions(advisors))
        served[-1].start()
        for advisor in served[-1].advisors.values():
            assert advisor._step(force=True)
        return served[-1]

    yield serve
    for each in served:
        each.close()


def verdicts(served):
    for advisor in served.advisors.values():
        advisor._step(force=True)
    return {name: advisor.moment.content["verdict"] for name, advisor in served.advisors.items()}


def test_a_grid_that_gives_nothing_is_changed_for_the_other_one(both):
    served = both(200, 60, 9.0, 400)
    said = verdicts(served)
    assert (said["here"]["verb"], said["here"]["place"]) == ("CHANGE GRID", "there")
    assert said["here"]["sentence"].startswith("Change now to session there: about")
    assert said["there"]["verb"] == "START"
    [other] = served.others("here")
    assert other["gain"] > 5.0
    assert other["after_min"] == 0.0


def test_a_grid_that_is_good_is_stayed_at_and_the_other_one_waits(both):
    served = both(400, 60, 3.0, 200)
    said = verdicts(served)
    assert said["here"]["verb"] in ("STAY", "LEAVE")
    assert said["there"]["verb"] == "WAIT"
    assert said["there"]["sentence"].startswith("Session here is in the microscope: ")


def test_an_end_and_a_pause_hold_for_both(both):
    served = both(200, 20, 3.0, 200)
    client = Client(guarded(ServeRequest(("x",), port=8321), served, TOKENS), TOKENS.operator)
    revision = client.get("session?session=there")["revision"]
    body = {"author": "AB", "revision": revision, "kind": "budget", "budget_min": 90.0}
    client.post("override?session=there", body)
    client.post("override?session=there", {"author": "AB", "revision": revision + 10, "kind": "pause"})
    said = verdicts(served)
    assert said["here"]["verb"] == said["there"]["verb"] == "WAIT"
    assert served.advisor("here").moment.content["minutes_left"] == pytest.approx(90.0, abs=0.5)
    names = [event["author"] for event in client.get("events?session=here&kind=overridden")["events"]]
    assert names == ["AB", "AB", "AB"]
    # What was said of the microscope is taken back in both.
    [pause] = [
        event
        for event in client.get("actions?session=here")["actions"]
        if event["payload"]["kind"] == "pause"
    ]
    client.post("undo?session=here", {"author": "CD", "revision": 10**6, "event": pause["event"]})
    assert all(each["verb"] != "WAIT" or each["place"] for each in verdicts(served).values())
    ban = {"author": "AB", "revision": 10**6, "kind": "ban", "square_id": "s0000"}
    client.post("override?session=here", ban)
    assert len(client.get("events?session=there&kind=overridden")["events"]) == 4


def test_the_microscope_gets_the_advice_of_the_session_in_it_and_each_has_its_files(both, tmp_path):
    """The scripts of bridges read next.json: it is of the grid in the microscope, whichever was named first."""
    served = both(200, 20, 3.0, 200)
    here, there = served.advisors.values()
    out = tmp_path / "out"
    out.mkdir()
    served.mode, served.armed_until_s = "send", served.clock() + 600.0
    outputs = Outputs(ServeRequest(("a", "b"), export_to=out, bridge="serialem"), served, lambda text: None)
    for loaded in (here, there):
        with SessionStore.open(loaded.location) as store:
            store.record_imaged(loaded.moment.content["next"]["hole"])
        verdicts(served)
        outputs._look()
        assert json.loads((out / "next.json").read_text())["session"] == loaded.name
        known = json.loads((out / "holes.json").read_text())["holes"]
        assert known == list(loaded.moment.advice.names.holes)
    for advisor in (here, there):
        assert json.loads((out / f"next-{advisor.name}.json").read_text())["session"] == advisor.name
        sent = list(advisor._writer.events(kind="sent"))
        assert len(sent) == 1
        assert (advisor.location / "serve.alive").exists()
