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


@pytest.mark.parametrize(
    "name", sorted(set(PRESETS) - {"y1-looks-as-sketched"})
)  # of which two tiers are one
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


def one_square_change(gap_s: float, visit_s: float = 40.0) -> FittedTimeModel:
    """40 exposures, half in each of two squares, with one gap at the change."""
    steps_s = np.full(39, visit_s)
    steps_s[19] = gap_s
    place = np.repeat([0, 1], 20)
    return fit_time_model(np.concatenate([[0], np.cumsum(steps_s)]), place, place, np.zeros(40, dtype=int))


def test_a_night_at_the_only_change_of_square_is_a_pause_and_the_square_is_filled() -> None:
    fit = one_square_change(36_040.0)
    np.testing.assert_allclose(fit.seconds, [40, 100, 200, 400])
    np.testing.assert_array_equal(fit.events, [38, 0, 1, 0])
    np.testing.assert_array_equal(fit.pauses, [0, 0, 1, 0])
    np.testing.assert_array_equal(fit.measured, [True, False, False, False])
    np.testing.assert_array_equal(fit.well_measured, fit.measured)
    assert (
        "Tier 'new square' has no timed step but 1 longer than 1800 s, set apart as pauses; it is filled with "
        "200 s from the 40 s of 'same patch'."
    ) in fit.warnings
    assert fit.warnings[0].startswith(
        "Measured tiers: same patch 40 s; filled by the ratios of cryorl: new patch 100 s, "
    )


@pytest.mark.parametrize(
    ("gap_s", "visit_s", "is_pause"),
    # beside cryorl's 10 min for a square: at most 30 min; ten times slower visits give 3 x 5 x 400 s
    [(1800, 40, False), (1801, 40, True), (6000, 400, False), (6001, 400, True)],
)
def test_a_single_step_is_a_pause_beyond_three_times_what_the_other_tiers_let_expect(
    gap_s: float, visit_s: float, is_pause: bool
) -> None:
    fit = one_square_change(gap_s, visit_s)
    assert fit.pauses[2] == is_pause
    assert fit.seconds[2] == pytest.approx(5 * visit_s if is_pause else gap_s)


def test_two_nights_of_three_steps_leave_the_third() -> None:
    steps_s = np.full(80, 40.0)
    steps_s[[20, 40, 60]] = 30_000, 300, 40_000
    square = np.searchsorted([21, 41, 61], np.arange(81), side="right")
    fit = fit_time_model(np.concatenate([[0], np.cumsum(steps_s)]), square, square, np.zeros(81, dtype=int))
    assert (fit.seconds[2], fit.events[2], fit.pauses[2]) == (300, 3, 2)
    said = "Tier 'new square', 300 s, rests on 1 of 3 timed steps, fewer than 10, the others set apart as pauses."
    assert said in fit.warnings


def test_missing_tiers_are_filled_by_the_ratios_of_the_preset_and_it_is_said_which() -> None:
    fit = small([0, 90, 180, 380], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0])
    # cryorl: 2, 5, 10, 20 min
    np.testing.assert_allclose(fit.seconds, [90, 200, 400, 800])
    np.testing.assert_array_equal(fit.events, [2, 1, 0, 0])
    np.testing.assert_array_equal(fit.measured, [True, True, False, False])
    np.testing.assert_allclose(fit.time_model.tiers_min() * 60, fit.seconds)
    assert len(fit.warnings) == 3
    assert fit.warnings[0] == (
        "Measured tiers: same patch 90 s, new patch 200 s; filled by the ratios of cryorl: new square 400 s, "
        "new grid 800 s. Remedy: name your own with --time-model 0.5,1,2,8, or a preset."
    )
    assert "rests on 2 timed steps, fewer than 10" in fit.warnings[1]


def test_a_session_within_one_patch_gets_the_presets_whole_shape() -> None:
    one = np.zeros(30, dtype=int)
    fit = fit_time_model(np.arange(30.0) * 40, one, one, one)
    np.testing.assert_allclose(fit.seconds, [40, 100, 200, 400])
    np.testing.assert_allclose(fit.seconds / fit.seconds[0], np.array([2, 5, 10, 20]) / 2)


def test_a_missing_lowest_tier_is_filled_from_the_lowest_measured_one() -> None:
    fit = small([0, 200, 400], [0, 1, 2], [0, 0, 0], [0, 0, 0])
    np.testing.assert_allclose(fit.seconds, [80, 200, 400, 800])
    assert fit.warnings[0].startswith(
        "Measured tiers: new patch 200 s; filled by the ratios of cryorl: same patch 80 s, "
    )


def test_a_filled_tier_never_contradicts_a_measured_one() -> None:
    # same patch 90 s, new grid 100 s: the tiers between them have no room for 225 and 450 s
    fit = small([0, 90, 190], [0, 0, 1], [0, 0, 1], [0, 0, 1])
    np.testing.assert_allclose(fit.seconds, [90, 100, 100, 100])
    np.testing.assert_array_equal(fit.measured, [True, False, False, True])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5000)), min_size=1, max_size=12),
)
def test_filled_tiers_do_not_decrease_and_leave_measured_ones_as_they_are(
    steps: list[tuple[int, int]],
) -> None:
    tiers = np.array([tier for tier, _ in steps])
    started_s = np.concatenate([[0], np.cumsum([seconds for _, seconds in steps])]).astype(float)
    patch, square, grid = (np.concatenate([[0], np.cumsum(tiers >= level)]) for level in (1, 2, 3))
    fit = fit_time_model(started_s, patch, square, grid)
    assert np.all(np.diff(fit.seconds) >= 0)
    np.testing.assert_array_equal(fit.events > 0, np.isin(np.arange(4), tiers))
    assert np.all(fit.events[fit.measured] > 0)
    measured_s = fit.seconds[fit.measured]
    for level in np.flatnonzero(~fit.measured):
        below, above = fit.seconds[:level][fit.measured[:level]], fit.seconds[level:][fit.measured[level:]]
        assert (below[-1] if len(below) else 0) <= fit.seconds[level] <= (above[0] if len(above) else np.inf)
    assert 1 <= len(measured_s) <= len(set(tiers.tolist()))
    said = any("filled by the ratios of cryorl" in text for text in fit.warnings)
    assert said == (not fit.measured.all())


def test_tiers_out_of_order_are_pooled_by_their_steps_and_said() -> None:
    # 3 new patches of 200 s each, then one new square of 100 s: pooled to 175 s
    fit = small([0, 90, 290, 490, 690, 790], [0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 0, 1], [0] * 6)
    np.testing.assert_allclose(fit.seconds, [90, 175, 175, 350])
    assert any("'new square' took 100 s, out of order" in text for text in fit.warnings)


def test_ids_that_repeat_in_another_parent_are_another_place() -> None:
    fit = small([0, 10, 30, 60], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1])
    np.testing.assert_array_equal(fit.events, [1, 0, 1, 1])


def test_ids_may_be_text() -> None:
    names = np.array(["a", "a", "b"], dtype=object)
    fit = fit_time_model(np.array([0.0, 90, 280]), names, names, names)
    np.testing.assert_array_equal(fit.seconds, [90, 190, 190, 190])


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
    assert len(fit.warnings) == 1
    assert fit.measured.all()
