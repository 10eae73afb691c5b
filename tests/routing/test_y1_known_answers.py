"""The Y1 validation split: the bound, and the published rows that need nothing but the time model and a rule."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.elimination import BETA_TEST, eliminated_holes
from cryoscout.routing.from_session import problem_from_session, truth_from_session
from cryoscout.routing.policies import POLICIES, make_policy
from cryoscout.routing.predictions import prediction_of
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, random_starts, replay
from cryoscout.session.builtin import load_builtin
from cryoscout.session.model import Session
from examples import slow_but

BUDGETS_MIN = [120, 240, 360, 480]
N_STARTS = 50


@pytest.fixture(scope="module")
def y1() -> Session:
    return load_builtin("y1", split="val")


@pytest.fixture(scope="module")
def truth(y1: Session) -> Truth:
    return truth_from_session(y1, 6.0)


class Bounds(dict[int, np.ndarray]):
    """The bound from each of the 1,074 holes, by budget: of those that are asked for.

    Solved once for all starts of a patch with the same outcome: they leave the same micrographs behind.
    """

    def __init__(self, y1: Session, truth: Truth) -> None:
        super().__init__()
        self.y1, self.truth = y1, truth

    def __missing__(self, budget_min: int) -> np.ndarray:
        alike = np.column_stack([self.y1.tree().patch_of_hole, self.truth.good])
        _, first, which = np.unique(alike, axis=0, return_index=True, return_inverse=True)
        problem = published(self.y1, budget_min)
        self[budget_min] = np.array([good_holes_bound(problem, self.truth, int(hole)) for hole in first])[
            which
        ]
        return self[budget_min]


@pytest.fixture(scope="module")
def bounds(y1: Session, truth: Truth) -> Bounds:
    return Bounds(y1, truth)


def published(y1: Session, budget_min: int) -> RoutingProblem:
    """The published environment: 2/5/10/20 minutes, the crossing visit counts, ResNet-50."""
    return problem_from_session(
        y1, prediction=prediction_of(y1, "res50"), budget_min=budget_min, crossing="count"
    )


def mean_found(y1: Session, truth: Truth, policy: str, budget_min: int) -> float:
    starts = random_starts(truth.measured, N_STARTS, np.random.default_rng(0))
    results = replay(published(y1, budget_min), truth, make_policy(policy), starts.tolist(), seed=0)
    return float(np.mean([result.good_found for result in results]))


def slow_from_360(*cases: tuple[int, float]) -> list[Any]:
    """Bounds of long budgets from every start take seconds."""
    return [pytest.param(*case, marks=[pytest.mark.slow] if case[0] >= 360 else []) for case in cases]


@pytest.mark.parametrize(
    ("budget_min", "mean"), slow_from_360((120, 50.4), (240, 100.6), (360, 149.0), (480, 196.1))
)
def test_the_mean_bound_over_all_starts(bounds: Bounds, budget_min: int, mean: float) -> None:
    assert bounds[budget_min].mean() == pytest.approx(mean, abs=0.1)


@pytest.mark.parametrize(
    ("budget_min", "mean"), slow_from_360((120, 55.8), (240, 103.5), (360, 151.3), (480, 198.0))
)
def test_the_mean_bound_over_the_starts_that_elimination_keeps(
    y1: Session, bounds: Bounds, budget_min: int, mean: float
) -> None:
    kept = eliminated_holes(published(y1, budget_min), BETA_TEST)
    assert 0 < kept.sum() < 1074
    assert bounds[budget_min][kept].mean() == pytest.approx(mean, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("budget_min", BUDGETS_MIN)
def test_starts_of_a_patch_with_the_same_outcome_have_the_same_bound(
    y1: Session, truth: Truth, bounds: Bounds, budget_min: int
) -> None:
    problem = published(y1, budget_min)
    assert bounds[budget_min].tolist() == [good_holes_bound(problem, truth, hole) for hole in range(1074)]


@pytest.mark.parametrize("budgets_min", slow_but([(120, 240)], pairwise(BUDGETS_MIN)), ids=str)
def test_the_bound_grows_with_the_budget_from_every_start(
    bounds: Bounds, budgets_min: tuple[int, int]
) -> None:
    less, more = budgets_min
    assert np.all(bounds[less] < bounds[more])
    assert np.all(bounds[more] <= 404)


def test_dropping_the_crossing_visit_costs_at_most_one_micrograph(
    y1: Session, truth: Truth, bounds: Bounds
) -> None:
    dropped = problem_from_session(y1, prediction=prediction_of(y1, "res50"), budget_min=120, crossing="drop")
    for hole in range(0, 1074, 25):
        assert 0 <= bounds[120][hole] - good_holes_bound(dropped, truth, hole) <= 1


@pytest.mark.parametrize(("budget_min", "mean"), [(120, 2.6), (240, 5.1), (360, 7.3), (480, 9.8)])
def test_random_finds_what_was_published(y1: Session, truth: Truth, budget_min: int, mean: float) -> None:
    assert mean_found(y1, truth, "random", budget_min) == pytest.approx(mean, abs=1.0)


@pytest.mark.parametrize(("budget_min", "mean"), [(120, 41.8), (240, 69.3), (360, 104.9), (480, 147.9)])
def test_greedy_finds_what_was_published(y1: Session, truth: Truth, budget_min: int, mean: float) -> None:
    assert mean_found(y1, truth, "greedy", budget_min) == pytest.approx(mean, abs=3.0)


@pytest.mark.parametrize(
    ("policy", "budget_min"),
    [
        # One budget of each in every run, a long one of the planners that others are judged by.
        pytest.param(
            policy,
            budget,
            marks=[]
            if budget == 120 or (budget == 480 and policy in ("index", "expected", "adaptive"))
            else [pytest.mark.slow],
        )
        for policy in POLICIES
        for budget in BUDGETS_MIN
    ],
)
def test_no_policy_passes_the_bound_of_its_start(
    y1: Session, truth: Truth, policy: str, budget_min: int
) -> None:
    problem = published(y1, budget_min)
    for result in replay(problem, truth, make_policy(policy), [0, 400, 800], seed=1):
        assert result.good_found <= good_holes_bound(problem, truth, result.start_hole)
