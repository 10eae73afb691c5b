"""Tables of squares, made by hand."""

from __future__ import annotations

import pytest

from cryoscout.formats.own.squares import read_source, validate
from cryoscout.formats.own.table import detect as is_of_exposures
from cryoscout.formats.registry import format_of

SQUARES = b"square,x_um,y_um,area_um2\nS1,0,0,1600\nS2,60,0,1500"


def written(tmp_path, data):
    path = tmp_path / "atlas.csv"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "title", ["abs_file_path", "Abs File Path", "micrograph", "hole", "target id", "Image"]
)
def test_a_table_whose_titles_name_holes_or_exposures_is_none_of_squares(tmp_path, title):
    path = written(tmp_path, f"grid,square,{title},x_um,y_um,ctf\ng,s,a.mrc,1,2,3.5\n".encode())
    assert format_of(path).name == "generic"
    assert is_of_exposures(path)


def test_a_last_line_without_its_end_is_noted(tmp_path):
    path = written(tmp_path, SQUARES)
    source = read_source(path)
    assert source.squares["area_um2"].tolist() == [1600.0, 1500.0]
    assert "the last line has no line break and was taken as whole" in source.notes
    assert not any("line break" in note for note in read_source(written(tmp_path, SQUARES + b"\n")).notes)


def test_a_table_of_a_windows_code_page_says_so(tmp_path):
    path = written(tmp_path, "square,x_um,y_um\nS\u00e9,0,0\n".encode("cp1252"))
    source = read_source(path)
    assert source.squares["square_id"].tolist() == ["S\u00e9"]
    assert any("not UTF-8 and read as text of Windows code page 1252" in note for note in source.notes)


def test_a_comma_in_a_quoted_title_is_no_delimiter(tmp_path):
    path = written(tmp_path, b'"square";"x_um";"y_um";"who, when, why, how"\nS1;0;0;me\n')
    assert format_of(path).name == "generic-squares"
    assert read_source(path).squares["x_um"].tolist() == [0.0]


def test_a_comma_too_many_names_decimal_commas(tmp_path):
    path = written(tmp_path, b"square,x_um,y_um\nS1,0,5,0\n")
    (found,) = validate(path)
    assert found.line == 2
    assert "if numbers are written with a decimal comma" in found.message


@pytest.mark.parametrize("lines", ["S1,0,0,no\nS1,0,0,yes", "S1,0,0,yes\nS1,0,0,no", "S1,0,0,\nS1,0,0,yes"])
def test_a_square_that_one_of_its_lines_says_was_looked_at_was(tmp_path, lines):
    source = read_source(written(tmp_path, f"square,x_um,y_um,looked\n{lines}\n".encode()))
    assert source.squares["looked"].tolist() == [True]


def test_a_line_of_empty_cells_is_none(tmp_path):
    path = written(tmp_path, b"square,x_um,y_um\nS1,0,0\n,,\n ,\nS2,60,0\n")
    assert validate(path) == []
    assert read_source(path).squares["square_id"].tolist() == ["S1", "S2"]


def test_half_a_position_is_none(tmp_path):
    path = written(tmp_path, b"square,x_um,y_um\nS1,0,0\nS2,5,\nS3,6000,5\n")
    source = read_source(path, permissive=True)
    assert [each.line for each in source.deviations] == [4]
    assert source.squares[["x_um", "y_um"]].notna().all(axis=1).tolist() == [True, False, False]
    assert source.squares[["x_um", "y_um"]].isna().all(axis=1).tolist() == [False, True, True]
    assert "2 of 3 squares have no stage position: they are not drawn" in source.notes


def test_a_line_that_names_a_patch_is_of_a_patch_without_a_hole(tmp_path):
    text = b"grid,square,patch,x_um,looked,looked_at,y_um\ng,S1,,0,yes,,5\ng,S1,P1,,no,,\ng,S2,P2,,,2026-01-31 10:05,\n"
    path = written(tmp_path, text + b"g,S1,P1,,yes,,\n")
    assert format_of(path).name == "generic-squares"
    source = read_source(path)
    assert source.squares["square_id"].tolist() == ["S1"]
    assert source.squares["y_um"].tolist() == [5.0]
    assert source.patches[["patch_id", "square_id", "grid_id"]].to_numpy().tolist() == [
        ["P1", "S1", "g"], ["P2", "S2", "g"],
    ]  # fmt: skip
    assert source.patches["looked"].tolist() == [True, True]
    assert source.patches["looked_at"].isna().tolist() == [True, False]
    assert any("1 line is of a patch that stood before" in note for note in source.notes)
    assert not any("not kept" in note for note in source.notes)


def test_what_a_line_of_a_patch_says_and_is_not_kept_is_counted(tmp_path):
    text = b"square,patch,x_um,y_um,area_um2\nS1,P1,1,2,\nS1,P2,,,9\nS1,P3,,,\n"
    notes = read_source(written(tmp_path, text)).notes
    assert "2 lines of patches say a position, an area or a brightness, which is not kept" in notes


def test_a_patch_of_two_squares_names_both_lines(tmp_path):
    path = written(tmp_path, b"square,patch,looked\nS1,P1,no\nS2,P1,no\n")
    (found,) = validate(path)
    assert found.line == 3
    assert found.message.startswith(
        "a patch must be in one square. Got 'P1' in 'S2' instead (first in 'S1', on line 2). Remedy: patches of two "
        "squares must have names of their own, such as SQUARE/PATCH."
    )


def test_looks_are_of_the_zone_of_the_first(tmp_path):
    rows = b"square,looked_at\nS1,2024-10-27T02:59:00+02:00\nS2,2024-10-27T02:00:00+01:00\n"
    source = read_source(written(tmp_path, rows))
    assert source.squares["looked_at"].dt.strftime("%H:%M").tolist() == ["02:59", "03:00"]
    assert "1 time has another time zone; all times are given in that of the first, +0200" in source.notes
