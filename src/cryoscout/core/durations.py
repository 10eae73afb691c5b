"""Lengths of time as people write them at a microscope: 480, 480min, 8h, 8h30, 8:00, and the hour when it ends."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from cryoscout.core.errors import InputError
from cryoscout.core.units import MINUTES_PER_HOUR, SECONDS_PER_MINUTE

_HOURS_AND_MINUTES = re.compile(r"(?P<hours>\d{1,4}):(?P<minutes>[0-5]\d)")
_WITH_UNITS = re.compile(
    r"(?:(?P<hours>\d+(?:\.\d+)?)\s*h(?:ours?|rs?)?)?\s*(?:(?P<minutes>\d+(?:\.\d+)?)\s*(?:m|min|mins|minutes?)?)?",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)")


def minutes_of(text: str) -> float:
    """Minutes of a length of time: a number of minutes, or with units (8h, 8.5h, 8h30, 90min), or hours:minutes (8:00).

    Raises InputError for anything else.
    """
    words = text.strip()
    try:
        return float(words)
    except ValueError:
        pass
    found = _HOURS_AND_MINUTES.fullmatch(words) or _WITH_UNITS.fullmatch(words)
    if found is None or not any(found.groupdict().values()):
        raise InputError(
            f"A length of time must be minutes, or hours and minutes. Got {text!r} instead. "
            "Remedy: write it as 480, 480min, 8h, 8h30 or 8:00."
        )
    return MINUTES_PER_HOUR * float(found["hours"] or 0) + float(found["minutes"] or 0)


def minutes_until(text: str, now: datetime) -> float:
    """Minutes from now to a moment: an hour of the day (09:00, the next one to come) or a date and hour in ISO form.

    now : by the clock of this computer, without a zone
    In tenths, never beyond the moment, but for less than one: seconds mean nothing to a plan, and are not shown.
    Raises InputError for anything else, and for a moment that has passed.
    """
    moment = moment_of(text, now)
    minutes = (moment - now).total_seconds() / SECONDS_PER_MINUTE
    if minutes <= 0:
        raise InputError(
            f"The end must be later than now, {now:%Y-%m-%d %H:%M}. Got {text} instead. Remedy: give a later moment."
        )
    return math.floor(10.0 * minutes) / 10.0 or minutes


def moment_of(text: str, now: datetime) -> datetime:
    """The moment of an hour of the day (09:00, the next one to come) or of a date and hour in ISO form, without a zone.

    now : by the clock of this computer, without a zone
    Raises InputError for anything else.
    """
    words = text.strip()
    clock = _CLOCK.fullmatch(words)
    if clock is not None:
        moment = now.replace(hour=int(clock["hour"]), minute=int(clock["minute"]), second=0, microsecond=0)
        moment += timedelta(days=1) if moment <= now else timedelta(0)
    else:
        try:
            moment = datetime.fromisoformat(words)
        except ValueError:
            moment = None
        if moment is None or len(words) <= len("2026-01-31"):
            raise InputError(
                f"The end must be an hour of the day, or a date and hour. Got {text!r} instead. "
                "Remedy: write it as 09:00 or 2026-01-31T09:00."
            )
        if moment.tzinfo is not None:
            moment = moment.astimezone().replace(tzinfo=None)
    return moment
