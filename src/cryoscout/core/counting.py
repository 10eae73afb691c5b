"""Counts as people say them."""

from __future__ import annotations


def counted(count: int, several: str) -> str:
    """`1 hole`, `2,341 holes`, `1 patch`.

    several : the word for more than one, with the ending -s, or -es after ch
    """
    one = several.removesuffix("es") if several.endswith("ches") else several.removesuffix("s")
    return f"{count:,} {one if count == 1 else several}"
