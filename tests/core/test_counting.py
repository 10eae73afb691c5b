"""Counts as people say them."""

from __future__ import annotations

import pytest

from cryoscout.core.counting import agreed, counted


@pytest.mark.parametrize(
    ("count", "several", "said"),
    [
        (0, "holes", "0 holes"),
        (1, "holes", "1 hole"),
        (2341, "holes", "2,341 holes"),
        (1, "patches", "1 patch"),
        (1, "exposures", "1 exposure"),
        (2, "patches", "2 patches"),
    ],
)
def test_one_is_not_said_as_several(count, several, said):
    assert counted(count, several) == said


@pytest.mark.parametrize(
    ("count", "several", "verb", "said"),
    [
        (1, "holes", "have", "1 hole has"),
        (2, "holes", "have", "2 holes have"),
        (1, "patches", "were", "1 patch was"),
        (1, "squares", "are", "1 square is"),
        (1, "labels", "stand", "1 label stands"),
        (0, "rows", "give", "0 rows give"),
    ],
)
def test_a_verb_follows_its_count(count: int, several: str, verb: str, said: str) -> None:
    assert counted(count, several, verb) == said


def test_a_verb_stands_by_itself_too() -> None:
    assert [agreed(count, "were") for count in (0, 1, 2)] == ["were", "was", "were"]
    assert agreed(1, "put") == "puts"
