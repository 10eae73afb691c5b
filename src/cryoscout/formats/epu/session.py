"""An EPU session from its folder: squares, holes, exposures and their patches in our words and units.

What is read where: `files` (which files), `file_reader` (one after the other), `dm` (EpuSession, GridSquare, Atlas),
`images` (XML beside images), `names` (what names tell), `data_contract_xml` (safe XML), `tables` (the tables),
`patches` (which holes share a stage position), `beam_shift` (where in its patch an exposure lies), `followed` (single
images that are new).

    table      from
    squares    list in EpuSession.dm; position: GridSquare_*.dm, else the square's newest image, else Atlas.dm
    holes      targets of GridSquare_*.dm; without it, holes with an image, at its stage position, or with an exposure
    exposures  Data/FoilHole_*.xml, and those that GridSquare_*.dm names without an XML (stage position unknown)

The beam shift of an exposure has no length unit in its file: it is kept in `extra`, and gives shift_x_um where the
session can calibrate it. The positions x_px, y_px of holes are on the full image of the square, whose size `extra`
has (image_width_px, image_height_px); its jpg is smaller, and no position is taken from one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import counted
from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.telling import Progress, no_progress
from cryoscout.formats.epu.atlas_picture import square_brightness
from cryoscout.formats.epu.beam_shift import placed_by_beam_shift
from cryoscout.formats.epu.dm import EpuSession, GridSquare, read_atlas, read_epu_session, read_grid_square
from cryoscout.formats.epu.file_reader import (
    FileReader,
    fields_of_image,
    take_exposures,
    take_hole_images,
)
from cryoscout.formats.epu.files import EpuFiles, FoundFile, detect, find_files
from cryoscout.formats.epu.images import FieldsBySquare, read_image
from cryoscout.formats.epu.names import ExposureName, parse_exposure
from cryoscout.formats.epu.patches import image_shift_runs, patch_ids, runs_of_holes
from cryoscout.formats.epu.tables import FoundSession, exposure_table, hole_table, square_table
from cryoscout.formats.records import FileStamp, SourceRecords
from cryoscout.formats.text.findings import Deviation

__all__ = [
    "detect",
    "image_shift_runs",
    "parse_exposure",
    "read_source",
    "validate",
]

FORMAT = "epu"


def read_source(
    path: Path,
    permissive: bool = False,
    *,
    atlas: Path | None = None,
    known: Mapping[str, FileStamp] | None = None,
    earlier: pd.DataFrame | None = None,
    cluster_radius_um: float | None = None,
    retries: int = 2,
    retry_wait_s: float = 0.5,
    progress: Progress = no_progress,
) -> SourceRecords:
    """Read a session, any folder of it, a folder of exposures, or a single .dm or .xml file.

    permissive : leave what deviates out and list it, instead of raising at the first
    atlas : Atlas.dm, which lies outside the session: positions of squares that the session has not visited
    known : stamps of an earlier read of the same path; unchanged files are skipped, and only squares, holes and
        exposures of which a file was read are returned (a square's files without exposures are read together)
    earlier : exposures of the earlier reads (EXPOSURE_COLUMNS), so that runs of image-shift exposures go on; the beam
        shift is calibrated by what is read now
    cluster_radius_um : instead of the session's ClusteringRadius     retries, retry_wait_s : a file that is not
        whole is read again so many times, after a wait that all such files share
    Raises FileFormatError for the first deviation (unless permissive) and where there is nothing of EPU; InputError
    for arguments out of range.
    """
    if retries < 0 or not 0.0 <= retry_wait_s <= 60.0:
        raise InputError(
            "retries must be >= 0 and retry_wait_s between 0 and 60. "
            f"Got {retries} and {retry_wait_s} instead. Remedy: leave them out."
        )
    reader = FileReader(permissive, retries, retry_wait_s)
    files = find_files(path)
    if atlas is not None:
        files.atlas = _atlas_file(atlas)
    found = _read(files, reader, {} if known is None else known, progress)
    radius_um, clusters = clustering(found.session, cluster_radius_um)
    exposures, holes = _holes_and_exposures(found, earlier, radius_um, clusters)
    return SourceRecords(
        format=FORMAT,
        path=path,
        squares=square_table(found),
        holes=holes,
        exposures=exposures,
        session_name=None if found.session is None else found.session.name,
        shots=None if found.session is None else (len(found.session.areas) or None),
        cluster_radius_um=radius_um,
        extra={**found.extra, **found.hole_fields, **found.exposure_fields},
        deviations=tuple(reader.deviations),
        notes=tuple(files.notes + found.notes),
        stamps=reader.stamps,
    )


def validate(path: Path, progress: Progress = no_progress) -> list[Deviation]:
    """Every deviation of a session, a folder or a file of it; the element begins with the file's path below it.

    Raises FileFormatError where there is nothing of EPU.
    """
    return list(read_source(path, permissive=True, retries=0, progress=progress).deviations)


def _atlas_file(path: Path) -> FoundFile:
    files = find_files(path) if path.is_file() else EpuFiles()
    if files.atlas is None:
        raise FileFormatError(
            path, None, "must be an Atlas.dm file. Got something else, or nothing, instead."
        )
    return files.atlas


def _read(
    files: EpuFiles, reader: FileReader, known: Mapping[str, FileStamp], progress: Progress
) -> FoundSession:
    def changed(file: FoundFile) -> bool:
        return known.get(file.key) != file.stamp

    found = FoundSession()
    exposures = [pair for pair in files.exposures.values() if changed(pair[0])]
    touched = {file.square_id for file, _ in exposures}
    for group in (files.square_images.values(), files.hole_images.values(), files.square_metadata):
        touched |= {file.square_id for file in group if changed(file)}
    # An exposure outside any square's folder can belong to any square.
    whole = {file.key for file in files.square_metadata if "" in touched or file.square_id in touched}
    metadata = [file for file in files.square_metadata if file.key in whole]
    square_images = [file for file in files.square_images.values() if file.square_id in touched]
    hole_images = [file for file in files.hole_images.values() if file.square_id in touched]
    n_files = len(exposures) + len(metadata) + len(square_images) + len(hole_images) + 2
    with progress("reading the EPU session", n_files) as reader.step:
        _take(found, files, reader, changed, metadata, square_images, hole_images, exposures)
    found.unread_squares = frozenset(
        file.square_id for file in files.square_metadata if file.key not in whole
    )
    _add_named_exposures(found, files)
    _add_extra(found)
    return found


def _take(
    found: FoundSession,
    files: EpuFiles,
    reader: FileReader,
    changed: Callable[[FoundFile], bool],
    metadata: list[FoundFile],
    square_images: list[FoundFile],
    hole_images: list[FoundFile],
    exposures: list[tuple[FoundFile, ExposureName]],
) -> None:
    """Read session and atlas, and of the other files these."""
    if files.session is not None:
        found.session_is_new = changed(files.session)
        for _, session in reader.read([files.session], read_epu_session):
            found.session = session
    if files.atlas is not None:
        for file, atlas in reader.read([files.atlas], read_atlas):
            found.atlas = atlas
            found.brightness, note = square_brightness(atlas, Path(file.path).parent)
            found.notes.append(note)
    again = [
        file.key
        for file, square in reader.read(metadata, read_grid_square)
        if not _take_square(found, square, file)
    ]
    if again:
        found.notes.append(
            f"left out: {counted(len(again), 'GridSquare files')} of a square that another file is of too "
            f"(first: {again[0]})"
        )
    for file, image in reader.read(square_images, read_image):
        found.square_images[file.square_id] = image
    take_hole_images(found, reader, hole_images, FieldsBySquare())
    square_of = {
        hole.hole_id: square_id for square_id, square in found.squares.items() for hole in square.holes
    }
    take_exposures(found, reader, exposures, square_of, FieldsBySquare())


def _take_square(found: FoundSession, square: GridSquare, file: FoundFile) -> bool:
    """Whether it was taken: the first file of a square counts."""
    square_id = square.square_id or file.square_id
    return found.squares.setdefault(square_id, square) is square


def _add_named_exposures(found: FoundSession, files: EpuFiles) -> None:
    """Exposures that a GridSquare file names and that have no XML here: imaged, stage position unknown."""
    added = 0
    unknown = []
    for square_id, square in found.squares.items():
        for hole in square.holes:
            for text in hole.acquisitions:
                name = parse_exposure(text)
                if name is None or name.hole_id != hole.hole_id:
                    unknown.append(text)
                elif name.stem not in files.exposures:
                    found.exposures.append((name, square_id, None, math.nan, math.nan))
                    added += 1
    if added:
        found.notes.append(
            f"{counted(added, 'exposures', 'stand')} in GridSquare files without an XML of their own: time from the "
            "name, stage position unknown"
        )
    if unknown:
        found.notes.append(
            f"left out: {len(unknown)} acquisitions in GridSquare files with names that EPU does not give, "
            f"such as {unknown[0][:80]}"
        )


def _add_extra(found: FoundSession) -> None:
    if found.session is not None:
        found.extra["session"] = found.session.extra
        for area in found.session.areas:
            found.extra[area.area_id] = {
                "shift_x_px": f"{area.shift_x_px:.12g}",
                "shift_y_px": f"{area.shift_y_px:.12g}",
                "defocus_um": " ".join(f"{value:.6g}" for value in area.defocus_um),
                "exposure_time_s": f"{area.exposure_time_s:.12g}",
            }
    if found.atlas is not None:
        for node in found.atlas.squares:
            found.extra[node.square_id] = dict(node.extra)
        if found.atlas.repeated:
            found.notes.append(
                f"left out: {found.atlas.repeated} repeats of squares under further atlas tiles"
            )
    # A hole with an image has seven times the fields of one without: they have little to share.
    imaged, others = FieldsBySquare(), FieldsBySquare()
    for square_id, square in found.squares.items():
        found.extra.setdefault(square_id, {}).update(square.extra)
        for hole in square.holes:
            image_fields = found.hole_fields.get(hole.hole_id)
            found.hole_fields[hole.hole_id] = (
                others.of(square_id, hole.extra)
                if image_fields is None
                else imaged.of(square_id, {**hole.extra, **image_fields})
            )
    for square_id, image in found.square_images.items():
        found.extra.setdefault(square_id, {}).update(fields_of_image(image))


def clustering(session: EpuSession | None, radius_um: float | None) -> tuple[float | None, bool | None]:
    """Radius of a cluster and whether the session images clusters; None unknown."""
    clusters = None if session is None else session.clusters
    if radius_um is not None:
        return radius_um, clusters
    if session is None or clusters is False or not session.clustering_radius_um > 0:
        return None, clusters
    return session.clustering_radius_um, clusters


def _holes_and_exposures(
    found: FoundSession, earlier: pd.DataFrame | None, radius_um: float | None, clusters: bool | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exposures and holes, in their patches and placed as far as can be; adds to the notes."""
    exposures = exposure_table(found)
    holes = hole_table(found, exposures)
    rows, labels = _runs(exposures, earlier)
    placed = placed_by_beam_shift(
        exposures, holes, _labels_of(exposures, rows, labels), found.beam_shifts, found.targets_um
    )
    found.notes += placed.notes
    patches = patch_ids(placed.holes, runs_of_holes(rows, labels), clusters, radius_um)
    return placed.exposures, placed.holes.assign(patch_id=patches)


def _runs(exposures: pd.DataFrame, earlier: pd.DataFrame | None) -> tuple[pd.DataFrame, NDArray[np.object_]]:
    """Exposures of this read and the earlier ones, and the run of each."""
    rows = exposures
    if earlier is not None and len(earlier):
        before = earlier[~earlier["exposure_id"].isin(exposures["exposure_id"])]
        rows = pd.concat([before, exposures], ignore_index=True) if len(exposures) else before
    return rows, image_shift_runs(rows)


def _labels_of(
    exposures: pd.DataFrame, rows: pd.DataFrame, labels: NDArray[np.object_]
) -> NDArray[np.object_]:
    """The run of each exposure of this read alone."""
    run_of = dict(zip(rows["exposure_id"], labels, strict=True))
    return np.array([run_of.get(each, "") for each in exposures["exposure_id"]], dtype=np.object_)
