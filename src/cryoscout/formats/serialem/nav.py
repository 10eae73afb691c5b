"""SerialEM navigator files (.nav): items as faithful records, from the autodoc form and from its XML form.

A file is recognised by its first lines: `AdocVersion`, an `[Item = label]` header, or XML with such parts. The
tab-delimited form from before SerialEM 3.6 is recognised and refused. Stage positions are um. Pixels are
right-handed, (0, 0) in the lower left corner of the map image. The unique key of an item is MapID; labels repeat.
Fields: "Navigator Files" and "Importing Externally Defined Navigator Items" of
https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm, and what SerialEM itself requires when it loads a file.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, no_step
from cryoscout.formats import limits
from cryoscout.formats.ctf.records import deviations_of
from cryoscout.formats.serialem.autodoc import (
    Autodoc,
    Section,
    file_name,
    parse_autodoc,
    read_autodoc_file,
    start_of,
)
from cryoscout.formats.serialem.autodoc_xml import looks_like_xml, parse_autodoc_xml
from cryoscout.formats.serialem.nav_fields import COORDS_IN, NAV_FIELDS, NEEDED, NEEDED_OF_MAPS, NavField
from cryoscout.formats.serialem.patterns import WHOLE_NUMBER, pattern_of
from cryoscout.formats.text.findings import Deviation, Findings

ITEM = "Item"
POINT, POLYGON, MAP = 0, 1, 2

_FIRST_LINES = re.compile(r"^\s*(?:AdocVersion\s*=|\[Item\s*=)", re.MULTILINE)
_XML_PARTS = re.compile(r"<(?:AdocVersion>|LastSavedAs>|Item\s+name=)")
_TAB_DELIMITED = re.compile(r"\s*(?:Version\t[^\n]*\n)?Label\t")
_SHOWN = 60
MOST_HOLES_OF_PATTERNS = 500_000
"""Of all items: the largest sessions have some 100,000 holes."""


PLAN_MARK = "@plan"
_PLAN_COPY = re.compile(rf"(.+){PLAN_MARK}(?:-[0-9]+)?")
"""A label of an item that a running plan added; a merge adds -1, -2 and so on to a label that is there already
(`CNavigatorDlg::LoadNavFile` of SerialEM)."""


def label_of_item(label: str) -> str:
    """The label of the operator's item: of an item that a running plan added at the same place, the one it is of."""
    found = _PLAN_COPY.fullmatch(label)
    return label if found is None else found[1]


LEFT_OUT_KEY, LEFT_OUT = "UserValue2", "chosen, left out of the plan"
"""What a written plan notes at an item that was marked Acquire and is not in the plan, so that it stays chosen."""


@dataclass(frozen=True, eq=False)
class NavItem:
    """One item; everything it does not name is in `section`."""

    id: str
    """The label where no other item has it, else `label#MapID`."""
    label: str
    type: int  # POINT, POLYGON, MAP
    regis: int
    map_id: int  # 0: none
    group_id: int  # 0: none
    drawn_id: int  # MapID of the map it was drawn on, 0: none
    acquire: bool
    stage_um: tuple[float, float, float]  # x, y, z; x and y NaN where only pixels are given
    coords_in: tuple[str, tuple[float, float, float]] | None  # key of COORDS_IN, (px, px, um)
    points_x: tuple[float, ...]  # (NumPts,) um; px where coords_in
    points_y: tuple[float, ...]
    map_file: str  # name without folder, "" for what is no map
    is_montage: bool
    scale: tuple[float, float, float, float] | None  # px per um: xpx, xpy, ypx, ypy
    size_px: tuple[int, int] | None  # width, height of the image that `scale` is for
    frames_xy: tuple[int, int]  # tiles of a montage across and down; 0, 0 where it is none or does not say
    place: int  # index into NavFile.document.sections
    section: Section = field(repr=False)
    pattern: tuple[str, ...] | None = None
    """Holes of its MultiShot pattern (`holes_of_pattern`), empty where it skips all; None where it has none."""

    @property
    def is_chosen(self) -> bool:
        """Whether it is marked Acquire, or was when a plan was written that left it out; SerialEM passes over an item
        that skips all holes of its pattern."""
        return self.pattern != () and (self.acquire or self.section.get(LEFT_OUT_KEY) == LEFT_OUT)

    @property
    def is_hole(self) -> bool:
        """Whether it is a point to image: no registration point, no corner of a supermontage, no copy of a plan."""
        return (
            self.type == POINT
            and label_of_item(self.label) == self.label
            and self.section.get("RegPt") in (None, "0")
            and self.section.get("Corner") in (None, "0")
        )


