"""The API: what is read is one moment, what is written is in the store, bad input is one clear problem."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from cryoscout.advice.night import minutes_spent, night_of
from cryoscout.live import api
from cryoscout.live.scores import hole_scores, score_names
from cryoscout.session.store import SessionStore
from cryoscout.session.tables import typed_table


def revision_of(client):
    return client.get("session")["revision"]


def after(served, answer):
    """The moment that includes what was just written."""
    moment = served.advisor(None).wait_for(answer["revision"], 20.0)
    assert moment.revision >= answer["revision"]
    return moment


def image_next(client, served, angstrom=3.5):
    hole = client.get("advice")["next"]["hole"]
    sent = {"author": "tests", "hole_id": hole, "ctf_max_res_angstrom": angstrom}
    after(served, client.post("outcome", sent))
    return hole


def test_an_advice_says_what_is_next_and_why(client):
    advice = client.get("advice")
    assert advice["verdict"]["verb"] == "START"
    assert len(advice["holes"]) == 20
    assert advice["next"] == advice["holes"][0]
    assert advice["why"]["hole"] == advice["next"]["hole"]
    assert advice["interval_80"][0] <= advice["expected_good"] <= advice["interval_80"][1]
    assert client.get("verdict")["verb"] == "START"


def test_a_result_changes_the_advice_and_sending_it_again_changes_nothing(client, served):
    hole = client.get("advice")["next"]["hole"]
    sent = {"author": "a script", "hole_id": hole, "ctf_max_res_angstrom": 3.5}
    first = client.post("outcome", sent)
    after(served, first)
    assert client.get("advice")["next"]["hole"] != hole
    assert client.get("session")["results"] == 1
    again = client.post("outcome", sent)
    assert again["exposure_id"] == first["exposure_id"]
    kinds = [event["kind"] for event in client.get("events?limit=1000")["events"]]
    assert kinds.count("measured") == kinds.count("imaged") == 1
    assert [event["author"] for event in client.get("events?kind=measured")["events"]] == ["a script"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"hole_id": "h001", "ctf_max_res_angstrom": 3.5}, 422),  # no author
        pytest.param(
            {"author": "x" * 41, "hole_id": "h001", "ctf_max_res_angstrom": 3.5}, 422, marks=pytest.mark.slow
        ),
        pytest.param(
            {"author": "  ", "hole_id": "h001", "ctf_max_res_angstrom": 3.5}, 422, marks=pytest.mark.slow
        ),
        pytest.param(
            {"author": "t", "hole_id": "h001", "ctf_max_res_angstrom": False}, 422, marks=pytest.mark.slow
        ),
        pytest.param(
            {"author": "t", "hole_id": "h001", "ctf_max_res_angstrom": 0}, 422, marks=pytest.mark.slow
        ),
        pytest.param(
            {"author": "t", "hole_id": "h001", "ctf_max_res_angstrom": "3.5"}, 422, marks=pytest.mark.slow
        ),
        pytest.param(
            {"author": "t", "hole_id": "h001", "ctf_max_res_angstrom": 3.5, "more": 1},
            422,
            marks=pytest.mark.slow,
        ),
        ({"author": "t", "hole_id": "h001"}, 400),  # a result that is not there is not sent
        pytest.param(
            {"author": "t", "hole_id": "h001", "ctf_max_res_angstrom": 3.5, "failed": True},
            400,
            marks=pytest.mark.slow,
        ),
        ({"author": "t", "hole_id": "no such hole", "ctf_max_res_angstrom": 3.5}, 400),
        pytest.param(
            {"author": "t", "exposure_id": "never taken", "ctf_max_res_angstrom": 3.5},
            400,
            marks=pytest.mark.slow,
        ),
        pytest.param({"author": "t", "ctf_max_res_angstrom": 3.5}, 400, marks=pytest.mark.slow),
    ],
)
def test_a_bad_outcome_is_one_clear_problem_and_nothing_is_written(client, body, status):
    before = client.get("events")
    answer = client.ask("POST", "/api/v1/outcome", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert client.get("events") == before


def test_nan_is_taken_neither_in_nor_out(client):
    text = '{"author": "t", "hole_id": "h001", "ctf_max_res_angstrom": NaN}'
    answer = client.ask("POST", "/api/v1/outcome", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    for what in ("advice", "squares", "patches", "holes", "forecast", "time", "trust", "message", "health"):
        json.loads(client.ask("GET", f"/api/v1/{what}").text, parse_constant=pytest.fail)


def test_a_failed_fit_is_a_result_that_is_not_good(client, served):
    hole = client.get("advice")["next"]["hole"]
    after(served, client.post("outcome", {"author": "t", "hole_id": hole, "failed": True}))
    [row] = [row for row in client.get("holes?limit=1000")["holes"] if row["hole"] == hole]
    assert (row["state"], row["results"], row["good"]) == ("not good", 1, 0.0)


def test_an_override_changes_the_plan_and_an_undo_takes_it_back(client, served):
    hole = client.get("advice")["next"]["hole"]
    banned = client.post(
        "override", {"author": "AB", "revision": revision_of(client), "kind": "ban", "hole_id": hole}
    )
    after(served, banned)
    assert hole not in [each["hole"] for each in client.get("advice")["holes"]]
    assert client.get("session")["overrides"]["holes"] == {hole: "ban"}
    [action] = client.get("actions")["actions"]
    assert (action["author"], action["payload"]["kind"]) == ("AB", "ban")
    undone = client.post("undo", {"author": "CD", "revision": revision_of(client), "event": action["event"]})
    after(served, undone)
    assert client.get("advice")["next"]["hole"] == hole
    assert client.get("session")["overrides"]["holes"] == {}


def test_an_undo_of_an_earlier_action_leaves_the_later_ones(client, served):
    for value in (5.0, 4.0):
        said = {
            "author": "A",
            "revision": revision_of(client),
            "kind": "threshold",
            "threshold_angstrom": value,
        }
        after(served, client.post("override", said))
    pause = {"author": "A", "revision": revision_of(client), "kind": "pause", "note": "undo of event 1"}
    after(served, client.post("override", pause))
    actions = client.get("actions")["actions"]
    after(
        served,
        client.post("undo", {"author": "A", "revision": revision_of(client), "event": actions[1]["event"]}),
    )
    said = client.get("session")["overrides"]
    assert (said["threshold_angstrom"], said["paused"]) == (5.0, True)
    newest, *before = client.get("actions")["actions"]
    assert newest["undo_of"] == actions[1]["event"]
    assert [row["undo_of"] for row in before] == [None] * len(actions)
    again = {"author": "A", "revision": revision_of(client), "event": actions[1]["event"]}
    assert client.ask("POST", "/api/v1/undo", json=again).status_code == 400


def test_a_write_that_has_not_seen_what_others_said_is_refused(client, served):
    revision = revision_of(client)
    after(served, client.post("override", {"author": "A", "revision": revision, "kind": "pause"}))
    late = {"author": "B", "revision": revision, "kind": "resume"}
    answer = client.ask("POST", "/api/v1/override", json=late)
    assert answer.status_code == 412
    assert client.get("session")["overrides"]["paused"]
    image = {"author": "t", "hole_id": "h001", "ctf_max_res_angstrom": 3.5}
    result = client.post("outcome", image)
    after(served, result)
    now = {"author": "B", "revision": result["revision"] - 1, "kind": "resume"}
    after(served, client.post("override", now))  # a result in between is no conflict


def test_of_two_who_have_seen_the_same_one_is_recorded_and_one_is_told(client, served, monkeypatch):
    """Both look before either has written."""
    look, looked = api._last_override, threading.Barrier(2)

    def looks_at_the_same_time(store):
        last = look(store)
        with contextlib.suppress(threading.BrokenBarrierError):
            looked.wait(0.5)
        return last

    monkeypatch.setattr(api, "_last_override", looks_at_the_same_time)
    revision, holes = revision_of(client), [each["hole"] for each in client.get("advice")["holes"][:2]]
    bodies = [{"author": "A", "revision": revision, "kind": "ban", "hole_id": hole} for hole in holes]
    with ThreadPoolExecutor(2) as pool:
        posted = [pool.submit(client.ask, "POST", "/api/v1/override", json=body) for body in bodies]
        statuses = sorted(each.result().status_code for each in posted)
    assert statuses == [200, 412]
    assert len(client.get("events?kind=overridden")["events"]) == 1


def test_what_if_changes_nothing(client):
    before = client.get("events"), client.get("advice")
    square = client.get("squares")["squares"][0]["square"]
    said = {"author": "t", "revision": 1, "kind": "ban", "square_id": square}
    answer = client.post("what-if", {"author": "t", "overrides": [said]})
    assert answer["expected_good_gain"] <= 0.01
    [row] = [row for row in answer["squares"] if row["square"] == square]
    assert row["planned"] == 0
    assert (client.get("events"), client.get("advice")) == before


def test_the_state_as_of_a_past_time_is_that_of_then(client, served):
    first = client.get("advice")
    hole = image_next(client, served)
    # The events of that time are stamped in milliseconds.
    imaged_at = client.get("events?kind=imaged")["events"][0]["at"]
    moment = datetime.fromisoformat(imaged_at).timestamp() - 0.002
    then = datetime.fromtimestamp(moment, UTC).isoformat()
    past = client.ask("GET", "/api/v1/advice", params={"as_of": then}).json()
    assert past["next"]["hole"] == first["next"]["hole"] == hole
    assert client.ask("GET", "/api/v1/session", params={"as_of": then}).json()["results"] == 0
    early = client.ask("GET", "/api/v1/advice", params={"as_of": "1990-01-01T00:00:00Z"})
    assert early.status_code == 400
    assert client.ask("GET", "/api/v1/sessions", params={"as_of": "1990-01-01T00:00:00Z"}).json() == {
        "sessions": []
    }
    reads = client.get("openapi.json")["paths"]
    reads = {path: each["get"]["parameters"] for path, each in reads.items() if "get" in each}
    assert len(reads) > 15
    for path, parameters in reads.items():
        assert "as_of" in [each["name"] for each in parameters], path
        place = client.get("holes/ids")["patches"][0] if "images" in path else "holes.csv"
        asked = path.replace("{place}", place).replace("{what}", place)
        answer = client.ask("GET", asked, params={"as_of": then})
        assert answer.status_code == (404 if "images" in path else 200), path
        if answer.text.startswith('{"revision"'):
            assert answer.json()["revision"] < client.get("verdict")["revision"], path


def test_where_the_time_went_is_what_the_report_says(client, served, stored):
    """A pause that is entered after the second long gap is not of the first, on the page as in the report."""
    holes = client.get("advice")["holes"]
    began = datetime(2026, 1, 30, 20, 0)
    with SessionStore.open(stored) as store:
        for at, minutes in enumerate((0, 2, 4, 30, 32, 60)):
            if at == 4:
                store.append("noted", {"author": "AB", "kind": "nitrogen", "minutes": 20, "text": "refill"})
            number = store.record_imaged(holes[at]["hole"], began + timedelta(minutes=minutes))
        number = store.newest_event()
        session, night = store.load(), night_of(store.events())
    moment = after(served, {"revision": number})
    spent = client.get("time")
    problem, names = moment.advice.problem, moment.advice.names.holes
    assert spent == json.loads(json.dumps(minutes_spent(session, problem, names, night.notes)))
    assert [each["from"][11:16] for each in spent["intervals"] if each["pause"]] == ["20:32"]
    with SessionStore.open(stored) as store:
        then = next(event.at for event in store.events(kind="noted"))
        store.append("noted", {"author": "AB", "kind": "focus", "minutes": 9, "text": "later"})
    past = client.ask("GET", "/api/v1/time", params={"as_of": then}).json()
    assert past["minutes"]["focus"] == 0.0
    with SessionStore.open(stored) as store:
        store.append("noted", {"kind": "look", "minutes": 2, "text": "once"})
        store.append("planned", {"by": "serve", "holes": [1]})
    for _ in range(2):  # what is not understood is passed over, and nothing before it is counted again
        assert [each["text"] for each in served.notes(None, None)] == ["refill", "later", "once"]


def test_columns_hold_the_whole_map(client, served):
    hole = image_next(client, served)
    names = client.get("holes/ids")["holes"]
    fields = "p_good,state,flags,order,x,y,square,patch,prediction,image,ctf"
    answer = client.get(f"holes/columns?fields={fields}")
    columns = {
        name: np.frombuffer(base64.b64decode(each["data"]), dtype=each["dtype"])
        for name, each in answer["columns"].items()
    }
    assert {len(values) for values in columns.values()} == {len(names)}
    assert answer["states"][columns["state"][names.index(hole)]] == "good"
    first = names[int(np.flatnonzero(columns["order"] == 1)[0])]
    assert first == client.get("advice")["next"]["hole"]
    assert client.ask("GET", "/api/v1/holes/columns?fields=nonsense").status_code == 404
    made = client.get("holes/columns")["columns"]
    assert 100_000 / len(names) * sum(len(each["data"]) for each in made.values()) < 2e6  # the map of 100,000


def test_ice_and_motion_are_columns_where_a_source_gives_them(stored, simulated):
    """The mean over a hole's exposures, of the runs that were taken."""
    exposures = simulated.exposures.iloc[:3].assign(
        hole_id=simulated.exposures["hole_id"].iloc[[0, 0, 1]].to_numpy(),
        shot=[1, 2, 1],
        outcome="measured",
        ctf_max_res_angstrom=4.0,
    )
    ids = exposures["exposure_id"].tolist()
    fields = [{"rlnAccumMotionTotal": str(each), "rlnOther": "x"} for each in (10.0, 20.0, 99.0)]
    runs = pd.DataFrame(
        {
            "exposure_id": [ids[0], ids[1], ids[2], ids[2]],
            "run": [1, 1, 1, 2],
            "taken": [True, True, False, True],
            "reader": "relion",
            "source": "t.star",
            "ctf_max_res_angstrom": 4.0,
            "ice_thickness_nm": [30.0, 50.0, 1.0, np.nan],
            "fields": [*map(json.dumps, fields), ""],
        }
    )
    info = simulated.info.model_copy(update={"shots": 2})
    session = replace(simulated, info=info, exposures=exposures, ctf_runs=typed_table("ctf_runs", runs))
    assert score_names(session) == ["ice_thickness_nm", "motion_total_angstrom"]
    found = hole_scores(session)
    first = session.hole_index(exposures["hole_id"].iloc[0])
    assert found["ice_thickness_nm"][first] == 40.0
    assert found["motion_total_angstrom"][first] == 15.0
    assert np.isfinite(found["motion_total_angstrom"]).sum() == 1  # the other's run was not taken


