"""How the advice reaches the microscope's software, against fakes of what each vendor documents."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.formats.serialem.nav import read_nav
from cryoscout.formats.serialem.session import read_grids
from cryoscout.intake.assemble import assemble
from cryoscout.live.bridges import (
    Answered,
    AthenaBridge,
    ScriptBridge,
    SmartScopeBridge,
    bridge_named,
    window_of,
)
from cryoscout.live.outputs import EXPIRES_S, Outputs, next_json, next_text
from cryoscout.live.running import LiveSession
from cryoscout.live.serving import ServeRequest
from cryoscout.live.settings import LiveSettings
from cryoscout.session.following import FollowedSession
from cryoscout.session.store import SessionStore

NOW_S = 1_800_000_000.0


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SerialEM:
    """Acquire at Items: takes marked items in the order of the table and runs the script before each.

    A merge passes over items whose MapID is there, adds -1 to labels that are there, and moves the acquisition's end.
    """

    def __init__(self, labels=(), navigator=None):
        self.said, self.taken, self.merges = [], [], []
        self.table = [(label, "", 0, (0.0, float(at))) for at, label in enumerate(labels)]
        if navigator is not None:
            self.table = [self.row(item) for item in read_nav(navigator).holes]  # all are marked

    def row(self, item):
        return item.label, item.section.get("Note") or "", item.map_id, item.stage_um[:2]

    def run(self, script, folder, now_s, upto=None):
        at = 0
        while at < len(self.table):
            self.item, self.skipped = self.table[at], False
            script.main(self, str(folder), now_s)
            if not self.skipped:
                self.taken.append(self.item[0])
                if upto is not None and len(self.taken) >= upto:
                    del self.table[: at + 1]
                    return
            at += 1

    def ReportNavItem(self):  # noqa: N802
        self.reported = {"navLabel": self.item[0], "navNote": self.item[1]}
        return [1.0, *self.item[3], 0.0, 0.0]

    def GetVariable(self, name):  # noqa: N802
        return self.reported[name]

    def SkipAcquiringNavItem(self):  # noqa: N802
        self.skipped = True

    def MergeNavFile(self, path):  # noqa: N802
        self.merges.append(path)
        for item in read_nav(Path(path)).items:
            label, note, map_id, place = self.row(item)
            if map_id in [row[2] for row in self.table]:
                continue
            there = [row[0] for row in self.table]
            more = sum(each == label or each.startswith(f"{label}-") for each in there)
            if item.acquire:
                self.table.append((f"{label}-{more}" if more else label, note, map_id, place))

    def Echo(self, text):  # noqa: N802
        self.said.append(text)


@pytest.fixture
def moment(served):
    return served.advisor(None).moment


def write_next(folder, moment, mode="send", now_s=NOW_S):
    content = next_json("run", replace(moment, at_s=now_s), now_s, mode)
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


@pytest.mark.parametrize(
    "spoiled",
    [
        "expired",
        "not armed",
        pytest.param("no file", marks=pytest.mark.slow),
        "half a file",
        pytest.param("nothing planned", marks=pytest.mark.slow),
    ],
)
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


NAVIGATOR = Path(__file__).parents[1] / "formats" / "data" / "serialem" / "made_by_hand_two_squares.nav"


@pytest.fixture
def of_navigator(tmp_path):
    """An advice on the holes of a navigator, and the bridge that knows it."""
    folder = tmp_path / "out"
    folder.mkdir()
    [records] = read_grids([NAVIGATOR])
    place = tmp_path / "nav.session"
    with SessionStore.create(place) as store:
        store.save_import(assemble([records]).session, source="tests")
    live = LiveSession(FollowedSession.open(place), LiveSettings(clock_scale=0.0, also_unchosen=True), "test")
    yield live, folder, ScriptBridge("serialem", folder, NAVIGATOR)
    live.followed.store.close()


def give(live, folder, bridge, planned=None, revision=7):
    """The advice written and handed over; `planned` are the places of its holes in that order."""
    moment = replace(live.advise(), at_s=NOW_S, revision=revision)
    if planned is not None:
        walk = replace(
            moment.advice.walk, holes=np.array(planned), tiers=np.zeros(len(planned), dtype=np.int64)
        )
        moment = replace(moment, advice=replace(moment.advice, walk=walk))
    content = next_json("nav", moment, NOW_S, "send") | bridge.prepare(moment)
    (folder / "next.json").write_text(json.dumps(content))
    bridge.give(moment, content)
    return content


def test_serialem_takes_a_plan_in_its_order_because_it_is_merged_at_the_end_of_the_table(of_navigator):
    live, folder, bridge = of_navigator
    names = live.advise().advice.names.holes
    order = [names.index(name) for name in ("24", "8", "45#100046", "22")]
    content = give(live, folder, bridge, order)
    assert content["merge"]["holes"] == ["24", "8", "45#100046", "22"]
    before = NAVIGATOR.read_bytes()
    microscope = SerialEM(navigator=NAVIGATOR)
    script = loaded(folder / "cryoscout_serialem_before_acquire.py")
    microscope.run(script, folder, NOW_S + 10)
    assert len(microscope.merges) == 1
    # The two items that are called 45 cannot be told apart by their label: they are taken where they stand, and once.
    assert microscope.taken == ["45", "45", "24@plan", "8@plan", "22@plan"]
    assert NAVIGATOR.read_bytes() == before


def test_a_plan_that_changes_is_merged_again_and_no_hole_is_taken_twice(of_navigator):
    live, folder, bridge = of_navigator
    names = live.advise().advice.names.holes
    give(live, folder, bridge, [names.index(name) for name in ("24", "8", "22")])
    microscope = SerialEM(navigator=NAVIGATOR)
    script = loaded(folder / "cryoscout_serialem_before_acquire.py")
    plain = lambda: [label.split("@")[0] for label in microscope.taken if label != "45"]  # noqa: E731
    while "24" not in plain():
        microscope.run(script, folder, NOW_S + 10, upto=len(microscope.taken) + 1)
    give(live, folder, bridge, [names.index(name) for name in ("31", "22")], revision=9)
    microscope.run(script, folder, NOW_S + 20)
    assert len(microscope.merges) == 2
    assert plain() == ["24", "31", "22"]
    # Without an advice the microscope goes on with all that it has, but for what was taken.
    microscope = SerialEM(navigator=NAVIGATOR)
    microscope.run(script, folder, NOW_S + EXPIRES_S + 10)
    assert set(plain()).isdisjoint(("24", "31", "22"))
    assert "8" in plain()


def test_a_plan_stays_as_it_was_merged_while_its_next_holes_stand(of_navigator):
    live, folder, bridge = of_navigator
    first = give(live, folder, bridge)
    again = give(live, folder, bridge, revision=8)
    assert again["merge"] == first["merge"]


def test_a_merge_that_fails_is_said_and_the_items_are_taken_where_they_stand(of_navigator):
    live, folder, bridge = of_navigator
    content = give(live, folder, bridge)
    script = loaded(folder / "cryoscout_serialem_before_acquire.py")
    microscope = SerialEM(navigator=NAVIGATOR)

    def fails(path):
        raise RuntimeError("Navigator is closed")

    microscope.MergeNavFile = fails
    microscope.run(script, folder, NOW_S + 10)
    assert sum("could not be merged" in text for text in microscope.said) == 1
    wanted = {hole for hole in content["planned"] if "#" not in hole}
    assert wanted <= set(microscope.taken)
    assert not any("@plan" in label for label in microscope.taken)


def test_images_of_merged_items_are_of_the_operators_holes(tmp_path, of_navigator):
    """SerialEM writes the label of the item at which it took an image: LABEL@plan-1 is LABEL."""
    live, folder, bridge = of_navigator
    names = live.advise().advice.names.holes
    give(live, folder, bridge, [names.index("24")])
    [copy] = read_nav(folder / "cryoscout_plan.nav").items
    assert (copy.label, copy.acquire, copy.is_hole) == ("24@plan", True, False)
    original = read_nav(NAVIGATOR).by_id["24"]
    assert copy.stage_um == original.stage_um
    assert copy.map_id not in {item.map_id for item in read_nav(NAVIGATOR).items}
    x, y, _ = copy.stage_um
    (tmp_path / "image.mrc.mdoc").write_text(
        f"PixelSpacing = 1\nImageFile = image.mrc\n\n[ZValue = 0]\nNavigatorLabel = 24@plan-1\n"
        f"StagePosition = {x} {y}\nDateTime = 30-Jan-26  20:00:00\n"
    )
    [records] = read_grids([NAVIGATOR], mdocs=tmp_path / "image.mrc.mdoc")
    assert records.exposures["hole_id"].tolist() == ["24"]
    [both] = read_grids([NAVIGATOR])
    assert records.holes["hole_id"].tolist() == both.holes["hole_id"].tolist()


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
        from cryoscout.formats.smartscope.selecting import SelectionReport

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
    bridge.take_back()  # decisions say no time until which they hold
    assert not (tmp_path / "decisions.json").exists()


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
    served.bridge = "serialem"
    client.post("mode", {"author": "AB", "mode": "send", "minutes": 5.0})
    assert client.get("session")["armed_until"] == datetime.fromtimestamp(
        int(clock[0] + 300.0)
    ).astimezone().isoformat(timespec="seconds")
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
    assert client.get("session")["armed_until"] is None
    assert client.ask("POST", "/api/v1/mode", json={"author": "A", "mode": "send"}).status_code == 400


@pytest.mark.parametrize("body", [{"mode": "suggest"}, {"mode": "send", "minutes": 5.0}])
def test_a_server_without_a_folder_takes_no_mode_that_would_write_to_it(served, client, body):
    answer = client.ask("POST", "/api/v1/mode", json={"author": "AB", **body})
    assert answer.status_code == 400
    assert "start it again with --export-to FOLDER" in answer.json()["detail"]
    assert served.mode == "watch"
    served.writes_files = True
    client.post("mode", {"author": "AB", **body})
    assert served.mode == body["mode"]


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


def test_an_advice_expires_so_long_after_it_was_made_however_often_it_is_written(moment):
    made = replace(moment, at_s=NOW_S - 600.0)
    assert next_json("run", made, NOW_S, "suggest")["expires_unix_s"] == NOW_S - 600.0 + EXPIRES_S
    ahead = replace(moment, at_s=NOW_S + 3600.0)  # made before this computer's clock was set back
    assert next_json("run", ahead, NOW_S, "suggest")["expires_unix_s"] == NOW_S + EXPIRES_S


def test_what_is_armed_ends_with_the_arming_also_where_nobody_writes_any_more(moment):
    fresh = replace(moment, at_s=NOW_S)
    assert next_json("run", fresh, NOW_S, "send", NOW_S + 60.0)["expires_unix_s"] == NOW_S + 60.0
    assert next_json("run", fresh, NOW_S, "suggest", NOW_S + 60.0)["expires_unix_s"] == NOW_S + EXPIRES_S


def test_who_watches_again_takes_back_what_was_armed(served, tmp_path):
    served.mode, served.armed_until_s = "send", served.clock() + 600.0
    folder, outputs = outputs_of(served, tmp_path)
    outputs._look()
    assert json.loads((folder / "next.json").read_text())["mode"] == "send"
    served.mode, served.armed_until_s = "watch", None
    outputs._look()
    assert json.loads((folder / "next.json").read_text())["mode"] == "watch"


def test_an_advice_that_has_expired_is_handed_to_nobody(served, tmp_path):
    """The thread that plans hangs: what was planned an hour ago is not sent."""
    given, taken_back = [], []

    def moment_at():
        return served.advisor(None).moment.revision

    class Software:
        def prepare(self, moment):
            return {}

        def give(self, moment, content):
            given.append(moment.revision)
            return Answered()

        def take_back(self):
            taken_back.append(moment_at())

    clock = [served.clock()]
    served.clock = lambda: clock[0]
    served.mode, served.armed_until_s = "send", clock[0] + 1e5
    _, outputs = outputs_of(served, tmp_path)
    outputs._bridge = Software()
    outputs._look()
    assert (len(given), taken_back) == (1, [])
    sent = served.advisor(None)._writer.newest_event()
    clock[0] += EXPIRES_S + 1.0
    outputs._written.clear()
    outputs._look()
    assert len(given) == 1
    assert served.advisor(None)._writer.newest_event() == sent
    assert "expired" in served.advisor(None).troubles["bridge"].sentence
    outputs._look()
    assert len(taken_back) == 1
    # Who ends sending has no trouble with the bridge any more.
    served.mode, served.armed_until_s = "suggest", None
    outputs._look()
    assert "bridge" not in served.advisor(None).troubles


def test_what_a_killed_server_handed_over_is_taken_back_by_the_next_one(served, tmp_path):
    served.mode = "suggest"
    folder, outputs = outputs_of(served, tmp_path, bridge="athena", athena_session=str(uuid.uuid4()))
    (folder / "decisions.json").write_text("[]")
    outputs._look()
    assert not (folder / "decisions.json").exists()


def test_an_answer_counts_once_the_last_word_of_a_hole_holds_and_none_after_its_image(tmp_path, moment):
    """A server that starts again reads all answers again."""
    holes = moment.advice.names.holes[:4]
    words = ("skipped", "accepted", "accepted", "accepted"), ("accepted", "skipped", "accepted", "accepted")
    lines = [f"{word} {hole}" for said in words for word, hole in zip(said, holes, strict=True)]
    ScriptBridge("serialem", tmp_path)
    (tmp_path / "answers.txt").write_text("\n".join(lines) + "\n")
    answered = ScriptBridge("serialem", tmp_path).give(moment, {})
    assert answered == Answered((holes[0], holes[2], holes[3]), (holes[1],))
    known = {holes[0]: "accepted", holes[1]: "sent", holes[2]: "imaged", holes[3]: "refused"}
    assert answered.news(known) == Answered((holes[3],), (holes[1],))


def test_a_hole_that_is_imaged_stays_so_when_its_answer_is_read_later(served, client):
    advisor = served.advisor(None)
    hole = client.get("advice")["next"]["hole"]
    advisor.write("sent", {"holes": [hole], "state": "sent", "revision": 1, "author": "serve"})
    client.post("outcome", {"author": "t", "hole_id": hole, "ctf_max_res_angstrom": 3.5})
    answer = {"holes": [hole], "state": "accepted", "revision": 1, "author": "bridge"}
    advisor.wait_for(advisor.write("accepted", answer), 20.0)
    advisor._step(force=True)
    assert client.get("trust")["sent"] == {"sent": 0, "accepted": 0, "imaged": 1, "refused": 0}


def test_the_end_of_sending_stands_in_the_log(served, tmp_path):
    clock = [served.clock()]
    served.clock = lambda: clock[0]
    served.mode, served.armed_until_s = "send", clock[0] + 60.0
    _, outputs = outputs_of(served, tmp_path)
    clock[0] += 61.0
    outputs._look()
    outputs._look()
    notes = [event.payload for event in served.advisor(None)._writer.events(kind="noted")]
    assert [(note["author"], note["text"]) for note in notes] == [
        ("serve", "mode suggest: the time for which sending was armed is over")
    ]


def test_no_file_is_touched_where_no_advice_holds_any_more(served, tmp_path, stored):
    """Who watches the watcher sees that the thread that plans hangs."""
    clock = [served.clock()]
    served.clock = lambda: clock[0]
    _, outputs = outputs_of(served, tmp_path)
    clock[0] += EXPIRES_S + 1.0
    outputs._look()
    assert not (stored / "serve.alive").exists()
    served.advisor(None)._moment = replace(served.advisor(None).moment, at_s=clock[0])
    outputs._look()
    assert (stored / "serve.alive").exists()
