"""Following sources while they are written: call by call the session that reading everything again would give."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pandas as pd
import pytest
from follow_samples import (
    PERMISSIVE,
    assert_same,
    begun,
    everything,
    exposures_to_come,
    live_session,
    loaded,
    stored_twice,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import StoreError
from cryoscout.core.telling import SILENT
from cryoscout.intake.follow import FollowedSources
from cryoscout.intake.take_in import read_session, update_session
from cryoscout.session.store import SessionStore
from cryoscout.session.vendor_fields import unpacked
from examples import IS_USUAL_RUN, share


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """A whole reading waits for files that are half written; here nobody writes them in the meantime."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


live_sessions = st.fixed_dictionaries(
    {
        "exposures": st.integers(2, 6 if IS_USUAL_RUN else 14),
        "shots": st.integers(1, 3),
        "along": st.integers(2, 4),
        "seed": st.integers(0, 5),
        "has_session": st.booleans(),
        "has_squares": st.booleans(),
        "is_named": st.booleans(),
    }
)


@settings(max_examples=share(8), deadline=None)
@given(made=live_sessions, random_=st.randoms(use_true_random=False), batch=st.integers(1, 9))
def test_call_by_call_the_session_is_that_of_reading_everything_again(tmp_path_factory, made, random_, batch):
    follow_and_read_again(live_session(tmp_path_factory.mktemp("live"), **made), made, random_, batch)


def follow_and_read_again(live, made, random_, batch):
    """Everything comes in some order, in batches, some of it half written first; returns why all was read again."""
    if not (made["has_session"] or made["has_squares"]):
        # Something of EPU must be there, or there is nothing to begin with.
        first = min(key for key in live.to_come if "_Data_" in key)
        live.write(first, live.to_come.pop(first))
    if not made["has_squares"]:
        first = min(live.to_come)
        live.write(first, live.to_come.pop(first))
    live.write_star()
    sources, followed_place, again_place = stored_twice(live, PERMISSIVE, [live.star])
    followed = FollowedSources(followed_place, sources)
    assert followed.take_in().whole_because == "the first reading"
    left = [*live.to_come]
    random_.shuffle(left)
    unmeasured = list(live.names)
    random_.shuffle(unmeasured)
    half: list[str] = []
    whole: list[str] = []
    while left or half or unmeasured:
        changed = [live.write(key, live.to_come[key]) for key in half]
        half = []
        for _ in range(random_.randint(1, batch)):
            if not left:
                break
            key = left.pop()
            if random_.random() < 0.2:
                half.append(key)
                changed.append(live.write(key, live.to_come[key][: random_.randint(0, 9000)]))
            else:
                changed.append(live.write(key, live.to_come[key]))
        if unmeasured and random_.random() < 0.6:
            for name in [unmeasured.pop() for _ in range(min(len(unmeasured), random_.randint(1, 4)))]:
                resolution = random_.choice(["3.25", "inf", "25.0", "8.5"])
                live.rows.insert(
                    random_.choice([0, len(live.rows), len(live.rows)]),
                    f"Movies/{name}_Fractions.mrc 11000.5 10500.25 {resolution} \n",
                )
            changed.append(live.write_star())
        random_.shuffle(changed)
        whole.append(followed.take_in(changed).whole_because)
        update_session(again_place, sources, SILENT)
        (one, stamps), (other, other_stamps) = loaded(followed_place), loaded(again_place)
        assert_same(one, other)
        assert stamps == other_stamps
    assert update_session(followed_place, sources, SILENT)[1] == {}
    return whole


@pytest.mark.parametrize(
    "how",
    [
        {"is_named": True},
        pytest.param({"has_session": False, "shots": 3}, marks=pytest.mark.slow),
        pytest.param(
            {"has_session": False, "has_squares": False, "shots": 2, "exposures": 5}, marks=pytest.mark.slow
        ),
    ],
    ids=["named-before", "shots-not-declared", "holes-not-listed"],
)
def test_what_comes_one_by_one_is_what_an_update_after_each_gives(tmp_path, how):
    live, followed, sources, place, again_place = begun(tmp_path, **how)
    images = sorted(key for key in live.to_come if "FoilHoles" in key)
    for key in [*images[:2], *exposures_to_come(live), *images[2:]]:
        followed.take_in([live.write(key, live.to_come[key])])
        update_session(again_place, sources, SILENT)
    one, other = loaded(place), loaded(again_place)
    assert_same(one[0], other[0])
    assert one[1] == other[1]


