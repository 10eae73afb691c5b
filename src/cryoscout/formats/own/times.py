"""Times as sites write them in tables, as naive time of one clock; what could mean two days is refused.

    2024-01-05 11:51:50.123   ISO, with T or a blank; with an offset (Z, +01:00) or without
    2024/01/05 11:51:50       the same with slashes
    20240105_115150           as EPU names its files
    05-Jan-2024 11:51:50      as SerialEM writes, with the year in two or four digits
    05.01.2024 11:51:50       day, month, year

All times of a file are given on the clock of the first that has an offset: clocks change in autumn and spring, and a
run of exposures must not jump by an hour for it. A time without an offset stays as written.
A date alone, a number of seconds and 01/05/2024 (January or May?) are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from cryoscout.core.counting import counted
from cryoscout.formats.ctf.records import shown
from cryoscout.formats.limits import FIRST_YEAR, LAST_YEAR

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_CLOCK = r"[T\s_-]\s*(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
_ZONE = r"(?:\s?(?P<zone>Z|[+-]\d\d:?\d\d))?"
_FORMS = tuple(
    re.compile(form + _ZONE, re.ASCII)
    for form in (
        r"(?P<year>\d{4})[-/](?P<month>\d\d?)[-/](?P<day>\d\d?)" + _CLOCK,
        r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)[T_ -](?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)",
        r"(?P<day>\d\d?)[- ](?P<name>[A-Za-z]{3})[- ](?P<year>\d{4}|\d\d)" + _CLOCK,
        r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>\d{4})" + _CLOCK,
    )
)


@dataclass
class OneClock:
    """The clock of one file: the zone of its first time that has one."""

    zone: timezone | None = None
    others: int = 0
    """Times of another zone."""

    def of(self, text: str) -> datetime | str:
        """A time as naive time of this clock; or the message that says what is wrong with it."""
        time = parse_time(text)
        return time if isinstance(time, str) else self.naive(time)

    def naive(self, time: datetime) -> datetime:
        """A time, with a zone or without, as naive time of this clock."""
        ahead = time.utcoffset()
        if ahead is None:
            return time
        if self.zone is None:
            self.zone = timezone(ahead)
        self.others += ahead != self.zone.utcoffset(None)
        return time.astimezone(self.zone).replace(tzinfo=None)

    def notes(self) -> list[str]:
        """For the join report: how many times were of another zone."""
        if not self.others:
            return []
        return [
            f"{counted(self.others, 'times', 'have')} another time zone; all times are given in that of the first, "
            f"{_name_of(self.zone)}"
        ]


def _name_of(zone: timezone | None) -> str:
    return f"{datetime(2000, 1, 1, tzinfo=zone):%z}"


def _zone_of(text: str | None) -> timezone | None:
    if not text:
        return None
    if text == "Z":
        return UTC
    ahead = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-ahead if text[0] == "-" else ahead)


def parse_time(text: str) -> datetime | str:
    """A time of day on a date, to the microsecond, with its zone where it says one; or what is wrong with it."""
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is None:
            continue
        parts = match.groupdict()
        month = _MONTHS.get(parts["name"].lower()) if parts.get("name") else int(parts["month"])
        year = int(parts["year"]) + (2000 if len(parts["year"]) == 2 else 0)
        fraction = (parts.get("fraction") or "").ljust(6, "0")[:6]
        try:
            if month is None or not FIRST_YEAR <= year <= LAST_YEAR:
                break
            return datetime(
                year,
                month,
                int(parts["day"]),
                int(parts["hour"]),
                int(parts["minute"]),
                int(parts["second"] or 0),
                int(fraction),
                tzinfo=_zone_of(parts["zone"]),
            )
        except ValueError:
            break
    return (
        "a time must be a date with a time of day such as 2024-01-05 11:51:50. "
        f"Got {shown(text)} instead. Remedy: export times as year-month-day."
    )
