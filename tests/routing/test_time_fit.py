from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cryoscout.core.errors import DataError, InputError
from cryoscout.routing.time_fit import FittedTimeModel, fit_time_model
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.session.builtin import load_builtin

# patch of 40 holes, 15 patches in a square, 8 squares in a grid, 15 grids
N = 15 * 8 * 15 * 40
PATCH = np.arange(N) // 40
SQUARE = PATCH // 15
GRID = SQUARE // 8


def times_from(model: TimeModel, rng: np.random.Generator, shots: int = 1) -> NDArray[np.float64]:
    """Seconds of every exposure, (N * shots,), with jitter, without pauses: a slow, obvious walk."""
    times, now = [], 0.0
    for i in range(N):
        if i:
            tier = (
                3
                if GRID[i] != GRID[i - 1]
                else 2
                if SQUARE[i] != SQUARE[i - 1]
                else 1
                if PATCH[i] != PATCH[i - 1]
                else 0
            )
            now += 60 * model.tiers_min()[tier] * rng.lognormal(0, 0.1)
        times.append(now)
        for _ in range(shots - 1):
            now += 60 * model.extra_shot_min * rng.lognormal(0, 0.1)
            times.append(now)
    return np.array(times)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_times_made_from_a_model_are_recovered_within_5_percent_in_spite_of_pauses(name: str) -> None:
    rng = np.random.default_rng(3)
    pauses_s = np.where(rng.random(N) < 0.1, rng.exponential(3600, N), 0)
    fit = fit_time_model(times_from(PRESETS[name], rng) + np.cumsum(pauses_s), PATCH, SQUARE, GRID)
    np.testing.assert_allclose(fit.time_model.tiers_min(), PRESETS[name].tiers_min(), rtol=0.05)
    np.testing.assert_array_equal(fit.events, [N - 1 - (15 * 8 * 15 - 1), 15 * 8 * 14, 15 * 7, 14])
    assert 0.05 * N < fit.pauses.sum() < 0.11 * N
    assert fit.time_model.name == "fitted"
    assert fit.warnings == ()


def test_pauses_on_almost_half_of_the_steps_leave_the_tier_as_it_is() -> None:
    steps_s = np.array([60.0] * 51 + [5000.0] * 49)
    started_s = np.concatenate([[0], np.cumsum(np.random.default_rng(0).permutation(steps_s))])
    one = np.zeros(101, dtype=int)
    fit = fit_time_model(started_s, one, one, one)
    assert fit.seconds[0] == 60
    assert fit.pauses[0] == 49


def test_two_steps_of_which_one_is_a_night_give_the_other() -> None:
    one = np.zeros(3, dtype=int)
    fit = fit_time_model(np.array([0.0, 90, 40_000]), one, one, one)
    assert fit.seconds[0] == 90


def test_steps_inside_a_hole_measure_the_extra_shot_and_no_tier() -> None:
    model = PRESETS["cryorl"].model_copy(update={"extra_shot_min": 0.5})
    started_s = times_from(model, np.random.default_rng(4), shots=3)
    patch, square, grid, hole = (np.repeat(level, 3) for level in (PATCH, SQUARE, GRID, np.arange(N)))
    fit = fit_time_model(started_s, patch, square, grid, hole)
    assert fit.extra_shot_events == 2 * N
    assert fit.events.sum() == N - 1
    assert fit.time_model.extra_shot_min == pytest.approx(0.5, rel=0.05)
    np.testing.assert_allclose(fit.time_model.tiers_min(shots=3), model.tiers_min(shots=3), rtol=0.05)


def small(started_s: list[float], patch: list[int], square: list[int], grid: list[int]) -> FittedTimeModel:
    return fit_time_model(np.array(started_s), np.array(patch), np.array(square), np.array(grid))


def test_a_missing_tier_takes_the_next_lower_one_and_says_so() -> None:
    fit = small([0, 90, 180, 380], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0])
    np.testing.assert_array_equal(fit.seconds, [90, 200, 200, 200])
    np.testing.assert_array_equal(fit.events, [2, 1, 0, 0])
    assert len(fit.warnings) == 4
    assert "'new grid' has no timed step; it takes the 200 s of 'new patch'" in fit.warnings[3]
    assert "rests on 2 timed steps, fewer than 10" in fit.warnings[0]


