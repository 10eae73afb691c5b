"""The time price: its plan against the exact knapsack, its routes within the bound."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning_samples import random_session

from cryoscout.core.hole_tree import StagePlace
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.policies.price import (
    PricePlan,
    price_of,
    price_tree,
    reachable,
)
from cryoscout.routing.problem import NOWHERE
from cryoscout.routing.replay import replay
from cryoscout.testing import check_policy


def _scratch(problem):
    n_patches, n_squares = len(problem.square_of_patch), len(problem.grid_of_square)
    n_grids = int(problem.grid_of_square[-1]) + 1
    return np.empty(n_patches), np.empty(n_squares), np.empty(n_grids), np.empty(n_patches, dtype=np.int64)


@given(seed=st.integers(0, 10_000), left=st.floats(0.0, 120.0))
def test_the_worth_at_the_price_is_at_least_the_exact_plan_and_near_it_where_the_plan_fills_the_time(
    seed, left
):
    problem = random_session(np.random.default_rng(seed), n_holes=25).problem
    tree, free = price_tree(problem), problem.available()
    here = int(np.flatnonzero(free)[0])
    net_patch, net_square, net_grid, count = _scratch(problem)
    place = problem.place_of(here)
    price = price_of(tree, problem.prior_p_good, free, place, left, net_patch, net_square, net_grid, count)
    worth = price * left + np.maximum(net_grid, 0.0).sum()
    exact = TreeKnapsack(replace(problem, crossing="drop")).solve(
        problem.prior_p_good, free, here, left, plan=False
    )
    # Weak duality: any price gives an upper bound of the best plan (Everett 1963).
    assert worth >= exact.value - 1e-6


def test_a_price_of_nothing_where_there_is_time_for_everything():
    problem = random_session(np.random.default_rng(1)).problem
    price = price_of(
        price_tree(problem), problem.prior_p_good, problem.available(), StagePlace(), 1e6, *_scratch(problem)
    )
    assert price == 0.0


@pytest.mark.slow
def test_it_keeps_the_contract_of_policies():
    check_policy(PricePlan)


@given(seed=st.integers(0, 10_000))
def test_its_routes_never_find_more_than_the_bound(seed):
    session = random_session(np.random.default_rng(seed), n_holes=25, crossing="count")
    start = int(np.flatnonzero(session.problem.available())[0])
    (route,) = replay(session.problem, session.truth, PricePlan(), [start], 0)
    assert route.good_found <= good_holes_bound(session.problem, session.truth, start) + 1e-9


def test_what_can_be_reached_follows_the_tiers():
    problem = random_session(np.random.default_rng(6), n_holes=30).problem
    loaded = replace(problem, tree=replace(problem.tree, loaded_grid=problem.tree.n_grids - 1))
    for of, here in ((problem, NOWHERE), (problem, 0), (problem, 17), (loaded, NOWHERE), (loaded, 0)):
        for left in (1.0, 2.0, 5.0, 10.0, 19.9, 20.0):
            tiers = of.time_model.tiers_min(of.shots)
            expected = [tiers[of.tier_between(here, hole)] <= left for hole in range(of.n_holes)]
            np.testing.assert_array_equal(reachable(of, here, left), expected)
