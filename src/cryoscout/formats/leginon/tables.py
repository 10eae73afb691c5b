"""Readers of the text tables that come with Leginon sessions, recognised by content and never by file name.

    kind            one line                                        separator
    ctf             name, dx, dy, CTF resolution, confidence        comma
    timestamps      name, yyyy-mm-dd hh:mm:ss                       comma
    softmax         name p_good p_bad                               blank
    predicted-ctf   name predicted CTF resolution                   blank

Leginon writes none with a header; where somebody put one above the lines, in the words of `_HEADER_WORDS`, it is
passed over. dx, dy are px of the parent image. A CTF resolution (angstrom) of -1 means "no exposure or
no result yet"; inf and >= 100 mean that the fit failed (Leginon writes 100, 101 or 100000).
There is no specification; the four kinds are those of the files released with CryoRL,
https://github.com/IBM/CryoRL-pytorch, the values of failed fits those of leginon-org/leginon,
`dbschema/info_tools/export_ctf.py`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats.ctf.records import LARGEST_TABLE_BYTES, parse_number, shown
from cryoscout.formats.leginon.names import LeginonName, parse_name
from cryoscout.formats.limits import FIRST_YEAR, LAST_YEAR, low_resolution_problem, pixel_problem
from cryoscout.formats.text.findings import (
    Deviation,
    Findings,
    check_readable,
    lines_of,
    read_lines,
    read_start,
)

TableKind = Literal["ctf", "timestamps", "softmax", "predicted-ctf"]

NO_CTF = -1.0
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
SOFTMAX_TOLERANCE = 0.02

_SEPARATOR: dict[TableKind, str | None] = {
    "ctf": ",",
    "timestamps": ",",
    "softmax": None,
    "predicted-ctf": None,
}
_FIELDS: dict[TableKind, tuple[str, ...]] = {
    "ctf": ("name", "x_px", "y_px", "ctf_max_res_angstrom", "confidence"),
    "timestamps": ("name", "at"),
    "softmax": ("name", "p_good", "p_bad"),
    "predicted-ctf": ("name", "ctf_predicted_angstrom"),
}
_HEADER_WORDS: dict[str, tuple[str, ...]] = {
    "name": ("name", "image", "imagename", "filename", "micrograph", "exposure"),
    "x_px": ("dx", "x", "xpx"),
    "y_px": ("dy", "y", "ypx"),
    "ctf_max_res_angstrom": ("ctf", "ctfresolution", "ctfmaxres", "ctfmaxresangstrom", "resolution", "res"),
    "confidence": ("confidence", "conf"),
    "at": ("at", "time", "timestamp", "datetime"),
    "p_good": ("pgood", "good"),
    "p_bad": ("pbad", "bad"),
    "ctf_predicted_angstrom": ("predictedctf", "ctfpredicted", "ctfpredictedangstrom", "predicted", "ctf"),
}
"""Field -> what a header calls it, in any case and with any separators."""
_PLACE_WORDS = {
    f"{level}{ending}" for level in ("hole", "patch", "square", "grid") for ending in ("", "s", "id", "name")
}
"""What a header of Leginon's calls nothing: there the name says the places."""
LONGEST_NAME = 1000

_LINES_TO_RECOGNISE = 200
_BYTES_TO_RECOGNISE = 100_000
_LOOKS_LIKE_A_NAME = re.compile(r".+_\d{5}[A-Za-z]")
_LOOKS_LIKE_A_TIME = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class LeginonTable:
    """A table as the file has it: one row per good line."""

    kind: TableKind
    path: Path
    rows: pd.DataFrame
    """The fields of the kind (see the module), `line` (1-based), `parsed` (LeginonName)."""
    deviations: tuple[Deviation, ...]
    """What was wrong; such lines are left out, images older than their parents stay; empty if strict."""
    notes: tuple[str, ...] = ()


class _LineError(Exception):
    """A line deviates; carries the message."""