def test_rows_come_page_by_page(client):
    seen, cursor = [], 0
    while cursor is not None:
        page = client.get(f"holes?cursor={cursor}&limit=50")
        seen += [row["hole"] for row in page["holes"]]
        cursor = page["next"]
    assert seen == client.get("holes/ids")["holes"]
    assert len(client.get("events?limit=2")["events"]) == 2
    following = client.get("events?limit=2")["next"]
    assert client.get(f"events?after={following}")["events"][0]["event"] == following + 1


def test_a_forecast_has_enough_points_and_what_was_collected(client, served):
    for _ in range(3):
        image_next(client, served)
    forecast = client.get("forecast")
    assert len(forecast["minutes"]) >= 20
    assert forecast["bound"] == []  # nobody knows what a microscope will give
    for (low_80, high_80), (low_50, high_50) in zip(
        forecast["interval_80"], forecast["interval_50"], strict=True
    ):
        assert low_80 <= low_50 <= high_50 <= high_80


def test_a_target_says_how_probable_it_is(client, served):
    said = {"author": "A", "revision": revision_of(client), "kind": "target", "good": 10}
    after(served, client.post("override", said))
    assert client.get("advice")["target"]["probability"] > 0.9
    much = {"author": "A", "revision": revision_of(client), "kind": "target", "good": 10_000}
    after(served, client.post("override", much))
    assert client.get("verdict")["target"]["probability"] == 0.0


