"""YAML from elsewhere as plain texts: nothing guessed, nothing made, nothing multiplied."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.text.yaml_values import read_yaml

words = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=6)
values = st.recursive(
    words,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4) | st.dictionaries(words, inner, min_size=1, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(words, values, max_size=4))
def test_what_is_written_is_read_back_as_text(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "a.yaml"
    path.write_text(yaml.safe_dump(value, default_style='"'))
    assert read_yaml(path) == value


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: &x 1\nb: *x\n", 2, "must have no alias. Got '*x' instead."),
        ("a: 1\na: 2\n", 2, "a key must stand once. Got 'a' again instead."),
        ("- 1\n---\n- 2\n", None, "must hold one document. Got 2 instead."),
        ("[" * 70, 1, "must be at most 64 levels deep. Got deeper instead."),
        ("? [a]\n: 1\n", 1, "a key must be a text. Got a list or mapping instead."),
        ("a: b\xe9\x00\n", 1, "must be text. Got a NUL byte instead."),
        ("a" * 100_001 + "\n", 1, "a line must have at most 100,000 characters. Got 100,001 instead."),
    ],
)
def test_what_no_export_has_is_refused_with_its_line(tmp_path, text, line, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(FileFormatError) as error:
        read_yaml(path)
    assert (error.value.line, error.value.detail) == (line, message)


@pytest.mark.parametrize("loader", ["CBaseLoader", "BaseLoader"])
def test_half_a_character_is_refused_by_either_parser(tmp_path, monkeypatch, loader):
    monkeypatch.setattr(yaml, "CBaseLoader", getattr(yaml, loader), raising=False)
    path = tmp_path / "a.yaml"
    path.write_text('a: 1\nb: "\\ud800"\n')
    with pytest.raises(FileFormatError) as error:
        read_yaml(path)
    assert error.value.line == 2


def test_no_tag_makes_an_object(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: !!python/object/apply:os.system ['false']\nb: !!int 7\n")
    assert read_yaml(path) == {"a": ["false"], "b": "7"}
