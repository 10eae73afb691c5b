"""Names that EPU gives: the hole, square, shot and time that a file name tells; the last name of a Windows path.

    GridSquare_<square>.dm                                                            Metadata
    GridSquare_<yyyymmdd>_<hhmmss>.xml                                                image of a square
    FoilHole_<hole>_<yyyymmdd>_<hhmmss>.xml                                           image of a hole
    FoilHole_<hole>_Data_<area>_<setting>_<yyyymmdd>_<hhmmss>.xml                     exposure

The hole of an exposure stands in its name and nowhere else. Older versions write hhmm. Paths inside the files are those
of the microscope's computer (`Z:\\...`): they are names, and are never opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from cryoscout.formats.limits import FIRST_YEAR, LAST_YEAR

_ID = r"([0-9]{1,20})"
_WHEN = r"([0-9]{8}_[0-9]{4}(?:[0-9]{2})?)"
_SQUARE_METADATA = re.compile(rf"GridSquare_{_ID}\.dm")
_SQUARE_IMAGE = re.compile(rf"GridSquare_{_WHEN}\.xml")
_HOLE_IMAGE = re.compile(rf"FoilHole_{_ID}_{_WHEN}\.xml")
_EXPOSURE = re.compile(rf"FoilHole_{_ID}_Data_{_ID}_{_ID}_{_WHEN}")
_MICROGRAPH = re.compile(rf"(?:[0-9]+_)?(?P<stem>{_EXPOSURE.pattern})(?![0-9])")
"""A pipeline may put a running number before the name and suffixes after it."""
_FRACTIONS = re.compile(r"FoilHole_.*_(?:Fractions|EER)\.xml", re.IGNORECASE)
_SQUARE_FOLDER = re.compile(rf"GridSquare_{_ID}")
_DISC_FOLDER = re.compile(r"Images-Disc[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class ExposureName:
    """What the name of an exposure tells."""

    stem: str
    """The name without folder, extension and suffixes; the id of the exposure."""
    hole_id: str
    area_id: str
    """Acquisition area: which shot of the hole."""
    setting_id: str
    """As written; the id of the acquisition setting or a running number, depending on the version."""
    named_at: datetime | None
    """Time in the name, None where it is no time."""


def parse_exposure(text: str) -> ExposureName | None:
    """Parse the name of an exposure, with or without folder (/ or \\), extension and a pipeline's prefix and suffixes.

    None where it is not the name of one.
    """
    found = _MICROGRAPH.match(last_name(text))
    if found is None:
        return None
    stem, hole_id, area_id, setting_id, when = found.groups()
    return ExposureName(stem, hole_id, area_id, setting_id, _time(when))


def exposure_of_xml(name: str) -> ExposureName | None:
    """The exposure that an XML file name is for; None for other files, `_Fractions.xml` among them."""
    found = _EXPOSURE.fullmatch(name[:-4]) if name.endswith(".xml") else None
    if found is None:
        return None
    hole_id, area_id, setting_id, when = found.groups()
    return ExposureName(name[:-4], hole_id, area_id, setting_id, _time(when))


def hole_image(name: str) -> tuple[str, str] | None:
    """Hole id and time (text that sorts) of a hole image's XML name; None for other names."""
    found = _HOLE_IMAGE.fullmatch(name)
    return None if found is None else (found[1], _sortable(found[2]))


def square_image(name: str) -> str | None:
    """Time (text that sorts) of a square image's XML name; None for other names."""
    found = _SQUARE_IMAGE.fullmatch(name)
    return None if found is None else _sortable(found[1])


def square_metadata(name: str) -> str | None:
    """Square id of a Metadata file name; None for other names."""
    found = _SQUARE_METADATA.fullmatch(name)
    return None if found is None else found[1]


def square_folder(name: str) -> str | None:
    """Square id of a folder name; None for other names."""
    found = _SQUARE_FOLDER.fullmatch(name)
    return None if found is None else found[1]


def is_disc_folder(name: str) -> bool:
    """Whether a folder name is one of EPU's image discs."""
    return _DISC_FOLDER.fullmatch(name) is not None


def is_fractions(name: str) -> bool:
    """Whether an XML file belongs to the frames of an exposure; it has no stage position."""
    return _FRACTIONS.fullmatch(name) is not None


def last_name(path: str) -> str:
    """What comes after the last / or \\ of a path."""
    return re.split(r"[/\\]", path)[-1]


def _sortable(when: str) -> str:
    return when.ljust(len("yyyymmdd_hhmmss"), "0")


def _time(when: str) -> datetime | None:
    try:
        digits = _sortable(
            when
        )  # yyyymmdd_hhmmss; strptime is ten times slower, and there is one for every file
        named_at = datetime(
            int(digits[:4]),
            int(digits[4:6]),
            int(digits[6:8]),
            int(digits[9:11]),
            int(digits[11:13]),
            int(digits[13:15]),
        )
    except ValueError:
        return None
    return named_at if FIRST_YEAR <= named_at.year <= LAST_YEAR else None
