"""Following results and tables while they are written: in any order, in any file, as an import of all would give."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from follow_samples import DATA, assert_same, begun, exposures_to_come, loaded

from cryoscout.core.telling import SILENT
from cryoscout.formats.ctf import relion
from cryoscout.intake.follow import FollowedSources
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, TakenIn, read_session, store_session, update_session
from cryoscout.session.model import session_without_rows
from cryoscout.session.store import SessionStore


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """A whole reading waits for files that are half written; here nobody writes them in the meantime."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


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
    for row, key in enumerate(exposures_to_come(live)[:2]):
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


@pytest.mark.slow
def test_an_atlas_beside_the_session_is_read_with_everything(tmp_path):
    atlas = tmp_path / "Atlas.dm"
    atlas.write_bytes(gzip.decompress((DATA / "epu" / "Atlas.dm.gz").read_bytes()))
    live, followed, _, _, _ = begun(tmp_path, extra=[atlas])
    key = exposures_to_come(live)[0]
    assert followed.take_in([live.write(key, live.to_come[key])]).whole_because == ""
    atlas.write_bytes(atlas.read_bytes() + b"\n")
    assert followed.take_in([atlas]).whole_because == "Atlas.dm is new or has changed"


@pytest.mark.slow
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


@pytest.mark.parametrize("when", ["while it is followed", "before it is followed again"])
def test_results_join_images_that_another_import_brought(tmp_path, when):
    live, followed, sources, place, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    live.rows.append(f"Movies/{Path(key).stem}_Fractions.mrc 11000.5 10500.25 3.5 \n")
    assert followed.take_in([live.write_star()]).n_unjoined == 1
    image = live.write(key, live.to_come[key])
    update_session(place, Sources([live.folder], [], sources.options, "tests"), SILENT)
    if when == "before it is followed again":
        followed.close()
        followed = FollowedSources(place, sources)
    told = followed.take_in([image])
    assert (told.added["outcomes"], told.n_unjoined) == (1, 0)
    exposures = loaded(place)[0].exposures
    assert exposures[["exposure_id", "ctf_max_res_angstrom"]].values.tolist() == [[Path(key).stem, 3.5]]
    followed.close()


@pytest.mark.parametrize("is_named", [True, False])
def test_results_join_images_that_were_recorded_by_hand(tmp_path, is_named):
    live, followed, _, place, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    live.rows.append(f"Movies/{Path(key).stem}_Fractions.mrc 11000.5 10500.25 3.5 \n")
    assert followed.take_in([live.write_star()]).n_unjoined == 1
    with SessionStore.open(place) as store:
        number = Path(key).stem.split("_")[1]
        [hole_id] = [each for each in store.load().holes["hole_id"] if each.endswith(number)]
        store.record_imaged(hole_id, exposure_id=Path(key).stem if is_named else None)
    told = followed.take_in([live.write(key, live.to_come[key])])
    assert (told.added["outcomes"], told.n_unjoined) == (1, 0)
    exposures = loaded(place)[0].exposures
    assert exposures[["exposure_id", "ctf_max_res_angstrom"]].values.tolist() == [[Path(key).stem, 3.5]]
    followed.close()


def test_notes_are_told_once_when_a_write_is_repeated(tmp_path, monkeypatch):
    live, followed, _, _, _ = begun(tmp_path)
    key = exposures_to_come(live)[0]
    followed.take_in([live.write(key, live.to_come[key])])
    row = f"Movies/{Path(key).stem}_Fractions.mrc 11000.5 10500.25 "
    live.rows.append(row + "3.5 \n")
    followed.take_in([live.write_star()])
    once = SessionStore.save_changes

    def twice(self, changes, source):
        def again(stored):
            changes(stored)
            return changes(stored)

        return once(self, again, source)

    monkeypatch.setattr(SessionStore, "save_changes", twice)
    live.rows[-1] = row + "3.25 \n"
    told = followed.take_in([live.write_star()])
    assert told.notes
    assert len(set(told.notes)) == len(told.notes)


def save_cs(path, **columns):
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    table = np.zeros(
        len(arrays["uid"]), dtype=[(name.replace("__", "/"), each.dtype) for name, each in arrays.items()]
    )
    for name, each in arrays.items():
        table[name.replace("__", "/")] = each
    with path.open("wb") as file:
        np.save(file, table, allow_pickle=False)


def test_results_of_cryosparc_are_read_once_the_table_with_their_names_lies_beside_them(tmp_path):
    accepted = tmp_path / "job" / "J5_exposures_accepted.cs"
    accepted.parent.mkdir()
    save_cs(accepted, uid=np.array([7], "u8"), ctf_stats__ctf_fit_to_A=np.array([3.5], "f4"))
    live, followed, _, place, _ = begun(tmp_path, extra=[accepted])
    key = exposures_to_come(live)[0]
    told = followed.take_in([live.write(key, live.to_come[key])])
    assert told.waiting == (accepted,)
    names = np.array([f"S1/{Path(key).stem}_Fractions.mrc".encode()])
    save_cs(
        accepted.parent / "J5_passthrough_exposures_accepted.cs",
        uid=np.array([7], "u8"),
        micrograph_blob__path=names,
    )
    told = followed.take_in([])
    assert (told.waiting, told.broken, told.added["outcomes"]) == ((), (), 1)
    assert loaded(place)[0].exposures["ctf_max_res_angstrom"].tolist() == [3.5]
