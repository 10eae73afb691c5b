"""The time model of one session, fitted to its own timestamps, because no preset knows this microscope."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from cryoscout.core.errors import DataError, InputError
from cryoscout.core.units import SECONDS_PER_MINUTE, TIER_NAMES
from cryoscout.routing.time_model import PRESETS, TimeModel

PAUSE_FACTOR = 3.0
"""A step longer than this many times its tier's typical step is a pause (a refill, a night, a break).
Wide on purpose: jitter of one tier is a few percent, and most focusing stays part of its tier."""

LONGEST_PAUSE_S = 3 * 3600.0
"""A longer step is a night or the time between two sessions: no pause that comes again, so it is in no rate."""

LEAST_VISITS_S = 4 * 3600.0
"""Pauses of a session with less time in visits are taken as of so much: one refill in an hour is no rate."""

FEW_EVENTS = 10
"""A tier measured from fewer steps than this, pauses set apart, gets a warning; the others are well measured."""

FILLED_BY = "cryorl"
"""The preset whose ratios between tiers fill a tier that no step measures."""

_NAME_A_PRESET = "Remedy: name a preset, for example --time-model cryorl."


@dataclass(frozen=True)
class FittedTimeModel:
    """A fitted time model and what it rests on. Tiers are in the order of TIER_NAMES."""

    time_model: TimeModel  # named "fitted", minutes
    seconds: NDArray[np.float64]  # (4,) seconds by tier as in the time model, non-decreasing
    events: NDArray[np.int64]  # (4,) steps seen by tier, pauses included
    pauses: NDArray[np.int64]  # (4,) steps among them set apart as pauses
    extra_shot_events: int  # steps inside a hole, pauses included
    untimed: int  # exposures left out because their time is not known
    warnings: tuple[str, ...]  # which tiers are measured and which filled, and those that rest on little
    pauses_min: float = 0.0  # what all steps up to LONGEST_PAUSE_S took beyond their tiers, minutes
    visits_min: float = 0.0  # what the same steps take by their tiers, minutes
    gaps_s: tuple[
        tuple[float, float], ...
    ] = ()  # start and length of each step above LONGEST_PAUSE_S, seconds
    between_sessions: int = 0  # steps between grids that are sessions of their own, in no tier

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which tiers, (4,), rest on steps of the session; the others are filled by the ratios of a preset."""
        return self.events > self.pauses

    @property
    def well_measured(self) -> NDArray[np.bool_]:
        """Which tiers, (4,), rest on FEW_EVENTS steps or more that are no pauses."""
        return self.events - self.pauses >= FEW_EVENTS


