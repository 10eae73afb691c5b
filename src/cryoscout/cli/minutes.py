"""Microscope time as the options of several commands take it."""

from __future__ import annotations

from datetime import datetime

from cryoscout.core.durations import minutes_of, minutes_until
from cryoscout.core.errors import InputError


def budget_of(budget_min: str | None, until: str | None) -> float:
    """Minutes of --budget-min or --until.

    Raises InputError where both or none is given, or where what is given is no time above 0.
    """
    if (budget_min is None) == (until is None):
        got = "neither" if budget_min is None else "both"
        raise InputError(
            f"The microscope time must be given by --budget-min or by --until. Got {got} instead. "
            "Remedy: for example --budget-min 8h, or --until 09:00."
        )
    from cryoscout.routing.time_model import (
        check_budget_min,
    )  # later, because it brings numpy: --help needs none

    if budget_min is not None:
        return check_budget_min(minutes_of(budget_min))
    return minutes_until(until or "", datetime.now())


def budgets_of(texts: str) -> tuple[float, ...]:
    """Minutes of several times by commas. Raises InputError where one is no time above 0."""
    from cryoscout.routing.time_model import check_budget_min

    return tuple(check_budget_min(minutes_of(text)) for text in texts.split(","))
