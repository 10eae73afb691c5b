"""Shots recorded while the session runs: once each, and one exposure with what the vendor's files say of them later."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_examples import small_session

from cryoscout.core.errors import InputError
from cryoscout.session.live_exposures import (
    live_exposure_id,
    shot_of_live_id,
    shots_of_vendor_exposures,
    with_vendor_ids,
)
from cryoscout.session.store import SessionStore
from examples import share


@pytest.fixture
def store(tmp_path):
    with SessionStore.create(tmp_path / "small.session") as store:
        store.save_import(small_session(), "by hand")
        yield store


def kinds(store):
    return [event.kind for event in store.events() if event.kind != "imported"]


def test_the_same_shot_is_recorded_once(store):
    first = store.record_imaged("h3", shot=2)
    assert first == "h3#2"
    assert store.record_imaged("h3", shot=2) == first
    assert store.record_imaged("h3", shot=2, exposure_id="h3#2") == first
    assert kinds(store) == ["imaged"]


def test_the_same_result_is_recorded_once_and_another_one_is_new(store):
    exposure_id = store.record_imaged("h3")
    for resolution in (4.5, 4.5, float("inf"), 250.0, 4.5):
        assert store.record_outcome(exposure_id, resolution) == exposure_id
    assert kinds(store) == ["imaged", "measured", "measured", "measured"]
    assert store.load().good_by_hole(6.0)[2] == 1


def test_a_time_that_was_not_known_is_filled_and_a_known_one_stays(store):
    store.record_imaged("h3")
    for hour in (11, 12):
        store.record_imaged("h3", pd.Timestamp(f"2024-01-01 {hour}:00"))
    assert kinds(store) == ["imaged", "imaged"]
    assert store.load().exposures["started_at"].tolist()[-1] == pd.Timestamp("2024-01-01 11:00")


def test_a_shot_that_the_vendor_named_before_keeps_that_name(store):
    assert store.record_imaged("h1") == "e1"  # imaged, in an import
    assert store.record_imaged("h2") == "e2"  # planned, in an import
    assert kinds(store) == ["imaged"]
    assert store.load().exposures["exposure_id"].tolist() == ["e1", "e2"]
    assert store.record_outcome("h2#1", 3.0) == "e2"


def test_a_shot_recorded_live_takes_the_vendors_name_when_it_is_known(store):
    store.record_imaged("h3")
    store.record_outcome("h3#1", 4.0)
    assert store.record_imaged("h3", exposure_id="v3") == "v3"
    assert store.record_outcome("h3#1", 4.0) == store.record_outcome("v3", 4.0) == "v3"
    assert store.record_imaged("h3") == "v3"
    assert kinds(store) == ["imaged", "measured", "imaged"]
    for _ in range(2):
        last = store.load().exposures.iloc[-1]
        assert (last["exposure_id"], last["outcome"], last["ctf_max_res_angstrom"]) == ("v3", "measured", 4.0)
        store.rebuild()
    with pytest.raises(InputError, match=r"must be imaged once\. Got shot 1 of hole 'h3' again"):
        store.record_imaged("h3", exposure_id="w3")


def test_ids_of_live_shots_can_be_read_back():
    for hole_id in ("h1", "a#1", "Ö x"):
        assert shot_of_live_id(live_exposure_id(hole_id, 12)) == (hole_id, 12)
    for other in ("h1", "#1", "h1#", "h1#x", "h1#²"):
        assert shot_of_live_id(other) is None


def rows(*said):
    return pd.DataFrame(list(said), columns=["exposure_id", "hole_id", "shot"]).astype({"shot": "int64"})


@pytest.mark.parametrize(
    ("before", "n_new", "shots"),
    [
        ([], 2, [1, 2]),
        ([("v1", "h", 1)], 2, [2, 3]),
        ([("h#1", "h", 1)], 1, [1]),
        ([("h#1", "h", 1)], 3, [1, 2, 3]),
        ([("h#2", "h", 2)], 1, [2]),
        ([("h#2", "h", 2)], 2, [1, 2]),
        ([("v1", "h", 1), ("h#2", "h", 2)], 1, [2]),
        ([("v1", "h", 1), ("h#2", "h", 2)], 2, [2, 3]),
        ([("h#1", "h", 1), ("h#2", "h", 2)], 1, [1]),
    ],
)
def test_the_images_of_a_file_are_the_shots_that_were_recorded(before, n_new, shots):
    new = pd.DataFrame({"hole_id": ["h"] * n_new})
    assert shots_of_vendor_exposures(rows(*before), new).tolist() == shots


@settings(max_examples=share(100))
@given(
    before=st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), st.booleans(), max_size=8),
    new=st.lists(st.sampled_from("abc"), max_size=6),
)
def test_no_shot_is_given_twice_and_no_live_one_is_left_while_there_are_images(before, new):
    stored = rows(
        *(
            (f"{hole}#{shot}" if is_live else f"v-{hole}-{shot}", hole, shot)
            for (hole, shot), is_live in before.items()
        )
    )
    images = pd.DataFrame(
        {"exposure_id": [f"new{n}" for n in range(len(new))], "hole_id": pd.Series(new, dtype="str")}
    )
    images = images.assign(shot=shots_of_vendor_exposures(stored, images))
    ids = with_vendor_ids(stored, images)
    for hole in "abc":
        named = [shot for (of, shot), is_live in before.items() if of == hole and not is_live]
        live = [shot for (of, shot), is_live in before.items() if of == hole and is_live]
        given = images.loc[images["hole_id"] == hole, "shot"].tolist()
        assert given == sorted(set(given))  # in the order of time, each once
        assert not set(given) & set(named)
        adopted = [old for old in ids if old.startswith(f"{hole}#")]
        assert len(adopted) == min(len(live), len(given))
