"""The exact bound: the most good micrographs any route could have collected, knowing the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.places import Places
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.replay import PseudoRewards, Truth
from cryoscout.routing.time_model import ROUNDING_MIN


def good_holes_bound(
    problem: RoutingProblem, truth: Truth, start_hole: int, unseen: Places | None = None
) -> float:
    """Most good micrographs any route can collect within the problem's budget, knowing the truth.

    start_hole : index into holes, already imaged, not counted, or NOWHERE
    unseen : states of places where looks are charged: who knows everything still pays the looks needed to enter a
        place; the start hole's own patch and square are entered. None: looks are free. Exact where a crossing visit is
        dropped; where it counts it may stand in a place that was not paid for, so the bound is only not exceeded.
    Holes without an outcome are left out. With crossing `count` the visit that crosses the budget counts too.
    Method: tree knapsack over patch, square, grid; exact for the count because costs depend only on the tree
    (not for the shaped reward: there, entering a patch through a bad hole can pay). Of fitted tiers the same-patch one
    is exact and the others are rounded down by less than a step (`knapsack.steps_of`): no route exceeds the bound.
    Checked against exhaustive search in tests/routing/test_bound.py.
    """
    return _most(problem, truth.good, problem.available() & truth.measured, start_hole, unseen)


def good_holes_bound_course(
    problem: RoutingProblem,
    truth: Truth,
    start_hole: int,
    moments_min: NDArray[np.float64],
    unseen: Places | None = None,
) -> NDArray[np.float64]:
    """(t,) `good_holes_bound` at each moment, all from one solution of the knapsack: it holds every budget below.

    moments_min : (t,) minutes, 0 or more, none beyond the problem's budget     unseen : as `good_holes_bound` takes it
    A visit that crosses the budget counts at the budget alone; before it, what has ended by the moment.
    """
    free = problem.available() & truth.measured
    if start_hole != NOWHERE:
        free[start_hole] = False
    setup_min = problem.time_model.setup_min
    minutes = problem.budget_min - setup_min
    knapsack = TreeKnapsack(problem, rounding="down", unseen=unseen)
    solved = knapsack.solve(truth.good, free, start_hole, minutes, plan=False)
    in_steps = np.array([knapsack.steps.in_budget(float(moment) - setup_min) for moment in moments_min])
    by_moment = np.where(in_steps < 0, 0.0, solved.within[np.clip(in_steps, 0, len(solved.within) - 1)])
    return np.where(moments_min >= problem.budget_min - ROUNDING_MIN, solved.value, by_moment)


def pseudo_reward_bound(problem: RoutingProblem, rewards: PseudoRewards, start_hole: int) -> float:
    """The same of pseudo-rewards: what the trial routes of a training on them are measured by, and nothing else."""
    return _most(problem, rewards.reward, problem.available(), start_hole)


def _most(
    problem: RoutingProblem,
    values: NDArray[np.float64],
    free: NDArray[np.bool_],
    start_hole: int,
    unseen: Places | None = None,
) -> float:
    """free : (n,) a new array"""
    if start_hole != NOWHERE:
        free[start_hole] = False
    minutes = problem.budget_min - problem.time_model.setup_min
    return (
        TreeKnapsack(problem, rounding="down", unseen=unseen)
        .solve(values, free, start_hole, minutes, plan=False)
        .value
    )
