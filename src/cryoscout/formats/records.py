"""What one vendor source says of a session, in our words and units, before sources are joined into a Session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.formats.text.findings import Deviation

SQUARE_COLUMNS = ("square_id", "grid_id", "x_um", "y_um")
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


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells, without reading a file, that it is as it was."""

    size: int
    """Bytes."""
    mtime_ns: int


@dataclass(frozen=True)
class SourceRecords:
    """What a reader found; tables without rows where the format says nothing of that level.

    squares : SQUARE_COLUMNS; stage position of the centre (um, NaN unknown)
    holes : HOLE_COLUMNS; patch_id "" where the format has no patches, x_um, y_um stage position, x_px, y_px
        position on the parent image (columns, rows from its upper left corner unless the reader says otherwise),
        NaN unknown; chosen True/False/NA
    exposures : EXPOSURE_COLUMNS; `exposure_id` is the micrograph's name without folder, extension and pipeline
        suffixes; hole_id "" where unknown; `shot_key` tells the shots of a hole apart (acquisition area id, MultiShot
        position); started_at naive microscope time; the stage position is the same for a run of image-shift
        exposures, the shift places hole and shot inside it
    ctf : CTF_COLUMNS and whatever else the format has; resolutions as written (inf and >= 100 are failed fits)
    further_ctf : as `ctf`; further runs of its images, of which the reader chose the one in `ctf`: kept, never counted
    extra : vendor fields without a place in the tables, by record id, so that nothing is lost; a reader with many
        records gives VendorFields, which hold once what the records share
    Further columns of squares, holes and exposures are vendor fields too.
    """

    format: str
    path: Path
    squares: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SQUARE_COLUMNS)))
    holes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(HOLE_COLUMNS)))
    exposures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(EXPOSURE_COLUMNS)))
    ctf: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CTF_COLUMNS)))
    further_ctf: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CTF_COLUMNS)))
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


class WholeReadingNeededError(Exception):
    """What has changed changes more than the records of its own files: the sources must be read as a whole."""
