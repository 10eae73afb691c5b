"""The time model of a session: by name, or fitted to the session's own times."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import DataError
from cryoscout.core.units import SECONDS_PER_HOUR, TIER_NAMES
from cryoscout.routing.look_fit import LOOK_LEVELS, PartedTimes, fit_parted_times
from cryoscout.routing.time_fit import FEW_EVENTS, LONGEST_PAUSE_S, FittedTimeModel, fit_time_model
from cryoscout.routing.time_model import PRESETS, TimeModel, time_model_named, with_minutes_per_exposure
from cryoscout.session.builtin import builtin_looks, load_builtin
from cryoscout.session.looks import looks_elsewhere
from cryoscout.session.model import Session

GRIDS_ARE_SESSIONS = frozenset({"epu", "serialem"})
"""Formats whose sessions are of one grid (EPU's sample, SerialEM's navigator): to another there is no stage move."""

_GAPS_SHOWN = 3

FITTED = "fitted"

_Columns = tuple[NDArray[np.float64], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""Seconds, patch, square, grid and hole of exposures."""


def keeps_grid_switch(session: Session) -> bool:
    """Whether a plan from nowhere pays a grid switch as the papers' studies do: built-in and simulated sessions."""
    return session.info.built_in or session.info.format == "simulated"


_PUBLISHED = "The minutes are not this microscope's but those of the published time model cryorl"
_OWN_MINUTES = "Remedy: your own minutes by tier, --time-model 0.5,1,2,8."


def time_model_for(
    session: Session,
    name: str | None,
    minutes_per_exposure: float | None = None,
    *,
    parts_looks: bool = False,
) -> tuple[TimeModel, tuple[str, ...]]:
    """The time model by name, or the session's default, and notes for the user.

    name : a preset, four numbers by commas, `fitted`, or None: `cryorl` for built-in and simulated sessions and where
        times are missing or too few to tell a visit from a pause (no tier with FEW_EVENTS steps that are no pauses),
        else `fitted`
    parts_looks : fitted times part looks from moves, where the session says when it looked
    minutes_per_exposure : in place of what the model has for an exposure (`with_minutes_per_exposure`)
    Raises UnknownNameError; DataError when `fitted` is named and the session has too few times.
    """
    if minutes_per_exposure is not None:
        model, notes = time_model_for(session, name, parts_looks=parts_looks)
        return with_minutes_per_exposure(model, minutes_per_exposure), notes
    if name == FITTED:
        return _fitted(session, fitted_times(session), parts_looks)
    if name is not None:
        return time_model_named(name), ()
    if session.info.default_time_model == "cryorl":
        return PRESETS["cryorl"], _note_on_published(session)
    try:
        fit = fitted_times(session)
    except DataError as error:
        return PRESETS["cryorl"], (published_in_words(error),)
    if not fit.well_measured.any():
        kept = zip((fit.events - fit.pauses).tolist(), TIER_NAMES, strict=True)
        return PRESETS["cryorl"], (
            "The published time model cryorl is used: the session's times hold "
            f"{', '.join(f'{steps} {name}' for steps, name in kept)} steps without pauses, every one fewer than "
            f"{FEW_EVENTS}. --time-model fitted uses them all the same.",
        )
    return _fitted(session, fit, parts_looks)


def published_in_words(error: DataError) -> str:
    """Why minutes are not those of the user's microscope, and how they can be."""
    why = str(error).partition(" Remedy:")[0]
    return f"{_PUBLISHED}. {why} {_OWN_MINUTES}"


def _note_on_published(session: Session) -> tuple[str, ...]:
    if keeps_grid_switch(session):  # the papers' own, and known truth: those are their times
        return ()
    timed = int(session.exposures["started_at"].notna().sum())
    if timed > 1:
        why = "the session holds only part of its timed exposures. --time-model fitted uses them all the same"
    else:
        why = "the session has no times" if not timed else "the session has one timed exposure"
    return (f"{_PUBLISHED}: {why}. {_OWN_MINUTES}",)


