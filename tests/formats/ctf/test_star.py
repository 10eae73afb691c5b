"""The files in data/relion are real; every other table here is made by hand."""

import re
from pathlib import Path

import pytest
import starfile
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.ctf.star import StarTable, detect, read_star, star_text, validate, write_star

REAL = sorted((Path(__file__).parents[1] / "data" / "relion").glob("*.star"))
HEADER = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n"


def written(tmp_path, text, name="table.star"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_blocks_pairs_loops_comments_and_quotes_are_read_with_their_lines(tmp_path):
    path = written(
        tmp_path,
        "# version 30001\n\ndata_general # a comment\n_rlnA  'two words'\n_rlnB \"\"\n\n"
        'data_movies\r\n\r\nloop_ \r\n_rlnName #1 \r\n_rlnNote #2\r\na#b.mrc "it\'s # here" # end\r\n \r\n'
        "'c d.mrc' x\"y\n",
    )
    general, movies = read_star(path).tables
    assert (general.block, general.columns, general.rows) == (
        "general",
        ("rlnA", "rlnB"),
        [["two words", ""]],
    )
    assert not general.is_loop
    assert movies.rows == [["a#b.mrc", "it's # here"], ["c d.mrc", 'x"y']]
    assert movies.row_lines == [12, 14]
    assert movies.column("rlnNote") == ["it's # here", 'x"y']
    assert detect(path)
    assert validate(path) == []


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files_read_as_the_starfile_package_reads_them(path):
    assert validate(path) == []
    tables = read_star(path).tables
    frames = starfile.read(path, always_dict=True, parse_as_string=_all_labels(path))
    assert len(tables) == len(frames)
    for table, (block, frame) in zip(tables, frames.items(), strict=True):
        assert table.block == block
        for label in table.columns:
            theirs = frame[label].tolist() if hasattr(frame[label], "tolist") else [frame[label]]
            assert table.column(label) == [str(value) for value in theirs]


def _all_labels(path):
    return re.findall(r"^_(\S+)", path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (HEADER + "a.mrc 4.5\nb.mrc\n", 7, "a row must have 2 values, one for each label. Got 1 instead."),
        (HEADER + "a.mrc 4.5 6\n", 6, "a row must have 2 values, one for each label. Got 3 instead."),
        (
            HEADER + "a.mrc 4.5\nb.mrc 1",
            7,
            "the last line must end with a line break. Got 'b.mrc 1' without one instead. "
            "Remedy: the file was cut or is still being written; write it again.",
        ),
        (HEADER + "'a b.mrc 4.5\n", 6, "a quoted value must end with its quote. Got none instead."),
        ("data_\nloop_\n\ndata_x\n", 2, "a loop must have labels. Got none instead."),
        (
            "data_\nloop_\n_a #1\n_a #2\nx y\n",
            4,
            "a label must stand once in a table. Got 'a' again instead.",
        ),
        (
            "data_\n_a one two\n",
            2,
            "a label outside a loop must have one value. Got 2 words after '_a' instead. "
            "Remedy: put quotes around a value with blanks.",
        ),
        ("data_\nvalue\n", 2, "a value must stand after its label or in a loop. Got 'value' alone instead."),
        (HEADER + "a\0.mrc 4.5\n", 6, "must be text. Got a NUL byte instead."),
        (
            HEADER + "a" * 100_001 + " 4.5\n",
            6,
            "a line must have at most 100,000 characters. Got 100,005 instead.",
        ),
    ],
)
def test_a_deviation_has_its_line_and_message_and_permissive_leaves_the_line_out(
    tmp_path, text, line, message
):
    path = written(tmp_path, text)
    with pytest.raises(FileFormatError) as error:
        read_star(path)
    assert (error.value.line, error.value.detail) == (line, message)
    assert [(each.line, each.message) for each in validate(path)] == [(line, message)]
    lenient = read_star(path, permissive=True)
    assert [(each.line, each.message) for each in lenient.deviations] == [(line, message)]
    for table in lenient.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must be a STAR file (data_...). Got a file without a block instead."),
        (b"# only a comment\n", "must be a STAR file (data_...). Got a file without a block instead."),
        (b"name,ctf\n", "a STAR file must begin with data_. Got 'name,ctf' instead."),
    ],
)
def test_what_is_no_star_text_is_refused_even_permissively(tmp_path, data, message):
    path = written(tmp_path, data)
    with pytest.raises(FileFormatError) as error:
        read_star(path, permissive=True)
    assert error.value.detail == message
    assert [each.message for each in validate(path)] == [message]


