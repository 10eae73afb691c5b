"""What the readers of CTF results share: numbers as text, the start of a file, and one table of results with units.

The `ctf` table of SourceRecords has, besides `name`, `ctf_max_res_angstrom` and `line`, these columns wherever the
format gives them; what has no place here keeps the format's own label, as text:

    defocus_u_um, defocus_v_um    um, larger and smaller defocus, positive = underfocus
    defocus_angle_deg             degrees, of the larger defocus from the x axis; a file that has the smaller
                                  one first gets the two exchanged and the angle turned by 90 degrees
    astigmatism_um                um
    phase_shift_deg               degrees
    figure_of_merit               the program's own, higher is better

A fit that failed may leave nan wherever it has no number, as in `1.0 nan nan nan 0.0 nan inf`. A nan of these columns
is a missing value; a resolution of nan is a failed fit, as inf is. Doubt: no file with nan was seen; C and Python
programs write a number that is none so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.core.units import is_failed_fit
from cryoscout.formats.ctf.names import exposure_name, folder_of
from cryoscout.formats.limits import low_resolution_problem
from cryoscout.formats.records import OF_FOLDER
from cryoscout.formats.text.findings import Deviation, Findings, UnreadableError, read_start

HEAD_BYTES = 64 * 1024
LARGEST_TABLE_BYTES = 64 * 1024 * 1024
LONGEST_NUMBER = 64
FILES_TO_RECOGNISE = 50
UM_PER_ANGSTROM = 1e-4

_SHOWN = 60


def shown(text: str) -> str:
    """A text as it may stand in a message: quoted, at most 60 characters."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def head_text(path: Path, size: int = HEAD_BYTES) -> str:
    """The first bytes of a file as text, see `read_start`."""
    return read_start(path, size)


def parse_number(text: str) -> float | None:
    """A number as programs write it (inf and nan among them), or None; unlike float, no `1_000` and no other digits."""
    if len(text) > LONGEST_NUMBER or "_" in text or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def resolution_problem(text: str) -> str | None:
    """What is wrong with a CTF resolution as written, or None; inf is a failed fit and right, nan is no number."""
    value = parse_number(text)
    if value is None or value != value:
        return f"the CTF resolution must be a number. Got {shown(text)} instead."
    if value <= 0:
        return f"the CTF resolution must be above 0 angstrom. Got {shown(text)} instead."
    return low_resolution_problem(value)


