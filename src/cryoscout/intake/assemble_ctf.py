"""Every CTF result of every source as a run of its exposure, and of several runs the one that counts.

The best resolution counts, a failed fit only where all failed; of equal ones the one that was read first. A run that a
reader did not choose itself (`SourceRecords.further_ctf`) is kept and never counts. A result that is found again as it
was, in a file of the same name, is the same run; one that differs in anything is a further run, and a note says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import counted
from cryoscout.core.names import name_of_source
from cryoscout.formats.records import CTF_COLUMNS as OWN_COLUMNS
from cryoscout.formats.records import OF_FOLDER, SourceRecords
from cryoscout.intake.assemble_names import joined_by_name
from cryoscout.session.ctf_runs import has_failed
from cryoscout.session.joins import JoinReport
from cryoscout.session.tables import CTF_COLUMNS, TABLES

_NUMBERS = ("ctf_max_res_angstrom", *CTF_COLUMNS)
_IS_CHOICE = "is_choice"
CTF_RESULTS = "CTF results of"
"""How the report on the results of a source begins."""
ANOTHER_RESULT = "have another CTF result than before"
"""What the note on results that have changed says."""


@dataclass
class Results:
    """Exposures with their results, and the runs that these come from."""

    exposures: pd.DataFrame
    runs: pd.DataFrame
    """As in Session; those of the stored session among them."""
    reports: list[JoinReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def with_results(
    exposures: pd.DataFrame,
    sources: Sequence[SourceRecords],
    known: pd.DataFrame,
    again: Mapping[str, str] | None = None,
    *,
    own_format: str | None = None,
    movie_folders: Mapping[str, str] | None = None,
) -> Results:
    """Join the results of all sources to exposures, and choose the best run of each anew.

    exposures : exposure_id, outcome, ctf_max_res_angstrom and what else the table has, those of the stored session too
    known : `ctf_runs` of the stored session
    again : images of shots that were taken before -> the exposure of the shot, whose further runs their results are
    own_format : of the sources that say places, whose results name exposures as they call them
    movie_folders : see `joined_by_name`
    """
    result = Results(exposures, known)
    ids = exposures["exposure_id"].tolist()
    found = []
    for source in sources:
        for table, is_choice in ((source.ctf, True), (source.further_ctf, False)):
            if table.empty:
                continue
            what = f"{CTF_RESULTS} {name_of_source(source.path)} ({source.format})"
            other_ids = table["image_id"].tolist() if "image_id" in table else None
            place, report = joined_by_name(
                table["name"].tolist(),
                other_ids,
                ids,
                what,
                again,
                folders=_folders(table, source, own_format),
                movie_folders=movie_folders,
                own_ids=set(source.exposures["exposure_id"]) if source.format == own_format else (),
                of_holes=_of_holes(source) if source.format == own_format else (),
            )
            if is_choice:
                result.reports.append(report)
            found.append(_runs_of(table, place, exposures["exposure_id"], source).assign(is_choice=is_choice))
    new = _not_known(found, known)
    if new.empty:
        return result
    place = pd.Index(ids).get_indexer(pd.Index(new["exposure_id"])).astype(np.int64)
    result.notes += _changed_results(new, known)
    _choose(result, new, place)
    several = result.runs.loc[result.runs["run"] > 1, "exposure_id"]
    n_several = int(several[several.isin(new["exposure_id"])].nunique())
    if n_several:
        result.notes.append(
            f"{counted(n_several, 'exposures', 'have')} several CTF runs; all are kept, and the best resolution counts"
        )
    return result


def _folders(table: pd.DataFrame, source: SourceRecords, own_format: str | None) -> list[str] | None:
    """Of each name, None where the names say it themselves."""
    if OF_FOLDER in table:
        return list(table[OF_FOLDER])
    # What stands before the name in an id that the source gives is a place, no folder.
    return [""] * len(table) if source.format == own_format else None


def _of_holes(source: SourceRecords) -> set[str]:
    """Exposures of which the source says the hole: no folder tells them better."""
    exposures = source.exposures
    return set(exposures.loc[exposures["hole_id"].fillna("") != "", "exposure_id"])


def _runs_of(
    table: pd.DataFrame, place: NDArray[np.int64], exposure_ids: pd.Series[str], source: SourceRecords
) -> pd.DataFrame:
    """The results that joined as rows of `ctf_runs`, without number and choice."""
    rows = table[place >= 0].reset_index(drop=True)
    of = exposure_ids.to_numpy(dtype=object)[place[place >= 0]]
    others = [column for column in rows.columns if column not in (*OWN_COLUMNS, OF_FOLDER, *CTF_COLUMNS)]
    texts = {str(column): rows[column].tolist() for column in others}
    resolution = rows["ctf_max_res_angstrom"].to_numpy(dtype=np.float64)
    made = {
        "exposure_id": of,
        "source": name_of_source(source.path),
        "reader": source.format,
        "ctf_max_res_angstrom": np.where(np.isinf(resolution), np.nan, resolution),
    }
    for column in CTF_COLUMNS:
        if column not in rows:
            continue
        values = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=np.float64, copy=True)
        is_number = np.isfinite(values)
        values[~is_number] = np.nan
        made[column] = values
        if not (is_number | rows[column].isna().to_numpy()).all():
            texts[column] = rows[column].mask(is_number).tolist()
    names = [
        None if name == exposure_id else name for name, exposure_id in zip(rows["name"], of, strict=True)
    ]
    texts["name"] = names
    return pd.DataFrame(made).assign(line=rows["line"].astype("Int64"), fields=_fields(texts, len(rows)))


def _fields(texts: dict[str, list[object]], n_rows: int) -> list[str]:
    """The JSON object of each row, in the order of the names: the same row gives the same text."""
    filled = {
        column: values
        for column, values in sorted(texts.items())
        if any(value is not None for value in values)
    }
    if not filled:
        return ["{}"] * n_rows
    rows = []
    for values in zip(*filled.values(), strict=True):
        row = {
            column: value if isinstance(value, str) else repr(value)
            for column, value in zip(filled, values, strict=True)
            if not _is_missing(value)
        }
        rows.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
    return rows


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _not_known(found: Sequence[pd.DataFrame], known: pd.DataFrame) -> pd.DataFrame:
    """The runs that are found for the first time, in the order they were found."""
    filled = [frame for frame in found if len(frame)]
    if not filled:
        return pd.DataFrame(columns=["exposure_id"])
    rows = pd.concat(filled, ignore_index=True)
    rows = rows.reindex(columns=[*rows.columns, *(each for each in CTF_COLUMNS if each not in rows)])
    key = ["exposure_id", "source", "reader"]
    of_same = known[known["exposure_id"].isin(rows["exposure_id"])]
    # What a file says of an exposure for the first time is new; only the rest need be compared, value by value.
    again = pd.concat([of_same[key], rows[key]]).duplicated(keep=False).to_numpy()
    of_same, again = of_same[again[: len(of_same)]], again[len(of_same) :]
    seen = set(_identities(of_same))
    is_new = np.ones(len(rows), dtype=bool)
    for row, identity in zip(np.flatnonzero(again), _identities(rows[again]), strict=True):
        is_new[row] = identity not in seen
        seen.add(identity)
    return rows[is_new].reset_index(drop=True)


def _identities(runs: pd.DataFrame) -> list[tuple[str, ...]]:
    """What tells runs of an exposure apart: where a result comes from and everything it says, but for its line."""
    # A database gives 0 back for -0; adding 0 makes them the same bytes.
    numbers = runs[list(_NUMBERS)].to_numpy(dtype=np.float64) + 0.0
    texts = (runs[column] for column in ("exposure_id", "source", "reader", "fields"))
    return list(zip(*texts, (row.tobytes().hex() for row in numbers), strict=True))


def _changed_results(new: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    """A note for each file whose results are others than those that a file of its name had before."""
    if known.empty:
        return []
    before = known.drop_duplicates(["exposure_id", "source", "reader"], keep="last")
    key = ["exposure_id", "source", "reader"]
    both = new[new[_IS_CHOICE]].merge(
        before[[*key, "ctf_max_res_angstrom"]], on=key, suffixes=("", "_before")
    )
    notes = []
    for source, rows in both.groupby("source", sort=False):
        first = rows.iloc[0]
        notes.append(
            f"{source}: {rows['exposure_id'].nunique()} exposures {ANOTHER_RESULT}, such as "
            f"{first['exposure_id']} ({_in_words(first['ctf_max_res_angstrom_before'])} before, now "
            f"{_in_words(first['ctf_max_res_angstrom'])}); it is kept as a further run"
        )
    return notes


def _in_words(ctf_max_res_angstrom: float) -> str:
    failed = bool(has_failed(np.array([ctf_max_res_angstrom]))[0])
    return "a failed fit" if failed else f"{ctf_max_res_angstrom:g} angstrom"


def _choose(result: Results, new: pd.DataFrame, place: NDArray[np.int64]) -> None:
    """Take the best run of each exposure that has new ones; a result without a run becomes one.

    new : runs without number, `is_choice`     place : (new,) row of each run's exposure
    """
    rows, known = result.exposures, result.runs
    outcome = rows["outcome"].to_numpy(dtype=object, copy=True)
    ctf = rows["ctf_max_res_angstrom"].to_numpy(copy=True)
    has_result = np.isin(outcome, ("measured", "failed"))
    current = np.where(outcome == "failed", np.inf, ctf)
    has_run = rows["exposure_id"].isin(known.loc[known["taken"], "exposure_id"]).to_numpy()
    value = new["ctf_max_res_angstrom"].to_numpy(dtype=np.float64)
    value = np.where(has_failed(value), np.inf, value)
    best = np.full(len(rows), np.nan)
    is_choice = new[_IS_CHOICE].to_numpy(dtype=bool)
    np.fmin.at(best, place[is_choice], value[is_choice])
    same = np.zeros(len(rows), dtype=bool)
    same[place[is_choice & (value == current[place])]] = True
    # A result that was stored without its run is the run that is found now, or else becomes one of its own.
    earlier = np.flatnonzero(has_result & ~has_run & ~same & np.isin(np.arange(len(rows)), place))
    takes = (outcome == "pending") & ~np.isnan(best)
    takes |= has_result & ((best < current) | (~has_run & same & (best == current)))
    first = np.full(len(rows), -1)
    is_best = np.flatnonzero(is_choice & (value == best[place]) & takes[place])
    first[place[is_best[::-1]]] = is_best[::-1]
    taken = np.zeros(len(new), dtype=bool)
    taken[first[first >= 0]] = True
    outcome[takes] = np.where(np.isinf(best[takes]), "failed", "measured")
    ctf[takes] = np.where(np.isinf(best[takes]), np.nan, best[takes])
    stored_result = pd.DataFrame(
        {
            "exposure_id": rows["exposure_id"].to_numpy()[earlier],
            "source": "",
            "reader": "",
            "ctf_max_res_angstrom": rows["ctf_max_res_angstrom"].to_numpy()[earlier],
            "fields": "{}",
            "taken": ~takes[earlier],
        }
    )
    parts = [part for part in (stored_result, new.drop(columns=_IS_CHOICE).assign(taken=taken)) if len(part)]
    added = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    replaced = known["exposure_id"].isin(rows["exposure_id"].to_numpy()[takes])
    result.exposures = rows.assign(outcome=outcome, ctf_max_res_angstrom=ctf)
    result.runs = _numbered(known.assign(taken=known["taken"] & ~replaced), added)


def _numbered(known: pd.DataFrame, added: pd.DataFrame) -> pd.DataFrame:
    """The known runs and, below them, those that are added, numbered on for each exposure."""
    last = known.groupby("exposure_id")["run"].max()
    so_far = added["exposure_id"].map(last).fillna(0).astype("int64")
    added = added.assign(run=so_far + added.groupby("exposure_id").cumcount() + 1)
    added = added.reindex(columns=list(TABLES["ctf_runs"]))
    return pd.concat([known, added], ignore_index=True) if len(known) else added