@dataclass(frozen=True)
class NavFile:
    """A navigator file; `document` has all of it, `items` what could be read."""

    path: Path
    document: Autodoc
    items: tuple[NavItem, ...]  # in file order
    deviations: tuple[Deviation, ...] = ()

    @property
    def maps(self) -> list[NavItem]:
        """The map items in file order."""
        return [item for item in self.items if item.type == MAP]

    @property
    def holes(self) -> list[NavItem]:
        """The points to image in file order."""
        return [item for item in self.items if item.is_hole]

    @cached_property
    def by_id(self) -> dict[str, NavItem]:
        """The items by `NavItem.id`."""
        return {item.id: item for item in self.items}


def detect(path: Path) -> bool:
    """Whether a file is a navigator file, in any of its three forms; reads its first 8 kB."""
    start = start_of(path)
    if looks_like_xml(start):
        return _XML_PARTS.search(start) is not None
    return _FIRST_LINES.search(start) is not None or _TAB_DELIMITED.match(start) is not None


def read_nav(path: Path, permissive: bool = False, *, step: Step = no_step) -> NavFile:
    """Read a navigator file.

    permissive : leave deviating lines, keys and items out and list them; they stay in the document all the same
    Raises FileFormatError (file, line) at the first deviation unless permissive; always when the file cannot be read,
    is the tab-delimited form, is no navigator file, or is beyond the limits of `autodoc`.
    """
    return _read(path, Findings(path, permissive, step=step))


def _read(path: Path, findings: Findings) -> NavFile:
    start = start_of(path)
    if _TAB_DELIMITED.match(start):
        raise FileFormatError(
            path,
            1,
            "must be a navigator file in autodoc or XML form. Got the tab-delimited form from before SerialEM 3.6 "
            "instead. Remedy: open it in SerialEM 3.6 or newer and save it.",
        )
    data = read_autodoc_file(findings)
    document = parse_autodoc_xml(data, findings) if looks_like_xml(start) else parse_autodoc(data, findings)
    if not document.of_kind(ITEM) and document.globals.get("AdocVersion") is None:
        raise FileFormatError(
            path,
            None,
            "must be a navigator file: AdocVersion and [Item = label] sections. Got neither instead.",
        )
    if document.globals.get("AdocVersion") is None:
        findings.deviates(
            "must begin with AdocVersion, or SerialEM cannot load it. Got no such line instead.", 1
        )
    return NavFile(path, document, tuple(_items(document, findings)), tuple(findings.deviations))


def validate(path: Path, *, step: Step = no_step) -> list[Deviation]:
    """Every deviation of a navigator file, by line, what ends the reading among them."""
    return deviations_of(path, _read, step)


def _items(document: Autodoc, findings: Findings) -> list[NavItem]:
    sections = [(place, part) for place, part in enumerate(document.sections) if place and part.kind == ITEM]
    labels = Counter(section.name for _, section in sections)
    items: list[NavItem] = []
    line_of_id: dict[int, int] = {}
    repeats: Counter[str] = Counter()
    of_patterns = 0
    for place, section in findings.told(sections, 0.5):
        item = _item(place, section, findings, labels, repeats)
        if item is None:
            continue
        if item.map_id and item.map_id in line_of_id:
            findings.deviates(
                f"MapID must be unique. Got {item.map_id} again instead (first in the item of line "
                f"{line_of_id[item.map_id]}).",
                section.line_of("MapID"),
                _element(section),
            )
            continue
        line_of_id[item.map_id] = section.line
        items.append(item)
        of_patterns += len(item.pattern or ())
        if of_patterns > MOST_HOLES_OF_PATTERNS:
            raise FileFormatError(
                findings.path,
                section.line_of("HoleArray"),
                f"{_element(section)}: the patterns of a navigator must have at most {MOST_HOLES_OF_PATTERNS:,} holes. "
                "Got more with this one (HoleArray) instead.",
            )
    return items