def fit_time_model(
    started_s: NDArray[np.float64],
    patch: NDArray[Any],
    square: NDArray[Any],
    grid: NDArray[Any],
    hole: NDArray[Any] | None = None,
    *,
    grids_are_sessions: bool = False,
) -> FittedTimeModel:
    """Fit the four tiers to the times of consecutive exposures.

    started_s : (m,) start of each exposure, seconds from any origin, any order; NaN where not known
    patch, square, grid : (m,) where it was taken, ids of any kind
    hole : (m,) hole of each exposure; None when every hole had one exposure
    grids_are_sessions : each grid was a session of its own, so that a step to another grid is no move of the stage

    Exposures are sorted by time; a step to the next one belongs to the highest level that changes. A step
    inside a hole is no visit: it measures `extra_shot_min`. Per tier, steps longer than PAUSE_FACTOR times
    the lower median are set apart (that median stands while fewer than half of the steps are pauses), and
    the tier is the median of the rest. In a tier of fewer than FEW_EVENTS steps a night would pass for the
    tier: there a step is also a pause when it is longer than PAUSE_FACTOR times what the nearest well
    measured tier and the ratios of FILLED_BY give, or the minutes of FILLED_BY where those are longer.
    Isotonic regression, weighted by the steps that were not set apart, makes the measured tiers
    non-decreasing. A tier without steps, or with pauses alone, is filled: the nearest measured tier (the
    lower of two) times the ratio of the two tiers in the preset FILLED_BY, kept between its neighbours, with
    a warning.
    `per_square_overhead_min` and `setup_min` stay 0: timestamps cannot tell what a square needs from the
    move to it, so it is part of the square and grid tiers. What takes time in a minority of steps
    (refocusing, refills, alignment) is in no tier: it makes `pauses_per_min`, what all steps up to LONGEST_PAUSE_S took
    beyond their tiers for each minute of tiers. Longer steps are in neither, and are listed (`gaps_s`).

    Known answer: the public Leginon session Y1, all 4,017 raw exposures (`en`, also those without a result),
    has plain medians of 91 / 185 / 186 / 194 s over 3,817 / 171 / 6 / 22 steps; this fit gives the same
    within 1 %. The aligned exposures (`en-a`) carry later times and miss the pending ones: not to be used.
    Raises DataError when fewer than two exposures have a time, or the steps between holes are missing or
    take no time; InputError when the arrays differ in length.
    """
    levels = (patch, square, grid) if hole is None else (patch, square, grid, hole)
    begins_s, steps_s, tier, inside_hole, untimed = _steps(np.asarray(started_s, dtype=np.float64), levels)
    between = (tier == 3) & grids_are_sessions
    long = (steps_s > LONGEST_PAUSE_S) & ~between
    gaps_s = tuple(zip(begins_s[long].tolist(), steps_s[long].tolist(), strict=True))
    steps_s, tier, inside_hole = steps_s[~between], tier[~between], inside_hole[~between]
    by_tier = [steps_s[(tier == level) & ~inside_hole] for level in range(4)]
    longest_s = _longest_s([typical_step(of_tier, LONGEST_PAUSE_S) for of_tier in by_tier])
    fits = [typical_step(of_tier, longest) for of_tier, longest in zip(by_tier, longest_s, strict=True)]
    extra_shot_s, extra_shot_events, _ = typical_step(steps_s[inside_hole], LONGEST_PAUSE_S)
    measured_s = np.array([typical for typical, _, _ in fits])
    events = np.array([seen for _, seen, _ in fits], dtype=np.int64)
    pauses = np.array([apart for _, _, apart in fits], dtype=np.int64)
    if not (events > pauses).any():
        got = f"{events.sum()} longer ones" if events.any() else "none"
        raise DataError(
            f"Times must include a step between two holes of one grid, of {LONGEST_PAUSE_S / 3600:g} hours at most. "
            f"Got {got} instead. {_NAME_A_PRESET}"
        )
    seconds, warnings = _non_decreasing(measured_s, events, events - pauses, longest_s)
    if seconds[0] <= 0:
        raise DataError(f"Steps between holes must take time. Got 0 s instead. {_NAME_A_PRESET}")
    extra_shot_s = extra_shot_s if np.isfinite(extra_shot_s) else 0.0
    visits_s, pauses_s = _visits_and_pauses(steps_s, np.where(inside_hole, extra_shot_s, seconds[tier]))
    minutes = [float(value) for value in seconds / SECONDS_PER_MINUTE]
    model = TimeModel(
        name="fitted",
        same_patch_min=minutes[0],
        new_patch_min=minutes[1],
        new_square_min=minutes[2],
        new_grid_min=minutes[3],
        extra_shot_min=extra_shot_s / SECONDS_PER_MINUTE,
        pauses_per_min=round(pauses_s / max(visits_s, LEAST_VISITS_S), 6),
    )
    return FittedTimeModel(
        model,
        seconds,
        events,
        pauses,
        extra_shot_events,
        untimed,
        tuple(warnings),
        pauses_s / SECONDS_PER_MINUTE,
        visits_s / SECONDS_PER_MINUTE,
        gaps_s,
        int(between.sum()),
    )


def _visits_and_pauses(steps_s: NDArray[np.float64], usual_s: NDArray[np.float64]) -> tuple[float, float]:
    """What steps take by the model, and what they took beyond it, at least 0; steps over LONGEST_PAUSE_S left out."""
    counts = steps_s <= LONGEST_PAUSE_S
    # Exact sums: the order of the steps must not show in the last bit.
    visits_s, took_s = math.fsum(usual_s[counts].tolist()), math.fsum(steps_s[counts].tolist())
    return visits_s, max(took_s - visits_s, 0.0)


def _steps(
    started_s: NDArray[np.float64], levels: tuple[NDArray[Any], ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_], int]:
    """Start, seconds, tier and "inside a hole" of each step, (timed - 1,) each, and how many exposures had no time.

    levels : (m,) ids of patch, square, grid and, where there are several shots, hole
    """
    if any(len(level) != len(started_s) for level in levels):
        raise InputError(
            f"Times and ids must be arrays of one length. Got {[len(started_s), *map(len, levels)]} instead."
        )
    timed = np.flatnonzero(np.isfinite(started_s))
    if len(timed) < 2:
        raise DataError(
            f"A fitted time model must have 2 timed exposures. Got {len(timed)} instead. {_NAME_A_PRESET}"
        )
    order = timed[np.argsort(started_s[timed], kind="stable")]
    changed = [np.asarray(level)[order][1:] != np.asarray(level)[order][:-1] for level in levels]
    tier = np.select([changed[2], changed[1], changed[0]], [3, 2, 1], default=0)
    same_hole = ~changed[3] if len(changed) == 4 else np.zeros(len(tier), dtype=bool)
    times_s = started_s[order]
    return times_s[:-1], np.diff(times_s), tier, (tier == 0) & same_hole, len(started_s) - len(timed)


