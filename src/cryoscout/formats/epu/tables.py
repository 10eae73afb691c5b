"""The tables of an EPU session from what was read of it: where each position comes from, one clock for all times."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from cryoscout.core.counting import agreed, counted
from cryoscout.formats.epu.beam_shift import BeamShift
from cryoscout.formats.epu.dm import Atlas, EpuSession, GridSquare
from cryoscout.formats.epu.images import ImageRecord
from cryoscout.formats.epu.names import ExposureName
from cryoscout.formats.epu.values import Moment
from cryoscout.formats.records import EXPOSURE_COLUMNS, HOLE_COLUMNS, LOOK_COLUMNS, SQUARE_COLUMNS
from cryoscout.session.vendor_fields import VendorFields


@dataclass
class FoundSession:
    """Everything read, before it becomes tables."""

    session: EpuSession | None = None
    session_is_new: bool = False
    atlas: Atlas | None = None
    brightness: dict[str, float] = field(default_factory=dict)
    """Square id -> grey level on the atlas's picture."""
    squares: dict[str, GridSquare] = field(default_factory=dict)
    unread_squares: frozenset[str] = frozenset()
    """Squares with a Metadata file that is unchanged and was not read."""
    square_images: dict[str, ImageRecord] = field(default_factory=dict)
    hole_positions: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    """Hole id -> square id, stage position of its newest image, um."""
    exposures: list[tuple[ExposureName, str, Moment | None, float, float]] = field(default_factory=list)
    """Name, square id, time, stage position, um."""
    beam_shifts: dict[str, BeamShift] = field(default_factory=dict)
    """By exposure id."""
    extra: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of the session, its areas and squares."""
    exposure_fields: dict[str, VendorFields] = field(default_factory=dict)
    hole_fields: dict[str, VendorFields] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def targets_um(self) -> dict[str, tuple[float, float]]:
        """Hole id -> stage position, um, of the holes that GridSquare files list."""
        return {
            hole.hole_id: (hole.x_um, hole.y_um) for square in self.squares.values() for hole in square.holes
        }

    @property
    def grid_id(self) -> str:
        """Sample of the session, else the atlas; "" unknown."""
        if self.session is not None and self.session.sample_id is not None:
            return self.session.sample_id
        return (self.atlas.atlas_id if self.atlas is not None else None) or ""


def exposure_table(found: FoundSession) -> pd.DataFrame:
    """EXPOSURE_COLUMNS in the order of time; adds to the notes."""
    table = pd.DataFrame(exposure_rows(found), columns=list(EXPOSURE_COLUMNS))
    table["started_at"] = table["started_at"].astype("datetime64[ns]")
    numbers = ["stage_x_um", "stage_y_um", "shift_x_um", "shift_y_um"]
    table[numbers] = table[numbers].astype(np.float64)
    return table.sort_values(["started_at", "exposure_id"], ignore_index=True)


def exposure_rows(found: FoundSession) -> list[tuple[Any, ...]]:
    """EXPOSURE_COLUMNS of each exposure, in the order they were found; adds to the notes."""
    zone, others = _zone_of_clock(found)
    if others:
        found.notes.append(
            f"{counted(others, 'exposures', 'have')} another time zone; all times are given in that of the rest"
        )
    rows = []
    named_only = 0
    for name, square_id, at, stage_x_um, stage_y_um in found.exposures:
        if at is not None:
            started_at = np.datetime64(at.clock_ns(zone), "ns")
        else:
            started_at = np.datetime64("NaT" if name.named_at is None else name.named_at, "ns")
            named_only += math.isfinite(stage_x_um)
        shift = math.nan
        place = (stage_x_um, stage_y_um, shift, shift)
        rows.append((name.stem, name.hole_id, square_id, found.grid_id, name.area_id, started_at, *place))
    if named_only:
        found.notes.append(f"{counted(named_only, 'exposures', 'have')} no time but that in the name")
    return rows


def _zone_of_clock(found: FoundSession) -> tuple[timedelta | None, int]:
    """One zone for all times, and how many exposures have another: that of the session where exposures have it, else
    that of most exposures.

    Clocks change in autumn and spring; a run of exposures must not jump by an hour for it.
    """
    zones = Counter(at.zone for _, _, at, _, _ in found.exposures if at is not None and at.zone is not None)
    if not zones:
        return None, 0
    zone = zones.most_common(1)[0][0]
    started_at = None if found.session is None else found.session.started_at
    if started_at is not None and started_at.zone is not None and started_at.zone in zones:
        zone = started_at.zone
    return zone, sum(zones.values()) - zones[zone]


def square_table(found: FoundSession) -> pd.DataFrame:
    """SQUARE_COLUMNS by id, what the atlas shows, and which were looked at: those with an image or holes of their
    own."""
    on_atlas = {} if found.atlas is None else {node.square_id: node for node in found.atlas.squares}
    ids: dict[str, None] = dict.fromkeys(found.squares)
    if found.session is not None and (found.session_is_new or found.atlas is not None):
        ids |= dict.fromkeys(found.session.square_ids)
    ids |= dict.fromkeys(on_atlas)
    ids |= dict.fromkeys(found.square_images)
    ids |= dict.fromkeys(square_id for _, square_id, *_ in found.exposures)
    ids |= dict.fromkeys(square_id for square_id, _, _ in found.hole_positions.values())
    rows = []
    zone, _ = _zone_of_clock(found)
    for square_id in sorted(ids, key=lambda text: (len(text), text)):
        if not square_id or square_id in found.unread_squares:
            continue
        places: list[tuple[float, float]] = []
        if square_id in found.squares:
            places.append((found.squares[square_id].x_um, found.squares[square_id].y_um))
        if square_id in found.square_images:
            image = found.square_images[square_id]
            places.append((image.stage_x_um, image.stage_y_um))
        if square_id in on_atlas:
            places.append((on_atlas[square_id].x_um, on_atlas[square_id].y_um))
        # A square that was never visited has zeros for its position.
        known = (place for place in places if math.isfinite(sum(place)) and place != (0.0, 0.0))
        x_um, y_um = next(known, (math.nan, math.nan))
        image_at = found.square_images[square_id].acquired_at if square_id in found.square_images else None
        looked_at = (
            np.datetime64("NaT", "ns") if image_at is None else np.datetime64(image_at.clock_ns(zone), "ns")
        )
        has_holes = square_id in found.squares and bool(found.squares[square_id].holes)
        looked = True if square_id in found.square_images or has_holes else pd.NA
        area_um2 = on_atlas[square_id].area_um2 if square_id in on_atlas else math.nan
        shown = (area_um2, found.brightness.get(square_id, math.nan))
        rows.append((square_id, found.grid_id, x_um, y_um, *shown, looked, looked_at))
    table = pd.DataFrame(rows, columns=[*SQUARE_COLUMNS, *LOOK_COLUMNS])
    numbers = dict.fromkeys(("x_um", "y_um", "area_um2", "brightness"), np.float64)
    return table.astype({**numbers, "looked": "boolean", "looked_at": "datetime64[ns]"})


def hole_table(found: FoundSession, exposures: pd.DataFrame) -> pd.DataFrame:
    """HOLE_COLUMNS, patch_id left empty; adds to the notes."""
    rows: dict[str, dict[str, Any]] = {}

    def add(hole_id: str, square_id: str, x_um: float, y_um: float) -> dict[str, Any]:
        row = {"hole_id": hole_id, "patch_id": "", "square_id": square_id, "grid_id": found.grid_id}
        rows[hole_id] = row | {
            "x_um": x_um,
            "y_um": y_um,
            "x_px": math.nan,
            "y_px": math.nan,
            "chosen": pd.NA,
        }
        return rows[hole_id]

    twice = 0
    for square_id, square in found.squares.items():
        for hole in square.holes:
            if hole.hole_id in rows:
                twice += 1
                continue
            row = add(hole.hole_id, square_id, hole.x_um, hole.y_um)
            row |= {"x_px": hole.x_px, "y_px": hole.y_px}
            row["chosen"] = pd.NA if hole.selected is None else hole.selected
    if twice:
        found.notes.append(
            f"left out: {counted(twice, 'holes')} that {agreed(twice, 'stand')} in a second square's file too"
        )
    from_images = 0
    for hole_id, (square_id, x_um, y_um) in sorted(found.hole_positions.items()):
        if hole_id not in rows:
            add(hole_id, square_id, x_um, y_um)
            from_images += 1
    if from_images:
        found.notes.append(
            f"{counted(from_images, 'holes')} without GridSquare file {agreed(from_images, 'have')} the stage "
            "position of the newest image"
        )
    for hole_id, square_id in zip(exposures["hole_id"], exposures["square_id"], strict=True):
        if hole_id not in rows:
            add(hole_id, square_id, math.nan, math.nan)
    table = pd.DataFrame(list(rows.values()), columns=list(HOLE_COLUMNS))
    return table.astype(dict.fromkeys(("x_um", "y_um", "x_px", "y_px"), np.float64) | {"chosen": "boolean"})
