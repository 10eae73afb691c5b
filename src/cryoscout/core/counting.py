"""Counts as people say them."""

from __future__ import annotations

_OF_ONE = {"are": "is", "have": "has", "were": "was"}


def counted(count: int, several: str, verb: str = "") -> str:
    """`1 hole`, `2,341 holes`, `1 patch`; with a verb `1 hole has`, `2 holes have`.

    several : the word for more than one, with the ending -s, or -es after ch     verb : as it follows that word
    """
    one = several.removesuffix("es") if several.endswith("ches") else several.removesuffix("s")
    what = one if count == 1 else several
    return f"{count:,} {what} {agreed(count, verb)}" if verb else f"{count:,} {what}"


def agreed(count: int, verb: str) -> str:
    """The verb of that many: `is` of 1 and `are`, `puts` of 1 and `put`. verb : as of several."""
    return _OF_ONE.get(verb, f"{verb}s") if count == 1 else verb
