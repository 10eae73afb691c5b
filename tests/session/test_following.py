"""What is followed event by event is what loading the store again gives, whoever writes to it, whatever they write."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_examples import NAN, assert_same, full_session, small_session

from cryoscout.core.errors import InputError
from cryoscout.session.following import FollowedSession
from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore
from cryoscout.session.vendor_fields import packed
from examples import share

HOLES = st.sampled_from(["h1", "h2", "h3"])
SHOTS = st.sampled_from([1, 2])
RESOLUTIONS = st.sampled_from([3.0, 5.5, 8.0, float("inf")])
TIMES = st.sampled_from(
    [None, pd.Timestamp("2024-01-01 11:00"), pd.Timestamp("2024-01-01 12:00:00.000000007")]
)
OVERRIDES = st.one_of(
    st.builds(
        lambda kind, hole_id: {"kind": kind, "hole_id": hole_id},
        st.sampled_from(["pin", "ban", "skip"]),
        HOLES,
    ),
    st.builds(lambda hole_id: {"kind": "undo", "of": "ban", "hole_id": hole_id}, HOLES),
    st.sampled_from(
        [
            {"kind": "ban", "square_id": "s"},
            {"kind": "order", "hole_ids": ["h3", "h1"]},
            {"kind": "pause"},
            {"kind": "resume"},
            {"kind": "budget", "budget_min": 30.0},
            {"kind": "threshold", "threshold_angstrom": 4.0},
            {"kind": "target", "good": 3, "by": "2024-01-01T18:00:00"},
            {"kind": "undo", "of": "budget"},
        ]
    ),
)


def imaged(store, hole_id, shot, started_at, vendor):
    store.record_imaged(hole_id, started_at, shot, f"v-{hole_id}-{shot}" if vendor else None)


def measured(store, hole_id, shot, resolution):
    store.record_outcome(f"{hole_id}#{shot}", resolution)


def predicted(store, hole_ids, model_id, threshold, at, p_good):
    rows = {"model_id": model_id, "threshold_angstrom": threshold, "p_good": p_good, "predicted_at": at}
    store.add_predictions(pd.DataFrame({"hole_id": hole_ids, "ctf_predicted_angstrom": NAN, **rows}))


def further_places(stored: Session, number: int) -> Session:
    """A hole more before or after the others, in a patch of its own or not, with an exposure; one hole moved."""
    patch = f"a patch {number}" if number % 2 else "p/1"
    hole = f"h0-{number}"
    if hole in set(stored.holes["hole_id"]):
        return stored
    patches = stored.patches
    if patch not in set(patches["patch_id"]):
        patches = pd.concat([patches, pd.DataFrame({"patch_id": [patch], "square_id": ["s"]})])
    new = {"hole_id": hole, "patch_id": patch, "x_px": NAN, "y_px": NAN, "x_um": number, "y_um": NAN}
    holes = pd.concat(
        [stored.holes, pd.DataFrame([new]).assign(image_row=pd.NA, chosen=pd.NA)], ignore_index=True
    )
    taken = {"exposure_id": f"x{number}", "hole_id": hole, "shot": 1, "outcome": "pending"}
    exposures = pd.concat(
        [stored.exposures, pd.DataFrame([taken]).assign(started_at=pd.NaT, ctf_max_res_angstrom=NAN)],
        ignore_index=True,
    )
    return replace(
        stored, patches=patches, holes=holes.assign(chosen=holes["hole_id"] == hole), exposures=exposures
    )


def moved_hole(stored: Session, number: int) -> Session:
    """h3 into another patch, so that its own is emptied."""
    if number % 2 == 0 or "p 2ü" not in set(stored.patches["patch_id"]):
        return stored
    holes = stored.holes.assign(patch_id=stored.holes["patch_id"].replace({"p 2ü": "p/1"}))
    return replace(stored, holes=holes, patches=stored.patches[stored.patches["patch_id"] != "p 2ü"])


def results_of_a_file(stored: Session, number: int) -> Session:
    """A further CTF run of every exposure that was taken; it counts where it is better; gaps are filled."""
    taken = stored.exposures[stored.exposures["outcome"] != "none"]
    if taken.empty:
        return stored
    runs = stored.ctf_runs
    last = runs.groupby("exposure_id")["run"].max()
    value = 2.0 + number % 3
    better = (taken["outcome"] == "pending") | ~(taken["ctf_max_res_angstrom"] <= value)
    ids = taken.loc[better, "exposure_id"]
    new = pd.DataFrame(
        {
            "exposure_id": taken["exposure_id"],
            "run": taken["exposure_id"].map(last).fillna(0).astype("int64") + 1,
            "source": "a.star",
            "reader": "relion",
            "ctf_max_res_angstrom": value,
            "taken": better,
            "fields": "{}",
        }
    )
    both = pd.concat(
        [runs.assign(taken=runs["taken"] & ~runs["exposure_id"].isin(ids)), new], ignore_index=True
    )
    is_better = stored.exposures["exposure_id"].isin(ids)
    exposures = stored.exposures.assign(
        outcome=stored.exposures["outcome"].mask(is_better, "measured"),
        ctf_max_res_angstrom=stored.exposures["ctf_max_res_angstrom"].mask(is_better, value),
        started_at=stored.exposures["started_at"].fillna(pd.Timestamp("2024-01-01 09:00")),
        stage_x_um=stored.exposures["stage_x_um"].fillna(float(number)),
    )
    return replace(stored, exposures=exposures, ctf_runs=both)


def vendors_names(stored: Session, number: int) -> Session:
    """Every shot that was recorded live gets its vendor's id; more fields and provenance; more shots."""
    ids = stored.exposures["exposure_id"].str.replace(r"^(h\d)#(\d)$", r"v-\1-\2", regex=True)
    new = dict(zip(stored.exposures["exposure_id"], ids, strict=True))
    fields = packed({"h1": {"Label": str(number)}}, f"{number}.nav", "serialem", stored.vendor_fields)
    file = pd.DataFrame({"table": ["holes"], "field": ["x_um"], "file": [f"{number}"], "reader": ["hand"]})
    return replace(
        stored,
        info=stored.info.model_copy(update={"shots": stored.info.shots + 1}),
        exposures=stored.exposures.assign(exposure_id=ids),
        ctf_runs=stored.ctf_runs.assign(exposure_id=stored.ctf_runs["exposure_id"].map(new).astype("str")),
        vendor_fields=pd.concat([stored.vendor_fields, fields], ignore_index=True),
        provenance=pd.concat([stored.provenance, file], ignore_index=True),
    )