def _item(
    place: int, section: Section, findings: Findings, labels: Counter[str], repeats: Counter[str]
) -> NavItem | None:
    """The item of a section; None, with its deviations noted, where SerialEM would not load it either."""
    numbers = _numbers(section, findings)
    if numbers is None:
        return None
    kind = int(numbers["Type"][0])
    coords = _coords_in(section, numbers, findings)
    points = _points(section, numbers, coords is not None, findings)
    if points is None or ("StageXYZ" in numbers) == (coords is not None):
        return None
    stage = numbers.get("StageXYZ", (math.nan, math.nan, coords[1][2] if coords else math.nan))
    map_id = int(numbers.get("MapID", (0,))[0])
    scale, size = numbers.get("MapScaleMat"), numbers.get("MapWidthHeight")
    frames = numbers.get("MapFramesXY", (0, 0))
    return NavItem(
        id=_unique_id(section.name, map_id, labels, repeats),
        label=section.name,
        type=kind,
        regis=int(numbers["Regis"][0]),
        map_id=map_id,
        group_id=int(numbers.get("GroupID", (0,))[0]),
        drawn_id=int(numbers.get("DrawnID", (0,))[0]),
        acquire=bool(numbers.get("Acquire", (0,))[0]),
        stage_um=(stage[0], stage[1], stage[2]),
        coords_in=coords,
        points_x=points[0],
        points_y=points[1],
        map_file=file_name(section.get("MapFile")) if kind == MAP else "",
        is_montage=bool(numbers.get("MapMontage", (0,))[0]),
        scale=(scale[0], scale[1], scale[2], scale[3]) if scale else None,
        size_px=(int(size[0]), int(size[1])) if size else None,
        frames_xy=(int(frames[0]), int(frames[1])),
        place=place,
        section=section,
        pattern=_pattern(numbers),
    )


def _pattern(numbers: dict[str, tuple[float, ...]]) -> tuple[str, ...] | None:
    array, skipped = (tuple(map(int, numbers.get(key, ()))) for key in ("HoleArray", "SkipHoles"))
    return pattern_of(array, skipped)


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


def _numbers(section: Section, findings: Findings) -> dict[str, tuple[float, ...]] | None:
    """The numbers of all known keys; a wrong optional one is left out, without a needed one there is no item."""
    numbers: dict[str, tuple[float, ...]] = {}
    wrong: set[str] = set()
    for key in section.key_names():
        described = NAV_FIELDS.get(key)
        if described is None or described.kind == "text" or _is_empty(section, key):
            continue
        values = _values(section, key, described, findings)
        if values is None:
            wrong.add(key)
            continue
        problem = _place_problem(key, values)
        if problem is not None:
            findings.deviates(problem, section.line_of(key), _element(section))
            wrong.add(key)
        else:
            numbers[key] = values
    kind = numbers.get("Type", (None,))[0]
    if "Type" in numbers and kind not in (POINT, POLYGON, MAP):
        findings.deviates(
            f"Type must be 0 (point), 1 (polygon) or 2 (map). Got {section.get('Type')} instead.",
            section.line_of("Type"),
            _element(section),
        )
        return None
    needed = NEEDED_OF_MAPS if kind == MAP else NEEDED
    for key in needed:
        described = NAV_FIELDS.get(key)
        is_text = described is not None and described.kind == "text"  # an empty one is a text too
        if section.get(key) is None or (_is_empty(section, key) and not is_text):
            line = section.line if section.get(key) is None else section.line_of(key)
            findings.deviates(f"an item must have {key}. Got none instead.", line, _element(section))
            wrong.add(key)
    has_position = any(key in numbers for key in ("StageXYZ", *COORDS_IN))
    if not has_position and not wrong & {"StageXYZ", *COORDS_IN}:
        findings.deviates(
            f"an item must have StageXYZ or one of {', '.join(COORDS_IN)}. Got none instead.",
            section.line,
            _element(section),
        )
    return None if not wrong.isdisjoint(needed) or not has_position else numbers


