"""Micrographs of SerialEM's image metadata: what is one, what is a tilt series, and which hole each is of.

An exposure names the navigator item where it was taken (NavigatorLabel). Labels repeat, in a file and from grid to
grid, so an item is taken only where the stage stood: of several the nearest, of none nearer than `FARTHEST_UM` none.
A MultiShot pattern images several holes from one item. They are told apart by MultishotHoleAndPosition: one has the
item's id, each other one is ITEM@HOLE, such as 5@X+1Y-1. Where the navigator says the pattern (HoleArray), `patterns`
tells which one, so that a hole has one name before and after it is imaged. Else it is the one that was imaged first and
not that in the centre, because a pattern may have none there, and an item that was imaged must not look as if it were
not.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, count

import numpy as np
from scipy.spatial import cKDTree

from cryoscout.core.counting import counted
from cryoscout.formats.clusters import cluster_positions
from cryoscout.formats.serialem import mdoc as serialem_mdoc
from cryoscout.formats.serialem.autodoc import Section, file_name
from cryoscout.formats.serialem.mdoc import FRAME_SET, MONT_SECTION, MdocFile, MdocSection
from cryoscout.formats.serialem.patterns import is_as_told
from cryoscout.formats.serialem.places import Hole
from cryoscout.formats.serialem.unopened import FARTHEST_UM, Taken

TILT_SERIES_FROM_DEGREES = 3.0
"""Images of one place whose tilts differ by this are a tilt series; a stage that stays reads back within 0.1."""
_ONE_PLACE_UM = 2.0
_SAME_STAGE_UM = 0.5
"""A stage that was not moved reads back nearer than this; places of patterns are several um apart."""
_ONE_ITEM_UM = 10.0
"""A tilt series is tracked, so that its stage positions differ; with the item's label they may differ more."""

NAMES_SHOWN = 3

_EXTENSION = re.compile(
    r"\.(?:mrcs?|st|tiff?|eer|dm[34]|hdf5?|map|jpe?g|bz2)$|\.(?:mrcs?|tiff?)\.(?:mrcs?|bz2)$", re.IGNORECASE
)
METADATA = re.compile(r"\.[mi]doc$", re.IGNORECASE)
_PLACED = frozenset({"StagePosition", "ImageShift", "DateTime"})


@dataclass
class Exposure:
    """One micrograph; the same one may be described beside its movie and in the file of the whole run."""

    exposure_id: str
    section: MdocSection
    extra: dict[str, str]


@dataclass(frozen=True)
class PlacedExposure:
    """A micrograph and its hole."""

    exposure: Exposure
    hole_id: str
    """"" where it is of none."""
    item: Hole | None
    """The item of the navigator; None without one."""
    grid: int
    """Which of the navigators it belongs to."""


