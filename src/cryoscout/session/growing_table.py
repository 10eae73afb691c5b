"""A table of a session that grows and changes row by row, for a reader that follows a running session.

A pandas table is copied as a whole for one new row. Here the columns are arrays with room at the end, and the pandas
table is made of them when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.errors import DataError
from cryoscout.session.tables import TABLES, ColumnKind, typed_table

_DTYPES: dict[ColumnKind, str] = {
    "id": "object",
    "text": "object",
    "float": "float64",
    "int": "int64",
    "bool": "bool",
    "nullable_int": "object",
    "nullable_bool": "object",
    "time": "datetime64[ns]",
}
_LEAST_ROOM = 64


class GrowingTable:
    """Rows in the order they came, found by the id in the first column."""

    def __init__(self, table: str, frame: pd.DataFrame) -> None:
        """table : its name     frame : its rows so far, typed"""
        self._table = table
        self._kinds = TABLES[table]
        self._frame: pd.DataFrame | None = frame
        self._arrays = {column: _array(kind, frame[column]) for column, kind in self._kinds.items()}
        self.names = tuple(self._kinds)
        self._n_rows = len(frame)
        self._row_of: dict[str, int] | None = None

    def __len__(self) -> int:
        return self._n_rows

    def column(self, name: str) -> NDArray[Any]:
        """(rows,) values of a column, not to be changed; None, NaN or NaT where one is missing."""
        values: NDArray[Any] = self._arrays[name][: self._n_rows]
        return values

    def row_of(self, record_id: str) -> int | None:
        """Row of an id, None where there is none; of tables whose ids are unique."""
        if self._row_of is None:
            ids = self.column(next(iter(self._kinds)))
            self._row_of = dict(zip(ids.tolist(), range(self._n_rows), strict=True))
        return self._row_of.get(record_id)

    def known_row(self, record_id: str) -> int:
        """Row of an id that an event names. Raises DataError where there is none."""
        row = self.row_of(record_id)
        if row is None:
            raise DataError(
                f"An event must be of a row of {self._table}. Got {record_id!r} instead. Remedy: open it again."
            )
        return row

    def value(self, row: int, column: str) -> Any:
        """One value, as `column` gives it."""
        return self._arrays[column][row]

    def append(self, columns: Mapping[str, Sequence[Any]]) -> range:
        """Add rows at the end and return which they are; a column that is left out is missing in all of them.

        columns : column -> values as in an event: None where there is none, times as ISO text
        """
        n_new = len(next(iter(columns.values())))
        first = self._n_rows
        self._make_room(first + n_new)
        for column, kind in self._kinds.items():
            values = columns.get(column) or [None] * n_new
            self._arrays[column][first : first + n_new] = [_plain(kind, value) for value in values]
        if self._row_of is not None:
            ids = self._arrays[next(iter(self._kinds))][first : first + n_new].tolist()
            self._row_of.update(zip(ids, range(first, first + n_new), strict=True))
        self._n_rows = first + n_new
        self._frame = None
        return range(first, first + n_new)

    def change(self, row: int, values: Mapping[str, Any]) -> None:
        """Set values of a row, given as in an event."""
        id_column = next(iter(self._kinds))
        if id_column in values and self._row_of is not None:
            self._row_of.pop(self._arrays[id_column][row], None)
            self._row_of[values[id_column]] = row
        for column, value in values.items():
            self._arrays[column][row] = _plain(self._kinds[column], value)
        self._frame = None

    def remove(self, record_ids: Iterable[str]) -> None:
        """Take rows out by their ids."""
        gone = set(record_ids)
        kept = np.array([each not in gone for each in self.column(next(iter(self._kinds)))], dtype=bool)
        self._arrays = {column: self.column(column)[kept] for column in self._kinds}
        self._n_rows = int(kept.sum())
        self._row_of = self._frame = None

    def frame(self) -> pd.DataFrame:
        """The typed pandas table; the same one until a row changes."""
        if self._frame is None:
            columns = {column: _series(kind, self.column(column)) for column, kind in self._kinds.items()}
            self._frame = typed_table(self._table, pd.DataFrame(columns))
        return self._frame

    def _make_room(self, n_rows: int) -> None:
        for column, values in self._arrays.items():
            if n_rows > len(values):
                room = np.empty(max(_LEAST_ROOM, 2 * n_rows) - len(values), dtype=values.dtype)
                self._arrays[column] = np.concatenate([values, room])


def _array(kind: ColumnKind, values: pd.Series[Any]) -> NDArray[Any]:
    if kind in ("nullable_int", "nullable_bool"):
        return values.astype(object).where(values.notna(), None).to_numpy(dtype=object, copy=True)
    return values.to_numpy(dtype=_DTYPES[kind], copy=True)


def _plain(kind: ColumnKind, value: Any) -> Any:
    """A value of an event as the arrays hold it."""
    if kind == "float":
        return np.nan if value is None else value
    if kind == "time":
        return np.datetime64("NaT" if value is None else value, "ns")
    return value


def _series(kind: ColumnKind, values: NDArray[Any]) -> pd.Series[Any]:
    if kind == "nullable_int":
        return pd.Series(pd.array(values, dtype="Int64"))
    if kind == "nullable_bool":
        return pd.Series(pd.array(values, dtype="boolean"))
    if kind in ("id", "text"):
        return pd.Series(values.copy(), dtype="str")
    # The arrays go on changing; the table that is given out does not.
    return pd.Series(values.copy())
