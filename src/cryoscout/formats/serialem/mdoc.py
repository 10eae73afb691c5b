"""SerialEM image metadata (.mdoc, .idoc, and the .mdoc beside a movie): one record per section, all keys kept.

A file is recognised by `[ZValue = n]`, `[FrameSet = n]`, `[MontSection = n]`, `[Image = name]` headers or by a title
"SerialEM: ...", with brackets or, in the files beside movies, without. Stage positions are um. ImageShift is in the
microscope's own units: nearly um for Thermo Fisher, much larger than um for JEOL.
An empty value is a missing one.
Fields: "Image Metadata Files" of https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm; what stands in
MultishotHoleAndPosition is SerialEM's own source, `CParticleTasks::CurrentHoleAndPosition` in ParticleTasks.cpp of
https://github.com/mastcu/SerialEM (dfff4de7), the form with blanks a file of 2019 (`1 1`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats import limits
from cryoscout.formats.ctf.records import deviations_of
from cryoscout.formats.serialem.autodoc import (
    TITLE,
    Autodoc,
    Section,
    file_name,
    parse_autodoc,
    read_autodoc_file,
    start_of,
)
from cryoscout.formats.serialem.nav import label_of_item
from cryoscout.formats.text.findings import Deviation, Findings

MOVIE_PATH = "SubFramePath"
Z_VALUE, FRAME_SET, MONT_SECTION, IMAGE = "ZValue", "FrameSet", "MontSection", "Image"
SECTION_KINDS = (Z_VALUE, FRAME_SET, MONT_SECTION, IMAGE)

MDOC_NUMBERS: dict[str, tuple[int, str]] = {
    # key: how many numbers, unit
    "StagePosition": (2, "um"),
    "StageZ": (1, "um"),
    "ImageShift": (2, "units of the microscope"),
    "TiltAngle": (1, "degrees"),
    "Defocus": (1, "um"),
    "TargetDefocus": (1, "um"),
    "PixelSpacing": (1, "angstrom"),
    "Magnification": (1, "times"),
    "ExposureDose": (1, "e/angstrom^2"),
    "DoseRate": (1, "e/px/s"),
    "ExposureTime": (1, "s"),
    "Binning": (1, "times"),
    "Voltage": (1, "kV"),
    "NumSubFrames": (1, "frames"),
    "LowDoseConSet": (1, "control set + 1 in low dose, else minus the control set"),
    "MinMaxMean": (3, "counts"),
    "PieceCoordinates": (3, "px, px, section"),
    "CountsPerElectron": (1, "counts"),
    "TimeStamp": (1, "s since 2020-01-01"),
}
"""Keys read as numbers when they are there; the others are text."""

DOSES_KEYS = ("FrameDosesAndNumbers", "FrameDosesAndNumber")
"""The help says the first, SerialEM writes the second."""
MULTISHOT_KEYS = ("MultishotHoleAndPosition", "MultiShotHoleAndPosition")

RECORD_SETS = (4, -3)
"""LowDoseConSet of a Record image, in low dose and outside it: what is no View, Focus, Trial, Preview, Search, map."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE_TIME = re.compile(r"(\d{1,2})-([A-Z][a-z]{2})-(\d{4}|\d{2})\s+(\d{1,2}):(\d\d):(\d\d)")
_DATE_TIME_ASCII = re.compile(r"[\x20-\x7e\t]*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_MULTISHOT = re.compile(
    r"(?:(?P<hole>[0-9]{1,6}|R[0-9]{1,6}H[0-9]{1,6})|X(?P<column>[+-]?[0-9]{1,6})Y(?P<row>[+-]?[0-9]{1,6}))"
    r"-(?P<position>[0-9]{1,6})"
    r"|(?P<parallel>Pos[0-9]{1,6})|(?P<old>[0-9]{1,6}\s+[0-9]{1,6}|-?[0-9]{1,6}\s+-?[0-9]{1,6}\s+[0-9]{1,6})"
)
_FIRST_LINES = re.compile(rf"^\s*\[(?:{'|'.join(SECTION_KINDS)})\s*=|^\s*\[?T\s*=\s*SerialEM\b", re.MULTILINE)
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class MultiShot:
    """Which hole of a MultiShot pattern an image is of, and where in the hole."""

    hole: str
    """`1` (custom pattern, from 1), `X+1Y-1` (regular pattern, from its centre), `R2H3` (hexagonal: ring, hole of the
    ring), `Pos1` (parallel tilt series)."""
    position: str
    """0 the centre, from 1 on around it; "" where the form has none."""