def test_a_note_that_is_sent_again_is_recorded_once(client, served):
    said = {"author": "AB", "text": "refill", "kind": "nitrogen", "minutes": 20.0}
    first = client.post("note", {**said, "key": "7-8"})["event"]
    assert client.post("note", {**said, "key": "7-8"})["event"] == first
    assert client.post("note", {**said, "key": "7-9"})["event"] > first
    client.post("note", said)
    client.post("note", said)  # without a key each is one
    kept = served.advisor("run").reading(lambda store: list(store.events(kind="noted")))
    assert [each.payload.get("key") for each in kept] == ["7-8", "7-9", None, None]


def test_notes_keep_text_as_text_and_formulas_are_escaped_in_tables(client, served):
    text = "<script>alert(1)</script> =1+1"
    answer = client.post("note", {"author": "=A", "text": text})
    after(served, {"revision": 0, **answer})
    deadline = time.monotonic() + 10
    while not client.get("actions")["notes"] and time.monotonic() < deadline:
        time.sleep(0.05)
    [note] = client.get("actions")["notes"]
    assert note["text"] == text
    table = client.ask("GET", "/api/v1/exports/next.csv")
    assert table.text.splitlines()[0].startswith("order,hole")
    assert client.ask("GET", "/api/v1/exports/..%2Fsecret").status_code == 404
    assert (
        client.ask("POST", "/api/v1/note", json={"author": "A", "text": "x", "hole_id": "none"}).status_code
        == 404
    )