def test_a_row_may_begin_like_a_keyword_as_relion_writes_it(tmp_path):
    rows = "data_collection/a.mrc 4.5\nloop_1/b.mrc 5\n_c.mrc 6\n"
    assert [row[0] for row in read_star(written(tmp_path, HEADER + rows)).tables[0].rows] == [
        "data_collection/a.mrc",
        "loop_1/b.mrc",
        "_c.mrc",
    ]
    one_column = "data_x\nloop_\n_rlnMicrographName #1\na.mrc\ndata_1/b.mrc\n"
    assert len(read_star(written(tmp_path, one_column)).tables[0].rows) == 2


def test_a_folder_and_a_missing_file_are_refused_and_not_detected(tmp_path):
    for path in (tmp_path, tmp_path / "none.star"):
        assert not detect(path)
        with pytest.raises(FileFormatError, match=r"must be a file"):
            read_star(path)


def test_ten_million_characters_in_a_line_end_quickly(tmp_path):
    for text in (
        "data_\n" + " " * 10_000_000 + "x\n",
        "data_\n" + '"a ' * 3_000_000 + "\n",
        '"' * 10_000_000,
    ):
        with pytest.raises(FileFormatError):
            read_star(written(tmp_path, text))
    assert read_star(written(tmp_path, "data_a\n_a '" + "x" * 900 + "'" + " " * 99_000 + "\n")).tables


words = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=12)
labels = st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,6}", fullmatch=True)


@st.composite
def tables(draw):
    columns = tuple(draw(st.lists(labels, min_size=0, max_size=4, unique=True)))
    block = draw(st.sampled_from(["", "optics", "micrographs", "a_1"]))
    if not columns:
        return StarTable(block, (), [], False)
    row = st.lists(words, min_size=len(columns), max_size=len(columns))
    if draw(st.booleans()):
        return StarTable(block, columns, draw(st.lists(row, max_size=4)))
    return StarTable(block, columns, [draw(row)], False)


@given(st.lists(tables(), min_size=1, max_size=4))
def test_what_we_write_we_read_back_equal(tmp_path_factory, given_tables):
    path = tmp_path_factory.mktemp("star") / "table.star"
    try:
        write_star(path, given_tables)
    except InputError as error:
        assert "quotes before blanks" in str(error)  # noqa: PT017
        return
    assert read_star(path).tables == given_tables
    assert validate(path) == []


@given(
    st.lists(
        st.lists(st.from_regex(r"[a-z0-9./_-]{1,9}", fullmatch=True), min_size=2, max_size=2), min_size=2
    )
)
def test_the_starfile_package_reads_what_we_write(tmp_path_factory, rows):
    rows = [[f"m{name}", value] for name, value in rows]
    path = tmp_path_factory.mktemp("star") / "table.star"
    write_star(path, [StarTable("micrographs", ("rlnMicrographName", "rlnNote"), rows)])
    frame = starfile.read(path, parse_as_string=["rlnMicrographName", "rlnNote"])
    assert frame.to_numpy().tolist() == rows


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (StarTable("a", ("x", "y"), [["1"]]), "A row must have 2 values. Got 1 instead."),
        (StarTable("a", (), []), "A loop must have labels. Got none instead."),
        (StarTable("a", ("x",), [], False), "Pairs must be one row. Got 0 instead."),
        (StarTable("a b", ("x",), []), "The name of a block must be one word"),
        (StarTable("a", ("x y",), []), "A label must be one word"),
        (StarTable("a", ("x",), [["two\nlines"]]), "A value of a STAR file must be one line"),
        (StarTable("a", ("x",), [["' and \" both"]]), "A value of a STAR file must be one line"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(table, message):
    with pytest.raises(InputError, match=re.escape(message)):
        star_text([table])


def test_an_unknown_label_is_refused():
    with pytest.raises(InputError, match=r"A label must be one of x\. Got 'y' instead"):
        StarTable("a", ("x",), []).column("y")
