"""Items of several navigators, or of a navigator and a stored session: whether one label stands for one place.

SerialEM numbers the items of every grid from 1 on, so that a label is a name within its navigator only. It is the same
item where the MapIDs are equal or the places agree; else it gets the name of its grid, GRID/LABEL, and so do the
patches and exposures that belong to it. A navigator that shares an item with an earlier one is of the same grid: the
same table, saved again. SerialEM's own MapIDs are large random numbers. Items that other programs make, ours among
them, have small ones that begin anew in every file: these tell items apart together with the map that they were made
on (DrawnID), and without it only within reach of each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cryoscout.core.counting import counted
from cryoscout.formats.clusters import SAME_PLACE_UM
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.serialem.exposures import (
    WhenAndWhere,
    note_on_images_elsewhere,
    note_on_nobodys,
    own_name,
)
from cryoscout.formats.serialem.patterns import item_of_hole
from cryoscout.formats.serialem.unopened import FARTHEST_UM
from cryoscout.intake.pattern_holes import KnownPatterns
from cryoscout.session.joins import NAMES_SHOWN
from cryoscout.session.model import Session
from cryoscout.session.vendor_fields import unpacked

FORMAT = "serialem"
FIRST_OF_SERIALEM = 100_000
"""Ids that SerialEM makes itself are random and not below this; made items have smaller ones."""
_LONGEST_ID = 18
MOVED_UM = 5.0
"""So far an operator moves an item that is to stay the same one."""


@dataclass(frozen=True)
class _Place:
    """What is known of an item."""

    x_um: float
    y_um: float
    item: _Item
    grid_id: str
    by_image: bool
    """The place is where the stage stood for an image, not that of the item."""
    is_hole: bool

    def is_same(self, other: _Place) -> bool:
        """Whether both may be one item; what is not known of either speaks for it."""
        agree = self.item.agrees_with(other.item)
        if agree and self.item.is_unique and other.item.is_unique:
            return True
        distance_um = self.distance_um(other)
        if math.isnan(distance_um):
            return agree is not False
        is_near = self.by_image or other.by_image or agree
        return distance_um <= (FARTHEST_UM if is_near else SAME_PLACE_UM)

    def is_surely_same(self, other: _Place) -> bool:
        """Whether the items, and not only labels and rough places, are one."""
        agree = self.item.agrees_with(other.item)
        if agree and self.item.is_unique and other.item.is_unique:
            return True
        if self.by_image or other.by_image:
            return False
        distance_um = self.distance_um(other)
        return agree is not False if math.isnan(distance_um) else distance_um <= SAME_PLACE_UM

    def distance_um(self, other: _Place) -> float:
        """How far apart they are (um); NaN where a place is not known."""
        return math.hypot(self.x_um - other.x_um, self.y_um - other.y_um)


@dataclass(frozen=True)
class _Item:
    """What a navigator says that tells an item from all others; 0 unknown."""

    map_id: int = 0
    drawn_id: int = 0
    """MapID of the map that it was drawn on."""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> _Item:
        return cls(*(_id_in(fields, key) for key in ("MapID", "DrawnID")))

    @property
    def is_unique(self) -> bool:
        """Whether no item of another navigator has these by chance."""
        return max(self.map_id, self.drawn_id) >= FIRST_OF_SERIALEM and self.map_id > 0

    def agrees_with(self, other: _Item) -> bool | None:
        """Whether both are one item; None where they do not tell."""
        if not (self.map_id and other.map_id):
            # Items that other programs made have no MapID; the map that they were drawn on has one of SerialEM.
            is_of_other_map = self.drawn_id != other.drawn_id
            is_told = min(self.drawn_id, other.drawn_id) >= FIRST_OF_SERIALEM
            return False if is_told and is_of_other_map else None
        if self.map_id != other.map_id:
            return False
        if self.map_id >= FIRST_OF_SERIALEM or not (self.drawn_id and other.drawn_id):
            return True
        return self.drawn_id == other.drawn_id


def _id_in(fields: Mapping[str, str], key: str) -> int:
    text = fields.get(key, "").strip()
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_ID else 0


def grids_told_apart(
    sources: Sequence[SourceRecords], stored: Session | None
) -> tuple[list[SourceRecords], bool]:
    """The sources with the ids under which their items are, or will be, stored; and whether a grid is new.

    stored : the session that they extend
    """
    serialem = [source for source in sources if source.format == FORMAT]
    if not serialem or (stored is None and len(serialem) < 2):
        return list(sources), False
    fields = {} if stored is None else unpacked(stored.vendor_fields)
    known = {} if stored is None else _stored_places(stored, fields)
    patterns = KnownPatterns() if stored is None else KnownPatterns.of(stored, fields, serialem)
    images = {} if stored is None else _images(stored.exposures)
    told = []
    is_new_grid = False
    for source in sources:
        if source.format == FORMAT:
            apart, is_new = _told_apart(source, known)
            is_new_grid |= is_new
            if stored is not None:
                apart = _under_their_first_names(apart, stored)
            apart = patterns.named(apart)
            for item_id, place in _places_of(apart).items():
                known.setdefault(item_id, place)
            apart = _images_told_apart(apart, images)
            for name, image in _images(apart.exposures).items():
                images.setdefault(name, image)
            told.append(apart)
        else:
            told.append(source)
    return told, is_new_grid


def _images(exposures: pd.DataFrame) -> dict[str, WhenAndWhere]:
    """When and where each image was taken."""
    columns = ["exposure_id", "started_at", "stage_x_um", "stage_y_um"]
    return {
        name: (None if pd.isna(at) else pd.Timestamp(at), float(x_um), float(y_um))
        for name, at, x_um, y_um in exposures[columns].itertuples(index=False, name=None)
    }


def _images_told_apart(source: SourceRecords, known: Mapping[str, WhenAndWhere]) -> SourceRecords:
    """The source with its images that have the name of a known one of another place, as FOLDER/NAME."""
    path = source.path.resolve()
    folder = path.name if path.is_dir() else path.parent.name
    taken, names = dict(known), dict[str, str]()
    for name, image in _images(source.exposures).items():
        own = own_name(name, folder, image, taken)
        taken.setdefault(own, image)
        if own != name:
            names[name] = own
    if not names:
        return source
    told = source.exposures["exposure_id"].map(lambda name: names.get(name, name)).astype("str")
    return replace(
        source,
        exposures=source.exposures.assign(exposure_id=told),
        extra={names.get(record, record): fields for record, fields in source.extra.items()},
        notes=(*source.notes, note_on_images_elsewhere(list(names.values()))),
    )


def _stored_places(stored: Session, fields: Mapping[tuple[str, str], Mapping[str, str]]) -> dict[str, _Place]:
    """Squares and holes of a stored session."""
    of_patch = stored.patches.merge(stored.squares[["square_id", "grid_id"]], on="square_id", how="left")
    holes = stored.holes.merge(of_patch[["patch_id", "grid_id"]], on="patch_id", how="left")
    own = set(stored.holes["hole_id"])
    places: dict[str, _Place] = {}
    for table, id_column in ((stored.squares, "square_id"), (holes, "hole_id")):
        rows = table[[id_column, "x_um", "y_um", "grid_id"]].itertuples(index=False, name=None)
        for item_id, x_um, y_um, grid_id in rows:
            said = fields.get(
                (FORMAT, item_of_hole(item_id, own)), {}
            )  # by a navigator; other programs' have no MapID
            places[item_id] = _Place(x_um, y_um, _Item.of(said), grid_id, not said, id_column == "hole_id")
    return places


def _places_of(source: SourceRecords) -> dict[str, _Place]:
    """Squares and holes of a source, those that only exposures name among them."""
    places: dict[str, _Place] = {}
    for table, id_column in (
        (source.squares, "square_id"), (source.stood_for, "square_id"), (source.holes, "hole_id"),
    ):  # fmt: skip
        rows = table[[id_column, "x_um", "y_um", "grid_id"]].itertuples(index=False, name=None)
        for item_id, x_um, y_um, grid_id in rows:
            # A further hole of a pattern goes with its item, and has its MapID.
            item = _Item.of(source.extra.get(item_of_hole(item_id, source.extra), {}))
            places[item_id] = _Place(x_um, y_um, item, grid_id, False, id_column == "hole_id")
    columns = ["hole_id", "stage_x_um", "stage_y_um", "grid_id"]
    for hole_id, x_um, y_um, grid_id in source.exposures[columns].itertuples(index=False, name=None):
        if hole_id and hole_id not in places:
            places[hole_id] = _Place(x_um, y_um, _Item(), grid_id, by_image=True, is_hole=True)
    return places


def _told_apart(source: SourceRecords, known: Mapping[str, _Place]) -> tuple[SourceRecords, bool]:
    all_places = _places_of(source)
    # A further hole of a pattern goes with its item.
    places = {item: place for item, place in all_places.items() if item_of_hole(item, all_places) == item}
    if not places:
        return source, False
    has_navigator = len(source.holes) + len(source.squares) > 0
    labels = {} if has_navigator else _by_label(known)
    nobodys = {item for item, place in places.items() if _is_of_any(item, place, known, labels)}
    if nobodys:
        source = _without_holes(source, nobodys)
        places = {item: place for item, place in places.items() if item not in nobodys}
    same = {item: item for item, place in places.items() if item in known and known[item].is_same(place)}
    grids = {place.grid_id for place in known.values()}
    own_grid = source.session_name or ""
    notes = list(source.notes)
    if has_navigator:
        same = _of_one_navigator(same, places, known)
        same |= _imaged_elsewhere(same, places, known)
    others = [item for item in places if item in known and item not in same]
    again = [f"{own_grid}/{item}" for item in others if f"{own_grid}/{item}" in known]
    shared = next(
        (known[name].grid_id for name in [*same.values(), *again] if not known[name].by_image), None
    )
    if has_navigator and shared is None:
        shared, is_chance = _grid_of_images(same, places, known)
        if is_chance:
            others += same
            same = {}
        elif shared is not None and shared != own_grid:
            notes.append(
                f"its items are those of grid {shared}, of which images were imported before: it is this grid, and "
                "imaged holes stay in the squares that they have. Remedy: import both together into a new place with "
                "-o to have them in the squares of the navigator"
            )
    if has_navigator and shared is not None:
        own_grid = shared
    elif others and own_grid in grids:
        # Another folder with a navigator of the same name.
        own_grid = f"{source.path.resolve().parent.name}_{own_grid}"
    names = {item: f"{own_grid}/{item}" for item in others if item in known}
    names |= {item: name for item, name in same.items() if name != item}
    if not has_navigator:
        names |= {
            item: elsewhere
            for item, place in places.items()
            if item not in same and (elsewhere := _known_elsewhere(item, place, known, labels)) is not None
        }
        others = [item for item in others if names[item] == f"{own_grid}/{item}"]
        of = {known[names.get(item, item)].grid_id for item in [*same, *names] if item not in others}
        if len(of) == 1 and not others:
            # Further images of a grid, whatever their folder is called.
            own_grid = of.pop()
    is_new_grid = has_navigator and shared is None and own_grid not in grids
    if not names and own_grid == source.session_name:
        return source, is_new_grid
    if others:
        shown = ", ".join(others[:NAMES_SHOWN])
        notes.append(
            f"{counted(len(others), 'labels', 'stand')} for other items elsewhere in the session (another MapID, map "
            f"or place; first: {shown}): these are {own_grid}/LABEL"
        )
    return _renamed(source, names, own_grid, notes), is_new_grid


def _of_one_navigator(
    same: Mapping[str, str], places: Mapping[str, _Place], known: Mapping[str, _Place]
) -> dict[str, str]:
    """Of items that may be known ones those that are: far from where it was, one with a made id is so only beside
    others of its grid that surely are."""
    sure = {known[name].grid_id for item, name in same.items() if known[name].is_surely_same(places[item])}
    return {
        item: name
        for item, name in same.items()
        if known[name].by_image
        or known[name].grid_id in sure
        or not known[name].distance_um(places[item]) > MOVED_UM
    }


def _imaged_elsewhere(
    same: Mapping[str, str], places: Mapping[str, _Place], known: Mapping[str, _Place]
) -> dict[str, str]:
    """Item of a navigator -> the hole, known by its images alone, that has its label and another name.

    Of several items of one label within reach the nearest one was imaged.
    """
    labels = _by_label({name: place for name, place in known.items() if place.by_image and place.is_hole})
    taken = set(same.values())
    pairs = sorted(
        (place.distance_um(known[name]), item, name)
        for item, place in places.items()
        if item not in same and place.is_hole
        for name in labels.get(_label_of(item), ())
        if name not in taken and place.distance_um(known[name]) <= FARTHEST_UM
    )
    found: dict[str, str] = {}
    for _, item, name in pairs:
        if item not in found and name not in taken:
            found[item] = name
            taken.add(name)
    return found


def _grid_of_images(
    same: Mapping[str, str], places: Mapping[str, _Place], known: Mapping[str, _Place]
) -> tuple[str | None, bool]:
    """(The grid whose images were taken of the items of a navigator, whether what agrees does so by chance).

    same : item -> hole that is known by images alone
    Labels repeat, and some items of two grids stand near each other: the images are of the navigator where not more
    of its labels stand elsewhere among them. None where a grid of them has a navigator.
    """
    found = Counter(known[name].grid_id for name in same.values() if known[name].is_hole)
    if not found:
        return None, False
    grid = found.most_common(1)[0][0]
    elsewhere = sum(
        item not in same and item in known and known[item].by_image and known[item].grid_id == grid
        for item in places
    )
    if elsewhere > found[grid]:
        return None, True
    has_navigator = any(place.grid_id == grid and not place.by_image for place in known.values())
    return (None if has_navigator else grid), False


def _under_their_first_names(source: SourceRecords, stored: Session) -> SourceRecords:
    """The source with squares that were opened since as they are stored: as the polygon or point that stood for them.

    A square that a plan, an operator and results name stays the same square when its map is taken.
    """
    known = set(stored.squares["square_id"])
    names: dict[str, str] = {}
    for old, now in source.stood_for[["square_id", "now"]].itertuples(index=False, name=None):
        if old in known and now not in known and old not in names.values():
            names.setdefault(now, old)
    if not names:
        return source
    shown = ", ".join(f"{old} (map {now})" for now, old in list(names.items())[:NAMES_SHOWN])
    note = f"squares that were opened since keep the names that they had: {shown}"
    told = _renamed(source, names, source.session_name or "", [*source.notes, note])
    # Where a polygon was drawn is where its square stands; what the file says of either item stays with that item.
    placed = told.squares.assign(
        **{
            axis: told.squares[axis].mask(told.squares["square_id"].isin(names.values()))
            for axis in ("x_um", "y_um")
        }
    )
    return replace(told, squares=placed, extra=source.extra)


def _label_of(item: str) -> str:
    return item.partition("#")[0]


def _by_label(known: Mapping[str, _Place]) -> dict[str, list[str]]:
    """Label -> the known items that have it, whatever their grid: LABEL, GRID/LABEL, LABEL#NUMBER."""
    labels: dict[str, list[str]] = {}
    for name in known:
        bare = name.partition("/")[2]
        for label in dict.fromkeys((name, _label_of(name), *((bare, _label_of(bare)) if bare else ()))):
            labels.setdefault(label, []).append(name)
    return labels


