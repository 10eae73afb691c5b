"""A later import adds rows and results to a store, and nothing else; its events alone rebuild the tables."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoscout.core.errors import StoreError
from cryoscout.session.model import Session, SessionInfo
from cryoscout.session.place import DATABASE
from cryoscout.session.store import SessionStore
from cryoscout.session.store_update import changes_between
from cryoscout.session.tables import TABLES
from cryoscout.session.vendor_fields import packed

NAN = float("nan")


def session(holes="h1 h2", patches="p1 p1", exposures=(("e1", "h1", NAN),), shots=1):
    """Two holes, one imaged and pending."""
    rows = pd.DataFrame(list(exposures), columns=["exposure_id", "hole_id", "ctf"])
    failed = rows["ctf"] >= 100
    outcome = np.where(rows["ctf"].isna(), "pending", np.where(failed, "failed", "measured"))
    patch_of_hole = patches.split()
    return Session(
        "run",
        SessionInfo(format="epu", shots=shots),
        pd.DataFrame({"grid_id": ["g"]}),
        pd.DataFrame({"square_id": ["s"], "grid_id": ["g"], "x_um": [1.5], "y_um": [NAN]}),
        pd.DataFrame({"patch_id": list(dict.fromkeys(patch_of_hole)), "square_id": "s"}),
        pd.DataFrame({"hole_id": holes.split(), "patch_id": patch_of_hole, "x_px": NAN, "y_px": NAN,
                      "image_row": pd.array([None] * len(patch_of_hole), dtype="Int64"), "x_um": 2.5, "y_um": 3.5}),
        pd.DataFrame({"exposure_id": rows["exposure_id"], "hole_id": rows["hole_id"],
                      "shot": rows.groupby("hole_id").cumcount() + 1,
                      "started_at": pd.Timestamp("2024-01-01 10:00:00.000000001"), "outcome": outcome,
                      "ctf_max_res_angstrom": rows["ctf"].mask(failed), "stage_x_um": 4.5, "stage_y_um": NAN}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """The session in a store, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "run.session"
    with SessionStore.create(folder) as store:
        store.save_import(session(), "first", files={"/data/run": {"a.xml": (1, 2), "b.xml": (3, 4)}})
    return folder


@pytest.fixture
def store(made_once, tmp_path):
    with SessionStore.open(shutil.copytree(made_once, tmp_path / "run.session")) as store:
        yield store


def assert_same(one, other):
    assert (one.name, one.info) == (other.name, other.info)
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table))


LATER = session("h1 h2 h3", "p1 p2 p2", (("e1", "h1", 4.5), ("e2", "h1", 200.0), ("e3", "h3", NAN)), shots=2)


def test_new_rows_and_results_are_written_and_the_events_rebuild_them(store):
    added = store.save_update(lambda _: LATER, "second")
    assert added == {
        "grids": 0, "squares": 0, "patches": 1, "holes": 1, "exposures": 2, "outcomes": 1, "further_ctf_runs": 0,
        "changed_choices": 0, "completed_rows": 0, "predictions": 0,
    }  # fmt: skip
    assert_same(store.load(), LATER)
    store.rebuild()
    assert_same(store.load(), LATER)
    assert store.files() == {"/data/run": {"a.xml": (1, 2), "b.xml": (3, 4)}}


def test_a_patch_that_nothing_is_left_in_goes(store):
    moved = session(patches="p1 p2")
    store.save_update(lambda _: moved, "second")
    back = session("h1 h2 h3", "p1 p3 p3")
    store.save_update(lambda _: back, "third")
    assert store.load().patches["patch_id"].tolist() == ["p1", "p3"]
    store.rebuild()
    assert_same(store.load(), back)


def test_the_files_of_a_later_import_replace_what_was_known_of_them(store):
    store.save_update(
        lambda _: session(), "second", files={"/data/run": {"b.xml": (5, 6), "c.xml": (7, 8)}, "/data/x": {}}
    )
    store.rebuild()
    assert store.files() == {"/data/run": {"a.xml": (1, 2), "b.xml": (5, 6), "c.xml": (7, 8)}}


