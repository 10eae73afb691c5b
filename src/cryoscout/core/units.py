"""Units and the meaning of a CTF resolution; wherever a number crosses a function its unit is in the name."""

from __future__ import annotations

import math

SECONDS_PER_MINUTE = 60.0
MINUTES_PER_HOUR = 60.0
SECONDS_PER_HOUR = 3600.0

FAILED_FIT_ANGSTROM = 100.0
"""At or above this a CTF fit failed: CTFFIND writes inf, Leginon and Appion 100, 101 or 100000."""

GOOD_THRESHOLD_ANGSTROM = 6.0
"""Default rule of a good micrograph: CTF resolution at or below this (CryoRL, equation 2)."""

TIER_NAMES = ("same patch", "new patch", "new square", "new grid")
"""What the stage has to do for a visit, from the shortest to the longest; a time model has minutes for each."""


def is_failed_fit(ctf_max_res_angstrom: float) -> bool:
    """Whether a CTF resolution means "imaged, no fit"; such a micrograph is never good."""
    return math.isinf(ctf_max_res_angstrom) or ctf_max_res_angstrom >= FAILED_FIT_ANGSTROM