@dataclass(frozen=True, eq=False)
class MdocSection:
    """One image, movie or montage; everything it does not name is in `section` and `numbers`."""

    kind: str  # one of SECTION_KINDS
    name: str  # Z value, number of the frame set or montage, or the image's name
    started_at: datetime | None  # naive, the microscope computer's clock
    stage_um: tuple[float, float, float]  # x, y, z; NaN unknown
    image_shift: tuple[float, float]  # in the microscope's units; NaN unknown
    navigator_label: str  # of the operator's item; "" where the image was not taken by Acquire at Items
    multishot: MultiShot | None  # None where the image is no shot of a pattern
    movie: str  # name of MOVIE_PATH without folder, "" none
    frame_doses: tuple[tuple[float, int], ...]  # (e/angstrom^2 per frame, frames)
    numbers: dict[str, tuple[float, ...]]  # by the keys of MDOC_NUMBERS
    section: Section = field(repr=False)

    @property
    def is_record(self) -> bool:
        """Whether it is a Record image, or may be one because the file does not say."""
        control_set = self.numbers.get("LowDoseConSet")
        return control_set is None or int(control_set[0]) in RECORD_SETS


@dataclass(frozen=True)
class MdocFile:
    """A metadata file; `document` has all of it, `sections` what could be read."""

    path: Path
    document: Autodoc
    sections: tuple[MdocSection, ...]  # in file order
    titles: tuple[str, ...]
    image_file: str  # name of ImageFile without folder, "" where the file does not say
    is_montage: bool
    deviations: tuple[Deviation, ...] = ()


def detect(path: Path) -> bool:
    """Whether a file is SerialEM image metadata; reads its first 8 kB."""
    return _FIRST_LINES.search(start_of(path)) is not None


def read_mdoc(path: Path, permissive: bool = False, *, step: Step = no_step) -> MdocFile:
    """Read an image metadata file.

    permissive : leave deviating lines, keys and sections out and list them; they stay in the document all the same
    Raises FileFormatError (file, line) at the first deviation unless permissive; always when the file cannot be read,
    is no image metadata, or is beyond the limits of `autodoc`.
    """
    return _read(path, Findings(path, permissive, step=step))


