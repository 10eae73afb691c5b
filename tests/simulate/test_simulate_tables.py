from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import expit
from scipy.stats import spearmanr

from cryoscout.core.errors import InputError
from cryoscout.routing.time_fit import fit_time_model
from cryoscout.routing.time_model import PRESETS
from cryoscout.simulate.layout import lay_out, rank_in_parent
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.tables import SimulatedTables, _smooth_field, simulate_tables

LARGE = SimulationSettings(holes=60_000, squares_per_grid=4)


def arrays_of(tables: SimulatedTables) -> dict[str, NDArray[np.generic]]:
    return {
        field.name: value
        for field in fields(tables)
        if isinstance(value := getattr(tables, field.name), np.ndarray)
    }


def shares(smallest: float, largest: float) -> st.SearchStrategy[float]:
    return st.floats(smallest, largest, allow_nan=False)


any_settings = st.builds(
    SimulationSettings,
    holes=st.integers(1, 400),
    holes_per_patch=shares(1, 50),
    patches_per_square=shares(1, 10),
    squares_per_grid=shares(1, 10),
    holes_per_patch_spread=shares(0, 3),
    squares_per_grid_spread=shares(0, 3),
    share_good=shares(0.01, 0.95),
    failed_fit_share=shares(0, 0.05),
    patch_effect_sd=shares(0, 10),
    field_sd=st.sampled_from([0.0, 1.0]),
    field_length_um=shares(0.01, 1e4),
    classifier_accuracy=shares(0.5, 0.999),
    classifier_overconfidence=shares(0.1, 100),
    shots=st.integers(1, 4),
    time_model=st.sampled_from(list(PRESETS.values())),
    time_jitter_sd=shares(0, 2),
    pause_share=shares(0, 0.9),
)


@given(wanted=any_settings, seed=st.integers(0, 2**40))
def test_any_settings_give_consistent_tables(wanted: SimulationSettings, seed: int) -> None:
    tables = simulate_tables(wanted, seed)
    n, shots = wanted.holes, wanted.shots
    assert tables.n_holes == n
    problem = tables.problem(budget_min=60)  # refuses an unsorted tree and probabilities out of range
    assert np.all(np.diff(problem.grid_of_hole) >= 0)
    assert len(np.unique(tables.patch_of_hole)) == wanted.patches == len(tables.square_of_patch)
    assert len(np.unique(tables.square_of_patch)) == wanted.squares == len(tables.grid_of_square)
    assert len(np.unique(tables.grid_of_square)) == wanted.grids
    assert (
        tables.patch_of_hole.dtype == tables.square_of_patch.dtype == tables.grid_of_square.dtype == np.int32
    )

    ctf = tables.ctf_max_res_angstrom
    assert ctf.shape == tables.started_s.shape == (n, shots)
    np.testing.assert_array_equal((ctf <= 6.0).sum(axis=1), tables.good)
    assert np.all(np.isinf(ctf) | ((ctf > 2) & (ctf < 30)))
    assert np.all(np.isfinite(tables.true_logit))
    assert np.all(np.diff(tables.started_s.ravel()) >= 0)
    assert tables.started_s[0, 0] > 0

    positions = np.column_stack([problem.grid_of_hole, tables.x_um, tables.y_um]).round(6)
    assert len(np.unique(positions, axis=0)) == n, "two holes at one place"
    truth = tables.truth()
    assert truth.measured.all()
    assert truth.good.max() <= shots


def test_the_same_seed_gives_the_same_tables_and_another_seed_others() -> None:
    wanted = SimulationSettings(holes=500, shots=2)
    first, again, other = (arrays_of(simulate_tables(wanted, seed)) for seed in (7, 7, 8))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    for name in ("x_um", "true_logit", "good", "score", "started_s"):
        assert not np.array_equal(first[name], other[name]), name


def test_another_classifier_and_time_model_leave_the_truth_as_it_is() -> None:
    wanted = SimulationSettings(holes=500)
    other = SimulationSettings(holes=500, classifier_accuracy=0.7, time_model=PRESETS["cryorl-code"])
    tables, changed = arrays_of(simulate_tables(wanted, 1)), arrays_of(simulate_tables(other, 1))
    for name in tables.keys() - {"score", "started_s"}:
        np.testing.assert_array_equal(tables[name], changed[name])
    assert not np.array_equal(tables["score"], changed["score"])


