"""The belief is judged by brute force: its posterior, its probabilities, its likelihood, in every order of outcomes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from effect_references import (
    dense_posterior,
    exact_on_a_fine_grid,
    exact_posterior,
    make_tree,
    prior_covariance,
    trees,
    variances,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import expit

from cryoscout.belief.effects import (
    Y1_EFFECTS,
    Y1_FLAT_EFFECTS,
    EffectBelief,
    EffectVariances,
    location_of,
    log_marginal_likelihood,
    log_marginal_likelihood_and_gradient,
    marginal_probability,
)
from cryoscout.belief.mixture import ASSUMPTIONS

NEW_SESSION = EffectVariances(patch=0.5, square=0.5, grid=0.0, session=1.0)
SHAPES = ([[1]], [[2]], [[1], [1]], [[2, 1]])
seeds = st.integers(0, 2**32 - 1)
priors = st.sampled_from([Y1_EFFECTS, Y1_FLAT_EFFECTS])


class Case:
    """A session drawn from the model itself, with the outcomes of about two thirds of its holes known."""

    def __init__(self, tree, effects, holes_per_patch=5, shots=1, seed=0, spread=1.5):
        rng = np.random.default_rng(seed)
        self.tree, self.effects, self.shots = tree, effects, shots
        self.covariance = prior_covariance(tree, effects)
        n_patches = len(self.covariance)
        self.patch_of_hole = np.repeat(np.arange(n_patches, dtype=np.int32), holes_per_patch)
        self.location = rng.normal(-0.5, spread, len(self.patch_of_hole))
        truth = rng.multivariate_normal(np.zeros(n_patches), self.covariance, method="eigh")
        self.good = rng.binomial(shots, expit(self.location + truth[self.patch_of_hole])).astype(float)
        self.known = np.flatnonzero(rng.random(len(self.good)) < 0.67)

    def belief(self):
        return EffectBelief(self.location, self.patch_of_hole, self.tree, self.effects)

    def belief_at_convergence(self):
        belief = self.belief()
        belief.observe_many(self.known, self.good[self.known], self.shots)
        return belief

    def exact(self):
        known = np.full(len(self.good), np.nan)
        known[self.known] = self.good[self.known]
        return exact_posterior(
            self.location, self.patch_of_hole, known, self.shots, self.covariance, nodes=25
        )


def same_belief(first, second, tolerance=1e-9):
    np.testing.assert_allclose(first.mean, second.mean, atol=tolerance)
    np.testing.assert_allclose(first.variance, second.variance, atol=tolerance)


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize(
    ("effects", "mean_off", "variance_off", "log_likelihood_off", "p_good_off"),
    [
        (Y1_EFFECTS, 0.002, 0.015, 0.01, 0.006),
        (NEW_SESSION, 0.004, 0.04, 0.02, 0.01),
        (Y1_FLAT_EFFECTS, 0.01, 0.12, 0.04, 0.015),
    ],
)
def test_the_posterior_is_that_of_brute_force_integration(
    effects, mean_off, variance_off, log_likelihood_off, p_good_off, shots
):
    for shape in SHAPES:
        for holes_per_patch in (1, 4, 10):
            for seed in range(3):
                case = Case(make_tree(shape), effects, holes_per_patch, shots, seed)
                belief, exact = case.belief_at_convergence(), case.exact()
                np.testing.assert_allclose(belief.mean, exact.mean, atol=mean_off)
                np.testing.assert_allclose(belief.variance, exact.variance, atol=variance_off)
                np.testing.assert_allclose(belief.p_good(), exact.p_good, atol=p_good_off)
                assert belief.log_likelihood() == pytest.approx(exact.log_likelihood, abs=log_likelihood_off)


def test_one_outcome_of_one_hole_has_the_posterior_of_one_integral():
    case = Case(make_tree([[1]]), EffectVariances(patch=1.0, square=0.0, grid=0.0), holes_per_patch=1)
    belief = case.belief()
    belief.observe(0, 1.0)
    e = np.linspace(-12.0, 12.0, 20001)
    posterior = expit(case.location[0] + e) * np.exp(-0.5 * e**2)
    mean = (posterior @ e) / posterior.sum()
    assert belief.mean[0] == pytest.approx(mean, abs=1e-7)
    assert belief.variance[0] == pytest.approx((posterior @ (e - mean) ** 2) / posterior.sum(), abs=1e-7)
    mass = posterior.sum() * (e[1] - e[0]) / math.sqrt(2 * math.pi)
    assert belief.log_likelihood() == pytest.approx(math.log(mass), abs=1e-7)


def test_before_any_outcome_the_belief_is_the_prior():
    case = Case(make_tree([[2, 1], [1]]), NEW_SESSION)
    belief = case.belief()
    assert np.all(belief.mean == 0.0)
    np.testing.assert_allclose(belief.variance, NEW_SESSION.total)
    assert belief.log_likelihood() == 0.0
    belief.observe_many(np.array([], dtype=np.int64), np.array([]))
    np.testing.assert_allclose(belief.variance, NEW_SESSION.total)


def test_without_effects_outcomes_change_nothing_and_their_likelihood_is_a_product():
    case = Case(make_tree([[2], [1]]), EffectVariances(patch=0.0, square=0.0, grid=0.0), seed=3)
    belief = case.belief_at_convergence()
    assert np.all(belief.mean == 0.0)
    assert np.all(belief.variance == 0.0)
    np.testing.assert_allclose(belief.p_good(), expit(case.location))
    p, good = expit(case.location[case.known]), case.good[case.known]
    assert belief.log_likelihood() == pytest.approx(np.log(np.where(good == 1, p, 1 - p)).sum())


def test_the_evidence_of_the_sites_has_the_marginals_of_a_dense_gaussian():
    case = Case(make_tree([[3, 2], [1, 4]]), Y1_FLAT_EFFECTS, seed=4)
    belief = case.belief_at_convergence()
    mean, covariance, _ = dense_posterior(case.covariance, belief._evidence)
    np.testing.assert_allclose(belief.mean, mean, atol=1e-9)
    np.testing.assert_allclose(belief.variance, np.diag(covariance), atol=1e-9)


# Taking in outcomes ---------------------------------------------------------------------------------------------


@given(trees(), priors, st.sampled_from([1, 3, 10]), seeds, st.randoms(use_true_random=False))
def test_outcomes_one_at_a_time_in_any_order_give_the_belief_of_all_at_once(
    tree, effects, shots, seed, random
):
    case = Case(tree, effects, shots=shots, seed=seed, spread=3.0)
    at_once, one_by_one = case.belief_at_convergence(), case.belief()
    order = case.known.tolist()
    random.shuffle(order)
    for hole in order:
        one_by_one.observe(hole, case.good[hole], shots)
    np.testing.assert_allclose(one_by_one.p_good(), at_once.p_good(), atol=1e-6)
    assert one_by_one.log_likelihood() == pytest.approx(at_once.log_likelihood(), abs=1e-6)


@given(trees(), priors, seeds, st.randoms(use_true_random=False))
def test_shots_one_at_a_time_give_the_belief_of_all_shots_at_once(tree, effects, seed, random):
    case = Case(tree, effects, holes_per_patch=2, shots=4, seed=seed, spread=3.0)
    shots = [hole for hole in case.known.tolist() for _ in range(case.shots)]
    random.shuffle(shots)
    belief, told, good = case.belief(), dict.fromkeys(shots, 0), dict.fromkeys(shots, 0.0)
    for hole in shots:
        told[hole] += 1
        good[hole] = min(float(told[hole]), case.good[hole])
        belief.observe(hole, good[hole], told[hole])
    np.testing.assert_allclose(belief.p_good(), case.belief_at_convergence().p_good(), atol=1e-6)


def test_a_hole_without_a_result_any_more_is_forgotten():
    case = Case(make_tree([[2], [1]]), Y1_FLAT_EFFECTS, seed=5)
    belief = case.belief_at_convergence()
    belief.observe_many(case.known, np.zeros(len(case.known)), 0)
    same_belief(belief, case.belief())
    assert belief.log_likelihood() == 0.0


# Many shots ----------------------------------------------------------------------------------------------------

TRUSTED = [
    (slope, EffectVariances(patch=of.patch * k, square=of.square * k, grid=of.grid * k, session=session))
    for of in (Y1_EFFECTS, Y1_FLAT_EFFECTS)
    for slope, k, session in ASSUMPTIONS
]
"""Slope of the logits and prior of every belief that the program makes, those of `adaptive-trust` included."""


class ManyShots:
    """A small tree with up to 30 results per hole; in every second case the scores are confident and wrong."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        squares = [rng.integers(1, 4, rng.integers(1, 3)).tolist() for _ in range(rng.integers(1, 3))]
        self.tree, (slope, self.effects) = make_tree(squares), TRUSTED[rng.integers(len(TRUSTED))]
        n_patches = len(self.tree.square_of_patch)
        self.patch_of_hole = np.repeat(np.arange(n_patches, dtype=np.int32), rng.integers(1, 5))
        score = np.clip(rng.beta(0.5, 0.5, len(self.patch_of_hole)), 0.005, 0.995)
        self.location = slope * location_of(score, self.effects.total)
        shots = rng.choice([1, 3, 4, 5, 8, 10, 30])
        covariance = prior_covariance(self.tree, self.effects)
        effect = rng.multivariate_normal(np.zeros(n_patches), covariance, method="eigh")
        p = 1.0 - score if rng.random() < 0.5 else expit(self.location + effect[self.patch_of_hole])
        self.shots = np.where(rng.random(len(score)) < 0.67, shots, 0).astype(float)
        self.good = rng.binomial(self.shots.astype(int), p).astype(float)
        self.known = rng.permutation(np.flatnonzero(self.shots))

    def belief(self):
        return EffectBelief(self.location, self.patch_of_hole, self.tree, self.effects)

    def errors(self):
        """(largest error of p_good against exact integrals, largest difference between two orders of results)."""
        one_by_one, at_once = self.belief(), self.belief()
        for hole in self.known.tolist():
            one_by_one.observe(hole, self.good[hole], self.shots[hole])
        at_once.observe_many(self.known, self.good[self.known], self.shots[self.known])
        exact = exact_on_a_fine_grid(
            self.location, self.patch_of_hole, self.good, self.shots, self.tree, self.effects
        )
        p = at_once.p_good()
        return np.abs(p - exact.p_good).max(), np.abs(p - one_by_one.p_good()).max()


