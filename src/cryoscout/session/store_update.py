"""What a later import adds to a stored session, as events: new rows, results that were waited for or are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.errors import StoreError
from cryoscout.session.live_exposures import renamed, with_vendor_ids
from cryoscout.session.model import Session
from cryoscout.session.store_events import Columns, columns_of_frame, row_chunks
from cryoscout.session.tables import GAPS, is_filled, with_gaps_filled

_ID_OF = {
    "grids": "grid_id",
    "squares": "square_id",
    "patches": "patch_id",
    "holes": "hole_id",
    "exposures": "exposure_id",
}
_RESULT = ["outcome", "ctf_max_res_angstrom"]
_SHOT = ["exposure_id", "hole_id", "shot"]
_REMEDY = "Remedy: import into a new place with -o; what is stored stays as it is."


def changes_between(stored: Session, extended: Session) -> list[dict[str, Any]]:
    """Payloads of the `imported` events (see `store_events`) that make the stored session the extended one.

    May differ: rows more in any table; the outcome of exposures that were pending, or of which a CTF run is taken now;
    which run is taken; what holes the operator had chosen; positions and times that were missing; looks since; the
    patch of holes that had no image and no exposure with a known stage position, and with it patches that nothing is
    left in; more shots per hole; the time model, from the published one to the fitted one; how files are read; the id
    of a shot that was recorded live, before the vendor's was known; of a session without rows everything but its name.
    Raises StoreError for any other difference.
    """
    payloads: list[dict[str, Any]] = []
    changes = _info_changes(stored, extended)
    if changes:
        payloads.append({"part": "info", "changes": changes})
    new_ids = with_vendor_ids(stored.exposures[_SHOT], extended.exposures[_SHOT])
    payloads += _chunks("renamed", {"exposure_id": list(new_ids), "new_id": list(new_ids.values())})
    stored = _with_new_ids(stored, new_ids)
    moved = _moved_holes(stored, extended)
    emptied = sorted(set(stored.patches["patch_id"]) - set(extended.patches["patch_id"]))
    for table in (*_ID_OF, "ctf_runs", "vendor_fields", "predictions", "provenance"):
        new = _new_rows(table, stored, extended, emptied)
        columns = columns_of_frame(table, getattr(extended, table)[new])
        payloads += [{"part": "rows", "table": table, "columns": chunk} for chunk in row_chunks(columns)]
    payloads += _chunks("patches", {name: moved[name].tolist() for name in ("hole_id", "patch_id")})
    if emptied:
        payloads.append({"part": "emptied", "patch_ids": emptied})
    for table in GAPS:
        filled = _filled_rows(table, getattr(stored, table), getattr(extended, table))
        columns = columns_of_frame(table, filled, (_ID_OF[table], *GAPS[table]))
        payloads += [{"part": "filled", "table": table, "columns": chunk} for chunk in row_chunks(columns)]
    names = ("exposure_id", *_RESULT)
    for part, results in zip(("outcomes", "better"), _new_results(stored, extended), strict=True):
        payloads += _chunks(part, columns_of_frame("exposures", results, names))
    taken = _taken_instead(stored, extended)
    payloads += _chunks("taken", columns_of_frame("ctf_runs", taken, ("exposure_id", "run")))
    chosen = _chosen_instead(stored, extended)
    payloads += _chunks("chosen", columns_of_frame("holes", chosen, ("hole_id", "chosen")))
    return payloads


def _with_new_ids(stored: Session, new_ids: dict[str, str]) -> Session:
    if not new_ids:
        return stored
    return replace(
        stored,
        exposures=renamed(stored.exposures, new_ids),
        ctf_runs=renamed(stored.ctf_runs, new_ids),
    )


def _info_changes(stored: Session, extended: Session) -> dict[str, Any]:
    before, after = stored.info.model_dump(), extended.info.model_dump()
    changes = {name: value for name, value in after.items() if value != before[name]}
    if not len(stored.grids):  # nothing was known yet: what comes first says what kind of session it is
        return changes
    allowed = {
        "shots": extended.info.shots > stored.info.shots,
        "default_time_model": extended.info.default_time_model == "fitted",
        "reading": True,
    }
    for name, value in changes.items():
        if not allowed.get(name, False):
            raise _changed(f"{name} of the session", repr(value))
    return changes


def counts_of_changes(payloads: Sequence[dict[str, Any]]) -> dict[str, int]:
    """New rows by table, without provenance and vendor fields; `outcomes`: results of exposures that were pending;
    `further_ctf_runs`: CTF runs beyond the first of an exposure; `changed_choices`: stored holes that the operator has
    chosen, or not, since; `completed_rows`: stored rows of which something is known now that was missing."""
    kinds = ("outcomes", "further_ctf_runs", "changed_choices", "completed_rows", "predictions")
    counts = dict.fromkeys((*_ID_OF, *kinds), 0)
    for payload in payloads:
        part, columns = payload["part"], payload.get("columns", {})
        what = payload["table"] if part == "rows" else part
        if what == "ctf_runs":
            counts["further_ctf_runs"] += sum(run > 1 for run in columns["run"])
        elif part == "chosen":
            counts["changed_choices"] += len(columns["hole_id"])
        elif part == "filled":
            counts["completed_rows"] += len(columns[_ID_OF[payload["table"]]])
        elif what in counts and part in ("rows", "outcomes"):
            counts[what] += len(next(iter(columns.values())))
    return counts


def _chunks(part: str, columns: Columns) -> list[dict[str, Any]]:
    return [{"part": part, "columns": chunk} for chunk in row_chunks(columns)]


def _new_rows(table: str, stored: Session, extended: Session, emptied: Sequence[str]) -> NDArray[np.bool_]:
    """(rows of the extended table,) which are new. Raises StoreError when a row that was there is gone or changed."""
    before, after = getattr(stored, table), getattr(extended, table)
    if table == "ctf_runs":
        return _new_runs(before, after)
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
        free = ["patch_id", "chosen"]
        before, kept = before.drop(columns=free), kept.drop(columns=free)
    elif table == "exposures":
        with_run = extended.ctf_runs.loc[extended.ctf_runs["taken"], "exposure_id"]
        waited = (before["outcome"] == "pending") | before["exposure_id"].isin(with_run)
        before = before.assign(**{name: before[name].mask(waited, kept[name]) for name in _RESULT})
    if not before.equals(kept):
        before, kept = (
            before.astype(object),
            kept.astype(object),
        )  # NA of a bool is neither equal nor different
        before, kept = before.where(before.notna(), None), kept.where(kept.notna(), None)
        differs = (before.ne(kept) & ~(before.isna() & kept.isna())).any(axis=1)
        raise _changed(table, f"other values for {before.loc[differs, id_column].iloc[0]!r}")
    new = np.ones(len(after), dtype=bool)
    new[place] = False
    return new


def _new_runs(before: pd.DataFrame, after: pd.DataFrame) -> NDArray[np.bool_]:
    """(rows of after,) which are new; only which run is taken may be another one than before."""
    if before.empty:
        return np.ones(len(after), dtype=bool)
    key = ["exposure_id", "run"]
    place = pd.MultiIndex.from_frame(after[key]).get_indexer(pd.MultiIndex.from_frame(before[key]))
    if (place < 0).any():
        raise _changed("ctf_runs", f"other runs of {before['exposure_id'].iloc[int(np.argmin(place))]!r}")
    kept = after.iloc[place].reset_index(drop=True).drop(columns="taken")
    if not before.reset_index(drop=True).drop(columns="taken").equals(kept):
        raise _changed("ctf_runs", "other runs of an exposure")
    new = np.ones(len(after), dtype=bool)
    new[place] = False
    return new


def _taken_instead(stored: Session, extended: Session) -> pd.DataFrame:
    """The runs that are taken now, of exposures of which a stored run is taken now, or no more."""
    key = ["exposure_id", "run"]
    both = stored.ctf_runs[[*key, "taken"]].merge(
        extended.ctf_runs[[*key, "taken"]], on=key, suffixes=("_before", "")
    )
    changed = both.loc[both["taken"] != both["taken_before"], "exposure_id"].unique()
    taken = extended.ctf_runs[extended.ctf_runs["taken"]]
    taken = taken.loc[taken["exposure_id"].isin(changed), key]
    if len(taken) != len(changed):
        raise _changed("ctf_runs", "no run that is taken where one was")
    return taken


def _chosen_instead(stored: Session, extended: Session) -> pd.DataFrame:
    """hole_id and chosen of stored holes of which it is another value now. Raises StoreError where it is unsaid."""
    both = extended.holes[["hole_id", "chosen"]].merge(
        stored.holes[["hole_id", "chosen"]], on="hole_id", how="inner", suffixes=("", "_before")
    )
    if (both["chosen"].isna() & both["chosen_before"].notna()).any():
        raise _changed("holes", "holes of which it is not known any more whether they were chosen")
    differs = both["chosen"].notna() & (both["chosen"] != both["chosen_before"]).fillna(True)
    return both.loc[differs, ["hole_id", "chosen"]]


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
    changed = np.zeros(len(before), dtype=np.bool_)
    for column in GAPS[table]:
        changed |= is_filled(before[column], filled[column])
    return filled[changed]


def _new_results(stored: Session, extended: Session) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exposures that were pending and have a result now, and those that had another one."""
    before, after = stored.exposures, extended.exposures
    waiting = before.loc[before["outcome"] == "pending", "exposure_id"]
    new = after[after["exposure_id"].isin(waiting) & (after["outcome"] != "pending")]
    both = after.merge(before[["exposure_id", *_RESULT]], on="exposure_id", suffixes=("", "_before"))
    had_one = both["outcome_before"].isin(("measured", "failed"))
    value, value_before = both[_RESULT[1]], both[f"{_RESULT[1]}_before"]
    differs = (both["outcome"] != both["outcome_before"]) | (
        (value != value_before) & ~(value.isna() & value_before.isna())
    )
    return new, both[had_one & differs]


def _changed(what: str, got: str) -> StoreError:
    return StoreError(
        f"A later import must leave what is stored as it is ({what}). Got {got} instead; nothing was written. "
        f"{_REMEDY}"
    )
