"""The time price: its plan against the exact knapsack, its routes against replays, its learning against the belief."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning_samples import random_session

from cryoscout.belief.tree_gaussian import messages_up
from cryoscout.learning.residual import ResidualPolicy
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.policies.price import (
    N_TERMS,
    learn_outcome,
    marginals,
    price_of,
    price_tree,
    simulate_route,
    values_of,
)
from cryoscout.routing.replay import replay

PLAN_ALONE = np.zeros((0, N_TERMS + 2))


def _scratch(problem):
    n_patches, n_squares = len(problem.square_of_patch), len(problem.grid_of_square)
    n_grids = int(problem.grid_of_square[-1]) + 1
    return np.empty(n_patches), np.empty(n_squares), np.empty(n_grids), np.empty(n_patches, dtype=np.int64)


def _start(session, start):
    """(tree, evidence, visits per patch, free holes) after a start hole whose outcome is known."""
    problem, tree = session.problem, price_tree(session.problem)
    free = problem.available().copy()
    free[start] = False
    n_patches = len(problem.square_of_patch)
    evidence, n_seen = np.zeros((n_patches, 2)), np.zeros(n_patches, dtype=np.int64)
    messages = messages_up(evidence, tree.square_of_patch, tree.grid_of_square, tree.variances)
    patch = int(tree.patch_of_hole[start])
    learn_outcome(tree, evidence, messages, patch, tree.location[start], session.truth.good[start])
    n_seen[patch] += 1
    return tree, evidence, n_seen, free


@given(seed=st.integers(0, 10_000), left=st.floats(0.0, 120.0))
def test_the_worth_at_the_price_is_at_least_the_exact_plan_and_near_it_where_the_plan_fills_the_time(
    seed, left
):
    problem = random_session(np.random.default_rng(seed), n_holes=25).problem
    tree, free = price_tree(problem), problem.available()
    here = int(np.flatnonzero(free)[0])
    net_patch, net_square, net_grid, count = _scratch(problem)
    patch = int(problem.patch_of_hole[here])
    price = price_of(tree, problem.p_good, free, patch, left, net_patch, net_square, net_grid, count)
    worth = price * left + np.maximum(net_grid, 0.0).sum()
    from dataclasses import replace

    exact = TreeKnapsack(replace(problem, crossing="drop")).solve(
        problem.p_good, free, here, left, plan=False
    )
    # Weak duality: any price gives an upper bound of the best plan (Everett 1963).
    assert worth >= exact.value - 1e-6


def test_a_price_of_nothing_where_there_is_time_for_everything():
    problem = random_session(np.random.default_rng(1)).problem
    price = price_of(price_tree(problem), problem.p_good, problem.available(), -1, 1e6, *_scratch(problem))
    assert price == 0.0


def test_the_first_outcome_is_learned_as_the_belief_learns_it():
    session = random_session(np.random.default_rng(2), n_holes=30)
    belief = session.problem.belief()
    start = int(np.flatnonzero(session.problem.available())[3])
    belief.observe(start, float(session.truth.good[start]))
    tree, evidence, _, _ = _start(session, start)
    mean, variance = np.empty(len(evidence)), np.empty(len(evidence))
    messages = messages_up(evidence, tree.square_of_patch, tree.grid_of_square, tree.variances)
    marginals(tree, evidence, messages, mean, variance)
    values = np.empty(session.problem.n_holes)
    values_of(tree, mean, variance, values)
    np.testing.assert_allclose(mean, belief.mean, atol=2e-3)
    np.testing.assert_allclose(values, belief.p_good(), atol=1e-3)


def test_many_outcomes_are_learned_nearly_as_the_belief_learns_them():
    session = random_session(np.random.default_rng(5), n_holes=60)
    belief, tree = session.problem.belief(), price_tree(session.problem)
    evidence = np.zeros((len(session.problem.square_of_patch), 2))
    messages = messages_up(evidence, tree.square_of_patch, tree.grid_of_square, tree.variances)
    for hole in range(0, 60, 2):
        good = float(session.truth.good[hole])
        belief.observe(hole, good)
        learn_outcome(tree, evidence, messages, int(tree.patch_of_hole[hole]), tree.location[hole], good)
    mean, variance = np.empty(len(evidence)), np.empty(len(evidence))
    marginals(tree, evidence, messages, mean, variance)
    np.testing.assert_allclose(mean, belief.mean, atol=0.1)
    np.testing.assert_allclose(variance, belief.variance, atol=0.05)


@given(seed=st.integers(0, 10_000))
def test_a_simulated_route_is_the_replayed_one(seed):
    session = random_session(np.random.default_rng(seed), n_holes=25, crossing="count")
    problem = session.problem
    start = int(np.flatnonzero(problem.available())[0])
    tree, evidence, n_seen, free = _start(session, start)
    before = (free.copy(), evidence.copy(), n_seen.copy())
    found = simulate_route(
        tree, session.truth.good, free, evidence, n_seen, start, problem.budget_min + 1e-6, PLAN_ALONE, -1, np.inf
    )  # fmt: skip
    (route,) = replay(problem, session.truth, ResidualPolicy(), [start], 0)
    assert found == route.good_found
    assert found <= good_holes_bound(problem, session.truth, start) + 1e-9
    for kept, given_before in zip((free, evidence, n_seen), before, strict=True):
        np.testing.assert_array_equal(kept, given_before)


def test_the_first_patch_can_be_named_and_the_rest_can_be_valued_by_its_plan():
    session = random_session(np.random.default_rng(7), n_holes=40, budget_min=60.0)
    start = int(np.flatnonzero(session.problem.available())[0])
    tree, evidence, n_seen, free = _start(session, start)

    def found(good, patch, horizon):
        return simulate_route(tree, good, free, evidence, n_seen, start, 60.0, PLAN_ALONE, patch, horizon)

    patches = np.unique(session.problem.patch_of_hole[free])
    for patch in patches:
        hole = next(hole for hole in tree.order if free[hole] and tree.patch_of_hole[hole] == patch)
        only_there = np.zeros(session.problem.n_holes)
        only_there[hole] = 1.0
        assert found(only_there, int(patch), np.inf) == 1.0
    nothing_good = np.zeros(session.problem.n_holes)
    assert found(nothing_good, -1, np.inf) == 0.0
    assert found(nothing_good, -1, 0.0) == pytest.approx(found(nothing_good, -1, 1.0), abs=3.0)
    assert found(nothing_good, -1, 0.0) > 0.0