def test_another_field_leaves_the_places_and_times_as_they_are() -> None:
    tables = simulate_tables(SimulationSettings(holes=500), 1)
    flat = simulate_tables(SimulationSettings(holes=500, field_sd=0), 1)
    np.testing.assert_array_equal(tables.x_um, flat.x_um)
    np.testing.assert_array_equal(tables.started_s, flat.started_s)
    assert not np.array_equal(tables.true_logit, flat.true_logit)


@pytest.mark.parametrize("level", ["hole", "patch", "square", "grid"])
def test_each_effect_alone_has_the_asked_deviation_and_is_shared_by_its_level(level: str) -> None:
    deviations = {f"{name}_effect_sd": 1.5 * (name == level) for name in ("hole", "patch", "square", "grid")}
    wanted = SimulationSettings(
        holes=40_000, holes_per_patch=4, patches_per_square=4, squares_per_grid=4, field_sd=0, **deviations
    )
    tables = simulate_tables(wanted, 11)
    problem = tables.problem(budget_min=60)
    member = {
        "hole": np.arange(40_000),
        "patch": tables.patch_of_hole,
        "square": problem.square_of_hole,
        "grid": problem.grid_of_hole,
    }[level]
    first = np.flatnonzero(np.diff(member, prepend=-1))
    np.testing.assert_array_equal(tables.true_logit, tables.true_logit[first][member])
    assert tables.true_logit[first].std() == pytest.approx(1.5, rel=0.06)


def test_better_holes_have_lower_ctf_resolutions_among_the_good_and_among_the_bad() -> None:
    tables = simulate_tables(LARGE.model_copy(update={"failed_fit_share": 0.0}), 12)
    ctf = tables.ctf_max_res_angstrom[:, 0]
    for members in (ctf <= 6, ctf > 6):
        assert spearmanr(ctf[members], tables.true_logit[members]).statistic < -0.2


@pytest.mark.parametrize("accuracy", [0.5, 0.7, 0.885, 0.98])
def test_the_classifier_is_as_accurate_as_asked_on_good_and_on_bad_holes(accuracy: float) -> None:
    tables = simulate_tables(LARGE.model_copy(update={"classifier_accuracy": accuracy}), 2)
    says_good, is_good = tables.score >= 0.5, tables.good > 0
    if accuracy == 0.5:
        assert np.all(tables.score == 0.5)
        return
    assert np.mean(says_good[is_good]) == pytest.approx(accuracy, abs=0.01)
    assert np.mean(~says_good[~is_good]) == pytest.approx(accuracy, abs=0.01)


def test_without_overconfidence_and_with_half_of_the_holes_good_the_score_is_calibrated() -> None:
    wanted = LARGE.model_copy(update={"share_good": 0.5, "classifier_overconfidence": 1.0})
    tables = simulate_tables(wanted, 3)
    for low in np.arange(0, 1, 0.1):
        inside = (tables.score >= low) & (tables.score < low + 0.1)
        assert tables.good[inside].mean() == pytest.approx(tables.score[inside].mean(), abs=0.03)


def test_an_overconfident_score_is_too_sure() -> None:
    tables = simulate_tables(LARGE.model_copy(update={"share_good": 0.5, "classifier_overconfidence": 3}), 3)
    sure = tables.score > 0.9
    assert tables.good[sure].mean() < tables.score[sure].mean() - 0.02


@pytest.mark.parametrize("share", [0.05, 0.379, 0.9])
@pytest.mark.parametrize("shots", [1, 3])
def test_the_share_of_good_and_of_failed_exposures_is_as_asked(share: float, shots: int) -> None:
    wanted = LARGE.model_copy(update={"share_good": share, "shots": shots, "failed_fit_share": 0.04})
    tables = simulate_tables(wanted, 4)
    assert tables.good.mean() / shots == pytest.approx(share, abs=0.01)
    assert np.isinf(tables.ctf_max_res_angstrom).mean() == pytest.approx(0.04, abs=0.004)


