"""EPU's .dm files: the session, the holes of one square, the atlas; faithful records in the units of the package.

    file           root               what it tells (unit in the file)
    EpuSession.dm  EpuSessionXml      name, start, ClusteringMode, ClusteringRadius (m), squares, shots, delays (s)
    GridSquare.dm  GridSquareXml      Position (m); targets: id, StagePosition (m), PixelCenter (px of the full image)
    Atlas.dm       AtlasSessionXml    nodes: square id, stage positions (m), centre on the atlas (px)

Which file it is, its root tells and not its name. The vendor publishes no specification; the paths and units are those
of files of EPU 3.4 to 3.9.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from cryoscout.core.errors import FileFormatError
from cryoscout.core.units import UM_PER_M
from cryoscout.formats import limits
from cryoscout.formats.epu.data_contract_xml import XmlDocument, flattened, read_xml
from cryoscout.formats.epu.names import last_name
from cryoscout.formats.epu.values import (
    DEGREES_PER_RADIAN,
    Moment,
    moment,
    number,
    required_number,
    shown,
    truth,
)
from cryoscout.formats.text.findings import Findings

DmKind = Literal["session", "square", "atlas"]
DM_ROOTS: dict[DmKind, str] = {
    "session": "EpuSessionXml",
    "square": "GridSquareXml",
    "atlas": "AtlasSessionXml",
}
CLUSTERED = "ClusteringWithImageBeamShift"

_ID = re.compile(r"[0-9]{1,20}")
_SESSION_NUMBERS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("hole_size_um", ("FilterHolesSettings", "HoleSize"), UM_PER_M),
    ("hole_spacing_um", ("FilterHolesSettings", "HoleSpacing"), UM_PER_M),
    ("hole_rotation_deg", ("FilterHolesSettings", "Rotation"), DEGREES_PER_RADIAN),
    ("delay_after_image_shift_s", ("TargetAreaTemplate", "DelayAfterImageShift"), 1.0),
    ("delay_after_stage_shift_s", ("TargetAreaTemplate", "DelayAfterStageShift"), 1.0),
    ("maximum_image_shift_um", ("TargetAreaTemplate", "MaximumImageShift"), UM_PER_M),
    (
        "autofocus_distance_um",
        ("TargetAreaTemplate", "AutoFocusArea", "RecurrenceDistance"),
        UM_PER_M,
    ),
)
_SESSION_TEXTS = (
    ("grid_type", ("GridType",)),
    ("grid_geometry", ("GridGeometry",)),
    ("autofocus", ("TargetAreaTemplate", "AutoFocusArea", "Recurrence")),
)
_IN_COLUMNS = ("PixelCenter", "StagePosition", "CorrectedStagePosition", "Id", "GridSquareId", "Selected")
"""Elements of a target that the tables hold, so `extra` need not."""


@dataclass(frozen=True)
class ShotArea:
    """One acquisition area of the template: a shot of every hole."""

    area_id: str
    shift_x_px: float
    """From the centre of the hole, px of the hole image; NaN unknown."""
    shift_y_px: float
    defocus_um: tuple[float, ...]
    """The list that the shots cycle through, negative is underfocus."""
    exposure_time_s: float


@dataclass(frozen=True)
class EpuSession:
    """EpuSession.dm."""

    session_id: str | None
    name: str | None
    started_at: Moment | None
    sample_id: str | None
    epu_version: str | None
    clustering_mode: str | None
    clustering_radius_um: float
    """NaN unknown."""
    atlas_name: str | None
    """The atlas file as the microscope's computer names it: never opened."""
    square_ids: tuple[str, ...]
    areas: tuple[ShotArea, ...]
    extra: dict[str, str]

    @property
    def clusters(self) -> bool | None:
        """Whether holes are imaged in image-shift clusters; None unknown."""
        return None if self.clustering_mode is None else self.clustering_mode == CLUSTERED


@dataclass(frozen=True, slots=True)
class HoleTarget:
    """One target of a GridSquare file."""

    hole_id: str
    x_um: float
    """Stage position, the corrected one where EPU corrected it; NaN unknown."""
    y_um: float
    x_px: float
    """Centre on the full square image, columns and rows from the upper left corner; NaN unknown."""
    y_px: float
    selected: bool | None
    acquisitions: tuple[str, ...]
    """Names of the exposures made of it."""
    extra: dict[str, str]
    """Its other texts as written."""


@dataclass(frozen=True)
class GridSquare:
    """A GridSquare file."""

    square_id: str
    x_um: float
    y_um: float
    holes: tuple[HoleTarget, ...]
    extra: dict[str, str]