def _fitted(session: Session, fit: FittedTimeModel, parts_looks: bool) -> tuple[TimeModel, tuple[str, ...]]:
    if not parts_looks:
        return fit.time_model, fit.warnings
    parted = parted_times(session)
    if parted is None:
        return fit.time_model, (
            *fit.warnings,
            "The session does not say when it looked: its looks are in the fitted tiers and take no minutes of their "
            "own.",
        )
    names = zip(LOOK_LEVELS[:2], parted.look_s[:2].tolist(), parted.look_events[:2].tolist(), strict=True)
    said = ", ".join(f"{seconds:.0f} s at a {level} ({events} steps)" for level, seconds, events in names)
    first = _whole(session).exposures["started_at"].min()
    return parted.time_model, (
        *parted.tiers.warnings,
        *_set_aside_in_words(
            fit, first
        ),  # of the raw fit: the clock of the parted one stands still during looks
        *parted.warnings,
        f"Looks take {said}; tiers are without them.",
    )


def parted_times(session: Session) -> PartedTimes | None:
    """Looks and moves apart, fitted to the session's own times; None where no look has a time.

    Raises DataError when the session has too few times.
    """
    session = _whole(session)
    columns, first = _times_of_exposures(session)
    if session.info.built_in:
        looks = builtin_looks()
    else:
        of_places = ((session.patches, "patch"), (session.squares, "square"))
        own = [places[["looked_at"]].dropna().assign(level=level) for places, level in of_places]
        looks = pd.concat([*own, looks_elsewhere(session)])
    looked_at = looks["looked_at"]
    level = looks["level"].map(dict(zip(LOOK_LEVELS, range(3), strict=True))).to_numpy(dtype=np.int64)
    if not len(looked_at) or pd.isna(first):
        return None
    looked_s = np.asarray((looked_at - first).dt.total_seconds(), dtype=np.float64)
    seconds, patch, square, grid, hole = columns
    return fit_parted_times(
        seconds,
        patch,
        square,
        grid,
        hole,
        looked_s,
        np.asarray(level, dtype=np.int64),
        grids_are_sessions=session.info.format in GRIDS_ARE_SESSIONS,
    )


def _whole(session: Session) -> Session:
    """A split leaves gaps between its exposures; only the whole session shows which ones were consecutive."""
    return load_builtin(session.info.dataset, split="all") if session.info.built_in else session


def _times_of_exposures(session: Session) -> tuple[_Columns, pd.Timestamp]:
    """Seconds from the first exposure, patch, square, grid and hole of each exposure, and when the first was."""
    exposures = session.exposures.merge(session.holes[["hole_id", "patch_id"]], on="hole_id")
    exposures = exposures.merge(session.patches[["patch_id", "square_id"]], on="patch_id")
    exposures = exposures.merge(session.squares[["square_id", "grid_id"]], on="square_id")
    first = exposures["started_at"].min()
    seconds = (exposures["started_at"] - first).dt.total_seconds().to_numpy()
    ids = [exposures[column].to_numpy() for column in ("patch_id", "square_id", "grid_id", "hole_id")]
    return (seconds, ids[0], ids[1], ids[2], ids[3]), first


def fitted_times(session: Session) -> FittedTimeModel:
    """The time model fitted to the session's own times, with the steps it rests on.

    Raises DataError when the session has too few times.
    """
    session = _whole(session)
    columns, first = _times_of_exposures(session)
    fit = fit_time_model(*columns, grids_are_sessions=session.info.format in GRIDS_ARE_SESSIONS)
    return replace(fit, warnings=(*fit.warnings, *_set_aside_in_words(fit, first)))


def _set_aside_in_words(fit: FittedTimeModel, first: pd.Timestamp) -> list[str]:
    """What of the recorded time is in no tier: gaps, by when they began, and the time between sessions."""
    said = []
    if fit.gaps_s:
        listed = ", ".join(
            f"{length_s / SECONDS_PER_HOUR:.1f} h from {first + timedelta(seconds=begins_s):%Y-%m-%d %H:%M}"
            for begins_s, length_s in fit.gaps_s[:_GAPS_SHOWN]
        )
        more = ", ..." if len(fit.gaps_s) > _GAPS_SHOWN else ""
        said.append(
            f"{counted(len(fit.gaps_s), 'gaps')} of more than {LONGEST_PAUSE_S / SECONDS_PER_HOUR:g} h "
            f"{agreed(len(fit.gaps_s), 'are')} no pauses of the "
            f"session and are left out: {listed}{more}."
        )
    if fit.between_sessions:
        said.append(
            f"The time between sessions of different grids ({counted(fit.between_sessions, 'times')}) is no move of "
            "the stage and is left out."
        )
    return said
