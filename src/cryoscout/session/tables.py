"""The columns of a session's tables and their types, in one place, so that model, store and readers agree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.errors import DataError

ColumnKind = Literal["id", "text", "float", "int", "bool", "nullable_int", "nullable_bool", "time"]

CTF_COLUMNS: tuple[str, ...] = (
    "defocus_u_um",
    "defocus_v_um",
    "defocus_um",
    "defocus_angle_deg",
    "astigmatism_um",
    "phase_shift_deg",
    "figure_of_merit",
    "ice_ring_density",
    "ice_thickness_rel",
    "ice_thickness_nm",
    "sample_thickness_angstrom",
    "tilt_axis_angle_deg",
    "tilt_angle_deg",
    "nominal_defocus_um",
    "mean_defocus_um",
    "defocus_1_um",
    "defocus_2_um",
    "astigmatism_angle_deg",
    "amplitude_contrast",
    "resolution_80_angstrom",
    "resolution_50_angstrom",
    "resolution_package_angstrom",
)
"""What readers of CTF results give as numbers beside the resolution; their modules say what each one is. Every other
column of a result stays text, in `ctf_runs.fields`."""

TABLES: dict[str, dict[str, ColumnKind]] = {
    "grids": {"grid_id": "id"},
    "squares": {
        "square_id": "id",
        "grid_id": "id",
        "x_um": "float",
        "y_um": "float",
        "area_um2": "float",
        "brightness": "float",
        "looked": "nullable_bool",
        "looked_at": "time",
    },
    "patches": {"patch_id": "id", "square_id": "id", "looked": "nullable_bool", "looked_at": "time"},
    "holes": {
        "hole_id": "id",
        "patch_id": "id",
        "x_px": "float",
        "y_px": "float",
        "image_row": "nullable_int",
        "x_um": "float",
        "y_um": "float",
        "chosen": "nullable_bool",
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
    "ctf_runs": {
        "exposure_id": "id",
        "run": "int",
        "source": "text",
        "reader": "text",
        "ctf_max_res_angstrom": "float",
        "taken": "bool",
        **dict.fromkeys(CTF_COLUMNS, "float"),
        "line": "nullable_int",
        "fields": "text",
    },
    "vendor_fields": {
        "record_id": "text",
        "source": "text",
        "reader": "text",
        "shared": "text",
        "fields": "text",
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
"""Table -> column -> kind, in order. `float` may be NaN, `nullable_int` and `nullable_bool` may be NA, `time` may be
NaT, naive microscope time with nanoseconds; the others are never missing."""

OPTIONAL_COLUMNS: dict[str, tuple[str, ...]] = {
    "squares": ("x_um", "y_um", "area_um2", "brightness", "looked", "looked_at"),
    "patches": ("looked", "looked_at"),
    "holes": ("x_um", "y_um", "chosen"),
    "exposures": ("stage_x_um", "stage_y_um"),
    "ctf_runs": (*CTF_COLUMNS, "line"),
    "predictions": ("p_good", "ctf_predicted_angstrom", "predicted_at"),
}
"""What many sources do not say: these columns may be left out, and are missing in every row then."""

GAPS: dict[str, tuple[str, ...]] = {
    "squares": ("x_um", "y_um", "area_um2", "brightness", "looked", "looked_at"),
    "patches": ("looked", "looked_at"),
    "holes": ("x_px", "y_px", "x_um", "y_um"),
    "exposures": ("started_at", "stage_x_um", "stage_y_um"),
}
"""Columns whose missing values a later import may fill, and looks that happened since (see `is_filled`): files of one
session come in any order."""

_DTYPES: dict[ColumnKind, str] = {
    "id": "str",
    "text": "str",
    "float": "float64",
    "int": "int64",
    "bool": "bool",
    "nullable_int": "Int64",
    "nullable_bool": "boolean",
    "time": "datetime64[ns]",
}
_NEVER_MISSING: tuple[ColumnKind, ...] = ("id", "text", "int", "bool")


def may_be_missing(kind: ColumnKind) -> bool:
    """Whether a value of a column of this kind may be NaN, NA or NaT."""
    return kind not in _NEVER_MISSING


def missing_column(kind: ColumnKind, n_rows: int) -> pd.Series[Any]:
    """A column of a kind whose values may be missing, with none."""
    return pd.Series(missing_values(kind, n_rows))


def missing_values(kind: ColumnKind, n_rows: int) -> Any:
    """The array of `missing_column`."""
    return _one_missing(kind).repeat(n_rows)


@cache
def _one_missing(kind: ColumnKind) -> Any:
    return array_of(kind, [None])


def array_of(kind: ColumnKind, values: Sequence[Any]) -> Any:
    """The array of a column of ids or texts, or of a kind whose values may be missing; None where one is missing."""
    dtype = _dtype_of(kind)
    if kind in ("id", "text") and isinstance(dtype, np.dtype):  # pandas 2 keeps texts as objects
        made = np.empty(len(values), dtype=object)
        made[:] = values
        return made
    return np.array(values, dtype=dtype) if isinstance(dtype, np.dtype) else pd.array(values, dtype=dtype)


def empty_table(table: str) -> pd.DataFrame:
    """A table of that name with all its columns, their types and no rows."""
    return _empty_table(table).copy()


@cache
def _empty_table(table: str) -> pd.DataFrame:
    # Thirty empty columns take milliseconds to make, a copy of them none.
    columns = TABLES[table]
    return pd.DataFrame({column: pd.Series([], dtype=_DTYPES[kind]) for column, kind in columns.items()})


def typed_table(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The table with exactly its columns, in order, with their types and a fresh index 0..n-1.

    Columns of OPTIONAL_COLUMNS that are missing are filled with NaN or NA. Raises DataError when another column
    is missing or one is unknown, a value cannot be read as its type, or an id is missing.
    """
    columns = TABLES[table]
    if _is_typed(table, frame):
        return frame.copy(deep=False)
    left_out = [column for column in OPTIONAL_COLUMNS.get(table, ()) if column not in frame.columns]
    if left_out:
        frame = frame.reset_index(drop=True)
        frame = frame.assign(**{each: missing_column(columns[each], len(frame)) for each in left_out})
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
    """The stored rows with the values of GAPS that rows of the same id fill (see `is_filled`).

    found : has the id column, the first of the table, once per id, and any of the columns of GAPS
    """
    id_column = next(iter(TABLES[table]))
    place = pd.Index(found[id_column]).get_indexer(pd.Index(stored[id_column]))
    known = place >= 0
    filled = {}
    for column in GAPS[table]:
        if column in found and known.any():
            before = stored[column]
            given = found[column].iloc[place].set_axis(stored.index).astype(before.dtype)
            filled[column] = before.mask(known & is_filled(before, given), given)
    return stored.assign(**filled)