def _known_elsewhere(
    item: str, place: _Place, known: Mapping[str, _Place], labels: Mapping[str, Sequence[str]]
) -> str | None:
    """The known item that has the label and is where the image was taken, whatever its grid."""
    return next((name for name in labels.get(_label_of(item), ()) if known[name].is_same(place)), None)


def _is_of_any(
    item: str, place: _Place, known: Mapping[str, _Place], labels: Mapping[str, Sequence[str]]
) -> bool:
    """Whether images of a label may be of several known holes, and no place says of which."""
    near_um = [
        known[name].distance_um(place)
        for name in labels.get(_label_of(item), ())
        if known[name].is_hole and known[name].is_same(place)
    ]
    return len(near_um) > 1 and bool(np.isnan(near_um).all())


def _without_holes(source: SourceRecords, items: Collection[str]) -> SourceRecords:
    """The source whose exposures of these items, or of further holes of theirs, name no hole; with a note on them."""
    exposures = source.exposures
    of = exposures["hole_id"].isin(items) | exposures["hole_id"].str.partition("@")[0].isin(items)
    told = zip(exposures["exposure_id"][of], exposures["hole_id"][of], strict=True)
    return replace(
        source,
        exposures=exposures.assign(hole_id=exposures["hole_id"].mask(of, "").astype("str")),
        notes=(*source.notes, *note_on_nobodys([*told])),
    )