def test_outcomes_follow_the_true_logit() -> None:
    tables = simulate_tables(LARGE, 5)
    p_true = expit(tables.true_logit)
    for low in np.arange(0, 1, 0.1):
        inside = (p_true >= low) & (p_true < low + 0.1)
        assert tables.good[inside].mean() == pytest.approx(p_true[inside].mean(), abs=0.03)


def test_the_field_has_the_asked_deviation_and_correlation_and_grids_do_not_share_it() -> None:
    wanted = SimulationSettings(holes=100_000, squares_per_grid=2, field_sd=0.8, field_length_um=6.0)
    layout = lay_out(wanted, np.random.default_rng(1))
    field = _smooth_field(wanted, layout, np.random.default_rng(2))
    assert field.std() == pytest.approx(0.8, rel=0.05)
    column = rank_in_parent(layout.patch_of_hole)
    for apart in (1, 2, 4):
        here = np.flatnonzero(column[:-apart] + apart == column[apart:])
        there = here + apart
        in_row = layout.y_um[here] == layout.y_um[there]
        found = np.corrcoef(field[here[in_row]], field[there[in_row]])[0, 1]
        distance_um = apart * wanted.hole_pitch_um
        assert found == pytest.approx(np.exp(-0.5 * (distance_um / 6.0) ** 2), abs=0.06)

    grid_of_hole = layout.grid_of_square[layout.square_of_patch][layout.patch_of_hole]
    first_of_grid = np.flatnonzero(np.diff(grid_of_hole, prepend=-1))
    one_per_grid = field[first_of_grid]
    assert abs(np.corrcoef(one_per_grid[:-1], one_per_grid[1:])[0, 1]) < 0.25


def test_more_shots_of_a_hole_agree_more_than_shots_of_different_holes() -> None:
    wanted = LARGE.model_copy(update={"shots": 2, "hole_effect_sd": 2.0, "patch_effect_sd": 0.0})
    is_good = simulate_tables(wanted, 6).ctf_max_res_angstrom <= 6
    same_hole = np.mean(is_good[:, 0] == is_good[:, 1])
    next_hole = np.mean(is_good[1:, 0] == is_good[:-1, 1])
    assert same_hole > next_hole + 0.05


@pytest.mark.parametrize("name", ["cryorl", "cryorl-code"])
def test_the_fitted_time_model_recovers_the_simulated_one(name: str) -> None:
    model = PRESETS[name].model_copy(update={"extra_shot_min": 0.4, "per_square_overhead_min": 1.5})
    wanted = LARGE.model_copy(update={"time_model": model, "shots": 2, "pause_share": 0.05})
    tables = simulate_tables(wanted, 9)
    square_of_hole = tables.square_of_patch[tables.patch_of_hole]
    places = (tables.patch_of_hole, square_of_hole, tables.grid_of_square[square_of_hole])
    per_exposure = [np.repeat(level, 2) for level in (*places, np.arange(tables.n_holes))]
    fit = fit_time_model(tables.started_s.ravel(), *per_exposure)
    np.testing.assert_allclose(fit.time_model.tiers_min(2), model.tiers_min(2), rtol=0.05)
    assert fit.time_model.extra_shot_min == pytest.approx(0.4, rel=0.05)


def test_even_parents_share_their_children_out_evenly() -> None:
    even = SimulationSettings(
        holes=1000, holes_per_patch=10, holes_per_patch_spread=0, patches_per_square_spread=0
    )
    np.testing.assert_array_equal(np.bincount(lay_out(even, np.random.default_rng(0)).patch_of_hole), 10)


def test_rank_counts_from_zero_in_every_run() -> None:
    parent = np.array([0, 0, 1, 2, 2, 2], dtype=np.int32)
    np.testing.assert_array_equal(rank_in_parent(parent), [0, 1, 0, 0, 1, 2])


def test_settings_and_seeds_out_of_range_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"at most 1 - share_good = 0\.100"):
        SimulationSettings(share_good=0.9, failed_fit_share=0.2)
    with pytest.raises(ValidationError, match="classifier_accuracy"):
        SimulationSettings(classifier_accuracy=0.4)
    with pytest.raises(InputError, match="seed must be 0 or more"):
        simulate_tables(SimulationSettings(holes=10), -1)
