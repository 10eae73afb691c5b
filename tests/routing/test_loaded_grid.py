"""A loaded grid costs no grid switch at the start; an exhaustive search that knows no policy judges it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.course import Course
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import NOWHERE
from cryoscout.routing.replay import Truth
from cryoscout.testing import exhaustive_best, random_problem


def loaded(problem, grid):
    return replace(problem, tree=replace(problem.tree, loaded_grid=grid))


def problem_of(seed: int):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 7, budget_min=float(rng.integers(8, 60)))
    return loaded(problem, int(rng.integers(0, problem.tree.n_grids)))


@given(seed=st.integers(0, 10_000))
def test_the_best_plan_from_a_loaded_grid_is_that_of_an_exhaustive_search(seed):
    problem = problem_of(seed)
    best = exhaustive_best(problem, problem.prior_p_good)
    course = plan_route(problem, make_policy("expected"), NOWHERE, 0)
    assert problem.prior_p_good[course.route].sum() == pytest.approx(best)
    assert good_holes_bound(
        problem, Truth(problem.prior_p_good, np.ones(7, dtype=bool)), NOWHERE
    ) == pytest.approx(best)


@given(
    seed=st.integers(0, 10_000), policy=st.sampled_from(["greedy", "index", "adaptive", "genetic", "offline"])
)
def test_every_planner_pays_a_square_switch_into_the_loaded_grid(seed, policy):
    problem = problem_of(seed)
    course = plan_route(problem, make_policy(policy), NOWHERE, 0)
    if len(course):
        grid = problem.grid_of_hole[course.route[0]]
        assert course.tiers[0] == (2 if grid == problem.tree.loaded_grid else 3)
    from_nowhere = loaded(problem, NOWHERE)
    assert len(plan_route(from_nowhere, make_policy("expected"), NOWHERE, 0)) <= len(
        plan_route(problem, make_policy("expected"), NOWHERE, 0)
    )


def test_tiers_from_nowhere_are_those_of_a_course():
    problem = problem_of(3)
    expected = [problem.tier_between(NOWHERE, hole) for hole in range(problem.n_holes)]
    assert set(expected) == {2, 3}
    assert problem.tree.tiers_from(NOWHERE).tolist() == expected
    course = Course(problem, NOWHERE)
    assert [course.ends_min(hole) for hole in range(7)] == [10.0 if tier == 2 else 20.0 for tier in expected]


def test_a_grid_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"loaded_grid must be a grid index below .* Got 99 instead"):
        loaded(problem_of(0), 99)
