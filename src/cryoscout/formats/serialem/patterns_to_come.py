"""Holes of MultiShot patterns that were not imaged yet, as holes of their own at the place of their item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cryoscout.core.counting import agreed, counted
from cryoscout.formats.serialem.exposures import PlacedExposure
from cryoscout.formats.serialem.patterns import is_as_told
from cryoscout.formats.serialem.places import Hole


def holes_to_come(
    holes: Sequence[Hole], exposures: Iterable[PlacedExposure]
) -> tuple[dict[str, list[str]], list[str]]:
    """(Item -> ids of the further holes of its pattern, notes); imaged ones may be among them.

    holes, exposures : of one navigator
    An item that was imaged otherwise than its pattern says has none, and no item has where all that were imaged were
    imaged without MultiShot: then Acquire at Items takes single images.
    """
    with_pattern = {hole.item.id: hole.item.pattern for hole in holes if len(hole.item.pattern or ()) > 1}
    imaged: dict[str, set[str]] = {}
    for each in exposures:
        if each.item is not None and each.item.item.id in with_pattern:
            shot = each.exposure.section.multishot
            imaged.setdefault(each.item.item.id, set()).add("" if shot is None else shot.hole)
    notes = []
    empty = sum(hole.item.pattern == () for hole in holes)
    if empty:
        notes.append(f"{counted(empty, 'items', 'skip')} all holes of the pattern: SerialEM passes them over")
    if imaged and not any(any(names) for names in imaged.values()):
        notes.append(
            f"{len(with_pattern)} items are patterns of several holes (HoleArray) and {len(imaged)} of them were "
            "imaged without MultiShot: each is one hole"
        )
        return {}, notes
    otherwise = [item for item, names in imaged.items() if not is_as_told(names, with_pattern[item] or ())]
    found = {
        item: [f"{item}@{name}" for name in (pattern or ())[1:]]
        for item, pattern in with_pattern.items()
        if item not in otherwise
    }
    if otherwise:
        notes.append(
            f"{counted(len(otherwise), 'items', 'were')} imaged otherwise than the pattern says (HoleArray, "
            f"SkipHoles; first: {otherwise[0]}): the hole imaged first has the item's name"
        )
    return found, [*notes, *_note_on_whole(found, imaged)]


def _note_on_whole(found: Mapping[str, Sequence[str]], imaged: Mapping[str, object]) -> list[str]:
    left = {item: further for item, further in found.items() if item not in imaged}
    if not left:
        return []
    count = sum(map(len, left.values())) + len(left)
    return [
        f"{counted(len(left), 'items')} to come {agreed(len(left), 'are')} of several holes (HoleArray), {count} in "
        "all: one of them has the item's name, the others are ITEM@HOLE, and a plan takes a pattern as a whole"
    ]
