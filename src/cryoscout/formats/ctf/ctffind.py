"""Results of CTFFIND 4 and 5: one text file per micrograph, with comments and then one row of numbers.

    # Output from CTFFind version 4.1.14, run on ...
    # Input file: PATH ; Number of micrographs: 1
    # Pixel size: ... ; acceleration voltage: ...
    # Box size: ...
    # Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; ...

    column  unit       becomes                       column  unit      becomes
    1                  number in a stack             6                 figure_of_merit (cross correlation)
    2, 3    angstrom   defocus_u_um, defocus_v_um    7       angstrom  ctf_max_res_angstrom; inf: the fit failed
    4       degrees    defocus_angle_deg             8, 9    degrees   tilt_axis_angle_deg, tilt_angle_deg (version 5)
    5       radians    phase_shift_deg               10      angstrom  sample_thickness_angstrom (version 5)

Seven columns or more are read; a row must have as many as its header counts. The name comes from the header, and from
the file where the header has none. `*_avrot.txt` (rotational averages, 6 lines per micrograph) begins alike and is no
table of results.
Specification: CTFFIND's own headers; A. Rohou and N. Grigorieff, J. Struct. Biol. 192, 216 (2015).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats.ctf.names import exposure_name
from cryoscout.formats.ctf.records import (
    LARGEST_TABLE_BYTES,
    UM_PER_ANGSTROM,
    CtfRows,
    deviations_of,
    files_in,
    head_text,
    holds_one,
    parse_number,
    scaled,
    shown,
)
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.text.findings import (
    Deviation,
    Findings,
    check_width,
    lines_of,
    notes_on_code_page,
    read_lines,
)

LEAST_COLUMNS = 7
FIELDS: dict[str, tuple[str, float]] = {
    "2": ("defocus_u_um", UM_PER_ANGSTROM),
    "3": ("defocus_v_um", UM_PER_ANGSTROM),
    "4": ("defocus_angle_deg", 1.0),
    "5": ("phase_shift_deg", 180.0 / math.pi),
    "6": ("figure_of_merit", 1.0),
    "8": ("tilt_axis_angle_deg", 1.0),
    "9": ("tilt_angle_deg", 1.0),
    "10": ("sample_thickness_angstrom", 1.0),
}
_SUFFIXES = (".txt",)
_INPUT = "# Input file: "
_COUNT = " ; Number of micrographs: "
_COLUMNS = "# Columns: "
_AVERAGES = "lines per micrograph"


class NoteOnFile(NamedTuple):
    """What may hold for many files of a folder, and is said once."""

    verb: str
    """As it follows `files`."""
    holds: str

    @property
    def of_file(self) -> str:
        """Of the only file, whose name stands before it."""
        return f"{agreed(1, self.verb)} {self.holds}"

    def of_files(self, names: Sequence[str]) -> str:
        """Of these files of a folder."""
        return f"{counted(len(names), 'files', self.verb)} {self.holds} (first: {names[0]})"


NAMES_NO_MICROGRAPH = NoteOnFile("name", "no micrograph: the name of the file stands for it")
_OF_STACK = NoteOnFile("are", "of a stack: results are named by their number in it")


@dataclass
class CtffindFile:
    """One file as it is: header and rows."""

    input_file: str | None = None
    """The micrograph or stack that was fitted, a name only: it is never opened."""
    micrographs: int | None = None
    columns: int = LEAST_COLUMNS
    comments: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    row_lines: list[int] = field(default_factory=list)


def detect(path: Path) -> bool:
    """Whether a file is CTFFIND's, or a folder has one; rotational averages count, reading says what they are."""
    if path.is_dir():
        return holds_one(path, _SUFFIXES, _is_result)
    return _is_ctffind(head_text(path))


def _is_ctffind(head: str) -> bool:
    comments = [line for line in lines_of(head)[0][:20] if line.startswith("#")]
    return any(line.startswith(_INPUT) for line in comments) and any(
        line.startswith(_COLUMNS) or _AVERAGES in line for line in comments
    )


def _is_result(path: Path) -> bool:
    head = head_text(path)
    return _is_ctffind(head) and not any(_AVERAGES in line for line in lines_of(head)[0][:20])


def read_source(path: Path, permissive: bool = False, *, step: Step = no_step) -> SourceRecords:
    """Read the results of one file, or of all result files directly in a folder (rotational averages are not read).

    permissive : leave deviating rows and files out and list them, instead of raising at the first
    Raises FileFormatError (file, line) at the first deviation.
    """
    files = [file for file in files_in(path, _SUFFIXES) if _is_result(file)] if path.is_dir() else [path]
    if not files:
        raise FileFormatError(path, None, "a folder must hold CTFFIND results. Got none instead.")
    return read_result_files(path, files, "ctffind", _take_file, permissive, step)


