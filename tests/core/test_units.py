"""What a CTF resolution means: good, bad, or no fit at all."""

from __future__ import annotations

import math

import pytest

from cryoscout.core.units import FAILED_FIT_ANGSTROM, GOOD_THRESHOLD_ANGSTROM, is_failed_fit


@pytest.mark.parametrize("written", [math.inf, 100.0, 101.0, 100000.0])
def test_every_way_a_fit_is_written_down_as_failed_is_known(written: float) -> None:
    assert is_failed_fit(written)


@pytest.mark.parametrize("measured", [2.4, GOOD_THRESHOLD_ANGSTROM, 30.0, 99.99])
def test_a_poor_resolution_is_still_a_fit(measured: float) -> None:
    assert not is_failed_fit(measured)


def test_no_result_is_not_a_failed_fit() -> None:
    assert not is_failed_fit(math.nan)


def test_no_failed_fit_is_good() -> None:
    assert GOOD_THRESHOLD_ANGSTROM < FAILED_FIT_ANGSTROM
