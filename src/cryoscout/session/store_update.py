"""What a later import adds to a stored session, as events: new rows and results that were waited for, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.errors import StoreError
from cryoscout.session.model import Session
from cryoscout.session.store_events import Columns, columns_of_frame, row_chunks
from cryoscout.session.tables import GAPS, with_gaps_filled

_ID_OF = {
    "grids": "grid_id",
    "squares": "square_id",
    "patches": "patch_id",
    "holes": "hole_id",
    "exposures": "exposure_id",
}
_RESULT = ["outcome", "ctf_max_res_angstrom"]
_REMEDY = "Remedy: import into a new place with -o, or replace the session with --force."


def changes_between(stored: Session, extended: Session) -> list[dict[str, Any]]:
    """Payloads of the `imported` events (see `store_events`) that make the stored session the extended one.

    May differ: rows more in any table; the outcome of exposures that were pending; positions and times that were
    missing; the patch of holes that had no image and no exposure with a known stage position, and with it patches
    that nothing is left in; more shots per hole; the time model, from the published one to the fitted one.
    Raises StoreError for any other difference.
    """
    payloads: list[dict[str, Any]] = []
    changes = _info_changes(stored, extended)
    if changes:
        payloads.append({"part": "info", "changes": changes})
    moved = _moved_holes(stored, extended)
    emptied = sorted(set(stored.patches["patch_id"]) - set(extended.patches["patch_id"]))
    for table in (*_ID_OF, "predictions", "provenance"):
        before, after = getattr(stored, table), getattr(extended, table)
        new = _new_rows(table, before, after, emptied)
        columns = columns_of_frame(table, after[new])
        payloads += [{"part": "rows", "table": table, "columns": chunk} for chunk in row_chunks(columns)]
    payloads += _chunks("patches", {name: moved[name].tolist() for name in ("hole_id", "patch_id")})
    if emptied:
        payloads.append({"part": "emptied", "patch_ids": emptied})
    for table in GAPS:
        filled = columns_of_frame(
            table, _filled_rows(table, getattr(stored, table), getattr(extended, table))
        )
        columns = {name: filled[name] for name in (_ID_OF[table], *GAPS[table])}
        payloads += [{"part": "filled", "table": table, "columns": chunk} for chunk in row_chunks(columns)]
    results = _new_results(stored, extended)
    columns = columns_of_frame("exposures", results)
    payloads += _chunks("outcomes", {name: columns[name] for name in ("exposure_id", *_RESULT)})
    return payloads


def _info_changes(stored: Session, extended: Session) -> dict[str, Any]:
    before, after = stored.info.model_dump(), extended.info.model_dump()
    changes = {name: value for name, value in after.items() if value != before[name]}
    allowed = {
        "shots": extended.info.shots > stored.info.shots,
        "default_time_model": extended.info.default_time_model == "fitted",
    }
    for name, value in changes.items():
        if not allowed.get(name, False):
            raise _changed(f"{name} of the session", repr(value))
    return changes


def counts_of_changes(payloads: Sequence[dict[str, Any]]) -> dict[str, int]:
    """New rows by table, without provenance, and `outcomes`: results of exposures that were pending."""
    counts = dict.fromkeys((*_ID_OF, "outcomes", "predictions"), 0)
    for payload in payloads:
        what = payload["table"] if payload["part"] == "rows" else payload["part"]
        if what in counts and payload["part"] in ("rows", "outcomes"):
            counts[what] += len(next(iter(payload["columns"].values())))
    return counts


def _chunks(part: str, columns: Columns) -> list[dict[str, Any]]:
    return [{"part": part, "columns": chunk} for chunk in row_chunks(columns)]


def _new_rows(
    table: str, before: pd.DataFrame, after: pd.DataFrame, emptied: Sequence[str]
) -> NDArray[np.bool_]:
    """(rows of after,) which are new. Raises StoreError when a row that was there is gone or changed."""
    if table not in _ID_OF:
        # Rows without an id are only ever added at the end.
        if not before.equals(after.iloc[: len(before)]):
            raise _changed(table, "other rows")
        return np.arange(len(after)) >= len(before)
    id_column = _ID_OF[table]
    if table == "patches":
        before = before[~before[id_column].isin(emptied)]
    place = pd.Index(after[id_column]).get_indexer(pd.Index(before[id_column]))
    if (place < 0).any():
        raise _changed(table, f"none with {before[id_column].iloc[int(np.argmin(place))]!r}")
    kept = after.iloc[place].reset_index(drop=True)
    before = before.reset_index(drop=True)
    if table in GAPS:
        before = with_gaps_filled(table, before, kept)
    if table == "holes":
        before, kept = before.drop(columns="patch_id"), kept.drop(columns="patch_id")
    elif table == "exposures":
        waited = before["outcome"] == "pending"
        before = before.assign(**{name: before[name].mask(waited, kept[name]) for name in _RESULT})
    if not before.equals(kept):
        differs = ((before != kept) & ~(before.isna() & kept.isna())).any(axis=1)
        raise _changed(table, f"other values for {before.loc[differs, id_column].iloc[0]!r}")
    new = np.ones(len(after), dtype=bool)
    new[place] = False
    return new


def _moved_holes(stored: Session, extended: Session) -> pd.DataFrame:
    """Holes that are in another patch, with the new one. Raises StoreError when they may not be."""
    both = stored.holes.merge(
        extended.holes[["hole_id", "patch_id"]], on="hole_id", how="inner", suffixes=("_before", "")
    )
    moved = both[both["patch_id"] != both["patch_id_before"]]
    placed = stored.exposures.loc[stored.exposures["stage_x_um"].notna(), "hole_id"]
    fixed = moved[moved["hole_id"].isin(placed) | moved["image_row"].notna()]
    if len(fixed):
        raise _changed("holes", f"another patch for {fixed['hole_id'].iloc[0]!r}, which was imaged before")
    return moved


def _filled_rows(table: str, before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Stored rows with what was missing, where something was filled."""
    filled = with_gaps_filled(table, before, after)
    columns = list(GAPS[table])
    return filled[(before[columns].isna() & filled[columns].notna()).any(axis=1)]


def _new_results(stored: Session, extended: Session) -> pd.DataFrame:
    waiting = stored.exposures.loc[stored.exposures["outcome"] == "pending", "exposure_id"]
    after = extended.exposures
    return after[after["exposure_id"].isin(waiting) & (after["outcome"] != "pending")]


def _changed(what: str, got: str) -> StoreError:
    return StoreError(
        f"A later import must leave what is stored as it is ({what}). Got {got} instead; nothing was written. "
        f"{_REMEDY}"
    )
