"""A SerialEM session as one source: what is a square, where a hole belongs, which exposure is whose."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.records import (
    CTF_COLUMNS,
    EXPOSURE_COLUMNS,
    HOLE_COLUMNS,
    LOOK_COLUMNS,
    SQUARE_COLUMNS,
)
from cryoscout.formats.serialem.exposures import Nearest
from cryoscout.formats.serialem.nav import read_nav
from cryoscout.formats.serialem.places import places_of, stage_of_pixel
from cryoscout.formats.serialem.session import detect, read_grids, read_source, validate
from cryoscout.formats.text.findings import Deviation
from cryoscout.intake.assemble import assemble
from examples import share

DATA = Path(__file__).parents[1] / "data" / "serialem"
MADE = DATA / "made_by_hand_two_squares.nav"


def movie(
    label=None, name="m_0001", at="08-Oct-2021  07:39:08", shot=None, stage="-230.1 358.6", dose_set="4"
):
    lines = [
        "T = SerialEM: K3        08-Oct-2021  07:38:24",
        "",
        "[FrameSet = 0]",
        f"StagePosition = {stage}",
        "ImageShift = 1.5 -0.5",
        "Defocus = -1.1",
        f"LowDoseConSet = {dose_set}",
        f"SubFramePath = X:\\example\\frames\\{name}.tif",
        f"DateTime = {at}",
        *([f"NavigatorLabel = {label}"] if label else []),
        *([f"MultishotHoleAndPosition = {shot}"] if shot else []),
    ]
    return "\r\n".join(lines) + "\r\n"


@pytest.fixture
def session(tmp_path):
    """A folder with the navigator and movies of three holes below it."""
    shutil.copy(MADE, tmp_path / "grid1.nav")
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, (label, shot) in enumerate(
        [("7", "1-0"), ("7", "1-1"), ("8", "1-0"), ("45", "1-0"), (None, None)], 1
    ):
        stage = "103.6 -132.5" if label == "45" else "-230.1 358.6"
        name = f"m_{number:04d}"
        (frames / f"{name}.tif.mdoc").write_text(
            movie(label, name, f"08-Oct-21  07:39:0{number}", shot, stage), newline=""
        )
        (frames / f"{name}.tif").write_bytes(b"II*\0")
    return tmp_path


def rows(table, *columns):
    return list(table[list(columns)].itertuples(index=False, name=None))


def test_squares_are_maps_without_the_whole_grid_and_without_maps_inside_squares():
    source = read_source(MADE)
    assert rows(source.squares, "square_id", "x_um", "y_um") == [
        ("3-A", -212.4, 341.7),
        ("4-A", 96.3, -131.8),
    ]
    assert "map 1-A shows the whole grid (1946 um) and is no square" in source.notes
    assert "1 map inside a square's map stands for that square" in source.notes


def test_holes_are_points_and_chosen_means_acquire():
    holes = read_source(MADE).holes
    assert len(holes) == 40
    assert holes.loc[holes["chosen"], "hole_id"].tolist() == [
        *map(str, range(12, 17)),
        *map(str, range(27, 31)),
    ]
    assert rows(holes.iloc[:1], "hole_id", "x_um", "y_um") == [("7", -230.1, 358.6)]


def test_a_hole_belongs_to_its_map_then_its_group_then_the_outline_around_it():
    source = read_source(MADE)
    nav = read_nav(MADE)
    holes = source.holes.set_index("hole_id")["square_id"]
    assert set(holes.loc[[str(n) for n in range(7, 27)]]) == {"3-A"}
    assert set(holes.iloc[20:]) == {"4-A"}
    drawn_on = {hole.id: hole.drawn_id for hole in nav.holes}
    # On the view map inside the square, on no map but in a group, on no map and in no group.
    assert (drawn_on["7"], drawn_on["26"], drawn_on["27"]) == (100005, 0, 0)
    assert source.notes[2:4] == (
        "1 hole belongs to the square of the group (GroupID): DrawnID names no square",
        "2 holes belong to the square whose outline is around: DrawnID and GroupID name none",
    )


def test_a_hole_may_name_a_map_that_is_not_there_and_a_hole_outside_belongs_nowhere(tmp_path):
    text = (
        MADE.read_bytes()
        .decode()
        .replace("DrawnID = 100004", "DrawnID = 999")
        .replace("Item = 4-A", "Item = 4-B")
    )
    start, rest = text.split("[Item = 4-B]")
    (tmp_path / "a.nav").write_text(start + rest[rest.index("[Item") :], newline="")
    source = read_source(tmp_path / "a.nav")
    assert rows(source.squares, "square_id", "x_um")[0] == ("3-A", -212.4)
    assert source.squares["square_id"].tolist() == ["3-A", "999"]
    assert math.isnan(source.squares["x_um"].iloc[1])
    assert source.holes["square_id"].value_counts().to_dict() == {"3-A": 20, "999": 18, "": 2}
    assert "2 holes belong to no square" in source.notes


def item(label, x_um, y_um, map_id, *more, corners=((0, 0),)):
    xs, ys = (" ".join(str(at + corner[axis]) for corner in corners) for axis, at in ((0, x_um), (1, y_um)))
    lines = [
        f"[Item = {label}]",
        "Color = 0",
        f"StageXYZ = {x_um} {y_um} 0",
        f"NumPts = {len(corners)}",
        "Regis = 1",
    ]
    return "\r\n".join([*lines, f"MapID = {map_id}", *more, f"PtsX = {xs}", f"PtsY = {ys}", "", ""])


AROUND = ((-30, -30), (30, -30), (30, 30), (-30, 30), (-30, -30))
ON_THE_GRID_MAP = "".join(
    [
        item("60", 600, 600, 60060, "Type = 0", "DrawnID = 100001"),
        item("61", -600, -600, 60061, "Type = 0", "DrawnID = 100001"),
        item("62", 700, -700, 60062, "Type = 1", "DrawnID = 100001", corners=AROUND),
        item("63", 705, -700, 60063, "Type = 0", "DrawnID = 100001"),
        item("64", 96.3, -131.8, 60064, "Type = 0", "DrawnID = 100001"),
        item("65", -212.4, 341.7, 60065, "Type = 0", "DrawnID = 100001"),
    ]
)
EXPOSED = {"60": "600.5 599", "63": "705 -700.2", "64": "97 -132", "61": "0 0"}


def with_points_on_the_grid_map(session):
    nav = session / "grid1.nav"
    nav.write_bytes(nav.read_bytes().rstrip() + b"\r\n\r\n" + ON_THE_GRID_MAP.encode())
    return nav


def test_a_point_on_a_grid_map_is_a_hole_where_exposures_were_taken(session):
    nav = with_points_on_the_grid_map(session)
    before = assemble([read_source(nav)]).session
    assert {"60", "61", "62"} <= set(before.squares["square_id"])
    assert not {"60", "63", "64", "65"} & set(before.holes["hole_id"])
    for label, stage in EXPOSED.items():
        (session / "frames" / f"g_{label}.tif.mdoc").write_text(
            movie(label, f"g_{label}", stage=stage), newline=""
        )
    source = read_source(session)
    holes = source.holes.set_index("hole_id")
    assert holes.loc[["60", "63", "64"], "square_id"].tolist() == ["60", "62", "4-A"]
    assert not {"61", "65"} & set(holes.index)
    exposures = source.exposures.set_index("exposure_id")["hole_id"]
    # 61 is named by an image that was taken elsewhere, on another grid.
    assert exposures.loc[["g_60", "g_61", "g_63", "g_64"]].tolist() == ["60", "", "63", "64"]
    assert "3 points drawn on a whole-grid map are holes: exposures were taken there" in source.notes
    # A navigator that was imported before its images leads to the same places.
    after, at_once = assemble([source], before).session, assemble([source]).session
    assert set(after.squares["square_id"]) == set(at_once.squares["square_id"])
    assert set(after.holes["hole_id"]) == set(at_once.holes["hole_id"])


def test_an_image_that_is_a_map_is_no_exposure_of_the_point_that_it_was_taken_at(session):
    nav = with_points_on_the_grid_map(session)
    nav.write_bytes(
        nav.read_bytes()
        .replace(b"grid1_MMM.mrc", b"squares.mrc")
        .replace(b"MapMontage = 1", b"MapMontage = 0")
    )
    sections = "".join(
        f"[ZValue = {number}]\nStagePosition = {stage}\nNavigatorLabel = {label}\n\n"
        for number, (label, stage) in enumerate(
            [("65", "-212.4 341.7"), ("64", "96.3 -131.8"), ("64", "97 -132")]
        )
    )
    (session / "squares.mrc.mdoc").write_text(f"ImageFile = squares.mrc\n\n{sections}")
    source = read_source(session)
    assert "65" not in set(source.holes["hole_id"])
    exposures = source.exposures[source.exposures["exposure_id"].str.startswith("squares")]
    assert rows(exposures, "exposure_id", "hole_id") == [("squares_2", "64")]
    assert "2 images are maps of the navigator and no exposures" in source.notes


def test_patches_are_groups_or_clusters_within_reach():
    source = read_source(MADE)
    sizes = source.holes["patch_id"].value_counts()
    assert [sizes[f"3-A/group{group}"] for group in range(200001, 200005)] == [5, 5, 5, 5]
    clusters = source.holes[source.holes["patch_id"].str.startswith("4-A/cluster")]
    assert len(clusters) == 20
    for _, patch in clusters.groupby("patch_id"):
        distance = np.hypot(patch["x_um"] - patch["x_um"].mean(), patch["y_um"] - patch["y_um"].mean())
        assert distance.max() <= 5.0
    assert read_source(MADE, patch_radius_um=40.0).holes["patch_id"].nunique() == 5


def test_a_group_wider_than_image_shift_reaches_is_divided():
    source = read_source(MADE, patch_radius_um=1.0)
    inside = source.holes[source.holes["patch_id"].str.startswith("3-A/group200001.")]
    assert inside["patch_id"].nunique() == 5
    assert "4 groups wider than image shift reaches were divided into patches of 1 um" in source.notes


def test_pixels_of_the_corners_of_a_real_map_are_its_corners():
    (item,) = read_nav(DATA / "pyserialem_nav.nav").items
    width, height = item.size_px
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    for (x_px, y_px), x_um, y_um in zip(corners, item.points_x, item.points_y, strict=False):
        assert stage_of_pixel(item, x_px, y_px) == pytest.approx((x_um, y_um), abs=0.002)


def test_holes_stand_on_the_image_of_their_square():
    nav = read_nav(MADE)
    square = nav.by_id["3-A"]
    hole = places_of(nav, 5.0).holes[0]
    assert stage_of_pixel(square, hole.x_px, square.size_px[1] - hole.y_px) == pytest.approx(
        (hole.x_um, hole.y_um)
    )


def test_a_point_in_pixels_of_a_single_image_gets_its_stage_position_and_of_a_montage_none(tmp_path):
    keys = (
        "Color = 0",
        "NumPts = 0",
        "Regis = 1",
        "Type = 0",
        "DrawnID = 1291353952",
        "CoordsInMap = 4096 0 31.9",
    )
    point = "\n".join(["", "[Item = 9]", *keys, ""])
    text = (DATA / "pyserialem_nav.nav").read_text() + point
    path = tmp_path / "a.nav"
    path.write_text(text)
    hole = read_source(path).holes.iloc[0]
    assert (hole["x_um"], hole["y_um"]) == pytest.approx((-416.058, 361.32), abs=0.002)
    assert (hole["x_px"], hole["y_px"], hole["square_id"]) == pytest.approx((4096.0, 4096.0, "17-1-A"))
    path.write_text(text.replace("MapMontage = 0", "MapMontage = 1"))
    source = read_source(path)
    assert math.isnan(source.holes["x_um"].iloc[0])
    assert source.holes["patch_id"].tolist() == [""]
    assert (
        source.notes[-1] == "1 hole is given in pixels of a montage or of a map that is not here: no position"
    )


def test_pixels_of_a_map_that_is_not_here_stay_in_extra():
    source = read_source(DATA / "semmatch_newNav.nav")
    assert source.holes[["x_um", "y_um", "x_px", "y_px"]].isna().all(axis=None)
    assert source.squares["square_id"].tolist() == ["1357591511"]
    assert source.extra["9003"]["CoordsInMap"] == "2239 1535 31.9355"
    assert not any("were put into patches" in note for note in source.notes)
    (note,) = [note for note in source.notes if "no position" in note]
    assert note.startswith(f"{len(source.holes)} holes are given in pixels")


def test_multishot_keys_and_unknown_keys_are_in_extra():
    extra = read_source(MADE).extra
    keys = ("HoleArray", "SkipHoles", "HoleISXspacing", "FutureKey", "MapID", "Note")
    assert [extra["7"][key] for key in keys] == [
        "1 1", "1 1 2 2", "1.98 0.12 0", "kept = 1", "100007", "centre; ice = 20 nm, x=1",
    ]  # fmt: skip
    assert extra["3-A"]["MapFile"] == "X:\\example\\grid1\\grid1_MMM.mrc"


def test_exposures_join_holes_by_the_navigator_label(session):
    source = read_source(session)
    assert rows(source.exposures, "exposure_id", "hole_id", "square_id", "shot_key") == [
        ("m_0001", "7", "3-A", "0"),
        ("m_0002", "7", "3-A", "1"),
        ("m_0003", "8", "3-A", "0"),
        ("m_0004", "45#100045", "4-A", "0"),
        ("m_0005", "", "", ""),
    ]
    assert source.exposures["started_at"].iloc[0] == pd.Timestamp(2021, 10, 8, 7, 39, 1)
    assert rows(source.exposures.iloc[:1], "stage_x_um", "stage_y_um", "shift_x_um", "shift_y_um") == [
        (-230.1, 358.6, 1.5, -0.5)
    ]
    assert (source.shots, source.session_name, source.format) == (2, "grid1", "serialem")
    assert source.extra["m_0001"]["Defocus"] == "-1.1"
    assert source.notes[-2:] == (
        "1 exposure has no NavigatorLabel: not taken by Acquire at Items",
        "1 exposure names a label that several holes have: the nearest one was taken",
    )


def test_of_holes_with_one_label_the_nearest_is_taken(session):
    path = session / "frames" / "m_0004.tif.mdoc"
    near_the_other = movie("45", "m_0004", stage="104.7 -128.6")
    path.write_text(near_the_other)
    nav = read_nav(MADE)
    stage = {hole.id: hole.stage_um[:2] for hole in nav.holes if hole.label == "45"}
    source = read_source(session)
    found = source.exposures.set_index("exposure_id").loc["m_0004", "hole_id"]
    assert found == min(stage, key=lambda name: math.dist(stage[name], (104.7, -128.6)))


def test_of_holes_with_one_label_none_is_taken_without_a_place(session):
    path = session / "frames" / "m_0004.tif.mdoc"
    text = movie("45", "m_0004")
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("StagePosition")))
    source = read_source(session)
    assert source.exposures.set_index("exposure_id").loc["m_0004", "hole_id"] == ""
    assert (
        "1 exposure names a label that several holes have, and no place (first: m_0004, item 45): they get no hole; "
        "import each grid by itself, with its own images" in source.notes
    )
    assert not any("nearest one was taken" in note for note in source.notes)


def test_a_label_that_no_hole_has_leaves_the_exposure_without_hole(session):
    (session / "frames" / "m_0001.tif.mdoc").write_text(movie("3-A", "m_0001"))
    source = read_source(session)
    assert source.exposures["hole_id"].iloc[0] == ""
    assert "1 exposure names an item that is no hole of the navigator (first: 3-A)" in source.notes


@pytest.mark.parametrize("name", ["a/run.mrc.mdoc", "z/run.mrc.mdoc"])
def test_an_exposure_described_twice_is_one_and_gaps_are_filled(session, name):
    keys = ("NavigatorLabel = 9", "SubFramePath = D:\\m_0005.tif", "ExposureDose = 50")
    stack = "\r\n".join(["ImageFile = run.mrc", "", "[ZValue = 0]", *keys, ""])
    (session / name).parent.mkdir()
    (session / name).write_text(stack, newline="")
    source = read_source(session)
    assert len(source.exposures) == 5
    last = source.exposures.set_index("exposure_id").loc["m_0005"]
    assert (last["hole_id"], last["started_at"]) == ("9", pd.Timestamp(2021, 10, 8, 7, 39, 5))
    assert (source.extra["m_0005"]["ExposureDose"], source.extra["m_0005"]["Defocus"]) == ("50", "-1.1")
    assert any(note.startswith("1 exposure is described twice") for note in source.notes)


def test_images_of_a_stack_without_movies_are_named_by_file_and_number(tmp_path):
    path = tmp_path / "run.mrc.mdoc"
    path.write_text("ImageFile = X:\\a\\run.mrc\n\n[ZValue = 0]\nStageZ = 1\n[ZValue = 1]\nStageZ = 1\n")
    assert read_source(path).exposures["exposure_id"].tolist() == ["run_0", "run_1"]
    path.write_text("[ZValue = 0]\nNavigatorLabel = 12\n")
    source = read_source(path)
    assert rows(source.exposures, "exposure_id", "hole_id", "grid_id") == [("run", "12", "run")]


def test_montages_and_view_images_give_no_exposures(session):
    shutil.copy(DATA / "pyserialem_gm.mrc.mdoc", session)
    (session / "frames" / "m_0001.tif.mdoc").write_text(movie("7", "m_0001", dose_set="1"))
    source = read_source(session)
    assert "m_0001" not in set(source.exposures["exposure_id"])
    assert "1 metadata file is of montages: no exposures" in source.notes
    assert "1 image is of another kind than Record (LowDoseConSet): no exposures" in source.notes


def test_parts_of_a_movie_are_no_exposures():
    source = read_source(DATA / "mdocfile_frame_set_multiple.mdoc")
    assert source.exposures["exposure_id"].tolist() == ["s_mmm_01013_33.0_Oct08_07.46.46"]


def test_tables_have_their_columns_and_types_even_when_empty():
    for path in (MADE, DATA / "mdocfile_frame_set_single.mdoc"):
        source = read_source(path)
        assert tuple(source.squares) == (*SQUARE_COLUMNS, *LOOK_COLUMNS)
        assert tuple(source.holes) == HOLE_COLUMNS
        assert tuple(source.exposures) == EXPOSURE_COLUMNS
        assert tuple(source.ctf) == CTF_COLUMNS
        assert source.holes["chosen"].dtype == "boolean"
        assert source.exposures["started_at"].dtype == "datetime64[ns]"
        assert source.exposures["stage_x_um"].dtype == "float64"


def test_a_navigator_alone_takes_the_images_it_is_told(session):
    assert read_source(session / "grid1.nav").exposures.empty
    assert len(read_source(session / "grid1.nav", mdocs=session / "frames").exposures) == 5
    with pytest.raises(FileFormatError, match="must hold SerialEM files"):
        read_source(session / "grid1.nav", mdocs=session / "none")


def test_several_navigators_are_grids_and_an_exposure_goes_to_the_item_that_it_was_taken_at(session):
    moved = MADE.read_bytes().replace(b"-230.1 358.6 ", b"-430.1 358.6 ").replace(b"100007", b"100999")
    (session / "grid2.nav").write_bytes(moved)
    (session / "frames" / "m_0003.tif.mdoc").write_text(movie("7", "m_0003", stage="-430.4 358.2"))
    with pytest.raises(FileFormatError) as error:
        read_source(session, permissive=True)
    assert error.value.detail == (
        "must hold one navigator file. Got 2 instead (grid1.nav, grid2.nav). "
        "Remedy: `cryoscout import` and `read_grids` read each as a grid of its own."
    )
    first, second = read_grids([session])
    assert (first.session_name, second.session_name) == ("grid1", "grid2")
    assert rows(first.exposures, "exposure_id", "hole_id")[:2] == [("m_0001", "7"), ("m_0002", "7")]
    assert rows(second.exposures, "exposure_id", "hole_id", "grid_id") == [("m_0003", "7", "grid2")]


def test_an_exposure_far_from_the_item_that_it_names_is_of_no_hole_and_is_named(session):
    (session / "frames" / "m_0003.tif.mdoc").write_text(movie("8", "m_0003", stage="-30.1 358.6"))
    source = read_source(session)
    assert source.exposures.set_index("exposure_id").loc["m_0003", "hole_id"] == ""
    (note,) = [note for note in source.notes if "farther than" in note]
    assert note.startswith(
        "1 exposure was taken farther than 50 um from the item that they name (first: m_0003, "
    )


def test_holes_of_a_pattern_are_told_apart_and_the_first_has_the_name_of_the_item(session):
    for number, shot in enumerate(["X-1Y+1-0", "X-1Y+1-1", "X+0Y+0-0", "X0Y0-1", "X+1Y-1-0"], 1):
        name = f"p_{number}"
        text = movie("9", name, f"08-Oct-21  08:00:0{number}", shot)
        (session / "frames" / f"{name}.tif.mdoc").write_text(text)
    source = read_source(session)
    found = source.exposures[source.exposures["exposure_id"].str.startswith("p_")]
    assert rows(found, "hole_id", "shot_key") == [
        ("9", "0"), ("9", "1"), ("9@X+0Y+0", "0"), ("9@X+0Y+0", "1"), ("9@X+1Y-1", "0"),
    ]  # fmt: skip
    holes = source.holes.set_index("hole_id")
    assert holes.loc["9@X+1Y-1", ["patch_id", "square_id", "x_um"]].tolist() == (
        holes.loc["9", ["patch_id", "square_id", "x_um"]].tolist()
    )
    assert holes["chosen"].isna().sum() == 2
    assert any(note.startswith("1 item was imaged as several holes (MultiShot)") for note in source.notes)


def test_a_pattern_without_a_navigator_is_several_holes_of_its_item(tmp_path):
    for number, shot in enumerate(["X+1Y-1-0", "R2H3-0", "X1Y0-2", "1-1"], 1):
        (tmp_path / f"a_000{number}.mdoc").write_text(
            f"[FrameSet = 0]\nStagePosition = 1 2\nSubFramePath = X:\\raw\\a_000{number}.tif\n"
            f"NavigatorLabel = 5\nMultishotHoleAndPosition = {shot}\n"
        )
    assert rows(read_source(tmp_path).exposures, "exposure_id", "hole_id", "shot_key") == [
        ("a_0001", "5", "0"), ("a_0002", "5@R2H3", "0"), ("a_0003", "5@X+1Y+0", "2"), ("a_0004", "5@1", "1"),
    ]  # fmt: skip


def test_one_label_at_two_places_without_a_navigator_is_two_holes(tmp_path):
    for number, x_um in enumerate([10, 210.5, 10.2], 1):
        (tmp_path / f"a_{number}.mdoc").write_text(
            f"[FrameSet = 0]\nStagePosition = {x_um} 2\nSubFramePath = a_{number}.tif\nNavigatorLabel = 21\n"
        )
    source = read_source(tmp_path)
    assert source.exposures["hole_id"].tolist() == ["21", "21#2", "21"]
    assert any("1 label stands for items of several places" in note for note in source.notes)


def test_a_tilt_series_is_no_hole(tmp_path):
    stack = tmp_path / "ts_01.mrc.mdoc"
    tilts = "".join(
        f"[ZValue = {z}]\nStagePosition = 10 20\nTiltAngle = {tilt}\n" for z, tilt in enumerate((0, 30))
    )
    stack.write_text(f"ImageFile = ts_01.mrc\n\n{tilts}")
    with pytest.raises(FileFormatError) as error:
        read_source(tmp_path)
    assert error.value.detail == (
        "must hold images of holes. Got none instead: 2 images are 1 tilt series (0 to 30 degrees): no holes, left "
        "out. Remedy: give the navigator of the session, or the images that were taken of its holes."
    )
    for number, (x_um, tilt) in enumerate([(500, 0.02), (700, -30.1), (500.4, 30.0), (900, 0.01)]):
        (tmp_path / f"m_{number}.tif.mdoc").write_text(
            f"[FrameSet = 0]\nStagePosition = {x_um} 0\nTiltAngle = {tilt}\nSubFramePath = m_{number}.tif\n"
        )
    source = read_source(tmp_path)
    # Every single one at another place is an image of a hole, tilted or not.
    assert source.exposures["exposure_id"].tolist() == ["m_1", "m_3"]
    assert "4 images are 2 tilt series (0 to 30 degrees): no holes, left out" in source.notes


def test_text_of_a_windows_code_page_is_read_and_said(session):
    text = (session / "grid1.nav").read_bytes().replace(b"centre; ice", b"Mitte f\xfcr; ice")
    (session / "grid1.nav").write_bytes(text)
    source = read_source(session)
    assert source.extra["7"]["Note"] == "Mitte für; ice = 20 nm, x=1"
    assert any(
        note.startswith("1 file is not UTF-8 and read as text of Windows code page 1252 (grid1.nav)")
        for note in source.notes
    )
    assert read_nav(session / "grid1.nav").document.to_bytes() == text


def test_one_bad_metadata_file_fails_strictly_and_is_listed_with_its_name_when_permissive(session):
    bad = session / "frames" / "m_0002.tif.mdoc"
    bad.write_text("T = SerialEM: K3\n[FrameSet = 0]\nStagePosition = 1\nNavigatorLabel = 7\n")
    (session / "frames" / "m_0003.tif.mdoc").write_bytes(b"[FrameSet = 0]\nStageZ = 1\n" + b"\0" * 50)
    with pytest.raises(FileFormatError, match="StagePosition must hold 2 numbers"):
        read_source(session)
    source = read_source(session, permissive=True)
    assert source.deviations[0] == Deviation(
        3, "StagePosition must hold 2 numbers. Got 1 instead.", "m_0002.tif.mdoc [FrameSet = 0]"
    )
    assert validate(session)[0] == source.deviations[0]
    assert {"m_0001", "m_0004", "m_0005"} <= set(source.exposures["exposure_id"])


def test_a_folder_is_recognised_by_the_files_at_its_top(session, tmp_path_factory):
    assert detect(session)
    assert detect(session / "grid1.nav")
    assert detect(session / "frames" / "m_0001.tif.mdoc")
    assert not detect(session / "frames" / "m_0001.tif")
    empty = tmp_path_factory.mktemp("empty")
    (empty / "a.nav").write_text("something else")
    assert not detect(empty)
    for read in (read_source, validate):
        with pytest.raises(FileFormatError, match="must hold SerialEM files"):
            read(empty)


def test_two_maps_of_the_same_square_do_not_swallow_each_other(tmp_path):
    text = MADE.read_bytes().decode()
    start = text.index("[Item = 4-A]")
    copy = text[start : text.index("[Item = 5-V]")].replace("4-A", "40-A").replace("100004", "777")
    (tmp_path / "a.nav").write_text(text[:start] + copy + text[start:], newline="")
    source = read_source(tmp_path / "a.nav")
    assert source.squares["square_id"].tolist() == ["3-A", "40-A", "4-A"]
    assert set(source.holes["square_id"].iloc[21:25]) == {"4-A"}


def test_more_maps_than_any_session_has_are_refused(monkeypatch):
    monkeypatch.setattr("cryoscout.formats.serialem.places.MOST_MAPS", 3)
    with pytest.raises(FileFormatError, match=r"must have at most 3 maps\. Got 4 instead\."):
        read_source(MADE)


@settings(max_examples=share(100))
@given(
    places=st.lists(
        st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, 50.0, math.nan])] * 2), min_size=1, max_size=12
    ),
    at=st.tuples(*[st.sampled_from([0.0, 0.5, 1.5, 49.0, math.nan])] * 2),
)
def test_the_nearest_hole_is_the_first_of_those_that_are_as_near(places, at):
    holes = [(0, SimpleNamespace(x_um=x, y_um=y)) for x, y in places]
    far = [math.hypot(x - at[0], y - at[1]) for x, y in places]
    known = [math.inf if math.isnan(each) else each for each in far]
    distance_um, hole = Nearest(holes).to(*at)
    assert distance_um == pytest.approx(min(known))
    assert hole is holes[known.index(min(known))]


def test_many_holes_of_one_label_are_not_gone_through_for_every_image():
    rng = np.random.default_rng(0)
    holes = [(0, SimpleNamespace(x_um=x, y_um=y)) for x, y in rng.uniform(0, 1000, (30_000, 2)).tolist()]
    began = time.process_time()
    nearest = Nearest(holes)
    for x, y in rng.uniform(0, 1000, (3000, 2)).tolist():
        nearest.to(x, y)
    # Generous: 90 million distances one by one take a minute.
    assert time.process_time() - began < 10