@pytest.mark.parametrize(
    "cases", [pytest.param(15, id="15"), pytest.param(1000, id="1000", marks=pytest.mark.slow)]
)
def test_up_to_30_shots_of_a_hole_give_the_p_good_of_exact_integrals_in_any_order(cases):
    errors = np.array([ManyShots(seed).errors() for seed in range(cases)])
    # What is left is nearly all `marginal_probability`, which is off by as much before the first outcome.
    assert errors[:, 0].max() < 0.02
    assert errors[:, 1].max() < 1e-6


def test_confident_scores_that_are_wrong_in_every_one_of_five_shots_are_overruled():
    effects = EffectVariances(
        patch=Y1_FLAT_EFFECTS.patch * 2.5, square=Y1_FLAT_EFFECTS.square * 2.5, grid=3.0
    )
    tree, patch_of_hole = make_tree([[2]]), np.array([0, 0, 0, 1], dtype=np.int32)
    location = location_of(np.array([0.99, 0.01, 0.98, 0.9]), effects.total)
    good, shots = np.array([0.0, 5.0, 1.0, 0.0]), np.array([5.0, 5.0, 5.0, 0.0])
    belief = EffectBelief(location, patch_of_hole, tree, effects)
    belief.observe_many(np.arange(3), good[:3], 5)
    exact = exact_on_a_fine_grid(location, patch_of_hole, good, shots, tree, effects)
    np.testing.assert_allclose(belief.p_good(), exact.p_good, atol=0.02)


