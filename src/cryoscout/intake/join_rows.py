"""A few new exposures and holes into a stored session, row by row: what `assemble` does to all of it, in milliseconds.

The rules are those of `assemble` and `assemble_places`, which judge this module in its tests: of the same folder both
give the same session. Here they are asked of the rows that can change and of nothing else; what would change more (the
first hole of a square, a hole whose patch all holes of its square tell) asks for a whole reading. Results are not taken
here but by `assemble_ctf`, which needs the exposures of the results alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from cryoscout.core.counting import counted
from cryoscout.core.names import name_of_source
from cryoscout.formats.records import FewRecords, ReadExposure, ReadHole, WholeReadingNeededError
from cryoscout.intake.assemble_fields import not_known
from cryoscout.intake.assemble_shots import shot_key_of
from cryoscout.session.store_events import columns_of_frame
from cryoscout.session.stored_rows import Row, StoredRows
from cryoscout.session.tables import GAPS, TABLES
from cryoscout.session.vendor_fields import packed, unpacked

Payload = dict[str, Any]


@dataclass
class JoinedRows:
    """The change of a stored session, and what became of what was read."""

    payloads: list[Payload] = field(default_factory=list)
    """Of `imported` events, see `store_events`."""
    exposures: list[ReadExposure] = field(default_factory=list)
    """New ones, and those of which time or stage position was missing, as they are stored now."""
    new_exposure_ids: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class KnownFields:
    """Of which records the store has vendor fields, and which sets of shared ones: its table is large."""

    record_ids: set[str]
    shared: set[str]

    @classmethod
    def of(cls, vendor_fields: pd.DataFrame) -> KnownFields:
        """vendor_fields : of the stored session."""
        is_set = vendor_fields["record_id"] == ""
        return cls(
            set(vendor_fields.loc[~is_set, "record_id"].tolist()),
            set(vendor_fields.loc[is_set, "shared"].tolist()),
        )

    def add(self, payloads: Iterable[Payload]) -> None:
        """Know what these events write."""
        for payload in payloads:
            if payload.get("table") == "vendor_fields" and payload["part"] == "rows":
                columns = payload["columns"]
                for record_id, shared in zip(columns["record_id"], columns["shared"], strict=True):
                    (self.record_ids if record_id else self.shared).add(record_id or shared)


def joined_rows(few: FewRecords, stored: StoredRows, fields: KnownFields) -> JoinedRows:
    """What a few records add to the stored session.

    Raises WholeReadingNeededError where it is more than their own rows.
    """
    result = JoinedRows()
    if not few.stamps:
        return result
    places = _Places(few.holes, few.exposures, stored)
    exposures = _Exposures(few, stored, result)
    info = exposures.info_changes()
    if info:
        result.payloads.append({"part": "info", "changes": info})
    result.payloads += _new_rows("patches", places.new_patches)
    result.payloads += _new_rows("holes", places.new_holes)
    result.payloads += _new_rows("exposures", exposures.new)
    result.payloads += new_fields(few.extra, name_of_source(few.path), few.format, stored, fields)
    result.payloads += new_provenance(_provenance(few), stored)
    if places.moved:
        columns = {"hole_id": list(places.moved), "patch_id": list(places.moved.values())}
        result.payloads.append({"part": "patches", "columns": columns})
    if places.emptied:
        result.payloads.append({"part": "emptied", "patch_ids": places.emptied})
    result.payloads += _filled("holes", places.filled) + _filled("exposures", exposures.filled)
    return result


def _provenance(few: FewRecords) -> list[tuple[str, ...]]:
    """As `assemble` has it; which holes are chosen no image says."""
    rows = [("holes", "x_um, y_um, x_px, y_px")] + ([("exposures", "started_at")] if few.exposures else [])
    return [(*row, name_of_source(few.path), few.format) for row in rows]


class _Places:
    """Holes and their patches: those that are new, imaged for the first time, or placed now."""

    def __init__(
        self, holes: Sequence[ReadHole], exposures: Sequence[ReadExposure], stored: StoredRows
    ) -> None:
        self._stored = stored
        self.new_holes: list[Payload] = []
        self.filled: list[Payload] = []
        self.moved: dict[str, str] = {}
        """Hole id -> the patch that it was imaged in."""
        self._square_of_patch: dict[str, str] = {}
        """Of patches that holes come into."""
        self._left: set[str] = set()
        ids = [hole.hole_id for hole in holes]
        before = {row["hole_id"]: row for row in stored.where("holes", "hole_id", ids)}
        taken = stored.where("exposures", "hole_id", ids)
        self._imaged = {row["hole_id"] for row in taken}
        self._placed = {row["hole_id"] for row in taken if row["stage_x_um"] is not None}
        self._imaged_now = {each.hole_id for each in exposures}
        self._placed_now = {each.hole_id for each in exposures if math.isfinite(each.stage_x_um)}
        patches = stored.where("patches", "patch_id", [row["patch_id"] for row in before.values()])
        square_of = {row["patch_id"]: row["square_id"] for row in patches}
        squares = {hole.square_id for hole in holes}
        # A square that is only known of gets its first hole by a whole reading, as a new one does.
        known_squares = {row["square_id"] for row in stored.where("patches", "square_id", list(squares))}
        for square_id in squares - known_squares:
            raise WholeReadingNeededError(f"square {square_id} is new")
        for hole in holes:
            row = before.get(hole.hole_id)
            if row is None:
                self._add(hole)
            elif square_of[row["patch_id"]] != hole.square_id:
                raise WholeReadingNeededError(f"hole {hole.hole_id} stands in the folder of another square")
            else:
                self._fill(hole, row)
                self._move(hole, row)
        self._name_patches()

    def _add(self, hole: ReadHole) -> None:
        if hole.patch_id is None:
            raise WholeReadingNeededError(f"hole {hole.hole_id} is new, and its neighbours tell its patch")
        patch_id = hole.patch_id or f"{hole.square_id}_square"
        self._square_of_patch[patch_id] = hole.square_id
        row = {"hole_id": hole.hole_id, "patch_id": patch_id, "x_px": None, "y_px": None, "image_row": None}
        place = {"x_um": _number(hole.x_um), "y_um": _number(hole.y_um), "chosen": None}
        self.new_holes.append(row | place)

    def _fill(self, hole: ReadHole, row: Row) -> None:
        """The stage position by the hole's image, where it is missing."""
        lacks = [name for name in ("x_um", "y_um") if row[name] is None]
        found = {name: getattr(hole, name) for name in lacks if math.isfinite(getattr(hole, name))}
        if not found:
            return
        if hole.may_stand_elsewhere:
            raise WholeReadingNeededError(
                f"the position of hole {hole.hole_id} may stand in its square's file"
            )
        self.filled.append({**row, **found})

    def _move(self, hole: ReadHole, row: Row) -> None:
        """A hole that is imaged now, and of which no image with a stage position was there before."""
        hole_id = hole.hole_id
        is_free = hole_id not in self._placed and row["image_row"] is None
        is_free &= hole_id not in self._imaged or hole_id in self._placed_now
        if not is_free or hole_id not in self._imaged_now:
            return
        if hole.patch_id is None:
            raise WholeReadingNeededError(f"the neighbours of hole {hole_id} tell its patch")
        if hole.patch_id not in ("", row["patch_id"]):
            self.moved[hole_id] = hole.patch_id
            self._square_of_patch[hole.patch_id] = hole.square_id
            self._left.add(row["patch_id"])

    def _name_patches(self) -> None:
        """The patches that are new, and those that nothing is left in."""
        there = {row["patch_id"]: row["square_id"] for row in
                 self._stored.where("patches", "patch_id", list(self._square_of_patch))}  # fmt: skip
        for patch_id, square_id in self._square_of_patch.items():
            if there.get(patch_id, square_id) != square_id:
                raise WholeReadingNeededError(f"patch {patch_id} is the name of a patch of another square")
        self.new_patches: list[Payload] = [
            {"patch_id": patch_id, "square_id": square_id}
            for patch_id, square_id in sorted(self._square_of_patch.items())
            if patch_id not in there
        ]
        stay = {row["patch_id"] for row in self._stored.where("holes", "patch_id", list(self._left))
                if row["hole_id"] not in self.moved}  # fmt: skip
        self.emptied = sorted(self._left - stay - set(self._square_of_patch))


