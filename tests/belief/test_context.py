"""The context model finds the truth of a simulated session again, and its features are those of a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
from effect_references import make_tree, prior_covariance, trees
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from cryoscout.belief.context import (
    ContextModel,
    combined_p_good,
    context_features,
    fit_context,
    fit_effects,
    held_out_log_likelihood,
    y1_context,
)
from cryoscout.belief.effects import (
    EffectVariances,
    log_marginal_likelihood,
    log_marginal_likelihood_and_gradient,
)
from cryoscout.core.errors import InputError

TRUTH = {"intercept": -0.6, "score": 0.9, "patch": 0.5, "square": -0.4, "grid": 0.3}
EFFECTS = EffectVariances(patch=0.8, square=0.4, grid=0.6)


class Simulated:
    """Scores that resemble within a patch, square and grid, and outcomes of the model with TRUTH and EFFECTS."""

    def __init__(self, grids=30, squares=3, patches=4, holes_per_patch=8, seed=0):
        # By Cholesky: the eigenvectors of equal eigenvalues, and with them the draws, differ between processors.
        rng = np.random.default_rng(seed)
        self.tree = make_tree([[patches] * squares] * grids)
        n_patches = grids * squares * patches
        self.patch_of_hole = np.repeat(np.arange(n_patches, dtype=np.int32), holes_per_patch)
        likeness = prior_covariance(self.tree, EffectVariances(patch=0.6, square=0.6, grid=0.6))
        x = rng.multivariate_normal(np.zeros(n_patches), likeness, method="cholesky")[self.patch_of_hole]
        self.score_p = expit(x + rng.normal(0.0, 1.0, len(x)))
        model = ContextModel(**TRUTH, effects=EFFECTS, log_likelihood=0.0, context_sd=1.0, holes=0)
        self.location = model.location(self.score_p, self.patch_of_hole, self.tree)
        effects = rng.multivariate_normal(
            np.zeros(n_patches), prior_covariance(self.tree, EFFECTS), method="cholesky"
        )
        p = expit(self.location + effects[self.patch_of_hole])
        self.good = (rng.random(len(p)) < p).astype(float)

    def fit(self, good=None, context_sd=100.0, **how):
        """A prior of 100 is none at all: the weights are as the likelihood alone would have them."""
        good = self.good if good is None else good
        return fit_context(self.score_p, good, self.patch_of_hole, self.tree, context_sd, **how)


@pytest.fixture(scope="module")
def simulated():
    return Simulated()


@pytest.fixture(scope="module")
def fitted(simulated):
    return simulated.fit()


def mean_over(values, of_hole, hole):
    inside = [value for value, where in zip(values, of_hole, strict=True) if where == of_hole[hole]]
    return sum(inside) / len(inside)


@given(trees(), st.integers(0, 2**32 - 1))
def test_context_features_are_those_of_a_slow_loop(tree, seed):
    rng = np.random.default_rng(seed)
    patch = np.sort(rng.integers(0, len(tree.square_of_patch), 12)).astype(np.int32)
    score_p = rng.uniform(0.01, 0.99, 12)
    x = np.log(score_p / (1.0 - score_p))
    square = [tree.square_of_patch[p] for p in patch]
    grid = [tree.grid_of_square[s] for s in square]
    slow = [[1.0, x[h], *(mean_over(x, level, h) for level in (patch, square, grid))] for h in range(12)]
    np.testing.assert_allclose(context_features(score_p, patch, tree), slow, atol=1e-12)


def test_the_fit_finds_the_coefficients_and_variances_of_the_truth_again(fitted):
    # Three standard errors of a session of this size.
    for name, off in {"intercept": 0.5, "score": 0.18, "patch": 0.34, "square": 0.5, "grid": 0.75}.items():
        assert getattr(fitted, name) == pytest.approx(TRUTH[name], abs=off), name
    assert fitted.effects.patch == pytest.approx(EFFECTS.patch, abs=0.25)
    assert fitted.effects.square == pytest.approx(EFFECTS.square, abs=0.25)
    assert fitted.effects.grid == pytest.approx(EFFECTS.grid, abs=0.4)
    assert fitted.effects.session == 0.0
    assert fitted.holes == 2880


def squared_distance(fitted):
    """Of the fitted weights from the true ones, in units of the covariance that the fit states."""
    off = np.array([getattr(fitted, name) - true for name, true in TRUTH.items()])
    return float(off @ np.linalg.solve(np.array(fitted.covariance), off))


@pytest.mark.slow
def test_the_weights_lie_about_as_far_from_the_truth_as_their_covariance_says():
    distances = [squared_distance(Simulated(10, 2, 3, seed=100 + seed).fit()) for seed in range(12)]
    # The mean of twelve chi squared with 5 degrees of freedom is 5, its standard error 0.9.
    assert 2.5 < np.mean(distances) < 8.0


def test_loadings_carry_the_covariance_of_the_weights_to_the_logits(simulated, fitted):
    where = (simulated.score_p, simulated.patch_of_hole, simulated.tree)
    loadings, features = fitted.loadings(*where), context_features(*where)
    some = np.arange(0, len(features), 97)
    np.testing.assert_allclose(
        loadings[some] @ loadings[some].T,
        features[some] @ np.array(fitted.covariance) @ features[some].T,
        atol=1e-12,
    )
    exact = fitted.model_copy(update={"covariance": ()})
    assert exact.loadings(*where).shape == (len(features), 0)


def test_weights_of_which_the_labels_say_nothing_keep_their_prior():
    # The mean logit of the only patch is 0, so no context weight changes anything.
    tree, patch_of_hole = make_tree([[1]]), np.zeros(12, dtype=np.int32)
    model = fit_context(np.linspace(0.2, 0.8, 12), np.arange(12) % 2.0, patch_of_hole, tree, 0.7)
    assert (model.patch, model.square, model.grid) == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)
    assert np.diag(model.covariance)[2:] == pytest.approx([0.49] * 3, rel=1e-6)


@pytest.mark.slow
def test_a_narrow_prior_takes_the_context_away_and_costs_likelihood(simulated, fitted):
    models = [simulated.fit(context_sd=sd) for sd in (1e-4, 0.1)] + [fitted]
    assert [model.context_sd for model in models] == [1e-4, 0.1, 100.0]
    sizes = [max(abs(model.patch), abs(model.square), abs(model.grid)) for model in models]
    assert sizes[0] < 1e-4 < sizes[1] < sizes[2]
    assert models[0].log_likelihood < models[1].log_likelihood < models[2].log_likelihood
    # Neither the intercept nor the weight of the score has a prior.
    assert models[0].score == pytest.approx(TRUTH["score"], abs=0.25)


def test_a_fit_with_a_prior_is_where_the_slopes_of_likelihood_and_prior_cancel():
    simulated = Simulated(6, 2, 3, seed=5)
    fitted = simulated.fit(context_sd=0.2)
    where = (simulated.score_p, simulated.patch_of_hole, simulated.tree)
    _, by_location, _ = log_marginal_likelihood_and_gradient(
        fitted.location(*where), simulated.patch_of_hole, simulated.good, simulated.tree, fitted.effects
    )
    slopes = context_features(*where).T @ by_location
    slopes[2:] -= np.array([fitted.patch, fitted.square, fitted.grid]) / 0.2**2
    assert np.abs(slopes).max() < 0.05


def test_the_held_out_likelihood_is_that_of_fits_to_the_other_folds():
    simulated = Simulated(4, 2, 3, seed=4)
    fold_of_patch = np.arange(24) % 2
    found = held_out_log_likelihood(
        simulated.score_p, simulated.good, simulated.patch_of_hole, simulated.tree, 0.5, fold_of_patch
    )
    slow = 0.0
    for fold in (0, 1):
        inside = [fold_of_patch[patch] == fold for patch in simulated.patch_of_hole]
        told = np.where(inside, np.nan, simulated.good)
        model = simulated.fit(told, context_sd=0.5)
        location = model.location(simulated.score_p, simulated.patch_of_hole, simulated.tree)
        slow += log_marginal_likelihood(
            location[inside],
            simulated.patch_of_hole[inside],
            simulated.good[inside],
            simulated.tree,
            model.effects,
        )
    assert found == pytest.approx(slow, abs=1e-9)


def test_no_small_change_of_a_fitted_parameter_makes_the_outcomes_likelier(simulated, fitted):
    def likelihood(model):
        location = model.location(simulated.score_p, simulated.patch_of_hole, simulated.tree)
        return log_marginal_likelihood(
            location, simulated.patch_of_hole, simulated.good, simulated.tree, model.effects
        )

    assert likelihood(fitted) == pytest.approx(fitted.log_likelihood, abs=1e-6)
    for change in (-0.05, 0.05):
        for name in TRUTH:
            moved = fitted.model_copy(update={name: getattr(fitted, name) + change})
            assert likelihood(moved) < fitted.log_likelihood, name
        for name in ("patch", "square", "grid"):
            wider = getattr(fitted.effects, name) * (1.0 + 4.0 * change)
            moved = fitted.model_copy(update={"effects": fitted.effects.model_copy(update={name: wider})})
            assert likelihood(moved) < fitted.log_likelihood, name


def test_the_fitted_probabilities_have_the_effects_integrated_out(simulated, fitted):
    where = (simulated.score_p, simulated.patch_of_hole, simulated.tree)
    p, location = fitted.p_good(*where), fitted.location(*where)
    assert p.mean() == pytest.approx(simulated.good.mean(), abs=0.03)
    node, weight = np.polynomial.hermite_e.hermegauss(100)
    effect = np.sqrt(fitted.effects.total) * node
    integral = expit(location[::29, None] + effect) @ (weight / weight.sum())
    np.testing.assert_allclose(p[::29], integral, atol=0.01)


def test_fitted_variances_find_the_truth_again_whatever_the_common_offset(simulated):
    found = [
        fit_effects(simulated.location + offset, simulated.patch_of_hole, simulated.good, simulated.tree)
        for offset in (0.0, 2.0)
    ]
    assert found[0].patch == pytest.approx(EFFECTS.patch, abs=0.25)
    assert found[0].square == pytest.approx(EFFECTS.square, abs=0.25)
    assert found[0].grid == pytest.approx(EFFECTS.grid, abs=0.4)
    for name in ("patch", "square", "grid"):
        assert getattr(found[0], name) == pytest.approx(getattr(found[1], name), abs=0.01)


def test_holes_without_an_outcome_give_context_but_no_likelihood():
    simulated = Simulated(grids=6, squares=2, patches=3)
    unlabelled = np.arange(len(simulated.good)) % 3 == 0
    model = simulated.fit(np.where(unlabelled, np.nan, simulated.good))
    assert model.holes == np.count_nonzero(~unlabelled)
    location = model.location(simulated.score_p, simulated.patch_of_hole, simulated.tree)
    again = log_marginal_likelihood(
        location[~unlabelled],
        simulated.patch_of_hole[~unlabelled],
        simulated.good[~unlabelled],
        simulated.tree,
        model.effects,
    )
    assert model.log_likelihood == pytest.approx(again, abs=1e-6)


def test_the_same_labels_give_the_same_fit():
    simulated = Simulated(grids=4, squares=2, patches=2)
    assert simulated.fit() == simulated.fit()


@pytest.mark.parametrize(
    ("good", "said"),
    [
        (np.zeros(8), "Got 8 labels, 0 good, instead"),
        (np.ones(8), "Got 8 labels, 8 good, instead"),
        (np.full(8, np.nan), "Got 0 labels, 0 good, instead"),
        (np.array([1.0] + [np.nan] * 7), "Got 1 labels, 1 good, instead"),
    ],
)
def test_labels_of_one_class_are_refused(good, said):
    tree, patch_of_hole = make_tree([[2]]), np.repeat(np.arange(2, dtype=np.int32), 4)
    for fit in (fit_context, lambda score, good, *where: fit_effects(score, where[0], good, where[1])):
        with pytest.raises(
            InputError, match=rf"labelled holes of both classes\. {said}\. Remedy: label more"
        ):
            fit(np.full(8, 0.4), good, patch_of_hole, tree)


def test_the_model_is_saved_and_read_without_loss(fitted, tmp_path):
    fitted.save(tmp_path / "context.json")
    assert ContextModel.model_validate_json((tmp_path / "context.json").read_text()) == fitted


def test_the_combined_prediction_is_the_shipped_model_and_takes_scores_of_0_and_1():
    tree, patch_of_hole = make_tree([[2], [1]]), np.repeat(np.arange(3, dtype=np.int32), 2)
    score_p = np.array([0.0, 1.0, 0.3, 0.3, 0.9, 0.5])
    p = combined_p_good(score_p, patch_of_hole, tree)
    assert np.array_equal(p, y1_context().p_good(score_p, patch_of_hole, tree))
    assert np.all((p > 0) & (p < 1))
    assert p[0] < p[1]
    assert p[2] == p[3]
