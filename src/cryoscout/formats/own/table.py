"""A site's own table as CSV or TSV: one line per exposure, columns known by their header or named by the reader.

The first line that is no comment (#) is the header. Between values stands a comma, a semicolon or a tab, whichever the
header has most of; values may be in double quotes; numbers have a decimal point. Case, blanks and separators of a
header are ignored, so "CTF max res (A)" is `ctfmaxresa`. Recognised headers:

    grid        grid, gridid, gridname, atlas, atlasid, sample, slot
    square      square, squareid, squarename, gridsquare, gridsquareid
    patch       patch, patchid, group, groupid, cluster, clusterid, bisgroup, holegroup, hl
    hole        hole, holeid, holename, foilhole, foilholeid, target, targetid, holenumber
    exposure    exposure, exposureid, name, micrograph, micrographname, micrographid, rlnmicrographname, image,
                imagename, filename, file, path, movie, moviename, micrographblobpath; where none of these
                stands, absfilepath
    x           x, xpx, xpixel, dx, xum, stagex, stagexum, stageposx, coordinatex, xcoord, xcoordinate
    y           y, ypx, ypixel, dy, yum, stagey, stageyum, stageposy, coordinatey, ycoord, ycoordinate
    time        time, timestamp, datetime, startedat, acquisitiontime, acquisitiondatetime, acquiredat, starttime,
                completiontime, date
    ctf         ctf, ctfmaxres, ctfmaxresangstrom, ctfmaxresa, ctfmaxresolution, rlnctfmaxresolution, maxres,
                maxresolution, maxresa, ctfresolution, ctfresolutionang, ctfresolutionangstrom, ctfres, ctffit,
                ctffittoa, ctfstatsctffittoa, ctfctffittoa, ctffitresolution, ctffitresolutiona,
                ctffitresolutionangstrom, resolution, resolutiona, resolutionangstrom, res

Predictions (`p_good`, a probability, or `score`, of any scale) are read where they are named alone: see `scores`.
Where a site's headers are others, `columns` (role -> header) or a small TOML file says which is which:

    position_unit = "um"
    [columns]
    exposure = "Image"
    ctf = "Thon rings to"

x and y are um of the stage when their header says um or stage, or `position_unit` does, else px of the parent image;
stage positions without a unit in their header that would all be within 10 nm are metres.
An exposure or a hole is needed, and stands once (a hole as often as it has exposures). Where numbers begin again in
each parent, the first place keeps the plain id and the others are called PARENT/ID, so that a table that grows gives
the same ids again; images of one name in a further folder are called FOLDER/NAME. Without a column of exposures the
exposure is called as its hole. An empty CTF resolution means "no result yet", and so does a 0 below a header of
CryoSPARC Live ("CTF fit resolution (A)", beside "abs_file_path": as users report them, without a file in the tests); a
line with a hole whose exposure, time and result are all empty, a hole that is not imaged yet. There is no specification
of such tables; this page is ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cryoscout.core.counting import counted
from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.telling import Step, no_step
from cryoscout.core.units import UM_PER_M
from cryoscout.formats.ctf.names import exposure_name, folder_of
from cryoscout.formats.ctf.records import deviations_of, parse_number, resolution_problem, shown
from cryoscout.formats.limits import FARTHEST_STAGE_UM, low_resolution_problem, pixel_problem, stage_problem
from cryoscout.formats.own.cells import NO_VALUE, CellLines, header_of, plain_header
from cryoscout.formats.own.columns import (
    FALLBACKS,
    HEADER_ALIASES,
    LIVE_RESOLUTION,
    PREDICTED,
    ROLE_OF,
    ROLES,
    ColumnMap,
    PositionUnit,
    Role,
    map_of,
)
from cryoscout.formats.own.times import OneClock
from cryoscout.formats.records import (
    AS_WRITTEN_COLUMNS,
    EXPOSURE_COLUMNS,
    HOLE_COLUMNS,
    OF_FOLDER,
    SQUARE_COLUMNS,
    SourceRecords,
)
from cryoscout.formats.text.findings import Deviation, Findings

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")


@dataclass
class GenericTable:
    """A table as it is: header, rows as text, and which column means what."""

    delimiter: str
    header: list[str]
    roles: dict[Role, int]
    """Role -> column."""
    position_unit: PositionUnit
    may_be_metres: bool = False
    """Whether x and y are of the stage, and nothing says in what."""
    rows: list[list[str]] = field(default_factory=list)
    row_lines: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def detect(path: Path) -> bool:
    """Whether a file begins with a header that names an exposure or hole and something else that we know."""
    roles = {role for cell in header_of(path) if (role := (FALLBACKS | ROLE_OF).get(plain_header(cell)))}
    return len(roles) > 1 and bool(roles & {"exposure", "hole"})


def read_source(
    path: Path,
    permissive: bool = False,
    column_map: ColumnMap | Path | None = None,
    *,
    step: Step = no_step,
) -> SourceRecords:
    """Read a table into records.

    permissive : leave deviating lines out and list them, instead of raising at the first
    column_map : which column means what, or a TOML file that says it; headers are recognised otherwise
    Raises FileFormatError (file, line) at the first deviation, and always when the header does not name an exposure
    or hole; InputError for a map that names what is not there.
    """
    findings = Findings(path, permissive, step=step)
    return _records(read_generic(path, findings, column_map), findings)


def validate(path: Path, column_map: ColumnMap | None = None, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a file, by line; an empty list for a clean one.

    column_map : which column means what; headers are recognised otherwise
    Raises InputError for a map that names what is not there.
    """
    return deviations_of(
        path, lambda file, findings: _records(read_generic(file, findings, column_map), findings), step
    )