def test_a_missing_lowest_tier_takes_the_lowest_measured_one() -> None:
    fit = small([0, 200, 400], [0, 1, 2], [0, 0, 0], [0, 0, 0])
    np.testing.assert_array_equal(fit.seconds, [200, 200, 200, 200])
    assert "'same patch' has no timed step" in fit.warnings[0]


def test_tiers_out_of_order_are_pooled_by_their_steps_and_said() -> None:
    # 3 new patches of 200 s each, then one new square of 100 s: pooled to 175 s
    fit = small([0, 90, 290, 490, 690, 790], [0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 0, 1], [0] * 6)
    np.testing.assert_allclose(fit.seconds, [90, 175, 175, 175])
    assert any("'new square' took 100 s, out of order" in text for text in fit.warnings)


def test_ids_that_repeat_in_another_parent_are_another_place() -> None:
    fit = small([0, 10, 30, 60], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1])
    np.testing.assert_array_equal(fit.events, [1, 0, 1, 1])


def test_ids_may_be_text() -> None:
    names = np.array(["a", "a", "b"], dtype=object)
    fit = fit_time_model(np.array([0.0, 90, 280]), names, names, names)
    np.testing.assert_array_equal(fit.seconds, [90, 90, 90, 190])


@given(seed=st.integers(0, 1000), untimed=st.integers(0, 200))
def test_order_of_rows_and_missing_times_do_not_matter(seed: int, untimed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 300
    started_s = np.cumsum(rng.integers(1, 500, n)).astype(float)
    grid = np.sort(rng.integers(0, 3, n))
    square = np.sort(rng.integers(0, 8, n))
    patch = np.sort(rng.integers(0, 40, n))
    missing = rng.permutation(n)[:untimed]
    kept = np.setdiff1d(np.arange(n), missing)
    expected = fit_time_model(started_s[kept], patch[kept], square[kept], grid[kept])
    started_s[missing] = np.nan
    mix = rng.permutation(n)
    fit = fit_time_model(started_s[mix], patch[mix], square[mix], grid[mix])
    assert fit.time_model == expected.time_model
    assert fit.warnings == expected.warnings
    assert fit.untimed == untimed
    assert np.all(np.diff(fit.seconds) >= 0)
    assert fit.events.sum() == len(kept) - 1


@pytest.mark.parametrize("started_s", [[], [5.0], [5.0, np.nan, np.nan]])
def test_fewer_than_two_times_are_refused_with_the_remedy(started_s: list[float]) -> None:
    one = np.zeros(len(started_s), dtype=int)
    with pytest.raises(DataError, match=r"2 timed exposures. Got \d instead. Remedy: name a preset"):
        fit_time_model(np.array(started_s), one, one, one)


def test_exposures_of_a_single_hole_are_refused() -> None:
    one = np.zeros(3, dtype=int)
    with pytest.raises(DataError, match="a step between two holes"):
        fit_time_model(np.array([0.0, 1, 2]), one, one, one, one)


def test_steps_that_take_no_time_are_refused() -> None:
    one = np.zeros(3, dtype=int)
    with pytest.raises(DataError, match="must take time"):
        fit_time_model(np.array([7.0, 7, 7]), one, one, one)


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(InputError, match=r"one length. Got \[2, 2, 2, 1\]"):
        fit_time_model(np.array([0.0, 1]), np.zeros(2), np.zeros(2), np.zeros(1))


def test_the_y1_session_gives_its_known_seconds_and_steps() -> None:
    session = load_builtin("y1", split="all")
    exposures = session.exposures.merge(session.holes[["hole_id", "patch_id"]], on="hole_id")
    exposures = exposures.merge(session.patches, on="patch_id").merge(session.squares, on="square_id")
    started_s = (exposures["started_at"] - exposures["started_at"].min()).dt.total_seconds().to_numpy()
    columns = ("patch_id", "square_id", "grid_id", "hole_id")
    fit = fit_time_model(started_s, *(exposures[column].to_numpy() for column in columns))
    np.testing.assert_array_equal(fit.events, [3817, 171, 6, 22])
    np.testing.assert_allclose(fit.seconds, [91, 185, 186, 194], rtol=0.01)
    assert fit.untimed == 0
    assert [text for text in fit.warnings if "new square" in text] == list(fit.warnings)