def is_filled(before: pd.Series[Any], after: pd.Series[Any]) -> NDArray[np.bool_]:
    """(n,) bool: where a later value takes the place of a missing one, or of "no" where it is "yes".

    Of the columns of GAPS only looks are yes or no: "no" is what was known before a look, and no look is undone.
    """
    takes = before.isna() & after.notna()
    if isinstance(before.dtype, pd.BooleanDtype):
        takes |= before.eq(False).fillna(False) & after.eq(True).fillna(False)
    return takes.to_numpy(dtype=bool)


@cache
def _dtype_of(kind: ColumnKind) -> Any:
    return pd.api.types.pandas_dtype(_DTYPES[kind])


@cache
def _dtypes_of(table: str) -> list[Any]:
    return [_dtype_of(kind) for kind in TABLES[table].values()]


def _is_typed(table: str, frame: pd.DataFrame) -> bool:
    """Whether the table is what `typed_table` gives: a session is made anew of its own tables again and again."""
    if list(frame.columns) != list(TABLES[table]) or frame.dtypes.tolist() != _dtypes_of(table):
        return False
    if not (isinstance(frame.index, pd.RangeIndex) and frame.index.equals(pd.RangeIndex(len(frame)))):
        return False
    # Column by column: of a table of several it takes ten times as long.
    texts = (column for column, kind in TABLES[table].items() if kind in ("id", "text"))
    return len(frame) == 0 or not any(frame[column].array.isna().any() for column in texts)


def _typed_column(table: str, column: str, kind: ColumnKind, frame: pd.DataFrame) -> pd.Series[Any]:
    values = frame[column].reset_index(drop=True)
    if not may_be_missing(kind) and values.isna().any():
        row = int(np.flatnonzero(values.isna().to_numpy())[0])
        raise DataError(f"{table}.{column} must have a value in every row. Got none in row {row} instead.")
    if kind == "time" and isinstance(values.dtype, pd.DatetimeTZDtype):
        raise DataError(
            f"{table}.{column} must be naive microscope time. Got times with a time zone instead. "
            "Remedy: convert them to the time zone of the microscope and drop it."
        )
    try:
        typed: pd.Series[Any] = values.astype(_dtype_of(kind))
    except (TypeError, ValueError) as error:
        raise DataError(f"{table}.{column} must be of type {_DTYPES[kind]}. Got {error} instead.") from None
    return typed
