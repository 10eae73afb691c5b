"""What Leginon and Appion export as tab-separated text: the CTF download of the web pages, and the per-target tables.

CTF download (`ctfdata-session*.dat`), one row per image and CTF run, 15 columns (fewer in older versions, known by
their header):

    column                   unit                            becomes
    image #                  id in the database              image_id
    nominal_def              m                               nominal_defocus_um
    defocus_1, defocus_2     m, sign as written              defocus_1_um, defocus_2_um
    angle_astig              degrees                         astigmatism_angle_deg
    amp_cont                                                 amplitude_contrast
    extra_phase_shift        radians                         phase_shift_deg
    res(0.8), res(0.5)       angstrom, 80 and 50 per cent    resolution_80_angstrom, resolution_50_angstrom
    res(pkg)                 angstrom, of the package        resolution_package_angstrom
    conf(...), conf          0..1                            as written
    image_name                                               name

The CTF resolution is min(res(0.5), res(pkg)), as Leginon's own learning loop has it; 100, 101, 100000 and inf are
failed fits. The web page writes what the database does not have as 0.00, so 0 means "not given", and an image whose
rows give no resolution was taken, but has no result yet (`SourceRecords.without_result`). Of several runs of an
image the one with the best res(0.8) counts; the others are kept as further runs.

Per-target tables (`dbschema/info_tools`): the first column is ChildImageId, the second TargetId_TargetNumber (id of the
parent image, number of the target on it), the others say which table it is:

    Ctf_Resolution_Ang, Mean_Defocus_um    angstrom (the same minimum), um; empty without a result
    YCoord, XCoord, TimeStamp              px of the parent image from its corner, time of the child image

Ids there are those of the database, not names. Blank lines between rows are the exporter's.
Sources, in leginon-org/leginon: `myamiweb/processing/downloadctfdata.php`, `dbschema/info_tools/export_ctf.py` and
`export_targets.py`.
Doubt: Appion's documentation says that negative defocus is underfocus, its RELION export that positive is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.counting import counted
from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats.ctf.names import exposure_name
from cryoscout.formats.ctf.records import (
    LARGEST_TABLE_BYTES,
    CtfRows,
    deviations_of,
    head_text,
    parse_number,
    scaled,
    shown,
)
from cryoscout.formats.limits import image_px
from cryoscout.formats.own.times import OneClock
from cryoscout.formats.records import EXPOSURE_COLUMNS, HOLE_COLUMNS, SourceRecords
from cryoscout.formats.text.findings import Deviation, Findings, check_width, lines_of, read_lines

IMAGE_NAME = "image_name"
RESOLUTION_80, RESOLUTION_50, RESOLUTION_PACKAGE = "res(0.8)", "res(0.5)", "res(pkg)"
CHILD, TARGET = "ChildImageId", "TargetId_TargetNumber"
TARGET_RESOLUTION = "Ctf_Resolution_Ang"
FIELDS: dict[str, tuple[str, float]] = {
    "nominal_def": ("nominal_defocus_um", 1e6),
    "defocus_1": ("defocus_1_um", 1e6),
    "defocus_2": ("defocus_2_um", 1e6),
    "angle_astig": ("astigmatism_angle_deg", 1.0),
    "amp_cont": ("amplitude_contrast", 1.0),
    "extra_phase_shift": ("phase_shift_deg", 180.0 / math.pi),
    "Mean_Defocus_um": ("mean_defocus_um", 1.0),
}
_RESOLUTIONS = {
    RESOLUTION_80: "resolution_80_angstrom",
    RESOLUTION_50: "resolution_50_angstrom",
    RESOLUTION_PACKAGE: "resolution_package_angstrom",
}


@dataclass
class ExportTable:
    """A table as it is: its header, and the rows that have as many columns."""

    header: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)
    row_lines: list[int] = field(default_factory=list)

    @property
    def is_of_targets(self) -> bool:
        """Whether it is a per-target table, and not the CTF download."""
        return self.header[0] == CHILD


def detect(path: Path) -> bool:
    """Whether a file begins with the header of one of the two exports."""
    lines = lines_of(head_text(path, 4096))[0]
    return bool(lines) and _is_header(_words(lines[0]))


def is_download(path: Path) -> bool:
    """Whether a file begins with the header of a CTF download that has a resolution."""
    lines = lines_of(head_text(path, 4096))[0]
    header = _words(lines[0]) if lines else []
    return (
        _is_header(header) and header[0] != CHILD and bool({RESOLUTION_50, RESOLUTION_PACKAGE} & set(header))
    )


def _words(line: str) -> list[str]:
    return [word.strip() for word in line.split("\t")]


def _is_header(header: list[str]) -> bool:
    is_download = IMAGE_NAME in header and "defocus_1" in header and "defocus_2" in header
    return is_download or header[:2] == [CHILD, TARGET]


def read_source(path: Path, permissive: bool = False, *, step: Step = no_step) -> SourceRecords:
    """Read one export.

    permissive : leave deviating rows out and list them, instead of raising at the first
    Raises FileFormatError (file, line) at the first deviation, and always for another header or one without a
    resolution or a position.
    """
    return _read(path, Findings(path, permissive, step=step))


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a file, by line; an empty list for a clean one."""
    return deviations_of(path, _read, step)