def test_where_nothing_is_new_nothing_is_written(store, tmp_path):
    store.close()
    database = tmp_path / "run.session" / DATABASE
    before = database.read_bytes()
    with SessionStore.open(database.parent) as again:
        n_events = len(list(again.events()))
        assert set(again.save_update(lambda _: session(), "second", files={"/data/run": {}}).values()) == {0}
        assert len(list(again.events())) == n_events
    assert database.read_bytes() == before


def test_files_that_another_update_has_read_meanwhile_are_no_second_event(store):
    files = {"a": {"one.xml": (3, 5), "two.xml": (4, 5)}}
    store.save_update(lambda session: session, "again", files=files)
    events = list(store.events())
    store.save_update(lambda session: session, "again", files=files)
    assert list(store.events()) == events
    store.save_update(lambda session: session, "again", files={"a": {"one.xml": (3, 6), "two.xml": (4, 5)}})
    assert len(list(store.events())) == len(events) + 2


def test_missing_positions_and_times_are_filled(store):
    given = pd.DataFrame({"x_px": [7.0, NAN], "y_px": [NAN, 8.0]})
    filled = session()
    filled = replace(
        filled,
        squares=filled.squares.assign(y_um=9.0),
        holes=filled.holes.assign(**given),
        exposures=filled.exposures.assign(stage_y_um=5.0),
    )
    added = store.save_update(lambda _: filled, "second")
    # The square, both holes and the exposure.
    assert added == {**dict.fromkeys(added, 0), "completed_rows": 4}
    assert_same(store.load(), filled)
    store.rebuild()
    assert_same(store.load(), filled)


def moved_square(one):
    return replace(one, squares=one.squares.assign(x_um=9.0))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (session("h1", "p1"), r"\(holes\)\. Got none with 'h2' instead; nothing was written"),
        (session(exposures=()), r"\(exposures\)\. Got none with 'e1'"),
        (session(exposures=(("e1", "h2", NAN),)), r"\(exposures\)\. Got other values for 'e1'"),
        (session(patches="p2 p1"), r"\(holes\)\. Got another patch for 'h1', which was imaged before"),
        (moved_square(session()), r"\(squares\)\. Got other values for 's' instead"),
        (
            replace(session(), info=SessionInfo(format="serialem")),
            r"\(format of the session\)\. Got 'serialem'",
        ),
        (
            replace(session(), provenance=pd.DataFrame([list("abcd")], columns=list(TABLES["provenance"]))),
            None,
        ),
    ],
)
def test_what_is_stored_is_never_changed(store, changed, message):
    if message is None:  # a row more in a table without ids is new
        assert [each["part"] for each in changes_between(session(), changed)] == ["rows"]
        with pytest.raises(StoreError, match=r"\(provenance\)\. Got other rows"):
            changes_between(changed, session())
        return
    n_events = len(list(store.events()))
    with pytest.raises(StoreError, match=message):
        store.save_update(lambda _: changed, "second")
    assert_same(store.load(), session())
    assert len(list(store.events())) == n_events


def test_a_result_is_kept_whatever_a_later_import_says(store):
    store.save_update(lambda _: session(exposures=(("e1", "h1", 4.5),)), "second")
    with pytest.raises(
        StoreError, match=r"Got other values for 'e1'.*Remedy: import into a new place with -o"
    ):
        store.save_update(lambda _: session(exposures=(("e1", "h1", 3.5),)), "third")


def test_fewer_shots_than_before_are_refused(store):
    store.save_update(lambda _: LATER, "second")
    with pytest.raises(StoreError, match=r"\(shots of the session\)\. Got 1 instead"):
        store.save_update(
            lambda _: replace(LATER, info=SessionInfo(format="epu"), exposures=LATER.exposures.head(1)),
            "third",
        )


def test_what_the_advisor_recorded_meanwhile_is_not_lost(store):
    store.record_imaged("h2")
    with pytest.raises(StoreError, match="nothing was written"):
        store.save_update(lambda _: LATER, "read before the hole was imaged")
    assert store.load().imaged_by_hole().all()


