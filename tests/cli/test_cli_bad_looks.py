"""Looks that cannot be, and atlases that say little: a clear error or a note, and nothing is lost."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cryoscout.core.errors import InputError
from cryoscout.routing.time_model import time_model_named
from cryoscout.session.following import FollowedSession
from cryoscout.session.looks import notes_on_looks, patches_looked_at, squares_looked_at
from cryoscout.session.model import SessionInfo, session_from_holes
from cryoscout.session.store import SessionStore

EPU = Path(__file__).parents[1] / "formats" / "data" / "epu"
SQUARES = """grid,square,x_um,y_um,area_um2,brightness,looked_at
g1,S1,-100,50,1600,182,
g1,S2,0,50,1500,140,2026-01-31 10:15:00
g1,S3,100,50,900,90,
"""
PLAN = "plan run.session --budget-min 60 --time-model y1-looks-as-sketched --json"


def stored(tmp_path):
    with SessionStore.open(tmp_path / "run.session") as store:
        return store.load()


def made(**of_squares):
    """Two squares with a patch each, one hole each."""
    holes = pd.DataFrame(
        {
            "hole_id": ["a", "b"],
            "patch_id": ["p1", "p2"],
            "square_id": ["s1", "s2"],
            "grid_id": "g",
            "x_px": np.nan,
            "y_px": np.nan,
        }
    )
    exposures = pd.DataFrame(
        {
            "exposure_id": pd.Series([], dtype="str"),
            "hole_id": pd.Series([], dtype="str"),
            "shot": pd.Series([], dtype="int64"),
            "started_at": pd.Series([], dtype="datetime64[ns]"),
            "outcome": pd.Series([], dtype="str"),
            "ctf_max_res_angstrom": pd.Series([], dtype="float64"),
        }
    )
    session = session_from_holes("run", SessionInfo(format="generic"), holes, exposures)
    return replace(session, squares=session.squares.assign(**of_squares))


def test_a_look_before_its_parent_is_noted_and_kept():
    session = made(looked_at=pd.to_datetime(["2026-01-31 10:00", "2026-01-31 11:00"]), looked=True)
    session = replace(
        session,
        patches=session.patches.assign(
            looked_at=pd.to_datetime(["2026-01-31 10:05", "2026-01-31 10:10"]), looked=True
        ),
    )
    notes = notes_on_looks(session)
    assert notes == ("1 patch was looked at before its square, such as p2: the times stand as they are",)
    assert session.patches["looked_at"].notna().all()


def test_holes_that_appear_without_a_look_are_seen_and_noted():
    session = made(looked=pd.array([False, pd.NA], dtype="boolean"))
    assert squares_looked_at(session).tolist() == [True, True]
    assert patches_looked_at(session).tolist() == [True, True]
    assert notes_on_looks(session) == ("1 square has patches without a look, such as s1: taken as looked at",)


def test_a_square_that_shows_nothing_after_its_look_is_noted_and_not_planned(cli, tmp_path):
    (tmp_path / "atlas.csv").write_text(SQUARES)
    assert cli("import atlas.csv -o run.session").code == 0
    answer = cli(PLAN)
    assert answer.code == 0
    told = json.loads(answer.out)
    assert sorted(look["square"] for look in told["looks"]) == ["S1", "S3"]
    assert any("1 square showed no patches when looked at, such as S2" in note for note in told["notes"])
    assert len(stored(tmp_path).squares) == 3


def test_a_table_of_squares_keeps_what_it_says(cli, tmp_path):
    (tmp_path / "atlas.csv").write_text(SQUARES)
    assert cli("import atlas.csv -o run.session").code == 0
    squares = stored(tmp_path).squares
    assert squares["area_um2"].tolist() == [1600.0, 1500.0, 900.0]
    assert squares["brightness"].tolist() == [182.0, 140.0, 90.0]
    assert squares["looked_at"].tolist()[1] == pd.Timestamp("2026-01-31 10:15:00")


def test_a_square_that_is_looked_at_twice_has_its_latest_look(cli, tmp_path):
    (tmp_path / "atlas.csv").write_text(SQUARES + "g1,S2,,,,,2026-01-31 12:00:00\n")
    answer = cli("import atlas.csv -o run.session")
    assert answer.code == 0
    assert "1 line is of a square that stood before (looked at again): the latest look counts" in answer.out
    squares = stored(tmp_path).squares.set_index("square_id")
    assert squares.loc["S2", "looked_at"] == pd.Timestamp("2026-01-31 12:00:00")
    assert squares.loc["S2", "area_um2"] == 1500.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "g2,S1,5,5,10,10,",
            "line 5: a square must be in one grid. Got 'S1' in 'g2' instead (first in 'g1', on line 2)",
        ),
        pytest.param(
            "g1,S9,x,5,10,10,",
            "line 5: x_um must be a finite number. Got 'x' instead.",
            marks=pytest.mark.slow,
        ),
        ("g1,,5,5,10,10,", "line 5: a line must name its square."),
        pytest.param("g1,S9,5,5,10,10,yesterday", "line 5:", marks=pytest.mark.slow),
        ("g1,S9,5,5,10,10", "line 5: a line must have 7 values, as the header. Got 6 instead."),
    ],
)
def test_a_line_of_squares_that_cannot_be_is_named(cli, tmp_path, line, message):
    (tmp_path / "atlas.csv").write_text(f"{SQUARES}{line}\n")
    answer = cli("import atlas.csv -o run.session")
    assert answer.code == 2
    assert message in answer.err
    rest = cli("import atlas.csv -o run.session --permissive")
    assert rest.code == 0
    assert len(stored(tmp_path).squares) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("g1,S9,5,5,-10,10,", "line 5: area_um2 must be above 0 and at most 10,000,000 um2"),
        pytest.param(
            "g1,S9,5,5,1e300,10,",
            "line 5: area_um2 must be above 0 and at most 10,000,000 um2",
            marks=pytest.mark.slow,
        ),
        ("g1,S9,6000,5,10,10,", "line 5: x_um must be a stage position within 5,000 um"),
    ],
)
def test_a_square_with_a_value_that_cannot_be_stays_without_it(cli, tmp_path, line, message):
    (tmp_path / "atlas.csv").write_text(f"{SQUARES}{line}\n")
    answer = cli("import atlas.csv -o run.session")
    assert answer.code == 2
    assert message in answer.err
    assert cli("import atlas.csv -o run.session --permissive").code == 0
    squares = stored(tmp_path).squares.set_index("square_id")
    assert squares.loc["S9", ["x_um", "area_um2"]].isna().sum() == 1
    assert squares.loc["S9", "brightness"] == 10.0


def test_a_look_of_a_later_import_is_kept(cli, tmp_path):
    atlas = tmp_path / "atlas.csv"
    atlas.write_text("square,x_um,y_um,looked\nS1,0,0,no\nS2,60,0,no\nS3,120,0,yes\n")
    assert cli("import atlas.csv -o run.session").code == 0
    atlas.write_text("square,x_um,y_um,looked\nS1,0,0,yes\nS2,60,0,no\nS3,120,0,no\n")
    with FollowedSession.open(tmp_path / "run.session") as followed:
        answer = cli("import atlas.csv -o run.session --update")
        assert answer.code == 0
        followed.catch_up()
        assert followed.session.squares["looked"].tolist() == [True, False, True]
    assert stored(tmp_path).squares["looked"].tolist() == [True, False, True]
    assert "1 square was looked at before and by this import not, such as S3" in answer.out


@pytest.mark.slow
def test_what_a_later_import_completes_is_counted(cli, tmp_path):
    (tmp_path / "squares.csv").write_text("square,looked\ns1,no\ns2,no\ns3,no\n")
    assert cli("import squares.csv -o run.session").code == 0
    (tmp_path / "atlas.csv").write_text("square,x_um,y_um,brightness\ns1,10,20,140\ns2,110,20,150\n")
    answer = cli("import atlas.csv -o run.session --update --json")
    assert {what: count for what, count in json.loads(answer.out)["added"].items() if count} == {
        "completed_rows": 2
    }
    assert "nothing new" in cli("import atlas.csv -o run.session --update").out
    (tmp_path / "rest.csv").write_text("square,brightness\ns3,90\n")
    assert ": 1 completed row\n" in cli("import rest.csv -o run.session --update").out


def test_a_later_file_that_names_no_grid_is_of_the_only_one(cli, tmp_path):
    (tmp_path / "squares.csv").write_text("square,x_um,y_um\ns1,10,20\n")
    (tmp_path / "more.csv").write_text("square,x_um,y_um\ns1,10,20\ns2,110,20\n")
    (tmp_path / "holes.csv").write_text("square,hole,x_um,y_um\ns1,h1,10,20\ns3,h2,210,20\n")
    assert cli("import squares.csv -o run.session").code == 0
    for later, squares in (("more.csv", 2), ("holes.csv", 3)):
        answer = cli(f"import {later} -o run.session --update --json")
        told = json.loads(answer.out)
        assert (told["grids"], told["squares"], told["added"]["grids"]) == (1, squares, 0)


def test_a_square_that_stands_elsewhere_later_is_said_and_stays(cli, tmp_path):
    atlas = tmp_path / "atlas.csv"
    atlas.write_text("square,x_um,y_um\nS1,0,0\nS2,60,0\nS3,,\n")
    assert cli("import atlas.csv -o run.session").code == 0
    atlas.write_text("square,x_um,y_um\nS1,0,0.001\nS2,63,-4\nS3,120,0\n")
    answer = cli("import atlas.csv -o run.session --update")
    assert answer.code == 0
    assert (
        "1 square stands elsewhere than in the session: the stored positions stay (farthest: S2, 60.00, 0.00 um before "
        "and 63.00, -4.00 um now)" in answer.out
    )
    assert stored(tmp_path).squares["x_um"].tolist() == [0.0, 60.0, 120.0]


def test_a_square_that_stands_elsewhere_in_a_second_file_is_said(cli, tmp_path):
    (tmp_path / "a.csv").write_text("square,x_um,y_um\nS1,0,0\nS2,60,0\n")
    (tmp_path / "b.csv").write_text("square,x_um,y_um\nS2,61,0\nS3,120,0\n")
    answer = cli("import a.csv b.csv -o run.session")
    assert "1 square stands elsewhere in a second file than in the first" in answer.out
    assert stored(tmp_path).squares["x_um"].tolist() == [0.0, 60.0, 120.0]


def test_a_map_says_that_a_table_of_squares_is_one_of_holes(cli, tmp_path):
    (tmp_path / "site.csv").write_text("grid,square,Loch,x_um,y_um\ng1,S1,L1,0,0\ng1,S1,L2,3,0\n")
    (tmp_path / "atlas.csv").write_text("square,x_um,y_um\nS1,0,0\nS2,60,0\n")
    answer = cli("import site.csv atlas.csv --column hole=Loch -o run.session")
    assert answer.code == 0, answer.err
    session = stored(tmp_path)
    assert session.holes["hole_id"].tolist() == ["L1", "L2"]
    assert session.squares["square_id"].tolist() == ["S1", "S2"]
    (tmp_path / "bad.csv").write_text("grid,square,Loch,x_um,y_um\ng1,S1,,0,0\n")
    assert "a line must name its hole" in cli("validate bad.csv --column hole=Loch").out


def test_an_atlas_without_positions_is_planned_and_says_that_it_is_not_drawn(cli, tmp_path):
    (tmp_path / "atlas.csv").write_text("square,brightness\nS1,100\nS2,50\nS3,70\n")
    answer = cli("import atlas.csv -o run.session")
    assert answer.code == 0
    assert "3 of 3 squares have no stage position: they are not drawn" in answer.out
    listed = cli("plan run.session --budget-min 60 --export html -o list.html")
    assert listed.code == 0
    assert "No stage position of a square is known" in listed.out + listed.err
    assert "Look at square S1" in (tmp_path / "list.html").read_text()


def test_a_square_that_was_not_looked_at_has_no_time_of_a_look(cli, tmp_path):
    (tmp_path / "atlas.csv").write_text("square,looked,looked_at\nS1,no,2026-01-31 10:15:00\n")
    answer = cli("import atlas.csv -o run.session")
    assert answer.code == 2
    assert (
        "line 2: a place with a time of its look was looked at. Got looked 'no' and '2026-01-31 10:15:00' instead."
        in answer.err
    )


def test_a_square_of_the_same_id_in_another_grid_later_is_said_and_stays(cli, tmp_path):
    (tmp_path / "one.csv").write_text("grid,square,x_um,y_um\ng1,S1,,\n")
    (tmp_path / "two.csv").write_text("grid,square,x_um,y_um\ng2,S1,7,0\ng2,T1,5,0\n")
    assert cli("import one.csv -o run.session").code == 0
    answer = cli("import two.csv -o run.session --update")
    assert answer.code == 0
    assert (
        "1 square is of another grid in a file than in the session, such as S1 of g2, here of g1: nothing of "
        "them is taken." in " ".join(answer.out.split())
    )
    squares = stored(tmp_path).squares
    assert squares[["square_id", "grid_id"]].to_numpy().tolist() == [["S1", "g1"], ["T1", "g2"]]
    assert squares["x_um"].isna().tolist() == [True, False]  # no place of another grid's square


def test_an_atlas_that_calls_the_grid_otherwise_is_of_the_same_squares(cli, tmp_path):
    # EPU's session and its atlas number the grid each in their way.
    (tmp_path / "Atlas.dm").write_bytes(gzip.decompress((EPU / "Atlas.dm.gz").read_bytes()))
    assert cli(f"import {EPU / 'harvest_session'} -o run.session").code == 0
    answer = cli("import Atlas.dm -o run.session --update")
    assert answer.code == 0
    assert "272 completed rows" in answer.out
    assert "of another grid" not in answer.out


PATCHES = """grid,square,patch,x_um,y_um,looked,looked_at
g1,S1,,0,0,yes,2026-01-31 10:00:00
g1,S1,P1,,,no,
g1,S1,P2,,,yes,2026-01-31 09:55:00
g1,S2,,100,0,no,
g1,S3,P9,,,,
"""


def test_patches_without_holes_are_stored_and_planned_and_holes_may_come(cli, tmp_path):
    (tmp_path / "places.csv").write_text(PATCHES)
    answer = cli("import places.csv -o run.session")
    assert answer.code == 0, answer.err
    assert "3 patches are known of, without holes yet" in answer.out
    session = stored(tmp_path)
    assert session.squares["square_id"].tolist() == ["S1", "S2", "S3"]
    assert squares_looked_at(session).tolist() == [True, False, True]
    assert session.patches["patch_id"].tolist() == ["P1", "P2", "P9"]
    assert patches_looked_at(session).tolist() == [False, True, False]
    told = json.loads(cli(PLAN).out)
    assert {(look["square"], look["patch"]) for look in told["looks"]} == {
        ("S1", "P1"), ("S2", None), ("S3", "P9"),
    }  # fmt: skip
    notes = " ".join(told["notes"])
    assert "1 square and 2 patches were not looked at yet" in notes
    assert "1 patch showed no holes when looked at, such as P2" in notes
    assert "1 patch was looked at before its square, such as P2" in notes
    (tmp_path / "holes.csv").write_text("grid,square,patch,hole,x_um,y_um\ng1,S1,P1,h1,1,1\n")
    assert cli("import holes.csv -o run.session --update").code == 0
    assert patches_looked_at(stored(tmp_path)).tolist() == [True, True, False]
    (tmp_path / "later.csv").write_text("square,patch,looked\nS3,P9,yes\nS3,P10,\n")
    answer = cli("import later.csv -o run.session --update --json")
    assert json.loads(answer.out)["added"]["completed_rows"] == 1
    assert stored(tmp_path).patches["patch_id"].tolist() == ["P1", "P2", "P9", "P10"]
    assert patches_looked_at(stored(tmp_path)).tolist() == [True, True, True, False]


@pytest.mark.parametrize("later", ["square,patch,looked\nS2,P1,no\n", "square,patch,hole\nS2,P9,h5\n"])
def test_a_patch_that_is_in_another_square_later_is_refused_or_told_apart(cli, tmp_path, later):
    (tmp_path / "places.csv").write_text(PATCHES)
    assert cli("import places.csv -o run.session").code == 0
    before = stored(tmp_path)
    (tmp_path / "later.csv").write_text(later)
    answer = cli("import later.csv -o run.session --update")
    if "hole" in later:
        assert answer.code == 0
        patches = stored(tmp_path).patches
        assert patches.loc[patches["square_id"] == "S2", "patch_id"].tolist() == ["S2/P9"]
        return
    assert answer.code == 2
    assert "A patch must be in one square. Got 'P1' in 'S2' and in 'S1' instead." in answer.err
    pd.testing.assert_frame_equal(stored(tmp_path).patches, before.patches)


ATLAS_ALONE = "square,x_um,y_um,brightness\nS1,-100,50,182\nS2,0,50,140\nS3,100,50,90\n"


@pytest.mark.parametrize(
    ("options", "said", "not_said"),
    [
        ("--budget-min 1", "Nothing fits: the first look takes 5 min", "Policy explore"),
        ("--budget-min 60 --policy adaptive", "no hole that is not imaged is seen yet", "Nothing fits"),
        ("--budget-min 60 --policy adaptive", "Policy adaptive plans what is seen alone", "in replays alone"),
        ("--budget-min 60 --policy look-greedy", "Policy look-greedy looks in replays alone", "seen alone;"),
    ],
)
def test_a_plan_of_an_atlas_without_a_look_says_why(cli, tmp_path, options, said, not_said):
    (tmp_path / "atlas.csv").write_text(ATLAS_ALONE)
    assert cli("import atlas.csv -o run.session").code == 0
    answer = cli(f"plan run.session {options} --json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert told["looks"] == []
    notes = " ".join(told["notes"])
    assert said in notes
    assert not_said not in notes
    assert "the only hole that is not imaged is the one the stage is at" not in notes


def test_brightness_alone_says_nothing_before_a_square_was_opened(cli, tmp_path):
    (tmp_path / "atlas.csv").write_text(ATLAS_ALONE)
    assert cli("import atlas.csv -o run.session").code == 0
    looks = json.loads(cli("plan run.session --budget-min 60 --time-model 0.5,1,2,8,0.5,2 --json").out)[
        "looks"
    ]
    good = [look["expected_good"] for look in looks]
    assert len(good) == 3
    assert min(good) > 0.95 * max(good)


def test_squares_of_two_atlases_with_the_same_id_are_refused(cli, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Atlas.dm").write_bytes(gzip.decompress((EPU / "Atlas.dm.gz").read_bytes()))
    text = (tmp_path / "two" / "Atlas.dm").read_text(encoding="utf-8")
    (tmp_path / "two" / "Atlas.dm").write_text(text.replace(">19493178<", ">19493179<", 1), encoding="utf-8")
    answer = cli("import one two -o run.session")
    assert answer.code == 2
    assert "A square_id must stand for one place. Got " in answer.err
    assert "import the sessions one by one" in answer.err
    assert not (tmp_path / "run.session").exists()


def test_a_table_of_squares_beside_vendor_files_is_refused(cli, tmp_path):
    (tmp_path / "atlas.csv").write_text(SQUARES)
    answer = cli("import atlas.csv -o run.session", EPU / "harvest_session")
    assert answer.code == 2
    assert "A table of squares must stand alone" in answer.err


def test_minutes_of_looks_are_numbers_that_are_not_negative():
    model = time_model_named("1,2,3,4,0.5,2.5")
    assert (model.patch_look_min, model.square_look_min) == (0.5, 2.5)
    for text in ("1,2,3,4,-0.5,2.5", "1,2,3,4,0.5", "1,2,3,4,0.5,nan"):
        with pytest.raises(InputError, match="look at a patch and at a square"):
            time_model_named(text)
