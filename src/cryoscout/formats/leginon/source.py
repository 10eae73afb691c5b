"""Leginon's tables as one source among others: what `leginon` reads into a session, said as SourceRecords.

A CTF download of the web page (see `exports`) in a folder of tables is a source of its own beside them.

A session of Leginon tables alone is read by `leginon` itself, with predictions and hole images; this is for what they
share with other formats: recognising, validating, joining with results of other programs, and later imports.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.telling import Step, no_step, one_step
from cryoscout.formats.leginon import exports
from cryoscout.formats.leginon import tables as leginon_tables
from cryoscout.formats.leginon.names import parse_name, with_presets
from cryoscout.formats.leginon.session import EXPOSURE_PRESETS, LeginonImport, is_exposure, read_session
from cryoscout.formats.leginon.tables import LONGEST_NAME, NO_CTF, LeginonTable
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.text.findings import Deviation

FORMAT = "leginon"


def detect(path: Path) -> bool:
    """Whether a file is one of Leginon's tables, or a folder has one directly in it."""
    return any(_kind(file) is not None for file in _files(path))


def kind_of(path: Path) -> str | None:
    """The kind of table, None for a folder."""
    return None if path.is_dir() else _kind(path)


def downloads_in(folder: Path) -> list[Path]:
    """The CTF downloads directly in a folder; their names end in .dat (`downloadctfdata.php`), but may be changed."""
    return [file for file in _files(folder) if _kind(file) is None and _is_download(file)]


def read_source(path: Path, permissive: bool = False) -> SourceRecords:
    """Read a folder of tables, or a CTF table alone. Raises as `leginon.read_session` does."""
    return records_of(path, read_session([path], permissive=permissive))


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a table, by line; of a folder of tables and downloads, with the file's name as `element`."""
    if not path.is_dir():
        return leginon_tables.validate_file(path, step=step)
    check_of = dict.fromkeys(downloads_in(path), exports.validate)
    check_of |= {file: leginon_tables.validate_file for file in _files(path) if _kind(file) is not None}
    found: list[Deviation] = []
    for file, check in sorted(check_of.items()):
        with one_step(lambda share=1.0: step(share / len(check_of))) as part:
            deviations = check(file, step=part)
        found += [Deviation(each.line, each.message, file.name) for each in deviations]
    return found


def records_of(path: Path, found: LeginonImport) -> SourceRecords:
    """The session of Leginon tables as records; its predictions and hole images are not among them."""
    session = found.session
    holes = session.holes.merge(session.patches, on="patch_id").merge(
        session.squares[["square_id", "grid_id"]], on="square_id"
    )
    exposures = session.exposures.merge(holes[["hole_id", "square_id", "grid_id"]], on="hole_id")
    has_result = exposures["outcome"].isin(("measured", "failed"))
    results = exposures[has_result]
    return SourceRecords(
        format=FORMAT,
        path=path,
        squares=session.squares,
        holes=holes.drop(columns="image_row").assign(chosen=pd.array([pd.NA] * len(holes), dtype="boolean")),
        exposures=exposures[
            ["exposure_id", "hole_id", "square_id", "grid_id", "started_at", "stage_x_um", "stage_y_um"]
        ].assign(shot_key=exposures["shot"].astype(str), shift_x_um=np.nan, shift_y_um=np.nan),
        ctf=pd.DataFrame(
            {
                "name": results["exposure_id"],
                "ctf_max_res_angstrom": results["ctf_max_res_angstrom"].fillna(np.inf),
                "line": pd.array([pd.NA] * len(results), dtype="Int64"),
                "confidence": results["exposure_id"].map(found.confidence).astype(float),
            }
        ),
        session_name=session.name,
        deviations=tuple(
            Deviation(each.line, each.message, file.name)
            for file, deviations in found.deviations.items()
            for each in deviations
        ),
        notes=(*(str(report) for report in found.reports), *found.notes),
        shots=session.info.shots if session.info.shots > 1 else None,
    )


def named_images(download: SourceRecords, presets: Sequence[str] = EXPOSURE_PRESETS) -> LeginonTable | None:
    """The exposures that a CTF download names, without results: their names hold grid, square and patch.

    Those whose results are pending are among them. None where no name of it is that of a Leginon exposure below a
    square and a patch.
    """
    rows = []
    images = [
        each
        for table in (download.ctf, download.without_result)
        for each in zip(table["name"].tolist(), table["line"].tolist(), strict=True)
    ]
    for name, line in images:
        try:
            parsed = parse_name(name) if len(name) <= LONGEST_NAME else None
        except InputError:
            continue
        if parsed is not None and is_exposure(with_presets(parsed, presets), presets):
            rows.append((name, np.nan, np.nan, NO_CTF, np.nan, line, parsed))
    if not rows:
        return None
    columns = ["name", "x_px", "y_px", "ctf_max_res_angstrom", "confidence", "line", "parsed"]
    return LeginonTable("ctf", download.path, pd.DataFrame(rows, columns=columns), ())


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    try:
        return sorted(file for file in path.iterdir() if file.is_file())
    except OSError:
        return []


def _is_download(path: Path) -> bool:
    try:
        return exports.is_download(path)
    except FileFormatError:
        return False


def _kind(path: Path) -> str | None:
    try:
        return leginon_tables.detect(path)
    except FileFormatError:
        return None
