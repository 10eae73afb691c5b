"""The order of visit of a Leginon session as a text: one target name per line, for people and scripts.

    # Leginon targets in order of visit, by cryoscout
    # session: 21mar02c
    21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en

    look 21mar02c_grid1c_00008gr_00012sq

`look` stands before a square or patch whose image comes next. Lines that begin with `#` are comments; `# key: value`
ones among them are kept. Leginon has no import of target lists,
so this format is ours: the names are Leginon's own (see `leginon_names`), as its image viewer and database show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.ctf.records import LARGEST_TABLE_BYTES, deviations_of, head_text, shown
from cryoscout.formats.leginon.names import LeginonName, parse_name
from cryoscout.formats.records import HOLE_COLUMNS, SourceRecords
from cryoscout.formats.text.findings import TARGETS_ALONE, Deviation, Findings, read_lines

FORMAT = "leginon-order"
FIRST_LINE = "# Leginon targets in order of visit, by cryoscout"
LONGEST_NAME = 1000
_LOOK = "look "


@dataclass(frozen=True)
class LeginonOrder:
    """Targets in order of visit."""

    targets: tuple[str, ...]
    about: Mapping[str, str] = field(default_factory=dict)
    """What the comments say: session, policy, ..."""
    looks: tuple[str, ...] = ()
    """Squares and patches to look at after the targets, in order."""


def write_order(path: Path, order: LeginonOrder) -> None:
    """Write an order that `read_order` gives back equal.

    Raises InputError for an order without targets, a target twice, a name that is none of Leginon's below a patch, and
    an `about` that is no text of one line.
    """
    if not order.targets and not order.looks:
        raise InputError(
            "An order must have at least one target. Got none instead. Remedy: plan with more minutes."
        )
    seen: set[str] = set()
    for target in order.targets:
        problem = _problem(target) or ("stands twice" if target in seen else None)
        if problem:
            raise InputError(
                f"A target must be a Leginon name that stands once. Got {shown(target)} ({problem})."
            )
        seen.add(target)
    for place in order.looks:
        problem = _look_problem(place) or ("stands twice" if place in seen else None)
        if problem:
            raise InputError(
                f"A place to look at must be a Leginon name that stands once. Got {shown(place)} ({problem})."
            )
        seen.add(place)
    lines = [FIRST_LINE]
    for key, value in order.about.items():
        line = f"# {key}: {value}"
        if not key or not line.isprintable() or _about(line) != (key, value):
            raise InputError(
                f"What is said about an order must be words of one line. Got {shown(key)}: {shown(value)} instead."
            )
        lines.append(line)
    write_whole(
        path, "\n".join([*lines, *order.targets, *(f"{_LOOK}{place}" for place in order.looks)]) + "\n"
    )


def detect(path: Path) -> bool:
    """Whether a file begins with the first line of this format."""
    return head_text(path, 256).startswith(FIRST_LINE)


def read_order(path: Path, permissive: bool = False) -> LeginonOrder:
    """Read an order of visit.

    permissive : leave deviating lines out
    Raises FileFormatError (file, line) at the first deviation unless permissive, and always without the first line.
    """
    found = _read(path, Findings(path, permissive))
    return LeginonOrder(found.targets, found.about, found.looks)


def read_source(path: Path, permissive: bool = False) -> SourceRecords:
    """The targets as chosen holes with their patches, squares and grids; positions are unknown.

    Raises as `read_order`.
    """
    findings = Findings(path, permissive)
    order = _read(path, findings)
    rows = []
    for target in order.targets:
        name = parse_name(target)
        rows.append((target, name.patch or "", name.square or "", name.grid or "", *(np.nan,) * 4, True))
    holes = pd.DataFrame(rows, columns=list(HOLE_COLUMNS)).astype({"chosen": "boolean"})
    extra = {target: {"order": str(place)} for place, target in enumerate(order.targets, start=1)}
    extra |= {place: {"look": str(number)} for number, place in enumerate(order.looks, start=1)}
    return SourceRecords(
        format=FORMAT,
        path=path,
        holes=holes,
        session_name=order.about.get("session"),
        extra=extra,
        deviations=tuple(findings.deviations),
        notes=(TARGETS_ALONE, *findings.notes_on_text()),
    )


def validate(path: Path) -> list[Deviation]:
    """Every deviation of a file, by line; an empty list for a clean one."""
    return deviations_of(path, _read)


def _read(path: Path, findings: Findings) -> LeginonOrder:
    lines, is_complete = read_lines(findings, LARGEST_TABLE_BYTES)
    if not lines or lines[0].rstrip() != FIRST_LINE:
        got = shown(lines[0]) if lines else "an empty file"
        raise FileFormatError(path, 1, f"an order must begin with {FIRST_LINE!r}. Got {got} instead.")
    targets: dict[str, int] = {}
    looks: dict[str, int] = {}
    about: dict[str, str] = {}
    for number, raw in enumerate(lines[1:], start=2):
        line = raw.strip()
        if not line:
            continue
        if line.startswith("#"):
            said = _about(line)
            if said is not None:
                about[said[0]] = said[1]
            continue
        if number == len(lines) and not is_complete:
            findings.deviates(
                f"the last line must end with a line break. Got {shown(line)} without one instead. "
                "Remedy: the file was cut; export it again.",
                number,
            )
            continue
        is_look = line.startswith(_LOOK)
        line = line.removeprefix(_LOOK).lstrip() if is_look else line
        problem = _look_problem(line) if is_look else _problem(line)
        before = looks if is_look else targets
        if problem:
            findings.deviates(
                f"a line must be the name of a target. Got {shown(line)} instead ({problem}).", number
            )
        elif line in before:
            findings.deviates(
                f"a target must stand once. Got {shown(line)} again instead (first on line {before[line]}).",
                number,
            )
        else:
            before[line] = number
    return LeginonOrder(tuple(targets), about, tuple(looks))


def _about(line: str) -> tuple[str, str] | None:
    key, colon, value = line.removeprefix("#").strip().partition(": ")
    return (key, value) if colon and key == key.strip() and value == value.strip() else None


def _problem(target: str) -> str | None:
    problem, name = _parsed(target)
    return "no patch above it" if name is not None and name.patch is None else problem


def _look_problem(place: str) -> str | None:
    """A square or a patch has a name of its own, with any number of levels."""
    return _parsed(place)[0]


def _parsed(target: str) -> tuple[str | None, LeginonName | None]:
    """What is wrong with a name, or the name."""
    if len(target) > LONGEST_NAME:
        return f"longer than {LONGEST_NAME} characters", None
    if not target.isascii() or not target.isprintable() or target != target.strip() or target.startswith("#"):
        return "not a word of one line", None
    try:
        return None, parse_name(target)
    except InputError:
        return "no session and levels such as _00011sq_00002hl_00005en", None
