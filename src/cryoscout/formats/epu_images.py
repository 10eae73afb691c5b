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

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoscout.core.errors import InputError
from cryoscout.formats.epu_values import (
    ANGSTROM_PER_M,
    DEGREES_PER_RADIAN,
    SQUARE_METRES_PER_SQUARE_ANGSTROM,
    UM_PER_M,
    Moment,
    moment,
    number,
    required_number,
)
from cryoscout.formats.epu_xml import LARGEST_IMAGE_XML_BYTES, flattened, read_xml
from cryoscout.formats.findings import Findings

IMAGE_ROOT = "MicroscopeImage"

_ACQUISITION = "microscopeData/acquisition"
_CAMERA = "microscopeData/acquisition/camera"
_STAGE = "microscopeData/stage/Position"
_OPTICS = "microscopeData/optics"
_TIME = f"{_ACQUISITION}/acquisitionDateTime"

_NUMBERS: tuple[tuple[str, str, float], ...] = (
    ("stage_z_um", f"{_STAGE}/Z", UM_PER_M),
    ("tilt_alpha_deg", f"{_STAGE}/A", DEGREES_PER_RADIAN),
    ("tilt_beta_deg", f"{_STAGE}/B", DEGREES_PER_RADIAN),
    ("pixel_size_angstrom", "SpatialScale/pixelSize/x/numericValue", ANGSTROM_PER_M),
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

    def extra(self) -> dict[str, str]:
        """The known fields that have no place in the tables, as text; lengths in the unit of their names."""
        return {name: f"{value:.12g}" for name, value in self.numbers.items()} | self.texts


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
        stage_x_um=required_number(fields.get(f"{_STAGE}/X"), f"{_STAGE}/X", findings, UM_PER_M),
        stage_y_um=required_number(fields.get(f"{_STAGE}/Y"), f"{_STAGE}/Y", findings, UM_PER_M),
        numbers=numbers,
        texts=texts,
        fields=fields,
    )


def scaled_to(
    x_px: ArrayLike, y_px: ArrayLike, full_shape: tuple[int, int], image_shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions on the full image as positions on a smaller picture of it: the jpg of a square is 512 px wide.

    x_px, y_px : (n,) columns and rows from the upper left corner of the full image; NaN stays NaN
    full_shape : height, width of the full image, px     image_shape : height, width of the picture, px
    Returns x, y on the picture, px. Raises InputError for shapes that are none, that differ in aspect by more than
    2 %, and for positions outside the full image.
    """
    for name, shape in (("full_shape", full_shape), ("image_shape", image_shape)):
        if len(shape) != 2 or min(shape) < 1:
            raise InputError(f"{name} must be a height and a width of at least 1 px. Got {shape} instead.")
    height, width = full_shape
    y_scale, x_scale = image_shape[0] / height, image_shape[1] / width
    if abs(x_scale / y_scale - 1.0) > _ASPECT_TOLERANCE:
        raise InputError(
            f"image_shape must have the aspect of the full image {full_shape}. Got {image_shape} instead. "
            "Remedy: give the picture that was made of this image."
        )
    x, y = np.asarray(x_px, dtype=np.float64), np.asarray(y_px, dtype=np.float64)
    outside = (x < 0) | (x > width) | (y < 0) | (y > height)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"Positions must lie in the full image of {width} x {height} px. Got x {x.flat[first]:g}, "
            f"y {y.flat[first]:g} instead. Remedy: give the shape of the image that they were found on."
        )
    return x * x_scale, y * y_scale


_ASPECT_TOLERANCE = 0.02
