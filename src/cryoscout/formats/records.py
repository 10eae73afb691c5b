"""What one vendor source says of a session, in our words and units, before sources are joined into a Session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.names import is_visible, visible, visible_lines
from cryoscout.formats.text.findings import Deviation
from cryoscout.session.vendor_fields import VendorFields

SQUARE_COLUMNS = ("square_id", "grid_id", "x_um", "y_um")
LOOK_COLUMNS = ("area_um2", "brightness", "looked", "looked_at")
"""Of squares, where a format says them: what the atlas shows, and whether (True or NA) and when it was looked at."""
STOOD_FOR_COLUMNS = (*SQUARE_COLUMNS, "now")
"""Ids that stood for a square before it was opened, with their place, and the square's id now."""
PATCH_COLUMNS = ("patch_id", "square_id", "grid_id", "looked", "looked_at")
HOLE_COLUMNS = ("hole_id", "patch_id", "square_id", "grid_id", "x_um", "y_um", "x_px", "y_px", "chosen")
EXPOSURE_COLUMNS = (
    "exposure_id",
    "hole_id",
    "square_id",
    "grid_id",
    "shot_key",
    "started_at",
    "stage_x_um",
    "stage_y_um",
    "shift_x_um",
    "shift_y_um",
)
CTF_COLUMNS = ("name", "ctf_max_res_angstrom", "line")
AS_WRITTEN_COLUMNS = ("level", "id", "written", "line")
"""Of a site's own table: what its first line of a square, hole or exposure (level) calls it."""
OF_FOLDER = "of_folder"
"""Of results, where their names have one: the name of the folder, which tells images of one name apart; not stored."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells, without reading a file, that it is as it was."""

    size: int
    """Bytes."""
    mtime_ns: int


@dataclass(frozen=True)
class SourceRecords:
    """What a reader found; tables without rows where the format says nothing of that level.

    squares : SQUARE_COLUMNS; stage position of the centre (um, NaN unknown); LOOK_COLUMNS where they are known
    stood_for : STOOD_FOR_COLUMNS, of formats that give a square another id when it is opened
    patches : PATCH_COLUMNS; those that a format names without a hole: known of, and looked at or not
    holes : HOLE_COLUMNS; patch_id "" where the format has no patches, x_um, y_um stage position, x_px, y_px
        position on the parent image (columns, rows from its upper left corner unless the reader says otherwise),
        NaN unknown; chosen True/False/NA
    exposures : EXPOSURE_COLUMNS; `exposure_id` is the micrograph's name without folder, extension and pipeline
        suffixes; hole_id "" where unknown; `shot_key` tells the shots of a hole apart (acquisition area id, MultiShot
        position); started_at naive microscope time; the stage position is the same for a run of image-shift
        exposures, the shift places hole and shot inside it
    ctf : CTF_COLUMNS, OF_FOLDER and whatever else the format has; resolutions as written (inf and >= 100 are failed
        fits)
    further_ctf : as `ctf`; further runs of its images, of which the reader chose the one in `ctf`: kept, never counted
    as_written : AS_WRITTEN_COLUMNS, of own tables, whose names may begin anew in each place; exposures, with their
        path, only where a column names them
    without_result : name, line; images that a table of results names whose result is not there yet
    extra : vendor fields without a place in the tables, by record id, so that nothing is lost; a reader with many
        records gives VendorFields, which hold once what the records share
    Further columns of squares, holes and exposures are vendor fields too.
    """

    format: str
    path: Path
    squares: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SQUARE_COLUMNS)))
    stood_for: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(STOOD_FOR_COLUMNS)))
    patches: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PATCH_COLUMNS)))
    holes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(HOLE_COLUMNS)))
    exposures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(EXPOSURE_COLUMNS)))
    ctf: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CTF_COLUMNS)))
    further_ctf: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CTF_COLUMNS)))
    without_result: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["name", "line"]))
    as_written: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(AS_WRITTEN_COLUMNS)))
    session_name: str | None = None
    shots: int | None = None
    """Shots per hole where the format says so."""
    cluster_radius_um: float | None = None
    """Radius of an image-shift cluster where the format says so."""
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    deviations: tuple[Deviation, ...] = ()
    notes: tuple[str, ...] = ()
    """For the join report: what was chosen, repeated, left out and why."""
    stamps: dict[str, FileStamp] = field(default_factory=dict)
    """Stamps of the files read whole, by path below `path`, where the reader can skip files it knows."""

    def __post_init__(self) -> None:
        """Make every text of the source visible (see `core.names`), and say how many were not: the one border."""
        changed = Changed()
        for name in (
            "squares",
            "stood_for",
            "patches",
            "holes",
            "exposures",
            "ctf",
            "further_ctf",
            "without_result",
        ):
            object.__setattr__(self, name, changed.table(getattr(self, name)))
        # What it says stands in the other tables too, where it is counted.
        object.__setattr__(self, "as_written", Changed().table(self.as_written))
        object.__setattr__(self, "extra", changed.fields(self.extra))
        if self.session_name is not None:
            object.__setattr__(self, "session_name", changed.text(self.session_name))
        notes = [visible_lines(note) for note in self.notes]
        object.__setattr__(self, "notes", (*notes, *changed.notes()))