def test_two_references_of_the_posterior_agree():
    case = Case(make_tree([[2, 1]]), Y1_FLAT_EFFECTS, shots=3, seed=3)
    told = np.isin(np.arange(len(case.good)), case.known)
    by_messages = exact_on_a_fine_grid(
        case.location, case.patch_of_hole, case.good * told, 3.0 * told, case.tree, case.effects
    )
    by_product = case.exact()
    assert by_messages.log_likelihood == pytest.approx(by_product.log_likelihood, abs=1e-6)
    for name in ("mean", "variance", "p_good"):
        np.testing.assert_allclose(getattr(by_messages, name), getattr(by_product, name), atol=1e-5)


# Outcomes that change ------------------------------------------------------------------------------------------


@given(trees(), priors, seeds)
def test_a_second_outcome_replaces_the_first(tree, effects, seed):
    case = Case(tree, effects, seed=seed)
    if len(case.known) == 0:
        return
    changed = case.belief()
    changed.observe_many(case.known, 1.0 - case.good[case.known])
    changed.observe_many(case.known, case.good[case.known])
    same_belief(changed, case.belief_at_convergence(), 1e-4)
    hole = int(case.known[0])
    changed.observe(hole, 1.0 - case.good[hole])
    changed.observe_many(np.array([hole]), case.good[[hole]])
    same_belief(changed, case.belief_at_convergence(), 1e-4)
    assert changed.log_likelihood() == pytest.approx(case.belief_at_convergence().log_likelihood(), abs=1e-4)


