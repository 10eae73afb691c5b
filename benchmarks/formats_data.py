"""Large made-up sessions in vendors' formats, with the structure and size of real files, for benchmarks and tests.

The real files that serve as templates are those of tests/formats/data; what is written is their text with other ids,
times and positions.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

TEMPLATES = Path(__file__).resolve().parents[1] / "tests" / "formats" / "data"
_EXPOSURE_TEMPLATE = (
    "epu/harvest_session/Images-Disc1/GridSquare_19493759/Data/"
    "FoilHole_19513699_Data_19508496_19508498_20230919_154056.xml"
)
_SQUARE_TEMPLATE = "epu/harvest_session/Images-Disc1/GridSquare_19493759/GridSquare_20230919_140816.xml"
_SESSION_TEMPLATE = "epu/harvest_session/EpuSession.dm"
_METADATA_TEMPLATE = "epu/GridSquare_4590776.dm.gz"

_AREAS = ("19508519", "19508553", "19508558", "19508496", "19508540", "19508576", "19508547")
"""Acquisition areas of the session template."""
_HOLE_SPACING_UM = 2.6
_PIXEL_UM = 0.0405
_SQUARE_SPACING_UM = 200.0
_CLUSTER_SIDE = 5
"""Holes along a side of a cluster: a block around one stage position."""
_FIRST = datetime(2025, 3, 3, 10, 0, 0)
_TARGET = "KeyValuePairOfintTargetLocationXmlBpEWF4JT"
_ACQUISITION = "KeyValuePairOfintParticleAcquisitionDataXmlBpEWF4JT"


@dataclass(frozen=True)
class _Hole:
    hole_id: str
    x_um: float
    y_um: float
    x_px: float
    y_px: float
    stage_um: tuple[float, float]
    """Centre of its cluster."""


def write_epu_session(
    folder: Path,
    exposures: int,
    *,
    shots: int = 4,
    holes_along_square: int = 25,
    share_imaged: float = 0.8,
    seconds_per_shot: float = 4.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Write an EPU session of so many exposures into an empty or new folder, in the order a microscope would make it.

    shots : exposures per hole, 1 to 7     holes_along_square : of a square's lattice
    share_imaged : of the holes of each square; the last square ends where the exposures do
    Returns what was written, one row per exposure: exposure_id, hole_id, square_id, started_at, stage_x_um,
    stage_y_um (centre of its cluster; the files have up to 2 nm of drift). Each exposure takes one XML of 11 kB,
    each hole 5 kB of its square's file.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    squares: list[str] = []
    at = _FIRST
    (folder / "Metadata").mkdir(parents=True, exist_ok=True)
    while len(rows) < exposures:
        square_id = str(1_000 + len(squares))
        squares.append(square_id)
        images = folder / "Images-Disc1" / f"GridSquare_{square_id}"
        (images / "Data").mkdir(parents=True)
        (images / "FoilHoles").mkdir()
        _write_square_image(images, at)
        holes = _lattice(len(squares) - 1, holes_along_square)
        made: dict[str, list[str]] = {}
        for hole in holes:
            if len(rows) >= exposures:
                break
            if rng.random() >= share_imaged:
                continue
            for area in _AREAS[:shots]:
                if len(rows) >= exposures:
                    break
                at += timedelta(seconds=seconds_per_shot)
                row = _write_exposure(images / "Data", hole, square_id, area, at, rng)
                rows.append(row)
                made.setdefault(hole.hole_id, []).append(str(row["exposure_id"]))
        _write_metadata(folder / "Metadata" / f"GridSquare_{square_id}.dm", square_id, holes, made)
    _write_session(folder / "EpuSession.dm", squares, shots)
    return pd.DataFrame(rows)


def _lattice(square: int, along: int) -> list[_Hole]:
    """Holes of a square, cluster by cluster."""
    middle = (along - 1) / 2
    centre_um = (_SQUARE_SPACING_UM * (square % 20), _SQUARE_SPACING_UM * (square // 20))
    holes = []
    blocks = range(0, along, _CLUSTER_SIDE)
    for block_row in blocks:
        for block_column in blocks:
            in_block = [
                (row, column)
                for row in range(block_row, min(block_row + _CLUSTER_SIDE, along))
                for column in range(block_column, min(block_column + _CLUSTER_SIDE, along))
            ]
            rows, columns = np.array(in_block).mean(axis=0) - middle
            stage_um = (
                centre_um[0] + columns * _HOLE_SPACING_UM,
                centre_um[1] + rows * _HOLE_SPACING_UM,
            )
            for row, column in in_block:
                x_um, y_um = (column - middle) * _HOLE_SPACING_UM, (row - middle) * _HOLE_SPACING_UM
                holes.append(
                    _Hole(
                        hole_id=str(10_000_000 + square * 10_000 + row * along + column),
                        x_um=centre_um[0] + x_um,
                        y_um=centre_um[1] + y_um,
                        x_px=1440.0 + x_um / _PIXEL_UM,
                        y_px=1023.0 - y_um / _PIXEL_UM,
                        stage_um=stage_um,
                    )
                )
    return holes


def _write_exposure(
    folder: Path, hole: _Hole, square_id: str, area: str, at: datetime, rng: np.random.Generator
) -> dict[str, object]:
    stem = f"FoilHole_{hole.hole_id}_Data_{area}_{int(area) + 2}_{at:%Y%m%d_%H%M%S}"
    drift_x_um, drift_y_um = rng.normal(scale=5e-4, size=2).clip(-2e-3, 2e-3)
    text = epu_image_xml(
        at.isoformat() + ".1234567+01:00",
        (hole.stage_um[0] + drift_x_um) * 1e-6,
        (hole.stage_um[1] + drift_y_um) * 1e-6,
        (0.03 * (hole.x_um - hole.stage_um[0]), 0.03 * (hole.y_um - hole.stage_um[1])),
    )
    (folder / f"{stem}.xml").write_text(text, encoding="utf-8")
    return {
        "exposure_id": stem,
        "hole_id": hole.hole_id,
        "square_id": square_id,
        "started_at": np.datetime64(at, "ns") + np.timedelta64(123_456_700, "ns"),
        "stage_x_um": hole.stage_um[0],
        "stage_y_um": hole.stage_um[1],
    }


def epu_image_xml(
    acquired_at: str, stage_x_m: float, stage_y_m: float, beam_shift: tuple[float, float] = (0.0, 0.0)
) -> str:
    """The XML beside an exposure: a real one with another time, stage position (metres) and beam shift."""
    before, *pieces = _exposure_pieces()
    values = (acquired_at, *(repr(float(value)) for value in (*beam_shift, stage_x_m, stage_y_m)))
    return before + "".join(value + piece for value, piece in zip(values, pieces, strict=True))


@cache
def _exposure_pieces() -> Sequence[str]:
    """The template around acquisitionDateTime, BeamShift x, y, stage X, Y, which stand in this order."""
    text = (TEMPLATES / _EXPOSURE_TEMPLATE).read_text(encoding="utf-8")
    shape = (
        r"(.*<acquisitionDateTime>)[^<]*(.*<BeamShift .*?<a:_x>)[^<]*(</a:_x><a:_y>)[^<]*"
        r"(</a:_y></BeamShift>.*<Position>.*?<X>)[^<]*(</X><Y>)[^<]*(.*)"
    )
    found = re.fullmatch(shape, text, re.DOTALL)
    if found is None:
        raise ValueError(f"the template {_EXPOSURE_TEMPLATE} has another structure")
    return found.groups()


def _write_square_image(folder: Path, at: datetime) -> None:
    text = (TEMPLATES / _SQUARE_TEMPLATE).read_text(encoding="utf-8")
    (folder / f"GridSquare_{at:%Y%m%d_%H%M%S}.xml").write_text(text, encoding="utf-8")


@cache
def _metadata_pieces() -> tuple[str, str, str, str]:
    """Text before the targets, an imaged target, its first acquisition, text after the targets."""
    text = gzip.decompress((TEMPLATES / _METADATA_TEMPLATE).read_bytes()).decode()
    targets = re.findall(rf"<b:{_TARGET}>.*?</b:{_TARGET}>", text, re.DOTALL)
    acquisitions = re.findall(rf"<b:{_ACQUISITION}>.*?</b:{_ACQUISITION}>", targets[1], re.DOTALL)
    target = targets[1].replace("".join(acquisitions), "@acquisitions@")
    start = text.index(f"<b:{_TARGET}>")
    # The second target refers to elements of the first one.
    target = re.sub(r' z:(Id|Ref)="[0-9]+"', "", target)
    acquisition = re.sub(r' z:(Id|Ref)="[0-9]+"', "", acquisitions[0])
    end = text.rindex(f"</b:{_TARGET}>") + len(f"</b:{_TARGET}>")
    return text[:start], target, acquisition, text[end:]


def _write_metadata(path: Path, square_id: str, holes: Sequence[_Hole], made: dict[str, list[str]]) -> None:
    before, target, acquisition, after = _metadata_pieces()
    before = before.replace("4590776", square_id)
    parts = [before]
    for hole in holes:
        names = made.get(hole.hole_id, [])
        acquisitions = "".join(re.sub("FoilHole_5665439_Data_[0-9_]+", name, acquisition) for name in names)
        text = target.replace("5665439", hole.hole_id).replace("4590776", square_id)
        text = re.sub(
            r"(<PixelCenter.*?<c:x>)[^<]*(</c:x><c:y>)[^<]*",
            rf"\g<1>{float(hole.x_px)!r}\g<2>{float(hole.y_px)!r}",
            text,
        )
        text = re.sub(
            r"(<StagePosition.*?<c:X>)[^<]*(</c:X><c:Y>)[^<]*",
            rf"\g<1>{float(hole.x_um * 1e-6)!r}\g<2>{float(hole.y_um * 1e-6)!r}",
            text,
        )
        if not names:
            text = text.replace("<State>Completed<", "<State>Defined<")
        parts.append(text.replace("@acquisitions@", acquisitions))
    path.write_text("".join(parts) + after, encoding="utf-8")


def _write_session(path: Path, squares: Sequence[str], shots: int) -> None:
    text = (TEMPLATES / _SESSION_TEMPLATE).read_text(encoding="utf-8")
    pairs = re.findall(
        r"<b:KeyValuePairOfintSerializedReferenceOfGridSquareXml.*?</b:Key[A-Za-z0-9_]*>", text, re.DOTALL
    )
    square_id = re.findall(r"<b:key>([0-9]+)<", pairs[0])[0]
    written = "".join(pairs[0].replace(square_id, square) for square in squares)
    text = text.replace("".join(pairs), written)
    areas = re.findall(
        r"<b:KeyValuePairOfintDataAcquisitionAreaXml.*?</b:KeyValuePairOfintDataAcq[A-Za-z0-9_]*>",
        text,
        re.DOTALL,
    )
    for area in areas[shots:]:
        text = text.replace(area, "")
    path.write_text(text, encoding="utf-8")
