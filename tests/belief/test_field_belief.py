"""Effects with smooth fields over the stage: exact on small cases, a function of the results alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import multivariate_normal

from cryoscout.belief.effects import EffectBelief, EffectVariances, location_of
from cryoscout.belief.field_belief import FieldBelief, FieldVariances, StagePlaces
from cryoscout.belief.stage_belief import SMOOTHNESS, StageBelief, field_variances
from cryoscout.belief.stage_field import matern
from cryoscout.belief.stage_pieces import StagePieces
from cryoscout.core.hole_tree import HoleTree
from examples import share

EFFECTS = EffectVariances(patch=0.5, square=0.6, grid=0.8)
FIELDS = FieldVariances(
    effects=EFFECTS, within_square=0.9, length_within_square_um=25.0, over_grid=0.4, length_over_grid_um=300.0
)
NO_FIELD = FIELDS.model_copy(update={"within_square": 0.0, "over_grid": 0.0})

PATCH_OF_HOLE = np.repeat(np.arange(12), 4).astype(np.int32)
TREE = HoleTree(
    PATCH_OF_HOLE,
    np.repeat(np.arange(4), 3).astype(np.int32),
    np.array([0, 0, 0, 1], dtype=np.int32),
)
N_HOLES = len(PATCH_OF_HOLE)


def stage_um() -> NDArray[np.float64]:
    """Three patches in a row in each square, squares 90 um apart."""
    rng = np.random.default_rng(3)
    x = 90.0 * TREE.square_of_hole + 18.0 * (PATCH_OF_HOLE % 3)
    return np.stack([x, np.zeros(N_HOLES)], axis=1) + rng.uniform(-2.0, 2.0, (N_HOLES, 2))


def places(positions_um: NDArray[np.float64] | None = None) -> StagePlaces:
    return StagePlaces(
        StagePieces.of(PATCH_OF_HOLE, TREE, stage_um() if positions_um is None else positions_um)
    )


def location() -> NDArray[np.float64]:
    return np.random.default_rng(5).normal(0.0, 1.0, N_HOLES)


def results(seed: int, count: int = 25) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Holes, their good micrographs and their shots."""
    rng = np.random.default_rng(seed)
    shots = rng.integers(1, 4, count).astype(np.float64)
    return rng.permutation(N_HOLES)[:count], rng.binomial(shots.astype(int), 0.4).astype(np.float64), shots


def test_without_fields_it_is_the_effect_belief() -> None:
    plain = EffectBelief(location(), PATCH_OF_HOLE, TREE, EFFECTS)
    fields = FieldBelief(location(), places(), NO_FIELD)
    for belief in (plain, fields):
        belief.observe_many(*results(1))
    # One site for all results of a patch is nearer to the exact integral than one for each hole.
    np.testing.assert_allclose(fields.p_good(), plain.p_good(), atol=3e-3)
    np.testing.assert_allclose(fields.effect_variance(), plain.effect_variance(), atol=0.02)
    assert fields.log_likelihood() == pytest.approx(plain.log_likelihood(), abs=0.05)


def dense_prior(variances: FieldVariances) -> NDArray[np.float64]:
    """Covariance of the holes' effects, term by term; the places have fewer leaves than inducing positions."""
    square, grid = TREE.square_of_hole, TREE.grid_of_hole
    pieces = places().pieces
    at = pieces.leaf_um[pieces.leaf_of_hole]
    apart = np.linalg.norm(at[:, None] - at[None], axis=2)
    same = [each[:, None] == each[None] for each in (PATCH_OF_HOLE, square, grid)]
    covariance = sum(
        variance * one
        for variance, one in zip((EFFECTS.patch, EFFECTS.square, EFFECTS.grid), same, strict=True)
    )
    return np.asarray(covariance + variances.within_square * same[1] * matern(apart, 25.0))


