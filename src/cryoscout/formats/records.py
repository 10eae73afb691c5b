"""What one vendor source says of a session, in our words and units, before sources are joined into a Session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