def test_a_shot_that_is_taken_again_is_one_shot_and_its_result_counts_where_it_is_better(tmp_path):
    live, followed, sources, place, again_place = begun(tmp_path)
    key = exposures_to_come(live)[0]
    again = key[:-10] + "235959.xml"
    followed.take_in([live.write(key, live.to_come[key])])
    update_session(again_place, sources, SILENT)
    told = followed.take_in([live.write(again, live.to_come[key])])
    assert any("of a shot that was taken before" in note for note in told.notes)
    update_session(again_place, sources, SILENT)
    assert_same(loaded(place)[0], loaded(again_place)[0])
    assert loaded(place)[0].fields_of(Path(again).stem)
    live.rows += [
        f"{Path(key).stem}.mrc 11000.5 10500.25 9.5 \n",
        f"{Path(again).stem}.mrc 11000.5 10500.25 3.25 \n",
    ]
    told = followed.take_in([live.write_star()])
    assert told.whole_because == ""
    update_session(again_place, sources, SILENT)
    one = loaded(place)[0]
    assert_same(one, loaded(again_place)[0])
    taken = one.exposures.set_index("exposure_id").loc[Path(key).stem]
    assert (taken["outcome"], taken["ctf_max_res_angstrom"]) == ("measured", 3.25)


def test_what_comes_one_by_one_is_what_one_import_of_everything_gives(tmp_path):
    live, followed, sources, place, _ = begun(tmp_path)
    images = sorted(key for key in live.to_come if "FoilHoles" in key)
    for key in [*images, *exposures_to_come(live)]:
        changed = [live.write(key, live.to_come[key])]
        if "_Data_" in key:
            live.rows.append(f"{Path(key).stem}.mrc 11000.5 10500.25 {3.0 + len(live.rows)} \n")
            changed.append(live.write_star())
        assert followed.take_in(changed).whole_because == ""
    one, other = loaded(place)[0], read_session(sources, SILENT).session
    # Where an exposure lies in its patch needs several at once to be told; all else is the same.
    shifts = ("shift_x_um", "shift_y_um")
    fields = [
        {key: {name: text for name, text in of.items() if name not in shifts} for key, of in all_.items()}
        for all_ in (unpacked(one.vendor_fields), unpacked(other.vendor_fields))
    ]
    assert fields[0] == fields[1]
    for table, frame in everything(one).items():
        pd.testing.assert_frame_equal(frame, everything(other)[table], obj=table)
    assert one.info == other.info
    assert len(one.exposures) == 8
    assert (one.exposures["outcome"] == "measured").all()


def test_a_half_written_file_is_kept_and_named_once_it_stays_so(tmp_path):
    live, followed, _, place, _ = begun(tmp_path)
    first, second = exposures_to_come(live)[:2]
    half = live.write(first, live.to_come[first][:4000])
    told = followed.take_in([half])
    assert (told.waiting, told.broken, told.added, told.whole_because) == ((half,), (), {}, "")
    assert "half" not in told.notes
    told = followed.take_in([live.write(second, live.to_come[second])])
    assert (told.waiting, told.broken, told.added["exposures"]) == ((half,), (half,), 1)
    live.write(first, live.to_come[first])
    # Nobody need say that it has changed: what is waited for is looked at.
    told = followed.take_in([])
    assert (told.waiting, told.broken, told.added["exposures"]) == ((), (), 1)
    assert set(loaded(place)[0].exposures["exposure_id"]) == {Path(first).stem, Path(second).stem}


