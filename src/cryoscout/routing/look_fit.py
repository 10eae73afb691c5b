"""What of a session's times is looking and what is moving, from the times of its looks.

A step to another patch or square holds the images of patches and squares that were taken on the way. A look takes what
lies between two looks of its level that follow each other with nothing between; a tier is fitted on the time of a step
less the looks in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import DataError
from cryoscout.core.units import SECONDS_PER_MINUTE
from cryoscout.routing.time_fit import (
    FEW_EVENTS,
    LONGEST_PAUSE_S,
    FittedTimeModel,
    fit_time_model,
    typical_step,
)
from cryoscout.routing.time_model import PRESETS, TimeModel

LookLevel = Literal["patch", "square", "grid"]
LOOK_LEVELS: tuple[LookLevel, ...] = ("patch", "square", "grid")

FILLED_BY = "y1-looks-as-sketched"
"""The preset whose looks, against its visit in the same patch, fill a look that no step measures."""


@dataclass(frozen=True)
class PartedTimes:
    """Movement and looking apart. Looks are in the order of LOOK_LEVELS."""

    time_model: TimeModel  # named "fitted", tiers without looks, looks with their minutes
    tiers: FittedTimeModel  # the fit of the tiers on time less looks
    look_s: NDArray[np.float64]  # (3,) seconds of a look as in the time model; of a grid NaN where unmeasured
    look_events: NDArray[np.int64]  # (3,) steps from one look to the next of its level, pauses left out
    looks: NDArray[np.int64]  # (3,) looks with a time
    with_looks: NDArray[np.int64]  # (4,) steps by tier that hold a look
    warnings: tuple[str, ...]  # which looks are filled, and those that rest on little


def fit_parted_times(
    started_s: NDArray[np.float64],
    patch: NDArray[Any],
    square: NDArray[Any],
    grid: NDArray[Any],
    hole: NDArray[Any],
    looked_s: NDArray[np.float64],
    look_level: NDArray[np.int64],
    *,
    grids_are_sessions: bool = False,
) -> PartedTimes:
    """Fit tiers and looks apart.

    started_s, patch, square, grid, hole, grids_are_sessions : of exposures, as `fit_time_model` takes them
    looked_s : (l,) when each look was, seconds from the same origin     look_level : (l,) index into LOOK_LEVELS
    Raises DataError where no look has a time, and as `fit_time_model`.
    """
    known = np.isfinite(looked_s)
    looked_s, look_level = looked_s[known], look_level[known]
    if not len(looked_s):
        raise DataError("Looks must have a time to be told from moves. Got none instead.")
    fits = _looks_of_levels(started_s[np.isfinite(started_s)], looked_s, look_level)
    measured_s = np.array([seconds for seconds, _ in fits])
    events = np.array([count for _, count in fits], dtype=np.int64)
    order = np.argsort(looked_s, kind="stable")
    moments, seconds = looked_s[order], np.nan_to_num(measured_s)[look_level[order]]
    less_s = _less_looks(started_s, moments, seconds)
    tiers = fit_time_model(less_s, patch, square, grid, hole, grids_are_sessions=grids_are_sessions)
    look_s, warnings = _filled(measured_s, events, float(tiers.seconds[0]))
    minutes = look_s / SECONDS_PER_MINUTE
    model = tiers.time_model.model_copy(
        update={"patch_look_min": float(minutes[0]), "square_look_min": float(minutes[1])}
    )
    return PartedTimes(
        model,
        tiers,
        look_s,
        events,
        np.bincount(look_level, minlength=len(LOOK_LEVELS)).astype(np.int64),
        _with_looks(started_s, patch, square, grid, moments),
        tuple(warnings),
    )


def _looks_of_levels(
    exposed_s: NDArray[np.float64], looked_s: NDArray[np.float64], look_level: NDArray[np.int64]
) -> list[tuple[float, int]]:
    """Seconds of a look (NaN unmeasured) and the steps behind it, by level."""
    moments = np.concatenate([exposed_s, looked_s])
    kind = np.concatenate([np.full(len(exposed_s), -1, dtype=np.int64), look_level])
    order = np.argsort(moments, kind="stable")
    steps_s, kind = np.diff(moments[order]), kind[order]
    found = []
    for level in range(len(LOOK_LEVELS)):
        of_level = steps_s[(kind[:-1] == level) & (kind[1:] == level)]
        seconds, seen, apart = typical_step(of_level, LONGEST_PAUSE_S)
        found.append((seconds, seen - apart))
    return found


def _less_looks(
    started_s: NDArray[np.float64], moments_s: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Times of exposures on a clock that stands still during looks; no step gets below 0."""
    total = np.concatenate([[0.0], np.cumsum(seconds)])
    timed = np.flatnonzero(np.isfinite(started_s))
    order = timed[np.argsort(started_s[timed], kind="stable")]
    at = started_s[order]
    before = total[np.searchsorted(moments_s, at, side="left")]
    steps = np.maximum(np.diff(at) - np.diff(before), 0.0)
    clock = np.full(len(started_s), np.nan)
    clock[order] = np.concatenate([[0.0], np.cumsum(steps)]) if len(order) else []
    return clock


def _with_looks(
    started_s: NDArray[np.float64],
    patch: NDArray[Any],
    square: NDArray[Any],
    grid: NDArray[Any],
    moments_s: NDArray[np.float64],
) -> NDArray[np.int64]:
    timed = np.flatnonzero(np.isfinite(started_s))
    order = timed[np.argsort(started_s[timed], kind="stable")]
    at = np.searchsorted(moments_s, started_s[order], side="left")
    holds = np.diff(at) > 0
    changed = [
        np.asarray(level)[order][1:] != np.asarray(level)[order][:-1] for level in (grid, square, patch)
    ]
    tier = np.select(changed, [3, 2, 1], default=0)
    return np.bincount(tier[holds], minlength=4).astype(np.int64)


def _filled(
    measured_s: NDArray[np.float64], events: NDArray[np.int64], same_patch_s: float
) -> tuple[NDArray[np.float64], list[str]]:
    preset = PRESETS[FILLED_BY]
    like = (preset.patch_look_min or 0.0, preset.square_look_min or 0.0)
    look_s, warnings = measured_s.copy(), []
    for level, minutes in enumerate(like):
        name = LOOK_LEVELS[level]
        if not np.isfinite(look_s[level]):
            look_s[level] = same_patch_s * minutes / preset.same_patch_min
            warnings.append(
                f"No look at a {name} follows another, so its time is filled: {look_s[level]:.0f} s, by the ratios of "
                f"{FILLED_BY}."
            )
        elif events[level] < FEW_EVENTS:
            warnings.append(
                f"A look at a {name}, {look_s[level]:.0f} s, rests on {events[level]} timed steps, fewer than "
                f"{FEW_EVENTS}."
            )
    return look_s, warnings
