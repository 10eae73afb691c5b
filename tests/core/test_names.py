"""Names of others are text: visible on a terminal, literal in a figure, no formula in a spreadsheet."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.names import as_cell, from_cell, is_visible, name_of_source, visible, visible_lines
from cryoscout.formats.own.table import read_source
from cryoscout.formats.records import HOLE_COLUMNS, SourceRecords
from cryoscout.session.vendor_fields import VendorFields
from examples import share

ODD = "a\x1b[31m\0\n\u202eb\x85\x7f\u2066"
SHOWN = "a\u241b[31m\u2400\u240a<U+202E>b<U+0085>\u2421<U+2066>"


def test_what_a_terminal_obeys_and_what_nobody_sees_become_marks():
    assert visible(ODD) == SHOWN
    assert visible_lines("one\n\ttwo\x1b") == "one\n\ttwo\u241b"
    assert visible("21mar02c_grid1 \N{MICROSCOPE} \N{LATIN SMALL LETTER A WITH DIAERESIS}") == (
        "21mar02c_grid1 \N{MICROSCOPE} \N{LATIN SMALL LETTER A WITH DIAERESIS}"
    )


@settings(max_examples=share(100))
@given(st.text())
def test_no_control_character_and_no_mark_of_direction_is_left(text):
    shown = visible(text)
    assert is_visible(shown)
    assert visible(shown) == shown
    assert not any(unicodedata.category(each) == "Cc" for each in shown)
    assert not any(
        unicodedata.bidirectional(each) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        for each in shown
    )


@settings(max_examples=share(100))
@given(st.text(st.sampled_from("=+-@'a1\t ")) | st.text())
def test_a_cell_is_no_formula_and_gives_its_text_back(text):
    cell = as_cell(text)
    assert str(cell)[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert from_cell(str(cell)) == text


def test_numbers_stay_numbers_in_cells():
    assert as_cell(-1.5) == -1.5
    assert as_cell(None) is None


def test_a_source_has_visible_texts_and_says_how_many_were_not():
    holes = pd.DataFrame([(ODD, "", "s\n", "g", 1.0, 2.0, np.nan, np.nan, True)], columns=list(HOLE_COLUMNS))
    shared = {"k": "v"}
    extra = {ODD: {"Note\0": "a\nb\x1b"}, "h2": VendorFields({"k": "v", "l": "m"}, shared)}
    source = SourceRecords("smartscope", Path("x"), holes=holes, extra=extra, session_name="run\x1b7")
    assert source.holes["hole_id"].tolist() == [SHOWN]
    assert source.holes["square_id"].tolist() == ["s\u240a"]
    assert source.holes["x_um"].tolist() == [1.0]
    assert source.extra[SHOWN] == {"Note\u2400": "a\nb\u241b"}
    assert source.extra["h2"] is extra["h2"]
    assert source.session_name == "run\u241b7"
    assert len(source.notes) == 1
    assert source.notes[0].startswith("6 texts held control characters or marks of direction")


def test_a_source_without_such_texts_is_as_it_was():
    holes = pd.DataFrame([("h", "", "s", "g", 1.0, 2.0, np.nan, np.nan, True)], columns=list(HOLE_COLUMNS))
    extra = {"h": {"Note": "two\nlines"}}
    source = SourceRecords("smartscope", Path("x"), holes=holes, extra=extra, notes=("n",))
    assert source.holes is holes
    assert source.extra is extra
    assert source.notes == ("n",)


def test_a_list_that_was_written_for_a_spreadsheet_is_read_with_the_names_as_they_were(tmp_path):
    names = ["=cmd|' /C calc'!A0", "+1", "-2", "@SUM(A1)", "'=a", "'quoted'", "plain"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", "square", "ctf"])
    writer.writerows([as_cell(name), as_cell("=s"), 3.5] for name in names)
    path = tmp_path / "list.csv"
    path.write_text(text.getvalue())
    assert not any(line.startswith(("=", "+", "-", "@")) for line in path.read_text().splitlines())
    exposures = read_source(path).exposures
    assert set(exposures["square_id"]) == {"=s"}
    assert len(exposures) == len(names)


@pytest.mark.parametrize("name", ["$x^{$", "$\\frac{1}", "a$b$c", "\\$"])
def test_a_figure_draws_a_name_literally(name):
    from matplotlib.figure import Figure

    from cryoscout.report.figures import house_style, png_bytes

    with house_style():
        figure = Figure(figsize=(2, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], label=name)
        axes.set_title(name)
        axes.set_yticks([0, 1], [name, "b"])
        figure.legend()
        drawn = axes.text(0.5, 0.5, name)
    assert png_bytes(figure)
    assert not drawn.get_parse_math()


def test_a_source_that_was_named_by_dots_has_the_name_of_its_folder(tmp_path, monkeypatch):
    (tmp_path / "run7" / "raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run7" / "raw")
    assert name_of_source(Path()) == "raw"
    assert name_of_source(Path("..")) == "run7"
    assert name_of_source(Path("/data/a.star")) == "a.star"
