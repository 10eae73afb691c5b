"""How the advice reaches the microscope's software, against fakes of what each vendor documents."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import uuid
from pathlib import Path

import pytest

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.live.bridges import AthenaBridge, ScriptBridge, SmartScopeBridge, bridge_named, window_of
from cryoscout.live.outputs import EXPIRES_S, Outputs, next_json, next_text
from cryoscout.live.serving import ServeRequest

NOW_S = 1_800_000_000.0


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SerialEM:
    """Acquire at Items: takes its items in the order of the table, and runs the script before each."""

    def __init__(self, labels):
        self.labels, self.taken, self.said = list(labels), [], []

    def run(self, script, folder, now_s):
        for label in self.labels:
            self.label, self.skipped = label, False
            script.main(self, str(folder), now_s)
            if not self.skipped:
                self.taken.append(self.label)

    def ReportNavItem(self):  # noqa: N802
        self.reported = self.label

    def GetVariable(self, name):  # noqa: N802
        assert name == "navLabel"
        return self.reported

    def SkipAcquiringNavItem(self):  # noqa: N802
        self.skipped = True

    def Echo(self, text):  # noqa: N802
        self.said.append(text)


@pytest.fixture
def moment(served):
    return served.advisor(None).moment


def write_next(folder, moment, mode="send", now_s=NOW_S):
    content = next_json("run", moment, now_s, mode)
    (folder / "next.json").write_text(json.dumps(content))
    return content


def test_serialem_skips_what_is_not_planned_and_says_so(tmp_path, moment):
    bridge = ScriptBridge("serialem", tmp_path)
    content = write_next(tmp_path, moment)
    bridge.give(moment, content)
    script = loaded(tmp_path / "cryoscout_serialem_before_acquire.py")
    planned = content["planned"][:30]
    other = content["planned"][30]
    (tmp_path / "next.json").write_text(json.dumps({**content, "planned": planned}))
    microscope = SerialEM([planned[3], other, "map 7", planned[0]])
    microscope.run(script, tmp_path, NOW_S + 10)
    assert microscope.taken == [planned[3], "map 7", planned[0]]
    answered = bridge.give(moment, content)
    assert answered.accepted == (planned[3], planned[0])
    assert answered.refused == (other,)
    assert bridge.give(moment, content).accepted == ()


@pytest.mark.parametrize("spoiled", ["expired", "not armed", "no file", "half a file", "nothing planned"])
def test_serialem_goes_on_with_all_it_has_where_there_is_no_advice_that_holds(tmp_path, moment, spoiled):
    bridge = ScriptBridge("serialem", tmp_path)
    content = write_next(tmp_path, moment, "suggest" if spoiled == "not armed" else "send")
    bridge.give(moment, content)
    now_s = NOW_S + (EXPIRES_S + 1 if spoiled == "expired" else 1)
    if spoiled == "no file":
        (tmp_path / "next.json").unlink()
    elif spoiled == "half a file":
        (tmp_path / "next.json").write_text((tmp_path / "next.json").read_text()[:100])
    elif spoiled == "nothing planned":
        (tmp_path / "next.json").write_text(json.dumps({**content, "planned": []}))
    microscope = SerialEM(moment.advice.names.holes)
    microscope.run(loaded(tmp_path / "cryoscout_serialem_before_acquire.py"), tmp_path, now_s)
    assert microscope.taken == list(moment.advice.names.holes)


class Leginon:
    """Takes targets in the order that it is given, and aborts those whose names are missing from it."""

    def take(self, queued, order):
        self.aborted = [name for name in queued if name not in order]
        return [name for name in order if name in queued]


def test_leginons_order_has_all_targets_the_advised_ones_first(tmp_path, moment):
    ScriptBridge("leginon", tmp_path)
    content = write_next(tmp_path, moment)
    script = loaded(tmp_path / "cryoscout_leginon_order.py")
    queued = [*moment.advice.names.holes, "21mar02c_other_00001en", content["planned"][0]]
    targets = tmp_path / "targets.txt"
    targets.write_text("# queued\n" + "\n".join(queued) + "\n")
    for now_s, expected in ((NOW_S + 1, content["planned"]), (NOW_S + EXPIRES_S + 1, queued[:5])):
        out = []
        script.main([str(targets)], str(tmp_path), now_s, out)
        microscope = Leginon()
        taken = microscope.take(queued, out[0].splitlines())
        assert microscope.aborted == []
        assert taken[: len(expected)] == expected
        assert sorted(taken) == sorted(set(queued))


def test_scripts_for_old_pythons_use_nothing_new(tmp_path):
    """Python 2.7 cannot be run here: what it does not know is kept out by looking."""
    ScriptBridge("leginon", tmp_path)
    text = (tmp_path / "cryoscout_leginon_order.py").read_text()
    for new in ('f"', "f'", "nonlocal", "pathlib", ":=", "print(", "->", "async ", "**{", "yield from"):
        assert new not in text, new


def test_smartscopes_window_rolls_and_is_never_taken_empty(served, client, monkeypatch):
    asked = []

    def select(server, grids, holes):
        from cryoscout.formats.smartscope.rest import SelectionReport

        asked.append(list(holes))
        return SelectionReport(len(holes) - 1, len(holes), (holes[-1],))

    monkeypatch.setattr("cryoscout.live.bridges.select_holes", select)
    bridge = SmartScopeBridge(client=None)
    moment = served.advisor(None).moment
    answered = bridge.give(moment, {})
    problem, names = moment.advice.problem, moment.advice.names
    squares = {int(problem.square_of_hole[names.holes.index(hole)]) for hole in asked[0]}
    assert len(squares) <= 2
    assert asked[0][0] == moment.content["next"]["hole"]
    assert answered.refused == (asked[0][-1],)
    assert bridge.give(moment, {}).accepted == ()
    assert len(asked) == 1, "nothing new, nothing asked; nothing is ever taken off"
    pause = {"author": "t", "revision": moment.revision, "kind": "pause"}
    paused = served.advisor(None).wait_for(client.post("override", pause)["revision"], 20)
    bridge.give(paused, {})
    assert len(asked) == 1
    assert window_of(moment, 1)[0] == asked[0][0]


def test_athena_gets_decisions_for_each_square_ahead_of_time(tmp_path, moment, monkeypatch):
    monkeypatch.setattr(
        "cryoscout.formats.epu.athena.area_id", lambda name: int("".join(filter(str.isdigit, name)))
    )
    bridge = AthenaBridge(tmp_path, str(uuid.uuid4()))
    bridge.give(moment, {})
    first = json.loads((tmp_path / "decisions.json").read_text())
    bridge.give(moment, {})
    assert len(first) >= 2
    assert json.loads((tmp_path / "decisions.json").read_text()) == first


def test_bridges_say_what_they_lack(tmp_path):
    with pytest.raises(UnknownNameError, match="serialem"):
        bridge_named("serial", tmp_path, None, None, None)
    for kind, missing in (("serialem", "--export-to"), ("smartscope", "--smartscope-address")):
        with pytest.raises(InputError, match=missing):
            bridge_named(kind, None, None, None, None)
    with pytest.raises(InputError, match="--athena-session"):
        bridge_named("athena", tmp_path, None, None, None)


def test_the_text_for_people_has_one_line_for_each_thing(moment):
    content = next_json("run", moment, NOW_S, "suggest")
    content["verdict"]["sentence"] = "two\nlines"
    lines = next_text(content).splitlines()
    assert lines[0] == f"revision {moment.revision}"
    assert lines[5] == "say two lines"
    assert sum(line.startswith("hole ") for line in lines) == 20


def outputs_of(served, tmp_path, **changes):
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    return folder, Outputs(ServeRequest(("x",), export_to=folder, **changes), served, lambda text: None)


def test_next_is_replaced_by_rename_in_suggest_and_left_alone_in_watch(served, tmp_path):
    served.mode = "suggest"
    folder, outputs = outputs_of(served, tmp_path)
    outputs._look()
    before = (folder / "next.json").stat().st_ino
    outputs._look()
    assert (folder / "next.json").stat().st_ino != before
    assert json.loads((folder / "next.json").read_text())["mode"] == "suggest"
    served.mode = "watch"
    (folder / "next.json").unlink()
    outputs._look()
    assert not (folder / "next.json").exists()


def test_sending_is_armed_for_a_time_and_what_was_sent_is_written_down(served, client, tmp_path):
    served.clock = lambda: clock[0]
    clock = [time.time()]
    client.post("mode", {"author": "AB", "mode": "send", "minutes": 5.0})
    folder, outputs = outputs_of(served, tmp_path, bridge="serialem")
    outputs._look()
    deadline = time.monotonic() + 20
    while not client.get("trust")["unanswered"] and time.monotonic() < deadline:
        time.sleep(0.05)
    trust = client.get("trust")
    assert len(trust["unanswered"]) == 20
    hole = trust["unanswered"][0]
    (folder / "answers.txt").write_text(f"accepted {hole}\n")
    outputs._look()
    while hole in client.get("trust")["unanswered"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.get("trust")["sent"]["accepted"] == 1
    clock[0] += 301
    outputs._look()
    assert served.mode == "suggest"
    assert client.ask("POST", "/api/v1/mode", json={"author": "A", "mode": "send"}).status_code == 400


def test_an_alert_is_given_once_in_half_an_hour_and_the_file_is_touched(served, tmp_path, stored):
    got = tmp_path / "alerts"
    script = tmp_path / "alert.py"
    script.write_text(f"import sys\nopen({str(got)!r}, 'a').write(sys.stdin.read() + '\\n')\n")
    said = []
    request = ServeRequest(("x",), alert_command=f"{sys.executable} {script}")
    outputs = Outputs(request, served, said.append)
    clock = [time.time()]
    served.clock = lambda: clock[0]
    served.advisor(None).trouble("folder", "the share is gone.", "Check the mount.", 7)
    outputs._look()
    outputs._look()
    [line] = got.read_text().splitlines()
    assert json.loads(line)["cause"] == "folder"
    assert len(said) == 1
    clock[0] += 1801
    outputs._look()
    assert len(got.read_text().splitlines()) == 2
    assert (Path(stored) / "serve.alive").exists()
    assert (stored / "serve.alive").stat().st_size


def test_an_alert_command_that_fails_is_told_and_holds_nothing_up(served):
    said = []
    outputs = Outputs(ServeRequest(("x",), alert_command="/no/such/program"), served, said.append)
    served.advisor(None).trouble("store", "the disk is full.", "Free space.", 9)
    outputs._look()
    assert any("alert command failed" in line for line in said)