def test_old_and_new_outcomes_may_come_in_one_call():
    case = Case(make_tree([[2, 1]]), Y1_FLAT_EFFECTS, seed=5)
    half = case.belief()
    half.observe_many(case.known[::2], 1.0 - case.good[case.known[::2]])
    half.observe_many(case.known, case.good[case.known])
    same_belief(half, case.belief_at_convergence(), 1e-4)


def test_shots_of_one_hole_count_as_outcomes_of_so_many_equal_holes():
    case = Case(make_tree([[1, 1]]), Y1_FLAT_EFFECTS, holes_per_patch=2, shots=4, seed=6)
    case.known = np.arange(4)
    exact = case.exact()
    apart = Case(make_tree([[1, 1]]), Y1_FLAT_EFFECTS, holes_per_patch=8)
    apart.location = np.repeat(case.location, 4)
    apart.good = (np.tile(np.arange(4), 4) < np.repeat(case.good, 4)).astype(float)
    apart.known = np.arange(16)
    # The binomial coefficient is no part of the likelihood: the shots are told apart.
    assert exact.log_likelihood == pytest.approx(apart.exact().log_likelihood, abs=1e-9)
    together, single = case.belief_at_convergence(), apart.belief_at_convergence()
    same_belief(together, single, 0.05)
    assert together.log_likelihood() == pytest.approx(single.log_likelihood(), abs=0.02)


@given(trees(), variances(), st.sampled_from([1, 3]), seeds)
def test_bad_is_the_mirror_image_of_good(tree, effects, shots, seed):
    case = Case(tree, effects, shots=shots, seed=seed)
    belief = case.belief_at_convergence()
    mirrored = EffectBelief(-case.location, case.patch_of_hole, tree, effects)
    mirrored.observe_many(case.known, shots - case.good[case.known], shots)
    np.testing.assert_allclose(mirrored.mean, -belief.mean, atol=1e-5)
    np.testing.assert_allclose(mirrored.variance, belief.variance, atol=1e-5)
    np.testing.assert_allclose(mirrored.p_good(), 1.0 - belief.p_good(), atol=1e-5)
    assert mirrored.log_likelihood() == pytest.approx(belief.log_likelihood(), abs=1e-5)