def read_generic(path: Path, findings: Findings, column_map: ColumnMap | Path | None = None) -> GenericTable:
    """The rows of a table as text; lines of another length are reported and left out."""
    lines = CellLines(findings)
    table = _table(path, lines, map_of(column_map))
    for line, cells in lines.rows(share=0.3):
        table.rows.append(cells)
        table.row_lines.append(line)
    table.notes.extend(lines.notes())
    return table


def _table(path: Path, lines: CellLines, mapped: ColumnMap) -> GenericTable:
    line, header, delimiter = lines.header_line, lines.header, lines.delimiter
    plain = [plain_header(cell) for cell in header]
    roles: dict[Role, int] = {}
    for role in ROLES:
        if role in mapped.columns:
            wanted = plain_header(mapped.columns[role])
            found = [place for place, name in enumerate(plain) if name == wanted]
            if len(found) != 1:
                raise InputError(
                    f"The column for {role} must be one of {', '.join(header)}. "
                    f"Got {mapped.columns[role]!r} for {path.name} instead."
                )
        else:
            taken = {plain_header(name) for name in mapped.columns.values()}
            found = [
                place for place, name in enumerate(plain) if ROLE_OF.get(name) == role and name not in taken
            ]
            found = found or [
                place for place, name in enumerate(plain) if FALLBACKS.get(name) == role and name not in taken
            ]
        if len(found) > 1:
            raise FileFormatError(
                path,
                line,
                f"a header must name {role} once. Got {', '.join(header[place] for place in found)} instead. "
                f"Remedy: say which one it is (columns: {role}).",
            )
        if found:
            roles[role] = found[0]
    if "exposure" not in roles and "hole" not in roles:
        raise FileFormatError(
            path,
            line,
            f"the header of a table must name an exposure or a hole. Got {shown(delimiter.join(header))} instead. "
            f"Remedy: name the column {', '.join(HEADER_ALIASES['exposure'][:4])} ..., or say which one it is.",
        )
    if ("x" in roles) != ("y" in roles):
        raise FileFormatError(path, line, "a header must name x and y. Got only one of them instead.")
    notes = []
    unit: PositionUnit = "px"
    may_be_metres = False
    if "x" in roles:
        says_um = any(word in plain[roles["x"]] for word in ("um", "stage"))
        may_be_metres = says_um and mapped.position_unit is None and "um" not in plain[roles["x"]]
        unit = mapped.position_unit or ("um" if says_um else "px")
        if mapped.position_unit is None and not says_um and "p" not in plain[roles["x"]]:
            notes.append(
                f"{header[roles['x']]} names no unit and was read as px of the parent image; for um of the stage, "
                "import it anew with --position-unit um"
            )
    ignored = [cell for place, cell in enumerate(header) if place not in roles.values()]
    if ignored:
        notes.append(f"columns kept but not used: {', '.join(ignored)}")
    return GenericTable(delimiter, header, roles, unit, may_be_metres, notes=notes)


