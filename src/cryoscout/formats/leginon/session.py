"""A Leginon session from its text tables: CTF results define the exposures, times and predictions join by
name.

An exposure is an image with an exposure preset (default `en`) three or more levels deep; patch, square and
grid are its parents (see `leginon_names`). Of several presets each is a shot of the hole: Leginon images one target
with one preset after the other, under one number. The CTF stands on the aligned image (`-a`), the start time is that
of the raw one. The times of patch and square images are when these were looked at.
Images of other presets are counted by preset, and so are results that another image of a shot stands
for.
Source: the files of session 21mar02c released with CryoRL, https://github.com/IBM/CryoRL-pytorch; there, too, the
aligned image has the result and the raw one -1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import DataError, FileFormatError
from cryoscout.core.telling import Progress, no_progress, one_step
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.formats.leginon.crops import read_crops
from cryoscout.formats.leginon.names import LeginonLevel, LeginonName, parse_name, with_presets
from cryoscout.formats.leginon.tables import (
    NO_CTF,
    LeginonTable,
    TableKind,
    detect,
    read_table,
    validate_file,
)
from cryoscout.formats.text.findings import Deviation
from cryoscout.session.joins import NAMES_SHOWN, JoinReport, join_by_name
from cryoscout.session.looks import LOOK_AT, LOOK_LEVEL
from cryoscout.session.model import Session, SessionInfo, outcome_of_ctf, session_from_holes
from cryoscout.session.tables import empty_table
from cryoscout.session.vendor_fields import packed

__all__ = [
    "Deviation",
    "LeginonImport",
    "LeginonName",
    "LeginonTable",
    "detect",
    "is_exposure",
    "parse_name",
    "read_session",
    "read_table",
    "validate_file",
]

EXPOSURE_PRESETS = ("en",)
CTF_TOLERANCE_ANGSTROM = 0.01
"""Two tables may give the same result rounded differently; more than this is a contradiction."""

MIN_JOINED_TO_FIT_TIMES = 0.9
"""Share of the timed exposures that the session must hold for `fitted` to be its default time model."""

_READER = "leginon"
_PROVIDES: dict[TableKind, tuple[tuple[str, str], ...]] = {
    "ctf": (("holes", "x_px, y_px"), ("exposures", "ctf_max_res_angstrom")),
    "timestamps": (("exposures", "started_at"),),
    "softmax": (("predictions", "p_good"),),
    "predicted-ctf": (("predictions", "ctf_predicted_angstrom"),),
}
"""Kind of table -> the session's tables and fields it fills."""
_RESULT_ORDER = {"-a": 0, "-a-DW": 1, "-DW": 2, "": 3}
"""Which image's CTF stands for the exposure: alignment helps the fit, dose weighting does not."""


