"""Messages on the tree against dense Gaussians: marginals, predictions, mass and draws, zero variances included."""

from __future__ import annotations

import numpy as np
import pytest
from effect_references import dense_posterior, prior_covariance, trees, variances
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.belief.tree_gaussian import (
    _log_mass,
    draw_patch_effects,
    ep_log_likelihood,
    given_others,
    messages_up,
    patch_marginals,
    update_path,
    with_evidence,
)

NO_SITES = (np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
seeds = st.integers(0, 2**32 - 1)


def some_evidence(tree, seed):
    """(P, 2) precision and precision times mean; no evidence on about a third of the patches."""
    rng = np.random.default_rng(seed)
    evidence = rng.gamma(1.0, 2.0, (len(tree.square_of_patch), 2)) * [1.0, 0.0]
    evidence[:, 1] = evidence[:, 0] * rng.normal(0.0, 2.0, len(evidence))
    return evidence * (rng.random(len(evidence)) < 0.67)[:, None]


def indices(tree):
    return tree.square_of_patch, tree.grid_of_square


@given(trees(), variances(), seeds)
def test_patch_marginals_are_those_of_the_dense_gaussian(tree, effects, seed):
    evidence = some_evidence(tree, seed)
    mean, covariance, _ = dense_posterior(prior_covariance(tree, effects), evidence)
    found_mean, found_variance = patch_marginals(evidence, *indices(tree), effects.as_tuple())
    np.testing.assert_allclose(found_mean, mean, atol=1e-9)
    np.testing.assert_allclose(found_variance, np.diag(covariance), atol=1e-9)


@given(trees(), variances(), seeds)
def test_a_prediction_is_the_marginal_without_the_patch_s_own_evidence(tree, effects, seed):
    evidence = some_evidence(tree, seed)
    messages = messages_up(evidence, *indices(tree), effects.as_tuple())
    for patch in range(len(evidence)):
        others = evidence.copy()
        others[patch] = 0.0
        mean, covariance, _ = dense_posterior(prior_covariance(tree, effects), others)
        found = given_others(patch, *indices(tree), effects.as_tuple(), messages)
        np.testing.assert_allclose(found, (mean[patch], covariance[patch, patch]), atol=1e-8)


@given(trees(), variances(), seeds)
def test_the_log_mass_is_that_of_the_dense_gaussian(tree, effects, seed):
    evidence = some_evidence(tree, seed)
    _, _, log_mass = dense_posterior(prior_covariance(tree, effects), evidence)
    found = ep_log_likelihood(*NO_SITES, evidence, *indices(tree), effects.as_tuple())
    assert found == pytest.approx(log_mass, abs=1e-9)


@given(trees(), variances(), seeds)
def test_carrying_one_patch_s_evidence_up_gives_the_messages_of_a_whole_pass(tree, effects, seed):
    evidence = some_evidence(tree, seed)
    messages = messages_up(evidence, *indices(tree), effects.as_tuple())
    for patch, changed in enumerate(some_evidence(tree, seed + 1)):
        evidence[patch] = changed
        update_path(patch, evidence, *indices(tree), effects.as_tuple(), messages)
    for carried, whole in zip(
        messages, messages_up(evidence, *indices(tree), effects.as_tuple()), strict=True
    ):
        np.testing.assert_allclose(carried, whole, atol=1e-9)


@given(trees(), variances(), seeds)
def test_draws_are_a_linear_map_of_normals_with_the_dense_mean_and_covariance(tree, effects, seed):
    evidence = some_evidence(tree, seed)
    mean, covariance, _ = dense_posterior(prior_covariance(tree, effects), evidence)
    columns = 1 + tree.n_grids + len(tree.grid_of_square) + len(tree.square_of_patch)
    # No normals give the mean, one normal at a time gives the columns of the map: no sampling error.
    normals = np.vstack([np.zeros(columns), np.eye(columns)])
    drawn = draw_patch_effects(evidence, *indices(tree), effects.as_tuple(), normals)
    np.testing.assert_allclose(drawn[0], mean, atol=1e-9)
    root = (drawn[1:] - drawn[0]).T
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-9)


@given(
    st.floats(-3, 3),
    st.one_of(st.just(0.0), st.floats(0.01, 5.0)),
    st.one_of(st.just(0.0), st.floats(0.0, 5.0)),
    st.floats(-3, 3),
)
def test_one_gaussian_and_its_evidence_agree_with_a_sum_over_many_points(mean, variance, precision, shift):
    z, step = np.linspace(-14.0, 14.0, 40001, retstep=True)
    e = mean + np.sqrt(variance) * z
    weight = np.exp(-0.5 * z**2 - 0.5 * precision * e**2 + shift * e) * step / np.sqrt(2 * np.pi)
    mass = weight.sum()
    evidence = np.array([precision, shift])
    assert _log_mass(mean, variance, evidence) == pytest.approx(np.log(mass), abs=1e-8)
    expected_mean = (weight @ e) / mass
    expected_variance = weight @ (e - expected_mean) ** 2 / mass
    found = with_evidence(mean, variance, evidence)
    assert found == pytest.approx((expected_mean, expected_variance), abs=1e-8)