def _is_empty(section: Section, key: str) -> bool:
    """Whether a key is not there, or without a value, which says as little."""
    return not (section.get(key) or "").strip()


def _place_problem(key: str, values: tuple[float, ...]) -> str | None:
    """What is wrong with a position that no stage or image has; None for all other keys."""
    check = limits.stage_problem if key == "StageXYZ" else limits.pixel_problem if key in COORDS_IN else None
    return None if check is None else next(filter(None, (check(value, key) for value in values[:2])), None)


def _values(section: Section, key: str, described: NavField, findings: Findings) -> tuple[float, ...] | None:
    text = section.get(key) or ""
    words = text.split()
    values = [_number(word, described.kind == "int") for word in words]
    of_kind = "whole numbers" if described.kind == "int" else "numbers"
    if None in values:
        bad = words[values.index(None)]
        message = f"{key} must hold {of_kind}. Got {bad[:_SHOWN]!r} instead."
    elif described.count is not None and len(values) != described.count:
        message = f"{key} must hold {described.count} {of_kind}. Got {len(values)} instead."
    else:
        return tuple(value for value in values if value is not None)
    findings.deviates(message, section.line_of(key), _element(section))
    return None


def _number(word: str, whole: bool) -> float | None:
    if whole:
        return int(word) if WHOLE_NUMBER.fullmatch(word) else None
    if not _NUMBER.fullmatch(word) or len(word) > 400:
        return None
    value = float(word)
    return value if math.isfinite(value) else None


def _coords_in(
    section: Section, numbers: dict[str, tuple[float, ...]], findings: Findings
) -> tuple[str, tuple[float, float, float]] | None:
    given = [key for key in ("StageXYZ", *COORDS_IN) if key in numbers]
    if len(given) > 1:
        findings.deviates(
            f"an item must have one of StageXYZ, {', '.join(COORDS_IN)}. Got {', '.join(given)} instead.",
            section.line,
            _element(section),
        )
    for key in given:
        if key != "StageXYZ":
            x_px, y_px, z_um = numbers[key]
            return key, (x_px, y_px, z_um)
    return None


def _points(
    section: Section, numbers: dict[str, tuple[float, ...]], in_pixels: bool, findings: Findings
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """PtsX and PtsY; an external point may do without."""
    count = int(numbers["NumPts"][0])
    if count == 0 and in_pixels and numbers["Type"][0] == POINT:
        return (), ()
    if count < 1:
        findings.deviates(
            f"NumPts must be at least 1. Got {count} instead.",
            section.line_of("NumPts"),
            _element(section),
        )
        return None
    for key in ("PtsX", "PtsY"):
        if key in numbers and len(numbers[key]) == count:
            continue
        # A list that was refused above is not reported twice.
        if key in numbers or _is_empty(section, key):
            got = len(numbers.get(key, ()))
            findings.deviates(
                f"{key} must hold {count} numbers (NumPts). Got {got} instead.",
                section.line_of(key),
                _element(section),
            )
        return None
    return numbers["PtsX"], numbers["PtsY"]


def _unique_id(label: str, map_id: int, labels: Counter[str], repeats: Counter[str]) -> str:
    """The label where it is unique; else with the MapID, else with a running number that makes no other label."""
    if labels[label] == 1:
        return label
    if map_id and f"{label}#{map_id}" not in labels:
        return f"{label}#{map_id}"
    while True:
        repeats[label] += 1
        wanted = f"{label}#no{repeats[label]}"
        if wanted not in labels:
            return wanted


def _element(section: Section) -> str:
    return f"[{section.kind} = {section.name[:_SHOWN]}]"
