"""Minutes that share no divisor: exhaustive search over sets, by real minutes, judges the plan and the bound."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.routing import knapsack
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.from_session import problem_from_session
from cryoscout.routing.knapsack import steps_of
from cryoscout.routing.policies import POLICIES, make_policy
from cryoscout.routing.policies.base import Observation
from cryoscout.routing.predictions import prediction_of
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.routing.time_model import PRESETS, ROUNDING_MIN, TimeModel
from cryoscout.session.builtin import load_builtin
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables
from cryoscout.testing import random_problem
from examples import slow_but


def model_of(tiers_min: np.ndarray) -> TimeModel:
    same, patch, square, grid = np.sort(tiers_min).tolist()
    return TimeModel(
        name="fitted", same_patch_min=same, new_patch_min=patch, new_square_min=square, new_grid_min=grid
    )


def small_problem(seed: int) -> RoutingProblem:
    """A tree of up to nine holes; each tier from 0.05 to 10 minutes, and a budget that some sets just fill or miss."""
    rng = np.random.default_rng(seed)
    model = model_of(np.exp(rng.uniform(np.log(0.05), np.log(10.0), 4)))
    visits_min = rng.choice(model.tiers_min(), size=int(rng.integers(1, 10))).sum()
    budget_min = max(0.05, float(visits_min * rng.choice([1.0, rng.uniform(0.7, 1.3)])))
    return random_problem(
        rng, int(rng.integers(1, 10)), budget_min=budget_min, time_model=model, crossing="drop", share_imaged=0.1
    )  # fmt: skip


def minutes_of(problem: RoutingProblem, holes: np.ndarray, here: int) -> float:
    """Of visiting a set of holes, what is open first."""
    tiers = problem.time_model.tiers_min()
    patch, square = problem.patch_of_hole, problem.square_of_patch
    open_patch = -1 if here == NOWHERE else int(patch[here])
    open_square = -1 if here == NOWHERE else int(square[open_patch])
    open_grid = -1 if here == NOWHERE else int(problem.grid_of_square[open_square])
    patches = set(patch[holes].tolist())
    squares = {int(square[each]) for each in patches}
    grids = {int(problem.grid_of_square[each]) for each in squares}
    entries = [len(patches - {open_patch}), len(squares - {open_square}), len(grids - {open_grid})]
    return float(len(holes) * tiers[0] + np.diff(tiers) @ entries)


def best_of_all_sets(problem: RoutingProblem, values: np.ndarray, here: int) -> float:
    free = problem.available()
    if here != NOWHERE:
        free[here] = False
    holes = np.flatnonzero(free)
    best = 0.0
    for taken in product([False, True], repeat=len(holes)):
        chosen = holes[np.array(taken, dtype=bool)]
        if minutes_of(problem, chosen, here) <= problem.budget_min + ROUNDING_MIN:
            best = max(best, float(values[chosen].sum()))
    return best


def first_look(problem: RoutingProblem, here: int) -> Observation:
    visited = np.zeros(problem.n_holes, dtype=bool) if problem.imaged is None else problem.imaged.copy()
    if here != NOWHERE:
        visited[here] = True
    return Observation(visited, here, problem.time_model.setup_min, np.full(problem.n_holes, np.nan), 0)


def fixed_plan(name: str, problem: RoutingProblem, here: int, **options: int) -> list[int]:
    policy = make_policy(name, **options)
    policy.reset(problem, here, np.random.default_rng(0))
    return policy.plan(first_look(problem, here))


def best_by_counts(problem: RoutingProblem, values: np.ndarray, here: int) -> float:
    """`best_of_all_sets` of a larger tree, with the same real minutes.

    They are a function of four whole numbers, the holes taken and the patches, squares and grids entered for them: a
    table of the best values over all four of these, from which those that fit in the budget are looked up.
    """
    free = problem.available()
    if here != NOWHERE:
        free[here] = False
    patch, square, grid = problem.patch_of_hole, problem.square_of_patch, problem.grid_of_square
    tiers = problem.time_model.tiers_min()
    open_patch = -1 if here == NOWHERE else int(patch[here])
    open_square = -1 if here == NOWHERE else int(square[open_patch])
    open_grid = -1 if here == NOWHERE else int(grid[open_square])
    most = min(int(free.sum()), int(problem.budget_min / tiers[0]) + 1)
    table = np.full((most + 1, len(square) + 1, len(grid) + 1, int(grid.max()) + 2), -np.inf)
    table[0, 0, 0, 0] = 0.0

    def moved(states: np.ndarray, axis: int, by: int) -> np.ndarray:
        out = np.full_like(states, -np.inf)
        if by < states.shape[axis]:
            into, of = [slice(None)] * 4, [slice(None)] * 4
            into[axis], of[axis] = slice(by, None), slice(0, states.shape[axis] - by)
            out[tuple(into)] = states[tuple(of)]
        return out

    for this_grid in range(int(grid.max()) + 1):
        in_grid = moved(table, 3, int(this_grid != open_grid))
        for this_square in np.flatnonzero(grid == this_grid):
            in_square = moved(in_grid, 2, int(this_square != open_square))
            for this_patch in np.flatnonzero(square == this_square):
                entered = moved(in_square, 1, int(this_patch != open_patch))
                own = np.sort(values[free & (patch == this_patch)])[::-1]
                for k, gain in enumerate(np.cumsum(own), start=1):
                    in_square = np.maximum(in_square, moved(entered, 0, k) + gain)
            in_grid = np.maximum(in_grid, in_square)
        table = np.maximum(table, in_grid)
    holes, *entries = np.indices(table.shape)
    minutes = holes * tiers[0] + sum(n * extra for n, extra in zip(entries, np.diff(tiers), strict=True))
    return float(table[minutes <= problem.budget_min + ROUNDING_MIN].max())


def larger_problem(seed: int) -> RoutingProblem:
    """A tree of 40 to 80 holes, in which half a per cent of the best is less than most visits."""
    rng = np.random.default_rng(seed)
    model = model_of(np.exp(rng.uniform(np.log(0.05), np.log(10.0), 4)))
    visits_min = rng.choice(model.tiers_min(), size=int(rng.integers(5, 40)), p=[0.6, 0.25, 0.1, 0.05]).sum()
    return random_problem(
        rng, int(rng.integers(40, 81)), budget_min=float(visits_min), time_model=model, crossing="drop",
        share_imaged=0.1,
    )  # fmt: skip


def start_of(problem: RoutingProblem, seed: int) -> int:
    return int(np.random.default_rng(seed).integers(NOWHERE, problem.n_holes))


def test_two_references_of_the_best_set_agree() -> None:
    for seed in range(60):
        problem = small_problem(seed)
        here, values = start_of(problem, seed), problem.prior_p_good
        assert best_by_counts(problem, values, here) == pytest.approx(best_of_all_sets(problem, values, here))


def lacking_in_plan(problem: RoutingProblem, here: int, best: float) -> float:
    """How much less than the best set the plan has, by the values that it plans on; it keeps the budget."""
    route = np.array(fixed_plan("expected", problem, here), dtype=np.int64)
    assert minutes_of(problem, route, here) <= problem.budget_min + ROUNDING_MIN
    return best - float(problem.expected_good()[route].sum())


@pytest.mark.parametrize("trees", slow_but([80], [80, 400]))
def test_the_plans_of_small_trees_are_the_best_sets(trees: int) -> None:
    for seed in range(trees):
        problem = small_problem(seed)
        here = start_of(problem, seed)
        best = best_of_all_sets(problem, problem.expected_good(), here)
        assert lacking_in_plan(problem, here, best) <= 1e-9, seed


@pytest.mark.parametrize("trees", slow_but([20], [20, 100]))
def test_the_plans_of_larger_trees_are_the_best_sets(trees: int) -> None:
    """The budget is what some set just fills, which is the worst for minutes that are rounded."""
    for seed in range(trees):
        problem = larger_problem(seed)
        here = start_of(problem, seed)
        best = best_by_counts(problem, problem.expected_good(), here)
        assert lacking_in_plan(problem, here, best) <= 1e-9, seed


@pytest.mark.parametrize("trees", slow_but([20], [20, 100]))
def test_plans_of_too_many_holes_for_a_second_try_lack_half_a_per_cent_or_a_visit(
    trees: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes are then rounded up alone, as for a session of very many holes."""
    monkeypatch.setattr(knapsack, "_FEW_STATES", 0)
    lacking = np.zeros(trees)
    for seed in range(trees):
        problem = larger_problem(seed)
        here, values = start_of(problem, seed), problem.expected_good()
        best = best_by_counts(problem, values, here)
        lacking[seed] = lacking_in_plan(problem, here, best)
        assert lacking[seed] <= max(0.005 * best, values.max())
    print(f"{(lacking <= 1e-9).sum()} of {trees} plans are the best set, at most {lacking.max():.2f} less")  # noqa: T201
    assert (lacking <= 1e-9).sum() >= 0.95 * trees