@given(trees(), variances(), seeds)
def test_probabilities_stay_inside_0_and_1_and_no_variance_passes_the_prior(tree, effects, seed):
    case = Case(tree, effects, seed=seed, spread=6.0)
    belief = case.belief()
    for hole in case.known[:6]:
        belief.observe(int(hole), case.good[hole])
        p = belief.p_good()
        assert np.all((p > 0.0) & (p < 1.0))
        assert np.all(belief.variance >= 0.0)
        assert np.all(belief.variance <= effects.total + 1e-9)


@given(trees(), priors, st.integers(0, 9), seeds)
def test_a_good_outcome_lowers_no_p_good_of_its_patch_and_a_bad_one_raises_none(tree, effects, before, seed):
    case = Case(tree, effects, seed=seed, spread=3.0)
    belief = case.belief()
    belief.observe_many(case.known[:before], case.good[case.known[:before]])
    untold = np.setdiff1d(np.arange(len(case.good)), case.known[:before])
    hole = int(untold[seed % len(untold)])
    mates = np.flatnonzero(case.patch_of_hole == case.patch_of_hole[hole])
    # True of the model. Of the approximation it is true up to the errors of its probabilities.
    slack = 1e-4 if effects == Y1_EFFECTS else 0.002
    first, again = belief.p_good()[mates], case.belief()
    again.observe_many(case.known[:before], case.good[case.known[:before]])
    belief.observe(hole, 1.0)
    again.observe(hole, 0.0)
    assert np.all(belief.p_good()[mates] >= first - slack)
    assert np.all(again.p_good()[mates] <= first + slack)
    assert np.all(belief.p_good()[mates] > again.p_good()[mates])


def test_outcomes_speak_most_about_their_patch_then_square_then_grid_and_not_about_other_grids():
    case = Case(make_tree([[2, 1], [1]]), Y1_FLAT_EFFECTS, holes_per_patch=3)
    belief = case.belief()
    belief.observe_many(np.arange(3), np.ones(3))
    patch, mate, grid_mate, elsewhere = belief.mean
    assert patch > mate > grid_mate > 0.1
    assert elsewhere == 0.0
    assert belief.variance[0] < belief.variance[1] < belief.variance[2] < belief.variance[3]


def test_an_outcome_nobody_expected_does_not_stop_the_belief():
    belief = EffectBelief(np.array([-2000.0, 0.0]), np.zeros(2, np.int32), make_tree([[1]]), Y1_EFFECTS)
    belief.observe(0, 1.0)
    assert belief.mean[0] == pytest.approx(Y1_EFFECTS.total, abs=1e-6)
    assert np.isfinite(belief.log_likelihood())
    fifty = EffectBelief(np.array([-15.0]), np.zeros(1, np.int32), make_tree([[1]]), Y1_EFFECTS)
    fifty.observe(0, 50.0, shots=50)
    assert np.isfinite(fifty.mean[0])
    assert fifty.variance[0] > 0.0


# Likelihood ----------------------------------------------------------------------------------------------------


def test_the_likelihoods_of_all_outcomes_together_sum_to_one():
    tree, n = make_tree([[2]]), 6
    location = np.linspace(-1.5, 1.0, n)
    patch_of_hole = np.repeat(np.arange(2, dtype=np.int32), 3)
    total = sum(
        math.exp(
            log_marginal_likelihood(
                location, patch_of_hole, np.array([float(bit) for bit in f"{k:06b}"]), tree, Y1_FLAT_EFFECTS
            )
        )
        for k in range(2**n)
    )
    assert total == pytest.approx(1.0, abs=0.01)