class _Exposures:
    """Exposures that are new, each a shot of its hole, and those of which something was missing."""

    def __init__(self, few: FewRecords, stored: StoredRows, result: JoinedRows) -> None:
        self._stored, self._few, self._result = stored, few, result
        self.new: list[Payload] = []
        self.filled: list[Payload] = []
        self._timed_now = 0
        holes = {each.hole_id for each in few.exposures}
        self._of_holes = stored.where("exposures", "hole_id", list(holes))
        ids = [each.exposure_id for each in few.exposures]
        self._before = {row["exposure_id"]: row for row in stored.where("exposures", "exposure_id", ids)}
        self._info = stored.info()
        for each in few.exposures:
            row = self._before.get(each.exposure_id)
            if row is not None:
                self._fill(each, row)
        self._shots = self._info.shots
        self._add([each for each in few.exposures if each.exposure_id not in self._before])

    def _fill(self, each: ReadExposure, row: Row) -> None:
        found = {
            "started_at": _time(each.started_at),
            "stage_x_um": _number(each.stage_x_um),
            "stage_y_um": _number(each.stage_y_um),
        }
        missing = {name: value for name, value in found.items() if row[name] is None and value is not None}
        if not missing:
            return
        now = {**row, **missing}
        self._timed_now += "started_at" in missing
        self.filled.append(now)
        self._result.exposures.append(
            replace(
                each,
                started_at=np.datetime64("NaT" if now["started_at"] is None else now["started_at"], "ns"),
                stage_x_um=math.nan if now["stage_x_um"] is None else now["stage_x_um"],
                stage_y_um=math.nan if now["stage_y_um"] is None else now["stage_y_um"],
            )
        )

    def _add(self, exposures: Sequence[ReadExposure]) -> None:
        if not exposures:
            return
        keys = {(row["hole_id"], shot_key_of(row["exposure_id"])) for row in self._of_holes}
        kept: list[ReadExposure] = []
        again: list[ReadExposure] = []
        for each in exposures:
            key = (each.hole_id, shot_key_of(each.exposure_id))
            (again if key[1] and key in keys else kept).append(each)
            keys.add(key)
        if again:
            self._result.notes.append(
                f"{counted(len(again), 'images', 'are')} of a shot that was taken before, such as "
                f"{again[0].exposure_id}: each is one shot, and of the results of both the best counts"
            )
        shot_of: dict[str, int] = {}
        for row in self._of_holes:
            shot_of[row["hole_id"]] = max(row["shot"], shot_of.get(row["hole_id"], 0))
        for each in kept:
            shot_of[each.hole_id] = shot = shot_of.get(each.hole_id, 0) + 1
            self.new.append(_exposure_row(each, shot))
            self._timed_now += not np.isnat(each.started_at)
            self._result.exposures.append(each)
            self._result.new_exposure_ids.append(each.exposure_id)
        per_hole = Counter(row["hole_id"] for row in self._of_holes)
        per_hole.update(each.hole_id for each in kept)
        self._shots = max(self._few.shots or 1, *per_hole.values(), self._info.shots)

    def info_changes(self) -> Payload:
        """More shots per hole; a time model that can be fitted now."""
        changes: Payload = {} if self._shots == self._info.shots else {"shots": self._shots}
        if self._timed_now and self._info.default_time_model != "fitted":
            timed = self._stored.timed_exposures()
            if timed <= 1 < timed + self._timed_now:
                changes["default_time_model"] = "fitted"
        return changes