@dataclass(frozen=True, slots=True)
class AtlasSquare:
    """One node of an atlas."""

    square_id: str
    x_um: float
    """Stage position: aligned to the session where EPU did so, else as targeted on the atlas; NaN unknown."""
    y_um: float
    area_um2: float
    """Width times height on the atlas (`Physical`); NaN unknown."""
    centre_px: tuple[float, float]
    """Column and row on the atlas, from its upper left corner; NaN unknown."""
    size_px: tuple[float, float]
    """Width and height on the atlas; NaN unknown."""
    extra: dict[str, str]


@dataclass(frozen=True)
class Atlas:
    """Atlas.dm."""

    atlas_id: str | None
    squares: tuple[AtlasSquare, ...]
    repeated: int
    """Nodes left out because their square had come before under another tile."""
    image_name: str | None = None
    """Name of the atlas's image without its ending; it lies beside the file."""
    size_px: tuple[float, float] = (math.nan, math.nan)
    """Width and height that the squares' pixels are counted on: as far as the tiles reach."""


def dm_kind(start: str) -> DmKind | None:
    """Which .dm file begins with this text; None for none of them."""
    found = re.search(r"<(?:[A-Za-z_][\w.-]{0,30}:)?([A-Za-z]+)[\s>/]", start)
    if found is None:
        return None
    return next((kind for kind, root in DM_ROOTS.items() if root == found[1]), None)


def read_epu_session(path: Path, findings: Findings | None = None) -> EpuSession:
    """Read EpuSession.dm; the first deviation raises where `findings` is None.

    Raises FileFormatError (see `epu_xml.read_xml`).
    """
    findings = Findings(path) if findings is None else findings
    document = read_xml(path, (DM_ROOTS["session"],))
    root = document.root
    samples = document.child(root, "Samples", "_items")
    sample = None if samples is None else document.child(samples, "SampleXml")
    if sample is None:
        findings.deviates("must hold a sample. Got nothing instead.", element="Samples/_items/SampleXml")
    extra = _texts_of(document, root)
    if sample is not None:
        extra |= _sample_extra(document, sample, findings)
    radius = document.text(root, "ClusteringRadius")
    return EpuSession(
        session_id=document.text(root, "Id"),
        name=document.text(root, "Name"),
        started_at=None if sample is None else _session_start(document, sample, findings),
        sample_id=None
        if sample is None
        else _identifier(document.text(sample, "Id"), "SampleXml/Id", findings),
        epu_version=_version(root),
        clustering_mode=document.text(root, "ClusteringMode"),
        clustering_radius_um=number(radius, "ClusteringRadius", findings, UM_PER_M),
        atlas_name=None if sample is None else document.text(sample, "AtlasId"),
        square_ids=() if sample is None else _square_ids(document, sample, findings),
        areas=() if sample is None else _areas(document, sample, findings),
        extra=extra,
    )


def _texts_of(document: XmlDocument, element: Element) -> dict[str, str]:
    """The texts directly below an element, as written."""
    found: dict[str, str] = {}
    for child in element:
        child = document.resolved(child) if child.get("Ref") is not None else child
        if len(child) == 0 and child.text is not None and child.text.strip():
            found.setdefault(child.tag, child.text.strip())
    return found


def _sample_extra(document: XmlDocument, sample: Element, findings: Findings) -> dict[str, str]:
    extra = {}
    for name, names, factor in _SESSION_NUMBERS:
        value = number(document.text(sample, *names), "/".join(names), findings, factor)
        if math.isfinite(value):
            extra[name] = f"{value:.12g}"
    for name, names in _SESSION_TEXTS:
        text = document.text(sample, *names)
        if text is not None:
            extra[name] = text
    return extra


def _session_start(document: XmlDocument, sample: Element, findings: Findings) -> Moment | None:
    """The sample's start has the microscope's zone; the session's is in UTC."""
    return moment(document.text(sample, "StartDateTime"), "SampleXml/StartDateTime", findings)


def _version(root: Element) -> str | None:
    found = re.search(r"Version=([0-9.]+)", root.get("Assembly", ""))
    return None if found is None else found[1]


def _square_ids(document: XmlDocument, sample: Element, findings: Findings) -> tuple[str, ...]:
    array = document.child(sample, "GridSquares", "m_serializationArray")
    found: dict[str, None] = {}
    for key, value in document.pairs(array, "KeyValuePairOfintSerializedReferenceOfGridSquareXml"):
        named = None if value is None else document.text(value, "FileName")
        element = f"GridSquares/{'?' if named is None else last_name(named)}"
        square_id = _identifier(key, element, findings)
        if square_id is not None:
            found[square_id] = None
    return tuple(found)


