"""The time model of a session: by name, or fitted to the session's own times."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryoscout.core.errors import DataError
from cryoscout.core.units import SECONDS_PER_HOUR, TIER_NAMES
from cryoscout.routing.time_fit import FEW_EVENTS, LONGEST_PAUSE_S, FittedTimeModel, fit_time_model
from cryoscout.routing.time_model import PRESETS, TimeModel, time_model_named, with_minutes_per_exposure
from cryoscout.session.model import Session

if TYPE_CHECKING:
    import pandas as pd

GRIDS_ARE_SESSIONS = frozenset({"epu", "serialem"})
"""Formats whose sessions are of one grid (EPU's sample, SerialEM's navigator): to another there is no stage move."""

_GAPS_SHOWN = 3

FITTED = "fitted"


def time_model_for(
    session: Session, name: str | None, minutes_per_exposure: float | None = None
) -> tuple[TimeModel, tuple[str, ...]]:
    """The time model by name, or the session's default, and notes for the user.

    name : a preset, four numbers by commas, `fitted`, or None: `cryorl` for built-in and simulated sessions and where
        times are missing or too few to tell a visit from a pause (no tier with FEW_EVENTS steps that are no pauses),
        else `fitted`
    minutes_per_exposure : in place of what the model has for an exposure (`with_minutes_per_exposure`)
    Raises UnknownNameError; DataError when `fitted` is named and the session has too few times.
    """
    if minutes_per_exposure is not None:
        model, notes = time_model_for(session, name)
        return with_minutes_per_exposure(model, minutes_per_exposure), notes
    if name == FITTED:
        fit = fitted_times(session)
        return fit.time_model, fit.warnings
    if name is not None:
        return time_model_named(name), ()
    if session.info.default_time_model == "cryorl":
        return PRESETS["cryorl"], ()
    try:
        fit = fitted_times(session)
    except DataError as error:
        return PRESETS["cryorl"], (f"The published time model cryorl is used. {error}",)
    if not fit.well_measured.any():
        kept = zip((fit.events - fit.pauses).tolist(), TIER_NAMES, strict=True)
        return PRESETS["cryorl"], (
            "The published time model cryorl is used: the session's times hold "
            f"{', '.join(f'{steps} {name}' for steps, name in kept)} steps without pauses, every one fewer than "
            f"{FEW_EVENTS}. --time-model fitted uses them all the same.",
        )
    return fit.time_model, fit.warnings


def fitted_times(session: Session) -> FittedTimeModel:
    """The time model fitted to the session's own times, with the steps it rests on.

    Raises DataError when the session has too few times.
    """
    from cryoscout.session.builtin import load_builtin

    if session.info.built_in:
        # A split leaves gaps between its exposures; only the whole session shows which ones were consecutive.
        session = load_builtin(session.info.dataset, split="all")
    exposures = session.exposures.merge(session.holes[["hole_id", "patch_id"]], on="hole_id")
    exposures = exposures.merge(session.patches, on="patch_id").merge(session.squares, on="square_id")
    started_at = exposures["started_at"]
    fit = fit_time_model(
        (started_at - started_at.min()).dt.total_seconds().to_numpy(),
        *(exposures[column].to_numpy() for column in ("patch_id", "square_id", "grid_id", "hole_id")),
        grids_are_sessions=session.info.format in GRIDS_ARE_SESSIONS,
    )
    return replace(fit, warnings=(*fit.warnings, *_set_aside_in_words(fit, started_at.min())))


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
            f"{len(fit.gaps_s)} gaps of more than {LONGEST_PAUSE_S / SECONDS_PER_HOUR:g} h are no pauses of the "
            f"session and are left out: {listed}{more}."
        )
    if fit.between_sessions:
        said.append(
            f"The time between sessions of different grids ({fit.between_sessions} times) is no move of the stage and "
            "is left out."
        )
    return said
