"""Which hole of its MultiShot pattern an item's own name stands for, from one import to the next.

A reader names the holes of an item by what it sees: ITEM is the hole in the middle where the navigator says the
pattern, else the one that was imaged first, and the others are ITEM@HOLE. What it sees differs from import to import:
the images of one folder begin at another hole than those of the next, and images come before their navigator. So ITEM
is what it is in the stored session, and in the sources before: their images say it, or their navigator. Holes that only
a later import knows come to the grid, square and patch of their item.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from cryoscout.core.counting import agreed, counted
from cryoscout.formats.records import HOLE_COLUMNS, SourceRecords
from cryoscout.formats.serialem.mdoc import hole_in_fields
from cryoscout.formats.serialem.patterns import is_as_told, item_of_hole, pattern_in_fields
from cryoscout.session.model import Session

Fields = Mapping[str, str]


@dataclass
class PatternItem:
    """An item and what is known of its pattern; "" for a hole: imaged without MultiShot."""

    pattern: tuple[str, ...] = ()
    """As the navigator says it, the middle first."""
    imaged: set[str] = field(default_factory=set)
    """Holes of which there are images."""
    own: str | None = None
    """The hole that ITEM stands for, by its images."""
    is_unsaid: bool = False
    """Whether ITEM was imaged at a hole that was not kept."""
    further: set[str] = field(default_factory=set)
    """Holes with names ITEM@HOLE."""

    @property
    def stands_for(self) -> str | None:
        """The hole that has the item's own name; None where nothing says it yet."""
        if self.own:
            return self.own
        if self.further & set(self.pattern) and self.pattern[0] not in self.further:
            return self.pattern[0]
        return self.own

    def takes_over(self, other: PatternItem) -> None:
        """Know what another source says too."""
        self.pattern = self.pattern or other.pattern
        self.imaged |= other.imaged
        self.own = other.own if self.own is None else self.own
        self.is_unsaid |= other.is_unsaid
        self.further |= other.further

    def id_of(self, item: str, hole: str) -> str:
        """The id of a hole of the item, "" for an image without MultiShot."""
        return f"{item}@{hole}" if hole and hole != self.stands_for else item


