"""An EPU session while the microscope writes it: each image that is new is read alone, as a whole reading would.

What the folder holds, which files were read and the runs of the exposures so far are remembered, so that one more
image costs its own reading. Images of holes and exposures are read so; all else (.dm files, images of squares, files
outside a square's folder, exposures of many holes at once, files that go away) asks for a whole reading.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.formats.epu.beam_shift import HOLES_NEEDED
from cryoscout.formats.epu.dm import EpuSession, read_epu_session
from cryoscout.formats.epu.file_reader import FileReader, take_exposures, take_hole_images
from cryoscout.formats.epu.files import DEEPEST, FoundFile, is_entered, listing_of, square_above
from cryoscout.formats.epu.images import FieldsBySquare
from cryoscout.formats.epu.names import exposure_of_xml, square_folder, square_image
from cryoscout.formats.epu.patches import ImageShiftRuns
from cryoscout.formats.epu.session import FORMAT, clustering
from cryoscout.formats.epu.tables import FoundSession, exposure_rows
from cryoscout.formats.records import FewRecords, FileStamp, ReadExposure, ReadHole, WholeReadingNeededError
from cryoscout.session.vendor_fields import VendorFields

_NO_SHIFT = {"shift_x_um": "0.0", "shift_y_um": "0.0"}


class FollowedFolder:
    """The folder of an EPU session that is read on from what a whole reading found."""

    def __init__(self, path: Path, cluster_radius_um: float | None = None) -> None:
        """List the folder; make it before the whole reading that `begin` goes on from.

        path : of the session, or a folder of it     cluster_radius_um : as in `read_source`
        Raises FileFormatError where the folder cannot be listed.
        """
        self.path = path
        self._radius_um = cluster_radius_um
        self._listing = listing_of(path)
        self._known: dict[str, FileStamp] = {}
        self._pending: dict[str, FoundFile] = {}
        self._left_out: dict[str, FoundFile] = {}
        self._of_exposures, self._of_holes = FieldsBySquare(), FieldsBySquare()
        self._session: EpuSession | None = None
        self._runs = _StoredRuns([])

    def begin(self, known: Mapping[str, FileStamp], exposures: pd.DataFrame) -> None:
        """Go on from a whole reading.

        known : stamps of what was read     exposures : of the stored session, EXPOSURE_COLUMNS
        """
        files = self._listing.files
        self._known = dict(known)
        # Files that a whole reading left out are as they were until they change.
        self._left_out = {file.key: file for file in self._listed() if file.key not in self._known}
        self._pending = {}
        if files.session is not None and files.session.key in self._known:
            reader = FileReader(permissive=True, retries=0, retry_wait_s=0.0)
            for _, session in reader.read([files.session], read_epu_session):
                self._session = session
        columns = ("started_at", "exposure_id", "hole_id", "square_id", "stage_x_um", "stage_y_um")
        table = exposures.assign(started_at=exposures["started_at"].astype("datetime64[ns]").astype("int64"))
        self._runs = _StoredRuns(zip(*(table[name].tolist() for name in columns), strict=True))

    @property
    def left_out(self) -> list[Path]:
        """Files that deviate or are not whole; each is read again when it has changed."""
        return [Path(file.path) for file in self._left_out.values()]

    def read(self, changed: Sequence[Path]) -> FewRecords:
        """Read what is new or has changed among these files, and among those of which nothing is stored yet.

        A file that is not whole, or deviates so that nothing is left of it, is left out until it changes.
        Raises WholeReadingNeededError; nothing is forgotten then.
        """
        for path in [*changed, *self.left_out]:
            file = self._taken(path)
            if file is not None:
                self._pending[file.key] = file
        files = self._listing.files
        images = [file for file in files.hole_images.values() if file.key in self._pending]
        names = (exposure_of_xml(key.rsplit("/", 1)[-1]) for key in self._pending)
        taken = (files.exposures[name.stem] for name in names if name is not None)
        exposures = [(file, name) for file, name in taken if file.key in self._pending]
        holes = {name.hole_id for _, name in exposures}
        if len(holes) > HOLES_NEEDED:
            raise WholeReadingNeededError(f"{len(exposures)} exposures of {len(holes)} holes came at once")
        found = FoundSession(session=self._session)
        reader = FileReader(permissive=True, retries=0, retry_wait_s=0.0)
        take_hole_images(found, reader, images, self._of_holes)
        take_exposures(found, reader, exposures, {}, self._of_exposures)
        for file in [*images, *(file for file, _ in exposures)]:
            if file.key in reader.stamps:
                self._left_out.pop(file.key, None)
            else:
                self._left_out[file.key] = file
        self._pending = {key: self._pending[key] for key in reader.stamps}
        return self._records(found, reader)

    def stored(self, records: FewRecords, exposures: Iterable[ReadExposure]) -> None:
        """What `read` gave is stored.

        exposures : those of the session that are new, or whose time or stage position was missing, as stored
        """
        self._known |= records.stamps
        self._pending = {}
        self._runs.add(
            (
                _ns(each.started_at),
                each.exposure_id,
                each.hole_id,
                each.square_id,
                each.stage_x_um,
                each.stage_y_um,
            )
            for each in exposures
        )

    def _listed(self) -> list[FoundFile]:
        """The files that count."""
        files = self._listing.files
        listed = [file for file, _ in files.exposures.values()]
        listed += [*files.square_metadata, *files.square_images.values(), *files.hole_images.values()]
        return listed + [file for file in (files.session, files.atlas) if file is not None]

    def _taken(self, path: Path) -> FoundFile | None:
        """The file as it is listed now, where it is one to read; None where it is not, or is as it was."""
        try:
            parts = path.relative_to(self.path).parts
        except ValueError:
            return None
        name, key = path.name, "/".join(parts)
        if (
            len(parts) > DEEPEST + 1
            or not name.endswith((".xml", ".dm"))
            or not all(map(is_entered, parts[:-1]))
        ):
            return None
        try:
            status = path.stat()
        except OSError:
            if key in self._known and any(file.key == key for file in self._listed()):
                raise WholeReadingNeededError(f"{key} went away") from None
            self._left_out.pop(key, None)
            self._pending.pop(key, None)
            return None
        above = [square for square in map(square_folder, reversed(parts[:-1])) if square is not None]
        square_id = above[0] if above else square_above(self.path)
        file = FoundFile(str(path), key, FileStamp(status.st_size, status.st_mtime_ns), square_id)
        before = self._left_out.get(key)
        if self._known.get(key) == file.stamp or (before is not None and before.stamp == file.stamp):
            return None
        if name.endswith(".dm"):
            raise WholeReadingNeededError(f"{key} is new or has changed")
        if not self._listing.take_image(file, name):
            return None
        if square_image(name) is not None:
            raise WholeReadingNeededError(f"{key} is new or has changed")
        if not square_id:
            raise WholeReadingNeededError(f"{key} lies outside the folder of a square")
        return file

    def _records(self, found: FoundSession, reader: FileReader) -> FewRecords:
        exposures = [
            ReadExposure(stem, hole_id, square_id, started_at, x_um, y_um)
            for stem, hole_id, square_id, _, _, started_at, x_um, y_um, _, _ in exposure_rows(found)
        ]
        exposures.sort(
            key=lambda each: (bool(np.isnat(each.started_at)), _ns(each.started_at), each.exposure_id)
        )
        labels = self._runs.labels_with(exposures)
        radius_um, clusters = clustering(found.session, self._radius_um)
        squares = {hole_id: square_id for hole_id, (square_id, _, _) in sorted(found.hole_positions.items())}
        for each in exposures:
            squares.setdefault(each.hole_id, each.square_id)
        with_file = {file.square_id for file in self._listing.files.square_metadata}
        holes = []
        for hole_id, square_id in squares.items():
            _, x_um, y_um = found.hole_positions.get(hole_id, ("", math.nan, math.nan))
            is_placed = math.isfinite(x_um) or bool(with_file & {square_id, ""})
            patch_id: str | None = labels.get(hole_id, "")
            if not patch_id and clusters is False:
                patch_id = f"{square_id}_hole_{hole_id}"
            elif not patch_id and (radius_um is not None or is_placed):
                patch_id = None
            holes.append(
                ReadHole(hole_id, square_id, x_um, y_um, patch_id, bool(with_file & {square_id, ""}))
            )
        fields: dict[str, VendorFields] = dict(found.hole_fields)
        for stem, of_exposure in found.exposure_fields.items():
            shift = found.beam_shifts.get(stem)
            is_zero = shift is not None and shift.x == 0.0 and shift.y == 0.0
            fields[stem] = of_exposure.with_more(_NO_SHIFT) if is_zero else of_exposure
        return FewRecords(
            path=self.path,
            format=FORMAT,
            exposures=tuple(exposures),
            holes=tuple(holes),
            extra=fields,
            shots=None if found.session is None else (len(found.session.areas) or None),
            deviations=tuple(reader.deviations),
            stamps=dict(reader.stamps),
        )


def _ns(at: np.datetime64) -> int:
    return int(at.astype("datetime64[ns]").astype(np.int64))


_Row = tuple[int, str, str, str, float, float]
"""Time in ns, exposure id, hole id, square id, stage position x and y in um."""
_NO_TIME = int(np.datetime64("NaT", "ns").astype(np.int64))


class _StoredRuns:
    """The runs of the stored exposures, and of others among them (see `image_shift_runs`)."""

    def __init__(self, rows: Iterable[_Row]) -> None:
        self._rows = sorted(row for row in rows if _is_placed(row))
        self._ids = {row[1] for row in self._rows}
        self._runs, self._first = _labelled(self._rows)

    def add(self, rows: Iterable[_Row]) -> None:
        """Store further exposures."""
        new = sorted(row for row in rows if _is_placed(row) and row[1] not in self._ids)
        if not new:
            return
        is_last = not self._rows or new[0] > self._rows[-1]
        self._ids |= {row[1] for row in new}
        if not is_last:
            for row in new:
                bisect.insort(self._rows, row)
            self._runs, self._first = _labelled(self._rows)
            return
        self._rows += new
        _label_on(self._runs, self._first, new)

    def labels_with(self, exposures: Sequence[ReadExposure]) -> dict[str, str]:
        """Hole id -> label of its first exposure, of the holes of some exposures, as if these were stored."""
        holes = {each.hole_id for each in exposures}
        new: list[_Row] = sorted(
            row
            for each in exposures
            if _is_placed(row := (_ns(each.started_at), each.exposure_id, each.hole_id, each.square_id,
                                  each.stage_x_um, each.stage_y_um))
        )  # fmt: skip
        again = self._ids & {each.exposure_id for each in exposures}
        if again or (new and self._rows and new[0] < self._rows[-1]):
            ids = {each.exposure_id for each in exposures}
            _, first = _labelled(sorted([*(row for row in self._rows if row[1] not in ids), *new]))
        else:
            first = {hole_id: self._first[hole_id] for hole_id in holes if hole_id in self._first}
            if new:
                _label_on(self._runs.copy(), first, new)
        return {hole_id: first[hole_id] for hole_id in holes if hole_id in first}


def _is_placed(row: _Row) -> bool:
    return row[0] != _NO_TIME and math.isfinite(row[4]) and math.isfinite(row[5])


def _labelled(rows: Sequence[_Row]) -> tuple[ImageShiftRuns, dict[str, str]]:
    runs, first = ImageShiftRuns(), dict[str, str]()
    _label_on(runs, first, rows)
    return runs, first


def _label_on(runs: ImageShiftRuns, first: dict[str, str], rows: Sequence[_Row]) -> None:
    """Go on with the runs; `first` gets the labels of holes that it does not have yet."""
    for _, exposure_id, hole_id, square_id, x_um, y_um in rows:
        label = runs.label_of_next(square_id, hole_id or exposure_id, x_um, y_um)
        if hole_id:
            first.setdefault(hole_id, label)
