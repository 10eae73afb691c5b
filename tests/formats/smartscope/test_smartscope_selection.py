"""The selection that we write for SmartScope is known, checked, and not taken for a session."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.smartscope.selection import (
    detect,
    read_selection,
    read_source,
    selection_body,
    validate,
    write_selection,
)

holes = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=12, unique=True)


@given(holes, st.integers(1, 4))
def test_every_selection_that_is_written_is_known_and_clean(tmp_path_factory, names, size):
    path = tmp_path_factory.getbasetemp() / "plan.json"
    write_selection(path, [names[start : start + size] for start in range(0, len(names), size)])
    assert detect(path)
    assert validate(path) == []


def test_a_single_request_is_a_selection_too(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(selection_body(["a"])))
    assert detect(path)
    assert validate(path) == []
    assert read_selection(path) == [["a"]]


def test_it_is_no_session_and_says_what_it_is(tmp_path):
    path = tmp_path / "plan.json"
    write_selection(path, [["a"]])
    for permissive in (False, True):
        with pytest.raises(FileFormatError) as error:
            read_source(path, permissive)
        assert str(error.value) == (
            f"{path}: must be a session, a table or results. Got a selection of holes for SmartScope instead: a target "
            "list, which says which holes to image and nothing of what was imaged. Remedy: import the session that "
            "was planned."
        )


def test_every_request_that_deviates_is_listed(tmp_path):
    path = tmp_path / "plan.json"
    bodies = [selection_body(["a", "b"]), selection_body(["b"]), selection_body([]), 1]
    bodies.append(selection_body(["c"]) | {"new_value": "0"})
    bodies.append(selection_body(["d"]) | {"ids": ["d", 1]})
    path.write_text(json.dumps(bodies))
    assert [(each.element, each.message.partition(" Got ")[2]) for each in validate(path)] == [
        ("request 2", "'b' again instead (first in request 1)."),
        ("request 3", """'{"type": "holes", "key": "selected", "new_value": "1", "i...' instead."""),
        ("request 4", "'1' instead."),
        ("request 5", """'{"type": "holes", "key": "selected", "new_value": "0", "i...' instead."""),
        ("request 6", """'{"type": "holes", "key": "selected", "new_value": "1", "i...' instead."""),
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '[{"decisionType": "focus"}]', '{"key": "status"}'])
def test_other_json_is_not_detected(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    assert not detect(path)
