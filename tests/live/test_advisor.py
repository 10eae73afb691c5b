"""The thread that advises: nothing that fails ends it, and nothing that comes while it writes waits for the next."""

from __future__ import annotations

import time

import pytest

from cryoscout.advice.drift import DriftWarning
from cryoscout.core.errors import StoreError
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources
from cryoscout.live.advisor import TICK_S
from cryoscout.live.outputs import Outputs
from cryoscout.live.serving import ServeRequest
from cryoscout.live.sources import Follower
from cryoscout.session.store import SessionStore


def image(stored, hole, ctf=3.0):
    """Another process records an exposure and its result; the number of the last event."""
    with SessionStore.open(stored) as store:
        exposure = store.record_imaged(hole)
        store.record_outcome(exposure, ctf)
        return store.newest_event()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("a defect"), marks=pytest.mark.slow),
        OSError(28, "No space left on device"),
        pytest.param(KeyError("h1"), marks=pytest.mark.slow),
    ],
)
def test_what_fails_is_told_and_tried_again_and_the_thread_goes_on(served, stored, error, monkeypatch):
    monkeypatch.setattr("cryoscout.live.advisor.POLL_S", 0.02)
    advisor = served.advisor("run")
    advise, left = advisor._live.advise, [error] * 3

    def failing(**_):
        if left:
            raise left.pop()
        return advise()

    advisor._live.advise = failing
    number = image(stored, advisor.moment.content["next"]["hole"])
    moment = advisor.wait_for(number, 20.0)
    assert left == []
    assert moment.revision >= number
    assert advisor._thread.is_alive()
    assert "advice" not in advisor.troubles


def test_while_it_fails_the_message_says_so(served, stored):
    advisor = served.advisor("run")

    def failing(**_):
        raise ValueError("a defect")

    advisor._live.advise = failing
    before = advisor.moment.revision
    image(stored, advisor.moment.content["next"]["hole"])
    advisor.wake()
    for _ in range(200):
        if "advice" in advisor.troubles:
            break
        advisor.wait_for(before + 10**6, 0.05)
    trouble = advisor.troubles["advice"]
    assert trouble.sentence == "ValueError: a defect"
    assert "tried again" in trouble.remedy
    assert advisor.moment.revision == before


def test_a_result_that_comes_while_a_plan_is_written_down_is_advised_on_at_once(served, stored):
    advisor = served.advisor("run")
    write, came = advisor.write, []

    def written_late(kind, payload):
        if kind == "planned" and not came:
            came.append(image(stored, advisor.moment.content["next"]["hole"]))
        return write(kind, payload)

    advisor.write = written_late
    with SessionStore.open(stored) as store:
        store.append(
            "overridden", {"kind": "ban", "hole_id": advisor.moment.content["next"]["hole"], "author": "AB"}
        )
    advisor.wake()
    for _ in range(200):
        if came:
            break
        advisor.wait_for(10**9, 0.05)
    assert came, "no plan was written down"
    assert advisor.wait_for(came[0], TICK_S / 4).revision >= came[0]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(StoreError("The store must be free."), marks=pytest.mark.slow),
        OSError(28, "No space left"),
        pytest.param(ValueError("a defect"), marks=pytest.mark.slow),
    ],
)
def test_a_list_that_cannot_be_written_keeps_no_alert_back_and_ends_no_thread(served, tmp_path, error):
    said = []
    outputs = Outputs(ServeRequest(("x",), export_to=tmp_path), served, said.append)
    served.mode = "suggest"
    advisor = served.advisor("run")
    advisor.trouble("folder", "The folder cannot be seen.", "Check the mount.", 7)

    def failing(*_):
        raise error

    write, outputs._write_next = outputs._write_next, failing
    outputs.start()
    try:
        for _ in range(200):
            if said and "export" in advisor.troubles:
                break
            advisor.wait_for(10**9, 0.05)
        assert advisor.troubles["export"].sentence.startswith("next.json cannot be written: ")
        assert any("The folder cannot be seen." in line for line in said)
        assert (advisor.location / "serve.alive").exists()  # the server lives, whatever its lists
        outputs._write_next = write
        outputs._wake.set()
        for _ in range(200):
            if "export" not in advisor.troubles:
                break
            advisor.wait_for(10**9, 0.05)
        assert "export" not in advisor.troubles
        assert (tmp_path / "next.json").exists()
    finally:
        outputs.close()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("a defect"), marks=pytest.mark.slow),
        OSError(5, "Input/output error"),
        pytest.param(StoreError("held"), marks=pytest.mark.slow),
    ],
)
def test_sources_that_cannot_be_read_are_told_and_read_again(served, tmp_path, error, monkeypatch):
    monkeypatch.setattr("cryoscout.live.sources.FIRST_PAUSE_S", 0.01)
    follower = Follower(served.advisor("run"), Sources([tmp_path], [], ReadOptions(), str(tmp_path)))
    changed = {tmp_path / "holes.csv"}

    class Followed:
        def take_in(self, pending):
            raise error

    assert follower._take_in(Followed(), None, changed) == changed
    assert served.advisor("run").troubles["sources"].sentence