IMPORTS = st.sampled_from([further_places, moved_hole, results_of_a_file, vendors_names])
STEPS = st.one_of(
    st.builds(lambda *said: lambda store: imaged(store, *said), HOLES, SHOTS, TIMES, st.booleans()),
    st.builds(lambda *said: lambda store: measured(store, *said), HOLES, SHOTS, RESOLUTIONS),
    st.builds(
        lambda *said: lambda store: predicted(store, *said),
        st.sampled_from([["h1"], ["h2", "h3"], ["h1", "h1"]]),
        st.sampled_from(["m", "n"]),
        st.sampled_from([6.0, 4.0]),
        st.sampled_from([pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02"), pd.NaT]),
        st.floats(0, 1),
    ),
    st.builds(lambda said: lambda store: store.append("overridden", said), OVERRIDES),
    st.builds(
        lambda kind: lambda store: store.append(kind, {"why": "x"}), st.sampled_from(["planned", "error"])
    ),
    st.builds(
        lambda extend, number: (
            lambda store: store.save_update(lambda stored: extend(stored, number), "later")
        ),
        IMPORTS,
        st.integers(0, 5),
    ),
)


def assert_follows(followed: FollowedSession, loaded: Session, with_session: bool):
    for threshold in (6.0, 4.0):
        np.testing.assert_array_equal(followed.good_by_hole(threshold), loaded.good_by_hole(threshold))
    np.testing.assert_array_equal(followed.results_by_hole(), loaded.results_by_hole())
    np.testing.assert_array_equal(followed.imaged_by_hole(), loaded.imaged_by_hole())
    assert followed.last_imaged_hole() == loaded.last_imaged_hole()
    assert followed.overrides == loaded.overrides
    assert followed.n_holes == loaded.n_holes
    if with_session:
        assert_same(followed.session, loaded)
        assert followed.session.overrides == loaded.overrides


@settings(max_examples=share(16, otherwise=25))
@given(
    begins_full=st.booleans(),
    steps=st.lists(st.tuples(STEPS, st.integers(0, 1), st.booleans(), st.booleans()), max_size=10),
)
def test_after_every_event_it_is_what_the_store_holds(tmp_path_factory, begins_full, steps):
    folder = tmp_path_factory.mktemp("followed") / "run.session"
    with SessionStore.create(folder) as one:
        one.save_import(full_session() if begins_full else small_session(), "by hand")
        two, followed = SessionStore.open(folder), FollowedSession.open(folder)
        for step, writer, catches_up, with_session in steps:
            try:
                step((one, two)[writer])
            except InputError:
                continue
            if catches_up:
                followed.catch_up()
                assert_follows(followed, one.load(), with_session)
        followed.catch_up()
        assert_follows(followed, one.load(), with_session=True)
        one.rebuild()
        assert_follows(followed, one.load(), with_session=True)
        two.close()
        followed.store.close()


@pytest.fixture
def store(tmp_path):
    with SessionStore.create(tmp_path / "run.session") as store:
        store.save_import(small_session(), "by hand")
        yield store


def test_it_says_which_events_came(store, tmp_path):
    with FollowedSession.open(tmp_path / "run.session") as followed:
        assert followed.catch_up().events == ()
        store.append("error", {"message": "lost beam"})
        store.record_imaged("h3")
        assert [event.kind for event in followed.catch_up().events] == ["error", "imaged"]
        assert followed.catch_up().events == ()
        assert followed.last_event.id == max(event.id for event in store.events())


def test_events_are_followed_many_at_a_time(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cryoscout.session.store_contents.EVENTS_PER_PIECE", 3)
    with FollowedSession.open(tmp_path / "run.session") as followed:
        numbers = [store.append("error", {"number": number}) for number in range(7)]
        assert [event.payload["number"] for event in followed.catch_up().events] == list(range(7))
        assert [event.id for event in store.events(after=numbers[3])] == numbers[4:]


def test_a_session_that_was_given_out_does_not_change(store, tmp_path):
    with FollowedSession.open(tmp_path / "run.session") as followed:
        store.record_imaged("h3")
        followed.catch_up()
        before, expected = followed.session, store.load()
        good = followed.good_by_hole(6.0)
        store.record_outcome("h3#1", 3.0)
        store.record_imaged("h2")
        followed.catch_up()
        assert_same(before, expected)
        assert np.isnan(good[2])
        assert followed.session is followed.session
        assert_same(followed.session, store.load())


def test_a_store_that_was_replaced_is_loaded_anew(store, tmp_path):
    with FollowedSession.open(tmp_path / "run.session") as followed:
        followed.session  # noqa: B018
        with SessionStore.create(tmp_path / "run.session", force=True) as other:
            other.save_import(full_session(), "anew")
            other.record_imaged("h3")
        came = followed.catch_up()
        assert came.is_replaced
        assert came.events == ()
        with SessionStore.open(tmp_path / "run.session") as again:
            assert_same(followed.session, again.load())


def test_a_hole_is_found_by_its_id(store, tmp_path):
    with FollowedSession.open(tmp_path / "run.session") as followed:
        assert [followed.hole_index(hole_id) for hole_id in ("h1", "h2", "h3")] == [0, 1, 2]
        with pytest.raises(InputError, match=r"Got 'h33' instead\. Did you mean 'h3'"):
            followed.hole_index("h33")


def test_what_cannot_be_folded_is_read_as_it_is_stored_and_no_event_is_lost(tmp_path, monkeypatch):
    folder = tmp_path / "night.session"
    with SessionStore.create(folder) as store:
        store.save_import(small_session(), source="tests")
    with FollowedSession.open(folder) as followed, SessionStore.open(folder) as store:
        fold, failed = FollowedSession._fold, []

        def failing(self, event):
            if event.kind == "measured":
                failed.append(event.id)
                raise KeyError("a defect")
            fold(self, event)

        monkeypatch.setattr(FollowedSession, "_fold", failing)
        holes = store.load().holes["hole_id"].tolist()
        exposure = store.record_imaged(holes[0], None, 2)
        store.record_outcome(exposure, 3.0)
        store.append("noted", {"author": "AB", "text": "after it"})
        load = FollowedSession._load
        monkeypatch.setattr(FollowedSession, "_load", lambda self: (_ for _ in ()).throw(OSError("held")))
        with pytest.raises(OSError, match="held"):
            followed.catch_up()
        monkeypatch.setattr(FollowedSession, "_load", load)
        caught = followed.catch_up()
        assert [event.kind for event in caught.events] == ["imaged", "measured", "noted"]
        assert failed
        assert_same(followed.session, store.load())
        assert followed.catch_up().events == ()
