"""Texts of EPU files as numbers, truth values and times in the units of the package; what is none is a deviation.

There is no specification. The texts are those of .NET's DataContract serialiser
(https://learn.microsoft.com/dotnet/framework/wcf/feature-details/); lengths in m, angles in radians and times with
seven digits after the second are as in EPU's files of the public repositories kylelmorris/EMharvest and
DiamondLightSource/smartem-decisions.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryoscout.formats.limits import FIRST_YEAR, LAST_YEAR
from cryoscout.formats.text.findings import Findings

ANGSTROM_PER_M = 1e10
DEGREES_PER_RADIAN = 180.0 / math.pi
SQUARE_METRES_PER_SQUARE_ANGSTROM = 1e-20

_LONGEST_SHOWN = 40
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as EPU writes it: the clock of the microscope to 100 ns, and the zone of that clock."""

    clock: datetime
    """Naive, whole seconds."""
    nanoseconds: int
    """After `clock`, 0 to 999,999,999."""
    zone: timedelta | None
    """Ahead of UTC; None where the time has none."""

    def clock_ns(self, zone: timedelta | None = None) -> int:
        """Nanoseconds since 1970 on the clock of this time's own zone, or of another one where both are known."""
        clock = self.clock
        if zone is not None and self.zone is not None and zone != self.zone:
            clock += zone - self.zone
        return round((clock - _EPOCH).total_seconds()) * 1_000_000_000 + self.nanoseconds


_EPOCH = datetime(1970, 1, 1)


def number(text: str | None, element: str, findings: Findings, factor: float = 1.0) -> float:
    """A finite number times the factor; NaN for no text, a deviation and NaN for anything else."""
    if text is None:
        return math.nan
    try:
        value = float(text) * factor
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        findings.deviates(f"must be a finite number. Got {shown(text)} instead.", element=element)
        return math.nan
    return value


def required_number(text: str | None, element: str, findings: Findings, factor: float = 1.0) -> float:
    """As `number`, and no text is a deviation too."""
    if text is None:
        findings.deviates("must be a finite number. Got nothing instead.", element=element)
        return math.nan
    return number(text, element, findings, factor)


def truth(text: str | None, element: str, findings: Findings) -> bool | None:
    """True, false, or None for no text; a deviation and None for anything else."""
    if text in ("true", "false"):
        return text == "true"
    if text is not None:
        findings.deviates(f"must be true or false. Got {shown(text)} instead.", element=element)
    return None


def moment(text: str | None, element: str, findings: Findings) -> Moment | None:
    """A time `yyyy-mm-ddThh:mm:ss[.fffffff][zone]` with up to 9 digits of a second; None for no text."""
    if text is None:
        return None
    found = _TIME.fullmatch(text)
    if found is not None:
        seconds, fraction, zone = found.groups()
        try:
            clock = datetime.fromisoformat(seconds)
        except ValueError:
            clock = None
        if clock is not None and FIRST_YEAR <= clock.year <= LAST_YEAR:
            return Moment(clock, int((fraction or "0").ljust(9, "0")), _zone(zone))
    findings.deviates(
        f"must be a time yyyy-mm-ddThh:mm:ss.fffffff+hh:mm between {FIRST_YEAR} and {LAST_YEAR}. "
        f"Got {shown(text)} instead.",
        element=element,
    )
    return None


def _zone(text: str | None) -> timedelta | None:
    if text is None:
        return None
    if text == "Z":
        return timedelta()
    ahead = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return -ahead if text[0] == "-" else ahead


def shown(text: str) -> str:
    """A piece of a file as a message shows it: quoted, and cut where it is long."""
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")
