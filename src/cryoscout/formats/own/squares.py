"""A site's own table of squares as CSV or TSV: one line per square, of an atlas that no other reader knows.

    grid,square,x_um,y_um,area_um2,brightness,looked_at
    grid1,S1,-120.5,310.2,1600,182,
    grid1,S2,-40.1,312.8,1450,140,2026-01-31 10:15:00

Headers are recognised as in `table` (grid, square, x and y, of the stage in um alone), and area, areaum2, brightness,
greylevel, graylevel, intensity, looked, opened, lookedat, openedat. A square with a time of its look, or with yes, true
or 1 as looked, was looked at; an empty cell says nothing. A header that names a hole or an exposure makes a table of
these (`table`), with squares as one of its columns. There is no specification of such tables; this page is ours.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats.ctf.records import deviations_of, parse_number, shown
from cryoscout.formats.limits import square_area_um2, stage_um
from cryoscout.formats.own.cells import NO_VALUE, CellLines, header_of, plain_header
from cryoscout.formats.own.columns import FALLBACKS, HEADER_ALIASES, PREDICTED, ColumnMap, Role
from cryoscout.formats.own.times import parse_time
from cryoscout.formats.records import LOOK_COLUMNS, SQUARE_COLUMNS, SourceRecords
from cryoscout.formats.text.findings import Deviation, Findings

FORMAT = "generic"
_OWN = {
    "area_um2": ("area", "areaum2"),
    "brightness": ("brightness", "greylevel", "graylevel", "intensity"),
    "looked": ("looked", "opened"),
    "looked_at": ("lookedat", "openedat"),
}
_LIMITS = {"x_um": stage_um, "y_um": stage_um, "area_um2": square_area_um2}
_UM = ("{}um", "stage{}", "stage{}um", "stagepos{}")
_ROLE_OF = {
    **dict.fromkeys(HEADER_ALIASES["grid"], "grid_id"),
    **dict.fromkeys(HEADER_ALIASES["square"], "square_id"),
    **{pattern.format(axis): f"{axis}_um" for axis in "xy" for pattern in _UM},
    **{alias: role for role, aliases in _OWN.items() for alias in aliases},
}
_OF_ROLE: dict[str, str] = {"grid": "grid_id", "square": "square_id", "x": "x_um", "y": "y_um"}
"""Roles of a column map that a table of squares has too."""
_MAKE_HOLES: tuple[Role, ...] = ("hole", "exposure", "patch", *PREDICTED)
_OF_HOLES = frozenset(
    alias for role in ("hole", "exposure", "patch") for alias in HEADER_ALIASES[role]
) | frozenset(FALLBACKS)
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


def detect(path: Path) -> bool:
    """Whether a file begins with a header that names squares and something else of them, and no hole or exposure."""
    roles = _roles(header_of(path))
    return roles is not None and "square_id" in roles and len(roles) > 1


def is_mapped_otherwise(path: Path, column_map: ColumnMap) -> bool:
    """Whether a map says of a table that `detect` knows that it is one of holes or exposures.

    It gives a column the meaning of one of these, or a column of squares another meaning than its header.
    """
    plain = [plain_header(cell) for cell in header_of(path)]
    meant = [(role, plain_header(header)) for role, header in column_map.columns.items()]
    return any(
        header in plain
        and (role in _MAKE_HOLES or _OF_ROLE.get(role, header) != _ROLE_OF.get(header, header))
        for role, header in meant
    )


def read_source(path: Path, permissive: bool = False, *, step: Step = no_step) -> SourceRecords:
    """Read a table of squares.

    permissive : leave deviating lines out and list them
    Raises FileFormatError (file, line) at the first deviation unless permissive, and for a header without squares.
    """
    return _read(path, Findings(path, permissive, step=step))


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a table, by line; an empty list for a clean one."""
    return deviations_of(path, _read, step)