def detect(path: Path) -> TableKind | None:
    """The kind of table a file holds, by the shape of most of its lines.

    None where it is none of them: a STAR file of images with Leginon's names, and somebody's own table, whose header
    names holes or squares, such as `find-holes` writes of an image of Leginon, have lines of these shapes too.
    Raises UnreadableError when the file cannot be read.
    """
    check_readable(path)
    lines = [line for line in lines_of(read_start(path, _BYTES_TO_RECOGNISE))[0] if line.strip()]
    shapes = Counter(_shape(line) for line in lines[:_LINES_TO_RECOGNISE])
    shapes.pop(None, None)
    is_star = any(line.split()[0] == "loop_" for line in lines)
    if not shapes or is_star or _names_places(lines[0]):
        return None
    return shapes.most_common(1)[0][0]


def _names_places(header: str) -> bool:
    words = {re.sub(r"[^a-z]", "", word.lower()) for word in re.split(r"[,;\t ]", header)}
    return not (_LOOKS_LIKE_A_NAME.match(header) or words.isdisjoint(_PLACE_WORDS))


def _shape(line: str) -> TableKind | None:
    by_comma = [field.strip() for field in line.split(",")]
    if _LOOKS_LIKE_A_NAME.match(by_comma[0]) and len(by_comma) > 1:
        if len(by_comma) == 5:
            return "ctf"
        return "timestamps" if len(by_comma) == 2 and _LOOKS_LIKE_A_TIME.match(by_comma[1]) else None
    by_blank = line.split()
    if len(by_blank) not in (2, 3) or not _LOOKS_LIKE_A_NAME.match(by_blank[0]):
        return None
    return "softmax" if len(by_blank) == 3 else "predicted-ctf"


def read_table(path: Path, permissive: bool = False, *, step: Step = no_step) -> LeginonTable:
    """Read a table of any of the four kinds.

    permissive : leave deviating lines out and list them in the result, instead of raising at the first
    Raises FileFormatError (file, line) at the first deviation, and when the kind is not recognised.
    """
    table = _read_all(path, step)
    if table.deviations and not permissive:
        first = min(table.deviations, key=lambda deviation: deviation.line or 0)
        raise FileFormatError(path, first.line, first.message)
    return table


