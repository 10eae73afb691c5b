"""The XML beside an image of EPU: faithful texts of all fields, and the known ones in the units of the package.

    field                       path                                            unit in the file
    acquired_at                 microscopeData/acquisition/acquisitionDateTime  local time, 7 digits, zone
    stage_{x,y,z}_um            microscopeData/stage/Position/{X,Y,Z}           metre
    tilt_{alpha,beta}_deg       microscopeData/stage/Position/{A,B}             radian
    pixel_size_angstrom         SpatialScale/pixelSize/x/numericValue           metre
    defocus_um                  microscopeData/optics/Defocus                   metre
    applied_defocus_um          CustomData/AppliedDefocus                       metre, negative is underfocus
    dose_per_square_angstrom    CustomData/Dose                                 electrons per square metre
    exposure_time_s             microscopeData/acquisition/camera/ExposureTime  second
    {width,height}_px           microscopeData/acquisition/camera/ReadoutArea   px of the binned image
    beam_shift_{x,y}            microscopeData/optics/BeamShift                 none given: not metres
    beam_tilt_{x,y}, image_shift_{x,y}                                          none given
    detector                    CustomData/DetectorCommercialName, before EPU 2.7 CustomData/BinaryResult.Detector

The vendor publishes no specification; the paths and units are those of files of EPU 2.6 to 3.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryoscout.core.units import UM_PER_M
from cryoscout.formats import limits
from cryoscout.formats.epu.data_contract_xml import LARGEST_IMAGE_XML_BYTES, flattened, read_xml
from cryoscout.formats.epu.values import (
    ANGSTROM_PER_M,
    DEGREES_PER_RADIAN,
    SQUARE_METRES_PER_SQUARE_ANGSTROM,
    Moment,
    moment,
    number,
    required_number,
)
from cryoscout.formats.text.findings import Findings
from cryoscout.session.vendor_fields import VendorFields

IMAGE_ROOT = "MicroscopeImage"

_ACQUISITION = "microscopeData/acquisition"
_CAMERA = "microscopeData/acquisition/camera"
_STAGE = "microscopeData/stage/Position"
_OPTICS = "microscopeData/optics"
_PROBE_MODE = f"{_OPTICS}/ProbeMode"
_TIME = f"{_ACQUISITION}/acquisitionDateTime"

_PIXEL_SIZE = "pixel_size_angstrom"
_NUMBERS: tuple[tuple[str, str, float], ...] = (
    ("stage_z_um", f"{_STAGE}/Z", UM_PER_M),
    ("tilt_alpha_deg", f"{_STAGE}/A", DEGREES_PER_RADIAN),
    ("tilt_beta_deg", f"{_STAGE}/B", DEGREES_PER_RADIAN),
    (_PIXEL_SIZE, "SpatialScale/pixelSize/x/numericValue", ANGSTROM_PER_M),
    ("defocus_um", f"{_OPTICS}/Defocus", UM_PER_M),
    ("applied_defocus_um", "CustomData/AppliedDefocus", UM_PER_M),
    ("dose_per_square_angstrom", "CustomData/Dose", SQUARE_METRES_PER_SQUARE_ANGSTROM),
    ("exposure_time_s", f"{_CAMERA}/ExposureTime", 1.0),
    ("width_px", f"{_CAMERA}/ReadoutArea/width", 1.0),
    ("height_px", f"{_CAMERA}/ReadoutArea/height", 1.0),
    ("magnification", f"{_OPTICS}/TemMagnification/NominalMagnification", 1.0),
    ("beam_shift_x", f"{_OPTICS}/BeamShift/_x", 1.0),
    ("beam_shift_y", f"{_OPTICS}/BeamShift/_y", 1.0),
    ("beam_tilt_x", f"{_OPTICS}/BeamTilt/_x", 1.0),
    ("beam_tilt_y", f"{_OPTICS}/BeamTilt/_y", 1.0),
    ("image_shift_x", f"{_OPTICS}/ImageShift/_x", 1.0),
    ("image_shift_y", f"{_OPTICS}/ImageShift/_y", 1.0),
)
_TEXTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("detector", ("CustomData/DetectorCommercialName", "CustomData/BinaryResult.Detector")),
    ("unique_id", ("uniqueID",)),
    ("epu_version", ("microscopeData/core/ApplicationSoftwareVersion",)),
    ("instrument", ("microscopeData/instrument/InstrumentModel",)),
)
_NUMBER_AT = {element: name for name, element, _ in _NUMBERS}
_IN_TABLES = (f"{_STAGE}/X", f"{_STAGE}/Y")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image's XML."""

    acquired_at: Moment | None
    stage_x_um: float
    """NaN unknown."""
    stage_y_um: float
    numbers: dict[str, float]
    """Known numbers that the file has, by the names of the module's table."""
    texts: dict[str, str]
    """Known texts that the file has."""
    fields: dict[str, str]
    """Every text of the file by its path, unknown ones too, as written."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of the full image, px; None unknown."""
        height, width = self.numbers.get("height_px", 0.0), self.numbers.get("width_px", 0.0)
        return (int(height), int(width)) if height >= 1 and width >= 1 else None

    @property
    def preset(self) -> str:
        """The optics that a length in the file without a unit depends on."""
        magnification = self.numbers.get("magnification")
        mode = self.fields.get(_PROBE_MODE)
        named = "magnification unknown" if magnification is None else f"magnification {magnification:g}"
        return named if mode is None else f"{named}, {mode}"

    def extra(self, *, is_placed: bool = False) -> dict[str, str]:
        """Every field, as text: known ones in the unit of their names, all others by their path and as written.

        is_placed : the tables have the stage position of this image; its time stays, because they have no zone
        """
        known = {name: f"{value:.12g}" for name, value in self.numbers.items()} | self.texts
        taken = {
            next(path for path in paths if path in self.fields)
            for name, paths in _TEXTS
            if name in self.texts
        }
        return known | {
            path: text
            for path, text in self.fields.items()
            if path not in taken
            and _NUMBER_AT.get(path) not in self.numbers
            and not (is_placed and path in _IN_TABLES)
        }


