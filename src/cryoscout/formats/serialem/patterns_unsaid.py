"""Patterns that stand in the settings of MultiShot alone: seen in images, and in no item of the navigator."""

from __future__ import annotations

from cryoscout.core.counting import agreed, counted
from cryoscout.formats.serialem.patterns import item_of_hole
from cryoscout.session.model import Session
from cryoscout.session.vendor_fields import unpacked

FORMAT = "serialem"


def notes_on_patterns_unsaid(session: Session) -> list[str]:
    """That items to come are planned as one hole each where imaged ones were patterns that no file tells beforehand."""
    imaged = set(session.exposures["hole_id"])
    if session.info.format != FORMAT or not any("@" in hole for hole in imaged):
        return []
    ids = dict.fromkeys(session.holes["hole_id"])
    holes_of: dict[str, list[str]] = {}
    for hole_id in ids:
        holes_of.setdefault(item_of_hole(hole_id, ids), []).append(hole_id)
    seen = {item: n for item, holes in holes_of.items() if (n := sum(hole in imaged for hole in holes)) > 1}
    not_chosen = set(session.holes.loc[session.holes["chosen"].eq(False).fillna(False), "hole_id"])
    single = [
        item
        for item, holes in holes_of.items()
        if len(holes) == 1 and item not in imaged and item not in not_chosen
    ]
    if not seen or not single:
        return []
    fields = unpacked(session.vendor_fields, [*seen, *single])
    told = {item for (reader, item), said in fields.items() if reader == FORMAT and said.get("HoleArray")}
    seen = {item: n for item, n in seen.items() if item not in told}
    to_come = [item for item in single if item not in told]
    if not seen or not to_come:
        return []
    return [
        f"{counted(len(seen), 'items', 'were')} imaged as patterns of up to {max(seen.values())} holes (MultiShot) "
        f"that no item of the navigator tells (HoleArray): {counted(len(to_come), 'items')} to come "
        f"{agreed(len(to_come), 'are')} planned as one hole each, and Acquire at Items takes more minutes and holes "
        "than the plan says. Remedy: give the items their pattern in SerialEM, so that it is saved with them, and "
        "import the navigator with --update"
    ]
