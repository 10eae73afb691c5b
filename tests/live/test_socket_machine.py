"""People, scripts and sockets in any order: every socket sees revisions ascend and reaches what was acknowledged."""

from __future__ import annotations

import json
from contextlib import ExitStack

import httpx
import pytest

pytest.importorskip("uvicorn", reason="the extra live is not installed")

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)
from test_serve import running
from websockets.sync.client import connect

LIMIT_S = 30.0


def machine_of(server):
    """The machine against one running server; what it said stays between its runs, as with people."""

    class Machine(RuleBasedStateMachine):
        sockets = Bundle("sockets")

        @initialize()
        def begin(self):
            session = server.get("session")
            self.revision = session["revision"]
            self.holes = server.get("holes/ids")["holes"]
            self.open = ExitStack()

        def post(self, what, body):
            answer = server.post(what, {"author": "machine", **body})
            assert answer.status_code in (200, 412), answer.text
            if answer.status_code == 200:
                assert answer.json()["revision"] > 0
                self.revision = max(self.revision, answer.json()["revision"])
            return answer

        @rule(target=sockets)
        def listen(self):
            address = server.base.replace("http", "ws") + "/api/v1/socket"
            opened = connect(address, additional_headers=server.headers, proxy=None)
            socket = self.open.enter_context(opened)
            first = json.loads(socket.recv(LIMIT_S))
            assert first["type"] == "advice"
            return [socket, first["revision"]]

        @rule(seen=sockets)
        def reaches_what_was_acknowledged(self, seen):
            socket, before = seen
            while before < self.revision:
                message = json.loads(socket.recv(LIMIT_S))
                assert message["revision"] >= before, message
                assert message["type"] in ("advice", "beat", "fetch anew")
                if message["type"] == "advice":
                    assert message["advice"]["revision"] == message["revision"]
                before = message["revision"]
            seen[1] = before

        @rule(seen=consumes(sockets), said=st.binary(max_size=30))
        def says_something_and_goes(self, seen, said):
            seen[0].send(said)
            seen[0].close()

        @rule(place=st.integers(0, 119), ctf=st.sampled_from([3.0, 9.0]))
        def result(self, place, ctf):
            body = {"hole_id": self.holes[place], "ctf_max_res_angstrom": ctf}
            first = self.post("outcome", body).json()
            again = self.post("outcome", body).json()
            assert first["exposure_id"] == again["exposure_id"]

        @rule(place=st.integers(0, 119), kind=st.sampled_from(["ban", "skip", "pin"]), late=st.booleans())
        def override(self, place, kind, late):
            body = {"kind": kind, "hole_id": self.holes[place], "revision": 0 if late else 2**40}
            self.post("override", body)

        @rule(kind=st.sampled_from(["pause", "resume"]))
        def stop_and_go(self, kind):
            self.post("override", {"kind": kind, "revision": 2**40})

        @rule()
        def undo(self):
            actions = server.get("actions")["actions"]
            if actions and actions[0]["payload"]["kind"] != "undo":
                answer = server.post("undo", {"author": "m", "event": actions[0]["event"], "revision": 2**40})
                assert answer.status_code in (200, 400), answer.text

        @rule(text=st.text(min_size=1, max_size=30))
        def note(self, text):
            answer = server.post("note", {"author": "machine", "text": text})
            assert answer.status_code in (200, 422), answer.text

        def teardown(self):
            if hasattr(self, "open"):
                self.open.close()

    return Machine


def drive(stored, examples, steps):
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with running(stored) as server:
        run_state_machine_as_test(machine_of(server), settings=chosen)
        measured = [
            event["payload"]["exposure_id"] for event in server.get("events?kind=imaged&limit=1000")["events"]
        ]
        assert len(measured) == len(set(measured)), "an exposure was recorded twice"
        assert (
            httpx.get(server.base + "/api/v1/advice", headers=server.headers, trust_env=False).status_code
            == 200
        )


@pytest.mark.slow
def test_a_few_steps(stored):
    drive(stored, 2, 12)


@pytest.mark.slow
def test_many_steps(stored):
    drive(stored, 40, 40)