def _areas(document: XmlDocument, sample: Element, findings: Findings) -> tuple[ShotArea, ...]:
    array = document.child(sample, "TargetAreaTemplate", "DataAcquisitionAreas", "m_serializationArray")
    areas = []
    for key, value in document.pairs(array, "KeyValuePairOfintDataAcquisitionAreaXml"):
        element = f"DataAcquisitionAreas/{key}"
        area_id = _identifier(key, element, findings)
        if area_id is None or value is None:
            continue
        setting = "ImageAcquisitionSettingXml"
        defocus = document.child(value, setting, "Defocus")
        doses = () if defocus is None else tuple(document.text(item) for item in defocus)
        areas.append(
            ShotArea(
                area_id=area_id,
                shift_x_px=number(document.text(value, "ShiftInPixels", "width"), element, findings),
                shift_y_px=number(document.text(value, "ShiftInPixels", "height"), element, findings),
                defocus_um=tuple(
                    number(text, element, findings, UM_PER_M) for text in doses if text is not None
                ),
                exposure_time_s=number(document.text(value, setting, "ExposureTime"), element, findings),
            )
        )
    return tuple(areas)


def read_grid_square(path: Path, findings: Findings | None = None) -> GridSquare:
    """Read a GridSquare file, with regular holes (`TargetLocationsEfficient`) or lacey (`TargetLocations`).

    findings : collects deviations; the first one raises when None
    Raises FileFormatError (see `epu_xml.read_xml`), also when the file has no id.
    """
    findings = Findings(path) if findings is None else findings
    document = read_xml(path, (DM_ROOTS["square"],))
    root = document.root
    square_id = _identifier(document.text(root, "Id") or document.text(root, "AtlasNodeId"), "Id", findings)
    holes: dict[str, HoleTarget] = {}
    for key, value in document.pairs(_targets(document), "KeyValuePairOfintTargetLocation"):
        element = f"TargetLocation {shown(key or '')}"
        hole_id = _identifier(key, element, findings)
        if hole_id is None:
            continue
        if hole_id in holes:
            findings.deviates("a hole must stand once. Got it again instead.", element=element)
        elif value is None:
            findings.deviates("must have a value. Got nothing instead.", element=element)
        else:
            try:
                holes[hole_id] = _hole(document, hole_id, value, findings)
            except FileFormatError as error:
                if not findings.permissive:
                    raise
                findings.deviates(error.detail, element=element)
    return GridSquare(
        square_id=square_id or "",
        x_um=_stage_um(document.text(root, "Position", "X"), "Position/X", findings),
        y_um=_stage_um(document.text(root, "Position", "Y"), "Position/Y", findings),
        holes=tuple(holes.values()),
        extra=_texts_of(document, root),
    )


def _stage_um(
    text: str | None,
    element: str,
    findings: Findings,
    read: Callable[[str | None, str, Findings, float], float] = number,
) -> float:
    return limits.stage_um(read(text, element, findings, UM_PER_M), "it", findings, element=element)


def _image_px(text: str | None, element: str, findings: Findings) -> float:
    return limits.image_px(required_number(text, element, findings), "it", findings, element=element)


def _targets(document: XmlDocument) -> Element | None:
    """The list of targets: two names for it, and the one not in use is nil."""
    for name in ("TargetLocationsEfficient", "TargetLocations"):
        found = document.child(document.root, "TargetLocations", name, "m_serializationArray")
        if found is not None and len(found):
            return found
    return None


def _hole(document: XmlDocument, hole_id: str, value: Element, findings: Findings) -> HoleTarget:
    where = f"TargetLocation {hole_id}"
    stage = "StagePosition"
    if truth(document.text(value, "IsPositionCorrected"), f"{where}/IsPositionCorrected", findings):
        stage = "CorrectedStagePosition"
    made = []
    acquisitions = document.child(value, "ParticleAcquisitions", "KeyValuePairs")
    for _, made_one in document.pairs(acquisitions, "KeyValuePairOfintParticleAcquisitionData"):
        name = None if made_one is None else document.text(made_one, "Image", "BaseFileName")
        if name is not None:
            made.append(last_name(name))
    kept = [child for child in value if child.tag not in (*_IN_COLUMNS, "ParticleAcquisitions")]
    extra = {}
    for child in kept:
        child = document.resolved(child)
        for path, text in flattened(document, child).items():
            extra[f"{child.tag}/{path}" if path else child.tag] = text
    return HoleTarget(
        hole_id=hole_id,
        x_um=_stage_um(document.text(value, stage, "X"), f"{where}/{stage}/X", findings, required_number),
        y_um=_stage_um(document.text(value, stage, "Y"), f"{where}/{stage}/Y", findings, required_number),
        x_px=_image_px(document.text(value, "PixelCenter", "x"), f"{where}/PixelCenter/x", findings),
        y_px=_image_px(document.text(value, "PixelCenter", "y"), f"{where}/PixelCenter/y", findings),
        selected=truth(document.text(value, "Selected"), f"{where}/Selected", findings),
        acquisitions=tuple(made),
        extra=extra,
    )