def typical_step(steps_s: NDArray[np.float64], longest_s: float) -> tuple[float, int, int]:
    """Median of the steps that are not pauses (NaN without any), steps seen, pauses among them.

    longest_s : a longer step is a pause, whatever the others are
    """
    possible_s = np.sort(steps_s[steps_s <= longest_s])
    if len(possible_s) == 0:
        return float("nan"), len(steps_s), len(steps_s)
    kept = possible_s[possible_s <= PAUSE_FACTOR * possible_s[(len(possible_s) - 1) // 2]]
    return float(np.median(kept)), len(steps_s), len(steps_s) - len(kept)


def _longest_s(fits: list[tuple[float, int, int]]) -> list[float]:
    """Seconds by tier, (4,), beyond which a step is a pause; LONGEST_PAUSE_S where the tier says what is usual."""
    well = np.array([level for level, (_, seen, apart) in enumerate(fits) if seen - apart >= FEW_EVENTS])
    if len(well) == 0:
        return [LONGEST_PAUSE_S] * len(fits)
    preset_s = PRESETS[FILLED_BY].tiers_min() * SECONDS_PER_MINUTE
    longest_s = [LONGEST_PAUSE_S] * len(fits)
    for level in np.setdiff1d(np.arange(len(fits)), well):
        source = well[np.argmin(np.abs(well - level))]
        by_ratio_s = fits[source][0] * preset_s[level] / preset_s[source]
        # Fast stages have long moves beside short steps: what the preset itself takes is never a pause.
        longest_s[level] = min(PAUSE_FACTOR * float(max(by_ratio_s, preset_s[level])), LONGEST_PAUSE_S)
    return longest_s


def _non_decreasing(
    measured_s: NDArray[np.float64],
    events: NDArray[np.int64],
    kept: NDArray[np.int64],
    longest_s: list[float],
) -> tuple[NDArray[np.float64], list[str]]:
    """Tiers (4,) without gaps and non-decreasing, and a warning for each that rests on little."""
    present = np.flatnonzero(kept)
    seconds = np.empty(4)
    seconds[present] = isotonic_regression(measured_s[present], weights=kept[present]).x
    source = _fill(seconds, present)
    warnings = []
    if len(present) < len(TIER_NAMES):
        filled = [
            f"{name} {seconds[level]:.0f} s" for level, name in enumerate(TIER_NAMES) if kept[level] == 0
        ]
        measured = [f"{TIER_NAMES[level]} {seconds[level]:.0f} s" for level in present]
        warnings.append(
            f"Measured tiers: {', '.join(measured)}; filled by the ratios of {FILLED_BY}: {', '.join(filled)}. "
            "Remedy: name your own with --time-model 0.5,1,2,8, or a preset."
        )
    for level, name in enumerate(TIER_NAMES):
        if kept[level] == 0:
            if events[level]:
                warnings.append(
                    f"Tier {name!r} has no timed step but {events[level]} longer than {longest_s[level]:.0f} s, set "
                    f"apart as pauses; it is filled with {seconds[level]:.0f} s from the "
                    f"{seconds[source[level]]:.0f} s of {TIER_NAMES[source[level]]!r}."
                )
            continue
        if kept[level] < FEW_EVENTS:
            of_all = f" of {events[level]}" if events[level] > kept[level] else ""
            apart = ", the others set apart as pauses" if of_all else ""
            warnings.append(
                f"Tier {name!r}, {seconds[level]:.0f} s, rests on {kept[level]}{of_all} "
                f"timed step{'' if events[level] == 1 else 's'}, "
                f"fewer than {FEW_EVENTS}{apart}."
            )
        if not np.isclose(seconds[level], measured_s[level]):
            warnings.append(
                f"Tier {name!r} took {measured_s[level]:.0f} s, out of order with its neighbours; "
                f"pooled with them to {seconds[level]:.0f} s."
            )
    return seconds, warnings


def _fill(seconds: NDArray[np.float64], present: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fill the tiers (4,) that are not present, in place; the tier (4,) that each one was taken from."""
    ratio = PRESETS[FILLED_BY].tiers_min()
    source = np.array([present[np.argmin(np.abs(present - level))] for level in range(4)], dtype=np.int64)
    for level in np.setdiff1d(np.arange(4), present):
        # Neighbours may lie closer together than the preset's: a measured tier is never contradicted.
        lowest = seconds[level - 1] if level else 0.0
        above = present[present > level]
        highest = seconds[above[0]] if len(above) else np.inf
        wanted = seconds[source[level]] * ratio[level] / ratio[source[level]]
        seconds[level] = np.clip(wanted, lowest, highest)
    return source
