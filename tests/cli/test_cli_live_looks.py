"""A session that begins with an atlas: the advisor says where to look, and images what a look has shown."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cryoscout.live.outputs import next_json, next_text
from cryoscout.live.past import moment_as_of
from cryoscout.live.running import LiveSession
from cryoscout.live.server import advisor_of
from cryoscout.live.settings import LiveSettings
from cryoscout.session.following import FollowedSession
from cryoscout.session.store import SessionStore

EPU = Path(__file__).parents[1] / "formats" / "data" / "epu"


def served(folder, **settings):
    return LiveSession(FollowedSession.open(folder), LiveSettings(clock_scale=0.0, **settings), "test")


def test_the_next_step_is_a_look_until_a_square_has_shown_its_holes(cli, tmp_path):
    assert cli("import -o run.session", EPU / "harvest_session" / "EpuSession.dm").code == 0
    live = served(tmp_path / "run.session", time_model="y1-looks-as-sketched")
    moment = live.advise()
    said = moment.content["verdict"]
    assert said["verb"] == "LOOK"
    assert said["sentence"].startswith(f"Look at square {said['place']} of grid 19503066")
    assert moment.content["next"] is None
    assert moment.content["holes"] == []
    assert [look["order"] for look in moment.content["looks"]] == [1, 2, 3, 4, 5]
    assert moment.content["looks"][0]["square"] == said["place"]
    assert {row["advice"] for row in moment.squares} == {"look into"}
    written = next_json("run", moment, time.time(), "advise")
    assert (written["planned"], written["holes"]) == ([], [])
    assert written["looks"][0]["square"] == said["place"]
    assert f"verdict LOOK {said['place']}" in next_text(written)
    assert f"look 1 - - {written['looks'][0]['rate']:.2f} {said['place']}" in next_text(written)


def test_who_does_not_want_looks_waits_for_holes(cli, tmp_path):
    assert cli("import -o run.session", EPU / "harvest_session" / "EpuSession.dm").code == 0
    said = served(tmp_path / "run.session", looks="free").advise().content
    assert said["verdict"]["verb"] == "WAIT"
    assert said["looks"] == []


@pytest.fixture
def atlas(once, tmp_path):
    return tmp_path / once(f"import {EPU / 'harvest_session' / 'EpuSession.dm'} -o run.session")


def said(folder, *payloads):
    with SessionStore.open(folder) as store:
        for payload in payloads:
            store.append("overridden", {"author": "AB", **payload})
    return served(folder, time_model="y1-looks-as-sketched").advise()


def test_without_time_for_a_look_it_is_over_and_nothing_is_waited_for(atlas):
    verdict = said(atlas, {"kind": "budget", "budget_min": 0.0}).content["verdict"]
    assert verdict["verb"] == "STOP"
    assert verdict["sentence"] == "No look fits in the 0 minutes that are left."


def test_the_past_of_an_atlas_is_shown_too(atlas):
    advisor = advisor_of(atlas, "run", LiveSettings(clock_scale=0.0), "test")
    try:
        with SessionStore.open(atlas) as store:
            event = store.newest_event()
        past = moment_as_of(advisor, event, datetime.now(UTC))
        assert past.content["verdict"]["verb"] == "LOOK"
    finally:
        advisor.close()