@dataclass(frozen=True)
class LeginonImport:
    """What `read_session` found."""

    session: Session
    reports: list[JoinReport]
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Patch id -> (m, height, width) uint8; rows are `holes.image_row`."""
    confidence: dict[str, float] = field(default_factory=dict)
    """Exposure id -> the confidence of its CTF fit, as written."""
    deviations: dict[Path, tuple[Deviation, ...]] = field(default_factory=dict)
    """Lines left out of each file; empty unless read with `permissive`."""
    notes: tuple[str, ...] = ()
    """Rows that were read and are no exposures, or that another row stands for."""


def read_session(
    paths: Iterable[Path],
    images: Path | None = None,
    permissive: bool = False,
    *,
    model_id: str | None = None,
    name: str | None = None,
    exposure_presets: Sequence[str] = EXPOSURE_PRESETS,
    threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM,
    named: LeginonTable | None = None,
    progress: Progress = no_progress,
) -> LeginonImport:
    """Read a session from its tables.

    paths : tables, or folders whose recognised tables are taken; at least one CTF table, unless `named` is given
    named : images that another source names, of the kind ctf, taken where no CTF table is among the paths
    images : folder of hole images *_crop.png     permissive : leave deviating lines out and list them
    model_id : of the predictions, the file's name without extension when None
    name : of the session, as in the image names when None
    exposure_presets : presets that mean an exposure, in the order in which a target is imaged with them; each is a shot
    threshold_angstrom : that p_good was made for
    Raises FileFormatError at the first deviation (unless permissive), DataError when there is no CTF table
    or no exposure in it, two tables contradict each other, or a hole is predicted twice under one model id.
    """
    files = _table_paths(paths)
    tables = []
    with progress("reading Leginon tables", len(files)) as step:
        for path in files:
            with one_step(step) as part:
                tables.append(_by_presets(read_table(path, permissive, step=part), exposure_presets))
    by_kind = {kind: [table for table in tables if table.kind == kind] for kind in _PROVIDES}
    if named is not None and not by_kind["ctf"]:
        by_kind["ctf"] = [_by_presets(named, exposure_presets)]
    exposures, superseded, notes = _exposure_rows(by_kind["ctf"], exposure_presets)
    reports = [superseded] if superseded is not None else []
    started_at, time_reports = _start_times(by_kind["timestamps"], exposures, exposure_presets)
    notes += _times_of_others(by_kind["timestamps"], exposure_presets)
    notes += tuple(note for table in tables for note in table.notes)
    first_shots = exposures[exposures["shot"] == 1].reset_index(drop=True)
    predictions, prediction_reports = _predictions(
        by_kind["softmax"] + by_kind["predicted-ctf"], first_shots, model_id, threshold_angstrom
    )
    crops: dict[str, NDArray[np.uint8]] = {}
    holes = first_shots[["hole_id", "patch_id", "square_id", "grid_id", "x_px", "y_px"]]
    if images is not None:
        crops, image_row, crop_report = read_crops(images, holes)
        holes = holes.assign(image_row=image_row)
        prediction_reports.append(crop_report)
    session = session_from_holes(
        name or exposures["parsed"].iloc[0].session,
        _info(_times_can_be_fitted(time_reports), threshold_angstrom, int(exposures["shot"].max())),
        holes,
        _exposures(exposures, started_at),
        {"predictions": predictions, "provenance": _provenance(tables, images)},
    )
    deviations = {table.path: table.deviations for table in tables if table.deviations}
    return LeginonImport(
        _with_looks(session, by_kind["timestamps"]),
        reports + time_reports + prediction_reports,
        crops,
        dict(zip(exposures["name"], exposures["confidence"].astype(float), strict=True)),
        deviations,
        notes,
    )


def _by_presets(table: LeginonTable, presets: Sequence[str]) -> LeginonTable:
    """The table with its names read by the presets."""
    if not any("-" in preset for preset in presets):
        return table
    parsed = table.rows["parsed"].map(lambda name: with_presets(name, presets))
    return replace(table, rows=table.rows.assign(parsed=parsed))


def _table_paths(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.is_file() and detect(file) is not None)
            if not inside:
                raise FileFormatError(
                    path, None, "must hold Leginon tables. Got a folder without any instead."
                )
            found += inside
        else:
            found.append(path)
    return found


def _times_can_be_fitted(reports: Sequence[JoinReport]) -> bool:
    """Whether the time between two exposures of the session is a step of the microscope.

    Where the times know many exposures that no CTF table names (a part of a session), more lay between.
    """
    found = sum(report.found for report in reports)
    joined = sum(report.joined for report in reports)
    return joined > 0 and joined >= MIN_JOINED_TO_FIT_TIMES * found


def _info(can_fit_times: bool, threshold_angstrom: float, shots: int) -> SessionInfo:
    return SessionInfo(
        format="leginon",
        shots=shots,
        default_time_model="fitted" if can_fit_times else "cryorl",
        threshold_angstrom=threshold_angstrom,
    )


def is_exposure(parsed: LeginonName, presets: Sequence[str] = EXPOSURE_PRESETS) -> bool:
    """Whether an image is an exposure: of one of the presets, and below a square and a patch."""
    return parsed.own.preset in presets and parsed.square is not None


def _exposure_rows(
    tables: Sequence[LeginonTable], presets: Sequence[str]
) -> tuple[pd.DataFrame, JoinReport | None, tuple[str, ...]]:
    """One row per shot: ids, position, CTF and the image that has it; what newer versions superseded; notes."""
    if not tables:
        raise DataError(
            "A session must have a CTF table (name,dx,dy,ctf,confidence) or a CTF download. Got none instead. "
            "Remedy: add it to the files to import."
        )
    rows = _without_repeats(tables)
    taken = np.array([is_exposure(parsed, presets) for parsed in rows["parsed"]], dtype=bool)
    others = Counter(_preset_as_written(parsed.own) for parsed in rows["parsed"][~taken])
    rows = rows[taken]
    if rows.empty:
        raise DataError(
            f"A CTF table must name exposures (presets {', '.join(presets)}, below a square and a patch). "
            f"Got none in {', '.join(str(table.path) for table in tables)} instead, but {_counts(others)}. "
            "Remedy: name the site's exposure presets, such as --presets en,ex."
        )
    parsed = rows["parsed"]
    rows = rows.assign(
        hole_id=_hole_ids(parsed, presets),
        preset=[presets.index(name.own.preset) for name in parsed],
        patch_id=[name.patch for name in parsed],
        square_id=[name.square for name in parsed],
        grid_id=[name.grid for name in parsed],
        version=[-1 if name.own.version is None else name.own.version for name in parsed],
        no_ctf=rows["ctf_max_res_angstrom"] == NO_CTF,
        rank=[_RESULT_ORDER.get(name.own.suffix, len(_RESULT_ORDER)) for name in parsed],
    )
    shot = ["hole_id", "preset"]
    newest = rows.groupby(shot)["version"].transform("max") == rows["version"]
    superseded = _superseded(rows[~newest])
    rows = rows[newest].sort_values([*shot, "no_ctf", "rank"], kind="stable")
    is_further = rows.duplicated(shot)
    notes = []
    if others:
        notes.append(
            f"{counted(others.total(), 'images')} of other presets {agreed(others.total(), 'are')} no exposures: "
            f"{_counts(others)}; --presets says which are"
        )
    further = rows[is_further & ~rows["no_ctf"]]
    if len(further):
        notes.append(_note_on_further_images([parsed.own for parsed in further["parsed"]]))
    rows = rows[~is_further].reset_index(drop=True)
    rows["shot"] = rows.groupby("hole_id").cumcount() + 1
    return rows, superseded, tuple(notes)


def _hole_ids(parsed: Iterable[LeginonName], presets: Sequence[str]) -> list[str]:
    """The target of each exposure, under the first of the presets that it was imaged with."""
    names = list(parsed)
    bare = [name.own.target.removesuffix(name.own.preset) for name in names]
    first: dict[str, int] = {}
    for target, name in zip(bare, names, strict=True):
        first[target] = min(presets.index(name.own.preset), first.get(target, len(presets)))
    return [f"{target}{presets[first[target]]}" for target in bare]


def _preset_as_written(level: LeginonLevel) -> str:
    """The preset, with a suffix that may be a part of it."""
    return level.preset if level.suffix in _RESULT_ORDER else f"{level.preset}{level.suffix}"


def _note_on_further_images(levels: Sequence[LeginonLevel]) -> str:
    """Results that another image of the shot stands for, and what may be a preset of its own."""
    suffixes = ", ".join(sorted({level.suffix or "raw" for level in levels}))
    said = f"{counted(len(levels), 'results', 'are')} of further images of a shot ({suffixes}); "
    said += "of the images of a shot an aligned one counts first"
    own = sorted({_preset_as_written(each) for each in levels if each.suffix not in _RESULT_ORDER})
    return f"{said}. If {own[0]} is a preset of its own, name it with --presets" if own else said


def _counts(presets: Counter[str]) -> str:
    return ", ".join(f"{count} {preset}" for preset, count in presets.most_common())


def _without_repeats(tables: Sequence[LeginonTable]) -> pd.DataFrame:
    """Rows of all CTF tables, each image once; two tables must agree on it."""
    rows = pd.concat([table.rows.assign(file=str(table.path)) for table in tables], ignore_index=True)
    ctf = rows["ctf_max_res_angstrom"].replace(np.inf, np.finfo(np.float64).max)
    first_ctf = ctf.groupby(rows["name"]).transform("first")
    differ = np.flatnonzero((ctf - first_ctf).abs().to_numpy() > CTF_TOLERANCE_ANGSTROM)
    if len(differ):
        row = rows.iloc[differ[0]]
        raise DataError(
            f"Two CTF tables must agree on an image. Got {row['ctf_max_res_angstrom']:g} for "
            f"{row['name']!r} in "
            f"{row['file']}, line {row['line']}, and {first_ctf.iloc[differ[0]]:g} in another instead. "
            "Remedy: import one of them."
        )
    return rows.drop_duplicates("name")


def _superseded(rows: pd.DataFrame) -> JoinReport | None:
    if rows.empty:
        return None
    names = tuple(rows["name"].head(NAMES_SHOWN))
    return JoinReport("earlier versions of exposures", len(rows), 0, names, "the hole was imaged again")


def _start_times(
    tables: Sequence[LeginonTable], exposures: pd.DataFrame, presets: Sequence[str]
) -> tuple[pd.Series[pd.Timestamp], list[JoinReport]]:
    """Time of the raw image of each exposure, of its own image where the raw one has none."""
    reports = []
    times: dict[str, pd.Timestamp] = {}
    stems = [name.stem for name in exposures["parsed"]]
    for table in tables:
        rows = table.rows[[is_exposure(parsed, presets) for parsed in table.rows["parsed"]]]
        own_stems = [parsed.stem for parsed in rows["parsed"]]
        what = f"times of exposures in {table.path.name}"
        reports.append(join_by_name(own_stems, stems, what, "no CTF table names the exposure")[1])
        times.update(zip(table.rows["name"], table.rows["at"], strict=True))
    own = zip(stems, exposures["name"], strict=True)
    found = [times.get(stem, times.get(name, pd.NaT)) for stem, name in own]
    return pd.Series(found, dtype="datetime64[ns]"), reports


def _with_looks(session: Session, tables: Sequence[LeginonTable]) -> Session:
    """The session with the times of its patch and square images: these are the looks at them."""
    times: dict[str, pd.Timestamp] = {}
    for table in tables:
        times.update(zip(table.rows["name"], table.rows["at"], strict=True))
    looked = {}
    for name, column in (("squares", "square_id"), ("patches", "patch_id")):
        frame = getattr(session, name)
        at = pd.Series([times.get(each, pd.NaT) for each in frame[column]], dtype="datetime64[ns]")
        looked[name] = frame.assign(
            looked_at=at, looked=pd.array([True if each else pd.NA for each in at.notna()], dtype="boolean")
        )
    return replace(session, **looked, vendor_fields=_looks_elsewhere(session, tables))


def _looks_elsewhere(session: Session, tables: Sequence[LeginonTable]) -> pd.DataFrame:
    """The vendor fields, with the images of patches, squares and grids below which no exposure is.

    They are no places of the session: an image without an exposure is not an empty place. But they took their time, and
    what lies between two looks is only known where all looks are.
    """
    levels = (("patch", session.patches["patch_id"]), ("square", session.squares["square_id"]))
    level_of = {
        name: level for level, names in (*levels, ("grid", session.grids["grid_id"])) for name in names
    }
    preset_of_level: dict[str, str] = {}
    for table in tables:
        for parsed in table.rows["parsed"]:
            if parsed.text in level_of:
                preset_of_level.setdefault(parsed.own.preset, level_of[parsed.text])
    rows = session.vendor_fields
    for table in tables:
        records = {
            name: {LOOK_LEVEL: preset_of_level[parsed.own.preset], LOOK_AT: str(at)}
            for name, parsed, at in zip(
                table.rows["name"], table.rows["parsed"], table.rows["at"], strict=True
            )
            if parsed.own.preset in preset_of_level
            and level_of.get(name) in (None, "grid")
            and not pd.isna(at)
        }
        rows = pd.concat([rows, packed(records, table.path.name, _READER, rows)], ignore_index=True)
    return rows


def _times_of_others(tables: Sequence[LeginonTable], presets: Sequence[str]) -> tuple[str, ...]:
    notes = []
    for table in tables:
        others = Counter(
            _preset_as_written(each.own) for each in table.rows["parsed"] if not is_exposure(each, presets)
        )
        if others:
            notes.append(
                f"{counted(others.total(), 'times', 'are')} of images that are no exposures ({table.path.name}): "
                f"{_counts(others)}"
            )
    return tuple(notes)


def _exposures(rows: pd.DataFrame, started_at: pd.Series[pd.Timestamp]) -> pd.DataFrame:
    known = rows["ctf_max_res_angstrom"].where(~rows["no_ctf"])
    outcomes = [outcome_of_ctf(value) for value in known]
    return pd.DataFrame(
        {
            "exposure_id": rows["name"],
            "hole_id": rows["hole_id"],
            "shot": rows["shot"],
            "started_at": started_at,
            "outcome": [outcome for outcome, _ in outcomes],
            "ctf_max_res_angstrom": [value for _, value in outcomes],
        }
    )


def _predictions(
    tables: Sequence[LeginonTable], exposures: pd.DataFrame, model_id: str | None, threshold_angstrom: float
) -> tuple[pd.DataFrame, list[JoinReport]]:
    """Prediction rows joined by hole."""
    reports, parts = [], [empty_table("predictions")]
    for table in tables:
        targets = [parsed.own.target for parsed in table.rows["parsed"]]
        place, report = join_by_name(
            targets,
            exposures["hole_id"].tolist(),
            f"predictions of {table.path.name}",
            "no CTF table names the hole",
        )
        reports.append(report)
        rows = table.rows[place >= 0]
        softmax = table.kind == "softmax"
        parts.append(
            pd.DataFrame(
                {
                    "hole_id": exposures["hole_id"].to_numpy()[place[place >= 0]],
                    "model_id": model_id or table.path.stem,
                    "threshold_angstrom": threshold_angstrom if softmax else np.nan,
                    "p_good": rows["p_good"].to_numpy() if softmax else np.nan,
                    "ctf_predicted_angstrom": np.nan
                    if softmax
                    else rows["ctf_predicted_angstrom"].to_numpy(),
                    "predicted_at": np.datetime64("NaT", "ns"),
                }
            )
        )
    return _once_per_hole(parts), reports


def _once_per_hole(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    if not filled:
        return parts[0]
    rows = pd.concat(filled, ignore_index=True)
    twice = rows[rows.duplicated(["hole_id", "model_id"])]
    if len(twice):
        raise DataError(
            f"A model must predict a hole once per import. Got {twice['hole_id'].iloc[0]!r} again for model "
            f"{twice['model_id'].iloc[0]!r} instead ({len(twice)} such holes). "
            "Remedy: import the files one by one, each with its own --model-id."
        )
    return rows


def _provenance(tables: Sequence[LeginonTable], images: Path | None) -> pd.DataFrame:
    rows = [
        (table, column, file.path.name, _READER) for file in tables for table, column in _PROVIDES[file.kind]
    ]
    if images is not None:
        rows.append(("holes", "image_row", images.name, _READER))
    return pd.DataFrame(rows, columns=["table", "field", "file", "reader"])