@pytest.mark.parametrize("trees", slow_but([80], [80, 400]))
def test_the_bound_of_small_trees_is_the_best_set_and_never_below_it(trees: int) -> None:
    above = np.zeros(trees)
    for seed in range(trees):
        problem, rng = small_problem(seed), np.random.default_rng(seed)
        here = int(rng.integers(NOWHERE, problem.n_holes))
        good = rng.integers(0, 2, problem.n_holes).astype(np.float64)
        bound = good_holes_bound(problem, Truth(good, np.ones(problem.n_holes, dtype=bool)), here)
        above[seed] = bound - best_of_all_sets(problem, good, here)
    print(f"{(np.abs(above) <= 1e-9).sum()} of {trees} bounds are the best set")  # noqa: T201
    assert above.min() >= -1e-9
    assert above.max() <= 1.0 + 1e-9
    assert (above <= 1e-9).sum() >= trees - 1


@pytest.mark.parametrize("trees", slow_but([20], [20, 100]))
def test_the_bound_of_larger_trees_is_at_most_half_a_per_cent_or_one_micrograph_above_the_best_set(
    trees: int,
) -> None:
    above = np.zeros(trees)
    for seed in range(trees):
        problem, rng = larger_problem(seed), np.random.default_rng(seed)
        here = int(rng.integers(NOWHERE, problem.n_holes))
        good = rng.binomial(1, problem.prior_p_good).astype(np.float64)
        bound = good_holes_bound(problem, Truth(good, np.ones(problem.n_holes, dtype=bool)), here)
        above[seed] = bound - best_by_counts(problem, good, here)
    print(f"{(np.abs(above) <= 1e-9).sum()} of {trees} bounds are the best set")  # noqa: T201
    assert above.min() >= -1e-9
    assert above.max() <= 1.0 + 1e-9
    assert (above <= 1e-9).sum() >= 0.95 * trees