def _read(path: Path, findings: Findings) -> MdocFile:
    document = parse_autodoc(read_autodoc_file(findings), findings)
    titles = [entry.value for entry in document.globals.entries if entry.key == TITLE]
    titles += [section.name for section in document.of_kind(TITLE)]
    parts = [section for section in document.sections[1:] if section.kind in SECTION_KINDS]
    if not parts and not any(title.startswith("SerialEM") for title in titles):
        raise FileFormatError(
            path,
            None,
            f"must be SerialEM image metadata: [{'], ['.join(SECTION_KINDS)}] sections. Got none instead.",
        )
    sections = [
        read
        for section in findings.told(parts, 0.5)
        if (read := _read_section(section, findings)) is not None
    ]
    return MdocFile(
        path,
        document,
        tuple(sections),
        tuple(titles),
        file_name(document.globals.get("ImageFile")),
        document.globals.get("Montage") == "1",
        tuple(findings.deviations),
    )


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a metadata file, by line, what ends the reading among them."""
    return deviations_of(path, _read, step)


def parse_date_time(text: str) -> datetime | None:
    """The time of `dd-Mon-yy  hh:mm:ss`, since SerialEM 4.1 `dd-Mon-yyyy`; None for anything else.

    Months are English whatever the locale; a year of two digits is after 2000; any blanks stand before the time.
    """
    match = _DATE_TIME.fullmatch(text.strip()) if _DATE_TIME_ASCII.fullmatch(text) else None
    if match is None or match[2] not in _MONTHS:
        return None
    year = int(match[3]) + (2000 if len(match[3]) == 2 else 0)
    if not limits.FIRST_YEAR <= year <= limits.LAST_YEAR:
        return None
    try:
        return datetime(
            year, _MONTHS.index(match[2]) + 1, int(match[1]), int(match[4]), int(match[5]), int(match[6])
        )
    except ValueError:
        return None


def _read_section(section: Section, findings: Findings) -> MdocSection | None:
    """The record; None, with its deviation noted, where the header has no number."""
    if section.kind != IMAGE and not re.fullmatch(r"-?[0-9]{1,18}", section.name):
        findings.deviates(
            f"a {section.kind} header must hold a whole number. Got {section.name[:_SHOWN]!r} instead.",
            section.line,
            f"[{section.kind}]",
        )
        return None
    numbers: dict[str, tuple[float, ...]] = {}
    for key in section.key_names():
        if key in MDOC_NUMBERS and section.get(key):
            values = _values(section, key, MDOC_NUMBERS[key][0], findings)
            if values is not None:
                numbers[key] = values
    where = (findings, section.line_of("StagePosition"), f"[{section.kind} = {section.name[:_SHOWN]}]")
    x_um, y_um = (
        limits.stage_um(value, "StagePosition", *where)
        for value in numbers.get("StagePosition", (math.nan, math.nan))
    )
    shift_x, shift_y = numbers.get("ImageShift", (math.nan, math.nan))
    return MdocSection(
        kind=section.kind,
        name=section.name,
        started_at=_started_at(section, findings),
        stage_um=(x_um, y_um, numbers.get("StageZ", (math.nan,))[0]),
        image_shift=(shift_x, shift_y),
        navigator_label=label_of_item(section.get("NavigatorLabel") or ""),
        multishot=_multishot(section, findings),
        movie=file_name(section.get(MOVIE_PATH)),
        frame_doses=_frame_doses(section, findings),
        numbers=numbers,
        section=section,
    )


def _values(section: Section, key: str, count: int | None, findings: Findings) -> tuple[float, ...] | None:
    words = (section.get(key) or "").split()
    values = [float(word) for word in words if len(word) <= 400 and _NUMBER.fullmatch(word)]
    if len(values) < len(words) or not all(math.isfinite(value) for value in values):
        message = f"{key} must hold numbers. Got {(section.get(key) or '')[:_SHOWN]!r} instead."
    elif count is not None and len(values) != count:
        message = f"{key} must hold {count} numbers. Got {len(values)} instead."
    else:
        return tuple(values)
    findings.deviates(message, section.line_of(key), _element(section))
    return None


def _started_at(section: Section, findings: Findings) -> datetime | None:
    text = section.get("DateTime")
    if not text:
        return None
    at = parse_date_time(text)
    if at is None:
        findings.deviates(
            f"DateTime must be dd-Mon-yy hh:mm:ss or dd-Mon-yyyy hh:mm:ss. Got {text[:_SHOWN]!r} instead.",
            section.line_of("DateTime"),
            _element(section),
        )
    return at


def _multishot(section: Section, findings: Findings) -> MultiShot | None:
    key = next((key for key in MULTISHOT_KEYS if section.get(key)), None)
    if key is None:
        return None
    text = section.get(key) or ""
    shot = parse_multishot(text)
    if shot is None:
        findings.deviates(
            f"{key} must hold a hole and the position in it, such as 1-0, X+1Y-1-0 or R2H3-0. "
            f"Got {text[:_SHOWN]!r} instead.",
            section.line_of(key),
            _element(section),
        )
    return shot


def hole_in_fields(fields: Mapping[str, str]) -> str | None:
    """The hole of a pattern that the fields of an image say: "" for one without MultiShot, None where none says it."""
    text = next((fields[key] for key in MULTISHOT_KEYS if fields.get(key)), None)
    if text is None:
        return None
    shot = parse_multishot(text)
    return "" if shot is None else shot.hole


def parse_multishot(text: str) -> MultiShot | None:
    """Hole and position of a MultiShot image, None for anything else.

    What stands before the last `-` is the hole. `X1Y0` is `X+1Y+0`: SerialEM leaves the plus out where the program of
    the camera cannot have it in a name.
    """
    found = _MULTISHOT.fullmatch(text.strip()) if len(text) <= _SHOWN else None
    if found is None:
        return None
    if found["column"] is not None:
        return MultiShot(f"X{int(found['column']):+d}Y{int(found['row']):+d}", found["position"])
    if found["old"] is not None:
        *hole, position = found["old"].split()
        name = hole[0] if len(hole) == 1 else f"X{int(hole[0]):+d}Y{int(hole[1]):+d}"
        return MultiShot(name, position)
    return MultiShot(found["parallel"] or found["hole"], found["position"] or "")


def _frame_doses(section: Section, findings: Findings) -> tuple[tuple[float, int], ...]:
    key = next((key for key in DOSES_KEYS if section.get(key)), None)
    values = None if key is None else _values(section, key, None, findings)
    if key is None or values is None:
        return ()
    if len(values) % 2 or any(count != int(count) for count in values[1::2]):
        findings.deviates(
            f"{key} must hold pairs of a dose and a whole number of frames. "
            f"Got {(section.get(key) or '')[:_SHOWN]!r} instead.",
            section.line_of(key),
            _element(section),
        )
        return ()
    return tuple((dose, int(count)) for dose, count in zip(values[::2], values[1::2], strict=True))


def _element(section: Section) -> str:
    return f"[{section.kind} = {section.name[:_SHOWN]}]"