def validate_file(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a file from its format, by line; an empty list for a clean file.

    Raises FileFormatError when the file cannot be read or its kind is not recognised.
    """
    return sorted(_read_all(path, step).deviations, key=lambda deviation: deviation.line or 0)


def _read_all(path: Path, step: Step = no_step) -> LeginonTable:
    kind = detect(path)
    if kind is None:
        raise FileFormatError(
            path,
            None,
            "must be a Leginon table: name,dx,dy,ctf,confidence; name,time; 'name p_good p_bad' or 'name "
            "ctf'. "
            "Got lines of another shape instead.",
        )
    findings = Findings(path, permissive=True, step=step)
    lines, _ = read_lines(findings, LARGEST_TABLE_BYTES)
    records: list[dict[str, Any]] = []
    first_line: dict[str, int] = {}
    first_text = next((number for number, line in enumerate(lines, start=1) if line.strip()), 0)
    for number, line in enumerate(findings.told(lines, 0.9), start=1):
        if not line.strip() or (number == first_text and _is_header(kind, line)):
            continue
        try:
            record = _record(kind, line)
            name = record["name"]
            if name in first_line:
                raise _LineError(
                    f"a name must stand once. Got {shown(name)} again instead (first on line {first_line[name]})."
                )
        except _LineError as error:
            findings.deviates(str(error), number)
            continue
        first_line[name] = number
        records.append({**record, "line": number})
    rows = pd.DataFrame(records, columns=[*_FIELDS[kind], "line", "parsed"])
    deviations = findings.deviations
    if kind == "timestamps":
        rows["at"] = rows["at"].astype("datetime64[ns]")
        deviations += _children_before_parents(records)
    return LeginonTable(kind, path, rows, tuple(deviations), tuple(findings.notes_on_text()))


def _is_header(kind: TableKind, line: str) -> bool:
    words = [re.sub(r"[^a-z0-9]", "", word.lower()) for word in line.split(_SEPARATOR[kind])]
    fields = _FIELDS[kind]
    return len(words) == len(fields) and all(
        word in _HEADER_WORDS[field] for word, field in zip(words, fields, strict=True)
    )


def _record(kind: TableKind, line: str) -> dict[str, Any]:
    fields = [field.strip() for field in line.split(_SEPARATOR[kind])]
    names = _FIELDS[kind]
    if len(fields) != len(names):
        raise _LineError(
            f"a line must have {len(names)} columns ({', '.join(names)}). Got {len(fields)} instead."
        )
    if len(fields[0]) > LONGEST_NAME:
        # Each level of a name keeps the names above it: the memory would grow with the square of the length.
        raise _LineError(
            f"a name must have at most {LONGEST_NAME:,} characters. Got {len(fields[0]):,} instead."
        )
    try:
        parsed: LeginonName = parse_name(fields[0])
    except InputError as error:
        raise _LineError(str(error)) from None
    return {"name": fields[0], "parsed": parsed, **_VALUES[kind](fields[1:])}


def _number(text: str, what: str) -> float:
    value = parse_number(text)
    if value is None or math.isnan(value):
        raise _LineError(f"{what} must be a number. Got {shown(text)} instead.")
    return value


def _finite(text: str, what: str) -> float:
    value = _number(text, what)
    if math.isinf(value):
        raise _LineError(f"{what} must be finite. Got {shown(text)} instead.")
    return value


def _ctf_values(fields: list[str]) -> dict[str, Any]:
    ctf = _number(fields[2], "the CTF resolution")
    if ctf != NO_CTF and not ctf > 0:
        raise _LineError(
            f"the CTF resolution must be above 0 angstrom, or -1 for none. Got {shown(fields[2])} instead."
        )
    x_px, y_px = _finite(fields[0], "dx"), _finite(fields[1], "dy")
    for problem in (pixel_problem(x_px, "dx"), pixel_problem(y_px, "dy"), low_resolution_problem(ctf)):
        if problem is not None:
            raise _LineError(problem)
    return {
        "x_px": x_px,
        "y_px": y_px,
        "ctf_max_res_angstrom": ctf,
        "confidence": _finite(fields[3], "the confidence"),
    }


def _time_values(fields: list[str]) -> dict[str, Any]:
    try:
        at = datetime.strptime(fields[0], TIME_FORMAT)
    except ValueError:
        at = None
    if at is None or not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise _LineError(
            f"a time must be written yyyy-mm-dd hh:mm:ss, between {FIRST_YEAR} and {LAST_YEAR}. "
            f"Got {shown(fields[0])} instead."
        )
    return {"at": at}


def _softmax_values(fields: list[str]) -> dict[str, Any]:
    p_good, p_bad = _number(fields[0], "p_good"), _number(fields[1], "p_bad")
    for name, value in (("p_good", p_good), ("p_bad", p_bad)):
        if not 0.0 <= value <= 1.0:
            raise _LineError(f"{name} must be between 0 and 1. Got {value:g} instead.")
    # A little slack keeps sums such as 0.51 + 0.51 from failing by the last bit.
    if abs(p_good + p_bad - 1.0) > SOFTMAX_TOLERANCE + 1e-9:
        raise _LineError(
            f"p_good and p_bad must sum to 1 (within {SOFTMAX_TOLERANCE}). Got {p_good + p_bad:g} instead."
        )
    return {"p_good": p_good, "p_bad": p_bad}


def _predicted_values(fields: list[str]) -> dict[str, Any]:
    value = _finite(fields[0], "the predicted CTF resolution")
    if value <= 0:
        raise _LineError(
            f"the predicted CTF resolution must be above 0 angstrom. Got {shown(fields[0])} instead."
        )
    return {"ctf_predicted_angstrom": value}


_VALUES: dict[TableKind, Callable[[list[str]], dict[str, Any]]] = {
    "ctf": _ctf_values,
    "timestamps": _time_values,
    "softmax": _softmax_values,
    "predicted-ctf": _predicted_values,
}


def _children_before_parents(records: list[dict[str, Any]]) -> list[Deviation]:
    """Lines may come in any order, but no image can be older than the one it was targeted on or made from."""
    at = {record["name"]: record["at"] for record in records}
    deviations = []
    for record in records:
        parsed: LeginonName = record["parsed"]
        older = parsed.stem if parsed.own.suffix else parsed.parent
        if older is not None and older in at and record["at"] < at[older]:
            deviations.append(
                Deviation(
                    record["line"],
                    f"an image must not be older than the one it comes from. Got {record['at']} for "
                    f"{record['name']!r}, but {at[older]} for {older!r} instead.",
                )
            )
    return deviations
