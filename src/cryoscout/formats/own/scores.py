"""Predictions in a site's own table: one line per hole or exposure, with a probability of a good micrograph or a score.

Which column holds them is always said, `--column p_good=NAME` or `--column score=NAME`: a header alone may mean
anything, and `p_good` of a list that a plan was exported to is no new prediction. Names may begin anew in each square
or grid where columns say which one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryoscout.core.counting import counted
from cryoscout.core.errors import FileFormatError
from cryoscout.formats.ctf.names import exposure_name, folder_of
from cryoscout.formats.ctf.records import parse_number, shown
from cryoscout.formats.own.cells import NO_VALUE
from cryoscout.formats.own.columns import PREDICTED, ColumnMap, Role, map_of
from cryoscout.formats.own.table import GenericTable, read_generic
from cryoscout.formats.text.findings import Deviation, Findings

ScoreKind = Literal["p_good", "score"]

_PLAIN_NUMBER = " Remedy: write a number alone, with a decimal point, or leave the cell empty."


@dataclass(frozen=True)
class SaidPlace:
    """Where a line says that its hole is, as written; "" for what it does not say."""

    grid: str = ""
    square: str = ""
    patch: str = ""
    folder: str = ""
    """Of the image that the line names."""


@dataclass(frozen=True)
class ScoreTable:
    """What a table predicts, in the order of its lines."""

    path: Path
    kind: ScoreKind
    names: tuple[str, ...]
    """Hole as written, or exposure as `exposure_name` writes it."""
    of_holes: bool
    """Whether the names are of a column of holes."""
    values: tuple[float, ...]
    said: tuple[SaidPlace, ...]
    lines: tuple[int, ...]
    deviations: tuple[Deviation, ...]
    notes: tuple[str, ...]


def names_predictions(column_map: ColumnMap | Path | None) -> bool:
    """Whether a column map says where predictions stand. Raises the errors of `map_of`."""
    return any(role in map_of(column_map).columns for role in PREDICTED)


def read_scores(path: Path, column_map: ColumnMap | Path, permissive: bool = False) -> ScoreTable:
    """The predictions of a table; lines without a value are counted in the notes.

    Raises FileFormatError (file, line) at the first deviation unless permissive: a value that is no number, a
    probability outside 0..1, a name that is empty or stands twice in one place; InputError for a map that names what
    is not there or both kinds of predictions.
    """
    findings = Findings(path, permissive)
    table = read_generic(path, findings, column_map)
    kinds = [role for role in PREDICTED if role in table.roles]
    if len(kinds) != 1:
        raise FileFormatError(
            path,
            None,
            f"a table of predictions must have p_good or score. Got {' and '.join(kinds) or 'none'} instead.",
        )
    kind: ScoreKind = "p_good" if kinds[0] == "p_good" else "score"
    of_holes = "hole" in table.roles
    name_at, value_at = table.roles["hole" if of_holes else "exposure"], table.roles[kind]
    first_line: dict[tuple[str, SaidPlace], int] = {}
    values: list[float] = []
    empty = 0
    for line, row in zip(table.row_lines, table.rows, strict=True):
        written, text = row[name_at].strip(), row[value_at].strip()
        name = written if of_holes else exposure_name(written)
        value = parse_number(text)
        key = name, _said_place(table, row, "" if of_holes else folder_of(written))
        if text.lower() in NO_VALUE:
            empty += 1
        elif not name:
            findings.deviates("a line must name its hole or exposure. Got nothing instead.", line)
        elif key in first_line:
            findings.deviates(
                f"a name must stand once in its square and grid. Got {shown(name)} again instead (first on line "
                f"{first_line[key]}).",
                line,
            )
        elif value is None or not math.isfinite(value):
            remedy = (
                " Remedy: write a share between 0 and 1, for example 0.12."
                if kind == "p_good"
                else _PLAIN_NUMBER
            )
            findings.deviates(f"{kind} must be a finite number. Got {shown(text)} instead.{remedy}", line)
        elif kind == "p_good" and not 0 <= value <= 1:
            findings.deviates(
                f"p_good must be between 0 and 1. Got {shown(text)} instead. Remedy: for a score of another scale use "
                "--column score=NAME; results turn it into probabilities.",
                line,
            )
        else:
            first_line[key] = line
            values.append(value)
    notes = [f"{counted(empty, 'lines', 'have')} no {kind}"] if empty else []
    return ScoreTable(
        path,
        kind,
        tuple(name for name, _ in first_line),
        of_holes,
        tuple(values),
        tuple(said for _, said in first_line),
        tuple(first_line.values()),
        tuple(findings.deviations),
        tuple(notes),
    )


def _said_place(table: GenericTable, row: list[str], folder: str) -> SaidPlace:
    levels: tuple[Role, ...] = ("grid", "square", "patch")
    cells = (row[table.roles[level]].strip() if level in table.roles else "" for level in levels)
    grid, square, patch = ("" if cell.lower() in NO_VALUE else cell for cell in cells)
    return SaidPlace(grid, square, patch, folder)
