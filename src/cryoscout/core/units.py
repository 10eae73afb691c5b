"""Units and the meaning of a CTF resolution; wherever a number crosses a function its unit is in the name."""

from __future__ import annotations

import math

from cryoscout.core.errors import InputError

SECONDS_PER_MINUTE = 60.0
MINUTES_PER_HOUR = 60.0
SECONDS_PER_HOUR = 3600.0
UM_PER_M = 1e6

FAILED_FIT_ANGSTROM = 100.0
"""At or above this a CTF fit failed: CTFFIND writes inf, Leginon and Appion 100, 101 or 100000."""

GOOD_THRESHOLD_ANGSTROM = 6.0
"""Default rule of a good micrograph: CTF resolution at or below this (CryoRL, equation 2)."""
LEAST_THRESHOLD_ANGSTROM, MOST_THRESHOLD_ANGSTROM = 0.5, 100.0
"""Of such a rule: no microscope resolves less in ice, and from here on a fit failed."""

TIER_NAMES = ("same patch", "new patch", "new square", "new grid")
"""What the stage has to do for a visit, from the shortest to the longest; a time model has minutes for each."""


def check_threshold_angstrom(threshold_angstrom: float) -> float:
    """Return the threshold, or raise InputError when it is no resolution that a good micrograph could have."""
    if not LEAST_THRESHOLD_ANGSTROM <= threshold_angstrom <= MOST_THRESHOLD_ANGSTROM:
        raise InputError(
            f"The threshold must be a resolution from {LEAST_THRESHOLD_ANGSTROM:g} to {MOST_THRESHOLD_ANGSTROM:g} "
            f"angstrom. Got {threshold_angstrom!r} instead. Remedy: for example --threshold-angstrom 6."
        )
    return float(threshold_angstrom)


def is_failed_fit(ctf_max_res_angstrom: float) -> bool:
    """Whether a CTF resolution means "imaged, no fit"; such a micrograph is never good."""
    return math.isinf(ctf_max_res_angstrom) or ctf_max_res_angstrom >= FAILED_FIT_ANGSTROM
