"""What no microscope does: limits from physics, far beyond real values, so that nonsense is named and not planned.

A grid is 3.05 mm wide (7.3 mm2) and a stage moves about 1 mm from its middle; the largest images, montages of an atlas,
have some ten thousand pixels a side, each below a few um; no electron microscope resolves half an angstrom in ice. A
value beyond is a deviation like any other: strict reading ends there, permissive reading keeps the record with the
value missing.
"""

from __future__ import annotations

import math

from cryoscout.formats.text.findings import Findings

FARTHEST_STAGE_UM = 5_000.0
FARTHEST_PX = 1_000_000.0
LEAST_RESOLUTION_ANGSTROM = 0.5
LARGEST_AREA_UM2 = 1e7
FIRST_YEAR, LAST_YEAR = 1990, 2199
"""Other years are what programs write for no time, and may not fit into nanoseconds."""
LARGEST_PIXEL_ANGSTROM = 1e6

_REMEDY = "Remedy: check its unit; where it is damaged, it is left open with --permissive."


def stage_problem(value_um: float, what: str) -> str | None:
    """What is wrong with a stage position in um, or None; NaN, unknown, is right."""
    if not abs(value_um) > FARTHEST_STAGE_UM:
        return None
    return (
        f"{what} must be a stage position within {FARTHEST_STAGE_UM:,.0f} um (a grid is 3 mm wide). "
        f"Got {value_um:g} um instead. {_REMEDY}"
    )


def pixel_problem(value_px: float, what: str) -> str | None:
    """What is wrong with a position on an image in px, or None; NaN, unknown, is right."""
    if not abs(value_px) > FARTHEST_PX:
        return None
    return f"{what} must be on an image, within {FARTHEST_PX:,.0f} px. Got {value_px:g} px instead. {_REMEDY}"


def low_resolution_problem(value_angstrom: float) -> str | None:
    """What is wrong with a CTF resolution that is no microscope's, or None."""
    if not 0.0 < value_angstrom < LEAST_RESOLUTION_ANGSTROM:
        return None
    return (
        f"the CTF resolution must be {LEAST_RESOLUTION_ANGSTROM:g} angstrom or more. Got {value_angstrom:g} instead. "
        f"{_REMEDY}"
    )


def area_problem(value_um2: float, what: str) -> str | None:
    """What is wrong with the area of a square in um2, or None; NaN, unknown, is right."""
    if math.isnan(value_um2) or 0.0 < value_um2 <= LARGEST_AREA_UM2:
        return None
    return (
        f"{what} must be above 0 and at most {LARGEST_AREA_UM2:,.0f} um2 (a grid is 3 mm wide). "
        f"Got {value_um2:g} um2 instead. {_REMEDY}"
    )


def pixel_size_problem(value_angstrom: float, what: str) -> str | None:
    """What is wrong with the size of an image's pixel in angstrom, or None; NaN, unknown, is right."""
    if math.isnan(value_angstrom) or 0.0 < value_angstrom <= LARGEST_PIXEL_ANGSTROM:
        return None
    return (
        f"{what} must be the size of a pixel, above 0 and at most {LARGEST_PIXEL_ANGSTROM:,.0f} angstrom. "
        f"Got {value_angstrom:g} angstrom instead. {_REMEDY}"
    )


def stage_um(
    value_um: float, what: str, findings: Findings, line: int | None = None, element: str | None = None
) -> float:
    """The stage position, NaN after a deviation where no stage goes there."""
    return _or_missing(value_um, stage_problem(value_um, what), findings, line, element)


def image_px(
    value_px: float, what: str, findings: Findings, line: int | None = None, element: str | None = None
) -> float:
    """The position on an image, NaN after a deviation where no image has it."""
    return _or_missing(value_px, pixel_problem(value_px, what), findings, line, element)


def square_area_um2(
    value_um2: float, what: str, findings: Findings, line: int | None = None, element: str | None = None
) -> float:
    """The area, NaN after a deviation where no square is so small or large."""
    return _or_missing(value_um2, area_problem(value_um2, what), findings, line, element)


def pixel_angstrom(
    value_angstrom: float, what: str, findings: Findings, line: int | None = None, element: str | None = None
) -> float:
    """The size of a pixel, NaN after a deviation where no image has such pixels."""
    return _or_missing(value_angstrom, pixel_size_problem(value_angstrom, what), findings, line, element)


def _or_missing(
    value: float, problem: str | None, findings: Findings, line: int | None, element: str | None
) -> float:
    if problem is None:
        return value
    findings.deviates(problem, line, element)
    return math.nan