@dataclass
class KnownPatterns:
    """The items of the stored session and of the sources before, and where the stored ones are."""

    items: dict[str, PatternItem] = field(default_factory=dict)
    holes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stored holes, as HOLE_COLUMNS."""
    placed: set[str] = field(default_factory=set)
    """Stored holes that stay in their patch, because it is known where the stage stood for them."""
    imaged: set[str] = field(default_factory=set)
    """Stored holes with an exposure."""

    @classmethod
    def of(
        cls, stored: Session, fields: Mapping[tuple[str, str], Fields], sources: Sequence[SourceRecords]
    ) -> KnownPatterns:
        """fields : of the stored session, by reader and record

        sources : what they say of stored images counts where the store kept less of these
        """
        flat = stored.holes.merge(stored.patches[["patch_id", "square_id"]], on="patch_id", how="left")
        flat = flat.merge(stored.squares[["square_id", "grid_id"]], on="square_id", how="left")
        rows = flat[list(HOLE_COLUMNS)].to_dict("records")
        holes = {row["hole_id"]: {str(name): value for name, value in row.items()} for row in rows}
        serialem = {record: said for (reader, record), said in fields.items() if reader == "serialem"}
        again = {record: said for source in sources for record, said in source.extra.items()}
        images = stored.exposures[["exposure_id", "hole_id"]].itertuples(index=False, name=None)
        said = ((hole, {**again.get(each, {}), **serialem.get(each, {})}) for each, hole in images)
        # Of a shot that was recorded live no file says anything.
        said_holes = [(hole, _hole_of_image(fields_of)) for hole, fields_of in said if fields_of]
        placed = stored.exposures.loc[stored.exposures["stage_x_um"].notna(), "hole_id"]
        placed_now = flat.loc[flat["image_row"].notna(), "hole_id"]
        return cls(
            _items(holes, said_holes, serialem),
            holes,
            {*placed, *placed_now},
            set(stored.exposures["hole_id"]),
        )

    def named(self, source: SourceRecords) -> SourceRecords:
        """The source with the holes of its patterns under the names that they have, or will have.

        Later sources are named after it. Holes that only its images name are at their item; those of patterns that
        are not imaged as their navigator says are no longer to come.
        """
        said = _items_of_source(source)
        if any(item.further or any(item.imaged) for item in (*said.values(), *self.items.values())):
            source = _Named(source, said, self).source()
            said = _items_of_source(source)
        for item, what in said.items():
            self.items.setdefault(item, PatternItem()).takes_over(what)
        return source


def _hole_of_image(said: Fields) -> str | None:
    """The hole of a pattern that an image says; "" without MultiShot; None where its hole was not kept."""
    hole = hole_in_fields(said)
    return hole if hole is not None else None if said.get("shot_key") else ""


def _items(
    holes: Collection[str], images: Iterable[tuple[str, str | None]], fields: Mapping[str, Fields]
) -> dict[str, PatternItem]:
    """Item -> what is known of its pattern.

    images : id of the hole and the hole of its pattern (None not known), of each     fields : of items
    """
    items: dict[str, PatternItem] = {}
    for hole_id in holes:
        item = item_of_hole(hole_id, holes)
        if item not in items:
            items[item] = PatternItem(pattern_in_fields(fields.get(item, {})) or ())
        if item != hole_id:
            items[item].further.add(hole_id.removeprefix(f"{item}@"))
    for hole_id, hole in images:
        item = item_of_hole(hole_id, holes)
        if item not in items:
            continue
        if item != hole_id:
            items[item].imaged.add(hole_id.removeprefix(f"{item}@"))
        elif hole is None:
            items[item].is_unsaid = True
        else:
            items[item].imaged.add(hole)
            items[item].own = items[item].own or hole
    return items


def _items_of_source(source: SourceRecords) -> dict[str, PatternItem]:
    images = source.exposures[["exposure_id", "hole_id"]].itertuples(index=False, name=None)
    return _items(
        dict.fromkeys([*source.holes["hole_id"], *filter(None, source.exposures["hole_id"])]),
        [(hole_id, hole_in_fields(source.extra.get(exposure, {})) or "") for exposure, hole_id in images],
        source.extra,
    )


class _Named:
    """One source whose holes get the names that are known."""

    def __init__(self, source: SourceRecords, said: Mapping[str, PatternItem], known: KnownPatterns) -> None:
        """said : by the source, of its items"""
        self._source, self._said, self._known = source, said, known
        self._notes: list[str] = []
        self._called_otherwise = dict(self._names())
        self._columns = list(source.holes.columns)
        rows = source.holes.to_dict("records")
        self._rows = {row["hole_id"]: {str(name): value for name, value in row.items()} for row in rows}

    def source(self) -> SourceRecords:
        """The source as it is to be taken in."""
        exposures = self._source.exposures
        ids = [
            self._hole_of_image(exposure, hole_id)
            for exposure, hole_id in exposures[["exposure_id", "hole_id"]].itertuples(index=False, name=None)
        ]
        before = dict(self._rows)
        self._rename_rows()
        self._take_out_what_does_not_come(set(ids))
        self._add_imaged(ids)
        holes = self._source.holes
        if self._rows != before:
            holes = pd.DataFrame(list(self._rows.values()), columns=self._columns)
            holes = holes.astype({"chosen": "boolean"})
        return replace(
            self._source,
            holes=holes,
            exposures=exposures.assign(hole_id=pd.Series(ids, index=exposures.index, dtype="str")),
            notes=(*self._source.notes, *self._notes),
        )

    def _names(self) -> Iterator[tuple[str, PatternItem]]:
        """Items whose holes the source calls otherwise than they are, and what is known of them."""
        unsaid = []
        for item, said in self._said.items():
            known = self._known.items.get(item)
            if known is None or not (any(said.imaged) or said.further):
                continue
            name = known.stands_for
            if name is None and known.is_unsaid and any(said.imaged):
                unsaid.append(item)
            elif name is None or name == said.stands_for:
                continue
            elif not known.imaged and said.imaged and not is_as_told(said.imaged, known.pattern):
                continue  # an item that was imaged must not look as if it were not
            yield item, known
        if unsaid:
            self._notes.append(
                f"{counted(len(unsaid), 'items', 'were')} imaged before, and the session does not say at which hole of "
                f"the pattern (first: {unsaid[0]}): the holes of these images are ITEM@HOLE. Remedy: give the earlier "
                "images too"
            )

    def _hole_of_image(self, exposure: str, hole_id: str) -> str:
        item = item_of_hole(hole_id, self._said)
        if item not in self._called_otherwise:
            return hole_id
        hole = hole_in_fields(self._source.extra.get(exposure, {})) or ""
        return self._called_otherwise[item].id_of(item, hole)

    def _rename_rows(self) -> None:
        """The hole that the source calls ITEM gets its name, and the row ITEM stays that of the item."""
        for item, known in self._called_otherwise.items():
            hole = self._said[item].stands_for
            if item not in self._rows or not hole:
                continue
            own = f"{item}@{hole}"
            row = self._rows.pop(f"{item}@{known.stands_for}", None)
            if row is None:
                is_told = hole in self._said[item].pattern
                row = {**self._rows[item], **({} if is_told else {"chosen": pd.NA})}
            self._rows[own] = {**row, "hole_id": own}

    def _take_out_what_does_not_come(self, imaged: Collection[str]) -> None:
        """Holes to come of patterns that are imaged otherwise; a stored one stays, and is not chosen."""
        all_items = {*self._said, *self._known.items}
        of = {
            item: (self._said.get(item, PatternItem()), self._known.items.get(item, PatternItem()))
            for item in all_items
        }
        patterns = {
            item: (said.pattern or known.pattern, said.imaged | known.imaged)
            for item, (said, known) in of.items()
            if len(said.pattern or known.pattern) > 1
        }
        some = [names for _, names in patterns.values() if names]
        all_single = bool(some) and not any(any(names) for names in some)
        out = []
        for item, (pattern, names) in patterns.items():
            if all_single or (names and not is_as_told(names, pattern)):
                out += [f"{item}@{hole}" for hole in pattern]
        stay = 0
        for hole_id in out:
            if hole_id in imaged or hole_id in self._known.imaged:
                continue
            self._rows.pop(hole_id, None)
            stored = self._known.holes.get(hole_id)
            if stored is not None:
                # Its square is known, and another source may call it otherwise.
                self._rows[hole_id] = {**stored, "square_id": "", "grid_id": "", "chosen": False}
                stay += stored["chosen"] is not False
        self._choose_again({item for item, (_, names) in patterns.items() if not names and not all_single})
        if stay:
            self._notes.append(
                f"{counted(stay, 'holes')} of patterns (HoleArray) {agreed(stay, 'are')} not to come, because their "
                "items were imaged otherwise: not chosen any more"
            )

    def _choose_again(self, items: Collection[str]) -> None:
        """Holes to come that were not while all images seemed to be without MultiShot: chosen as their item is.

        items : of which nothing was imaged
        """
        stored = self._known.holes
        for item in items:
            if item not in stored or stored[item]["chosen"] is not True:
                continue
            for hole in self._known.items[item].further:
                row = stored.get(f"{item}@{hole}")
                if row is not None and row["hole_id"] not in self._rows and row["chosen"] is False:
                    again = {"square_id": "", "grid_id": "", "chosen": True}
                    self._rows[row["hole_id"]] = {**row, **again}

    def _add_imaged(self, ids: Sequence[str]) -> None:
        """Holes that only images name, and the places of further holes: at their item, as that is stored."""
        stored = self._known.holes
        for hole_id in dict.fromkeys(ids):
            item = item_of_hole(hole_id, stored)
            if item != hole_id and hole_id not in stored and hole_id not in self._rows:
                self._rows[hole_id] = {**stored[item], "hole_id": hole_id, "chosen": pd.NA}
        for hole_id, row in self._rows.items():
            item = item_of_hole(hole_id, stored)
            # An item without an image may come into another patch yet, with its further holes.
            stays = item in self._known.placed or item not in self._rows
            if item != hole_id and hole_id not in stored and stays:
                self._rows[hole_id] = {
                    **row,
                    **{name: stored[item][name] for name in ("patch_id", "square_id", "grid_id")},
                }
