"""Text from elsewhere: what is no text has its line in every reader, and permissive reading goes on without it."""

from __future__ import annotations

import io
import os

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reader_samples import SAMPLES

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.leginon import tables as leginon_tables
from cryoscout.formats.registry import BY_NAME, format_of
from cryoscout.formats.text import findings as shared
from cryoscout.formats.text.findings import (
    NO_MARK,
    Deviation,
    Findings,
    UnreadableError,
    check_readable,
    encoding_of,
    lines_of,
    read_bytes,
    read_lines,
    read_start,
    read_text,
)
from examples import slow_but

LINES = [name for name, sample in SAMPLES.items() if sample.is_lines]
DAMAGE = {"NUL": (b"\0", "must be text. Got a NUL byte instead.")}
"""Every other byte is a character: text that is not UTF-8 is that of the Windows code page."""
NO_TEXT = [(name, damage) for name in LINES for damage in DAMAGE]


def read(path, name, permissive=False):
    """Tables and deviations, by the reader that the registry knows."""
    assert format_of(path).name == SAMPLES[name].format
    if SAMPLES[name].format == "leginon":
        # A table of another kind alone is no session.
        table = leginon_tables.read_table(path, permissive)
        return [table.rows], table.deviations
    source = BY_NAME[SAMPLES[name].format].load().read_source(path, permissive)
    return [source.squares, source.holes, source.exposures, source.ctf], source.deviations


def written(tmp_path, name, data):
    path = tmp_path / SAMPLES[name].file
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("name", "damage"), NO_TEXT)
def test_a_line_that_is_no_text_is_named_and_permissively_left_out(tmp_path, name, damage):
    junk, message = DAMAGE[damage]
    lines = SAMPLES[name].data.splitlines(keepends=True)
    number = max(place for place, line in enumerate(lines, start=1) if line.strip())
    line = lines[number - 1]
    lines[number - 1] = line[:2] + junk + line[2:]
    path = written(tmp_path, name, b"".join(lines))
    with pytest.raises(FileFormatError) as error:
        read(path, name)
    assert (error.value.path, error.value.line, error.value.detail) == (path, number, message)
    tables, deviations = read(path, name, permissive=True)
    assert (number, message) in [(each.line, each.message) for each in deviations]
    assert sum(map(len, tables)) > 0
    listed = BY_NAME[SAMPLES[name].format].load().validate(path)
    assert (number, message) in [(each.line, each.message) for each in listed]


@pytest.mark.parametrize("name", LINES)
def test_text_of_a_windows_code_page_is_read_and_said_by_every_reader_of_lines(tmp_path, name):
    """A folder or a comment with a German letter: programs on Windows write it as one byte."""
    sample = SAMPLES[name].data.decode()
    is_named = SAMPLES[name].format != "serialem"
    text = sample.replace("mic", "m\u00fcc") if is_named and "mic" in sample else sample
    if text == sample:
        text = sample + ("Note = \u00fc\n" if not is_named else "# \u00fc\n")
    path = written(tmp_path, name, text.encode("cp1252"))
    notes, tables = notes_and_tables(path, name)
    assert [note for note in notes if "Windows code page 1252" in note] == [
        f"1 file is not UTF-8 and read as text of Windows code page 1252 ({path.name}): letters that are not English "
        "may be others in notes and names"
    ]
    expected = notes_and_tables(written(tmp_path, name, text.encode()), name)
    assert not any("code page" in note for note in expected[0])
    assert [pd.testing.assert_frame_equal(*pair) for pair in zip(tables, expected[1], strict=True)]


def notes_and_tables(path, name):
    if SAMPLES[name].format == "leginon":
        table = leginon_tables.read_table(path, True)
        return table.notes, [table.rows]
    source = BY_NAME[SAMPLES[name].format].load().read_source(path, True)
    return source.notes, [source.squares, source.holes, source.exposures, source.ctf]


