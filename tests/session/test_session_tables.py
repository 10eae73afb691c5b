"""Columns of the typed tables, as arrays."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.core.errors import DataError
from cryoscout.session import tables
from cryoscout.session.store_events import frame_of_columns
from cryoscout.session.tables import TABLES


def test_texts_are_no_arrays_of_one_width_where_pandas_keeps_them_as_objects(monkeypatch):
    monkeypatch.setattr(tables, "_dtype_of", lambda kind: np.dtype("<U0"))  # what pandas 2 means by "str"
    made = tables.array_of("text", ["a" * 1000, None])

    assert made.dtype == object
    assert made.tolist() == ["a" * 1000, None]


@pytest.mark.parametrize("column", TABLES["provenance"])
def test_a_text_that_is_missing_in_a_store_is_refused(column):
    columns = {name: ["a", "b"] for name in TABLES["provenance"]}
    with pytest.raises(
        DataError, match=f"provenance.{column} must have a value in every row. Got none in row 1"
    ):
        frame_of_columns("provenance", {**columns, column: ["a", None]})
