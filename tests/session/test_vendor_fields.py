"""Fields of many records come back as they were, whatever they share, and take little room."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import DataError
from cryoscout.session.tables import TABLES
from cryoscout.session.vendor_fields import VendorFields, packed, unpacked

NAMES = st.sampled_from(["State", "Dose", "optics/Ähre", "a b", ""])
TEXTS = st.sampled_from(["", "0", "null", "1.5", 'say "x"', "\u2028", "Å"]) | st.text(max_size=3)
FIELDS = st.dictionaries(NAMES, TEXTS, max_size=5)
RECORDS = st.dictionaries(st.text(min_size=1, max_size=2), FIELDS, max_size=8)


def together(*parts):
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


@given(FIELDS, FIELDS, FIELDS)
def test_fields_over_shared_ones_are_the_fields(fields, shared, more):
    found = VendorFields(fields, shared)
    assert found == fields
    assert (len(found), bool(found)) == (len(fields), bool(fields))
    assert [name in found for name in shared] == [name in fields for name in shared]
    assert found.with_more(more) == {**more, **fields}


@given(RECORDS, RECORDS, FIELDS)
def test_what_is_packed_is_unpacked_and_later_rows_add_to_earlier_ones(first, second, shared):
    rows = packed(first, "run", "epu")
    assert list(rows.columns) == list(TABLES["vendor_fields"])
    expected = {("epu", key): fields for key, fields in first.items() if fields}
    assert unpacked(rows) == expected
    layered = {key: VendorFields(fields, shared) for key, fields in second.items()}
    later = packed(layered, "run", "epu", rows)
    if len(later):
        rows = together(rows, later)
    for key, fields in second.items():
        if fields:
            expected[("epu", key)] = {**expected.get(("epu", key), {}), **fields}
    assert unpacked(rows) == expected
    if len(rows):
        assert not rows.loc[rows["record_id"] == "", "shared"].duplicated().any()
    assert unpacked(rows, ["a"]) == {key: fields for key, fields in expected.items() if key[1] == "a"}


def test_readers_do_not_mix_and_a_set_stands_once_for_all_imports():
    images = {f"e{i}": {"mode": "counting", "dose": "40", "time": str(i)} for i in range(5)}
    first = packed(images, "run", "epu")
    assert first["record_id"].tolist() == ["", "e0", "e1", "e2", "e3", "e4"]
    assert [json.loads(text) for text in first["fields"][:2]] == [
        {"mode": "counting", "dose": "40"},
        {"time": "0"},
    ]
    again = packed({f"{key}b": fields for key, fields in images.items()}, "run", "epu", first)
    assert again["record_id"].tolist() == ["e0b", "e1b", "e2b", "e3b", "e4b"]
    other = packed({"e0": {"dose": "1"}}, "a.nav", "serialem", first)
    found = unpacked(together(first, again, other))
    assert found["epu", "e0"] == images["e0"]
    assert found["epu", "e4b"] == images["e4"]
    assert found["serialem", "e0"] == {"dose": "1"}


def test_a_hundred_fields_that_many_images_share_take_no_room():
    common = {f"microscopeData/optics/setting_{i}": "0.123456789" for i in range(130)}
    images = {f"e{i}": {**common, "uniqueID": f"id {i}", "Dose": f"{i}.5"} for i in range(1000)}
    size = packed(images, "run", "epu")["fields"].str.len().sum()
    assert size < sum(len(json.dumps(fields)) for fields in images.values()) / 100


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("e1", "run", "epu", "abc", "{}"), r"must be in the table\. Got none named 'abc' for 'e1' instead"),
        (("e1", "run", "epu", "", "{"), r"fields must be a JSON object\. Got '\{' instead"),
        (("", "", "", "abc", "[]"), r"fields must be a JSON object\. Got '\[\]' instead"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(row, message):
    with pytest.raises(DataError, match=message):
        unpacked(pd.DataFrame([row], columns=list(TABLES["vendor_fields"])))