class FieldsBySquare:
    """Fields of images over those of the first one of the same square, from which few differ."""

    def __init__(self) -> None:
        self._first: dict[str, dict[str, str]] = {}
        self._names: dict[str, str] = {}

    def of(self, square_id: str, fields: Mapping[str, str]) -> VendorFields:
        """The fields of one more image, or of a hole."""
        shared = self._first.setdefault(square_id, dict(fields))
        found = VendorFields(fields, shared)
        # One copy of each name: a large session has fifty thousand images.
        found.own = {self._names.setdefault(name, name): text for name, text in found.own.items()}
        return found


def _stage_um(fields: Mapping[str, str], axis: str, findings: Findings) -> float:
    element = f"{_STAGE}/{axis}"
    value_um = required_number(fields.get(element), element, findings, UM_PER_M)
    return limits.stage_um(value_um, "it", findings, element=element)


def read_image(path: Path, findings: Findings | None = None) -> ImageRecord:
    """Read the XML beside an image of a square, a hole or an exposure.

    findings : collects deviations; the first one raises when None
    Raises FileFormatError (see `epu_xml.read_xml`).
    """
    findings = Findings(path) if findings is None else findings
    document = read_xml(path, (IMAGE_ROOT,), LARGEST_IMAGE_XML_BYTES)
    fields = flattened(document, document.root)
    if _TIME not in fields:
        findings.deviates("must be a time. Got nothing instead.", element=_TIME)
    numbers = {}
    for name, element, factor in _NUMBERS:
        value = number(fields.get(element), element, findings, factor)
        if name == _PIXEL_SIZE:
            value = limits.pixel_angstrom(value, "it", findings, element=element)
        if value == value:
            numbers[name] = value
    texts = {}
    for name, elements in _TEXTS:
        for element in elements:
            if element in fields:
                texts[name] = fields[element]
                break
    return ImageRecord(
        acquired_at=moment(fields.get(_TIME), _TIME, findings),
        stage_x_um=_stage_um(fields, "X", findings),
        stage_y_um=_stage_um(fields, "Y", findings),
        numbers=numbers,
        texts=texts,
        fields=fields,
    )