def read_result_files(
    path: Path,
    files: list[Path],
    format_name: str,
    take_file: Callable[[Path, Findings, CtfRows], list[NoteOnFile]],
    permissive: bool,
    step: Step,
) -> SourceRecords:
    """Records of many files with one result or a few each; `take_file` returns what holds for its file."""
    rows = CtfRows()
    deviations: list[Deviation] = []
    said: dict[NoteOnFile, list[str]] = {}
    of_code_page: list[str] = []
    for file in files:
        findings = Findings(file, permissive)
        try:
            for note in take_file(file, findings, rows):
                said.setdefault(note, []).append(file.name)
        except FileFormatError as error:
            if not permissive or len(files) == 1:
                raise
            findings.deviations.append(Deviation(error.line, error.detail))
        of_code_page += [file.name] if findings.was_code_page else []
        if len(files) > 1:
            findings.deviations = [
                Deviation(each.line, each.message, f"{file.name}") for each in findings.deviations
            ]
        deviations += findings.deviations
        step(1 / len(files))
    return SourceRecords(
        format=format_name,
        path=path,
        ctf=rows.frame([column for column, _ in FIELDS.values()]),
        deviations=tuple(deviations),
        notes=tuple(
            rows.notes()
            + [note.of_file if path == files[0] else note.of_files(names) for note, names in said.items()]
            + notes_on_code_page(of_code_page)
        ),
    )


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a file, by line, or of all result files in a folder; an empty list for clean ones."""
    if path.is_dir():
        return list(read_source(path, permissive=True, step=step).deviations)
    return deviations_of(path, lambda file, findings: _take_file(file, findings, CtfRows()), step)


def _take_file(path: Path, findings: Findings, rows: CtfRows) -> list[NoteOnFile]:
    result = read_ctffind(path, findings)
    notes = []
    name = result.input_file
    if name is None:
        name = path.name
        notes.append(NAMES_NO_MICROGRAPH)
    for line, row in zip(result.row_lines, result.rows, strict=True):
        values = {str(place): text for place, text in enumerate(row, start=1) if place not in (1, 7)}
        further = scaled(findings, {k: v for k, v in values.items() if k in FIELDS}, FIELDS, line)
        if further is None:
            continue
        further |= {f"column_{place}": text for place, text in values.items() if place not in FIELDS}
        if (result.micrographs or 1) > 1:
            further["number_in_stack"] = row[0]
            rows.add(
                findings, f"{exposure_name(name)}#{_number_in_stack(row[0])}", row[6], further, line=line
            )
        else:
            rows.add(findings, name, row[6], further, line=line)
    if (result.micrographs or 1) > 1:
        notes.append(_OF_STACK)
    return notes


def _number_in_stack(text: str) -> str:
    value = parse_number(text)
    return f"{value:g}" if value is not None else text


def read_ctffind(path: Path, findings: Findings) -> CtffindFile:
    """The header and rows of one file; rows that deviate are reported and left out."""
    lines, is_complete = read_lines(findings, LARGEST_TABLE_BYTES)
    result = CtffindFile()
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            _take_comment(result, findings, number, line)
        elif line.strip():
            if number == len(lines) and not is_complete:
                findings.deviates(
                    f"the last line must end with a line break. Got {shown(line)} without one instead. "
                    "Remedy: the file was cut or is still being written; fit the micrograph again.",
                    number,
                )
            else:
                _take_row(result, findings, number, line.split())
    if not result.comments:
        raise FileFormatError(path, None, "CTFFIND results must begin with # lines. Got none instead.")
    expected = result.micrographs or 1
    if len(result.rows) != expected and not findings.deviations:
        findings.deviates(
            f"results must have one row per micrograph ({expected}). Got {len(result.rows)} instead.",
            len(lines),
        )
    return result


def _take_comment(result: CtffindFile, findings: Findings, number: int, line: str) -> None:
    result.comments.append(line)
    if _AVERAGES in line:
        raise FileFormatError(
            findings.path,
            number,
            "CTFFIND results must have one row per micrograph. Got rotational averages (6 lines per micrograph) "
            "instead. Remedy: give the file of the same name without _avrot.",
        )
    if line.startswith(_INPUT) and _COUNT in line:
        name, count = line.removeprefix(_INPUT).rsplit(_COUNT, 1)
        result.input_file = name.strip() or None
        value = count.strip()
        if re.fullmatch(r"[0-9]{1,6}", value) and int(value) > 0:
            result.micrographs = int(value)
        else:
            findings.deviates(
                f"the number of micrographs must be a whole number. Got {shown(value)} instead.", number
            )
    if line.startswith(_COLUMNS):
        result.columns = max(LEAST_COLUMNS, len(re.findall(r"#[0-9]+ ", line)))


def _take_row(result: CtffindFile, findings: Findings, number: int, words: list[str]) -> None:
    check_width(findings.path, number, len(words))
    if len(words) < result.columns:
        findings.deviates(
            f"a row must have {result.columns} numbers. Got {len(words)} instead. "
            "Remedy: the file was cut or is still being written; fit the micrograph again.",
            number,
        )
        return
    result.rows.append(words)
    result.row_lines.append(number)
