"""A route as a SerialEM navigator file: the operator's own, its holes in order of visit and marked for acquisition.

SerialEM acquires the items marked Acquire from the top of its table to the bottom, those of the current registration
only. So the chosen holes stand below everything that is no hole and above the other holes, they alone are marked, and
nothing else is changed: maps, notes, unknown keys and sections are written byte for byte.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from cryoscout.core.counting import counted
from cryoscout.core.errors import InputError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.serialem.autodoc import UNREADABLE, Autodoc, Section
from cryoscout.formats.serialem.nav import (
    ITEM,
    LEFT_OUT,
    LEFT_OUT_KEY,
    PLAN_MARK,
    NavFile,
    NavItem,
    label_of_item,
)
from cryoscout.formats.serialem.patterns import item_of_hole

FIRST_MADE_ID = 50_000
"""Ids that SerialEM makes itself are 100,000 and more."""

USER_VALUE = "UserValue1"
NOTE_OF_PLAN = "cryoscout"
_REMEDY = "Remedy: give the navigator that the session was imported from."
IDS_OF_REVISION = 200
"""More than the holes of a plan that are merged at once and their groups."""


@dataclass(frozen=True)
class PlannedHole:
    """One hole of a route, as the writer needs it."""

    hole_id: str  # NavItem.id, or ITEM@HOLE of a hole of its pattern
    patch_id: str
    p_good: float  # 0..1


def items_of(route: Sequence[PlannedHole], holes: Collection[str]) -> list[PlannedHole]:
    """The route by items: one for the holes of a pattern, where its first one stands, with the mean of their p_good.

    holes : ids of all holes
    """
    by_item: dict[str, list[PlannedHole]] = {}
    for hole in route:
        by_item.setdefault(item_of_hole(hole.hole_id, holes), []).append(hole)
    return [
        replace(
            some[0], hole_id=item, p_good=some[0].p_good if len(some) == 1 else fmean(h.p_good for h in some)
        )
        for item, some in by_item.items()
    ]


def write_nav(source: NavFile, route: Sequence[PlannedHole], path: Path) -> tuple[str, ...]:
    """Write a navigator file that acquires the holes of a route in its order; returns notes for the operator.

    source : as read; files of the XML form are written in the autodoc form, which SerialEM reads just as well
    route : in order of visit, each hole once, not empty; an item is marked once for all holes of its pattern
    path : a file that does not exist yet
    Of the chosen holes Acquire, GroupID (one per patch) and UserValue1 (p_good) are set, of all other items Acquire is
    taken off; holes among them get UserValue2 = "chosen, left out of the plan", so that a later import of the file
    knows that the operator had chosen them. Registrations are never changed, because positions of two registrations
    cannot be compared.
    Raises InputError for a route that is empty, repeats a hole or has a p_good outside 0..1, and for a path that
    exists or cannot be written, a hole that the file does not have (with the nearest), and a source with a header that
    cannot be read or, in the XML form, with any deviation.
    """
    _check_whole(source)
    route = _by_items(source, route)
    chosen = _chosen(source, route)
    sections = list(source.document.sections)
    unmarked, unnoted = _unmark(source, sections, {item.place for item in chosen})
    groups = _group_of_patch(source, route, chosen)
    replaced = sum(item.section.get(USER_VALUE) is not None for item in chosen)
    for hole, item in zip(route, chosen, strict=True):
        section = sections[item.place].with_value("Acquire", "1")
        section = section.with_value("GroupID", str(groups[hole.patch_id]))
        if section.get(LEFT_OUT_KEY) == LEFT_OUT:
            section = section.without(LEFT_OUT_KEY)
        sections[item.place] = section.with_value(USER_VALUE, f"{hole.p_good:.4f}")
    document = _in_order_of_visit(source, sections, chosen)
    _write_new_file(path, document.to_bytes())
    return _notes(source, path, chosen, unmarked, unnoted, replaced)


def merged_nav(source: NavFile, route: Sequence[PlannedHole], revision: int) -> bytes:
    """A navigator of copies of the holes of a route alone, to be merged into the table that is open.

    A merge passes over items whose MapID is there, adds the others at the end of the table, and Acquire at Items, which
    takes them in its order, goes on to the new end (`CNavigatorDlg::LoadNavFile` of SerialEM). So each hole is there
    again with a new MapID, the label LABEL@plan, a group for each patch and the note "cryoscout REVISION ORDER"; the
    operator's own items are not touched. A reader takes images of LABEL@plan as those of LABEL.
    Raises InputError as `write_nav`.
    """
    _check_whole(source)
    route = _by_items(source, route)
    chosen = _chosen(source, route)
    items = source.document.of_kind(ITEM)
    taken = {section.get(key) for section in items for key in ("MapID", "GroupID", "DrawnID")}
    # Of each revision other ids: what an earlier plan added is in the table.
    made = FIRST_MADE_ID + revision * IDS_OF_REVISION
    groups: dict[str, int] = {}
    sections: list[Section] = []
    line_end = source.document.line_end
    for order, (hole, item) in enumerate(zip(route, chosen, strict=True), start=1):
        for of_group in (True, False):
            if of_group and hole.patch_id in groups:
                continue
            made += 1
            while str(made) in taken:
                made += 1
            if of_group:
                groups[hole.patch_id] = made
        section = source.document.sections[item.place].named(f"{item.label}{PLAN_MARK}")
        for key, value in (
            ("MapID", str(made)),
            ("GroupID", str(groups[hole.patch_id])),
            ("Acquire", "1"),
            ("Note", f"{NOTE_OF_PLAN} {revision} {order}"),
            (USER_VALUE, f"{hole.p_good:.4f}"),
        ):
            section = section.with_value(key, value)
        sections.append(section.separated(line_end))
    first = source.document.sections[0].separated(line_end)
    return replace(source.document, sections=(first, *sections)).to_bytes()


def nav_before(source: NavFile, labels: Collection[str]) -> bytes:
    """The navigator as it was before these items were acquired: SerialEM takes the mark Acquire off when it has.

    labels : NavigatorLabel of the images     Raises InputError as `write_nav` for a file that cannot be written again.
    """
    _check_whole(source)
    acquired = {item.place for item in source.holes if label_of_item(item.label) in labels}
    sections = [
        section.with_value("Acquire", "1") if place in acquired else section
        for place, section in enumerate(source.document.sections)
    ]
    return replace(source.document, sections=tuple(sections)).to_bytes()


@dataclass(frozen=True)
class PlannedSquare:
    """One square to open, as the writer needs it."""

    square_id: str  # NavItem.id
    value: float  # expected good micrographs per minute


def write_nav_of_squares(source: NavFile, squares: Sequence[PlannedSquare], path: Path) -> tuple[str, ...]:
    """Write a navigator file that acquires the squares in their order; returns notes for the operator.

    source, path : as of `write_nav`     squares : in order, each once, not empty; polygons and points on a grid map
    Acquire and UserValue1 (good micrographs per minute) of the chosen items are set; of all others Acquire is taken
    off.
    Everything else stays. Raises InputError as `write_nav`.
    """
    _check_whole(source)
    if not squares:
        raise InputError(
            "Squares to open must be at least one. Got none instead. Remedy: plan with more minutes."
        )
    items = {item.id: item for item in source.items}
    chosen: dict[str, NavItem] = {}
    for square in squares:
        item = items.get(square.square_id)
        if item is None:
            raise InputError(
                f"The squares of a plan must be items of {source.path.name}. Got {square.square_id!r} instead. "
                f"{_REMEDY}"
            )
        if square.square_id in chosen:
            raise InputError(f"A square must be opened once. Got {square.square_id!r} again instead.")
        chosen[square.square_id] = item
    sections = list(source.document.sections)
    visits = [item.place for item in chosen.values()]
    unmarked, unnoted = _unmark(source, sections, set(visits))
    replaced = sum(item.section.get(USER_VALUE) is not None for item in chosen.values())
    for square, place in zip(squares, visits, strict=True):
        section = sections[place].with_value("Acquire", "1")
        sections[place] = section.with_value(USER_VALUE, f"{square.value:.4f}")
    line_end = source.document.line_end
    # Maps stay above what is drawn on them.
    maps = {item.place for item in source.maps}
    above = {0, *maps, *visits}
    others = [place for place in range(len(sections)) if place not in above]
    order = [0, *sorted(maps - set(visits)), *visits, *others]
    ordered = [sections[place] for place in order]
    separated = [section.separated(line_end) for section in ordered[:-1]]
    document = replace(source.document, sections=(*separated, ordered[-1]))
    _write_new_file(path, document.to_bytes())
    return (
        f"{counted(len(chosen), 'squares', 'are')} marked for Acquire at Items, in order: choose the settings of "
        "square maps there, not those of holes.",
        *_notes(source, path, list(chosen.values()), unmarked, unnoted, replaced),
    )


def _check_whole(source: NavFile) -> None:
    """Nothing of the operator's may get lost, and no lines may come under another item's header.

    Lines below a header that cannot be read would overwrite the position of the item that they are put under; what
    deviates in an XML file is not in the document, and could not be written.
    """
    if source.document.from_xml and source.deviations:
        raise InputError(
            f"The XML navigator {source.path.name} must be read without deviations before it is written. "
            f"Got {len(source.deviations)} instead (first: {source.deviations[0].message}). "
            "Remedy: save it in SerialEM again."
        )
    for section in source.document.of_kind(UNREADABLE):
        raise InputError(
            f"The headers of {source.path.name} must be readable before its items are put in order. "
            f"Got {section.raw[0].strip()[:60]!r} on line {section.line} instead. Remedy: save it in SerialEM again."
        )


def _by_items(source: NavFile, route: Sequence[PlannedHole]) -> Sequence[PlannedHole]:
    """The route by items where it has holes of patterns; what is wrong with any other is said below."""
    holes = {item.id for item in source.holes}
    return items_of(route, holes) if any(hole.hole_id not in holes for hole in route) else route


def _chosen(source: NavFile, route: Sequence[PlannedHole]) -> list[NavItem]:
    """The items of the route."""
    if not route:
        raise InputError(
            "A route must have at least one hole. Got none instead. Remedy: plan with more minutes."
        )
    holes = {item.id: item for item in source.holes}
    seen: set[str] = set()
    for hole in route:
        if hole.hole_id not in holes:
            raise InputError(_unknown_hole(source, hole.hole_id, holes))
        if hole.hole_id in seen:
            raise InputError(f"A route must visit a hole once. Got {hole.hole_id!r} again instead.")
        if not 0.0 <= hole.p_good <= 1.0:
            raise InputError(
                f"p_good must be between 0 and 1. Got {hole.p_good!r} for {hole.hole_id!r} instead."
            )
        seen.add(hole.hole_id)
    return [holes[hole.hole_id] for hole in route]


def _unknown_hole(source: NavFile, hole_id: str, holes: dict[str, NavItem]) -> str:
    same_label = [item.id for item in holes.values() if item.label == hole_id]
    near = same_label or difflib.get_close_matches(hole_id, holes, n=1, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near[:3])}?" if near else ""
    return f"A route must name holes of {source.path.name}. Got {hole_id!r} instead.{hint} {_REMEDY}"


def _unmark(source: NavFile, sections: list[Section], chosen_places: set[int]) -> tuple[int, int]:
    """Take the mark off every item that is not chosen, items that could not be read among them; how many had one.

    A hole is noted to have been chosen; the second number counts those where the note has no place.
    """
    unmarked = unnoted = 0
    holes = {item.place for item in source.holes}
    for place, section in enumerate(sections):
        if (
            place
            and section.kind == ITEM
            and place not in chosen_places
            and section.get("Acquire") is not None
        ):
            was_marked = (section.get("Acquire") or "").strip() not in ("", "0")
            unmarked += was_marked
            section = section.without("Acquire")
            if was_marked and place in holes:
                if section.get(LEFT_OUT_KEY) in (None, LEFT_OUT):
                    section = section.with_value(LEFT_OUT_KEY, LEFT_OUT)
                else:
                    unnoted += 1
            sections[place] = section
    return unmarked, unnoted


def _group_of_patch(
    source: NavFile, route: Sequence[PlannedHole], chosen: Sequence[NavItem]
) -> dict[str, int]:
    """GroupID of each patch: the one its holes share already, where no other patch has it; else a new one."""
    had: dict[str, set[int]] = {}
    for hole, item in zip(route, chosen, strict=True):
        had.setdefault(hole.patch_id, set()).add(item.group_id)
    patches_of: dict[int, int] = {}
    for group_ids in had.values():
        for group_id in group_ids:
            patches_of[group_id] = patches_of.get(group_id, 0) + 1
    items = source.document.of_kind(ITEM)
    taken = {section.get(key) for section in items for key in ("MapID", "GroupID", "DrawnID")}
    groups: dict[str, int] = {}
    made = FIRST_MADE_ID - 1
    for patch_id, group_ids in had.items():
        group_id = next(iter(group_ids))
        if len(group_ids) > 1 or group_id == 0 or patches_of[group_id] > 1:
            made += 1
            while str(made) in taken:
                made += 1
            group_id = made
        groups[patch_id] = group_id
    return groups


def _in_order_of_visit(source: NavFile, sections: list[Section], chosen: Sequence[NavItem]) -> Autodoc:
    """Globals, items that are no holes, chosen holes, other holes, other sections; all but the chosen in file order."""
    visits = [item.place for item in chosen]
    holes = {item.place for item in source.holes}
    places = range(1, len(sections))
    order = [
        *(place for place in places if sections[place].kind == ITEM and place not in holes),
        *visits,
        *sorted(holes - set(visits)),
        *(place for place in places if sections[place].kind != ITEM),
    ]
    line_end = source.document.line_end
    ordered = [sections[0], *(sections[place] for place in order)]
    separated = [section.separated(line_end) for section in ordered[:-1]]
    return replace(source.document, sections=(*separated, ordered[-1]))


def _write_new_file(path: Path, data: bytes) -> None:
    try:
        if path.exists():
            raise InputError(
                f"The navigator must be written to a new file. Got {path}, which exists, instead. "
                "Remedy: name another file; the operator's own is never overwritten."
            )
        write_whole(path, data)
    except (OSError, ValueError) as error:
        raise InputError(f"The navigator must be written to a file. Got {path} ({error}) instead.") from None


def _notes(
    source: NavFile, path: Path, chosen: Sequence[NavItem], unmarked: int, unnoted: int, replaced: int
) -> tuple[str, ...]:
    notes = [
        f"Load {path.name} in SerialEM with Navigator > Read & Open. Do not merge it: a merge skips items that are "
        "in the table already, so marks and order would not change.",
    ]
    registration = max(item.regis for item in source.items)
    elsewhere = sum(item.regis != registration for item in chosen)
    if elsewhere:
        notes.append(
            f"{elsewhere} chosen holes are not at registration {registration}, the highest of the file, which SerialEM "
            "takes on loading: set the current registration to theirs, or they are not acquired."
        )
    if unmarked:
        notes.append(
            f"{counted(unmarked, 'items', 'were')} marked for acquisition and not in the route: the marks are taken "
            f"off, and {LEFT_OUT_KEY} keeps that they were chosen."
        )
    if unnoted:
        notes.append(
            f"{LEFT_OUT_KEY} of {unnoted} of them holds another value, which stays: an import of {path.name} takes "
            "them as not chosen."
        )
    if replaced:
        notes.append(f"{USER_VALUE} of {replaced} chosen holes held another value and now holds p_good.")
    if source.document.from_xml:
        notes.append("The navigator was XML and is written in the autodoc form.")
    if source.deviations:
        notes.append(
            f"{counted(len(source.deviations), 'places')} of the navigator could not be read, written as found."
        )
    return tuple(notes)
