"""The columns of a session's tables and their types, in one place, so that model, store and readers agree."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from cryoscout.core.errors import DataError

ColumnKind = Literal["id", "text", "float", "int", "nullable_int", "time"]

TABLES: dict[str, dict[str, ColumnKind]] = {
    "grids": {"grid_id": "id"},
    "squares": {"square_id": "id", "grid_id": "id", "x_um": "float", "y_um": "float"},
    "patches": {"patch_id": "id", "square_id": "id"},
    "holes": {
        "hole_id": "id",
        "patch_id": "id",
        "x_px": "float",
        "y_px": "float",
        "image_row": "nullable_int",
        "x_um": "float",
        "y_um": "float",
    },
    "exposures": {
        "exposure_id": "id",
        "hole_id": "id",
        "shot": "int",
        "started_at": "time",
        "outcome": "text",
        "ctf_max_res_angstrom": "float",
        "stage_x_um": "float",
        "stage_y_um": "float",
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

STAGE_COLUMNS: dict[str, tuple[str, ...]] = {
    "squares": ("x_um", "y_um"),
    "holes": ("x_um", "y_um"),
    "exposures": ("stage_x_um", "stage_y_um"),
}
"""Positions of the stage, um. Many sources have none: these columns may be left out, and are NaN then."""

GAPS: dict[str, tuple[str, ...]] = {
    "squares": ("x_um", "y_um"),
    "holes": ("x_px", "y_px", "x_um", "y_um"),
    "exposures": ("started_at", "stage_x_um", "stage_y_um"),
}
"""Columns whose missing values a later import may fill: files of one session come in any order."""

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

    Columns of STAGE_COLUMNS that are missing are filled with NaN. Raises DataError when another column is
    missing or one is unknown, a value cannot be read as its type, or an id is missing.
    """
    columns = TABLES[table]
    unplaced = [column for column in STAGE_COLUMNS.get(table, ()) if column not in frame.columns]
    if unplaced:
        frame = frame.assign(**dict.fromkeys(unplaced, np.nan))
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


def with_gaps_filled(table: str, stored: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The stored rows with missing values of GAPS filled from rows of the same id, where these have them.

    found : has the id column, the first of the table, once per id, and any of the columns of GAPS
    """
    id_column = next(iter(TABLES[table]))
    place = pd.Index(found[id_column]).get_indexer(pd.Index(stored[id_column]))
    known = place >= 0
    filled = {}
    for column in GAPS[table]:
        if column in found and known.any():
            values = stored[column].to_numpy(copy=True)
            given = found[column].to_numpy(dtype=values.dtype)[place]
            open_rows = known & pd.isna(values)
            values[open_rows] = given[open_rows]
            filled[column] = values
    return stored.assign(**filled)


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