@dataclass
class _Columns:
    """What the rows say, one entry per good row, hole or square."""

    exposures: dict[str, list[Any]] = field(
        default_factory=lambda: {name: [] for name in EXPOSURE_COLUMNS[:6]}
    )
    holes: dict[str, tuple[object, ...]] = field(default_factory=dict)
    hole_lines: dict[str, int] = field(default_factory=dict)
    squares: dict[str, str] = field(default_factory=dict)
    told_apart: dict[str, str] = field(default_factory=dict)
    """Holes and squares whose id stands for another place too: id that we gave -> "hole" or "square"."""
    exposure_lines: dict[str, int] = field(default_factory=dict)
    as_written: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """Level and id -> what the first line calls it, and the line."""
    folders: dict[str, str] = field(default_factory=dict)
    """Exposure -> the folder that its path ends in, "" for none."""
    ctf: list[tuple[str, float, int]] = field(default_factory=list)
    shots: dict[str, int] = field(default_factory=dict)
    left_open: list[str] = field(default_factory=list)
    """What no microscope does, of the row that is taken: its value is missing."""
    kept: list[list[str]] = field(default_factory=list)
    """The whole row, as written."""
    clock: OneClock = field(default_factory=OneClock)


def _records(table: GenericTable, findings: Findings) -> SourceRecords:
    columns = _Columns()
    for place, row in enumerate(findings.told(table.rows, 0.6)):
        line = table.row_lines[place]
        problem = _take(table, columns, line, row)
        for each in [*columns.left_open, *([] if problem is None else [problem])]:
            findings.deviates(each, line)
        columns.left_open.clear()
    notes = [*table.notes, *columns.clock.notes()]
    without = len(columns.kept) - len(columns.ctf)
    if "ctf" in table.roles and without:
        notes.append(f"{without} of {len(columns.kept)} exposures have no CTF result yet")
    repeated = sum(shots > 1 for shots in columns.shots.values())
    if repeated and "x" in table.roles:
        notes.append(
            f"{counted(repeated, 'holes', 'have')} several exposures; their position is that of the first"
        )
    for what in ("hole", "square"):
        notes += told_apart_note(
            what, [given_id for given_id, level in columns.told_apart.items() if level == what]
        )
    ctf = pd.DataFrame(columns.ctf, columns=["name", "ctf_max_res_angstrom", "line"])
    if any(columns.folders.values()):
        ctf = ctf.assign(**{OF_FOLDER: [columns.folders.get(each, "") for each in ctf["name"]]})
    holes = pd.DataFrame(list(columns.holes.values()), columns=list(HOLE_COLUMNS))
    if table.may_be_metres and _are_metres(holes):
        holes[["x_um", "y_um"]] *= UM_PER_M
        notes.insert(
            0,
            f"{table.header[table.roles['x']]} was read as metres: as um all positions would be within a few nm",
        )
    square_rows = [(square, grid, np.nan, np.nan) for square, grid in columns.squares.items()]
    return SourceRecords(
        format="generic",
        path=findings.path,
        squares=pd.DataFrame(square_rows, columns=list(SQUARE_COLUMNS)),
        holes=holes,
        exposures=_exposures(table, columns),
        ctf=ctf.astype({"name": "str", "ctf_max_res_angstrom": "float64", "line": "Int64"}),
        as_written=pd.DataFrame(
            [(*key, *said) for key, said in columns.as_written.items()], columns=list(AS_WRITTEN_COLUMNS)
        ),
        deviations=tuple(findings.deviations),
        notes=tuple(notes),
    )