@dataclass(frozen=True, slots=True)
class ReadExposure:
    """One exposure of a few files; fields as the columns of EXPOSURE_COLUMNS."""

    exposure_id: str
    hole_id: str
    square_id: str
    started_at: np.datetime64
    """In ns, NaT unknown."""
    stage_x_um: float
    stage_y_um: float


@dataclass(frozen=True, slots=True)
class ReadHole:
    """One hole of a few files, or of which an exposure is among them."""

    hole_id: str
    square_id: str
    x_um: float
    """Stage position by the hole's own image, NaN where it has none here."""
    y_um: float
    patch_id: str | None
    """As `SourceRecords.holes` would have it; None where all holes of its square tell."""
    may_stand_elsewhere: bool
    """A file that is not among these may say its position."""


@dataclass(frozen=True)
class FewRecords:
    """What a reader found in the files that are new since: single rows of what SourceRecords says of everything.

    A whole reading of the source would say the same of these exposures and holes, and nothing else that is new.
    """

    path: Path
    format: str
    exposures: tuple[ReadExposure, ...] = ()
    """In the order of time, those without one last."""
    holes: tuple[ReadHole, ...] = ()
    """In the order of a whole reading."""
    extra: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of holes, then of exposures."""
    shots: int | None = None
    deviations: tuple[Deviation, ...] = ()
    stamps: dict[str, FileStamp] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """As of `SourceRecords`; ids of such formats are digits and names of files that their patterns match."""
        object.__setattr__(self, "extra", Changed().fields(self.extra))


@dataclass
class Changed:
    """Makes texts visible and counts those that were not."""

    count: int = 0
    first: str = ""

    def text(self, text: str, *, lines: bool = False) -> str:
        """A text as it may be shown.     lines : it may have several lines"""
        if is_visible(text, lines=lines):
            return text
        self.count += 1
        shown = visible_lines(text) if lines else visible(text)
        self.first = self.first or shown
        return shown

    def table(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with its texts, and the names of its columns, so; itself where nothing changes."""
        columns = [self.text(str(column)) for column in table.columns]
        texts: dict[str, list[object]] = {}
        for place, column in enumerate(columns):
            values = table.iloc[:, place]
            if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
                continue
            listed = values.tolist()
            if not is_visible("".join([value for value in listed if isinstance(value, str)])):
                texts[column] = [self.text(value) if isinstance(value, str) else value for value in listed]
        if columns == list(table.columns) and not texts:
            return table
        table = table.set_axis(columns, axis=1)
        return table.assign(
            **{
                name: pd.Series(values, index=table.index, dtype=table[name].dtype)
                for name, values in texts.items()
            }
        )

    def fields(self, extra: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
        """Vendor fields so; those of records that need no change stay as they are held."""
        found: dict[str, Mapping[str, str]] = {}
        shared: dict[int, bool] = {}
        is_changed = False
        for record, fields in extra.items():
            if _are_visible(record, fields, shared):
                found[record] = fields
                continue
            is_changed = True
            found[self.text(record)] = {
                self.text(name): self.text(text, lines=True) for name, text in fields.items()
            }
        return found if is_changed else extra

    def notes(self) -> list[str]:
        """For the join report; empty where nothing was changed."""
        if not self.count:
            return []
        return [
            f"{self.count} texts held control characters or marks of direction, which stand as visible marks now "
            f"(first: {self.first[:60]})"
        ]


def _are_visible(record: str, fields: Mapping[str, str], shared: dict[int, bool]) -> bool:
    """Whether a record's id, names and texts are; what many records share is looked at once."""
    own: Mapping[str, str | None] = fields
    if isinstance(fields, VendorFields):
        key = id(fields.shared)
        if key not in shared:
            shared[key] = is_visible("".join(fields.shared)) and is_visible(
                "".join(fields.shared.values()), lines=True
            )
        if not shared[key]:
            return False
        own = fields.own
    return is_visible("".join([record, *own])) and is_visible("".join(filter(None, own.values())), lines=True)


class WholeReadingNeededError(Exception):
    """What has changed changes more than the records of its own files: the sources must be read as a whole."""
