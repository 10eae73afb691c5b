"""Own tables: which hole of the session each line is of, and what a hole is called that is new.

Numbers begin anew in each square or grid, and a later table names what it has results of, in its own order. So what a
table calls a hole counts in the place that its line says, never what the reader called it within the table:

    place known, hole known in it     that hole, whatever it is called; exposures that a hole names are its exposures
    place known, hole not             a new hole, PARENT/HOLE where its number is taken
    place new, number taken           refused, unless the table names places of the session too, and so is of both:
                                      it may be that the same place is only called otherwise
    no place, number of several       refused, unless the table calls holes as the session does (B/1)

A place that no file named before may be any; a hole that stands where the one of its name does is that one, whatever
its square is called. Tables that are read together are told apart by the same rules, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import pandas as pd

from cryoscout.core.errors import DataError
from cryoscout.formats.clusters import SAME_PLACE_UM
from cryoscout.formats.ctf.names import exposure_name, folder_of
from cryoscout.formats.own.scores import SaidPlace
from cryoscout.formats.own.table import TOLD_APART, told_apart_note
from cryoscout.formats.records import SourceRecords
from cryoscout.intake.holes_by_name import may_be, names_of
from cryoscout.intake.known_own_places import FORMAT, KnownOwnPlaces, text_of
from cryoscout.session.live_exposures import shot_of_live_id
from cryoscout.session.model import Session


def own_places_told_apart(sources: Sequence[SourceRecords], stored: Session | None) -> list[SourceRecords]:
    """The tables with the ids under which their squares, holes and exposures are, or will be, stored.

    sources : of a session of own tables     stored : the session that they extend
    Raises DataError (file, line) where a line may be of several holes, two lines are of one, and as above.
    """
    known = KnownOwnPlaces() if stored is None else KnownOwnPlaces.of_session(stored)
    told: list[SourceRecords] = []
    for source in sources:
        if stored is None and not told:
            told.append(source)  # the first table tells its own places apart
        else:
            told.append(_Told(source, known).records())
        known.add(told[-1])
    return told


def names_grids(source: SourceRecords, grids: Collection[str]) -> bool:
    """Whether a site's own table names some of these grids itself."""
    tables = (source.squares, source.holes, source.exposures) if source.format == FORMAT else ()
    return any(table["grid_id"].isin(list(grids)).any() for table in tables)


@dataclass(frozen=True)
class _Line:
    """A hole of a table: the first line of it."""

    own_id: str
    """As the reader called it within the table."""
    name: str
    """As written."""
    square: str
    """As the reader called it within the table."""
    where: SaidPlace
    x_um: float
    y_um: float
    number: int
    """1 = the first of the file; 0 unknown."""


