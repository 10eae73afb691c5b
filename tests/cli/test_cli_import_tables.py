"""`cryoscout import` of own tables: units of positions, and holes that are numbered anew."""

from __future__ import annotations

import json

import pytest

from cryoscout.session.store import SessionStore


def test_the_unit_of_positions_under_a_plain_header_can_be_said(cli, tmp_path):
    (tmp_path / "own.csv").write_text("square,hole,x,y\ns,h1,1,2\ns,h2,30,2\n")
    plain = json.loads(cli("import own.csv -o px.session --json").out)
    assert any(
        "for um of the stage, import it anew with --position-unit um" in note for note in plain["notes"]
    )
    told = json.loads(cli("import own.csv --position-unit um --patch-radius-um 5 -o um.session --json").out)
    assert not any("names no unit" in note for note in told["notes"])
    assert (plain["patches"], told["patches"]) == (1, 2)
    answer = cli("import own.csv --position-unit mm -o mm.session")
    assert (answer.code, answer.err) == (2, "The position unit must be um or px. Got 'mm' instead.\n")
    (tmp_path / "map.toml").write_text('position_unit = "um"\n')
    answer = cli("import own.csv --position-unit um --mapping map.toml -o mm.session")
    assert answer.code == 2
    assert "Got --position-unit and --mapping instead." in answer.err


def test_holes_numbered_anew_in_each_square_make_a_session_that_can_grow(cli, tmp_path):
    lines = [f"g{grid},{square},1,{hole},\n" for grid in "12" for square in "AB" for hole in "123"]
    for name, rows in (("own.csv", lines[:3]), ("own.csv", lines), ("all.csv", lines)):
        (tmp_path / name).write_text("grid,square,patch,hole,ctf\n" + "".join(rows))
        again = "--update" if (tmp_path / "own.session").exists() and name == "own.csv" else ""
        answer = cli(f"import {name} -o {name[:3]}.session {again} --json")
        assert answer.code == 0
        told = json.loads(answer.out)
    assert [told[level] for level in ("grids", "squares", "patches", "holes")] == [2, 4, 4, 12]
    assert any("9 holes have the id of a hole of another place" in note for note in told["notes"])
    with (
        SessionStore.open(tmp_path / "own.session") as store,
        SessionStore.open(tmp_path / "all.session") as one,
    ):
        grown, whole = store.load(), one.load()
    assert sorted(grown.holes["hole_id"]) == sorted(whole.holes["hole_id"])
    assert sorted(grown.patches["patch_id"]) == sorted(whole.patches["patch_id"])


@pytest.mark.parametrize(
    ("later", "refused"),
    [
        ("square,hole,x_um,y_um,name,ctf\nB,1,101,1,i11,5.1\nB,2,103,1,i12,5.2\n", True),
        pytest.param("square,hole\nB,1\nB,2\n", True, marks=pytest.mark.slow),
        ("square,hole,x_um,y_um\nB,1,1.2,1\nB,2,3,1.1\n", False),  # the same places, called otherwise
        pytest.param("square,hole,x_um,y_um\nA,1,1,1\nB,3,103,1\n", False, marks=pytest.mark.slow),
    ],
)
def test_a_later_table_whose_numbers_begin_anew_in_another_square_is_refused(cli, tmp_path, later, refused):
    (tmp_path / "a.csv").write_text("square,hole,x_um,y_um,name,ctf\nA,1,1,1,i1,3.1\nA,2,3,1,i2,3.2\n")
    assert cli("import a.csv -o run.session").code == 0
    (tmp_path / "b.csv").write_text(later)
    answer = cli("import b.csv -o run.session --update")
    assert answer.code == (2 if refused else 0), answer.err
    if refused:
        assert (
            "b.csv, line 2: a hole_id must stand for one place. Got '1' in square 'B' and, in the session, in 'A' "
            "instead (2 such holes). Remedy: one table that has the lines of both squares tells them apart; where it "
            "is the same square, call it as before." in answer.err
        )


def test_one_table_of_both_squares_tells_their_numbers_apart_as_the_refusal_says(cli, tmp_path):
    (tmp_path / "a.csv").write_text("square,hole,x_um,y_um\nA,1,1,1\nA,2,3,1\n")
    assert cli("import a.csv -o run.session").code == 0
    (tmp_path / "b.csv").write_text("square,hole,x_um,y_um,ctf\nB,1,101,1,5\n")
    assert cli("import b.csv -o run.session --update").code == 2
    (tmp_path / "b.csv").write_text("square,hole,x_um,y_um,ctf\nB,1,101,1,5\nA,2,3,1,\n")
    answer = cli("import b.csv -o run.session --update --json")
    assert answer.code == 0, answer.err
    with SessionStore.open(tmp_path / "run.session") as store:
        session = store.load()
    assert session.holes["hole_id"].tolist() == ["1", "2", "B/1"]
    assert session.exposures[["exposure_id", "hole_id"]].to_numpy().tolist() == [["B/1", "B/1"]]


def test_a_square_that_is_named_later_only_is_no_other_place(cli, tmp_path):
    (tmp_path / "a.csv").write_text("hole,name,ctf\n1,i1,3.1\n2,i2,3.2\n")
    assert cli("import a.csv -o run.session").code == 0
    (tmp_path / "b.csv").write_text("square,hole\nA,1\nA,2\n")
    assert cli("import b.csv -o run.session --update").code == 0
