"""Holes by what they are called, and where they are: numbers begin anew in each square or grid, and say little alone.

There hole 1 of another square is called B/1. A line of a table that says a place means the hole of the name in it, with
its parents before it or without.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Self

from cryoscout.formats.own.scores import SaidPlace
from cryoscout.session.model import Session

MOST_PARTS = 16
"""Of what is left of an id: grid, square, patch and hole with slashes of their own have fewer. A cell of thousands of
slashes must not become as many texts of its length."""


class HolesByName:
    """The holes of a session, or of tables that are being read."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.patches: list[str] = []
        self.squares: list[str] = []
        self.grids: list[str] = []
        """Of each hole; "" where it is not known."""
        self.row_of: dict[str, int] = {}
        self._called: dict[str, list[int]] = {}
        self._called_in: dict[tuple[str, str], list[int]] = {}
        """By name, and name of the square, "" where it is not known."""

    @classmethod
    def of_session(cls, session: Session) -> Self:
        """All holes of a session, in its order."""
        holes = cls()
        square_of = dict(zip(session.patches["patch_id"], session.patches["square_id"], strict=True))
        grid_of = dict(zip(session.squares["square_id"], session.squares["grid_id"], strict=True))
        for hole_id, patch in zip(session.holes["hole_id"], session.holes["patch_id"], strict=True):
            holes.add(hole_id, patch, square_of[patch], grid_of[square_of[patch]])
        return holes

    def add(self, hole_id: str, patch_id: str, square_id: str, grid_id: str) -> None:
        """One more hole, as the last row."""
        row = self.row_of[hole_id] = len(self.ids)
        self.ids.append(hole_id)
        self.patches.append(patch_id)
        self.squares.append(square_id)
        self.grids.append(grid_id)
        squares = names_of(square_id)
        for name in names_of(hole_id):
            self._called.setdefault(name, []).append(row)
            for square in squares:
                self._called_in.setdefault((name, square), []).append(row)

    def called(self, name: str, square: str = "") -> Sequence[int]:
        """Holes of this id, or of this name below a parent; of a square that is said, those that may be in it.

        A name can be that of a hole in each of hundreds of squares, and a table has tens of thousands of lines.
        """
        if not square:
            return self._called.get(name, ())
        rows = {*self._called_in.get((name, square), ()), *self._called_in.get((name, ""), ())}
        return sorted(rows)

    def inside(self, rows: Sequence[int], where: SaidPlace) -> list[int]:
        """Those of the holes that are where a line says; by its patch only where grid and square leave several."""
        found = [row for row in rows if self.is_in(row, where)]
        if len(found) < 2 or not where.patch:
            return found
        return [row for row in found if where.patch in names_of(self.patches[row])] or found

    def is_in(self, row: int, where: SaidPlace) -> bool:
        """Whether a hole is in the grid and the square that a line says, as far as both are known."""
        return may_be(self.grids[row], where.grid) and may_be(self.squares[row], where.square)


def may_be(item_id: str, said: str) -> bool:
    """Whether a place may be the one that is said; either is "" where it is not known."""
    return not item_id or not said or said in names_of(item_id)


@lru_cache(maxsize=10_000)
def names_of(item_id: str) -> tuple[str, ...]:
    """An id, and what is left of it without the parents before it, of at most MOST_PARTS parts."""
    parts = item_id.split("/")
    firsts = (0, *range(max(1, len(parts) - MOST_PARTS), len(parts)))
    return tuple("/".join(parts[first:]) for first in firsts)