def test_an_event_that_nobody_understands_is_said_and_the_others_are_taken_in(served, stored):
    advisor = served.advisor("run")
    hole = advisor.moment.content["next"]["hole"]
    with SessionStore.open(stored) as store:
        exposure = store.record_imaged(hole)
        last = store.append_many(
            [("planned", {"holes": [5], "by": "a script"}), ("noted", {"author": "AB", "text": "after it"})]
        )
        store.record_outcome(exposure, 3.0)
    moment = advisor.wait_for(last + 1, 20.0)
    assert [note["text"] for note in moment.facts["notes"]] == ["after it"]
    assert moment.advice.now.results.sum() == 1
    assert moment.facts["waiting"] == 0
    said = advisor.troubles["events"].sentence
    assert f"event {last - 1} (planned)" in said
    assert "TypeError" in said


def test_a_session_that_replaced_another_is_planned_anew(served):
    advisor = served.advisor("run")
    live, before = advisor._live, advisor._live._planner
    live.followed.last_event = live.followed.last_event._replace(at="2001-01-01T00:00:00+00:00")
    assert live.catch_up().is_replaced
    assert live._ensure_planner() is not before


def test_where_another_session_cannot_be_opened_at_first_it_is_tried_until_it_can_be_written_to(served):
    advisor, opened, left = served.advisor("run"), [], [StoreError("held by another program")]
    before, run_id, opening = advisor._writer, advisor.run_id_now, advisor._opened

    def failing():
        if left:
            raise left.pop()
        opened.append(opening())
        return opened[-1]

    advisor._opened = failing
    # As where what is written down of a plan finds it out, not the next step.
    with advisor._plans:
        followed = advisor._live.followed
        followed.last_event = followed.last_event._replace(at="2001-01-01T00:00:00+00:00")
        assert advisor._live.catch_up().is_replaced
    advisor.wake()
    for _ in range(400):
        if opened:
            break
        advisor.wait_for(10**9, 0.05)
    assert left == []
    number = advisor.write("noted", {"author": "AB", "text": "of the new one", "kind": "note"})
    assert advisor._writer is opened[0] is not before
    assert advisor.wait_for(number, 20.0).run_id == f"{run_id}.1"
    assert "place of this one" in advisor.troubles["replaced"].sentence
    assert len(opened) == 1


def test_a_drift_is_looked_at_after_the_advice_and_said_when_it_is_found(served, stored):
    """A look takes longer than an advice where results have fallen: nobody waits for it."""
    advisor, published = served.advisor("run"), []
    advisor._live.facts.result_times_s.append(advisor.clock())
    advisor._live.facts.results_followed = 1

    class Watch:
        told = None

        def look_on(self, has_time):
            if any(moment.content["paused"] for moment in published):
                self.told = DriftWarning("all at once", "", 0, 1, 0.0, 1.0, "All at once: look at focus.")
            return self.told is not None

    advisor._live.facts.drift = Watch()
    advisor.on_moment.append(published.append)
    advisor.write("overridden", {"kind": "pause", "author": "A"})
    deadline = time.monotonic() + 20.0
    while (not published or published[-1].facts["drift"] is None) and time.monotonic() < deadline:
        time.sleep(0.01)
    first = next(moment for moment in published if moment.content["paused"])
    assert first.facts["drift"] is None
    assert published[-1].facts["drift"]["sentence"] == "All at once: look at focus."
    assert advisor.moment is published[-1]


def test_a_drift_that_cannot_be_looked_at_is_said_and_the_advice_goes_on(served):
    advisor = served.advisor("run")

    class Watch:
        told = None

        def look_on(self, has_time):
            raise ValueError("a defect")

    advisor._live.facts.drift = Watch()
    number = advisor.write("noted", {"author": "A", "text": "x"})
    assert advisor.wait_for(number, 20.0).revision >= number
    deadline = time.monotonic() + 20.0
    while "drift look" not in advisor.troubles and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "a defect" in advisor.troubles["drift look"].sentence
