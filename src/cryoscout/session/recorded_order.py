"""The order in which a session's holes were imaged: by its own times, else by names that count up, else not known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

OrderBasis = Literal["times", "names"]

LARGEST_UNTIMED_SHARE = 0.1
"""Of the holes with a result no larger share than this may lack a time: what lacks one can only come last."""

NUMBERED_IN_ORDER: tuple[str, ...] = ("leginon",)
"""Formats whose names count up in the order images are taken. In Y1 names and times give the same order within every
patch, and of the steps from a patch to the next one 95 % go the same way."""


@dataclass(frozen=True)
class RecordedOrder:
    """The holes with a result, in the order they were imaged."""

    holes: NDArray[np.int64]  # (k,) indices, k >= 1; those without a time last, in the tables' order
    basis: OrderBasis
    started_min: NDArray[np.float64]
    """(n,) minutes from the first of these holes to the start of the first exposure of each; NaN where not known, and
    everywhere where the order rests on names."""

    @property
    def untimed(self) -> int:
        """How many of the holes have no time."""
        return int(np.isnan(self.started_min[self.holes]).sum())


def recorded_order_of(
    exposures: pd.DataFrame, hole_of_exposure: NDArray[np.int64], n_holes: int, numbered_in_order: bool
) -> RecordedOrder | None:
    """The recorded order of a session's exposures; None where it is not known or no hole has a result.

    exposures : the table of a session     hole_of_exposure : (m,) index of the hole of each
    numbered_in_order : whether ids count up in the order images were taken; used where times are missing
    """
    has_result = exposures["outcome"].isin(("measured", "failed")).to_numpy()
    measured = np.zeros(n_holes, dtype=bool)
    measured[hole_of_exposure[has_result]] = True
    holes = np.flatnonzero(measured)
    if len(holes) == 0:
        return None
    started_min = _first_start_min(exposures, hole_of_exposure, measured)
    if np.isnan(started_min[holes]).sum() <= LARGEST_UNTIMED_SHARE * len(holes):
        # NaN sorts last, and a stable sort leaves equal ones in the tables' order.
        return RecordedOrder(holes[np.argsort(started_min[holes], kind="stable")], "times", started_min)
    if not numbered_in_order:
        return None
    ids = exposures["exposure_id"].tolist()
    rows = sorted(np.flatnonzero(has_result).tolist(), key=lambda row: _counting_key(ids[row]))
    in_order = list(dict.fromkeys(hole_of_exposure[rows].tolist()))
    return RecordedOrder(np.array(in_order, dtype=np.int64), "names", np.full(n_holes, np.nan))


def _first_start_min(
    exposures: pd.DataFrame, hole_of_exposure: NDArray[np.int64], measured: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(n,) minutes from the earliest measured hole to the first exposure taken of each; NaN unknown or not measured."""
    started_at = exposures["started_at"].to_numpy(dtype="datetime64[ns]")
    timed = (exposures["outcome"] != "none").to_numpy() & ~np.isnat(started_at)
    timed &= measured[hole_of_exposure]
    never = np.iinfo(np.int64).max
    first_ns = np.full(len(measured), never)
    np.minimum.at(first_ns, hole_of_exposure[timed], started_at[timed].astype(np.int64))
    since_first = (first_ns - first_ns.min()).astype("timedelta64[ns]") / np.timedelta64(1, "m")
    return np.where(first_ns == never, np.nan, since_first)


def _counting_key(name: str) -> list[str | int]:
    """A name's texts and numbers in turn, so that 10 follows 9."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", name))]