def _renamed(
    source: SourceRecords, names: Mapping[str, str], grid_id: str, notes: Sequence[str]
) -> SourceRecords:
    def told(ids: pd.Series[str]) -> pd.Series[str]:
        return ids.map(lambda item: names.get(item, item)).astype("str")

    def patch(name: str) -> str:
        square, slash, rest = name.partition("/")
        return f"{names[square]}{slash}{rest}" if slash and square in names else name

    def hole(name: str) -> str:
        # A further hole of a pattern goes with its item, and an item with its further holes.
        item, at, further = name.partition("@")
        return f"{names[item]}{at}{further}" if item in names and name not in names else names.get(name, name)

    holes = source.holes.assign(
        hole_id=source.holes["hole_id"].map(hole).astype("str"),
        square_id=told(source.holes["square_id"]),
        patch_id=source.holes["patch_id"].map(patch).astype("str"),
        grid_id=grid_id,
    )
    exposures = source.exposures.assign(
        hole_id=source.exposures["hole_id"].map(hole).astype("str"),
        square_id=told(source.exposures["square_id"]),
        grid_id=grid_id,
    )
    return replace(
        source,
        squares=source.squares.assign(square_id=told(source.squares["square_id"]), grid_id=grid_id),
        stood_for=source.stood_for.assign(
            square_id=told(source.stood_for["square_id"]), now=told(source.stood_for["now"]), grid_id=grid_id
        ),
        holes=holes,
        exposures=exposures,
        extra={hole(record): fields for record, fields in source.extra.items()},
        session_name=grid_id,
        notes=tuple(notes),
    )