@dataclass
class PlacedExposures:
    """Every micrograph with its hole, and what had to be decided for it."""

    exposures: list[PlacedExposure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def further_holes(self, grid: int) -> dict[str, Hole]:
        """Holes of patterns that no item of their own stands for -> the item of the pattern."""
        return {
            each.hole_id: each.item
            for each in self.exposures
            if each.grid == grid and each.item is not None and each.hole_id not in ("", each.item.item.id)
        }


def exposures_of(
    files: Iterable[MdocFile], maps: Collection[tuple[str, str]] = ()
) -> tuple[list[Exposure], list[str]]:
    """The micrographs: frame sets, else single images; no montage, no tilt series, no image that is no Record image.

    maps : image file and section of the maps of the navigators, which are no micrographs either
    """
    exposures: dict[str, Exposure] = {}
    taken: dict[str, WhenAndWhere] = {}
    tilted: dict[str, float] = {}  # images of whole files that are tilt series -> degrees
    series = montages = others = again = of_maps = 0
    elsewhere: list[str] = []  # images whose name another one has
    for file in files:
        kinds = {section.kind for section in file.sections}
        if file.is_montage or MONT_SECTION in kinds:
            montages += 1
            continue
        # Under a frame set, [ZValue] sections are parts of its movie.
        sections = [part for part in file.sections if part.kind == FRAME_SET or FRAME_SET not in kinds]
        named = [(_exposure_id(file, section, len(sections)), section) for section in sections]
        if _is_tilt_series([_tilt(section) for section in sections]):
            series += 1
            tilted |= {name: _tilt(section) for name, section in named}
            continue
        for name, section in named:
            if not section.is_record:
                others += 1
                continue
            if _is_map(file, section, maps):
                of_maps += 1
                continue
            extra = fields_of(section.section, _PLACED)
            own = own_name(name, file.path.parent.name, _when_and_where(section), taken)
            if own != name and own not in exposures:
                elsewhere.append(own)
            if own in exposures:
                again += 1
                exposures[own] = _completed(exposures[own], section, extra)
            else:
                exposures[own] = Exposure(own, section, extra)
            taken[own] = _when_and_where(exposures[own].section)
    for group in _tilt_series([each for each in exposures.values() if each.exposure_id not in tilted]):
        series += 1
        tilted |= {each.exposure_id: _tilt(each.section) for each in group}
    notes = [
        f"{counted(count, what, 'are')} {said}"
        for count, what, said in (
            (montages, "metadata files", "of montages: no exposures"),
            (of_maps, "images", "maps of the navigator and no exposures"),
            (others, "images", "of another kind than Record (LowDoseConSet): no exposures"),
            (again, "exposures", "described twice; the first description counts, the other fills its gaps"),
        )
        if count
    ]
    if elsewhere:
        notes.append(note_on_images_elsewhere(elsewhere))
    if series:
        notes.append(
            f"{counted(len(tilted), 'images', 'are')} {series} tilt series ({_range(tilted.values())} degrees): "
            "no holes, left out"
        )
    return [each for each in exposures.values() if each.exposure_id not in tilted], notes


_SAME_IMAGE_S = 60.0
"""Two descriptions of one image may be this far apart where no place tells."""

WhenAndWhere = tuple[datetime | None, float, float]
"""Start (None unknown) and stage position (um, NaN unknown) of an image."""


def are_apart(one: WhenAndWhere, other: WhenAndWhere) -> bool:
    """Whether two images of one name cannot be one: places out of reach, else times, where both are known."""
    distance_um = math.hypot(one[1] - other[1], one[2] - other[2])
    if not math.isnan(distance_um):
        return distance_um > FARTHEST_UM
    if one[0] is None or other[0] is None:
        return False
    return abs((one[0] - other[0]).total_seconds()) > _SAME_IMAGE_S


def own_name(name: str, folder: str, image: WhenAndWhere, known: Mapping[str, WhenAndWhere]) -> str:
    """The name of an image among known ones: its own, else FOLDER/NAME, else FOLDER#2/NAME and so on.

    A name is free, or of the same image, where the known image of that name is not apart from this one.
    """
    bare = name.rpartition("/")[2]
    candidates = chain([name, f"{folder}/{bare}"], (f"{folder}#{number}/{bare}" for number in count(start=2)))
    return next(each for each in candidates if each not in known or not are_apart(known[each], image))


def note_on_images_elsewhere(names: Sequence[str]) -> str:
    """What is said of images that got another name, because one that was taken elsewhere has theirs."""
    return (
        f"{counted(len(names), 'images', 'have')} the name of another that was taken elsewhere: they are FOLDER/NAME "
        f"(first: {names[0]}); a result that says the name alone joins neither"
    )


def _when_and_where(section: MdocSection) -> WhenAndWhere:
    return section.started_at, section.stage_um[0], section.stage_um[1]


def taken_at(exposures: Iterable[Exposure]) -> Taken:
    """Where the micrographs were taken that name an item."""
    taken: dict[str, list[tuple[float, float]]] = {}
    for each in exposures:
        if each.section.navigator_label:
            taken.setdefault(each.section.navigator_label, []).append(each.section.stage_um[:2])
    return taken


def with_holes(exposures: Sequence[Exposure], holes_of_grids: Sequence[Sequence[Hole]]) -> PlacedExposures:
    """The hole of each micrograph.

    holes_of_grids : the holes of each navigator; without any the label is all that is known of a hole
    """
    placed = PlacedExposures()
    if not holes_of_grids:
        placed.exposures, placed.notes = _without_navigator(exposures)
        return placed
    by_label: dict[str, list[tuple[int, Hole]]] = {}
    for grid, holes in enumerate(holes_of_grids):
        for hole in holes:
            by_label.setdefault(hole.item.label, []).append((grid, hole))
    unlabelled, unknown, several = 0, Counter[str](), 0
    far: list[tuple[str, str, float]] = []
    nowhere: list[tuple[str, str]] = []
    found: list[PlacedExposure] = []
    nearest: dict[str, Nearest] = {}
    for exposure in exposures:
        label = exposure.section.navigator_label
        candidates = by_label.get(label, [])
        if not candidates:
            unlabelled += not label
            unknown[label] += bool(label)
            found.append(PlacedExposure(exposure, "", None, 0))
            continue
        if label not in nearest:
            nearest[label] = Nearest(candidates)
        where_um = exposure.section.stage_um[:2]
        distance_um, (grid, hole) = nearest[label].to(*where_um)
        if len(candidates) > 1 and math.isinf(distance_um):
            nowhere.append((exposure.exposure_id, label))
            found.append(PlacedExposure(exposure, "", None, 0))
            continue
        several += nearest[label].within(FARTHEST_UM, *where_um) > 1
        if FARTHEST_UM < distance_um < math.inf:
            far.append((exposure.exposure_id, label, distance_um))
            found.append(PlacedExposure(exposure, "", None, 0))
        else:
            found.append(PlacedExposure(exposure, hole.item.id, hole, grid))
    placed.exposures, pattern_notes = _with_pattern_holes(found)
    placed.notes += _unlabelled(unlabelled)
    if unknown.total():
        shown = ", ".join([label for label, count in unknown.items() if count][:NAMES_SHOWN])
        placed.notes.append(
            f"{counted(unknown.total(), 'exposures', 'name')} an item that is no hole of the navigator (first: {shown})"
        )
    if far:
        name, label, distance_um = far[0]
        placed.notes.append(
            f"{counted(len(far), 'exposures', 'were')} taken farther than {FARTHEST_UM:g} um from the item that they "
            f"name (first: {name}, {distance_um:.0f} um from item {label}): of another grid or navigator, they get "
            "no hole here; import them with the navigator of their own grid"
        )
    placed.notes += note_on_nobodys(nowhere)
    if several:
        placed.notes.append(
            f"{counted(several, 'exposures', 'name')} a label that several holes have: the nearest one was taken"
        )
    placed.notes += pattern_notes
    return placed


def stem(name: str) -> str:
    """The name of an image without its extension."""
    return _EXTENSION.sub("", name) or name


def fields_of(section: Section, placed: frozenset[str]) -> dict[str, str]:
    """All keys of a section but those that have their place in the tables."""
    return {key: section.get(key) or "" for key in section.key_names() if key not in placed}


def _exposure_id(file: MdocFile, section: MdocSection, n_sections: int) -> str:
    """Name of the movie, else of the image file with the image's number, else of the metadata file."""
    if section.movie:
        return stem(section.movie)
    if section.kind == serialem_mdoc.IMAGE:
        return stem(file_name(section.name))
    whole = stem(file.image_file or METADATA.sub("", file.path.name))
    return whole if n_sections == 1 else f"{whole}_{section.name}"


@dataclass
class TakenSection:
    """One section of one stack: an image, or the pieces of a montage."""

    started_at: datetime
    """Of the first piece"""
    stage_um: list[tuple[float, float]] = field(default_factory=list)
    """Of every piece; NaN unknown"""


def taken_sections(files: Iterable[MdocFile]) -> dict[tuple[str, str], list[TakenSection]]:
    """(Image file, section of the stack) -> when and where it was taken, for each stack of that name."""
    found: dict[tuple[str, str], list[TakenSection]] = {}
    for file in files:
        own: dict[str, TakenSection] = {}
        for section in file.sections:
            if section.kind != serialem_mdoc.Z_VALUE or section.started_at is None:
                continue
            piece = section.numbers.get("PieceCoordinates")
            name = section.name if piece is None else f"{piece[2]:.0f}"
            taken = own.setdefault(name, TakenSection(section.started_at))
            taken.started_at = min(taken.started_at, section.started_at)
            taken.stage_um.append(section.stage_um[:2])
        for name, taken in own.items():
            found.setdefault((_image_of(file), name), []).append(taken)
    return found


def _image_of(file: MdocFile) -> str:
    return file.image_file or METADATA.sub("", file.path.name)


def _is_map(file: MdocFile, section: MdocSection, maps: Collection[tuple[str, str]]) -> bool:
    """Whether an image of a stack, or a single one, is a map: `[ZValue = n]` is section n of the stack."""
    image = _image_of(file)
    return section.kind == serialem_mdoc.Z_VALUE and (image, section.name) in maps


def _completed(known: Exposure, section: MdocSection, extra: dict[str, str]) -> Exposure:
    first = known.section
    return Exposure(
        known.exposure_id,
        replace(
            first,
            started_at=first.started_at or section.started_at,
            stage_um=section.stage_um if math.isnan(first.stage_um[0]) else first.stage_um,
            image_shift=section.image_shift if math.isnan(first.image_shift[0]) else first.image_shift,
            navigator_label=first.navigator_label or section.navigator_label,
            multishot=first.multishot or section.multishot,
        ),
        {**extra, **known.extra},
    )


def _tilt(section: MdocSection) -> float:
    return section.numbers.get("TiltAngle", (math.nan,))[0]


def _is_tilt_series(tilts: Sequence[float]) -> bool:
    known = [tilt for tilt in tilts if not math.isnan(tilt)]
    return bool(known) and max(known) - min(known) >= TILT_SERIES_FROM_DEGREES


def _range(tilts: Iterable[float]) -> str:
    known = [tilt for tilt in tilts if not math.isnan(tilt)]
    return f"{min(known):.0f} to {max(known):.0f}"


def _tilt_series(exposures: Sequence[Exposure]) -> list[list[Exposure]]:
    """Micrographs of one place that differ in tilt, each described by a file of its own."""
    if not _is_tilt_series([_tilt(each.section) for each in exposures]):
        return []
    of_label: dict[str, list[Exposure]] = {}
    for each in exposures:
        of_label.setdefault(each.section.navigator_label, []).append(each)
    series = []
    for label, some in of_label.items():
        x_um, y_um = (np.array([each.section.stage_um[axis] for each in some]) for axis in (0, 1))
        clusters = cluster_positions(x_um, y_um, _ONE_ITEM_UM if label else _ONE_PLACE_UM)
        groups: dict[int, list[Exposure]] = {}
        for each, cluster in zip(some, clusters.tolist(), strict=True):
            if cluster >= 0:
                groups.setdefault(cluster, []).append(each)
        for _, group in sorted(groups.items()):
            if _is_tilt_series([_tilt(each.section) for each in group]):
                series.append(group)
    return series


_AS_NEAR = 4
"""Holes that a place can be in the middle of, on a square lattice."""


class Nearest:
    """The holes of one label, and which of them is nearest to a place; each is asked for without going through all."""

    def __init__(self, candidates: Sequence[tuple[int, Hole]]) -> None:
        """candidates : (grid, hole), at least one"""
        self.candidates = candidates
        first_at: dict[tuple[float, float], int] = {}
        for place, (_, hole) in enumerate(candidates):
            if math.isfinite(hole.x_um) and math.isfinite(hole.y_um):
                first_at.setdefault((hole.x_um, hole.y_um), place)
        self._place = list(first_at.values())
        self._tree = cKDTree(list(first_at)) if first_at else None

    def within(self, distance_um: float, x_um: float, y_um: float) -> int:
        """How many of the holes are not farther from a place than this; 0 where that is not known."""
        if self._tree is None or not (math.isfinite(x_um) and math.isfinite(y_um)):
            return 0
        return len(self._tree.query_ball_point((x_um, y_um), distance_um))

    def to(self, x_um: float, y_um: float) -> tuple[float, tuple[int, Hole]]:
        """How far the nearest hole is (um), and it; inf and the first one where that is not known."""
        if self._tree is None or not (math.isfinite(x_um) and math.isfinite(y_um)):
            return math.inf, self.candidates[0]
        found = self._tree.query((x_um, y_um), k=range(1, 1 + min(_AS_NEAR, len(self._place))))
        distances_um, at = (np.asarray(each).ravel().tolist() for each in found)
        # Of several as near the first.
        near = [
            int(each) for each, far in zip(at, distances_um, strict=True) if far <= distances_um[0] + 1e-9
        ]
        return distances_um[0], self.candidates[min(self._place[each] for each in near)]


def _without_navigator(exposures: Sequence[Exposure]) -> tuple[list[PlacedExposure], list[str]]:
    """The hole by its label alone; a label at places out of each other's reach is an item of several grids."""
    of_label: dict[str, list[Exposure]] = {}
    for each in exposures:
        of_label.setdefault(each.section.navigator_label, []).append(each)
    hole_of: dict[str, str] = {}
    repeated = 0
    for label, some in of_label.items():
        if not label:
            continue
        x_um, y_um = (np.array([each.section.stage_um[axis] for each in some]) for axis in (0, 1))
        clusters = cluster_positions(x_um, y_um, FARTHEST_UM).tolist()
        ordered = sorted(
            zip(some, clusters, strict=True), key=lambda pair: _when(PlacedExposure(pair[0], "", None, 0))
        )
        number: dict[int, int] = {}
        for each, cluster in ordered:
            of_cluster = number.setdefault(cluster, len(number) + 1) if cluster >= 0 else 1
            hole_of[each.exposure_id] = label if of_cluster == 1 else f"{label}#{of_cluster}"
        repeated += len(number) > 1
    found = [PlacedExposure(each, hole_of.get(each.exposure_id, ""), None, 0) for each in exposures]
    told, notes = _with_pattern_holes(found)
    if repeated:
        notes.insert(
            0,
            f"{counted(repeated, 'labels', 'stand')} for items of several places, farther than {FARTHEST_UM:g} um "
            "apart: each place is a hole, LABEL, LABEL#2, ...",
        )
    return told, _unlabelled(len(of_label.get("", ()))) + notes


def _unlabelled(count: int) -> list[str]:
    return (
        [f"{counted(count, 'exposures', 'have')} no NavigatorLabel: not taken by Acquire at Items"]
        if count
        else []
    )


def _with_pattern_holes(found: Sequence[PlacedExposure]) -> tuple[list[PlacedExposure], list[str]]:
    """The exposures with the holes of patterns told apart, and a note on them."""
    of_item: dict[tuple[int, str], list[PlacedExposure]] = {}
    for each in found:
        if each.hole_id:
            of_item.setdefault((each.grid, each.hole_id), []).append(each)
    first_hole: dict[tuple[int, str], str] = {}
    patterns = 0
    for key, some in of_item.items():
        names = {_pattern_hole(each) for each in some}
        pattern = None if some[0].item is None else some[0].item.item.pattern
        if pattern and is_as_told(names, pattern):
            first_hole[key] = pattern[0]
        else:
            first_hole[key] = _pattern_hole(min(some, key=_when))
        patterns += len(names) > 1
    told = []
    for each in found:
        hole = _pattern_hole(each)
        is_first = first_hole.get((each.grid, each.hole_id), hole) == hole
        told.append(replace(each, hole_id=f"{each.hole_id}@{hole}") if hole and not is_first else each)
    told, unlabelled = _with_holes_of_no_item(told)
    if not patterns:
        return told, unlabelled
    return told, [
        *unlabelled,
        f"{counted(patterns, 'items', 'were')} imaged as several holes (MultiShot): the hole imaged first, or in the "
        "middle where the navigator says the pattern, has the item's name, the others are ITEM@HOLE",
    ]


def _with_holes_of_no_item(found: Sequence[PlacedExposure]) -> tuple[list[PlacedExposure], list[str]]:
    """The exposures with one hole for the shots of a MultiShot pattern that name no item, and a note on them.

    The stage stands still while a pattern is imaged: shots of one place and one hole of the pattern are of one hole,
    which is called as the first of them, as it would be if it were alone.
    """
    alone = [place for place, each in enumerate(found) if not each.hole_id and _pattern_hole(each)]
    x_um, y_um = (
        np.array([found[place].exposure.section.stage_um[axis] for place in alone]) for axis in (0, 1)
    )
    shots: dict[tuple[int, str], list[int]] = {}
    for place, cluster in zip(alone, cluster_positions(x_um, y_um, _SAME_STAGE_UM).tolist(), strict=True):
        if cluster >= 0:
            shots.setdefault((cluster, _pattern_hole(found[place])), []).append(place)
    told = list(found)
    several = [places for places in shots.values() if len(places) > 1]
    for places in several:
        first = min(places, key=lambda place: _when(found[place]))
        for place in places:
            told[place] = replace(found[place], hole_id=found[first].exposure.exposure_id)
    if not several:
        return told, []
    return told, [
        f"{counted(len(several), 'holes', 'have')} several shots of MultiShot that name no item: told by the place of "
        "the stage and the hole of the pattern, each hole is called as its first shot"
    ]


def note_on_nobodys(exposures: Sequence[tuple[str, str]]) -> list[str]:
    """What is said of exposures that are of one of several holes, and nothing says of which.

    exposures : name and label of each; none gives no note
    """
    if not exposures:
        return []
    name, label = exposures[0]
    return [
        f"{counted(len(exposures), 'exposures', 'name')} a label that several holes have, and no place (first: {name}, "
        f"item {label}): they get no hole; import each grid by itself, with its own images"
    ]


def _pattern_hole(each: PlacedExposure) -> str:
    shot = each.exposure.section.multishot
    return "" if shot is None else shot.hole


def _when(each: PlacedExposure) -> tuple[bool, datetime, str]:
    """Images without a pattern first, then by time; those without a time last."""
    at = each.exposure.section.started_at
    return bool(_pattern_hole(each)), at or datetime.max, each.exposure.exposure_id