def _read(path: Path, findings: Findings) -> SourceRecords:
    table = read_table(path, findings)
    read = _of_targets if table.is_of_targets else _of_download
    records = read(path, table, findings)
    return replace(records, notes=(*records.notes, *findings.notes_on_text()))


def read_table(path: Path, findings: Findings) -> ExportTable:
    """The rows of an export as text, by column; lines of another length are reported and left out."""
    lines, is_complete = read_lines(findings, LARGEST_TABLE_BYTES)
    header = _words(lines[0]) if lines else []
    check_width(path, 1, len(header))
    if not _is_header(header) or len(set(header)) != len(header):
        raise FileFormatError(
            path,
            1,
            f"an export must begin with 'image #', ..., {IMAGE_NAME} or with {CHILD}, {TARGET}. "
            f"Got {shown(' '.join(header))} instead.",
        )
    table = ExportTable(header)
    for number, line in enumerate(findings.told(lines[1:], 0.3), start=2):
        if not line.strip():
            continue
        words = _words(line)
        if number == len(lines) and not is_complete:
            findings.deviates(
                f"the last line must end with a line break. Got {shown(line)} without one instead. "
                "Remedy: the file was cut; export it again.",
                number,
            )
        elif len(words) != len(header):
            findings.deviates(
                f"a row must have {len(header)} columns, as the header. Got {len(words)} instead.", number
            )
        else:
            table.rows.append(dict(zip(header, words, strict=True)))
            table.row_lines.append(number)
    return table


@dataclass(frozen=True)
class _Run:
    """One CTF run of an image, its resolutions in angstrom, inf where not given."""

    line: int
    resolutions: dict[str, float]
    further: dict[str, float | str | None]

    @property
    def angstrom(self) -> float:
        return min(
            self.resolutions.get(RESOLUTION_50, math.inf), self.resolutions.get(RESOLUTION_PACKAGE, math.inf)
        )


_CTF_COLUMNS = [*_RESOLUTIONS.values(), *(column for column, _ in FIELDS.values())]


def _of_download(path: Path, table: ExportTable, findings: Findings) -> SourceRecords:
    if RESOLUTION_50 not in table.header and RESOLUTION_PACKAGE not in table.header:
        raise FileFormatError(
            path,
            1,
            f"a CTF download must have {RESOLUTION_50} or {RESOLUTION_PACKAGE}. "
            f"Got {shown(' '.join(table.header))} instead: an export of an old version. "
            "Remedy: download it from a newer one.",
        )
    runs: dict[str, list[_Run]] = {}
    pending: dict[str, int] = {}
    without = 0
    for place, row in enumerate(findings.told(table.rows, 0.4)):
        line = table.row_lines[place]
        run = _run(findings, line, row)
        if run is None:
            continue
        if not run.resolutions.keys() & {RESOLUTION_50, RESOLUTION_PACKAGE}:
            without += 1
            pending.setdefault(exposure_name(row[IMAGE_NAME]), line)
            continue
        runs.setdefault(exposure_name(row[IMAGE_NAME]), []).append(run)
    rows = CtfRows()
    further: list[CtfRows] = []  # an image stands once in each
    for name, of_image in runs.items():
        # A failed package fit must not outrank one that only lacks the 80 per cent value, so the minimum decides ties.
        best = min(of_image, key=lambda run: (run.resolutions.get(RESOLUTION_80, math.inf), run.angstrom))
        rows.add(findings, name, repr(best.angstrom), best.further, line=best.line)
        for number, run in enumerate(run for run in of_image if run is not best):
            if number == len(further):
                further.append(CtfRows())
            further[number].add(findings, name, repr(run.angstrom), run.further, line=run.line)
    notes = rows.notes()
    if further:
        several = sum(len(of_image) > 1 for of_image in runs.values())
        notes.append(
            f"{counted(several, 'exposures', 'have')} several CTF runs; the best by {RESOLUTION_80} was taken"
        )
    open_images = [(name, line) for name, line in pending.items() if name not in runs]
    if without:
        notes.append(
            f"{counted(without, 'rows', 'give')} no resolution (0.00); {counted(len(open_images), 'images', 'have')} "
            "no result yet"
        )
    return SourceRecords(
        format="leginon-export",
        path=path,
        ctf=rows.frame(_CTF_COLUMNS),
        without_result=pd.DataFrame(open_images, columns=["name", "line"]),
        further_ctf=pd.concat(
            [each.frame(_CTF_COLUMNS) for each in further or [CtfRows()]], ignore_index=True
        ),
        deviations=tuple(findings.deviations),
        notes=tuple(notes),
    )


