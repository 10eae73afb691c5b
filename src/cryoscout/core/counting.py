"""Counts as people say them."""

from __future__ import annotations

_OF_ONE = {"are": "is", "have": "has", "were": "was"}


def counted(count: int, several: str, verb: str = "") -> str:
    """`1 hole`, `2,341 holes`, `1 patch`; with a verb `1 hole has`, `2 holes have`.

    several : the word for more than one, with the ending -s, or -es after ch     verb : as it follows that word
    """
    one = several.removesuffix("es") if several.endswith("ches") else several.removesuffix("s")
    if verb:
        one, several = f"{one} {_OF_ONE.get(verb, verb + 's')}", f"{several} {verb}"
    return f"{count:,} {one if count == 1 else several}"