def test_few_results_agree_with_the_exact_posterior() -> None:
    """Three holes with one shot each: the integral over their three effects, on a fine lattice."""
    only_within = FIELDS.model_copy(update={"over_grid": 0.0})
    belief = FieldBelief(location(), places(), only_within)
    holes, good = np.array([0, 5, 20]), np.array([1.0, 1.0, 0.0])
    belief.observe_many(holes, good)
    covariance = dense_prior(only_within)
    axis = np.linspace(-6.0, 6.0, 81)
    effects = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    weight = multivariate_normal(cov=covariance[np.ix_(holes, holes)]).pdf(effects)
    for column, (hole, outcome) in enumerate(zip(holes, good, strict=True)):
        p = expit(location()[hole] + effects[:, column])
        weight *= p if outcome else 1.0 - p
    assert belief.log_likelihood() == pytest.approx(np.log(weight.sum() * (axis[1] - axis[0]) ** 3), abs=2e-3)
    weight /= weight.sum()
    gain = np.linalg.solve(covariance[np.ix_(holes, holes)], covariance[holes])
    left = np.diag(covariance) - np.einsum("ij,ij->j", covariance[holes], gain)
    node, node_weight = np.polynomial.hermite_e.hermegauss(20)
    for hole in (1, 4, 9, 16, 30, 47):
        mean = location()[hole] + effects @ gain[:, hole]
        p = sum(
            w * expit(mean + np.sqrt(max(left[hole], 0.0)) * x)
            for x, w in zip(node, node_weight, strict=True)
        )
        exact = float(weight @ p) / np.sqrt(2.0 * np.pi)
        assert belief.p_good()[hole] == pytest.approx(exact, abs=0.01), hole


