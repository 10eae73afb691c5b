"""A session that is played: the watcher, the server and the API give the route of a replay, hole for hole."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime

import pandas as pd
import pytest
from live_samples import epu_session, serialem_session

from cryoscout.advice.setting import AdviceRequest, setting_of
from cryoscout.core.errors import InputError
from cryoscout.core.telling import SILENT
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, read_session, store_session
from cryoscout.live.played_files import played_files
from cryoscout.live.serving import ServeRequest, serving
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.from_session import truth_from_session
from cryoscout.routing.replay import only_measured, replay
from cryoscout.session.named import load_session
from cryoscout.session.store import SessionStore


def quiet(message):
    """Nothing is shown."""


def played(request, limit_s=240.0):
    """(route by microscope time, the last moment) of a replay that was served to its end."""
    deadline = time.monotonic() + limit_s
    with serving(request, quiet) as served:
        [advisor] = served.advisors.values()
        while time.monotonic() < deadline and advisor.moment.content["verdict"]["verb"] != "STOP":
            time.sleep(0.1)
        assert advisor.moment.content["verdict"]["verb"] == "STOP"
        assert advisor.troubles == {}
        session = advisor.reading(lambda store: store.load())
        return session.exposures.sort_values("started_at")["hole_id"].tolist(), advisor.moment


@pytest.fixture
def measured(tmp_path, simulated):
    folder = tmp_path / "source.session"
    with SessionStore.create(folder) as store:
        store.save_import(simulated, source="tests")
    return folder


def expected_route(spec, budget_min, start):
    source = load_session(str(spec))
    truth = truth_from_session(source)
    setting = setting_of(source, AdviceRequest(budget_min, as_new=True))
    [result] = replay(
        only_measured(setting.problem, truth), truth, setting.policy, [source.hole_index(start)], 0
    )
    return [source.holes["hole_id"].iloc[hole] for hole in result.route]


def test_a_microscope_that_takes_advice_goes_the_route_of_a_replay(measured, tmp_path):
    before = sorted((path, path.stat().st_mtime_ns) for path in measured.rglob("*"))
    request = ServeRequest(
        (str(measured),), replay=0.0, follow="advice", budget_min=12.0, committed=0, hysteresis=0.0
    )
    route, moment = played(request)
    assert route[1:] == expected_route(measured, 12.0, route[0])
    assert len(route) > 4
    assert moment.facts["followed"] == moment.facts["compared"] == len(route)
    assert sorted((path, path.stat().st_mtime_ns) for path in measured.rglob("*")) == before


def test_the_bound_stands_at_every_drawn_point_and_nothing_collected_is_above_it(measured):
    source = load_session(str(measured))
    problem = setting_of(source, AdviceRequest(12.0, as_new=True)).problem
    truth = truth_from_session(source)
    request = ServeRequest((str(measured),), replay=0.0, follow="advice", budget_min=12.0)
    with serving(request, quiet) as served:
        [advisor] = served.advisors.values()
        deadline = time.monotonic() + 240.0
        while time.monotonic() < deadline and advisor.moment.content["results"] < 3:
            time.sleep(0.05)
        moment = advisor.moment
        collected = served.collected(None, moment)
        points = served.replay_bound.points(moment, collected)
    assert len(points) == len(collected) + len(moment.advice.outlook.minutes)
    start = source.hole_index(served.replay_bound.first_exposure()[0])
    began = datetime.fromisoformat(collected[0][0])
    elapsed = (moment.microscope_at - began).total_seconds() / 60.0
    for point in points:
        minutes = max(1e-9, elapsed + point["minutes"])
        most = good_holes_bound(only_measured(problem, truth).with_budget(minutes + 1e-4), truth, start)
        assert point["good"] == truth.good[start] + most, point
    for point, (at, good) in zip(points, collected, strict=False):
        assert point["at"] == at
        assert point["good"] >= good


@pytest.mark.slow
def test_y1_is_replayed_hole_for_hole():
    request = ServeRequest(("y1",), replay=0.0, budget_min=120.0, committed=0, hysteresis=0.0)
    route, _ = played(request, 900.0)
    assert route[1:] == expected_route("y1", 120.0, route[0])


def test_a_record_is_played_as_it_was_and_kept_where_it_is_asked_for(measured, tmp_path, simulated):
    few = tmp_path / "few.session"
    from dataclasses import replace

    with SessionStore.create(few) as store:
        store.save_import(replace(simulated, exposures=simulated.exposures.iloc[:12]), source="tests")
    kept = tmp_path / "kept.session"
    request = ServeRequest((str(few),), replay=0.0, follow="record", output=kept)
    with serving(request, quiet) as served:
        [advisor] = served.advisors.values()
        deadline = time.monotonic() + 120.0
        while time.monotonic() < deadline and advisor.moment.content["results"] < 12:
            time.sleep(0.1)
    with SessionStore.open(kept) as store:
        session = store.load()
    source = load_session(str(few))
    assert dict(zip(session.exposures["hole_id"], session.exposures["outcome"], strict=True)) == dict(
        zip(source.exposures["hole_id"], source.exposures["outcome"], strict=True)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"follow": "x"}, "record or advice"), ({"sessions": ("y1", "y1-2022")}, "one session")],
)
def test_what_cannot_be_played_is_refused(measured, changes, message):
    request = ServeRequest(**{"sessions": (str(measured),), "replay": 0.0, **changes})
    with pytest.raises(InputError, match=message), serving(request, quiet):
        pass


def test_a_session_without_results_cannot_be_played(stored):
    with (
        pytest.raises(InputError, match="must have results"),
        serving(ServeRequest((str(stored),), replay=0.0), quiet),
    ):
        pass


@pytest.mark.parametrize(
    ("vendor", "made"),
    [
        pytest.param("epu", epu_session, marks=pytest.mark.slow),
        ("serialem", serialem_session),
    ],
    ids=["epu", "serialem"],
)
def test_a_record_with_the_vendors_files_is_played_as_these_files(tmp_path, vendor, made):
    """The vendor's files grow into a folder, half written and renamed, and the watcher reads them as a microscope's."""
    folder, star = tmp_path / "run", tmp_path / "micrographs_ctf.star"
    made(folder)
    options = ReadOptions(permissive=True)
    names = read_session(Sources([folder], [], options, "tests"), SILENT).session.exposures["exposure_id"]
    rows = "".join(f"{name}.mrc {3.0 + place:.1f}\n" for place, name in enumerate(names))
    star.write_text(f"data_\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n{rows}")
    recorded, kept = tmp_path / "recorded.session", tmp_path / "kept.session"
    read = read_session(Sources([folder, star], [], options, "tests"), SILENT)
    store_session(read, recorded, "tests", False, SILENT, None)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    source = load_session(str(recorded))
    with serving(ServeRequest((str(recorded),), replay=0.0, output=kept), quiet) as served:
        [advisor] = served.advisors.values()
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline and advisor.moment.content["results"] < len(names):
            time.sleep(0.05)
    session = load_session(str(kept))
    assert session.info.format == vendor
    for table, key in (("exposures", "exposure_id"), ("holes", "hole_id")):
        columns = [key, "started_at", "ctf_max_res_angstrom"] if table == "exposures" else [key]
        expected, found = (
            getattr(each, table).sort_values(key)[columns].reset_index(drop=True)
            for each in (source, session)
        )
        pd.testing.assert_frame_equal(found, expected)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    if vendor == "serialem":
        # SerialEM took their marks off; before the first exposure they had them.
        imaged = session.holes["hole_id"].isin(session.exposures["hole_id"])
        assert not source.holes.loc[
            source.holes["hole_id"].isin(session.exposures["hole_id"]), "chosen"
        ].any()
        assert session.holes.loc[imaged, "chosen"].all()
        assert not list(tmp_path.glob("kept*/**/*.tif")), "a movie was copied"


def test_of_a_session_that_names_files_beside_its_folder_these_are_not_played(tmp_path, monkeypatch):
    folder, outside = tmp_path / "epu", tmp_path / "outside.xml"
    epu_session(folder)
    outside.write_text("of somebody else")
    (folder / "linked.xml").symlink_to(outside)
    read = read_session(Sources([folder], [], ReadOptions(permissive=True), "tests"), SILENT)
    exposures = read.session.exposures.assign(outcome="measured", ctf_max_res_angstrom=3.0)
    recorded = tmp_path / "recorded.session"
    store_session(read, recorded, "tests", False, SILENT, None)
    named = SessionStore.files
    strange = dict.fromkeys(("../outside.xml", str(outside), "linked.xml"), (1, 1))
    monkeypatch.setattr(
        SessionStore,
        "files",
        lambda store: {key: {**files, **strange} for key, files in named(store).items()},
    )
    found = played_files(str(recorded), replace(read.session, exposures=exposures), quiet)
    assert found is not None
    assert found.first
    assert not strange.keys() & set(found.first)


def test_a_navigator_that_cannot_be_made_as_it_was_is_said_and_a_table_is_played(tmp_path):
    folder, said = tmp_path / "run", []
    serialem_session(folder)
    navigator = folder / "grid1.nav"
    read = read_session(Sources([folder], [], ReadOptions(permissive=True), "tests"), SILENT)
    session = replace(
        read.session,
        exposures=read.session.exposures.assign(outcome="measured", ctf_max_res_angstrom=3.0),
    )
    recorded = tmp_path / "recorded.session"
    store_session(read, recorded, "tests", False, SILENT, None)
    assert played_files(str(recorded), session, said.append) is not None
    assert said == []
    navigator.write_bytes(navigator.read_bytes().replace(b"[Item = 9]", b"[Item = 9"))
    assert played_files(str(recorded), session, said.append) is None
    [sentence] = said
    assert str(folder) in sentence
    assert "grid1.nav" in sentence
