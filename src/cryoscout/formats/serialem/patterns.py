"""The holes of a MultiShot pattern that an item of a navigator stands for (HoleArray, SkipHoles), by their names.

    HoleArray = 3 2      3 columns and 2 rows: X-1Y-1, X+0Y-1, ..., counted from the middle, without a 0 where even
    HoleArray = 2 -1     hexagonal: the middle R0H1 and two rings, R1H1 ... R1H6, R2H1 ... R2H12
    HoleArray = -3 -3    3 by 3 without the corners
    SkipHoles = 0 0 2 1  pairs, from 0 on: column and row, or ring and place in the ring; these are not imaged

Witness: SerialEM's source, `ParticleTasks.cpp` (mastcu/SerialEM): `GetHolePositions`, `SkipHolesInList`, and
`StartMultiShot`, which counts from the middle what MultishotHoleAndPosition says.
The hole that has the item's own name is the one at which SerialEM begins by default: in the middle, from which it goes
in a spiral (of a 3 by 3 without corners, which it takes row by row, the one in the first row), or, where that one is
skipped, the nearest to it. It is told by the item alone, so that a hole has one name before and after it is imaged.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

MOST_HOLES = 1_000
"""Of one pattern: image shift reaches some hundred."""
_HEXAGONAL = -1
_CROSS = (-3, -3)
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_OF_PATTERN = re.compile(r"(.+)@(?:X[+-][0-9]+Y[+-][0-9]+|R[0-9]+H[0-9]+|[0-9]+)")


def holes_of_pattern(array: tuple[int, int], skipped: Collection[tuple[int, int]]) -> tuple[str, ...]:
    """The names of the holes, first the one that has the item's own; empty where all are skipped.

    array : as HoleArray says it; neither is 0     skipped : the pairs of SkipHoles
    Of what is no pattern, or one of more holes than MOST_HOLES, the middle alone.
    """
    columns, rows = array
    if rows == _HEXAGONAL and columns > 0 and 3 * columns * (columns + 1) < MOST_HOLES:
        places = [(0, 0), *((ring, at) for ring in range(1, columns + 1) for at in range(6 * ring))]
        return tuple(f"R{ring}H{at + 1}" for ring, at in places if (ring, at) not in skipped)
    is_cross = array == _CROSS
    if is_cross:
        columns = rows = 3
    if min(columns, rows) < 1 or columns * rows > MOST_HOLES:
        columns = rows = 1
    places = [
        (column, row)
        for row in range(rows)
        for column in range(columns)
        if (column, row) not in skipped and not (is_cross and column % 2 == 0 and row % 2 == 0)
    ]
    if not places:
        return ()
    begin = (1, 0) if is_cross else _begin(columns, rows)
    first = min(places, key=lambda place: (place[0] - begin[0]) ** 2 + (place[1] - begin[1]) ** 2)
    ordered = [first, *(place for place in places if place != first)]
    return tuple(
        f"X{_from_middle(column, columns):+d}Y{_from_middle(row, rows):+d}" for column, row in ordered
    )


def pattern_in_fields(fields: Mapping[str, str]) -> tuple[str, ...] | None:
    """`pattern_of` what the fields of an item say."""
    array, skipped = (_whole_numbers(fields.get(key, "")) for key in ("HoleArray", "SkipHoles"))
    return pattern_of(array, skipped)


def pattern_of(array: Sequence[int], skipped: Sequence[int]) -> tuple[str, ...] | None:
    """`holes_of_pattern` of what HoleArray and SkipHoles hold; None where that is no pattern."""
    if len(array) != 2 or 0 in array:
        return None
    return holes_of_pattern((array[0], array[1]), set(zip(skipped[::2], skipped[1::2], strict=False)))


def _whole_numbers(text: str) -> list[int]:
    """The numbers of a text, none where it holds anything else."""
    found = [WHOLE_NUMBER.fullmatch(word) for word in text.split()]
    return [int(word[0]) for word in found if word] if all(found) else []


def item_of_hole(hole_id: str, holes: Collection[str]) -> str:
    """The item at which a hole is imaged: of a further hole of a pattern, ITEM@HOLE, its item; else itself.

    holes : ids of all holes
    """
    found = _OF_PATTERN.fullmatch(hole_id)
    return hole_id if found is None or found[1] not in holes else found[1]


def is_as_told(names: Collection[str], pattern: Collection[str]) -> bool:
    """Whether images that say these holes ("" none) are of a pattern."""
    named = {name for name in names if name}
    return bool(named) and named.issubset(pattern)


def _begin(columns: int, rows: int) -> tuple[int, int]:
    """Where the spiral begins."""
    least = min(columns, rows)
    is_shifted = least % 2 == 0 and rows > columns
    return least // 2 - is_shifted, least // 2


def _from_middle(place: int, count: int) -> int:
    """A column or row counted from the middle; of an even number there is no 0."""
    is_past = count % 2 == 0 and place >= count // 2
    return place - count // 2 + is_past