def _are_metres(holes: pd.DataFrame) -> bool:
    """Whether stage positions as written are metres: in um, all would be within 10 nm of the middle of the stage."""
    places = holes[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    farthest = float(np.nanmax(np.abs(places), initial=0.0)) if len(places) else 0.0
    return 0.0 < farthest * UM_PER_M <= FARTHEST_STAGE_UM


def _exposures(table: GenericTable, columns: _Columns) -> pd.DataFrame:
    """The exposures, with the columns that we do not know beside them."""
    frame: dict[str, Any] = {**columns.exposures, **dict.fromkeys(EXPOSURE_COLUMNS[6:], np.nan)}
    frame["started_at"] = pd.Series(columns.exposures["started_at"], dtype="datetime64[ns]")
    used = set(table.roles.values())
    for place, header in enumerate(table.header):
        if place not in used:
            name = f"{header} (column {place + 1})" if header in frame or not header else header
            frame[name] = [row[place] for row in columns.kept]
    # At once: a column put into a frame afterwards costs as much as all that are there.
    return pd.DataFrame(frame)


def _take(table: GenericTable, columns: _Columns, line: int, row: list[str]) -> str | None:
    """Take one row, or say what is wrong with it and leave it out."""
    # An absent role reads the empty text at the end.
    cells = [*map(str.strip, row), ""]
    grid_id, square_id, patch_id, hole_id, written, x_text, y_text, time, resolution = [
        cells[table.roles.get(role, -1)] for role in ROLES if role not in PREDICTED
    ]
    named = (hole_id, square_id)
    placed = _told_apart(columns, (hole_id, patch_id, square_id, grid_id))
    if isinstance(placed, tuple):
        hole_id, square_id = placed
    # A hole's id is no path: nothing is taken off.
    exposure_id = exposure_name(written) if "exposure" in table.roles else hole_id
    # Nothing says that the hole was imaged: no exposure of its own, no time, no result.
    if parse_number(resolution) == 0 and plain_header(table.header[table.roles["ctf"]]) in LIVE_RESOLUTION:
        resolution = ""
    if "exposure" in table.roles and exposure_id in columns.exposure_lines:
        # Images of one name in two folders.
        folder = folder_of(written)
        if folder and columns.folders[exposure_id] not in ("", folder):
            exposure_id = f"{folder}/{exposure_id}"
    told = (written if "exposure" in table.roles else "", time, resolution)
    is_hole_alone = bool(hole_id) and all(text.lower() in NO_VALUE for text in told)
    written = hole_id if is_hole_alone else written
    exposure_id = "" if is_hole_alone else exposure_id
    problem = _ids_problem(table, columns, hole_id, exposure_id, written)
    if problem is not None or isinstance(placed, str):
        return problem or str(placed)
    x, y = _number(x_text, "x"), _number(y_text, "y")
    for value in (x, y):
        if isinstance(value, str):
            return value
    check = stage_problem if table.position_unit == "um" else pixel_problem
    problems = [check(float(value), role) for value, role in ((x, "x"), (y, "y"))]
    if any(problems):
        columns.left_open += filter(None, problems)
        x = y = np.nan
    started_at = None if time.lower() in NO_VALUE else columns.clock.of(time)
    if isinstance(started_at, str):
        return started_at
    if resolution.lower() not in NO_VALUE:
        too_low = low_resolution_problem(parse_number(resolution) or np.nan)
        if too_low is not None:
            columns.left_open.append(too_low)
            resolution = ""
    if resolution.lower() not in NO_VALUE:
        problem = resolution_problem(resolution)
        if problem is not None:
            remedy = " Remedy: leave the cell of an exposure without result empty."
            return _decimal_comma(resolution, "ctf") or problem + (
                remedy if resolution.startswith("-") else ""
            )
        columns.ctf.append((exposure_id, float(resolution), line))
    if hole_id and hole_id not in columns.holes:
        unknown = (np.nan, np.nan)
        places = (x, y, *unknown) if table.position_unit == "um" else (*unknown, x, y)
        columns.holes[hole_id] = (hole_id, patch_id, square_id, grid_id, *places, pd.NA)
        columns.hole_lines[hole_id] = line
        columns.as_written["hole", hole_id] = named[0], line
    if square_id and square_id not in columns.squares:
        columns.squares[square_id] = grid_id
        columns.as_written["square", square_id] = named[1], line
    for what, given, own in zip(("hole", "square"), (hole_id, square_id), named, strict=True):
        if given != own:
            columns.told_apart[given] = what
    if is_hole_alone:
        return None
    columns.exposure_lines[exposure_id] = line
    columns.folders[exposure_id] = folder_of(written) if "exposure" in table.roles else ""
    if "exposure" in table.roles:
        columns.as_written["exposure", exposure_id] = written, line
    shot_key = ""
    if hole_id:
        columns.shots[hole_id] = shot = columns.shots.get(hole_id, 0) + 1
        shot_key = str(shot)
    values = (exposure_id, hole_id, square_id, grid_id, shot_key, started_at)
    for column, entry in zip(columns.exposures.values(), values, strict=True):
        column.append(entry)
    columns.kept.append(row)
    return None


def _ids_problem(
    table: GenericTable, columns: _Columns, hole_id: str, exposure_id: str, written: str
) -> str | None:
    """What is wrong with the hole and exposure of a row."""
    if "exposure" in table.roles and written.lower() in NO_VALUE:
        return f"a line must name its exposure. Got {written!r} instead."
    if "hole" in table.roles and hole_id.lower() in NO_VALUE:
        return f"a line must name its hole. Got {hole_id!r} instead."
    if exposure_id in columns.exposure_lines:
        return (
            f"an exposure must stand once. Got {shown(exposure_id)} again instead "
            f"(first on line {columns.exposure_lines[exposure_id]}). Remedy: {_remedy_for_twice(table)}."
        )
    return None


def _remedy_for_twice(table: GenericTable) -> str:
    if "exposure" not in table.roles:
        return "where a hole has several exposures, name each in a column exposure; else keep one line of it"
    return (
        "keep one line of it; where images of two folders have one name, write both with their folders, and where the "
        "folders have one name too, give them names of their own"
    )


TOLD_APART = "told apart by the place, such as"
"""In the note on ids that have their parents before them."""


def told_apart_note(what: str, given: Sequence[str]) -> list[str]:
    """That these ids have their parents before them, because another place has them without; none of no id."""
    if not given:
        return []
    return [
        f"{counted(len(given), what + 's', 'have')} the id of a {what} of another place: {TOLD_APART} {given[0]}"
    ]


def _told_apart(columns: _Columns, place: tuple[str, str, str, str]) -> tuple[str, str] | str:
    """Ids of hole and square that mean this place alone, or what is wrong.

    place : hole, patch, square, grid as written. An id that another place has already gets its parents before it.
    """
    hole_id, patch_id, square_id, grid_id = place
    grid_of_square = columns.squares.get(square_id, grid_id)
    if square_id and grid_of_square != grid_id:
        if not (grid_of_square and grid_id):
            return (
                f"a square must be in one grid. Got {shown(square_id)} in another instead. "
                "Remedy: name the grid in every line of the square, or in none."
            )
        square_id = f"{grid_id}/{square_id}"
    above = (patch_id, square_id, grid_id)
    parent = square_id or grid_id
    for key in (hole_id, f"{parent}/{hole_id}", f"{parent}/{patch_id}/{hole_id}"):
        known = columns.holes.get(key)
        if not hole_id or known is None or known[1:4] == above:
            return key, square_id
        if not any(one and other and one != other for one, other in zip(known[1:4], above, strict=True)):
            break
    return (
        f"a hole must be in one patch, square and grid. Got {shown(hole_id)} in another instead "
        f"(first on line {columns.hole_lines[key]}). Remedy: name the same ones in every line of the hole."
    )


def _number(text: str, role: str) -> float | str:
    """A coordinate, NaN for an empty cell; or what is wrong with it."""
    if text.lower() in NO_VALUE:
        return float("nan")
    value = parse_number(text)
    if value is None or not abs(value) < float("inf"):
        return _decimal_comma(text, role) or f"{role} must be a finite number. Got {shown(text)} instead."
    return value


def _decimal_comma(text: str, role: str) -> str | None:
    if _DECIMAL_COMMA.fullmatch(text) is None:
        return None
    return (
        f"{role} must be a number with a decimal point. Got {shown(text)} instead. "
        "Remedy: export the table with decimal points."
    )