@settings(max_examples=share(20), deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_results_does_not_matter(seed: int) -> None:
    holes, good, shots = results(seed)
    at_once, one_by_one, with_other_before = (FieldBelief(location(), places(), FIELDS) for _ in range(3))
    at_once.observe_many(holes, good, shots)
    for i in np.random.default_rng(seed).permutation(len(holes)):
        one_by_one.observe_many(holes[i : i + 1], good[i : i + 1], shots[i : i + 1])
    with_other_before.observe_many(np.arange(N_HOLES), np.ones(N_HOLES))
    with_other_before.observe_many(np.arange(N_HOLES), np.zeros(N_HOLES), np.zeros(N_HOLES))
    with_other_before.observe_many(holes, good, shots)
    for other in (one_by_one, with_other_before):
        np.testing.assert_allclose(other.p_good(), at_once.p_good(), atol=1e-6)
        assert other.log_likelihood() == pytest.approx(at_once.log_likelihood(), abs=1e-5)


def test_results_withdrawn_leave_the_prior() -> None:
    belief = FieldBelief(location(), places(), FIELDS)
    before = belief.p_good()
    belief.observe_many(*results(2))
    belief.observe_many(np.arange(N_HOLES), np.zeros(N_HOLES), np.zeros(N_HOLES))
    np.testing.assert_allclose(belief.p_good(), before, atol=1e-9)
    assert belief.log_likelihood() == pytest.approx(0.0, abs=1e-9)


def test_draws_have_the_moments_of_the_posterior() -> None:
    belief = FieldBelief(location(), places(), FIELDS)
    belief.observe_many(*results(4))
    holes = np.array([30, 2, 3, 47, 12])
    logits = belief.draw_logits(40_000, np.random.default_rng(0), holes)
    leaf = places().pieces.leaf_of_hole
    np.testing.assert_allclose(logits.mean(axis=0), (location() + belief.mean[leaf])[holes], atol=0.03)
    np.testing.assert_allclose(logits.var(axis=0), belief.effect_variance()[holes], rtol=0.05)
    assert np.all(logits[:, 1] - logits[:, 2] == pytest.approx(location()[2] - location()[3]))


def test_draws_of_holes_far_apart_are_correlated_as_the_prior_says() -> None:
    belief = FieldBelief(location(), places(), FIELDS.model_copy(update={"over_grid": 0.0}))
    holes = np.array([0, 4, 12, 40])
    drawn = np.cov(belief.draw_logits(60_000, np.random.default_rng(1), holes).T)
    np.testing.assert_allclose(drawn, dense_prior(FIELDS)[np.ix_(holes, holes)], atol=0.06)


def test_a_result_in_one_grid_leaves_the_others() -> None:
    belief = FieldBelief(location(), places(), FIELDS)
    before = belief.p_good()
    belief.observe_many(np.array([0, 1, 2]), np.ones(3))
    after = belief.p_good()
    assert np.array_equal(after[TREE.grid_of_hole == 1], before[TREE.grid_of_hole == 1])
    assert np.all(after[TREE.grid_of_hole == 0] > before[TREE.grid_of_hole == 0])


def test_a_hole_without_a_position_has_the_same_prior_and_learns_from_its_square() -> None:
    positions = stage_um()
    positions[TREE.square_of_hole == 1] = np.nan
    belief = FieldBelief(location(), places(positions), FIELDS)
    plain = FieldBelief(location(), places(), FIELDS)
    np.testing.assert_allclose(belief.p_good(), plain.p_good(), atol=1e-12)
    inside = np.flatnonzero(TREE.square_of_hole == 1)
    before = belief.p_good()
    belief.observe_many(inside[:4], np.zeros(4))
    assert np.all(belief.p_good()[inside] < before[inside])


def test_near_holes_learn_more_than_far_ones() -> None:
    """One square as one patch: results at the left edge say more of the left than of the right."""
    n = 200
    positions = np.stack([np.linspace(0.0, 100.0, n), np.zeros(n)], axis=1)
    tree = HoleTree(np.zeros(n, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32))
    belief = StageBelief(np.full(n, 0.6), tree.patch_of_hole, tree, EFFECTS, positions)
    bad, good = np.arange(0, 30), np.arange(60, 200, 3)
    belief.observe_many(bad, np.zeros(len(bad)))
    belief.observe_many(good, np.ones(len(good)))
    p_good = belief.p_good()
    assert p_good[31] < p_good[150] - 0.2
    assert belief.weights[1:].sum() > 0.9


def test_before_a_result_the_predictions_stand() -> None:
    p_good = np.random.default_rng(8).uniform(0.05, 0.95, N_HOLES)
    belief = StageBelief(p_good, PATCH_OF_HOLE, TREE, EFFECTS, stage_um())
    np.testing.assert_allclose(belief.p_good(), p_good, atol=1e-12)
    assert belief.weights[0] == 0.5
    for smoothness in SMOOTHNESS:
        assert field_variances(EFFECTS, smoothness).total == pytest.approx(EFFECTS.total)


def test_the_mixture_draws_what_it_believes() -> None:
    p_good = np.full(N_HOLES, 0.5)
    belief = StageBelief(p_good, PATCH_OF_HOLE, TREE, EFFECTS, stage_um())
    belief.observe_many(*results(6))
    drawn = expit(belief.draw_logits(20_000, np.random.default_rng(2), np.arange(N_HOLES))).mean(axis=0)
    np.testing.assert_allclose(drawn, belief.p_good(), atol=0.03)


def test_over_all_results_the_loss_is_at_most_log_2_above_effects_alone() -> None:
    """Outcomes without any field, one result after the other."""
    rng = np.random.default_rng(9)
    good = (rng.random(N_HOLES) < 0.6).astype(np.float64)
    p_good = np.full(N_HOLES, 0.6)
    plain = EffectBelief(location_of(p_good, EFFECTS.total), PATCH_OF_HOLE, TREE, EFFECTS)
    stage = StageBelief(p_good, PATCH_OF_HOLE, TREE, EFFECTS, stage_um())
    loss = {"plain": 0.0, "stage": 0.0}
    for hole in rng.permutation(N_HOLES):
        for name, belief in (("plain", plain), ("stage", stage)):
            p = belief.p_good()[hole]
            loss[name] -= np.log(p if good[hole] else 1.0 - p)
            belief.observe_many(np.array([hole]), good[[hole]])
    assert loss["stage"] <= loss["plain"] + np.log(2.0) + 0.1