def deviations_of(
    path: Path, read: Callable[[Path, Findings], object], step: Step = no_step
) -> list[Deviation]:
    """Every deviation that a reader meets in a file, by line, the one that ended the reading included.

    step : told how much of the file is read     Raises UnreadableError where the file itself cannot be read.
    """
    findings = Findings(path, permissive=True, step=step)
    try:
        read(path, findings)
    except FileFormatError as error:
        if isinstance(error, UnreadableError) and error.path == path:
            raise
        element = None if error.path == path else error.path.name
        findings.deviations.append(Deviation(error.line, error.detail, element))
    return sorted(findings.deviations, key=lambda deviation: deviation.line or 0)


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files directly in a folder whose names end so, sorted; FileFormatError when it cannot be listed."""
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes)
    except OSError as error:
        raise FileFormatError(
            folder, None, f"must be a readable folder. Got {error.strerror} instead."
        ) from None


def holds_one(folder: Path, suffixes: Collection[str], is_result: Callable[[Path], bool]) -> bool:
    """Whether one of the first files of a folder is a result; False for a folder that cannot be listed."""
    try:
        files = files_in(folder, suffixes)
    except FileFormatError:
        return False
    return any(is_result(file) for file in files[:FILES_TO_RECOGNISE])


@dataclass
class CtfRows:
    """Collects the results of one source; each exposure stands once, those of one name in several folders apart."""

    names: list[str] = field(default_factory=list)
    resolutions: list[float] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    others: dict[str, list[float | str | None]] = field(default_factory=dict)
    exchanged: int = 0
    """Results whose file has the smaller defocus first."""
    folders: list[str] = field(default_factory=list)
    _first: dict[str, dict[str, tuple[Path, str]]] = field(default_factory=dict)
    """Name -> folder -> the file and the place in it where it stood first."""

    def add(
        self,
        findings: Findings,
        written_name: str,
        resolution: str,
        others: Mapping[str, float | str | None],
        *,
        line: int | None = None,
        element: str | None = None,
    ) -> bool:
        """Take a result, or report what is wrong with it and leave it out; returns whether it was taken.

        written_name : name or path of the micrograph     resolution : angstrom, as written; nan, inf: the fit failed
        others : further columns, see the module     line, element : where it stands
        """
        name, folder = exposure_name(written_name), folder_of(written_name)
        where = f"line {line}" if line is not None else f"{element}"
        if not name:
            findings.deviates("a micrograph must have a name. Got none instead.", line, element)
            return False
        known = self._first.get(name, {})
        first = known.get(folder) or (next(iter(known.values()), None) if not folder else known.get(""))
        if first is not None:
            path, place = first
            message = f"an exposure must stand once. Got {shown(name)} again instead (first on {place}"
            findings.deviates(
                f"{message})."
                if path == findings.path
                else f"{message} of {path.name}). Remedy: import the results of one run, then the others with "
                "--update: all are kept, and the best counts.",
                line,
                element,
            )
            return False
        written = parse_number(resolution)
        if written is not None and math.isnan(written):
            resolution = "inf"
        problem = resolution_problem(resolution)
        if problem is not None:
            findings.deviates(problem, line, element)
            return False
        self._first.setdefault(name, {})[folder] = (findings.path, where)
        self.folders.append(folder)
        others, exchanged = _larger_first(others)
        self.exchanged += exchanged
        for column in others.keys() - self.others.keys():
            self.others[column] = [None] * len(self.names)
        for column, values in self.others.items():
            values.append(others.get(column))
        self.names.append(name)
        self.resolutions.append(float(resolution))
        self.lines.append(line)
        return True

    def frame(self, column_order: Collection[str] = ()) -> pd.DataFrame:
        """The `ctf` table of SourceRecords; column_order names the further columns that come first."""
        first = [column for column in column_order if column in self.others]
        rest = [column for column in self.others if column not in first]
        return pd.DataFrame(
            {
                "name": pd.Series(self.names, dtype="str"),
                "ctf_max_res_angstrom": pd.Series(self.resolutions, dtype="float64"),
                "line": pd.array(self.lines, dtype="Int64"),
                **{column: self.others[column] for column in first + sorted(rest)},
                **({OF_FOLDER: pd.Series(self.folders, dtype="str")} if any(self.folders) else {}),
            }
        )

    def notes(self) -> list[str]:
        """What the join report should say of the results as a whole."""
        failed, n = sum(is_failed_fit(value) for value in self.resolutions), len(self.resolutions)
        notes = [f"{failed} of {n} fits failed (inf, nan or at least 100 angstrom)"] if failed else []
        if self.exchanged:
            notes.append(
                f"{self.exchanged} of {n} fits name the smaller defocus first: the two were exchanged and the angle "
                "turned by 90 degrees"
            )
        return notes


def _larger_first(
    others: Mapping[str, float | str | None],
) -> tuple[Mapping[str, float | str | None], bool]:
    """The columns with the larger defocus as defocus_u_um, and whether that is another order than the file's."""
    u, v, angle = (others.get(name) for name in ("defocus_u_um", "defocus_v_um", "defocus_angle_deg"))
    if not (isinstance(u, float) and isinstance(v, float) and u < v):
        return others, False
    turned = dict(others) | {"defocus_u_um": v, "defocus_v_um": u}
    if isinstance(angle, float):
        # An axis: the same as the one 180 degrees on, here within -90 (left out) to 90.
        turned["defocus_angle_deg"] = 90.0 - (-angle) % 180.0
    return turned, True


def scaled(
    findings: Findings,
    values: Mapping[str, str],
    fields: Mapping[str, tuple[str, float]],
    line: int | None,
) -> dict[str, float | str | None] | None:
    """The further columns of one row: known labels as numbers in our units, the others as written.

    values : label -> text     fields : label -> (our column, factor)
    A known one that is nan is missing. Returns None, after reporting it, when one is no finite number otherwise.
    """
    row: dict[str, float | str | None] = {}
    for label, text in values.items():
        if label not in fields:
            row[label] = text
            continue
        column, factor = fields[label]
        value = parse_number(text)
        if value is not None and math.isnan(value):
            row[column] = None
            continue
        if value is None or math.isinf(value):
            findings.deviates(f"{label} must be a finite number. Got {shown(text)} instead.", line)
            return None
        row[column] = value * factor
    return row