def test_a_file_that_deviates_is_left_out_and_named(tmp_path):
    live, followed, _, _, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    path = live.write(key, live.to_come[key].replace(b"MicroscopeImage", b"SomethingElse"))
    told = followed.take_in([path])
    assert told.waiting == (path,)
    assert any(path.name in line for line in told.left_out)


@pytest.mark.parametrize(
    ("name", "why"),
    [pytest.param("EpuSession.dm", r"EpuSession\.dm is new or has changed", marks=pytest.mark.slow),
     ("Metadata/GridSquare_1000.dm", r"GridSquare_1000\.dm is new or has changed")],
)  # fmt: skip
def test_what_changes_more_than_its_own_rows_is_read_with_everything_and_said(tmp_path, name, why):
    live, followed, sources, place, again_place = begun(tmp_path)
    content = (live.folder / name).read_bytes()
    key = exposures_to_come(live)[0]
    changed = [live.write(name, content + b"\n"), live.write(key, live.to_come[key])]
    told = followed.take_in(changed)
    assert re.search(why, told.whole_because)
    assert told.added["exposures"] == 1
    update_session(again_place, sources, SILENT)
    assert_same(loaded(place)[0], loaded(again_place)[0])
    key = exposures_to_come(live)[1]
    assert followed.take_in([live.write(key, live.to_come[key])]).whole_because == ""


def test_a_file_that_goes_away_asks_for_everything(tmp_path):
    live, followed, _, _, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    path = live.write(key, live.to_come[key])
    followed.take_in([path])
    path.unlink()
    assert "went away" in followed.take_in([path]).whole_because
    assert followed.take_in([path]).whole_because == ""


def test_exposures_of_many_holes_at_once_are_placed_by_their_beam_shift_as_by_an_import(tmp_path):
    live, followed, sources, place, again_place = begun(tmp_path, exposures=16, shots=1, along=5)
    changed = [live.write(key, live.to_come[key]) for key in exposures_to_come(live)]
    assert re.search(r"exposures of \d+ holes came at once", followed.take_in(changed).whole_because)
    update_session(again_place, sources, SILENT)
    one, other = loaded(place)[0], loaded(again_place)[0]
    assert_same(one, other)
    assert "shift_x_um" in one.fields_of(one.exposures["exposure_id"].iloc[-1])


def test_another_import_in_between_is_seen(tmp_path):
    live, followed, sources, place, _ = begun(tmp_path)
    first, second = exposures_to_come(live)[:2]
    live.write(first, live.to_come[first])
    update_session(place, sources, SILENT)
    told = followed.take_in([live.write(second, live.to_come[second])])
    assert (told.whole_because, told.added["exposures"]) == ("another import wrote to the session", 1)
    assert len(loaded(place)[0].exposures) == 2


def test_a_result_that_is_recorded_in_between_stays(tmp_path):
    live, followed, _, place, _ = begun(tmp_path)
    first, second = exposures_to_come(live)[:2]
    followed.take_in([live.write(first, live.to_come[first])])
    with SessionStore.open(place) as store:
        store.record_outcome(Path(first).stem, 3.5)
    told = followed.take_in([live.write(second, live.to_come[second])])
    assert (told.whole_because, told.added["exposures"]) == ("", 1)
    session = loaded(place)[0]
    outcomes = dict(zip(session.exposures["exposure_id"], session.exposures["outcome"], strict=True))
    assert outcomes == {Path(first).stem: "measured", Path(second).stem: "pending"}


def test_what_could_not_be_written_is_written_by_the_next_call(tmp_path, monkeypatch):
    live, followed, _, place, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    live.rows.append(f"{Path(key).stem}.mrc 11000.5 10500.25 3.5 \n")
    with monkeypatch.context() as patch:
        patch.setattr(SessionStore, "save_changes", _held)
        with pytest.raises(StoreError):
            followed.take_in([live.write(key, live.to_come[key]), live.write_star()])
    told = followed.take_in([])
    assert (told.added["exposures"], told.whole_because) == (1, "")
    assert loaded(place)[0].exposures["outcome"].tolist() == ["measured"]


def _held(*_):
    raise StoreError("A store must be free for writing. Got one that is held instead.")
