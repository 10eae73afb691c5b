"""Which hole of a session each line of a table of predictions is of: by its name, and by the square and grid it says.

Numbers begin anew in each square or grid of a session: there hole 1 of another square is called B/1. A line with
columns for grid and square is of the hole of that name in them, whether the name has its parents before it or not; one
that says a place without such a hole, or no place where several holes have its name, is of none, and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import DataError
from cryoscout.formats.own.scores import SaidPlace, ScoreTable
from cryoscout.intake.assemble_names import joined_by_name, movie_folders
from cryoscout.intake.holes_by_name import HolesByName, names_of
from cryoscout.session.joins import JoinReport
from cryoscout.session.model import Session

_EPU_HOLE = re.compile(r"FoilHole_([0-9]+)(?:_|$)")
_UNKNOWN = "no hole or exposure of the session has the name"
_CONTRADICTS = "the square or grid that they say has no such hole"
_SEVERAL = "holes of several squares or grids have the name: say which in columns grid and square"
_NAMES_SHOWN = 3


def holes_predicted(session: Session, table: ScoreTable) -> tuple[NDArray[np.int64], JoinReport, list[str]]:
    """The hole of each line, (len(names),), -1 for none; how the names joined; and notes.

    Raises DataError where nothing joins, or two lines that are no images are of one hole.
    """
    said, notes = _said_of(session, table)
    holes = HolesByName.of_session(session)
    place = np.full(len(table.names), -1, dtype=np.int64)
    why: dict[int, str] = {}
    by_name: list[int] = []  # lines that name the hole itself
    writes_ids = any("/" in name and name in holes.row_of for name in table.names)
    for row, (name, where) in enumerate(zip(table.names, said, strict=True)):
        image = _EPU_HOLE.match(name) if session.info.format == "epu" else None
        called = image[1] if image else name
        if not holes.called(called):
            why[row] = _UNKNOWN
            continue
        inside = holes.inside(holes.called(called, where.square), where)
        if len(inside) > 1 and writes_ids and holes.row_of.get(name) in inside:
            inside = [holes.row_of[name]]
        if len(inside) == 1:
            place[row] = inside[0]
            by_name += [] if image else [row]
        else:
            why[row] = _SEVERAL if inside else _CONTRADICTS
    _refuse_twice(table, {row: holes.ids[place[row]] for row in by_name})
    unknown = [row for row, reason in why.items() if reason == _UNKNOWN]
    if unknown and len(session.exposures):
        _join_exposures(session, table, said, unknown, place, why, holes)
    lost = [row for row in range(len(place)) if place[row] < 0]
    reasons = Counter(why[row] for row in lost)
    in_words = "; ".join(
        reason if len(reasons) == 1 else f"{count}: {reason}" for reason, count in reasons.items()
    )
    if len(lost) == len(place):
        told = "" if set(reasons) <= {_UNKNOWN} else f" ({in_words})"
        raise DataError(
            f"The names of {table.path.name} must be holes or exposures of session {session.name}. Got "
            f"{', '.join(table.names[:3]) or 'none'} instead{told}; its holes are {', '.join(holes.ids[:3])}, ... "
            "Remedy: name the column of the holes with --column hole=NAME."
        )
    report = JoinReport(
        what=_what(table),
        found=len(place),
        joined=len(place) - len(lost),
        first_not_joined=tuple(table.names[row] for row in lost[:_NAMES_SHOWN]),
        why=in_words,
    )
    return place, report, notes


def _what(table: ScoreTable) -> str:
    return f"{table.kind} of {table.path.name}"


def _said_of(session: Session, table: ScoreTable) -> tuple[list[SaidPlace], list[str]]:
    """What the lines say of places, without columns in which nothing of the session is named; and notes on these."""
    said, notes = list(table.said), []
    levels = (("grid", session.squares["grid_id"]), ("square", session.squares["square_id"]))
    for level, ids in levels:
        written = [text for each in said if (text := getattr(each, level))]
        known = {name for item_id in ids for name in names_of(item_id)}
        if written and not known.intersection(written):
            notes.append(
                f"no {level} of the session has a name of the column {level} of {table.path.name} (first: "
                f"{written[0]}; the session has {ids.iloc[0]}): the column was not used"
            )
            said = [replace(each, **{level: ""}) for each in said]
    return said, notes


def _refuse_twice(table: ScoreTable, meant: Mapping[int, str]) -> None:
    """Two lines of one thing contradict each other.     meant : line -> the hole or image that it says"""
    first: dict[str, int] = {}
    for row, each in meant.items():
        before = first.setdefault(each, row)
        if before != row:
            raise DataError(
                f"{table.path.name}, line {table.lines[row]}: a name must stand once. Got {each!r} again instead "
                f"(first on line {table.lines[before]}). Remedy: keep one line of it, or name its square and grid as "
                "the session has them."
            )


def _join_exposures(
    session: Session,
    table: ScoreTable,
    said: Sequence[SaidPlace],
    rows: Sequence[int],
    place: NDArray[np.int64],
    why: dict[int, str],
    holes: HolesByName,
) -> None:
    """Give the lines that name no hole the hole of the exposure that they name, in the place that they say."""
    ids = session.exposures["exposure_id"].tolist()
    hole_of = np.array([holes.row_of[each] for each in session.exposures["hole_id"]], dtype=np.int64)
    folders = movie_folders(ids, session.vendor_fields)
    # By what a line may call the square of an exposure, "" where it says none: there are as many groups as squares.
    candidates: dict[str, list[int]] = {"": list(range(len(ids)))}
    for exposure, hole in enumerate(hole_of.tolist()):
        for name in names_of(holes.squares[hole]):
            candidates.setdefault(name, []).append(exposure)
    groups: dict[SaidPlace, list[int]] = {}
    for row in rows:
        groups.setdefault(replace(said[row], patch="", folder=""), []).append(row)
    joined = np.full(len(place), -1, dtype=np.int64)
    for where, some in groups.items():
        inside = [row for row in candidates.get(where.square, ()) if holes.is_in(int(hole_of[row]), where)]
        own = [ids[each] for each in inside]
        bare = Counter(each.rpartition("/")[2] for each in own)
        also = {
            name: each
            for each in own
            if "/" in each and where != SaidPlace() and bare[name := each.rpartition("/")[2]] == 1
        }
        at, report = joined_by_name(
            [table.names[row] for row in some],
            None,
            own,
            _what(table),
            also,
            folders=[said[row].folder for row in some],
            movie_folders=folders,
        )
        for row, found in zip(some, at.tolist(), strict=True):
            if found >= 0:
                joined[row] = inside[found]
            elif "several folders" in report.why:
                why[row] = "images of several folders have the name, or nothing has it"
    # Several images of an exposure are no contradiction.
    meant = {row: f"{ids[joined[row]]} ({table.names[row]})" for row in rows if joined[row] >= 0}
    _refuse_twice(table, meant)
    found_rows = joined >= 0
    place[found_rows] = hole_of[joined[found_rows]]
