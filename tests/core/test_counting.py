"""Counts as people say them."""

from __future__ import annotations

import pytest

from cryoscout.core.counting import counted


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
