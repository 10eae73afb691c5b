"""Reading the files of an EPU session one by one: whole or not, deviating or not, and what images of each kind say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.epu.beam_shift import BeamShift
from cryoscout.formats.epu.data_contract_xml import NotWholeError
from cryoscout.formats.epu.files import FoundFile
from cryoscout.formats.epu.images import FieldsBySquare, ImageRecord, read_image
from cryoscout.formats.epu.names import ExposureName
from cryoscout.formats.epu.tables import FoundSession
from cryoscout.formats.records import FileStamp
from cryoscout.formats.text.findings import Deviation, Findings

T = TypeVar("T")


@dataclass
class FileReader:
    """Reads files one by one, collects their deviations and stamps, and comes back to those that are not whole."""

    permissive: bool
    retries: int
    retry_wait_s: float
    deviations: list[Deviation] = field(default_factory=list)
    stamps: dict[str, FileStamp] = field(default_factory=dict)
    step: Callable[[], None] = lambda: None
    """Called after each file."""

    def read(
        self, files: Iterable[FoundFile], read: Callable[[Path, Findings], T]
    ) -> Iterator[tuple[FoundFile, T]]:
        """Each file and its record; a file that raises is a deviation, or raises when strict."""
        pending = list(files)
        for attempt in range(self.retries + 1):
            not_whole: list[tuple[FoundFile, NotWholeError]] = []
            for file in pending:
                self.step()
                findings = Findings(Path(file.path), self.permissive)
                try:
                    record = read(findings.path, findings)
                except NotWholeError as error:
                    not_whole.append((file, error))
                    continue
                except FileFormatError as error:
                    self._leave_out(file, error)
                    continue
                self._keep(file, findings)
                yield file, record
            pending = [file for file, _ in not_whole]
            if not pending:
                return
            if attempt < self.retries:
                time.sleep(self.retry_wait_s)
        for file, still in not_whole:
            self._leave_out(file, still)

    def _keep(self, file: FoundFile, findings: Findings) -> None:
        self.stamps[file.key] = file.stamp
        for deviation in findings.deviations:
            element = f"{file.key}: {deviation.element}" if deviation.element else file.key
            self.deviations.append(Deviation(deviation.line, deviation.message, element))

    def _leave_out(self, file: FoundFile, error: FileFormatError) -> None:
        if not self.permissive:
            raise error
        self.deviations.append(Deviation(error.line, error.detail, file.key))


def take_exposures(
    found: FoundSession,
    reader: FileReader,
    files: list[tuple[FoundFile, ExposureName]],
    square_of: Mapping[str, str],
    by_square: FieldsBySquare,
) -> None:
    """Read exposures, with all that their XML says.

    square_of : hole id -> square id, for exposures outside any square's folder
    """
    names = {file.key: name for file, name in files}
    presets: dict[str, str] = {}
    for file, image in reader.read((file for file, _ in files), read_image):
        name = names[file.key]
        square_id = file.square_id or square_of.get(name.hole_id, "")
        found.exposures.append((name, square_id, image.acquired_at, image.stage_x_um, image.stage_y_um))
        numbers, preset = image.numbers, image.preset
        if "beam_shift_x" in numbers and "beam_shift_y" in numbers:
            found.beam_shifts[name.stem] = BeamShift(
                numbers["beam_shift_x"], numbers["beam_shift_y"], presets.setdefault(preset, preset)
            )
        extra = image.extra(is_placed=True) | {"setting_id": name.setting_id}
        found.exposure_fields[name.stem] = by_square.of(square_id, extra)


def take_hole_images(
    found: FoundSession, reader: FileReader, files: Iterable[FoundFile], by_square: FieldsBySquare
) -> None:
    """Read images of holes: where each hole is, and all that the XML says."""
    for file, image in reader.read(files, read_image):
        found.hole_positions[file.hole_id] = (file.square_id, image.stage_x_um, image.stage_y_um)
        found.hole_fields[file.hole_id] = by_square.of(file.square_id, fields_of_image(image))


def fields_of_image(image: ImageRecord) -> dict[str, str]:
    """Fields of the image of a square or hole, told apart from the fields of the square or hole itself."""
    return {f"image_{name}": text for name, text in image.extra().items()}
