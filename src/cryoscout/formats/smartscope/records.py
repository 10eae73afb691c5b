"""SmartScope sessions: grids, squares, holes and high-magnification images, from its export YAML or its REST records.

    record   field                    unit    becomes
    grid     grid_id (REST) or name           grid_id of what is below it
    square   square_id or name                squares.square_id
    hole     hole_id or name                  holes.hole_id
             bis_group                        holes.patch_id: holes imaged from one stage position; none: ""
             selected                         holes.chosen, with the others of its group
    highmag  name                             exposures.exposure_id, ctf.name
             number                           exposures.shot_key
             is_x, is_y               um      exposures.shift_x_um, shift_y_um: stage position less target's, as written
             ctffit                   A       ctf.ctf_max_res_angstrom; null: no result yet
             defocus, astig           A       ctf.defocus_um, astigmatism_um
             angast                   degrees ctf.defocus_angle_deg
             ice_thickness            nm      ctf.ice_thickness_nm
             tilt_angle               degrees ctf.tilt_angle_deg
             completion_time                  extra only: when it was finished, not when it was started
    atlas    pixel_size               A       of the area of its squares
    square   area                     px      squares.area_um2, on the atlas's pixel size; not said: NaN
             status                           squares.looked, where its image was taken
             completion_time                  squares.looked_at: when it was finished
             selectors, with grey level       squares.brightness, their value
    finder   stage_x, stage_y         um      x_um, y_um of the square or hole (the first finder, as SmartScope)
             x, y                     px      x_px, y_px of a hole on its square's image

Status words: none, queued, started, acquired, processed, targets_selected (also written selected), targets_picked,
completed, skipped, error. A highmag record is an exposure once it is acquired, processed or completed. The YAML is what
SmartScope's `export_grid` writes (atlas > targets > targets > targets); it leaves all ids out, so names stand for them.
The file is read as text and never made into objects (see `yaml_values`).
Specification: NIEHS/SmartScope, `Smartscope/server/api/serializers/export_serializers.py`, `core/models/` and, of the
area, `lib/image/target.py` (`set_area_radius`).
Doubt: whether x, y of a finder are columns and rows from the upper left corner is not said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.counting import counted
from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats import limits
from cryoscout.formats.ctf.names import exposure_name
from cryoscout.formats.ctf.records import (
    UM_PER_ANGSTROM,
    CtfRows,
    deviations_of,
    head_text,
    shown,
)
from cryoscout.formats.own.times import OneClock
from cryoscout.formats.records import (
    EXPOSURE_COLUMNS,
    HOLE_COLUMNS,
    LOOK_COLUMNS,
    SQUARE_COLUMNS,
    SourceRecords,
)
from cryoscout.formats.smartscope.record_reader import NAN_IN_YAML, Record, RecordReader
from cryoscout.formats.text.findings import Deviation, Findings
from cryoscout.formats.text.yaml_values import YamlMapping, read_yaml

FORMAT = "smartscope"
_OPENED = ("acquired", "processed", "targets_selected", "selected", "targets_picked", "completed")
"""Of a square: its image was taken."""
_GIVEN_UP = ("error", "skipped")
"""Of a square: SmartScope tried it, or passed it by, and will not open it."""
_UNDER_WAY = ("queued", "started")
"""Of a square: SmartScope is about to open it."""
IMAGED = ("acquired", "processed", "completed")
CTF_FIELDS: dict[str, tuple[str, float]] = {
    "defocus": ("defocus_um", UM_PER_ANGSTROM),
    "astig": ("astigmatism_um", UM_PER_ANGSTROM),
    "angast": ("defocus_angle_deg", 1.0),
    "ice_thickness": ("ice_thickness_nm", 1.0),
    "tilt_angle": ("tilt_angle_deg", 1.0),
    "tilt_axis_angle": ("tilt_axis_angle_deg", 1.0),
}
_INFINITE, _INFINITE_IN_YAML = "inf", (".inf", ".Inf", ".INF", "+.inf")
_HEAD_BYTES = 64 * 1024


@dataclass
class FoundRecords:
    """What was read of one session, before it becomes tables."""

    squares: dict[str, tuple[object, ...]] = field(default_factory=dict)
    holes: dict[str, tuple[object, ...]] = field(default_factory=dict)
    exposures: dict[str, tuple[object, ...]] = field(default_factory=dict)
    ctf: CtfRows = field(default_factory=CtfRows)
    extra: dict[str, dict[str, str]] = field(default_factory=dict)
    stage_of_hole: dict[str, tuple[float, float]] = field(default_factory=dict)
    stage_of_group: dict[str, tuple[float, float]] = field(default_factory=dict)
    group_of_hole: dict[str, str] = field(default_factory=dict)
    clock: OneClock = field(default_factory=OneClock)
    """Of all times; the server writes them in its own zone, whose offset changes in autumn and spring."""
    given_up: list[str] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)
    again: list[CtfRows] = field(default_factory=list)
    """Results of images that were taken again under the same name: of the second images, of the third, and so on."""
    retakes: dict[str, int] = field(default_factory=dict)
    """Exposure -> how many times it was taken again."""

    def add_square(
        self, record: Record, grid_id: str, findings: Findings, atlas_pixel_angstrom: float = math.nan
    ) -> str | None:
        """Take a square; its id, or None after reporting what is wrong with it.

        atlas_pixel_angstrom : size of a pixel of the atlas, on which areas are counted; NaN unknown
        """
        reader = RecordReader(record, "square", findings)
        square_id = reader.identifier("square_id", self.squares)
        if square_id is None or not reader.status_is_known():
            return None
        x_um, y_um, _, _ = reader.position()
        status = reader.text("status")
        looked = True if status in (*_OPENED, *_GIVEN_UP) else pd.NA
        for listed, known in ((self.given_up, _GIVEN_UP), (self.under_way, _UNDER_WAY)):
            if status in known:
                listed.append(square_id)
        looked_at = reader.moment("completion_time", self.clock) if status in _OPENED else pd.NaT
        shown_as = (reader.area_um2(atlas_pixel_angstrom), reader.grey_level())
        self.squares[square_id] = (square_id, grid_id, x_um, y_um, *shown_as, looked, looked_at)
        self.extra[square_id] = reader.rest("square_id")
        return square_id

    def add_hole(self, record: Record, square_id: str, grid_id: str, findings: Findings) -> str | None:
        """Take a hole of a square that was taken; its id, or None after reporting what is wrong with it."""
        reader = RecordReader(record, "hole", findings)
        hole_id = reader.identifier("hole_id", self.holes)
        if hole_id is None or not reader.status_is_known():
            return None
        place = reader.position()
        group = reader.text("bis_group")
        patch_id = f"{square_id}/{group}" if group else ""
        self.stage_of_hole[hole_id] = place[:2]
        if patch_id:
            self.group_of_hole[hole_id] = patch_id
            if reader.text("bis_type") == "center":
                self.stage_of_group[patch_id] = place[:2]
        self.holes[hole_id] = (hole_id, patch_id, square_id, grid_id, *place, reader.flag("selected"))
        self.extra[hole_id] = reader.rest("hole_id")
        return hole_id

    def add_exposure(
        self, record: Record, hole_id: str, square_id: str, grid_id: str, findings: Findings
    ) -> None:
        """Take a high-magnification image of a hole that was taken, where it was acquired."""
        reader = RecordReader(record, "highmag", findings)
        name = reader.text("name") or reader.text("hm_id")
        exposure_id = exposure_name(name) if name else ""
        if not exposure_id:
            reader.deviates("a highmag record must have a name. Got none instead.")
            return
        before = self.exposures.get(exposure_id)
        if before is not None and before[1] != hole_id:
            reader.deviates(
                f"an exposure must be of one hole. Got {shown(exposure_id)} of hole {before[1]} and of {hole_id} "
                "instead. Remedy: --permissive leaves the second out."
            )
            return
        if not reader.status_is_known() or reader.text("status") not in IMAGED:
            return
        number = reader.text("number") or "1"
        if before is not None and before[4] != number:
            reader.deviates(
                f"an exposure must be one shot. Got {shown(exposure_id)} as shots {before[4]} and {number} of hole "
                f"{hole_id} instead. Remedy: --permissive leaves the second out."
            )
            return
        if before is not None:
            self._take_again(reader, exposure_id, name or "")
            return
        patch_id = self.group_of_hole.get(hole_id, "")
        stage = self.stage_of_group.get(patch_id, self.stage_of_hole.get(hole_id, (math.nan, math.nan)))
        shift = (reader.number("is_x"), reader.number("is_y"))
        self.exposures[exposure_id] = (exposure_id, hole_id, square_id, grid_id, number, None, *stage, *shift)
        self.extra[exposure_id] = reader.rest("hm_id")
        self._take_result(reader, name or "", self.ctf)

    def _take_again(self, reader: RecordReader, exposure_id: str, name: str) -> None:
        """A further image of a shot under the name of the first: what it says is kept beside that."""
        self.retakes[exposure_id] = number = self.retakes.get(exposure_id, 0) + 1
        if len(self.again) < number:
            self.again.append(CtfRows())
        said = reader.rest("hm_id")
        self.extra[exposure_id] |= {f"{label} (taken again, {number})": text for label, text in said.items()}
        self._take_result(reader, name, self.again[number - 1])

    @staticmethod
    def _take_result(reader: RecordReader, name: str, rows: CtfRows) -> None:
        resolution = reader.text("ctffit")
        resolution = _INFINITE if resolution in (*_INFINITE_IN_YAML, *NAN_IN_YAML) else resolution
        if resolution is not None:
            further: dict[str, float | str | None] = {
                column: reader.fitted(label) * factor for label, (column, factor) in CTF_FIELDS.items()
            }
            rows.add(reader.findings, name, resolution, further, line=reader.line, element=reader.element)

    def _results(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The best result of each exposure, and those of its other images."""
        order = [column for column, _ in CTF_FIELDS.values()]
        if not self.again:
            return self.ctf.frame(order), CtfRows().frame()
        rows = pd.concat([each.frame(order) for each in (self.ctf, *self.again)], ignore_index=True)
        best = rows.sort_values("ctf_max_res_angstrom", kind="stable").drop_duplicates("name").index
        is_best = rows.index.isin(best)
        return rows[is_best].reset_index(drop=True), rows[~is_best].reset_index(drop=True)

    @staticmethod
    def _chosen_by_group(holes: pd.DataFrame) -> pd.Series[bool]:
        """A hole is chosen where it or another hole of its group is: SmartScope images whole groups."""
        chosen = holes["chosen"].astype("boolean")
        groups = holes.loc[chosen.fillna(False) & (holes["patch_id"] != ""), "patch_id"]
        return chosen.mask(holes["patch_id"].isin(groups), True)

    def source_records(
        self, path: Path, findings: Findings, session_name: str | None, notes: Sequence[str] = ()
    ) -> SourceRecords:
        """The tables of everything taken."""
        exposures = pd.DataFrame(list(self.exposures.values()), columns=list(EXPOSURE_COLUMNS))
        numbers = ["stage_x_um", "stage_y_um", "shift_x_um", "shift_y_um"]
        exposures = exposures.astype(dict.fromkeys(numbers, np.float64))
        all_notes = [*notes, *self.ctf.notes(), *self.clock.notes()]
        if self.retakes:
            all_notes.append(
                f"{counted(len(self.retakes), 'exposures', 'were')} taken again under the same name (first: "
                f"{next(iter(self.retakes))}): each is one shot, of its results the best counts, the others are kept"
            )
        ctf, further_ctf = self._results()
        if len(exposures):
            all_notes.append(
                "SmartScope does not write when an exposure was started: times must come from elsewhere"
            )
        if self.given_up:
            all_notes.append(
                f"{counted(len(self.given_up), 'squares', 'have')} the status error or skipped (first: "
                f"{self.given_up[0]}): they count as looked at, and none of them is opened by a plan"
            )
        if self.under_way:
            all_notes.append(
                f"{counted(len(self.under_way), 'squares', 'are')} queued or started in SmartScope and not imaged "
                f"yet (first: {self.under_way[0]}): a plan may name them too"
            )
        unknown = sum(math.isnan(x_um) for x_um, _ in self.stage_of_hole.values())
        if unknown:
            all_notes.append(f"{unknown} of {len(self.holes)} holes have no stage position")
        holes = pd.DataFrame(list(self.holes.values()), columns=list(HOLE_COLUMNS))
        holes["chosen"] = self._chosen_by_group(holes)
        places = dict.fromkeys(("x_um", "y_um", "x_px", "y_px"), np.float64)
        squares = pd.DataFrame(list(self.squares.values()), columns=[*SQUARE_COLUMNS, *LOOK_COLUMNS])
        squares["looked"] = squares["looked"].astype("boolean")
        squares["looked_at"] = squares["looked_at"].astype("datetime64[ns]")
        return SourceRecords(
            format=FORMAT,
            path=path,
            squares=squares.astype(dict.fromkeys(("x_um", "y_um", "area_um2", "brightness"), np.float64)),
            holes=holes.astype(places),
            exposures=exposures.assign(started_at=exposures["started_at"].astype("datetime64[ns]")),
            ctf=ctf,
            further_ctf=further_ctf,
            session_name=session_name,
            extra=self.extra,
            deviations=tuple(findings.deviations),
            notes=tuple(all_notes),
        )