def _read(path: Path, findings: Findings) -> SourceRecords:
    lines = CellLines(findings)
    roles = _roles(lines.header)
    if roles is None or "square_id" not in roles or ("x_um" in roles) != ("y_um" in roles):
        raise FileFormatError(
            path,
            lines.header_line,
            f"a table of squares must name square, and x and y both or none. Got "
            f"{shown(lines.delimiter.join(lines.header))} instead.",
        )
    rows: dict[str, tuple[object, ...]] = {}
    first_line: dict[str, int] = {}
    repeats = 0
    for line, cells in lines.rows():
        row = _row([cell.strip() for cell in cells], roles, findings, line)
        if isinstance(row, str):
            findings.deviates(row, line)
            continue
        square = str(row[0])
        if square not in rows:
            rows[square], first_line[square] = row, line
        elif rows[square][1] != row[1]:
            findings.deviates(
                f"a square must be in one grid. Got {shown(square)} in {shown(str(row[1]))} instead (first in "
                f"{shown(str(rows[square][1]))}, on line {first_line[square]}). Remedy: squares of two atlases "
                "must have names of their own, such as GRID/SQUARE.",
                line,
            )
        else:
            repeats += 1
            rows[square] = _latest(rows[square], row)
    return _records(lines, roles, list(rows.values()), repeats, findings)


def _records(
    lines: CellLines,
    roles: dict[str, int],
    rows: list[tuple[object, ...]],
    repeats: int,
    findings: Findings,
) -> SourceRecords:
    squares = pd.DataFrame(rows, columns=[*SQUARE_COLUMNS, *LOOK_COLUMNS])
    numbers = dict.fromkeys(("x_um", "y_um", "area_um2", "brightness"), np.float64)
    notes = lines.notes()
    unused = [name for place, name in enumerate(lines.header) if place not in roles.values()]
    if unused:
        notes.append(f"columns that say nothing of squares: {', '.join(unused)}")
    if repeats:
        notes.append(
            f"{repeats} lines are of a square that stood before (looked at again): the latest look counts"
        )
    unplaced = int(squares["x_um"].isna().sum()) if len(squares) else 0
    if unplaced:
        notes.append(f"{unplaced} of {len(squares)} squares have no stage position: they are not drawn")
    return SourceRecords(
        format=FORMAT,
        path=findings.path,
        squares=squares.astype({**numbers, "looked": "boolean", "looked_at": "datetime64[ns]"}),
        deviations=tuple(findings.deviations),
        notes=tuple(notes),
    )


def _row(cells: list[str], roles: dict[str, int], findings: Findings, line: int) -> tuple[object, ...] | str:
    """The square of a line, in the order of the columns, or what is wrong with it.

    findings : get what no microscope does; its value is missing then
    """

    def text(role: str) -> str:
        value = cells[roles[role]] if role in roles else ""
        return "" if value.lower() in NO_VALUE else value

    square = text("square_id")
    if not square:
        return "a line must name its square. Got nothing instead."
    numbers: list[float] = []
    for role in ("x_um", "y_um", "area_um2", "brightness"):
        value = math.nan if not text(role) else parse_number(text(role))
        if value is None or math.isinf(value):
            return f"{role} must be a finite number. Got {shown(text(role))} instead."
        limited = _LIMITS.get(role)
        numbers.append(value if limited is None else limited(value, role, findings, line))
    if any(map(math.isnan, numbers[:2])):
        numbers[:2] = math.nan, math.nan
    at = parse_time(text("looked_at")) if text("looked_at") else None
    if isinstance(at, str):
        return at
    said = text("looked").lower()
    if said and said not in (*_YES, *_NO):
        return f"looked must be yes or no. Got {shown(said)} instead."
    looked = True if at is not None or said in _YES else False if said in _NO else pd.NA
    return (square, text("grid_id"), *numbers, looked, pd.NaT if at is None else pd.Timestamp(at))


def _latest(before: tuple[object, ...], now: tuple[object, ...]) -> tuple[object, ...]:
    """Of two lines of a square, what the later look says, and what it does not say, the other; no look is undone."""
    at, before_at = now[-1], before[-1]
    is_later = not pd.isna(at) and (pd.isna(before_at) or at > before_at)  # type: ignore[operator,call-overload]
    first, then = (now, before) if is_later else (before, now)
    told = [b if pd.isna(a) else a for a, b in zip(first, then, strict=True)]  # type: ignore[call-overload]
    told[-2] = True if then[-2] is True else told[-2]
    return tuple(told)


def _roles(header: list[str]) -> dict[str, int] | None:
    """Role -> column; None where a hole, patch or exposure is named, or a role stands twice."""
    roles: dict[str, int] = {}
    for place, cell in enumerate(header):
        plain = plain_header(cell)
        if plain in _OF_HOLES and plain not in _ROLE_OF:
            return None
        role = _ROLE_OF.get(plain)
        if role is not None and role in roles:
            return None
        if role is not None:
            roles[role] = place
    return roles
