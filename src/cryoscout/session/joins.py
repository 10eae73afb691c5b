"""Joining tables by name, with an account of what joined and what did not: nothing is dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import counted
from cryoscout.core.errors import DataError

NAMES_SHOWN = 5

_SUFFIX = re.compile(r"(?<=\d{5})(?P<preset>[A-Za-z][A-Za-z0-9]*)(?:-[A-Za-z]+)+(?=(?:_v\d\d)?$)")
_EXTENSION = re.compile(r"\.(?:mrc|mrcs|tif|tiff|png|jpg|jpeg)$", re.IGNORECASE)


@dataclass(frozen=True)
class JoinReport:
    """What became of the rows of one source."""

    what: str
    """What was joined to what, for people: 'times of timestamps.csv'."""
    found: int
    joined: int
    first_not_joined: tuple[str, ...]
    why: str
    """Why the others did not join; empty where all did."""
    without: int = 0
    """Targets that received nothing."""
    target: str = "holes"
    """What the targets are, for people."""

    @property
    def not_joined(self) -> int:
        """Rows that found no target."""
        return self.found - self.joined

    def __str__(self) -> str:
        text = f"{self.what}: {self.joined} of {self.found} joined"
        if self.not_joined:
            text += f"; {self.not_joined} not ({self.why}; first: {', '.join(self.first_not_joined)})"
        if self.without:
            text += f"; {counted(self.without, self.target)} received none"
        return text


def join_by_name(
    names: Sequence[str], targets: Sequence[str], what: str, why: str
) -> tuple[NDArray[np.int64], JoinReport]:
    """Place of each name among the targets, (len(names),) int64, -1 where it has none, and the report.

    names, targets : as compared, normalised by the caller     what, why : for the report
    Raises DataError when a target stands twice, because then a name would have two places.
    """
    index = pd.Index(targets)
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise DataError(f"Names to join to must be unique. Got {twice!r} more than once instead ({what}).")
    place: NDArray[np.int64] = index.get_indexer(pd.Index(names)).astype(np.int64)
    left_out = np.flatnonzero(place < 0)
    return place, JoinReport(
        what=what,
        found=len(names),
        joined=len(names) - len(left_out),
        first_not_joined=tuple(str(names[row]) for row in left_out[:NAMES_SHOWN]),
        why=why if len(left_out) else "",
        without=len(index) - len(np.unique(place[place >= 0])),
    )


def leginon_stem(name: str) -> str:
    """The name of the raw Leginon image behind a file or a derived image.

    Takes off the extension, `_crop`, and the suffixes `-a` (aligned), `-DW` (dose-weighted), `-a-DW`; the
    version `_vNN` stays.
    """
    return _SUFFIX.sub(r"\g<preset>", _EXTENSION.sub("", name).removesuffix("_crop"))