def with_runs(one, *runs):
    """The session with CTF runs: exposure, number, resolution, whether it is taken."""
    rows = pd.DataFrame(list(runs), columns=["exposure_id", "run", "ctf_max_res_angstrom", "taken"])
    return replace(one, ctf_runs=rows.assign(source="a.star", reader="relion", defocus_um=1.5, fields="{}"))


MEASURED = with_runs(session(exposures=(("e1", "h1", 4.5),)), ("e1", 1, 4.5, True))
BETTER = with_runs(session(exposures=(("e1", "h1", 3.5),)), ("e1", 1, 4.5, False), ("e1", 2, 3.5, True))


def test_a_better_run_gives_the_result_and_the_other_stays(store):
    assert store.save_update(lambda _: MEASURED, "second")["further_ctf_runs"] == 0
    added = store.save_update(lambda _: BETTER, "third")
    assert {what: count for what, count in added.items() if count} == {"further_ctf_runs": 1}
    assert_same(store.load(), BETTER)
    store.rebuild()
    assert_same(store.load(), BETTER)
    assert store.load().exposures["ctf_max_res_angstrom"].tolist() == [3.5]


def test_a_run_that_was_not_taken_can_be_taken_later(store):
    store.save_update(lambda _: MEASURED, "second")
    store.record_outcome("e1", 9.0)
    recorded = store.load()
    assert recorded.ctf_runs["taken"].tolist() == [False]
    store.save_update(lambda _: replace(MEASURED, exposures=MEASURED.exposures), "third")
    assert_same(store.load(), MEASURED)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (session(exposures=(("e1", "h1", 4.5),)), r"\(ctf_runs\)\. Got other runs of 'e1' instead"),
        pytest.param(with_runs(session(exposures=(("e1", "h1", 5.0),)), ("e1", 1, 5.0, True)),
         r"\(ctf_runs\)\. Got other runs of an exposure", marks=pytest.mark.slow),
        (with_runs(MEASURED, ("e1", 1, 4.5, False)), r"\(ctf_runs\)\. Got no run that is taken where one was"),
        (with_runs(session(exposures=(("e1", "h1", 3.5),)), ("e1", 1, 4.5, False)),
         r"\(exposures\)\. Got other values for 'e1'"),
    ],
)  # fmt: skip
def test_a_run_that_is_stored_is_never_lost_or_changed(store, changed, message):
    store.save_update(lambda _: MEASURED, "second")
    n_events = len(list(store.events()))
    with pytest.raises(StoreError, match=message):
        store.save_update(lambda _: changed, "third")
    assert_same(store.load(), MEASURED)
    assert len(list(store.events())) == n_events


def chosen(*values):
    one = session()
    return replace(one, holes=one.holes.assign(chosen=pd.array(values, dtype="boolean")))


def test_what_the_operator_chooses_later_is_stored(store):
    for values in ((True, None), (True, False), (False, True)):
        added = store.save_update(lambda _, values=values: chosen(*values), "later")
        assert_same(store.load(), chosen(*values))
    assert added["changed_choices"] == 2
    store.rebuild()
    assert_same(store.load(), chosen(False, True))
    with pytest.raises(StoreError, match=r"it is not known any more whether they were chosen"):
        store.save_update(lambda _: chosen(None, True), "later")


def test_vendor_fields_are_added_at_the_end(store):
    first = replace(session(), vendor_fields=packed({"h1": {"Label": "7"}}, "a.nav", "serialem"))
    later = packed({"h1": {"Label": "8"}}, "a.nav", "serialem", first.vendor_fields)
    second = replace(first, vendor_fields=pd.concat([first.vendor_fields, later], ignore_index=True))
    for one in (first, second):
        store.save_update(lambda _, one=one: one, "later")
        assert_same(store.load(), one)
    assert store.load().fields_of("h1") == {"Label": "8"}
    with pytest.raises(StoreError, match=r"\(vendor_fields\)\. Got other rows"):
        store.save_update(lambda _: first, "without")
