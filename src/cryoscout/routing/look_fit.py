"""What of a session's times is looking and what is moving, from the times of its looks.

A step to another patch or square holds the images of patches and squares that were taken on the way. A look takes what
lies between two looks of its level that follow each other with nothing between. Where those are few, as in the usual
order of a square's look, a patch's look and exposures, it takes what lies between it and the next look of another
level, or the exposure after it. A tier is fitted on the time of a step less all looks in it.
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
    look_events: NDArray[np.int64]  # (3,) steps that the look is measured by, pauses left out
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
    looks = np.bincount(look_level, minlength=len(LOOK_LEVELS)).astype(np.int64)
    fits = _looks_of_levels(started_s[np.isfinite(started_s)], looked_s, look_level)
    measured_s = np.array([seconds for seconds, _, _ in fits])
    events = np.array([count for _, count, _ in fits], dtype=np.int64)
    order = np.argsort(looked_s, kind="stable")
    # A look that no step measures has no step below LONGEST_PAUSE_S around it: its step is a gap, in no tier.
    moments, seconds = looked_s[order], np.nan_to_num(measured_s)[look_level[order]]
    less_s = _less_looks(started_s, moments, seconds)
    tiers = fit_time_model(less_s, patch, square, grid, hole, grids_are_sessions=grids_are_sessions)
    look_s = _filled(measured_s, float(tiers.seconds[0]))
    warnings = _warnings(look_s, events, looks, [until for _, _, until in fits])
    minutes = look_s / SECONDS_PER_MINUTE
    model = tiers.time_model.model_copy(
        update={"patch_look_min": float(minutes[0]), "square_look_min": float(minutes[1])}
    )
    return PartedTimes(
        model,
        tiers,
        look_s,
        events,
        looks,
        _with_looks(started_s, patch, square, grid, moments),
        tuple(warnings),
    )


_UNTIL = ("the next of its level", "the next look of another level", "the exposure after it")
"""What the steps end with that measure a look, the first of them that has FEW_EVENTS steps."""


def _looks_of_levels(
    exposed_s: NDArray[np.float64], looked_s: NDArray[np.float64], look_level: NDArray[np.int64]
) -> list[tuple[float, int, int]]:
    """By level: seconds of a look (NaN unmeasured), the steps behind it, and what they end with, an index of _UNTIL."""
    moments = np.concatenate([exposed_s, looked_s])
    kind = np.concatenate([np.full(len(exposed_s), -1, dtype=np.int64), look_level])
    order = np.argsort(moments, kind="stable")
    steps_s, kind = np.diff(moments[order]), kind[order]
    of, end = kind[:-1], kind[1:]
    found = []
    for level in range(len(LOOK_LEVELS)):
        fits = []
        for until, ends in enumerate((end == level, (end != level) & (end >= 0), end < 0)):
            seconds, seen, apart = typical_step(steps_s[(of == level) & ends], LONGEST_PAUSE_S)
            fits.append((seconds, seen - apart, until))
        enough = [fit for fit in fits if fit[1] >= FEW_EVENTS]
        found.append(enough[0] if enough else max(fits, key=lambda fit: fit[1]))
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


def _filled(measured_s: NDArray[np.float64], same_patch_s: float) -> NDArray[np.float64]:
    """Seconds of a look by level, (3,); of patches and squares without gaps."""
    preset = PRESETS[FILLED_BY]
    like = np.array([preset.patch_look_min or 0.0, preset.square_look_min or 0.0])
    look_s = measured_s.copy()
    look_s[:2] = np.where(np.isfinite(look_s[:2]), look_s[:2], same_patch_s * like / preset.same_patch_min)
    return look_s


def _warnings(
    look_s: NDArray[np.float64], events: NDArray[np.int64], looks: NDArray[np.int64], until: list[int]
) -> list[str]:
    """Of looks at patches and squares: which are filled, and which rest on little or on other steps."""
    said = []
    for level, name in enumerate(LOOK_LEVELS[:2]):
        if not events[level]:
            why = "has a time" if not looks[level] else "has a step after it that is no pause"
            kept = " If such looks were taken, the tiers hold them." if not looks[level] else ""
            said.append(
                f"No look at a {name} {why}, so its time is filled: {look_s[level]:.0f} s, by the ratios of "
                f"{FILLED_BY}.{kept}"
            )
            continue
        if until[level]:
            said.append(
                f"Few looks at a {name} follow each other, so a look is the time to {_UNTIL[until[level]]}: "
                f"{look_s[level]:.0f} s."
            )
        if events[level] < FEW_EVENTS:
            said.append(
                f"A look at a {name}, {look_s[level]:.0f} s, rests on {events[level]} timed steps, fewer than "
                f"{FEW_EVENTS}."
            )
    return said
