"""An import meets what was recorded while the session ran: none is refused, nothing is lost, nothing stands twice."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from test_assemble import exposure, hole, outcomes, places, results

from cryoscout.intake.assemble import assemble
from cryoscout.session.store import SessionStore

HOLES = [hole("h1"), hole("h2"), hole("h3")]
BEFORE = places(HOLES, [exposure("e1", "h1", 1)])
LATER = places(HOLES, [exposure("e1", "h1", 1), exposure("e2", "h2", 2, stage_x_um=7.0)], results={"e2": 3.5})


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A session in a store, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "run.session"
    with SessionStore.create(folder) as store:
        store.save_import(assemble([BEFORE]).session, "run")
    return folder


@pytest.fixture
def store(made_once, tmp_path):
    with SessionStore.open(shutil.copytree(made_once, tmp_path / "run.session")) as store:
        yield store


def updated(store, *sources, meanwhile=()):
    """Import sources again, while another program records something between the read and the write, each time."""
    waiting = list(meanwhile)

    def extend(stored):
        session = assemble(sources, stored).session
        if waiting:
            with SessionStore.open(store._location) as other:
                waiting.pop(0)(other)
        return session

    added = store.save_update(extend, "later")
    session = store.load()
    store.rebuild()
    pd.testing.assert_frame_equal(store.load().exposures, session.exposures)
    return session, added


def resolutions(session):
    return dict(zip(session.exposures["exposure_id"], session.exposures["ctf_max_res_angstrom"], strict=True))


def test_a_result_recorded_between_read_and_write_of_an_import_stays(store):
    def recorded(other):
        other.record_outcome("e1", 4.0)
        other.record_outcome(other.record_imaged("h3"), 5.0)

    session, added = updated(store, LATER, meanwhile=[recorded])
    assert outcomes(session) == {"e1": "measured", "e2": "measured", "h3#1": "measured"}
    assert resolutions(session) == {"e1": 4.0, "e2": 3.5, "h3#1": 5.0}
    assert (added["exposures"], added["outcomes"]) == (1, 0)


def test_what_is_recorded_again_and_again_meanwhile_does_not_keep_an_import_away(store):
    resolution = iter(range(3, 20))
    again = [lambda other: other.record_outcome("e1", float(next(resolution)))] * 3
    session, _ = updated(store, LATER, meanwhile=again)
    assert resolutions(session) == {"e1": 5.0, "e2": 3.5}


@pytest.mark.parametrize(
    ("recorded", "of_file", "counts"),
    [
        pytest.param(4.0, 3.5, 3.5, marks=pytest.mark.slow),
        (3.0, 3.5, 3.0),
        pytest.param(150.0, 3.5, 3.5, marks=pytest.mark.slow),
    ],
)
def test_of_a_recorded_result_and_one_of_a_file_the_better_counts_and_both_stay(
    store, recorded, of_file, counts
):
    file = results({"e1": of_file})
    session, _ = updated(store, BEFORE, file, meanwhile=[lambda other: other.record_outcome("e1", recorded)])
    assert resolutions(session) == {"e1": counts}
    runs = session.ctf_runs[["source", "ctf_max_res_angstrom", "taken"]].fillna(999.0)
    kept = 999.0 if recorded >= 100 else recorded
    assert sorted(runs.itertuples(index=False, name=None)) == [
        ("", kept, counts == recorded),
        ("micrographs_ctf.star", of_file, counts == of_file),
    ]


def test_the_vendors_image_of_a_shot_recorded_live_is_that_shot(store):
    store.record_imaged("h2", pd.Timestamp("2024-01-01 10:02:30"))
    session, added = updated(store, LATER)
    assert outcomes(session) == {"e1": "pending", "e2": "measured"}
    row = session.exposures.iloc[1]
    assert (row["shot"], row["stage_x_um"]) == (1, 7.0)
    assert row["started_at"] == pd.Timestamp("2024-01-01 10:02:30")
    assert (added["exposures"], added["outcomes"]) == (0, 1)
    assert store.record_imaged("h2") == "e2"
    assert store.record_outcome("h2#1", 3.5) == "e2"
    assert updated(store, LATER)[1]["exposures"] == 0


def test_a_shot_recorded_live_meanwhile_is_the_vendors_image_too(store):
    def recorded(other):
        other.record_outcome(other.record_imaged("h2"), 6.0)

    session, _ = updated(store, LATER, meanwhile=[recorded])
    assert resolutions(session)["e2"] == 3.5
    assert session.ctf_runs["ctf_max_res_angstrom"].tolist() == [6.0, 3.5]
    assert session.ctf_runs["exposure_id"].tolist() == ["e2", "e2"]


def test_a_live_result_with_runs_keeps_them_under_the_vendors_name(store):
    store.record_outcome(store.record_imaged("h2"), 6.0)
    named = results({"h2#1": 5.0}, "live.star")
    session, _ = updated(store, BEFORE, named)
    assert resolutions(session)["h2#1"] == 5.0
    session, _ = updated(store, LATER)
    runs = session.ctf_runs[["exposure_id", "ctf_max_res_angstrom"]]
    assert list(runs.itertuples(index=False, name=None)) == [("e2", 6.0), ("e2", 5.0), ("e2", 3.5)]


@pytest.mark.slow
def test_steps_with_live_records_give_the_shots_that_one_import_gives(tmp_path):
    shots = [exposure(f"e{number}", "h1", number) for number in range(3)]
    full = places(HOLES, shots, shots=3)
    at_once = assemble([full]).session
    with SessionStore.create(tmp_path / "steps.session") as store:
        store.save_import(assemble([places(HOLES, shots[:1], shots=3)]).session, "run")
        store.record_imaged("h1", shot=3)
        store.record_imaged("h1", shot=2)
        updated(store, places(HOLES, shots[:2], shots=3))
        session, _ = updated(store, full)
    columns = ["exposure_id", "hole_id", "shot"]
    pd.testing.assert_frame_equal(session.exposures[columns], at_once.exposures[columns])
