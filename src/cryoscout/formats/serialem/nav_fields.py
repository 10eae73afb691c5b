"""The keys of a navigator item as SerialEM writes them: kind, number of values, unit, and which an item needs.

Source: "Navigator Files" and "Importing Externally Defined Navigator Items" of
https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Needed = Literal["always", "map", "no"]


@dataclass(frozen=True)
class NavField:
    """One key of an item: int, float or text, how many values (None: any number), unit, whether an item needs it."""

    kind: Literal["int", "float", "text"]
    count: int | None = 1
    unit: str = ""
    needed: Needed = "no"


def _int(count: int | None = 1, unit: str = "", needed: Needed = "no") -> NavField:
    return NavField("int", count, unit, needed)


def _float(count: int | None = 1, unit: str = "", needed: Needed = "no") -> NavField:
    return NavField("float", count, unit, needed)


_TEXT = NavField("text", None)

COORDS_IN = ("CoordsInMap", "CoordsInAliMont", "CoordsInAliMontVS", "CoordsInPiece")
"""An item made outside SerialEM gives one of these in place of StageXYZ: px, px, and the stage Z in um."""

NAV_FIELDS: dict[str, NavField] = {
    # Every item
    "Color": _int(needed="always"),
    "NumPts": _int(needed="always"),
    "Regis": _int(unit="registration", needed="always"),
    "Type": _int(unit="0 point, 1 polygon, 2 map", needed="always"),
    # StageXYZ or one of COORDS_IN
    "StageXYZ": _float(3, "um"),
    **{key: _float(3, "px, px, um") for key in COORDS_IN},
    # NumPts values each; px instead of um in an item with one of COORDS_IN
    "PtsX": _float(None, "um"),
    "PtsY": _float(None, "um"),
    "MapID": _int(unit="unique id of any item", needed="map"),
    "GroupID": _int(),
    "DrawnID": _int(unit="MapID of the map it was drawn on"),
    "Acquire": _int(unit="1: to be acquired"),
    "Note": _TEXT,
    "Corner": _int(),
    "Draw": _int(),
    "RegPt": _int(unit="registration point number"),
    "PolyID": _int(),
    "FitToPolygonID": _int(),
    "Imported": _int(),
    "RegisteredToID": _int(),
    "SuperMontXY": _int(2),
    "OrigReg": _int(),
    "Flags": _int(),
    "BklshXY": _float(2, "um"),
    "SamePosId": _int(),
    "RawStageXY": _float(2, "um"),
    "PieceOn": _int(),
    "XYinPc": _float(2, "px"),
    "FocusAxisPos": _float(unit="um"),
    "LDAxisAngle": _int(2, "flag, degrees"),
    "FocusOffsets": _int(2, "px"),
    "HoleArray": _int(2, "holes in x and y, see `patterns`"),
    "SkipHoles": _int(None, "pairs of indices into HoleArray"),
    "HoleISXspacing": _float(3, "image shift"),
    "HoleISYspacing": _float(3, "image shift"),
    "HoleSizeSpacing": _float(2, "um"),
    "IStargets": _float(None, "image shift"),
    "TargetMag": _int(),
    "TSstartEndAngles": _float(2, "degrees"),
    "TSbidirAngle": _float(unit="degrees"),
    "TargetDefocus": _float(unit="um"),
    "FileToOpen": _TEXT,
    "TSparamIndex": _int(),
    "MontParamIndex": _int(),
    "FilePropIndex": _int(),
    "StateIndex": _int(),
    "MarkerShift": _float(2, "um"),
    "ShiftCohortID": _int(),
    **{f"UserValue{number}": _TEXT for number in range(1, 9)},
    "EDMPercent": _float(unit="percent"),
    # Maps
    "MapFile": NavField("text", None, "a name; its folder is the microscope's", "map"),
    "MapMontage": _int(needed="map"),
    "MapSection": _int(needed="map"),
    "MapBinning": _int(needed="map"),
    "MapMagInd": _int(needed="map"),
    "MapCamera": _int(needed="map"),
    "MapScaleMat": _float(4, "px per um: xpx, xpy, ypx, ypy", "map"),
    "MapWidthHeight": _int(2, "px", "map"),
    "GridMapXform": _float(6),
    "MapMinMaxScale": _float(2),
    "MapFramesXY": _int(2),
    "MontBinning": _int(),
    "MapExposure": _float(unit="s"),
    "MapSettling": _float(unit="s"),
    "ShutterMode": _int(),
    "K2ReadMode": _int(),
    "MapSpotSize": _int(),
    "MapIntensity": _float(),
    "MapSlitIn": _int(),
    "MapSlitWidth": _float(unit="eV"),
    "RotOnLoad": _int(),
    "RealignedID": _int(),
    "RealignErrXY": _float(2, "um"),
    "LocalErrXY": _float(2, "um"),
    "RealignReg": _int(),
    "AcquiredAtID": _int(),
    "ImageType": _int(unit="0 MRC, 1 IMOD, 2 TIFF, 3 IDOC"),
    "MontUseStage": _int(),
    "DefocusOffset": _float(unit="um"),
    "NetViewShiftXY": _float(2, "image shift"),
    "MapAlpha": _int(),
    "ViewBeamShiftXY": _float(2),
    "ViewBeamTiltXY": _float(2),
    "MapProbeMode": _int(),
    "MapLDConSet": _int(),
    "MapTiltAngle": _float(unit="degrees"),
}

NEEDED = tuple(key for key, described in NAV_FIELDS.items() if described.needed == "always")
NEEDED_OF_MAPS = tuple(key for key, described in NAV_FIELDS.items() if described.needed in ("always", "map"))
