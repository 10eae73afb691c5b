"""Results of Gctf: the log of one micrograph, or the table of all (`micrographs_all_gctf.star`).

The log:

       Defocus_U   Defocus_V       Angle         CCC
        24401.23    21649.58       34.52    0.180863  Final Values
    Resolution limit estimated by EPA: 3.464

angstrom, angstrom, degrees, cross correlation; with a phase plate the phase shift (degrees) stands before the cross
correlation. With high-resolution refinement the line `Final Values (Hres refine)` has the refined values; it is taken,
wherever it stands, and so is the resolution of a line below it, up to the next line of unrefined values. The resolution
is there only where Gctf ran with `--do_EPA`. Colours of the terminal may stand in it.
The table is a STAR file of one nameless block whose resolution (angstrom) is `_rlnFinalResolution`.
Sources: logs and tables in public repositories; K. Zhang, J. Struct. Biol. 193, 1 (2016). There is no specification;
the refined line is as users report it, without a log in the tests.
Doubt: some logs name the micrograph below "Input image file name"; where none does, the file's name stands for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats.ctf import star
from cryoscout.formats.ctf.ctffind import NAMES_NO_MICROGRAPH, NoteOnFile, read_result_files
from cryoscout.formats.ctf.records import (
    LARGEST_TABLE_BYTES,
    UM_PER_ANGSTROM,
    CtfRows,
    deviations_of,
    files_in,
    head_text,
    holds_one,
    scaled,
    shown,
)
from cryoscout.formats.ctf.relion import MICROGRAPH, RESOLUTION, read_ctf_table
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.text.findings import Deviation, Findings, read_lines

STAR_RESOLUTION = "rlnFinalResolution"
FIELDS: dict[str, tuple[str, float]] = {
    "Defocus_U": ("defocus_u_um", UM_PER_ANGSTROM),
    "Defocus_V": ("defocus_v_um", UM_PER_ANGSTROM),
    "Angle": ("defocus_angle_deg", 1.0),
    "Phase_shift": ("phase_shift_deg", 1.0),
    "CCC": ("figure_of_merit", 1.0),
}
_FINAL = ("Defocus_U", "Defocus_V", "Angle", "CCC")
_FINAL_WITH_PHASE = ("Defocus_U", "Defocus_V", "Angle", "Phase_shift", "CCC")
_SUFFIXES = (".log", ".txt")
_HEAD_BYTES = 256 * 1024
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
_FINAL_LINE = re.compile(
    r"(?P<values>.*?)\s*Final Values\s*(?P<refined>\(\s*Hres refine\s*\))?", re.IGNORECASE
)
_RESOLUTION_LIMIT = "Resolution limit estimated by EPA:"


@dataclass
class GctfLog:
    """What a log says of its micrograph."""

    micrograph: str | None = None
    final: dict[str, str] | None = None
    final_line: int | None = None
    is_refined: bool = False
    """Whether `final` is of the high-resolution refinement."""
    resolution: str | None = None
    resolution_line: int | None = None
    passes_over: bool = False
    """Whether the next resolution is that of unrefined values below the refined ones."""


def detect(path: Path) -> bool:
    """Whether a file is a log or table of Gctf, or a folder has a log."""
    if path.is_dir():
        return holds_one(path, _SUFFIXES, _is_log)
    return _is_table(path) or _is_log(path)


def _is_log(path: Path) -> bool:
    head = head_text(path, _HEAD_BYTES)
    return all(word in head for word in ("Defocus_U", "Defocus_V", "CCC")) and not star.detect(path)


def _is_table(path: Path) -> bool:
    if not star.detect(path):
        return False
    head = head_text(path, _HEAD_BYTES)
    return f"_{STAR_RESOLUTION}" in head and f"_{MICROGRAPH}" in head and f"_{RESOLUTION}" not in head


def read_source(path: Path, permissive: bool = False, *, step: Step = no_step) -> SourceRecords:
    """Read the table of all micrographs, the log of one, or all logs directly in a folder.

    permissive : leave deviating rows and files out and list them, instead of raising at the first
    Raises FileFormatError (file, line) at the first deviation.
    """
    if not path.is_dir() and star.detect(path):
        return read_ctf_table(path, Findings(path, permissive, step=step), "gctf", STAR_RESOLUTION)
    files = [file for file in files_in(path, _SUFFIXES) if _is_log(file)] if path.is_dir() else [path]
    if not files:
        raise FileFormatError(path, None, "a folder must hold logs of Gctf. Got none instead.")
    return read_result_files(path, files, "gctf", _take_log, permissive, step)


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a file, by line, or of all logs in a folder; an empty list for clean ones."""
    if path.is_dir():
        return list(read_source(path, permissive=True, step=step).deviations)
    if star.detect(path):
        return deviations_of(
            path, lambda file, found: read_ctf_table(file, found, "gctf", STAR_RESOLUTION), step
        )
    return deviations_of(path, lambda file, found: _take_log(file, found, CtfRows()), step)