class _Told:
    """One table against what is known."""

    def __init__(self, source: SourceRecords, known: KnownOwnPlaces) -> None:
        self.source, self.known = source, known
        self._written: dict[str, dict[str, tuple[str, int]]] = {"square": {}, "hole": {}, "exposure": {}}
        for level, own_id, written, line in source.as_written.itertuples(index=False, name=None):
            self._written[level][own_id] = written, int(line)
        self._grid_of = {
            square: text_of(grid)
            for square, grid in zip(source.squares["square_id"], source.squares["grid_id"], strict=True)
        }
        self._lines = list(self._lines_of_holes())
        self._squares_called: dict[str, list[str]] = {}
        for square in known.squares:
            for name in names_of(square):
                self._squares_called.setdefault(name, []).append(square)
        self._writes_ids = any("/" in line.name and line.name in known.holes.row_of for line in self._lines)
        self._row: dict[str, int] = {}
        """Hole as the reader called it -> row of the known one."""
        self._line_of_row: dict[int, _Line] = {}
        self._of_other_patch: list[tuple[_Line, int]] = []
        """Lines and the only hole of their name in their square, which is in another patch."""

    def records(self) -> SourceRecords:
        """The table with the ids under which everything is, or will be, stored."""
        for line in self._lines:
            self._find(line)
        # Where a line says the hole's own patch, one of another patch is a further hole.
        left = [(line, row) for line, row in self._of_other_patch if row not in self._line_of_row]
        for line, row in left:
            self._take(line, row)
        for line in self._lines:
            if line.own_id not in self._row:
                self._find_by_position(line)
        squares = self._squares()
        holes = self._holes(squares)
        exposures = self._exposures(holes, squares)
        return self._renamed(squares, holes, exposures)

    def _lines_of_holes(self) -> Iterable[_Line]:
        columns = ["hole_id", "patch_id", "square_id", "grid_id", "x_um", "y_um"]
        for own_id, patch, square, grid, x_um, y_um in self.source.holes[columns].itertuples(
            index=False, name=None
        ):
            name, number = self._written["hole"].get(own_id, (own_id, 0))
            where = SaidPlace(text_of(grid), self._called("square", text_of(square)), text_of(patch))
            yield _Line(own_id, name, text_of(square), where, float(x_um), float(y_um), number)

    def _called(self, level: str, own_id: str) -> str:
        return self._written[level].get(own_id, (own_id, 0))[0]

    def _find(self, line: _Line) -> None:
        """The known hole of a line, by its name in the place that it says."""
        holes = self.known.holes
        inside = [row for row in holes.called(line.name, line.where.square) if holes.is_in(row, line.where)]
        surely = [row for row in inside if self._is_said(row, line.where)]
        inside = surely or inside
        if line.where.patch and len({holes.squares[row] for row in inside}) == 1:
            of_patch = [row for row in inside if may_be(holes.patches[row], line.where.patch)]
            # Where numbers begin anew in each patch, one in a further patch is a further hole.
            elsewhere = (
                len(inside) > 1 or self.known.apart_um(inside[0], line.x_um, line.y_um) > SAME_PLACE_UM
            )
            if not of_patch and not elsewhere:
                self._of_other_patch.append((line, inside[0]))
            inside = of_patch
        if len(inside) > 1:
            exact = [row for row in inside if holes.ids[row] == line.name]
            here = [row for row in inside if self.known.apart_um(row, line.x_um, line.y_um) <= SAME_PLACE_UM]
            if self._writes_ids and exact:
                inside = exact
            elif len(here) == 1:
                inside = here
        if len(inside) > 1:
            self._refuse_several(line, inside)
        if inside:
            self._take(line, inside[0])

    def _is_said(self, row: int, where: SaidPlace) -> bool:
        """Whether a hole is known to be in the grid and square that a line says."""
        holes = self.known.holes
        said = ((where.grid, holes.grids[row]), (where.square, holes.squares[row]))
        return all(item_id for text, item_id in said if text)

    def _find_by_position(self, line: _Line) -> None:
        """The known hole of the name that stands where the line says, where its square is only called otherwise."""
        holes = self.known.holes
        if self._known_squares(line.where.square, line.where.grid):
            return
        here = [
            row
            for row in holes.called(line.name)
            if may_be(holes.grids[row], line.where.grid)
            and self.known.apart_um(row, line.x_um, line.y_um) <= SAME_PLACE_UM
            and row not in self._line_of_row
        ]
        if len(here) == 1:
            self._take(line, here[0])

    def _take(self, line: _Line, row: int) -> None:
        before = self._line_of_row.setdefault(row, line)
        if before is not line:
            other_grid = self.known.is_stored and before.where.grid != line.where.grid
            names_none = other_grid and not any(self.known.holes.grids)
            remedy = (
                "the session names no grid, so it can be neither: import its holes anew into a new place with -o, with "
                "a column grid"
                if names_none
                else "keep one line of it; where they are two holes, import one table of all squares and grids into a "
                "new place with -o"
            )
            raise DataError(
                f"{self._at(line)}: a hole must be of one place and name. Got {_in_words(before)} (line "
                f"{before.number}) and {_in_words(line)}, which are both {_known_in_words(self.known, row)} instead. "
                f"Remedy: {remedy}."
            )
        self._row[line.own_id] = row

    def _known_squares(self, name: str, grid: str) -> list[str]:
        """Known squares of a name, in the grid if one is said."""
        if not name:
            return []
        found = [
            square
            for square in self._squares_called.get(name, ())
            if may_be(self.known.squares[square], grid)
        ]
        surely = [square for square in found if grid and self.known.squares[square]]
        return surely or found

    def _squares(self) -> dict[str, str]:
        """Square as the reader called it -> the known one, or what a new one is called.

        "" for one that is none of its own: its holes are of several known ones, or of one that no file named.
        """
        told: dict[str, str] = {}
        found: dict[str, set[str]] = {}
        has_new = {line.square for line in self._lines if line.own_id not in self._row}
        for line in self._lines:
            found.setdefault(line.square, set())
            if line.own_id in self._row:
                found[line.square].add(self.known.holes.squares[self._row[line.own_id]])
        taken = set(self.known.squares)
        for square, grid in self._grid_of.items():
            name = self._called("square", square)
            known = self._known_squares(name, grid)
            if len(known) > 1 and name in known and self.source.as_written.empty:
                known = [name]  # a table of squares calls them as the session does
            of_holes = found.get(square, set()) - {""}
            if len(known) == 1:
                told[square] = known[0]
            elif of_holes:
                told[square] = of_holes.pop() if len(of_holes) == 1 else ""
            elif len(known) > 1 or (self.known.is_stored and found.get(square) and square not in has_new):
                told[square] = ""
            elif name not in taken or not grid or self.source.as_written.empty:
                told[square] = name
            else:
                told[square] = f"{grid}/{name}"
            taken.add(told[square])
        return told

    def _holes(self, squares: Mapping[str, str]) -> dict[str, str]:
        """Hole as the reader called it -> the known one, or what a new one is called."""
        known = self.known.holes
        named_squares = {known.squares[row] for row in self._line_of_row} - {""}
        named_grids = {known.grids[row] for row in self._line_of_row} - {""}
        grids = {*known.grids} - {""}
        told = {own_id: known.ids[row] for own_id, row in self._row.items()}
        refused: list[tuple[_Line, int]] = []
        taken = {*known.ids}
        for line in self._lines:
            if line.own_id in told:
                continue
            row = known.row_of.get(line.name)
            squares_said = self._known_squares(line.where.square, line.where.grid)
            if len(squares_said) > 1 and not squares.get(line.square):
                self._refuse_square(line, squares_said)
            if row is None and line.name not in taken:
                told[line.own_id] = line.name
                taken.add(line.name)
                continue
            if row is not None:
                is_known = bool(squares_said) or (not line.where.square and line.where.grid in grids)
                of_both = known.squares[row] in named_squares or (
                    not known.squares[row] and known.grids[row] in named_grids
                )
                if not (is_known or of_both):
                    refused.append((line, row))
            parent = squares.get(line.square, line.square) or line.where.grid
            keys = [f"{parent}/{line.name}", f"{parent}/{line.where.patch}/{line.name}"]
            free = [key for key in keys if key not in taken]
            if not free:
                refused.append((line, known.row_of.get(keys[0], row or 0)))
                continue
            told[line.own_id] = free[0]
            taken.add(free[0])
        if refused:
            self._refuse_taken(refused)
        return told

    def _exposures(self, holes: Mapping[str, str], squares: Mapping[str, str]) -> dict[str, str]:
        """Exposure as the reader called it -> the known one, or what a new one is called."""
        told: dict[str, str] = {}
        taken: dict[str, str] = {}
        rows = zip(self.source.exposures["exposure_id"], self.source.exposures["hole_id"], strict=True)
        own_ids = {(holes.get(text_of(hole), ""), own_id) for own_id, hole in rows}
        columns = ["exposure_id", "hole_id", "square_id", "grid_id"]
        for own_id, hole, square, grid in self.source.exposures[columns].itertuples(index=False, name=None):
            hole_id = holes.get(text_of(hole), "")
            if own_id not in self._written["exposure"]:
                name = self._exposure_of_hole(hole_id, text_of(hole)) if hole_id else own_id
            else:
                where = SaidPlace(text_of(grid), self._called("square", text_of(square)))
                name = self._image(own_id, hole_id, where, own_ids)
                if not hole_id and name not in self.known.hole_of and not squares.get(text_of(square), "new"):
                    self._refuse_square(
                        _Line(
                            own_id,
                            name,
                            square,
                            where,
                            math.nan,
                            math.nan,
                            self._written["exposure"][own_id][1],
                        ),
                        self._known_squares(where.square, where.grid),
                    )
            first = taken.setdefault(name, own_id)
            if first != own_id:
                raise DataError(
                    f"{self.source.path}: an exposure must stand once. Got {first!r} and {own_id!r}, which are both "
                    f"exposure {name!r}, instead. Remedy: keep one line of it."
                )
            told[own_id] = name
        return told

    def _exposure_of_hole(self, hole_id: str, own_id: str) -> str:
        """The exposure that a line means which names its hole alone; own_id : the hole as the reader called it."""
        of_hole = [each for each in self.known.exposures_of.get(hole_id, ()) if shot_of_live_id(each) is None]
        if hole_id in of_hole:
            return hole_id
        if not of_hole:
            other = self.known.hole_of.get(hole_id, hole_id)
            if other != hole_id:
                raise DataError(
                    f"{self.source.path}: an exposure must be of one hole. Got {hole_id!r} of the hole of that name, "
                    f"which is an exposure of hole {other!r}, instead. Remedy: name the exposure otherwise, in a "
                    "column exposure."
                )
            return hole_id
        if len(of_hole) > 1:
            # A table that is read again means what it meant before the hole had more exposures.
            before = [each for each in of_hole if each in self.known.told_by.get(self.source.path.name, ())]
            if len(before) == 1:
                return before[0]
            number = self._written["hole"].get(own_id, (own_id, 0))[1]
            at = f"{self.source.path}, line {number}" if number else str(self.source.path)
            raise DataError(
                f"{at}: a line must name its exposure where the hole has several. Got hole {hole_id!r} with "
                f"{', '.join(of_hole[:3])} instead. Remedy: name the exposure in a column exposure."
            )
        return of_hole[0]

    def _image(
        self, own_id: str, hole_id: str, where: SaidPlace, own_ids: Collection[tuple[str, str]]
    ) -> str:
        """The known image of the name that is of this hole or place; of another's name, FOLDER/NAME.

        own_ids : hole and own id of all exposures of the table
        """
        written, number = self._written["exposure"][own_id]
        bare, folder = exposure_name(written), folder_of(written)
        if hole_id:
            here = [
                each
                for each in self.known.exposures_of.get(hole_id, ())
                if each == own_id or (bare in names_of(each) and (hole_id, each) not in own_ids)
            ]
            of_folder = [each for each in here if folder and each == f"{folder}/{bare}"]
            if of_folder or own_id in here:
                return of_folder[0] if of_folder else own_id
            if len(here) == 1:
                return here[0]
        for each in (own_id, *([f"{folder}/{bare}"] if folder else [])):
            of = self.known.hole_of.get(each)
            if of is None or (of in (each, hole_id) if hole_id else self._may_be_in(each, where)):
                return each
        place = f"hole {hole_id!r}" if hole_id else "another place"
        raise DataError(
            f"{self.source.path}, line {number}: an exposure must be of one hole. Got {bare!r} of {place}, which is an "
            f"exposure of hole {self.known.hole_of[own_id]!r}, instead. Remedy: write images of one name with their "
            "folders, FOLDER/NAME, or give them names of their own."
        )

    def _may_be_in(self, exposure_id: str, where: SaidPlace) -> bool:
        place = self.known.place_of[exposure_id]
        return may_be(place.grid, where.grid) and may_be(place.square, where.square)

    def _renamed(
        self, squares: Mapping[str, str], holes: Mapping[str, str], exposures: Mapping[str, str]
    ) -> SourceRecords:
        known = self.known
        source = self.source

        def square_of(hole: str, square: str) -> str:
            row = self._row.get(hole)
            return (known.holes.squares[row] if row is not None else "") or squares.get(square, square)

        def grid_of(square: str, grid: str) -> str:
            before = known.squares.get(square)
            if before is None or not may_be(before, grid):
                return grid
            # A stored grid that no file named keeps its name.
            return before if known.is_stored else before or grid

        hole_rows = list(zip(source.holes["hole_id"], source.holes["square_id"], strict=True))
        hole_squares = [square_of(hole, text_of(square)) for hole, square in hole_rows]
        shot_rows = zip(source.exposures["hole_id"], source.exposures["square_id"], strict=True)
        shot_squares = [square_of(text_of(hole), text_of(square)) for hole, square in shot_rows]
        kept = [bool(squares[square]) for square in self._grid_of]
        own_squares = source.squares[pd.Series(kept, index=source.squares.index, dtype=bool)]
        square_ids = [squares[square] for square in own_squares["square_id"]]
        return replace(
            source,
            squares=own_squares.assign(
                square_id=_column(square_ids),
                grid_id=_column(map(grid_of, square_ids, own_squares["grid_id"])),
            ).drop_duplicates("square_id"),
            patches=source.patches.assign(
                square_id=_column(squares.get(each, each) for each in source.patches["square_id"])
            ),
            holes=source.holes.assign(
                hole_id=_column(holes[hole] for hole, _ in hole_rows),
                square_id=_column(hole_squares),
                grid_id=_column(map(grid_of, hole_squares, source.holes["grid_id"])),
            ),
            exposures=source.exposures.assign(
                exposure_id=_column(exposures[each] for each in source.exposures["exposure_id"]),
                hole_id=_column(holes.get(text_of(each), "") for each in source.exposures["hole_id"]),
                square_id=_column(shot_squares),
                grid_id=_column(map(grid_of, shot_squares, source.exposures["grid_id"])),
            ),
            ctf=source.ctf.assign(name=_column(exposures.get(each, each) for each in source.ctf["name"])),
            notes=self._notes(squares, holes),
        )

    def _notes(self, squares: Mapping[str, str], holes: Mapping[str, str]) -> tuple[str, ...]:
        """The reader's, but for its own ids: what is told apart are new holes and squares under their last ids."""
        new_holes = [line for line in self._lines if line.own_id not in self._row]
        new_squares = [square for square in self._grid_of if squares[square] not in self.known.squares]
        return (
            *(note for note in self.source.notes if TOLD_APART not in note),
            *told_apart_note(
                "hole", [holes[each.own_id] for each in new_holes if holes[each.own_id] != each.name]
            ),
            *told_apart_note(
                "square",
                [
                    squares[each]
                    for each in new_squares
                    if squares[each] not in ("", self._called("square", each))
                ],
            ),
        )

    def _at(self, line: _Line) -> str:
        return f"{self.source.path}, line {line.number}"

    def _refuse_several(self, line: _Line, rows: Sequence[int]) -> NoReturn:
        holes = self.known.holes
        levels = [
            level
            for level, ids in (("grid", holes.grids), ("square", holes.squares), ("patch", holes.patches))
            if len({ids[row] for row in rows}) > 1
        ] or ["grid", "square"]
        say = " and ".join(levels)
        may_be_of = ", ".join(_known_in_words(self.known, row) for row in rows[:3])
        raise DataError(
            f"{self._at(line)}: a line must say which hole it is of, where several have its name. Got "
            f"{_in_words(line)}, which may be {may_be_of} instead. Remedy: name the {say} in "
            f"{'a column' if len(levels) == 1 else 'columns'} {say}."
        )

    def _refuse_square(self, line: _Line, squares: Sequence[str]) -> NoReturn:
        in_grids = ", ".join(f"{square} of grid {self.known.squares[square]}" for square in squares[:3])
        raise DataError(
            f"{self._at(line)}: a line must say which square it is of, where several have its name. Got "
            f"{_in_words(line)}, which may be in {in_grids} instead. Remedy: name the grid in a column grid."
        )

    def _refuse_taken(self, refused: Sequence[tuple[_Line, int]]) -> NoReturn:
        line, row = refused[0]
        holes = self.known.holes
        grid, square = holes.grids[row], holes.squares[row]
        where = line.where
        if where.square and square and where.square not in names_of(square):
            level, here, before = "square", where.square, square
        elif where.grid and grid and where.grid not in names_of(grid):
            level, here, before = "grid", where.grid, grid
        else:
            level, here, before = "patch", where.patch, holes.patches[row]
        of = "session" if self.known.is_stored else "table before"
        raise DataError(
            f"{self._at(line)}: a hole_id must stand for one place. Got {line.name!r} in {level} {here!r} and, in the "
            f"{of}, in {before!r} instead ({len(refused)} such holes). Remedy: one table that has the lines of both "
            f"{level}s tells them apart; where it is the same {level}, call it as before."
        )


def _in_words(line: _Line) -> str:
    said = [
        f"{level} {text}"
        for level, text in (("grid", line.where.grid), ("square", line.where.square))
        if text
    ]
    return f"hole {line.name!r}" + (f" of {', '.join(said)}" if said else "")


def _known_in_words(known: KnownOwnPlaces, row: int) -> str:
    holes = known.holes
    said = [
        f"{level} {text}"
        for level, text in (
            ("grid", holes.grids[row]),
            ("square", holes.squares[row]),
            ("patch", holes.patches[row]),
        )
        if text
    ]
    return f"hole {holes.ids[row]!r}" + (f" ({', '.join(said)})" if said else "")


def _column(values: Iterable[str]) -> pd.Index[str]:
    return pd.Index(list(values), dtype="str")
