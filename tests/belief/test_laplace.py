"""The mode, its covariance, the evidence and its gradient agree with one dense matrix and with finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from stage_references import dense_laplace

from cryoscout.belief.laplace import LabelledBlock, laplace_posterior


def make_block(seed=0, holes=14, columns=5, patch_variance=0.8, scale=0.8, location=None):
    rng = np.random.default_rng(seed)
    patch = np.unique(np.sort(rng.integers(0, 6, holes)), return_inverse=True)[1]
    return LabelledBlock(
        location=rng.normal(0.0, 1.0, holes) if location is None else np.full(holes, location),
        columns=scale * rng.normal(0.0, 1.0, (holes, columns)),
        patch=patch,
        patch_variance=patch_variance,
        good=(rng.random(holes) < 0.5).astype(float),
    )


def covariance_of(block):
    same_patch = block.patch[:, None] == block.patch
    return block.columns @ block.columns.T + block.patch_variance * same_patch


blocks = st.builds(
    make_block,
    seed=st.integers(0, 10_000),
    holes=st.integers(1, 16),
    columns=st.integers(1, 20),
    patch_variance=st.sampled_from([0.0, 0.1, 3.0]),
    scale=st.sampled_from([0.0, 0.3, 2.0]),
)


@given(blocks)
def test_mode_variance_and_evidence_are_those_of_a_dense_matrix(block):
    found = laplace_posterior(block)
    slow = dense_laplace(block.location, block.good, covariance_of(block))
    logits = block.logits(found.mean, found.patch_mean) - block.location
    np.testing.assert_allclose(logits, slow.mean, atol=1e-5)
    apart = block.columns - found.pull[block.patch]
    variance = np.einsum("ij,jk,ik->i", apart, found.covariance, apart) + found.patch_variance[block.patch]
    np.testing.assert_allclose(variance, slow.variance, atol=1e-5)
    assert found.log_evidence == pytest.approx(slow.log_evidence, abs=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 2.0]))
def test_the_gradient_is_that_of_finite_differences(seed, patch_variance):
    block = make_block(seed, patch_variance=patch_variance)
    found, h = laplace_posterior(block).evidence_gradient(), 1e-4

    def evidence(**new):
        return laplace_posterior(LabelledBlock(**{**fields, **new})).log_evidence

    fields = {
        name: getattr(block, name) for name in ("location", "columns", "patch", "patch_variance", "good")
    }
    rng = np.random.default_rng(seed)
    for name, by in (("location", found.by_location), ("columns", found.by_columns)):
        toward = rng.normal(size=by.shape)
        up, down = (evidence(**{name: fields[name] + sign * h * toward}) for sign in (1, -1))
        assert np.sum(by * toward) == pytest.approx((up - down) / (2 * h), abs=1e-4)
    up, down = (evidence(patch_variance=patch_variance * np.exp(sign * h)) for sign in (1, -1))
    assert found.by_log_patch_variance == pytest.approx((up - down) / (2 * h), abs=1e-4)


def test_one_step_is_that_of_newton_on_all_effects_at_once():
    block = make_block(seed=3)
    n_columns, n_patches = block.columns.shape[1], int(block.patch[-1]) + 1
    rng = np.random.default_rng(4)
    z, patch_effect = rng.normal(size=n_columns), rng.normal(size=n_patches)
    design = np.hstack([block.columns, (block.patch[:, None] == np.arange(n_patches)).astype(float)])
    prior = np.concatenate([np.ones(n_columns), np.full(n_patches, 1.0 / block.patch_variance)])
    p = expit(block.logits(z, patch_effect))
    gradient = design.T @ (block.good - p) - prior * np.concatenate([z, patch_effect])
    slow = np.linalg.solve(design.T @ (design * (p * (1.0 - p))[:, None]) + np.diag(prior), gradient)
    step, patch_step, gain, _ = block.newton_step(z, patch_effect)
    np.testing.assert_allclose(np.concatenate([step, patch_step]), slow, atol=1e-10)
    assert gain == pytest.approx(gradient @ slow)


def test_a_start_near_or_far_changes_nothing():
    block = make_block()
    plain = laplace_posterior(block)
    for start in ((plain.mean, plain.patch_mean), (plain.mean + 20.0, plain.patch_mean - 30.0)):
        again = laplace_posterior(block, start)
        np.testing.assert_allclose(again.mean, plain.mean, atol=1e-5)
        assert again.log_evidence == pytest.approx(plain.log_evidence, abs=1e-8)


@pytest.mark.parametrize("location", [-60.0, 60.0])
def test_outcomes_that_nobody_expected_still_have_a_mode(location):
    block = make_block(location=location, scale=5.0, patch_variance=9.0)
    found = laplace_posterior(block)
    assert block.newton_step(found.mean, found.patch_mean)[2] < 1e-9
    assert np.isfinite(found.log_evidence)


def test_a_patch_effect_without_variance_stays_zero_whatever_the_start():
    block = make_block(patch_variance=0.0)
    n_patches = int(block.patch[-1]) + 1
    found = laplace_posterior(block, (np.zeros(5), np.full(n_patches, 3.0)))
    assert np.array_equal(found.patch_mean, np.zeros(n_patches))
    assert np.array_equal(found.patch_variance, np.zeros(n_patches))


@given(blocks, st.sampled_from([0.3, 0.6, 0.95]), st.integers(0, 15))
def test_where_good_micrographs_are_lost_the_mode_has_no_slope(block, loss, since):
    block = replace(block, kept=np.where(np.arange(len(block.good)) >= since, 1.0 - loss, 1.0))
    found, h = laplace_posterior(block), 1e-4
    joint = block.log_joint(found.mean, found.patch_mean)
    for place in range(len(found.mean)):
        step = h * np.eye(len(found.mean))[place]
        slope = block.log_joint(found.mean + step, found.patch_mean)
        slope -= block.log_joint(found.mean - step, found.patch_mean)
        assert slope / (2 * h) == pytest.approx(0.0, abs=1e-3)
    assert joint >= block.log_joint(0.0 * found.mean, 0.0 * found.patch_mean) - 1e-9


@pytest.mark.parametrize("loss", [0.0, 0.6, 0.95])
def test_the_evidence_of_a_loss_is_near_that_of_an_integral(loss):
    good = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    kept = np.where(np.arange(12) >= 6, 1.0 - loss, 1.0)
    block = LabelledBlock(np.full(12, 1.2), np.full((12, 1), 0.9), np.zeros(12, np.int64), 0.0, good, kept)
    z = np.linspace(-8.0, 8.0, 4001)
    chance = expit(1.2 + 0.9 * z)[:, None] * kept
    likelihood = (
        np.where(good > 0, chance, 1.0 - chance).prod(axis=1) * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    )
    slow = np.log(likelihood.sum() * (z[1] - z[0]))
    assert laplace_posterior(block).log_evidence == pytest.approx(slow, abs=0.1)
