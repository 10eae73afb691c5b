"""What was said of how files are read holds for later ones, at an update and while they are followed."""

from __future__ import annotations

import pytest

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.telling import SILENT
from cryoscout.formats.own.columns import ColumnMap
from cryoscout.intake.follow import FollowedSources
from cryoscout.intake.predictions import add_own_predictions
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, read_session, store_session, update_session
from cryoscout.session.model import Reading
from cryoscout.session.store import SessionStore

HEAD = "Image,MyCtf,hole,x_um,y_um\n"
SAID = ColumnMap({"ctf": "MyCtf", "exposure": "Image"})


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(HEAD + "a1,3.5,h1,0,0\na2,,h2,2,0\n")
    return path


def imported(tmp_path, table, options):
    place = tmp_path / "own.session"
    read = read_session(Sources([table], [], options, "tests"), SILENT)
    store_session(read, place, "tests", False, SILENT, None)
    return place


def updated(place, path, options=None):
    return update_session(place, Sources([path], [], options or ReadOptions(), "tests"), SILENT)


def ctf_of(place):
    with SessionStore.open(place) as store:
        rows = store.load().exposures
    return dict(zip(rows["exposure_id"], rows["ctf_max_res_angstrom"], strict=True))


def reading_of(place):
    with SessionStore.open(place) as store:
        return store.info().reading


def test_columns_that_were_said_once_are_known_at_each_update(tmp_path, table):
    place = imported(tmp_path, table, ReadOptions(column_map=SAID))
    table.write_text(HEAD + "a1,3.5,h1,0,0\na2,4.5,h2,2,0\n")
    updated(place, table)

    assert ctf_of(place) == {"a1": 3.5, "a2": 4.5}
    assert reading_of(place).columns == SAID.columns


def test_a_table_that_is_followed_is_read_as_it_was_imported(tmp_path, table):
    place = imported(tmp_path, table, ReadOptions(column_map=SAID))
    results = tmp_path / "results.csv"  # no header of it is known without what was said
    with FollowedSources(
        place, Sources([table, results], [], ReadOptions(permissive=True), "tests")
    ) as followed:
        assert followed.take_in().added == {}
        results.write_text("Image,MyCtf\na2,4.5\n")
        assert followed.take_in([results]).added["outcomes"] == 1
    assert ctf_of(place) == {"a1": 3.5, "a2": 4.5}


def test_what_was_said_of_one_table_is_no_matter_for_one_without_such_a_column(tmp_path, table):
    place = imported(tmp_path, table, ReadOptions(column_map=SAID))
    other = tmp_path / "other.csv"
    other.write_text("exposure,ctf_max_res_angstrom\na2,5.5\n")
    updated(place, other)
    assert ctf_of(place) == {"a1": 3.5, "a2": 5.5}

    other.write_text("exposure,ctf_max_res_angstrom\na2,6.5\n")
    with pytest.raises(InputError, match="The column for ctf must be one of exposure, ctf_max_res_angstrom"):
        updated(place, other, ReadOptions(column_map=ColumnMap({"ctf": "MyCtf"})))


def test_a_file_that_is_as_it_was_is_read_again_when_other_columns_are_said(tmp_path, table):
    place = imported(tmp_path, table, ReadOptions(column_map=ColumnMap({"exposure": "Image"})))
    assert [value == value for value in ctf_of(place).values()] == [False, False]
    read, added = updated(place, table, ReadOptions(column_map=ColumnMap({"ctf": "MyCtf"})))

    assert not read.unchanged
    assert added["outcomes"] == 1
    assert ctf_of(place)["a1"] == 3.5
    assert reading_of(place).columns == SAID.columns
    assert updated(place, table)[0].unchanged == [table]


def test_the_unit_of_positions_and_the_radius_hold_too(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("hole,x,y\nh1,0,0\nh2,4,0\n")
    place = imported(tmp_path, table, ReadOptions(cluster_radius_um=1.0, column_map=ColumnMap({}, "um")))
    table.write_text("hole,x,y\nh1,0,0\nh2,4,0\nh3,100,0\nh4,104,0\n")
    read, _ = updated(place, table)

    with SessionStore.open(place) as store:
        holes = store.load().holes
    assert holes["x_um"].tolist() == [0, 4, 100, 104]
    assert holes["patch_id"].nunique() == 4
    assert not [note for note in read.notes if "does not act" in note]
    assert reading_of(place) == Reading(position_unit="um", patch_radius_um=1.0)


def test_a_column_means_what_was_said_of_it_last(tmp_path, table):
    place = imported(
        tmp_path, table, ReadOptions(column_map=ColumnMap({"exposure": "Image", "patch": "MyCtf"}))
    )
    updated(place, table, ReadOptions(column_map=ColumnMap({"ctf": "MyCtf"})))
    assert reading_of(place).columns == {"exposure": "Image", "ctf": "MyCtf"}
    assert ctf_of(place)["a1"] == 3.5


def test_a_unit_that_was_said_makes_no_table_of_a_file_of_no_format(tmp_path):
    table, other = tmp_path / "own.csv", tmp_path / "notes.txt"
    table.write_text("hole,x,y\nh1,0,0\n")
    place = imported(tmp_path, table, ReadOptions(column_map=ColumnMap({}, "um")))
    other.write_text("some words, no table\n1,2\n")
    with pytest.raises(FileFormatError, match="must be a file of a known format"):
        updated(place, other)


def test_the_hole_of_a_table_of_predictions_is_known_by_what_was_said(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("Zielloch,Image\nh1,a1\nh2,a2\n")
    said = ColumnMap({"hole": "Zielloch", "exposure": "Image"})
    place = imported(tmp_path, table, ReadOptions(column_map=said))
    scores = tmp_path / "scores.csv"
    scores.write_text("Zielloch,Image\nh1,0.25\nh2,0.75\n")
    session, _ = add_own_predictions(place, [scores], ColumnMap({"p_good": "Image"}), False, None)

    assert session.predictions["p_good"].tolist() == [0.25, 0.75]


def test_what_another_update_says_meanwhile_is_kept(tmp_path, table, monkeypatch):
    place = imported(tmp_path, table, ReadOptions(column_map=ColumnMap({"exposure": "Image"})))
    real = SessionStore.save_update

    def after_another(self, extend, *args, **named):
        monkeypatch.undo()
        other = tmp_path / "other.csv"
        other.write_text("Image,When\na1,2026-01-01 10:00:00\n")
        updated(place, other, ReadOptions(column_map=ColumnMap({"time": "When"})))
        return real(self, extend, *args, **named)

    monkeypatch.setattr(SessionStore, "save_update", after_another)
    updated(place, table, ReadOptions(column_map=ColumnMap({"ctf": "MyCtf"})))
    assert reading_of(place).columns == {"exposure": "Image", "time": "When", "ctf": "MyCtf"}


def test_columns_of_predictions_are_said_with_each_table(tmp_path, table):
    said = ColumnMap({"exposure": "Image", "p_good": "MyCtf"})
    read = read_session(Sources([table], [], ReadOptions(column_map=said), "tests"), SILENT)
    assert read.session.info.reading.columns == {"exposure": "Image"}
