"""Following sources while they are written: call by call the session that reading everything again would give."""

from __future__ import annotations

import gzip
import importlib.util
import os
import random
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import StoreError
from cryoscout.core.telling import SILENT
from cryoscout.formats.ctf import relion
from cryoscout.intake.follow import FollowedSources
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, TakenIn, read_session, store_session, update_session
from cryoscout.session.model import session_without_rows
from cryoscout.session.store import SessionStore
from cryoscout.session.vendor_fields import unpacked
from examples import share

DATA = Path(__file__).parents[1] / "formats" / "data"
_GENERATOR = Path(__file__).resolve().parents[2] / "benchmarks" / "formats_data.py"
_ACQUISITION = "KeyValuePairOfintParticleAcquisitionDataXmlBpEWF4JT"


def _generator():
    if "formats_data" not in sys.modules:
        spec = importlib.util.spec_from_file_location("formats_data", _GENERATOR)
        sys.modules["formats_data"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["formats_data"])
    return sys.modules["formats_data"]


formats_data = _generator()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """A whole reading waits for files that are half written; here nobody writes them in the meantime."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@dataclass
class Live:
    """A session of EPU that is being written: what stands in the folder now, and what is still to come."""

    folder: Path
    star: Path
    to_come: dict[str, bytes] = field(default_factory=dict)
    """Path below the folder -> content."""
    names: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    """Of the star file, in the order they came."""

    def write(self, key, content):
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        # Two writes within one tick of the clock of the disk must not look like one.
        self.ticks = getattr(self, "ticks", 0) + 1
        os.utime(path, ns=(10**18 + self.ticks, 10**18 + self.ticks))
        return path

    def write_star(self):
        columns = ("rlnMicrographName", "rlnDefocusU", "rlnDefocusV", "rlnCtfMaxResolution")
        head = "\n# version 30001\n\ndata_micrographs\n\nloop_ \n"
        head += "".join(f"_{name} #{place} \n" for place, name in enumerate(columns, start=1))
        self.star.write_text(head + "".join(self.rows) + " \n", encoding="utf-8")
        self.ticks = getattr(self, "ticks", 0) + 1
        os.utime(self.star, ns=(10**18 + self.ticks, 10**18 + self.ticks))
        return self.star


def hole_xml(hole_id, seconds):
    at = f"2025-03-03T09:00:{seconds:02d}.1234567+00:00"
    return formats_data.epu_image_xml(at, 1e-6 * (int(hole_id) % 97), 2e-6 * seconds).encode()


def live_session(place, *, exposures, shots, along, seed, has_session, has_squares, is_named):
    """A folder with what a microscope writes first, and everything that follows."""
    formats_data.write_epu_session(
        place / "made", exposures, shots=shots, holes_along_square=along, seed=seed, share_imaged=0.7
    )
    live = Live(place / "epu", place / "micrographs_ctf.star")
    holes = {}
    for path in sorted((place / "made").rglob("*.*")):
        key = path.relative_to(place / "made").as_posix()
        content = path.read_bytes()
        if path.suffix == ".dm":
            if not (has_session if path.stem == "EpuSession" else has_squares):
                continue
            if not is_named:
                content = re.sub(
                    rf"<b:{_ACQUISITION}>.*?</b:{_ACQUISITION}>".encode(), b"", content, flags=re.S
                )
            live.write(key, content)
        elif "_Data_" in key:
            live.to_come[key] = content
            live.names.append(path.stem)
            hole_id = path.stem.split("_")[1]
            holes.setdefault(hole_id, path.parent.parent.relative_to(place / "made").as_posix())
        else:
            live.write(key, content)
    rng = random.Random(seed)
    for hole_id, folder in sorted(holes.items()):
        for seconds in range(1, 1 + rng.choice([0, 0, 1, 2])):
            key = f"{folder}/FoilHoles/FoilHole_{hole_id}_20250303_0900{seconds:02d}.xml"
            live.to_come[key] = hole_xml(hole_id, seconds)
    for key in [key for key in live.to_come if "_Data_" in key and rng.random() < 0.15]:
        # A copy on a second disc, and for some nothing on the first one.
        live.to_come[key.replace("Images-Disc1", "Images-Disc2")] = live.to_come[key]
        if rng.random() < 0.5:
            del live.to_come[key]
    return live


def everything(session):
    """A session as plain values that do not depend on the order in which things came."""
    tables = {}
    for table, key in (
        ("grids", ["grid_id"]),
        ("squares", ["square_id"]),
        ("patches", ["patch_id"]),
        ("holes", ["hole_id"]),
        ("exposures", ["exposure_id"]),
        ("ctf_runs", ["exposure_id", "run"]),
    ):
        tables[table] = getattr(session, table).sort_values(key).reset_index(drop=True)
    return tables


def assert_same(one, other):
    assert one.info == other.info
    for table, frame in everything(one).items():
        pd.testing.assert_frame_equal(frame, everything(other)[table], obj=table)
    assert unpacked(one.vendor_fields) == unpacked(other.vendor_fields)
    rows = [set(each.provenance.itertuples(index=False, name=None)) for each in (one, other)]
    assert rows[0] == rows[1]


def loaded(folder):
    with SessionStore.open(folder) as store:
        return store.load(), store.files()


def stored_twice(live, options, extra=()):
    """The session as it begins, stored in two places."""
    sources = Sources([live.folder, *extra], [], options, "live")
    read = read_session(Sources([live.folder], [], options, "live"), SILENT)
    places = [live.folder.parent / f"{name}.session" for name in ("followed", "again")]
    for place in places:
        store_session(read, place, "live", False, SILENT)
    return sources, *places


PERMISSIVE = ReadOptions(permissive=True)

live_sessions = st.fixed_dictionaries(
    {
        "exposures": st.integers(2, 14),
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


def begun(place, *, extra=(), **changes):
    """A session with its squares and nothing imaged, followed; `changes` as of `live_session`."""
    made = {"exposures": 8, "shots": 2, "along": 3, "seed": 1}
    made |= {"has_session": True, "has_squares": True, "is_named": False} | changes
    live = live_session(place, **made)
    live.to_come = {key.replace("Disc2", "Disc1"): content for key, content in live.to_come.items()}
    if not made["has_squares"]:
        first = exposures_to_come(live)[0]
        live.write(first, live.to_come.pop(first))
    live.write_star()
    sources, followed_place, again_place = stored_twice(live, PERMISSIVE, [live.star, *extra])
    followed = FollowedSources(followed_place, sources)
    followed.take_in()
    return live, followed, sources, followed_place, again_place


def exposures_to_come(live):
    """Keys of the exposures, in the order of time."""
    return sorted((key for key in live.to_come if "_Data_" in key), key=lambda key: key[-19:])


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"is_named": True}, marks=pytest.mark.slow),
        pytest.param({"has_session": False, "shots": 3}, marks=pytest.mark.slow),
        {"has_session": False, "has_squares": False, "shots": 2},
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
    [("EpuSession.dm", r"EpuSession\.dm is new or has changed"),
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


def test_a_result_that_comes_before_its_exposure_waits_for_it(tmp_path):
    live, followed, _, place, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    live.rows.append(f"Movies/{Path(key).stem}_Fractions.mrc 11000.5 10500.25 3.5 \n")
    told = followed.take_in([live.write_star()])
    assert (told.added["outcomes"], told.n_unjoined) == (0, 1)
    assert told.unjoined == (Path(key).stem,)
    told = followed.take_in([live.write(key, live.to_come[key])])
    assert (told.added["exposures"], told.whole_because, told.n_unjoined) == (1, "", 0)
    assert loaded(place)[0].exposures["ctf_max_res_angstrom"].tolist() == [3.5]


def own_session(tmp_path, table):
    """A session of an own table, and its sources: the table, and results of RELION that are still to come."""
    sources = Sources(
        [tmp_path / "own.csv", tmp_path / "ctf.star"], [], ReadOptions(permissive=True), "tests"
    )
    sources.paths[0].write_text(OWN_HEAD + table)
    place = tmp_path / "own.session"
    only = Sources(sources.paths[:1], [], sources.options, "tests")
    store_session(read_session(only, SILENT), place, "tests", False, SILENT, None)
    return sources, place


OWN_HEAD = "grid,square,hole,exposure\n"
OWN_STAR = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n"


def test_results_of_unknown_images_are_counted_where_sources_are_read_as_a_whole_too(tmp_path):
    sources, place = own_session(tmp_path, "g,s,h1,e1\ng,s,h2,\n")
    table, star = sources.paths
    star.write_text(OWN_STAR + "e1.mrc 3.5\ne2.mrc 4.5\n")
    with FollowedSources(place, sources) as followed:
        told = followed.take_in()
        assert (told.n_unjoined, told.unjoined) == (1, ("e2",))
        assert followed.take_in().n_unjoined == 1  # nothing was read again
        star.write_text(OWN_STAR + "e1.mrc 3.9\ne2.mrc 4.5\n")
        [note] = followed.take_in([star]).changed
        assert "e1 (3.5 angstrom before, now 3.9 angstrom)" in note
        table.write_text(OWN_HEAD + "g,s,h1,e1\ng,s,h2,e2\n")
        told = followed.take_in([table])
        assert (told.n_unjoined, told.changed, told.added["exposures"]) == (0, (), 1)
    assert dict(loaded(place)[0].exposures[["exposure_id", "ctf_max_res_angstrom"]].values) == {
        "e1": 3.5,
        "e2": 4.5,
    }


def test_results_may_come_before_anything_of_the_session(tmp_path):
    table, star, place = tmp_path / "own.csv", tmp_path / "ctf.star", tmp_path / "own.session"
    star.write_text(OWN_STAR + "e1.mrc 3.5\n")
    store_session(TakenIn(session_without_rows("own")), place, "tests", False, SILENT, None)
    with FollowedSources(
        place, Sources([table, star], [], ReadOptions(permissive=True), "tests")
    ) as followed:
        told = followed.take_in()
        assert (told.added, told.waiting) == ({}, (table,))
        table.write_text(OWN_HEAD + "g,s,h1,e1\n")
        assert followed.take_in([table]).added["exposures"] == 1
    assert loaded(place)[0].exposures["ctf_max_res_angstrom"].tolist() == [3.5]


def test_of_a_table_that_grows_only_the_new_rows_are_read(tmp_path, monkeypatch):
    live, followed, _, place, _ = begun(tmp_path)
    keys = exposures_to_come(live)[:3]
    followed.take_in([live.write(key, live.to_come[key]) for key in keys])
    read = []
    whole = relion.read_source
    monkeypatch.setattr(relion, "read_source", lambda *how: read.append(whole(*how)) or read[-1])
    for row, key in enumerate(keys):
        live.rows.append(f"{Path(key).stem}.mrc 11000.5 10500.25 {3.5 + row} \n")
        assert followed.take_in([live.write_star()]).added["outcomes"] == 1
    assert [len(records.ctf) for records in read] == [1, 1, 1]
    runs = loaded(place)[0].ctf_runs
    assert runs["line"].tolist() == [11, 12, 13]
    assert set(runs["source"]) == {live.star.name}


def test_a_table_that_is_written_anew_says_other_results(tmp_path):
    live, followed, sources, place, again_place = begun(tmp_path)
    keys = exposures_to_come(live)[:2]
    live.rows = [f"{Path(key).stem}.mrc 11000.5 10500.25 8.5 \n" for key in keys]
    changed = [live.write(key, live.to_come[key]) for key in keys]
    followed.take_in([*changed, live.write_star()])
    update_session(again_place, sources, SILENT)
    live.rows = [f"{Path(key).stem}.mrc 11000.5 10500.25 {3.5 + 9 * row} \n" for row, key in enumerate(keys)]
    told = followed.take_in([live.write_star()])
    assert told.added["further_ctf_runs"] == 2
    assert ["another CTF result than before" in note for note in told.changed] == [True]
    update_session(again_place, sources, SILENT)
    assert_same(loaded(place)[0], loaded(again_place)[0])


def test_results_that_are_not_there_yet_are_waited_for(tmp_path):
    late = tmp_path / "late_ctf.star"
    live, followed, sources, place, again_place = begun(tmp_path, extra=[late])
    key = exposures_to_come(live)[0]
    told = followed.take_in([live.write(key, live.to_come[key])])
    assert (told.waiting, told.added["exposures"]) == ((late,), 1)
    live.star = late
    live.rows = [f"{Path(key).stem}.mrc 11000.5 10500.25 3.5 \n"]
    live.write_star()
    late.write_text("not yet")
    assert followed.take_in([late]).broken == ()
    assert followed.take_in([late]).broken == (late,)
    live.write_star()
    told = followed.take_in([late])
    assert (told.waiting, told.added["outcomes"], told.whole_because) == ((), 1, "")
    update_session(again_place, sources, SILENT)
    assert_same(loaded(place)[0], loaded(again_place)[0])


CTFFIND = (
    "# Output from CTFFind version 4.1.14, run on 2025-03-03 10:00:00\n"
    "# Input file: {name} ; Number of micrographs: 1\n"
    "# Pixel size: 0.83 Angstroms ; acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm ; "
    "amplitude contrast: 0.07\n"
    "# Box size: 512 pixels ; min. res.: 30.0 Angstroms ; max. res.: 5.0 Angstroms ; min. def.: 5000.0 um; "
    "max. def. 50000.0 um\n"
    "# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth of astigmatism; "
    "#5 - additional phase shift [radians]; #6 - cross correlation; #7 - spacing (in Angstroms) up to which CTF "
    "rings were fit successfully\n"
    "1.000000 11000.0 10500.0 45.0 0.0 0.12 {resolution}\n"
)


def test_of_a_folder_of_results_the_new_files_are_read(tmp_path):
    results = tmp_path / "ctf"
    results.mkdir()
    (results / "other.txt").write_text(CTFFIND.format(name="other.mrc", resolution=4.5))
    live, followed, sources, place, again_place = begun(tmp_path, extra=[results])
    for row, key in enumerate(exposures_to_come(live)[:3]):
        assert followed.take_in([live.write(key, live.to_come[key])]).added["exposures"] == 1
        file = results / f"{row}.txt"
        file.write_text(CTFFIND.format(name=f"{Path(key).stem}_Fractions.mrc", resolution=3.5 + row))
        told = followed.take_in([file])
        assert (told.added["outcomes"], told.whole_because) == (1, "")
        update_session(again_place, sources, SILENT)
        assert_same(loaded(place)[0], loaded(again_place)[0])
    assert loaded(place)[1] == loaded(again_place)[1]


def test_sources_of_another_kind_are_read_as_a_whole_each_time(tmp_path):
    table = tmp_path / "site.csv"
    table.write_text("micrograph,resolution\nx,3.0\n")
    live, followed, _, place, _ = begun(tmp_path, extra=[table])
    key = exposures_to_come(live)[0]
    told = followed.take_in([live.write(key, live.to_come[key])])
    assert (told.whole_because, told.added["exposures"]) == (
        "site.csv is of a format that is not followed",
        1,
    )
    assert len(loaded(place)[0].exposures) == 1


def test_paths_may_be_named_in_another_way_than_the_source(tmp_path, monkeypatch):
    live, followed, _, _, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    live.write(key, live.to_come[key])
    monkeypatch.chdir(live.folder)
    assert followed.take_in([Path(key)]).added["exposures"] == 1
    assert followed.take_in([Path("elsewhere/FoilHole_1_Data_1_1_20250303_100000.xml")]).added == {}


def test_a_call_without_paths_looks_at_everything(tmp_path):
    live, followed, _, _, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    live.write(key, live.to_come[key])
    told = followed.take_in()
    assert (told.whole_because, told.added["exposures"]) == ("everything was asked for", 1)
    with followed:
        pass
    assert followed.take_in([]).whole_because == "the first reading"


def test_an_atlas_beside_the_session_is_read_with_everything(tmp_path):
    atlas = tmp_path / "Atlas.dm"
    atlas.write_bytes(gzip.decompress((DATA / "epu" / "Atlas.dm.gz").read_bytes()))
    live, followed, _, _, _ = begun(tmp_path, extra=[atlas])
    key = exposures_to_come(live)[0]
    assert followed.take_in([live.write(key, live.to_come[key])]).whole_because == ""
    atlas.write_bytes(atlas.read_bytes() + b"\n")
    assert followed.take_in([atlas]).whole_because == "Atlas.dm is new or has changed"


def test_results_of_several_files_are_numbered_as_by_an_import(tmp_path):
    folder, late = tmp_path / "ctf", tmp_path / "late_ctf.star"
    folder.mkdir()
    (folder / "other.txt").write_text(CTFFIND.format(name="other.mrc", resolution=4.5))
    live, followed, sources, place, again_place = begun(tmp_path, extra=[folder, late])
    key = exposures_to_come(live)[0]
    live.rows = [f"{Path(key).stem}.mrc 11000.5 10500.25 3.5 \n"]
    live.write_star()
    late.write_bytes(live.star.read_bytes().replace(b"3.5", b"3.4"))
    (folder / "one.txt").write_text(CTFFIND.format(name=f"{Path(key).stem}.mrc", resolution=3.6))
    changed = [late, folder / "one.txt", live.star, live.write(key, live.to_come[key])]
    assert followed.take_in(changed).whole_because == ""
    update_session(again_place, sources, SILENT)
    assert_same(loaded(place)[0], loaded(again_place)[0])
    assert loaded(place)[0].ctf_runs["ctf_max_res_angstrom"].tolist() == [3.5, 3.4, 3.6]