@given(trees(patches=3, squares=2, grids=2), seeds)
def test_the_gradient_of_the_likelihood_is_its_difference_quotient(tree, seed):
    rng = np.random.default_rng(seed)
    at = rng.uniform(0.2, 1.5, 4)
    case = Case(tree, EffectVariances(patch=at[0], square=at[1], grid=at[2], session=at[3]), 3, seed=seed)

    def likelihood(location, variance):
        prior = EffectVariances(patch=variance[0], square=variance[1], grid=variance[2], session=variance[3])
        return log_marginal_likelihood(location, case.patch_of_hole, case.good, tree, prior)

    value, by_location, by_variance = log_marginal_likelihood_and_gradient(
        case.location, case.patch_of_hole, case.good, tree, case.effects
    )
    assert value == likelihood(case.location, at)
    step = 1e-4
    for i in rng.permutation(len(case.location))[:3]:
        shift = step * (np.arange(len(case.location)) == i)
        quotient = (likelihood(case.location + shift, at) - likelihood(case.location - shift, at)) / (
            2 * step
        )
        assert by_location[i] == pytest.approx(quotient, abs=1e-4)
    for i in range(3):
        shift = step * (np.arange(4) == i)
        quotient = (likelihood(case.location, at + shift) - likelihood(case.location, at - shift)) / (
            2 * step
        )
        assert by_variance[i] == pytest.approx(quotient, abs=1e-4)


# Probabilities of a location -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "off"), [(Y1_EFFECTS.total, 0.006), (Y1_FLAT_EFFECTS.total, 0.01), (400.0, 0.02)]
)
def test_marginal_probabilities_are_as_close_to_the_integral_as_said(largest, off):
    z = np.linspace(-8.5, 8.5, 4001)
    density = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    location = np.linspace(-30.0, 30.0, 241)
    for variance in largest * np.array([0.0, 0.1, 0.5, 0.8, 1.0]):
        exact = expit(location[:, None] + math.sqrt(variance) * z) @ density
        found = marginal_probability(location, np.full(len(location), variance))
        assert np.abs(found - exact).max() < off


@given(st.floats(1e-4, 1.0 - 1e-4), st.floats(0.0, 20.0))
def test_location_of_inverts_marginal_probability(p, variance):
    location = location_of(np.array([p]), variance)
    assert marginal_probability(location, np.array([variance]))[0] == pytest.approx(p, rel=1e-9)


def test_the_location_of_certainty_is_finite():
    location = location_of(np.array([0.0, 1e-4, 1.0 - 1e-4, 1.0]), 2.0)
    assert location[0] == location[1] == pytest.approx(-location[2])
    assert location[2] == location[3]


# Draws ---------------------------------------------------------------------------------------------------------


def test_draws_have_the_mean_and_covariance_of_the_posterior():
    case = Case(make_tree([[2, 1], [2]]), Y1_FLAT_EFFECTS, seed=7)
    belief, draws = case.belief_at_convergence(), 20000
    mean, covariance, _ = dense_posterior(case.covariance, belief._evidence)
    drawn = belief.draw_effects(draws, np.random.default_rng(0))
    assert drawn.shape == (draws, 5)
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 4.5 * sd / math.sqrt(draws))
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.06)


def test_the_same_seed_draws_the_same_effects_and_another_seed_others():
    belief = Case(make_tree([[2, 1]]), Y1_EFFECTS, seed=8).belief_at_convergence()
    first, again, other = (belief.draw_effects(5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_same_outcomes_give_the_same_belief_to_the_last_digit():
    case = Case(make_tree([[2, 3], [1]]), Y1_FLAT_EFFECTS, seed=9)
    first, again = case.belief_at_convergence(), case.belief_at_convergence()
    assert np.array_equal(first.mean, again.mean)
    assert np.array_equal(first.variance, again.variance)


# Prior ---------------------------------------------------------------------------------------------------------


def test_a_prior_variance_below_0_or_not_finite_is_refused():
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            EffectVariances(patch=wrong, square=0.0, grid=0.0)
    with pytest.raises(ValidationError):
        EffectVariances(patch=1.0, square=0.0, grid=0.0, hole=1.0)


def test_the_variance_of_an_effect_is_the_sum_over_its_levels():
    assert NEW_SESSION.total == 2.0
    assert NEW_SESSION.as_tuple() == (0.5, 0.5, 0.0, 1.0)
