"""The order of visit as a text: written, read back, and refused where a line is no target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.leginon.order import (
    FIRST_LINE,
    LeginonOrder,
    detect,
    read_order,
    read_source,
    validate,
    write_order,
)

PATCH = "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01"
TARGETS = (f"{PATCH}_00005en", f"{PATCH}_00003en", "21mar02c_grid1c_00008gr_00012sq_00001hl_00001en")

levels = st.integers(1, 99999).map("{:05d}".format)
names = st.builds(
    lambda letter, square, patch, hole, version: (
        f"24jan05{letter}_g1_00001gr_{square}sq{version}_{patch}hl_{hole}en"
    ),
    st.sampled_from("abc"),
    levels,
    levels,
    levels,
    st.sampled_from(["", "_v01"]),
)
words = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, blacklist_characters=":#"), min_size=1, max_size=9
)


@given(
    st.lists(names, min_size=1, max_size=20, unique=True),
    st.dictionaries(words, words, max_size=3),
)
def test_an_order_is_read_back_equal(tmp_path_factory, targets, about):
    path = tmp_path_factory.mktemp("order") / "order.txt"
    order = LeginonOrder(tuple(targets), about)
    try:
        write_order(path, order)
    except InputError:
        assert not all(word.isprintable() for pair in about.items() for word in pair)
        return
    assert detect(path)
    assert validate(path) == []
    assert read_order(path) == order


def test_the_file_is_names_in_order_below_what_they_are(tmp_path):
    path = tmp_path / "order.txt"
    write_order(path, LeginonOrder(TARGETS, {"session": "21mar02c"}))
    assert path.read_text().splitlines() == [FIRST_LINE, "# session: 21mar02c", *TARGETS]
    source = read_source(path)
    assert source.session_name == "21mar02c"
    assert source.holes["hole_id"].tolist() == list(TARGETS)
    assert source.holes["patch_id"].tolist()[0] == PATCH
    assert source.holes["square_id"].tolist()[0] == "21mar02c_grid1c_00008gr_00011sq_v01"
    assert source.holes["grid_id"].tolist()[0] == "21mar02c_grid1c_00008gr"
    assert source.holes["chosen"].all()
    assert source.extra[TARGETS[1]] == {"order": "2"}


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (LeginonOrder(()), "An order must have at least one target. Got none instead."),
        (LeginonOrder((TARGETS[0], TARGETS[0])), "(stands twice)"),
        (LeginonOrder(("9015889",)), "(no session and levels such as _00011sq_00002hl_00005en)"),
        (LeginonOrder(("21mar02c_00008gr",)), "(no patch above it)"),
        (
            LeginonOrder(TARGETS, {"session": "a\nb"}),
            "must be words of one line. Got 'session': 'a\\nb' instead.",
        ),
    ],
)
def test_what_cannot_be_an_order_is_not_written(tmp_path, order, message):
    with pytest.raises(InputError) as error:
        write_order(tmp_path / "order.txt", order)
    assert message in str(error.value)
    assert not (tmp_path / "order.txt").exists()


@pytest.mark.parametrize(
    ("lines", "number", "message"),
    [
        (
            ["not a name"],
            2,
            "a line must be the name of a target. Got 'not a name' instead "
            "(no session and levels such as _00011sq_00002hl_00005en).",
        ),
        (
            [TARGETS[0], "", TARGETS[0]],
            4,
            f"a target must stand once. Got '{TARGETS[0]}' again instead (first on line 2).",
        ),
        (
            ["x" * 5000],
            2,
            f"a line must be the name of a target. Got '{'x' * 57}...' instead (longer than 1000 characters).",
        ),
    ],
)
def test_a_line_that_is_no_target_is_named(tmp_path, lines, number, message):
    path = tmp_path / "order.txt"
    path.write_text("\n".join([FIRST_LINE, *lines]) + "\n")
    with pytest.raises(FileFormatError) as error:
        read_order(path)
    assert (error.value.line, error.value.detail) == (number, message)
    assert [(found.line, found.message) for found in validate(path)] == [(number, message)]


def test_a_cut_file_is_told_and_its_last_name_left_out(tmp_path):
    path = tmp_path / "order.txt"
    path.write_text(f"{FIRST_LINE}\n{TARGETS[0]}\n{TARGETS[1][:-4]}")
    (found,) = validate(path)
    assert found.message.startswith("the last line must end with a line break.")
    assert read_order(path, permissive=True).targets == (TARGETS[0],)


def test_another_text_is_refused(tmp_path):
    path = tmp_path / "order.txt"
    path.write_text("hello\n")
    assert not detect(path)
    with pytest.raises(FileFormatError, match="line 1: an order must begin with '# Leginon targets"):
        read_order(path)
    path.write_text("")
    with pytest.raises(FileFormatError, match="Got an empty file instead"):
        read_order(path)
