"""RELION's tables of micrographs with CTF results (`micrographs_ctf.star`), and the table of the good ones.

    label                      unit            becomes
    rlnMicrographName          path            name, where there is no movie
    rlnMicrographMovieName     path            name: the file as the microscope wrote it; the other is image_id then
    rlnCtfMaxResolution        angstrom        ctf_max_res_angstrom
    rlnDefocusU, rlnDefocusV   angstrom        defocus_u_um, defocus_v_um
    rlnDefocusAngle            degrees         defocus_angle_deg
    rlnCtfAstigmatism          angstrom        astigmatism_um
    rlnPhaseShift              degrees         phase_shift_deg
    rlnCtfFigureOfMerit                        figure_of_merit
    rlnCtfIceRingDensity                       ice_ring_density

RELION 3.1 and later: blocks `data_optics` and `data_micrographs`; RELION 3.0: one nameless block. RELION writes
min(25, resolution), and 999 for CTFFIND's inf before that, so 25 may hide a failed fit: it stays a value, and a note
says how many there are. A table of particles has one row per particle and is refused.
Specification: relion.readthedocs.io, "Conventions"; labels in RELION's `src/metadata_label.h`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats.ctf import star
from cryoscout.formats.ctf.names import exposure_name, folder_of, name_without_dots
from cryoscout.formats.ctf.records import UM_PER_ANGSTROM, CtfRows, deviations_of, head_text, scaled
from cryoscout.formats.ctf.star import StarTable, read_tables, write_star
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.text.findings import Deviation, Findings
from cryoscout.session.joins import JoinReport, join_by_name

MICROGRAPH = "rlnMicrographName"
MOVIE = "rlnMicrographMovieName"
TABLE_OF_JOB = "micrographs_ctf.star"
"""What a CtfFind job leaves in its folder."""
RESOLUTION = "rlnCtfMaxResolution"
CAP_ANGSTROM = 25.0
"""RELION writes no worse resolution than this, whatever the fit was."""

FIELDS: dict[str, tuple[str, float]] = {
    "rlnDefocusU": ("defocus_u_um", UM_PER_ANGSTROM),
    "rlnDefocusV": ("defocus_v_um", UM_PER_ANGSTROM),
    "rlnDefocusAngle": ("defocus_angle_deg", 1.0),
    "rlnCtfAstigmatism": ("astigmatism_um", UM_PER_ANGSTROM),
    "rlnPhaseShift": ("phase_shift_deg", 1.0),
    "rlnCtfFigureOfMerit": ("figure_of_merit", 1.0),
    "rlnCtfIceRingDensity": ("ice_ring_density", 1.0),
}
_HEAD_BYTES = 512 * 1024
"""The optics groups of an image-shift session may stand before the micrographs."""
_OF_PARTICLES = ("rlnCoordinateX", "rlnImageName")


def detect(path: Path) -> bool:
    """Whether a file is a STAR file with RELION's labels, other than Gctf's, or a folder that of a CtfFind job."""
    if path.is_dir():
        return _table_of(path) != path and detect(_table_of(path))
    if not star.detect(path):
        return False
    head = head_text(path, _HEAD_BYTES)
    return "_rln" in head and ("_rlnFinalResolution" not in head or f"_{RESOLUTION}" in head)


def read_source(path: Path, permissive: bool = False, *, step: Step = no_step) -> SourceRecords:
    """Read the CTF results of a table of micrographs, or of a job's folder that has one.

    permissive : leave deviating rows out and list them, instead of raising at the first
    Raises FileFormatError (file, line) at the first deviation, and always for a file without one table of
    micrographs with a CTF resolution.
    """
    table = _table_of(path)
    records = read_ctf_table(table, Findings(table, permissive, step=step), "relion", RESOLUTION)
    if table == path:
        return records
    return replace(records, notes=(f"the table of the job in {path.resolve().name}", *records.notes))


def _table_of(path: Path) -> Path:
    """The table of a job's folder; the path itself where it is none."""
    table = path / TABLE_OF_JOB
    return table if path.is_dir() and table.is_file() else path


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a file, by line; an empty list for a clean one."""
    return deviations_of(
        _table_of(path), lambda file, findings: read_ctf_table(file, findings, "relion", RESOLUTION), step
    )


def read_ctf_table(path: Path, findings: Findings, format_name: str, resolution_label: str) -> SourceRecords:
    """The CTF results of the one table of micrographs in a STAR file whose resolution has this label."""
    tables = read_tables(path, findings)
    table = micrographs_of(path, tables)
    if resolution_label not in table.columns:
        raise FileFormatError(
            path,
            table.line,
            f"a table of CTF results must have {resolution_label}. "
            f"Got {', '.join(table.columns)} instead: a table without CTF results. "
            "Remedy: give the table that the CTF estimation wrote (micrographs_ctf.star).",
        )
    rows = CtfRows()
    _take_rows(table, rows, findings, resolution_label)
    notes = [*rows.notes(), *findings.notes_on_text()]
    if format_name == "relion":
        capped = sum(value == CAP_ANGSTROM for value in rows.resolutions)
        if capped:
            notes.append(
                f"{capped} of {len(rows.names)} resolutions are 25 angstrom, RELION's cap: the fit may have failed"
            )
    if not table.block:
        notes.append("one nameless block: a table of RELION 3.0 or earlier, or of a program that writes so")
    return SourceRecords(
        format=format_name,
        path=path,
        ctf=rows.frame([column for column, _ in FIELDS.values()]),
        extra=_optics(tables),
        deviations=tuple(findings.deviations),
        notes=tuple(notes),
    )


def micrographs_of(path: Path, tables: Sequence[StarTable]) -> StarTable:
    """The one table of micrographs. Raises FileFormatError when there is none, or more than one."""
    named = [table for table in tables if MICROGRAPH in table.columns]
    found = [table for table in named if not any(label in table.columns for label in _OF_PARTICLES)]
    if len(found) == 1:
        return found[0]
    if found:
        raise FileFormatError(
            path, found[1].line, f"a file must have one table of micrographs. Got {len(found)} instead."
        )
    if named:
        labels = [label for label in _OF_PARTICLES if label in named[0].columns]
        raise FileFormatError(
            path,
            named[0].line,
            f"a table of CTF results must have one row per micrograph. Got particles ({', '.join(labels)}) instead. "
            "Remedy: give micrographs_ctf.star of the CTF estimation.",
        )
    blocks = ", ".join(f"data_{table.block}" for table in tables)
    raise FileFormatError(
        path,
        None,
        f"a table of CTF results must have {MICROGRAPH}. Got {blocks} without it instead: no table of micrographs. "
        "Remedy: give micrographs_ctf.star of the CTF estimation.",
    )


def _take_rows(table: StarTable, rows: CtfRows, findings: Findings, resolution_label: str) -> None:
    name_at = table.columns.index(MICROGRAPH)
    movie_at = table.columns.index(MOVIE) if MOVIE in table.columns else name_at
    resolution_at = table.columns.index(resolution_label)
    others = [
        (place, label)
        for place, label in enumerate(table.columns)
        if label not in (MICROGRAPH, resolution_label)
    ]
    for place_in_table, row in enumerate(findings.told(table.rows, 0.6)):
        line = table.row_lines[place_in_table]
        further = scaled(findings, {label: row[place] for place, label in others}, FIELDS, line)
        if further is None:
            continue
        # The movie is the microscope's own file; the micrograph is named after it by whatever program made it.
        name = row[movie_at] if exposure_name(row[movie_at]) else row[name_at]
        if movie_at != name_at:
            further["image_id"] = exposure_name(row[name_at])
        rows.add(findings, name, row[resolution_at], further, line=line)


def _optics(tables: Sequence[StarTable]) -> dict[str, dict[str, str]]:
    """The optics groups as the file has them, by `optics group NUMBER`."""
    return {
        f"optics group {row[table.columns.index('rlnOpticsGroup')]}": dict(
            zip(table.columns, row, strict=True)
        )
        for table in tables
        if table.block == "optics" and "rlnOpticsGroup" in table.columns
        for row in table.rows
    }


def write_good_micrographs(source: Path, target: Path, good: Collection[str]) -> JoinReport:
    """Copy a table of micrographs with only the rows of the good ones; optics groups and all columns stay.

    good : names of exposures or micrographs, joined as `exposure_name` reads them; those of one name in several
        folders as FOLDER/NAME alone
    Returns how many of them the table has. Raises FileFormatError for a source that is no table of micrographs,
    InputError when none of them is in it or the target is the source.
    """
    if target.resolve() == source.resolve():
        raise InputError(f"The target must be another file than the source. Got {target} for both instead.")
    tables = star.read_star(source).tables
    table = micrographs_of(source, tables)
    names = _told_apart(table.column(MOVIE if MOVIE in table.columns else MICROGRAPH))
    in_folders = {name for name in names if "/" in name}
    # Without dots only what is not there with them: a.b_1 and a_b_1 are two names.
    exact = {name if name in in_folders else exposure_name(name) for name in good}
    loose = {name_without_dots(name) for name in exact.difference(names)}
    wanted = sorted(exact.intersection(names) | loose)
    as_written = exact | in_folders
    names = [
        plain if name not in as_written and (plain := name_without_dots(name)) in loose else name
        for name in names
    ]
    in_table = dict.fromkeys(names)
    _, report = join_by_name(
        wanted, list(in_table), f"good micrographs in {source.name}", "the table does not name them"
    )
    if not report.joined:
        raise InputError(
            f"The good micrographs must be in {source}. Got {len(wanted)} names that are not in it instead. "
            "Remedy: give the table of the same session."
        )
    chosen = set(wanted)
    kept = StarTable(
        table.block,
        table.columns,
        [row for name, row in zip(names, table.rows, strict=True) if name in chosen],
        table.is_loop,
    )
    write_star(target, [kept if each is table else each for each in tables])
    return report


def _told_apart(written: Sequence[str]) -> list[str]:
    """The exposure of each micrograph, FOLDER/NAME where the table has a name in several folders."""
    names = [exposure_name(each) for each in written]
    folders_of: dict[str, set[str]] = {}
    for name, each in zip(names, written, strict=True):
        folders_of.setdefault(name, set()).add(folder_of(each))
    return [
        f"{folder_of(each)}/{name}" if len(folders_of[name]) > 1 else name
        for name, each in zip(names, written, strict=True)
    ]


def write_micrographs(path: Path, names: Sequence[str], ctf_max_res_angstrom: Sequence[float]) -> None:
    """Write a table of micrographs by name alone, for sites without a RELION table to choose from.

    names : as RELION should find them, (n,)     ctf_max_res_angstrom : (n,)
    Raises InputError when the lengths differ or a name stands twice.
    """
    if len(names) != len(ctf_max_res_angstrom):
        raise InputError(
            f"A micrograph must have one CTF resolution. Got {len(ctf_max_res_angstrom)} for {len(names)} instead."
        )
    if len(set(names)) != len(names):
        raise InputError("A micrograph must stand once. Got a name twice instead.")
    rows = [[name, f"{value:.6f}"] for name, value in zip(names, ctf_max_res_angstrom, strict=True)]
    write_star(path, [StarTable("micrographs", (MICROGRAPH, RESOLUTION), rows)])