def read_atlas(path: Path, findings: Findings | None = None) -> Atlas:
    """Read Atlas.dm; the first deviation raises where `findings` is None.

    Raises FileFormatError (see `epu_xml.read_xml`).
    """
    findings = Findings(path) if findings is None else findings
    document = read_xml(path, (DM_ROOTS["atlas"],))
    tiles = document.child(document.root, "Atlas", "TilesEfficient", "_items")
    if tiles is None:
        findings.deviates("must hold the tiles. Got nothing instead.", element="Atlas/TilesEfficient/_items")
    squares: dict[str, AtlasSquare] = {}
    repeated = 0
    width = height = 0.0
    for tile in () if tiles is None else tiles:
        right, down = _far_corner(document, tile, findings)
        width, height = max(width, right), max(height, down)
        # Newer files list the nodes as pairs, older ones inside m_serializationArray.
        for name in ("KeyValuePairs", "m_serializationArray"):
            nodes = document.child(tile, "Nodes", name)
            for key, value in document.pairs(nodes, "KeyValuePairOfintNodeXml"):
                square_id = _identifier(key, f"Nodes/{shown(key or '')}", findings)
                if square_id is None or value is None:
                    continue
                repeated += square_id in squares
                squares.setdefault(square_id, _atlas_square(document, square_id, value, findings))
    image = document.text(document.root, "Atlas", "AtlasImageReference", "BaseFileName")
    return Atlas(
        document.text(document.root, "Id"),
        tuple(squares.values()),
        repeated,
        None if image is None else last_name(image),
        (width or math.nan, height or math.nan),
    )


def _far_corner(document: XmlDocument, tile: Element, findings: Findings) -> tuple[float, float]:
    """Column and row at which a tile of the atlas ends; 0 where it does not say."""
    x, y, width, height = (
        number(document.text(tile, "AtlasPixelPosition", name), f"AtlasPixelPosition/{name}", findings)
        for name in ("x", "y", "width", "height")
    )
    ends = x + width, y + height
    return ends if math.isfinite(sum(ends)) else (0.0, 0.0)


def _atlas_square(document: XmlDocument, square_id: str, node: Element, findings: Findings) -> AtlasSquare:
    # In a real session the square was imaged at (278, -438) um; aligned position (271, -425), stage position before
    # the alignment (316, -374), `Physical` on the atlas (301, -390).
    x = y = math.nan
    for place, x_name, y_name in (
        (("AlignedStagePosition",), "X", "Y"),
        (("StagePosition",), "X", "Y"),
        (("PositionOnTheAtlas", "Physical"), "x", "y"),
    ):
        element = f"Nodes/{square_id}/{'/'.join(place)}"
        x = _stage_um(document.text(node, *place, x_name), element, findings)
        y = _stage_um(document.text(node, *place, y_name), element, findings)
        # Not aligned is written as zeros.
        if math.isfinite(x) and math.isfinite(y) and (x, y) != (0.0, 0.0):
            break
    extra = _texts_of(document, node)
    for name, names in (
        ("atlas_x_px", ("Center", "x")),
        ("atlas_y_px", ("Center", "y")),
        ("atlas_width_px", ("Size", "width")),
        ("atlas_height_px", ("Size", "height")),
        ("atlas_rotation_rad", ("Rotation",)),
    ):
        text = document.text(node, "PositionOnTheAtlas", *names)
        if text is not None:
            extra[name] = text

    def on_atlas(*names: str, factor: float = 1.0) -> float:
        element = f"Nodes/{square_id}/PositionOnTheAtlas/{'/'.join(names)}"
        return number(document.text(node, "PositionOnTheAtlas", *names), element, findings, factor)

    area = on_atlas("Physical", "width", factor=UM_PER_M) * on_atlas("Physical", "height", factor=UM_PER_M)
    element = f"Nodes/{square_id}/PositionOnTheAtlas/Physical"
    area_um2 = limits.square_area_um2(area, "its area", findings, element=element)
    return AtlasSquare(
        square_id,
        x,
        y,
        area_um2,
        (on_atlas("Center", "x"), on_atlas("Center", "y")),
        (on_atlas("Size", "width"), on_atlas("Size", "height")),
        extra,
    )


def _identifier(text: str | None, element: str, findings: Findings) -> str | None:
    if text is not None and _ID.fullmatch(text):
        return text
    findings.deviates(f"must be an id of up to 20 digits. Got {shown(text or '')} instead.", element=element)
    return None