def test_lines_of_two_encodings_in_one_file_are_each_read_as_its_own(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\u00b5 utf-8\n".encode() + "\u00b5 page\n".encode("cp1252"))
    findings = Findings(path)
    assert read_lines(findings, 1000) == (["\u00b5 utf-8", "\u00b5 page"], True)
    assert findings.was_code_page


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_two_encodings_are_told_apart_whatever_ends_them(tmp_path, end):
    path = tmp_path / "a.txt"
    path.write_bytes(
        f"\u00b5 utf-8{end}".encode() + f"\u00b5 page{end}".encode("cp1252") + "\u00b5 utf-8".encode()
    )
    assert read_lines(Findings(path), 1000) == (["\u00b5 utf-8", "\u00b5 page", "\u00b5 utf-8"], False)


@pytest.mark.parametrize("name", LINES)
def test_utf_8_with_a_mark_and_utf_16_with_one_read_as_utf_8(tmp_path, name):
    text = SAMPLES[name].data.decode()
    expected, _ = read(written(tmp_path, name, text.encode()), name)
    for encoding in ("utf-8-sig", "utf-16"):
        tables, deviations = read(written(tmp_path, name, text.encode(encoding)), name)
        assert not deviations
        assert [pd.testing.assert_frame_equal(*pair) for pair in zip(tables, expected, strict=True)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", LINES)
def test_utf_16_without_a_mark_is_named_on_line_1_and_permissively_read(tmp_path, name, encoding):
    text = SAMPLES[name].data.decode()
    expected, _ = read(written(tmp_path, name, text.encode()), name)
    path = written(tmp_path, name, text.encode(encoding))
    with pytest.raises(FileFormatError) as error:
        read(path, name)
    assert (error.value.path, error.value.line, error.value.detail) == (path, 1, NO_MARK)
    tables, deviations = read(path, name, permissive=True)
    assert [(each.line, each.message) for each in deviations] == [(1, NO_MARK)]
    assert [pd.testing.assert_frame_equal(*pair) for pair in zip(tables, expected, strict=True)]


@pytest.mark.parametrize("millions", slow_but([1], [1, 10]))
@pytest.mark.parametrize("name", LINES)
def test_a_line_of_millions_of_characters_is_named_and_permissively_left_out(tmp_path, name, millions):
    data = SAMPLES[name].data
    number = len(data.splitlines()) + 1
    path = written(tmp_path, name, data + b"9" * (millions * 1_000_000) + b"\n")
    with pytest.raises(FileFormatError) as error:
        read(path, name)
    assert error.value.line == number
    assert error.value.detail.startswith("a line must have at most 1")
    assert len(str(error.value)) < 1000
    tables, deviations = read(path, name, permissive=True)
    assert [each.line for each in deviations] == [number]
    assert sum(map(len, tables)) > 0


def test_what_was_left_out_of_a_log_is_not_replaced_by_the_line_below_it(tmp_path):
    data = SAMPLES["gctf log"].data.replace(b"m1.mrc\n", b"m\0.mrc\n")
    tables, _ = read(written(tmp_path, "gctf log", data), "gctf log", permissive=True)
    assert tables[-1]["name"].tolist() == ["m1"]  # of the file, which is m1_gctf.log


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lines_are_counted_the_same_whatever_ends_them(tmp_path, end, encoding):
    path = tmp_path / "file"
    path.write_bytes(f"one{end}{end}th\0ree{end}".encode(encoding))
    with pytest.raises(FileFormatError) as error:
        read_text(path)
    assert error.value.line == 3
    findings = Findings(path, permissive=True)
    assert read_lines(findings, 100) == (["one", "", ""], True)
    assert findings.deviations == [Deviation(3, "must be text. Got a NUL byte instead.")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_half_a_character_of_utf_16_has_its_line(tmp_path, encoding):
    path = tmp_path / "file"
    mark = "\ufeff".encode(encoding)
    for data in (
        mark + "ab\nc".encode(encoding) + b"d",
        mark + "ab\nc\ud800d\n".encode(encoding, "surrogatepass"),
    ):
        path.write_bytes(data)
        with pytest.raises(FileFormatError) as error:
            read_text(path)
        assert (error.value.line, error.value.detail) == (
            2,
            "must be utf-16 text. Got half a character instead.",
        )
        findings = Findings(path, permissive=True)
        assert read_text(path, findings=findings) in ("ab\n", "ab\n\n")
        assert [each.line for each in findings.deviations] == [2]


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\ufeff\r")))
def test_any_text_reads_back_and_its_lines_are_those_of_python(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert read_text(path) == text
    lines, is_complete = lines_of(text)
    assert lines == [line.rstrip("\n") for line in io.StringIO(text)]
    assert is_complete == (not text or text.endswith("\n"))


@given(st.binary(max_size=60))
def test_any_bytes_are_text_once_the_lines_that_are_none_are_left_out(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data)
    findings = Findings(path, permissive=True)
    text = read_text(path, findings=findings)
    assert "\0" not in text
    assert text.encode().decode() == text
    assert read_start(path, 100) or not text
    if not findings.deviations:
        assert read_text(path, findings=Findings(path)) == text
        return
    with pytest.raises(FileFormatError) as error:
        read_text(path, findings=Findings(path))
    first = findings.deviations[0]
    assert (error.value.line, error.value.detail) == (first.line, first.message)


def test_every_other_byte_must_be_nul_for_utf_16():
    assert encoding_of("name,ctf\n".encode("utf-16-le")) == ("utf-16-le", False)
    assert encoding_of("name,ctf\n".encode("utf-16-be")) == ("utf-16-be", False)
    for data in (b"", b"a\0", b"\0" * 100, b"name,c\0t\0f\0\n", bytes(range(256))):
        assert encoding_of(data) == ("utf-8", True)


def test_too_many_lines_and_too_many_bytes_are_refused_at_once(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"\n" * 5)
    monkeypatch.setattr(shared, "MOST_LINES", 4)
    with pytest.raises(FileFormatError, match=r"must have at most 4 lines\. Got 5 instead\."):
        read_text(path, findings=Findings(path, permissive=True))
    with pytest.raises(FileFormatError, match=r"must be at most 4 bytes\. Got 5 instead\."):
        read_bytes(path, 4)
    with pytest.raises(FileFormatError, match=r"Remedy: .*several files with the same head"):
        read_text(path, 4, Findings(path))


def test_permissive_reading_gives_up_at_too_many_deviations(monkeypatch, tmp_path):
    monkeypatch.setattr(shared, "MOST_DEVIATIONS", 2)
    findings = Findings(tmp_path, permissive=True)
    findings.deviates("one", 1)
    findings.deviates("two", 2)
    with pytest.raises(FileFormatError, match=r"line 3: must have at most 2 deviations\. Got more instead"):
        findings.deviates("three", 3)
    assert len(findings.deviations) == 2


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_that_goes_away_while_it_is_validated_cannot_be_read(tmp_path, name):
    # What a file of EPU is cannot even be told.
    with pytest.raises(FileFormatError if SAMPLES[name].format == "epu" else UnreadableError):
        BY_NAME[SAMPLES[name].format].load().validate(tmp_path / SAMPLES[name].file)


def test_what_cannot_be_read_is_told_from_what_deviates(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("x")
    check_readable(file)
    check_readable(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path, got in ((tmp_path / "gone", "nothing there"), (tmp_path / "pipe", "something else")):
        with pytest.raises(UnreadableError, match=rf"must be a readable file\. Got {got} instead\."):
            check_readable(path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    for path in (file, tmp_path):
        with pytest.raises(UnreadableError, match=r"Got Permission denied instead\."):
            check_readable(path)
    with pytest.raises(UnreadableError, match=r"Got Permission denied instead\."):
        read_bytes(file)
    assert read_start(file, 10) == ""