def _run(findings: Findings, line: int, row: dict[str, str]) -> _Run | None:
    if not exposure_name(row[IMAGE_NAME]):
        findings.deviates("a row must have an image name. Got none instead.", line)
        return None
    resolutions: dict[str, float] = {}
    for label in _RESOLUTIONS.keys() & row.keys():
        value = parse_number(row[label])
        if value is None or not value >= 0:
            findings.deviates(
                f"{label} must be a number of angstrom, 0 or more. Got {shown(row[label])} instead.", line
            )
            return None
        if value > 0:
            resolutions[label] = value
    others = {label: text for label, text in row.items() if label != IMAGE_NAME and label not in _RESOLUTIONS}
    image_id = others.pop("image #", None)
    further = scaled(findings, others, FIELDS, line)
    if further is None:
        return None
    if image_id is not None:
        further["image_id"] = image_id
    further |= {column: resolutions.get(label) for label, column in _RESOLUTIONS.items() if label in row}
    return _Run(line, resolutions, further)


def _of_targets(path: Path, table: ExportTable, findings: Findings) -> SourceRecords:
    has_ctf = TARGET_RESOLUTION in table.header
    has_position = {"XCoord", "YCoord"} <= set(table.header)
    if not has_ctf and not has_position:
        raise FileFormatError(
            path,
            1,
            f"a per-target table must have {TARGET_RESOLUTION}, or XCoord and YCoord. "
            f"Got {shown(' '.join(table.header[2:]))} instead. Remedy: give ctf.txt or targets.txt.",
        )
    rows = CtfRows()
    exposures: dict[str, tuple[object, ...]] = {}
    holes: dict[str, tuple[object, ...]] = {}
    without = 0
    first: dict[str, int] = {}
    clock = OneClock()
    for place, row in enumerate(findings.told(table.rows, 0.6)):
        line = table.row_lines[place]
        child, target = row[CHILD], row[TARGET]
        if not _ids_are_right(findings, line, row, first):
            continue
        placed = _placed(row, findings, line, clock) if has_position else (np.nan, np.nan, None)
        if placed is None:
            continue
        x_px, y_px, started_at = placed
        if has_ctf and row[TARGET_RESOLUTION]:
            further = scaled(
                findings,
                {label: row[label] for label in FIELDS.keys() & row.keys() if row[label]},
                FIELDS,
                line,
            )
            if further is None or not rows.add(findings, child, row[TARGET_RESOLUTION], further, line=line):
                continue
        else:
            without += has_ctf
        first[child] = line
        parent = target.rsplit("_", 1)[0]
        holes.setdefault(target, (target, parent, "", "", np.nan, np.nan, x_px, y_px, pd.NA))
        exposures[child] = (child, target, "", "", "1", started_at, *(np.nan,) * 4)
    notes = [
        *rows.notes(),
        *clock.notes(),
        "names are ids of the database: they join to other exports, not to image names",
    ]
    if without:
        notes.append(f"{without} of {len(exposures)} child images have no CTF result")
    frame = pd.DataFrame(list(exposures.values()), columns=list(EXPOSURE_COLUMNS))
    return SourceRecords(
        format="leginon-export",
        path=path,
        holes=pd.DataFrame(list(holes.values()), columns=list(HOLE_COLUMNS)),
        exposures=frame.assign(started_at=frame["started_at"].astype("datetime64[ns]")),
        ctf=rows.frame(),
        extra={row[CHILD]: row for row in table.rows if row[CHILD] in exposures},
        deviations=tuple(findings.deviations),
        notes=tuple(notes),
    )


def _ids_are_right(findings: Findings, line: int, row: dict[str, str], first: dict[str, int]) -> bool:
    """Whether a row has its two ids and its image is new; what is wrong is reported."""
    child, target = row[CHILD], row[TARGET]
    if not child.isdigit() or "_" not in target:
        findings.deviates(f"a row must begin with two ids. Got {shown(child + ' ' + target)} instead.", line)
        return False
    if child in first:
        findings.deviates(
            f"a child image must stand once. Got {shown(child)} again instead (first on line {first[child]}).",
            line,
        )
        return False
    return True


def _placed(
    row: dict[str, str], findings: Findings, line: int, clock: OneClock
) -> tuple[float, float, datetime | None] | None:
    """Column and row on the parent image (px) and the time of the child, or None after reporting what is wrong."""
    x_px, y_px = parse_number(row["XCoord"]), parse_number(row["YCoord"])
    if x_px is None or y_px is None or not (math.isfinite(x_px) and math.isfinite(y_px)):
        findings.deviates(
            f"XCoord and YCoord must be finite numbers. Got {shown(row['XCoord'] + ' ' + row['YCoord'])} instead.",
            line,
        )
        return None
    x_px, y_px = image_px(x_px, "XCoord", findings, line), image_px(y_px, "YCoord", findings, line)
    if "TimeStamp" not in row:
        return x_px, y_px, None
    started_at = clock.of(row["TimeStamp"])
    if isinstance(started_at, str):
        findings.deviates(started_at, line)
        return None
    return x_px, y_px, started_at
