"""Forecasts of good micrographs: their mean, their intervals, and how often the truth lies in these."""

from __future__ import annotations

import numpy as np
import pytest
from effect_references import make_tree, prior_covariance, trees
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from cryoscout.belief.counts import (
    CountForecast,
    draw_probabilities,
    draw_truths,
    forecast_count,
    nearest_interval,
)
from cryoscout.belief.effects import Y1_EFFECTS, Y1_FLAT_EFFECTS, EffectBelief, EffectVariances
from examples import slow_but

NO_EFFECTS = EffectVariances(patch=0.0, square=0.0, grid=0.0)


def new_belief(tree, effects, holes_per_patch=10, seed=0, spread=1.5):
    """A belief before any outcome; locations are drawn."""
    patch_of_hole = np.repeat(np.arange(len(tree.square_of_patch), dtype=np.int32), holes_per_patch)
    location = np.random.default_rng(seed).normal(-0.5, spread, len(patch_of_hole))
    return EffectBelief(location, patch_of_hole, tree, effects)


@given(trees(), st.sampled_from([Y1_EFFECTS, Y1_FLAT_EFFECTS]), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_intervals_are_nested_whole_numbers_between_none_and_all(tree, effects, shots, seed):
    rng = np.random.default_rng(seed)
    belief = new_belief(tree, effects, seed=seed)
    holes = rng.permutation(belief.n_holes)[: rng.integers(1, belief.n_holes + 1)]
    forecast = forecast_count(belief, holes, shots, rng, draws=200)
    low_80, low_50 = forecast.interval_80[0], forecast.interval_50[0]
    high_50, high_80 = forecast.interval_50[1], forecast.interval_80[1]
    assert 0 <= low_80 <= low_50 <= high_50 <= high_80 <= shots * len(holes)
    assert all(end == int(end) for end in (*forecast.interval_50, *forecast.interval_80))
    assert 0.0 < forecast.expected < shots * len(holes)


def test_no_holes_give_no_micrographs_for_certain():
    belief = new_belief(make_tree([[2]]), Y1_EFFECTS)
    forecast = forecast_count(belief, np.array([], dtype=np.int64), 1, np.random.default_rng(0))
    assert forecast == CountForecast(0.0, (0.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize(
    ("effects", "off"), [(NO_EFFECTS, 0.0), (Y1_EFFECTS, 0.006), (Y1_FLAT_EFFECTS, 0.01)]
)
def test_the_expected_count_is_the_mean_of_drawn_counts(effects, off, shots):
    belief = new_belief(make_tree([[3, 2], [3]]), effects, seed=1)
    belief.observe_many(np.arange(0, 40), (np.arange(40) % 3 == 0).astype(float))
    holes = np.arange(40, 80)
    drawn = draw_truths(belief, 4000, shots, np.random.default_rng(0), holes).sum(axis=1)
    forecast = forecast_count(belief, holes, shots, np.random.default_rng(0))
    assert forecast.expected == pytest.approx(shots * belief.p_good()[holes].sum())
    # p_good is approximate by as much as marginal_probability says, the draws are not.
    slack = off * shots * len(holes) + 4.0 * drawn.std() / np.sqrt(4000)
    assert forecast.expected == pytest.approx(drawn.mean(), abs=slack)


def test_without_effects_the_intervals_are_those_of_the_binomial_distribution():
    belief = EffectBelief(np.full(100, 0.4), np.zeros(100, np.int32), make_tree([[1]]), NO_EFFECTS)
    forecast = forecast_count(belief, np.arange(100), 2, np.random.default_rng(0), draws=20000)
    quantiles = binom(200, expit(0.4)).ppf([0.1, 0.25, 0.75, 0.9])
    assert forecast.interval_80 == pytest.approx((quantiles[0], quantiles[3]), abs=1)
    assert forecast.interval_50 == pytest.approx((quantiles[1], quantiles[2]), abs=1)


def share_inside(counts, interval):
    return sum(interval[0] <= count <= interval[1] for count in counts) / len(counts)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.sampled_from([0.5, 0.8]))
def test_an_interval_holds_the_share_nearest_to_the_one_asked_among_its_neighbours(counts, probability):
    counts = np.array(counts)
    low, high = nearest_interval(counts, probability)
    tail = (1.0 - probability) / 2.0
    first, last = np.quantile(counts, [tail, 1.0 - tail], method="nearest")
    assert first <= low <= high <= last
    assert low - first <= 1
    assert last - high <= 1
    off = [
        abs(share_inside(counts, (a, b)) - probability)
        for a in (first, first + 1)
        for b in (last, last - 1)
        if a <= b
    ]
    assert abs(share_inside(counts, (low, high)) - probability) == pytest.approx(min(off), abs=1e-12)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_the_wider_interval_lies_around_the_narrower_one(counts):
    inner = nearest_interval(np.array(counts), 0.5)
    outer = nearest_interval(np.array(counts), 0.8, around=inner)
    assert outer[0] <= inner[0] <= inner[1] <= outer[1]


def test_errors_of_the_fit_widen_the_draws_by_their_loadings_and_move_holes_together():
    belief = new_belief(make_tree([[2], [2]]), NO_EFFECTS, seed=4)
    holes = np.array([3, 30])
    loadings = np.random.default_rng(5).normal(0.0, 0.6, (belief.n_holes, 3))
    p = draw_probabilities(belief, 20000, np.random.default_rng(6), holes, loadings)
    logits = np.log(p) - np.log1p(-p)
    np.testing.assert_allclose(logits.mean(axis=0), belief.location[holes], atol=0.05)
    np.testing.assert_allclose(np.cov(logits.T), loadings[holes] @ loadings[holes].T, atol=0.06)
    low, high = forecast_count(belief, np.arange(40), 1, np.random.default_rng(7)).interval_80
    shared = np.full((belief.n_holes, 1), 0.8)
    wide = forecast_count(belief, np.arange(40), 1, np.random.default_rng(7), loadings=shared).interval_80
    assert wide[1] - wide[0] > 1.3 * (high - low)


def test_a_fit_taken_as_exact_has_the_draws_of_no_loadings():
    belief = new_belief(make_tree([[2, 1]]), Y1_FLAT_EFFECTS, seed=5)
    exact = draw_truths(belief, 20, 2, np.random.default_rng(1), loadings=np.empty((belief.n_holes, 0)))
    assert np.array_equal(exact, draw_truths(belief, 20, 2, np.random.default_rng(1)))


def test_holes_that_share_a_patch_are_less_certain_together_than_holes_that_do_not():
    location, holes = np.zeros(40), np.arange(40)
    one_patch = EffectBelief(location, np.zeros(40, np.int32), make_tree([[1]]), Y1_EFFECTS)
    many = EffectBelief(location, np.arange(40, dtype=np.int32), make_tree([[1] * 40]), Y1_EFFECTS)
    widths = []
    for belief in (one_patch, many):
        low, high = forecast_count(belief, holes, 1, np.random.default_rng(0)).interval_80
        widths.append(high - low)
    assert widths[0] > 1.8 * widths[1]


def test_drawn_truths_are_binomial_draws_of_the_drawn_probabilities():
    belief = new_belief(make_tree([[2, 1]]), Y1_FLAT_EFFECTS, seed=2)
    holes = np.array([29, 0, 7])
    effects = belief.draw_effects(50, np.random.default_rng(4))
    p = draw_probabilities(belief, 50, np.random.default_rng(4), holes)
    np.testing.assert_allclose(p, expit(belief.location[holes] + effects[:, belief.patch_of_hole[holes]]))
    truths = draw_truths(belief, 50, 3, np.random.default_rng(4), holes)
    assert truths.shape == (50, 3)
    assert set(np.unique(truths)) <= {0, 1, 2, 3}
    assert draw_probabilities(belief, 2, np.random.default_rng(4)).shape == (2, belief.n_holes)
    many = draw_truths(belief, 20000, 3, np.random.default_rng(5), holes)
    truth_p = draw_probabilities(belief, 20000, np.random.default_rng(6), holes)
    np.testing.assert_allclose(many.mean(axis=0) / 3, truth_p.mean(axis=0), atol=0.015)


def test_the_same_seed_gives_the_same_forecast_and_another_seed_another():
    belief = new_belief(make_tree([[4], [4]]), Y1_FLAT_EFFECTS, seed=3)
    forecasts = [
        forecast_count(belief, np.arange(80), 3, np.random.default_rng(seed), draws=100) for seed in (1, 1, 2)
    ]
    assert forecasts[0] == forecasts[1]
    assert forecasts[0] != forecasts[2]


@pytest.mark.parametrize("effects", slow_but([Y1_FLAT_EFFECTS], [Y1_EFFECTS, Y1_FLAT_EFFECTS]))
def test_the_truth_lies_in_the_intervals_as_often_as_they_say(effects):
    """Sessions drawn from the model itself; a third of the holes is imaged, the rest is forecast."""
    tree, sessions = make_tree([[2, 2], [3, 1]]), 400
    covariance = prior_covariance(tree, effects)
    inside_50 = inside_80 = 0
    for rng in np.random.default_rng(0).spawn(sessions):
        belief = new_belief(tree, effects, holes_per_patch=15, seed=int(rng.integers(2**32)))
        truth = rng.multivariate_normal(np.zeros(len(covariance)), covariance, method="cholesky")[
            belief.patch_of_hole
        ]
        good = (rng.random(belief.n_holes) < expit(belief.location + truth)).astype(float)
        order = rng.permutation(belief.n_holes)
        told, ahead = order[:40], order[40:]
        belief.observe_many(told, good[told])
        forecast = forecast_count(belief, ahead, 1, rng, draws=500)
        found = good[ahead].sum()
        inside_50 += forecast.interval_50[0] <= found <= forecast.interval_50[1]
        inside_80 += forecast.interval_80[0] <= found <= forecast.interval_80[1]
    # Three standard errors of 400 sessions either way.
    assert 0.425 < inside_50 / sessions < 0.575
    assert 0.74 < inside_80 / sessions < 0.86