def _take_log(path: Path, findings: Findings, rows: CtfRows) -> list[NoteOnFile]:
    log = read_log(path, findings)
    if log.final is None or log.resolution is None:
        missing = "Final Values" if log.final is None else _RESOLUTION_LIMIT
        remedy = "let Gctf finish" if log.final is None else "run Gctf with --do_EPA"
        findings.deviates(f"a log must have a line with {missing!r}. Got none instead. Remedy: {remedy}.")
        return []
    further = scaled(findings, log.final, FIELDS, log.final_line)
    if further is not None:
        name = log.micrograph or re.sub(r"_gctf$", "", path.stem, flags=re.IGNORECASE)
        rows.add(findings, name, log.resolution, further, line=log.resolution_line)
    return [] if log.micrograph else [NAMES_NO_MICROGRAPH]


def read_log(path: Path, findings: Findings) -> GctfLog:
    """What a log says; lines that deviate are reported and left out."""
    lines, is_complete = read_lines(findings, LARGEST_TABLE_BYTES)
    left_out = {found.line for found in findings.deviations}
    log = GctfLog()
    names_follow = False
    for number, line in enumerate(lines, start=1):
        text = _COLOUR.sub("", line).strip()
        is_cut = number == len(lines) and not is_complete
        if names_follow and (text or number in left_out):
            # A name that was no text is not the line after it.
            log.micrograph, names_follow = text or None, False
        elif text.startswith("Input image file name"):
            names_follow = True
        elif (found := _FINAL_LINE.fullmatch(text)) is not None:
            _take_final(log, findings, number, found["values"].split(), bool(found["refined"]))
        elif _RESOLUTION_LIMIT in text:
            _take_resolution(log, findings, number, text, is_cut)
    return log


def _take_final(log: GctfLog, findings: Findings, number: int, words: list[str], is_refined: bool) -> None:
    if log.final is not None and log.is_refined == is_refined:
        findings.deviates(
            f"a log must be of one micrograph. Got Final Values again instead (first on line {log.final_line}). "
            "Remedy: give the table of all micrographs.",
            number,
        )
        return
    if log.is_refined:
        log.passes_over = log.resolution is not None
        return
    if len(words) not in (len(_FINAL), len(_FINAL_WITH_PHASE)):
        findings.deviates(
            f"Final Values must be 4 numbers, or 5 with a phase shift. Got {len(words)} instead.", number
        )
        return
    labels = _FINAL if len(words) == len(_FINAL) else _FINAL_WITH_PHASE
    log.final, log.final_line = dict(zip(labels, words, strict=True)), number
    log.is_refined = is_refined


def _take_resolution(log: GctfLog, findings: Findings, number: int, text: str, is_cut: bool) -> None:
    words = text.split(_RESOLUTION_LIMIT, 1)[1].split()
    if log.passes_over and words and not is_cut:
        log.passes_over = False
        return
    of_refined = log.is_refined and (log.resolution_line or 0) < (log.final_line or 0) < number
    if is_cut or not words or (log.resolution is not None and not of_refined):
        findings.deviates(
            f"a log must have one whole line with the resolution limit. Got {shown(text)} instead. "
            "Remedy: the file was cut or is still being written.",
            number,
        )
        return
    log.resolution, log.resolution_line = words[0], number