def _exposure_row(each: ReadExposure, shot: int) -> Payload:
    return {
        "exposure_id": each.exposure_id,
        "hole_id": each.hole_id,
        "shot": shot,
        "started_at": _time(each.started_at),
        "outcome": "pending",
        "ctf_max_res_angstrom": None,
        "stage_x_um": _number(each.stage_x_um),
        "stage_y_um": _number(each.stage_y_um),
    }


def new_fields(
    extra: Mapping[str, Mapping[str, str]], source: str, reader: str, stored: StoredRows, known: KnownFields
) -> list[Payload]:
    """The events of vendor fields that are new or others than before.

    extra : record id -> fields     source, reader : of the rows
    """
    records = {record_id: fields for record_id, fields in extra.items() if fields}
    if not records:
        return []
    again = [record_id for record_id in records if record_id in known.record_ids]
    if again:
        before = unpacked(stored.frame("vendor_fields", "record_id", ["", *again]))
        records |= {
            record_id: not_known(records[record_id], before.get((reader, record_id))) for record_id in again
        }
    sets = pd.DataFrame({"record_id": "", "shared": sorted(known.shared)}, columns=["record_id", "shared"])
    rows = packed(records, source, reader, sets)
    return _rows("vendor_fields", columns_of_frame("vendor_fields", rows))


def new_provenance(rows: Sequence[tuple[str, ...]], stored: StoredRows) -> list[Payload]:
    """The event of the rows of provenance (table, field, file, reader) that are new."""
    known = stored.provenance()
    new = [dict(zip(TABLES["provenance"], row, strict=True)) for row in rows if row not in known]
    return _new_rows("provenance", new)


def _new_rows(table: str, rows: Sequence[Payload]) -> list[Payload]:
    return _rows(table, {name: [row.get(name) for row in rows] for name in TABLES[table]}) if rows else []


def _rows(table: str, columns: Mapping[str, list[Any]]) -> list[Payload]:
    filled = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    return [{"part": "rows", "table": table, "columns": filled}] if filled else []


def _filled(table: str, rows: Sequence[Row]) -> list[Payload]:
    if not rows:
        return []
    names = (next(iter(TABLES[table])), *GAPS[table])
    return [
        {"part": "filled", "table": table, "columns": {name: [row[name] for row in rows] for name in names}}
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _time(at: np.datetime64) -> str | None:
    return None if np.isnat(at) else str(np.datetime_as_string(at.astype("datetime64[ns]"), unit="ns"))
