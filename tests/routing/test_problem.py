"""A problem refuses what cannot be planned, names it, and knows its tree."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.testing import random_problem


def index(*parents: int) -> np.ndarray:
    return np.array(parents, dtype=np.int32)


def five_holes() -> RoutingProblem:
    """Grid 0: square 0 with patches 0 (holes 0, 1) and 1 (hole 2), square 1 with patch 2 (hole 3); grid 1: hole 4."""
    return RoutingProblem(
        tree=HoleTree(index(0, 0, 1, 2, 3), index(0, 0, 1, 2), index(0, 0, 1)),
        prior_p_good=np.array([0.1, 0.9, 0.5, 0.4, 1.0]),
        budget_min=60.0,
    )


def changed(problem: RoutingProblem, **changes: object) -> RoutingProblem:
    """The problem with other fields; those of its tree by their own names."""
    arrays = vars(problem.tree)
    of_tree = {name: changes.pop(name) for name in list(changes) if name in arrays}
    return replace(problem, tree=HoleTree(**arrays | of_tree), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prior_p_good": np.empty(0)}, "A routing problem must have at least one hole. Got 0 instead."),
        ({"patch_of_hole": index(0, 0, 1)}, "The tree must have 5 holes, as prior_p_good. Got 3 instead."),
        (
            {"patch_of_hole": index(0, 1, 0, 2, 3)},
            "patch_of_hole must be sorted indices below 4. Got [0 1 0 2 3] instead.",
        ),
        (
            {"patch_of_hole": index(0, 0, 1, 2, 4)},
            "patch_of_hole must be sorted indices below 4. Got [0 0 1 2 4] instead.",
        ),
        (
            {"patch_of_hole": index(-1, 0, 1, 2, 3)},
            "patch_of_hole must be sorted indices below 4. Got [-1  0  1  2  3] instead.",
        ),
        (
            {"square_of_patch": index(0, 1, 0, 2)},
            "square_of_patch must be sorted indices below 3. Got [0 1 0 2] instead.",
        ),
        (
            {"square_of_patch": index(0, 0, 1, 3)},
            "square_of_patch must be sorted indices below 3. Got [0 0 1 3] instead.",
        ),
        (
            {"square_of_patch": index()},
            "patch_of_hole must be sorted indices below 0. Got [0 0 1 2 3] instead.",
        ),
        ({"grid_of_square": index(1, 0, 1)}, "grid_of_square must be sorted indices. Got [1 0 1] instead."),
        (
            {"grid_of_square": index(-1, 0, 1)},
            "grid_of_square must be sorted indices. Got [-1  0  1] instead.",
        ),
        (
            {"prior_p_good": np.array([0.1, 1.2, np.nan, 0.4, 1.0])},
            "p_good must be between 0 and 1. Got 1.2 at hole 1 instead (2 such holes). "
            "Remedy: predict the session again.",
        ),
        (
            {"prior_p_good": np.array([0.1, 0.9, np.nan, 0.4, 1.0])},
            "p_good must be between 0 and 1. Got nan at hole 2 instead (1 such holes). "
            "Remedy: predict the session again.",
        ),
        (
            {"prior_p_good": np.array([-0.01, 0.9, 0.5, 0.4, 1.0])},
            "p_good must be between 0 and 1. Got -0.01 at hole 0 instead (1 such holes). "
            "Remedy: predict the session again.",
        ),
        ({"shots": 0}, "shots must be at least 1. Got 0 instead."),
        ({"crossing": "cuont"}, "crossing must be 'count' or 'drop'. Got 'cuont' instead."),
        ({"imaged": np.zeros(4, dtype=bool)}, "imaged must have 5 entries. Got 4 instead."),
        ({"outcome": np.zeros(6)}, "outcome must have 5 entries. Got 6 instead."),
        ({"allowed": np.zeros(1, dtype=bool)}, "allowed must have 5 entries. Got 1 instead."),
    ],
)
def test_what_cannot_be_planned_is_refused_and_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message) + "$"):
        changed(five_holes(), **changes)


@pytest.mark.parametrize("budget_min", [0.0, -5.0, float("nan"), float("inf")])
def test_a_budget_must_be_a_positive_number_also_when_it_is_changed(budget_min: float) -> None:
    with pytest.raises(InputError, match="The budget must be a positive number of minutes"):
        replace(five_holes(), budget_min=budget_min)
    with pytest.raises(InputError, match="The budget must be a positive number of minutes"):
        five_holes().with_budget(budget_min)


def test_another_budget_changes_nothing_else() -> None:
    problem = five_holes()
    longer = problem.with_budget(75.0)
    assert (longer.budget_min, problem.budget_min) == (75.0, 60.0)
    assert longer.prior_p_good is problem.prior_p_good


def test_the_tree_is_read_from_its_indices() -> None:
    problem = five_holes()
    assert problem.n_holes == 5
    assert problem.square_of_hole.tolist() == [0, 0, 0, 1, 2]
    assert problem.grid_of_hole.tolist() == [0, 0, 0, 0, 1]
    assert problem.grid_of_patch.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("here", "tiers"), [(0, [0, 0, 1, 2, 3]), (3, [2, 2, 2, 0, 3]), (4, [3, 3, 3, 3, 0]), (NOWHERE, [3] * 5)]
)
def test_a_tier_says_what_a_visit_must_enter(here: int, tiers: list[int]) -> None:
    assert [five_holes().tier_between(here, hole) for hole in range(5)] == tiers


@given(seed=st.integers(0, 10_000), n_holes=st.integers(1, 30))
def test_the_way_back_is_as_long_and_a_detour_never_enters_less(seed: int, n_holes: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes)
    a, b, c = (int(hole) for hole in rng.integers(n_holes, size=3))
    assert problem.tier_between(a, b) == problem.tier_between(b, a)
    assert problem.tier_between(a, a) == 0
    assert problem.tier_between(a, c) <= max(problem.tier_between(a, b), problem.tier_between(b, c))


def test_imaged_and_eliminated_holes_are_not_available() -> None:
    problem = five_holes()
    assert problem.available().tolist() == [True] * 5
    imaged = np.array([1, 0, 0, 0, 0], dtype=bool)
    allowed = np.array([1, 1, 0, 1, 1], dtype=bool)
    cut = replace(problem, imaged=imaged, allowed=allowed)
    assert cut.available().tolist() == [False, True, False, True, True]
    cut.available()[:] = False  # a copy: nobody's elimination is written over
    assert cut.available().tolist() == [False, True, False, True, True]
    assert allowed.tolist() == [True, True, False, True, True]


def test_the_belief_starts_at_p_good_and_takes_in_the_outcomes_known_so_far() -> None:
    problem = five_holes()
    before = problem.belief().p_good()
    assert before == pytest.approx(problem.prior_p_good, abs=2e-4)
    outcome = np.array([np.nan, 0.0, np.nan, np.nan, np.nan])
    after = replace(problem, imaged=~np.isnan(outcome), outcome=outcome).belief().p_good()
    assert after[0] < before[0] - 0.01  # a promising neighbour in its patch was bad
    assert after[4] == pytest.approx(before[4], abs=1e-3)  # another grid, and nothing shared by the session


def test_a_problem_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        five_holes().budget_min = 1.0  # type: ignore[misc]


def test_a_pending_shot_is_unknown_and_not_a_bad_one() -> None:
    def believed(outcome: float, results: float) -> float:
        problem = RoutingProblem(
            tree=HoleTree(
                np.zeros(2, dtype=np.int32), np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int32)
            ),
            prior_p_good=np.array([0.5, 0.5]),
            budget_min=60.0,
            shots=2,
            imaged=np.array([True, False]),
            outcome=np.array([outcome, np.nan]),
            results=np.array([results, 0.0]),
        )
        return float(problem.belief().p_good()[1])

    one_good_one_pending, one_good_one_bad = believed(1.0, 1.0), believed(1.0, 2.0)
    assert one_good_one_bad == pytest.approx(0.5, abs=1e-6)
    assert one_good_one_pending > 0.55
