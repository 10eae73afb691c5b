"""The columns of a session's tables and their types, in one place, so that model, store and readers agree."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from cryoscout.core.errors import DataError

ColumnKind = Literal["id", "text", "float", "int", "nullable_int", "time"]

TABLES: dict[str, dict[str, ColumnKind]] = {
    "grids": {"grid_id": "id"},
    "squares": {"square_id": "id", "grid_id": "id"},
    "patches": {"patch_id": "id", "square_id": "id"},
    "holes": {
        "hole_id": "id",
        "patch_id": "id",
        "x_px": "float",
        "y_px": "float",
        "image_row": "nullable_int",
    },
    "exposures": {
        "exposure_id": "id",
        "hole_id": "id",
        "shot": "int",
        "started_at": "time",
        "outcome": "text",
        "ctf_max_res_angstrom": "float",
    },
    "predictions": {
        "hole_id": "id",
        "model_id": "id",
        "threshold_angstrom": "float",
        "p_good": "float",
        "ctf_predicted_angstrom": "float",
        "predicted_at": "time",
    },
    "provenance": {"table": "text", "field": "text", "file": "text", "reader": "text"},
}
"""Table -> column -> kind, in order. `float` may be NaN, `nullable_int` may be NA, `time` may be NaT, naive
microscope time with nanoseconds; `id` and `text` are never missing."""

_DTYPES: dict[ColumnKind, str] = {
    "id": "str",
    "text": "str",
    "float": "float64",
    "int": "int64",
    "nullable_int": "Int64",
    "time": "datetime64[ns]",
}


def empty_table(table: str) -> pd.DataFrame:
    """A table of that name with all its columns, their types and no rows."""
    columns = TABLES[table]
    return pd.DataFrame({column: pd.Series([], dtype=_DTYPES[kind]) for column, kind in columns.items()})


def typed_table(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The table with exactly its columns, in order, with their types and a fresh index 0..n-1.

    Raises DataError when a column is missing or unknown, a value cannot be read as its type, or an id is
    missing.
    """
    columns = TABLES[table]
    if set(frame.columns) != set(columns):
        missing = [column for column in columns if column not in frame.columns]
        unknown = [str(column) for column in frame.columns if column not in columns]
        raise DataError(
            f"Table {table} must have the columns {', '.join(columns)}. "
            f"Got {', '.join(map(str, frame.columns))} instead "
            f"(missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'})."
        )
    return pd.DataFrame(
        {column: _typed_column(table, column, kind, frame) for column, kind in columns.items()}
    )


def _typed_column(table: str, column: str, kind: ColumnKind, frame: pd.DataFrame) -> pd.Series[Any]:
    values = frame[column].reset_index(drop=True)
    if kind in ("id", "text", "int") and values.isna().any():
        row = int(np.flatnonzero(values.isna().to_numpy())[0])
        raise DataError(f"{table}.{column} must have a value in every row. Got none in row {row} instead.")
    if kind == "time" and isinstance(values.dtype, pd.DatetimeTZDtype):
        raise DataError(
            f"{table}.{column} must be naive microscope time. Got times with a time zone instead. "
            "Remedy: convert them to the time zone of the microscope and drop it."
        )
    try:
        typed: pd.Series[Any] = values.astype(pd.api.types.pandas_dtype(_DTYPES[kind]))
    except (TypeError, ValueError) as error:
        raise DataError(f"{table}.{column} must be of type {_DTYPES[kind]}. Got {error} instead.") from None
    return typed
