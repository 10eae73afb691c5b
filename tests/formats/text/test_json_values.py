"""JSON from elsewhere: no text hangs, crashes or misleads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.text.json_values import parse_json

characters = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | characters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(characters, inner, max_size=4),
    max_leaves=12,
)


@given(values, st.booleans())
def test_what_is_written_is_read_back_equal(value, ascii_alone):
    assert parse_json(json.dumps(value, ensure_ascii=ascii_alone), "a.json") == value


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('["\\ud800"]', None, "a text must be whole characters. Got '\\ud800' instead."),
        ('{"\\uDC00": 1}', None, "a text must be whole characters. Got '\\udc00' instead."),
        ('{"a": 1, "a": 2}', None, "a key must stand once in an object. Got 'a' again instead."),
        ("[NaN]", None, "a number must be finite. Got NaN instead."),
        ("[1" + "0" * 40 + "]", None, "a number must have at most 40 characters. Got 41 instead."),
        ("[\n" * 65, 65, "brackets must be at most 64 deep. Got deeper ones instead."),
        ("[1,\n]", 2, "must be JSON. Got text that is not (Expecting value) instead."),
    ],
)
def test_what_no_format_needs_is_refused(text, line, message):
    with pytest.raises(FileFormatError) as error:
        parse_json(text, "a.json")
    assert (error.value.line, error.value.detail) == (line, message)


def test_a_pair_of_escapes_is_one_character():
    assert parse_json('["\\ud83d\\udd2c"]', "a.json") == ["\N{MICROSCOPE}"]


@given(st.text(st.sampled_from('[]{}":,\\ud8001eE-+.ntf \n'), max_size=60))
def test_any_text_is_a_value_or_an_error_of_ours(text):
    try:
        json.dumps(parse_json(text, "a.json"), ensure_ascii=False).encode()
    except FileFormatError:
        return
