"""A site's own table of squares as CSV or TSV: one line per square, of an atlas that no other reader knows.

    grid,square,x_um,y_um,area_um2,brightness,looked_at
    grid1,S1,-120.5,310.2,1600,182,
    grid1,S2,-40.1,312.8,1450,140,2026-01-31 10:15:00

With a column patch, a line that names one is of a patch of the square in which no hole is known yet:

    square,patch,looked
    S1,P1,no
    S1,P2,yes

Headers are recognised as in `table` (grid, square, patch, x and y, of the stage in um alone), and area, areaum2,
brightness, greylevel, graylevel, intensity, looked, opened, lookedat, openedat. A place with a time of its look, or
with yes, true or 1 as looked, was looked at; an empty cell says nothing. What the line of a patch says of position,
area and brightness is not kept. A header that names a hole or an exposure makes a table of these (`table`), with
squares as one of its columns. There is no specification of such tables; this page is ours.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.counting import counted
from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats.ctf.records import deviations_of, parse_number, shown
from cryoscout.formats.limits import square_area_um2, stage_um
from cryoscout.formats.own.cells import NO_VALUE, CellLines, header_of, plain_header
from cryoscout.formats.own.columns import FALLBACKS, HEADER_ALIASES, PREDICTED, ColumnMap, Role
from cryoscout.formats.own.times import OneClock
from cryoscout.formats.records import LOOK_COLUMNS, PATCH_COLUMNS, SQUARE_COLUMNS, SourceRecords
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
    **dict.fromkeys(HEADER_ALIASES["patch"], "patch_id"),
    **{pattern.format(axis): f"{axis}_um" for axis in "xy" for pattern in _UM},
    **{alias: role for role, aliases in _OWN.items() for alias in aliases},
}
_OF_ROLE: dict[str, str] = {
    "grid": "grid_id", "square": "square_id", "patch": "patch_id", "x": "x_um", "y": "y_um",
}  # fmt: skip
"""Roles of a column map that a table of squares has too."""
_MAKE_HOLES: tuple[Role, ...] = ("hole", "exposure", *PREDICTED)
_OF_HOLES = frozenset(alias for role in ("hole", "exposure") for alias in HEADER_ALIASES[role]) | frozenset(
    FALLBACKS
)
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


def detect(path: Path) -> bool:
    """Whether a header names squares and something else of them or their patches, and no hole or exposure."""
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
    squares, patches = _Rows("square", "grid", findings), _Rows("patch", "square", findings)
    not_kept = 0
    clock = OneClock()
    for line, cells in lines.rows():
        row = _row([cell.strip() for cell in cells], roles, findings, line, clock)
        if isinstance(row, str):
            findings.deviates(row, line)
            continue
        patch, square = row
        if patch:
            not_kept += any(isinstance(number, float) and not math.isnan(number) for number in square[2:6])
            patches.take((patch, square[0], square[1], *square[-2:]), line)
        else:
            squares.take(square, line)
    return _records(lines, roles, squares, patches, not_kept, findings, clock)


class _Rows:
    """Places of one level by name, each with its parent as second value and its look as last two."""

    def __init__(self, level: str, parent: str, findings: Findings) -> None:
        self.level, self.parent, self.findings = level, parent, findings
        self.rows: dict[str, tuple[object, ...]] = {}
        self.repeats = 0
        self._first_line: dict[str, int] = {}

    def take(self, row: tuple[object, ...], line: int) -> None:
        """A line of a place: the latest look counts."""
        name = str(row[0])
        if name not in self.rows:
            self.rows[name], self._first_line[name] = row, line
        elif self.rows[name][1] != row[1]:
            these = "squares of two atlases" if self.level == "square" else "patches of two squares"
            here, first = shown(str(row[1])), shown(str(self.rows[name][1]))
            self.findings.deviates(
                f"a {self.level} must be in one {self.parent}. Got {shown(name)} in {here} instead (first in {first}, "
                f"on line {self._first_line[name]}). Remedy: {these} must have names of their own, such as "
                f"{self.parent.upper()}/{self.level.upper()}.",
                line,
            )
        else:
            self.repeats += 1
            self.rows[name] = _latest(self.rows[name], row)


def _records(
    lines: CellLines,
    roles: dict[str, int],
    of_squares: _Rows,
    of_patches: _Rows,
    not_kept: int,
    findings: Findings,
    clock: OneClock,
) -> SourceRecords:
    squares = pd.DataFrame(list(of_squares.rows.values()), columns=[*SQUARE_COLUMNS, *LOOK_COLUMNS])
    patches = pd.DataFrame(list(of_patches.rows.values()), columns=list(PATCH_COLUMNS))
    numbers = dict.fromkeys(("x_um", "y_um", "area_um2", "brightness"), np.float64)
    notes = [*lines.notes(), *clock.notes()]
    unused = [name for place, name in enumerate(lines.header) if place not in roles.values()]
    if unused:
        notes.append(f"columns that say nothing of squares: {', '.join(unused)}")
    notes += [
        f"{counted(each.repeats, 'lines', 'are')} of a {each.level} that stood before (looked at again): "
        "the latest look counts"
        for each in (of_squares, of_patches)
        if each.repeats
    ]
    if not_kept:
        notes.append(
            f"{not_kept} lines of patches say a position, an area or a brightness, which is not kept"
        )
    unplaced = int(squares["x_um"].isna().sum()) if len(squares) else 0
    if unplaced:
        notes.append(f"{unplaced} of {len(squares)} squares have no stage position: they are not drawn")
    return SourceRecords(
        format=FORMAT,
        path=findings.path,
        squares=squares.astype({**numbers, "looked": "boolean", "looked_at": "datetime64[ns]"}),
        patches=patches.astype({"looked": "boolean", "looked_at": "datetime64[ns]"}),
        deviations=tuple(findings.deviations),
        notes=tuple(notes),
    )


def _row(
    cells: list[str], roles: dict[str, int], findings: Findings, line: int, clock: OneClock
) -> tuple[str, tuple[object, ...]] | str:
    """Patch of a line ("" none) and its square, in the order of the columns, or what is wrong with it.

    findings : get what no microscope does; its value is missing then     clock : of the file
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
    at = clock.of(text("looked_at")) if text("looked_at") else None
    if isinstance(at, str):
        return at
    said = text("looked").lower()
    if said and said not in (*_YES, *_NO):
        return f"looked must be yes or no. Got {shown(said)} instead."
    if at is not None and said in _NO:
        return (
            "a place with a time of its look was looked at. Got looked "
            f"{shown(said)} and {shown(text('looked_at'))} instead."
        )
    looked = True if at is not None or said in _YES else False if said in _NO else pd.NA
    when = pd.NaT if at is None else pd.Timestamp(at)
    return text("patch_id"), (square, text("grid_id"), *numbers, looked, when)


def _latest(before: tuple[object, ...], now: tuple[object, ...]) -> tuple[object, ...]:
    """Of two lines of a square, what the later look says, and what it does not say, the other; no look is undone."""
    at, before_at = now[-1], before[-1]
    is_later = not pd.isna(at) and (pd.isna(before_at) or at > before_at)  # type: ignore[operator,call-overload]
    first, then = (now, before) if is_later else (before, now)
    told = [b if pd.isna(a) else a for a, b in zip(first, then, strict=True)]  # type: ignore[call-overload]
    told[-2] = True if then[-2] is True else told[-2]
    return tuple(told)


def _roles(header: list[str]) -> dict[str, int] | None:
    """Role -> column; None where a hole or exposure is named, or a role stands twice."""
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