@given(tiers=st.lists(st.floats(0.05, 10.0), min_size=4, max_size=4))
def test_most_visits_are_exact_and_the_others_are_rounded_by_less_than_a_step(tiers: list[float]) -> None:
    tiers_min = np.sort(np.array(tiers))
    up, down = steps_of(tiers_min, "up"), steps_of(tiers_min, "down")
    for steps in (up, down):
        assert steps.tiers_min()[0] == pytest.approx(tiers_min[0], abs=1e-9)
    assert (up.tiers_min() >= tiers_min - 1e-5 * up.step_min).all()
    assert (up.tiers_min() <= tiers_min + up.step_min).all()
    assert (down.tiers_min() <= tiers_min + 1e-5 * down.step_min).all()
    assert (down.tiers_min() >= tiers_min - down.step_min).all()


@pytest.mark.parametrize("preset", [name for name in PRESETS if name.startswith("cryorl")])
def test_presets_are_exact_in_steps_of_their_divisor(preset: str) -> None:
    tiers_min = PRESETS[preset].tiers_min()
    for rounding in ("up", "down"):
        np.testing.assert_array_equal(steps_of(tiers_min, rounding).tiers_min(), tiers_min)
    assert steps_of(tiers_min, "up").step_min == 1.0


TIERS = {
    "of Y1": [1.517, 3.083, 3.1, 3.233],
    "short": [0.21, 0.6, 1.5, 5.0],
    "odd": [0.333, 1.777, 4.91, 11.3],
    "long moves": [1.013, 6.07, 21.9, 60.3],
}


def session_problem(name: str, tiers: str, budget_min: float) -> RoutingProblem:
    if name == "y1":
        session = load_builtin("y1", split="val")
    else:
        session = to_session(simulate_tables(simulation_named(name), seed=7), name)
    prediction = prediction_of(session, "combined")
    model = model_of(np.array(TIERS[tiers]))
    return problem_from_session(session, prediction=prediction, budget_min=budget_min, time_model=model)


@pytest.mark.slow
@pytest.mark.parametrize("budget_min", [60.0, 240.0, 480.0])
@pytest.mark.parametrize("tiers", TIERS)
@pytest.mark.parametrize("name", ["y1", "small", "y1-like"])
def test_no_other_fixed_plan_has_more_under_the_same_belief(name: str, tiers: str, budget_min: float) -> None:
    problem = session_problem(name, tiers, budget_min)
    best = problem.expected_good()[fixed_plan("expected", problem, NOWHERE)].sum()
    for other in POLICIES:
        quick = {"evaluations": 500} if other in ("genetic", "annealing") else {}
        found = problem.expected_good()[fixed_plan(other, problem, NOWHERE, **quick)].sum()
        assert found <= best + 1e-9, f"{other} finds {found:.3f}, expected {best:.3f}"