def detect(path: Path) -> bool:
    """Whether a file begins as the YAML that SmartScope exports for a grid; reads its first kB.

    Keys are sorted or not by version, so `atlas` may stand first or late; a grid's own fields tell it.
    """
    head = head_text(path, _HEAD_BYTES)
    if head.lstrip()[:1] in ("{", "["):
        return False
    keys = {line.partition(":")[0] for line in head.splitlines() if line[:1].isalpha() and ":" in line}
    return "atlas" in keys and ("targets:" in head or bool(keys & {"params_id", "session_id"}))


def read_source(path: Path, permissive: bool = False, *, step: Step = no_step) -> SourceRecords:
    """Read the export of one grid.

    permissive : leave deviating records out and list them
    Raises FileFormatError (file, line) at the first deviation unless permissive, and always for what is no YAML and
    for YAML that is no exported grid.
    """
    return _read(path, Findings(path, permissive, step=step))


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of an export, by line; an empty list for a clean one."""
    return deviations_of(path, _read, step)


def _read(path: Path, findings: Findings) -> SourceRecords:
    grid = read_yaml(path)
    findings.step(0.5)
    if not isinstance(grid, YamlMapping) or "atlas" not in grid:
        raise FileFormatError(
            path, 1, "must be the export of a grid: a mapping with `atlas`. Got something else instead."
        )
    grid_reader = RecordReader(grid, "grid", findings)
    grid_id = grid_reader.text("grid_id") or grid_reader.text("name")
    if grid_id is None:
        raise FileFormatError(path, grid.line, "a grid must have a name. Got none instead.")
    found = FoundRecords()
    for atlas in _mappings(grid, "atlas", findings):
        pixel_angstrom = atlas_pixel_angstrom(atlas, findings)
        for square in _mappings(atlas, "targets", findings):
            square_id = found.add_square(square, grid_id, findings, pixel_angstrom)
            for hole in _mappings(square, "targets", findings) if square_id else []:
                found.add_hole(hole, square_id or "", grid_id, findings)
            _add_exposures(found, square, square_id, grid_id, findings)
    found.extra[grid_id] = grid_reader.rest("grid_id")
    session = grid.get("session_id")
    name = (
        RecordReader(session, "session", findings).text("session")
        if isinstance(session, YamlMapping)
        else None
    )
    notes = [] if grid_reader.text("grid_id") else ["the export has no ids: names stand for them"]
    return found.source_records(path, findings, name or grid_id, notes)


def atlas_pixel_angstrom(atlas: Record, findings: Findings) -> float:
    """Size of a pixel of an atlas, on which the areas of its squares are counted; NaN unknown."""
    reader = RecordReader(atlas, "atlas", findings)
    size = reader.number("pixel_size")
    return limits.pixel_angstrom(size, "pixel_size", findings, reader.line, reader.element)


def _add_exposures(
    found: FoundRecords, square: YamlMapping, square_id: str | None, grid_id: str, findings: Findings
) -> None:
    """After all holes of the square, because the stage position of a group is that of its centre."""
    for hole in _mappings(square, "targets", Findings(findings.path, permissive=True)) if square_id else []:
        hole_id = next((str(hole[key]) for key in ("hole_id", "name") if hole.get(key)), "")
        if hole_id in found.holes:
            for image in _mappings(hole, "targets", findings):
                found.add_exposure(image, hole_id, square_id or "", grid_id, findings)


def _mappings(parent: YamlMapping, key: str, findings: Findings) -> list[YamlMapping]:
    """The records of a list in a record; what is no record is reported and left out."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        findings.deviates(f"{key} must be a list. Got {shown(str(value))} instead.", parent.line, key)
        return []
    records = []
    for item in value:
        if isinstance(item, YamlMapping):
            records.append(item)
        else:
            findings.deviates(f"{key} must hold records. Got {shown(str(item))} instead.", parent.line, key)
    return records