def test_every_documented_read_works_and_unknown_ones_are_problems(client):
    description = client.get("openapi.json")
    reads = [path for path, verbs in description["paths"].items() if "get" in verbs and "{" not in path]
    assert len(reads) >= 15
    for path in reads:
        assert client.ask("GET", path).status_code == 200, path
    missing = client.ask("GET", "/api/v1/nothing")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert client.ask("GET", "/api/v1/advice?session=other").status_code == 404


def test_events_of_another_process_are_taken_up(client, served, stored):
    hole = client.get("advice")["next"]["hole"]
    with SessionStore.open(stored) as other:
        other.record_outcome(other.record_imaged(hole), 3.0)
        newest = other.newest_event()
    began = time.monotonic()
    served.advisor(None).wait_for(newest, 20.0)
    assert served.advisor(None).moment.revision >= newest
    assert time.monotonic() - began < 20.0
    assert client.get("session")["results"] == 1


def test_the_socket_gives_the_advice_with_each_revision_and_beats(client, served):
    async def drive(message):
        import asyncio

        first = await message()
        hole = first["advice"]["next"]["hole"]
        sent = {"author": "t", "hole_id": hole, "ctf_max_res_angstrom": 3.5}
        answer = await asyncio.to_thread(client.post, "outcome", sent)
        seen = []
        while True:
            got = await message()
            seen.append(got["type"])
            if got["type"] == "advice" and got["revision"] >= answer["revision"]:
                break
        while (beat := await message())["type"] != "beat":
            pass
        return first, got, beat

    first, got, beat = client.listen(drive)
    assert first["run_id"] == got["run_id"] == beat["run_id"]
    assert got["advice"]["results"] == 1
    assert beat["revision"] >= got["revision"]


def test_a_client_that_falls_behind_is_told_to_fetch_anew():
    import asyncio

    from cryoscout.live.hub import QUEUE
    from cryoscout.live.hub import Client as Slow

    async def drive():
        slow = Slow("run")
        for number in range(QUEUE + 1):
            slow.put({"type": "advice", "revision": number}, {"type": "fetch anew", "revision": number})
        return slow.queue.qsize(), slow.queue.get_nowait()

    assert asyncio.run(drive()) == (1, {"type": "fetch anew", "revision": QUEUE})
