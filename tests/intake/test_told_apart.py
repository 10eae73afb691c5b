"""Labels repeat from grid to grid: one is the same hole only where MapID or place agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cryoscout.advice.export import of_one_grid
from cryoscout.core.errors import DataError, InputError
from cryoscout.core.telling import SILENT
from cryoscout.formats.serialem.nav_writer import PlannedHole
from cryoscout.intake.assemble import assemble
from cryoscout.intake.read import ReadOptions, read_sources
from cryoscout.intake.take_in import Sources, read_session, store_session, update_session
from cryoscout.session.store import SessionStore


@dataclass(frozen=True)
class Item:
    label: str
    x_um: float
    map_id: int
    drawn_id: int = 0


def write_navigator(path: Path, *items: Item) -> Path:
    lines = ["AdocVersion = 2.00", ""]
    for item in items:
        lines += [
            f"[Item = {item.label}]", "Color = 0", f"StageXYZ = {item.x_um} 20 0", "NumPts = 1", "Regis = 1",
            "Type = 0", f"MapID = {item.map_id}", "Acquire = 1", f"PtsX = {item.x_um}", "PtsY = 20",
            *([f"DrawnID = {item.drawn_id}"] if item.drawn_id else []), "",
        ]  # fmt: skip
    path.write_text("\n".join(lines))
    return path


def write_movie(path: Path, label: str, x_um: float) -> Path:
    path.write_text(
        f"[FrameSet = 0]\nStagePosition = {x_um} 20\nSubFramePath = {path.name.removesuffix('.mdoc')}\n"
        f"NavigatorLabel = {label}\nDateTime = 08-Oct-2021  07:39:08\n"
    )
    return path


@pytest.fixture
def grid_a(tmp_path):
    return write_navigator(tmp_path / "a.nav", Item("21", 100, 5), Item("22", 105, 6))


@pytest.fixture
def grid_b(tmp_path):
    return write_navigator(tmp_path / "b.nav", Item("21", 300, 15), Item("30", 305, 16))


def session_of(*paths):
    return assemble(read_sources(paths).records).session


def grid_of_holes(session):
    tables = session.holes.merge(session.patches).merge(session.squares[["square_id", "grid_id"]])
    return dict(zip(tables["hole_id"], tables["grid_id"], strict=True))


def load_of(place):
    with SessionStore.open_for_reading(place) as store:
        return store.load()


def holes_of_exposures(session):
    return dict(zip(session.exposures["exposure_id"], session.exposures["hole_id"], strict=True))


def test_two_navigators_with_the_same_labels_are_two_grids_each_with_its_images(grid_a, grid_b, tmp_path):
    movies = [
        write_movie(tmp_path / "m_1.tif.mdoc", "21", 100.4),
        write_movie(tmp_path / "m_2.tif.mdoc", "21", 299.0),
        write_movie(tmp_path / "m_3.tif.mdoc", "21", 500.0),
    ]
    session = session_of(grid_a, grid_b, *movies)
    assert grid_of_holes(session) == {"21": "a", "22": "a", "b/21": "b", "30": "b"}
    assert holes_of_exposures(session) == {"m_1": "21", "m_2": "b/21"}


def test_a_later_import_of_the_second_navigator_gives_what_one_import_of_both_gives(grid_a, grid_b, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    first = write_movie(frames / "m_1.tif.mdoc", "21", 100.4)
    place = tmp_path / "run.session"
    options = ReadOptions()
    store_session(read_session(Sources([grid_a, first], [], options, ""), SILENT), place, "", False, SILENT)
    second = write_movie(frames / "m_2.tif.mdoc", "21", 299.0)
    read, added = update_session(place, Sources([grid_b, second], [], options, ""), SILENT)
    assert added["holes"] == 2
    assert holes_of_exposures(read.session) == {"m_1": "21", "m_2": "b/21"}
    at_once = session_of(grid_a, grid_b, first, second)
    assert grid_of_holes(read.session) == grid_of_holes(at_once)
    assert any(
        "1 label stands for other items elsewhere in the session" in note and "these are b/LABEL" in note
        for note in read.notes
    )
    # The second navigator again, with a further item: its item 21 is known by now.
    write_navigator(grid_b, Item("21", 300, 15), Item("30", 305, 16), Item("31", 306, 17))
    read, added = update_session(place, Sources([grid_b], [], options, ""), SILENT)
    assert added == {"holes": 1} | {name: 0 for name in added if name != "holes"}
    assert grid_of_holes(read.session)["31"] == "b"


def test_the_same_navigator_saved_again_under_another_name_is_the_same_grid(grid_a, tmp_path):
    later = write_navigator(
        tmp_path / "a_later.nav", Item("21", 130, 5), Item("22", 105, 6), Item("23", 140, 7)
    )
    assert grid_of_holes(session_of(grid_a, later)) == {"21": "a", "22": "a", "23": "a"}


def write_made_navigator(path: Path, drawn_id: int, *labels: str) -> Path:
    """As SemMatch writes it: no MapID, places in pixels of a map that is in another file."""
    lines = ["AdocVersion = 2.00", ""]
    for label in labels:
        lines += [
            f"[Item = {label}]", "Color = 0", "NumPts = 1", "Regis = 6", "Type = 0", "PtsX = 1732", "PtsY = 1229",
            f"DrawnID = {drawn_id}", "GroupID = 0", "Acquire = 1", "CoordsInMap = 1732 1229 31.9355", "",
        ]  # fmt: skip
    path.write_text("\n".join(lines))
    return path


def test_items_without_ids_that_were_drawn_on_other_maps_are_others(tmp_path):
    one = write_made_navigator(tmp_path / "one.nav", MAP_A, "9000", "9001")
    two = write_made_navigator(tmp_path / "two.nav", MAP_B, "9000", "9001", "9002")
    grids = {"9000": "one", "9001": "one", "two/9000": "two", "two/9001": "two", "9002": "two"}
    assert grid_of_holes(session_of(one, two)) == grids
    read, added = updated(stored(tmp_path / "run.session", one), two)
    assert added["holes"] == 3
    assert grid_of_holes(read.session) == grids


def test_an_image_of_a_label_of_two_grids_that_have_no_places_gets_the_hole_of_neither(tmp_path):
    one = write_made_navigator(tmp_path / "one.nav", MAP_A, "9000", "9001")
    two = write_made_navigator(tmp_path / "two.nav", MAP_B, "9000", "9002")
    images = tmp_path / "images"
    images.mkdir()
    write_movie(images / "m_0001.tif.mdoc", "9000", 100)
    write_movie(images / "m_0002.tif.mdoc", "9002", 110)
    note = (
        "1 exposure names a label that several holes have, and no place (first: m_0001, item 9000): they get no hole; "
        "import each grid by itself, with its own images"
    )
    together = read_session(Sources([one, two, images], [], ReadOptions(), ""), SILENT)
    later, added = updated(stored(tmp_path / "run.session", one, two), images)
    for read in (together, later):
        assert holes_of_exposures(read.session) == {"m_0002": "9002"}
        assert any(each.endswith(note) for each in read.notes)
    assert added["exposures"] == 1


def test_images_of_another_grid_are_read_again_when_its_navigator_has_come(grid_a, grid_b, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write_movie(images / "m_0001.tif.mdoc", "21", 300)
    place = stored(tmp_path / "run.session", grid_a, images)
    assert not len(load_of(place).exposures)
    assert updated(place, grid_b)[1]["holes"] == 2
    read, added = updated(place, images)
    assert added["exposures"] == 1
    assert holes_of_exposures(read.session) == {"m_0001": "b/21"}
    assert updated(place, images)[0].unchanged == [images]


def test_items_without_ids_are_those_of_a_navigator_that_was_imported_before(tmp_path):
    one = write_made_navigator(tmp_path / "one.nav", MAP_A, "9000", "9001")
    later = write_made_navigator(tmp_path / "later.nav", MAP_A, "9000", "9001", "9002")
    read, added = updated(stored(tmp_path / "run.session", one), later)
    assert grid_of_holes(read.session) == {"9000": "one", "9001": "one", "9002": "one"}
    assert added["holes"] == 1
    assert not [note for note in read.notes if "images were imported before" in note]


def updated(place, *paths):
    return update_session(place, Sources(list(paths), [], ReadOptions(), ""), SILENT)


def stored(place, *paths):
    read = read_session(Sources(list(paths), [], ReadOptions(), ""), SILENT)
    store_session(read, place, "", False, SILENT)
    return place


MAP_A, MAP_B = 123_456_789, 987_654_321


@pytest.mark.parametrize(
    ("first", "second", "n_holes"),
    [
        pytest.param((100, 50_001, 0), (400, 50_001, 0), 4, id="made ids out of reach"),
        pytest.param((100, 50_001, 0), (130, 50_001, 0), 4, id="made ids and no item where it was"),
        pytest.param((100, 50_001, 0), (103, 50_001, 0), 2, id="made ids, moved a little"),
        pytest.param((100, 50_001, MAP_A), (130, 50_001, MAP_B), 4, id="made on two maps"),
        pytest.param((100, 50_001, MAP_A), (400, 50_001, MAP_A), 2, id="made on one map, registered anew"),
        pytest.param((100, 300_001, 0), (400, 300_001, 0), 2, id="ids of SerialEM, registered anew"),
        pytest.param((100, 300_001, 0), (103, 400_001, 0), 4, id="other ids of SerialEM"),
    ],
)
def test_made_ids_begin_anew_in_every_file_and_are_no_evidence_alone(tmp_path, first, second, n_holes):
    navigators = [
        write_navigator(
            tmp_path / f"{name}.nav", *(Item(f"5-A-h{n}", x_um + 2 * n, map_id + n, drawn) for n in (1, 2))
        )
        for name, (x_um, map_id, drawn) in (("g1", first), ("g2", second))
    ]
    assert len(session_of(*navigators).holes) == n_holes
    place = stored(tmp_path / "run.session", navigators[0])
    assert updated(place, navigators[1])[1]["holes"] == n_holes - 2


def test_of_two_grids_with_made_ids_no_image_of_the_second_is_of_the_first(tmp_path):
    navigators = [
        write_navigator(tmp_path / f"g{n}.nav", *(Item(str(i), x_um + 4 * i, 100 + i) for i in range(1, 4)))
        for n, x_um in ((1, 0), (2, 300))
    ]
    frames = [tmp_path / "f1", tmp_path / "f2"]
    for folder, x_um in zip(frames, (4.1, 304.1), strict=True):
        folder.mkdir()
        write_movie(folder / f"{folder.name}.tif.mdoc", "1", x_um)
    place = stored(tmp_path / "run.session", navigators[0], frames[0])
    read, added = updated(place, navigators[1], frames[1])
    assert (added["holes"], added["exposures"]) == (3, 1)
    assert holes_of_exposures(read.session) == {"f1": "1", "f2": "g2/1"}


def test_navigators_of_the_same_name_in_two_folders_are_told_apart(grid_a, tmp_path):
    (tmp_path / "two").mkdir()
    other = write_navigator(tmp_path / "two" / "a.nav", Item("21", 300, 15), Item("22", 305, 16))
    assert grid_of_holes(session_of(grid_a, other)) == {
        "21": "a",
        "22": "a",
        "two_a/21": "two_a",
        "two_a/22": "two_a",
    }


def test_an_image_of_another_grid_is_never_the_result_of_a_stored_hole(grid_a, tmp_path):
    place = tmp_path / "run.session"
    options = ReadOptions()
    store_session(read_session(Sources([grid_a], [], options, ""), SILENT), place, "", False, SILENT)
    frames = tmp_path / "frames"
    frames.mkdir()
    write_movie(frames / "m_2.tif.mdoc", "21", 300.0)
    with pytest.raises(DataError, match="A later import must be of the same session"):
        update_session(place, Sources([frames], [], options, ""), SILENT)
    write_movie(frames / "m_3.tif.mdoc", "21", 101.0)
    read, _ = update_session(place, Sources([frames], [], options, ""), SILENT)
    assert holes_of_exposures(read.session) == {"m_2": "frames/21", "m_3": "21"}


def write_unlabelled_movie(path: Path, x_um: float) -> Path:
    path.write_text(
        f"[FrameSet = 0]\nStagePosition = {x_um} 20\nSubFramePath = {path.name.removesuffix('.mdoc')}\n"
    )
    return path


@pytest.mark.parametrize("label_comes", ["together", "first", "later"])
def test_an_image_with_a_label_takes_no_hole_from_those_without(tmp_path, label_comes):
    images = tmp_path / "images"
    images.mkdir()

    def plain() -> None:
        for number in (1, 2):
            write_unlabelled_movie(images / f"a_{number}.tif.mdoc", 10.0 * number)

    def labelled() -> None:
        write_movie(images / "l_1.tif.mdoc", "7", 40)
        write_unlabelled_movie(images / "a_9.tif.mdoc", 50)

    first, then = (labelled, plain) if label_comes == "first" else (plain, labelled)
    first()
    if label_comes == "together":
        then()
    place = stored(tmp_path / "run.session", images)
    if label_comes != "together":
        then()
    session = updated(place, images)[0].session
    assert holes_of_exposures(session) == {"a_1": "a_1", "a_2": "a_2", "a_9": "a_9", "l_1": "7"}


def test_a_label_alone_may_come_before_images_without_one(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write_movie(images / "l_1.tif.mdoc", "7", 40)
    place = stored(tmp_path / "run.session", images)
    write_unlabelled_movie(images / "a_1.tif.mdoc", 10)
    assert holes_of_exposures(updated(place, images)[0].session) == {"a_1": "a_1", "l_1": "7"}


def test_beside_a_navigator_an_image_without_a_label_makes_no_hole(grid_a, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write_movie(images / "m_1.tif.mdoc", "21", 100)
    place = stored(tmp_path / "run.session", grid_a, images)
    write_unlabelled_movie(images / "a_1.tif.mdoc", 500)
    session = updated(place, images)[0].session
    assert holes_of_exposures(session) == {"m_1": "21"}
    assert session.holes["hole_id"].tolist() == ["21", "22"]


def test_images_without_a_navigator_are_patches_by_where_the_stage_stood(tmp_path):
    for number, x_um in enumerate([100.0, 102.0, 220.0]):
        write_movie(tmp_path / f"m_{number}.tif.mdoc", "", x_um)
    made = assemble(read_sources([tmp_path]).records)
    patches = made.session.holes.set_index("hole_id")["patch_id"]
    assert patches["m_0"] == patches["m_1"] != patches["m_2"]
    assert "3 holes without a patch were put into patches of radius 5 um" in made.notes


def test_a_navigator_gets_the_planned_holes_of_its_own_grid(grid_a, grid_b, tmp_path):
    session = session_of(grid_a, grid_b)
    patch_of = dict(zip(session.holes["hole_id"], session.holes["patch_id"], strict=True))
    route = [PlannedHole(hole, patch_of[hole], 0.5) for hole in ("21", "b/21", "30")]
    own, notes = of_one_grid(route, session, grid_b)
    assert [hole.hole_id for hole in own] == ["21", "30"]
    assert notes == ("1 planned holes are of other grids (a): export them again with the navigator of each",)
    with pytest.raises(InputError, match=r"must be the navigator of one grid of the session.*\(a, b\)"):
        of_one_grid(route, session, tmp_path / "other.nav")
    with pytest.raises(InputError, match="Remedy: give the navigator of a"):
        of_one_grid(route[:1], session, grid_b)
