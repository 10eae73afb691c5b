"""The interval of the calibration error: how often it holds the true one, and what it is made of."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.belief.calibration_interval import calibration_error_interval
from cryoscout.belief.scores import bins_of, expected_calibration_error
from cryoscout.core.errors import InputError
from examples import slow_but

WORLDS = {
    "all too low": lambda p, error: p + error,
    "too low or too high by turns": lambda p, error: (
        p + error * np.where((20 * p).astype(int) % 2 == 1, 1.0, -1.0)
    ),
}


def share_that_holds(world: str, error: float, n: int, sessions: int) -> float:
    """How many of so many simulated sessions have the true error of their bins in the interval."""
    held = 0
    for session in range(sessions):
        rng = np.random.default_rng([session, n])
        p = np.clip(rng.beta(2, 2, n), 0.01 + error, 0.99 - error)
        chance = WORLDS[world](p, error)
        bins = bins_of(p)
        truth = np.abs(np.bincount(bins, weights=chance - p)).sum() / n
        good = (rng.random(n) < chance).astype(np.float64)
        low, high = calibration_error_interval(p, good, np.arange(n), rng, draws=400)
        held += low <= truth + 1e-12 and truth <= high + 1e-12
    return held / sessions


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 300, 1074])
@pytest.mark.parametrize("error", [0.0, 0.05, 0.15])
def test_it_holds_the_true_error_as_often_as_it_says(error: float, n: int) -> None:
    share = share_that_holds("all too low", error, n, sessions=600)
    print(f"true error {error}, {n} holes: {share:.3f}")  # noqa: T201
    # 93 to 97 %, and two standard errors of 600 sessions.
    assert 0.93 - 0.018 <= share <= 0.97 + 0.018


@pytest.mark.parametrize("world", slow_but(["all too low"], WORLDS))
def test_calibrated_probabilities_keep_0_and_wrong_ones_do_not(world: str) -> None:
    assert share_that_holds(world, 0.0, 200, sessions=40) >= 0.8
    rng = np.random.default_rng(5)
    p = np.clip(rng.beta(2, 2, 1000), 0.16, 0.84)
    good = (rng.random(1000) < p + 0.15).astype(np.float64)
    low, high = calibration_error_interval(p, good, np.arange(1000), rng)
    assert 0.1 < low < 0.15 < high < 0.2


def test_holes_that_resemble_in_clusters_widen_it() -> None:
    rng = np.random.default_rng(2)
    p = np.full(700, 0.5)
    cluster = np.arange(700) // 7
    good = np.repeat(rng.integers(0, 2, 100), 7).astype(np.float64)
    alone = calibration_error_interval(p, good, np.arange(700), np.random.default_rng(0))
    together = calibration_error_interval(p, good, cluster, np.random.default_rng(0))
    assert together[1] - together[0] > alone[1] - alone[0]
    assert together[0] == 0.0 < alone[0]


def test_a_measured_error_is_in_its_own_interval_or_above_it() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 2, 9, 40):
        p, good = rng.random(n), rng.integers(0, 2, n).astype(np.float64)
        low, high = calibration_error_interval(p, good, np.zeros(n, dtype=np.int64), rng, draws=100)
        assert 0.0 <= low <= high <= 1.0
        assert low <= expected_calibration_error(p, good) + 1e-9


def test_no_holes_are_refused() -> None:
    with pytest.raises(InputError, match="at least one hole"):
        calibration_error_interval(np.empty(0), np.empty(0), np.empty(0, dtype=int), np.random.default_rng(0))
