"""Times as sites write them in tables, read as naive microscope time; what could mean two days is refused.

    2024-01-05 11:51:50.123   ISO, with T or a blank; an offset (Z, +01:00) is dropped, the clock stays as written
    2024/01/05 11:51:50       the same with slashes
    20240105_115150           as EPU names its files
    05-Jan-2024 11:51:50      as SerialEM writes, with the year in two or four digits
    05.01.2024 11:51:50       day, month, year

A date alone, a number of seconds and 01/05/2024 (January or May?) are refused.
"""

from __future__ import annotations

import re
from datetime import datetime

from cryoscout.formats.ctf.records import shown
from cryoscout.formats.limits import FIRST_YEAR, LAST_YEAR

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_CLOCK = r"[T\s_-]\s*(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
_ZONE = r"(?:\s?(?:Z|[+-]\d\d:?\d\d))?"
_FORMS = tuple(
    re.compile(form + _ZONE, re.ASCII)
    for form in (
        r"(?P<year>\d{4})[-/](?P<month>\d\d?)[-/](?P<day>\d\d?)" + _CLOCK,
        r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)[T_ -](?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)",
        r"(?P<day>\d\d?)[- ](?P<name>[A-Za-z]{3})[- ](?P<year>\d{4}|\d\d)" + _CLOCK,
        r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>\d{4})" + _CLOCK,
    )
)


def parse_time(text: str) -> datetime | str:
    """A time of day on a date, to the microsecond, without zone; or the message that says what is wrong with it."""
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
            )
        except ValueError:
            break
    return (
        "a time must be a date with a time of day such as 2024-01-05 11:51:50. "
        f"Got {shown(text)} instead. Remedy: export times as year-month-day."
    )
