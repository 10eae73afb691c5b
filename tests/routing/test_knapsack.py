"""The tree knapsack against exhaustive search, and its plan against its own value and the budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing import knapsack
from cryoscout.routing.knapsack import (
    Plan,
    Rounding,
    Steps,
    TreeKnapsack,
    TreeRanges,
    sorted_by_patch,
    steps_of,
)
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.testing import exhaustive_best, random_problem
from examples import share


def tiers(*minutes: float, **others: float) -> TimeModel:
    names = ("same_patch_min", "new_patch_min", "new_square_min", "new_grid_min")
    return TimeModel(name="own", **dict(zip(names, minutes, strict=True)), **others)  # type: ignore[arg-type]


EXACT = {
    "cryorl": PRESETS["cryorl"],
    "cryorl-code": PRESETS["cryorl-code"],
    "flat": tiers(3, 3, 3, 3),
    "overheads": tiers(2, 5, 10, 20, setup_min=7, per_square_overhead_min=3, extra_shot_min=0.5),
    "tenths": tiers(1.1, 1.1, 2.2, 4.4, setup_min=0.3, extra_shot_min=0.1),
}
"""Time models whose tiers share a divisor of 0.1 min or more: nothing is rounded."""

FITTED = {
    "y1": tiers(1.517, 3.083, 3.1, 3.233),
    "quick": tiers(0.04, 0.33, 0.377, 1.999),  # less than a step for a hole
    "overheads": tiers(
        1.517, 3.083, 3.1, 3.233, setup_min=4.321, per_square_overhead_min=0.77, extra_shot_min=0.3
    ),
}


def tiny_problem(
    rng: np.random.Generator,
    model: TimeModel,
    crossing: Crossing,
    shots: int,
    budget_min: float | None = None,
) -> RoutingProblem:
    """At most 7 holes, some imaged, some eliminated, with a budget in tenths of minutes that often just fits."""
    n_holes = int(rng.integers(1, 8))
    if budget_min is None:
        per_visit = rng.choice(model.tiers_min(shots), size=rng.integers(1, n_holes + 1))
        budget_min = model.setup_min + float(per_visit.sum()) + float(rng.choice([-0.1, 0.0, 0.0, 0.1, 1.0]))
    return random_problem(
        rng,
        n_holes,
        budget_min=max(round(budget_min, 1), 0.1),
        time_model=model,
        shots=shots,
        crossing=crossing,
        share_imaged=float(rng.choice([0.0, 0.3])),
        share_allowed=float(rng.choice([1.0, 0.7])),
    )


def random_values(rng: np.random.Generator, n_holes: int) -> np.ndarray:
    """Whole, equal, fractional or mostly zero values."""
    return np.array(
        [
            rng.integers(0, 4, n_holes).astype(np.float64),
            np.ones(n_holes),
            rng.random(n_holes),
            rng.random(n_holes) * (rng.random(n_holes) < 0.4),
        ][rng.integers(4)]
    )


def free_from(problem: RoutingProblem, here: int) -> np.ndarray:
    free = problem.available()
    if here != NOWHERE:
        free[here] = False
    return free


def solved(
    problem: RoutingProblem, values: np.ndarray, here: int, rounding: Rounding = "up", *, plan: bool = True
) -> Plan:
    minutes_left = problem.budget_min - problem.time_model.setup_min
    return TreeKnapsack(problem, rounding).solve(
        values, free_from(problem, here), here, minutes_left, plan=plan
    )


def minutes_of_plan(problem: RoutingProblem, plan: Plan, here: int) -> float:
    """The formula of the tree, entry by entry: what the start has entered is paid."""
    t = problem.time_model.tiers_min(problem.shots)
    patches = set(plan.patches.tolist())
    squares = {int(problem.square_of_patch[patch]) for patch in patches}
    grids = {int(problem.grid_of_square[square]) for square in squares}
    if here != NOWHERE:
        patches -= {int(problem.patch_of_hole[here])}
        squares -= {int(problem.square_of_hole[here])}
        grids -= {int(problem.grid_of_hole[here])}
    return float(
        t[0] * plan.counts.sum()
        + (t[1] - t[0]) * len(patches)
        + (t[2] - t[1]) * len(squares)
        + (t[3] - t[2]) * len(grids)
    )


def value_of_plan(problem: RoutingProblem, plan: Plan, values: np.ndarray, here: int) -> float:
    """The best holes of each patch, and with crossing `count` the best one that is left."""
    free = free_from(problem, here)
    left, total = [], 0.0
    counts = dict(zip(plan.patches.tolist(), plan.counts.tolist(), strict=True))
    for patch in range(len(problem.square_of_patch)):
        inside = sorted(values[free & (problem.patch_of_hole == patch)], reverse=True)
        assert counts.get(patch, 0) <= len(inside)
        total += sum(inside[: counts.get(patch, 0)])
        left += inside[counts.get(patch, 0) :]
    if problem.crossing == "count" and problem.budget_min >= problem.time_model.setup_min:
        total += max(left, default=0.0)
    return float(total)


# --- judged by exhaustive search ------------------------------------------------------------------


@settings(max_examples=share(400))
@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from(sorted(EXACT)),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 3),
)
def test_it_finds_what_exhaustive_search_finds(seed: int, model: str, crossing: Crossing, shots: int) -> None:
    rng = np.random.default_rng(seed)
    problem = tiny_problem(rng, EXACT[model], crossing, shots)
    values = random_values(rng, problem.n_holes)
    here = int(rng.integers(NOWHERE, problem.n_holes))
    best = exhaustive_best(problem, values, here)
    plan = solved(problem, values, here)
    assert plan.value == pytest.approx(best, abs=1e-12)
    assert solved(problem, values, here, plan=False).value == plan.value
    assert solved(problem, values, here, "down").value == plan.value  # nothing to round
    assert value_of_plan(problem, plan, values, here) == pytest.approx(plan.value, abs=1e-12)
    if problem.budget_min >= problem.time_model.setup_min:
        left_min = problem.budget_min - problem.time_model.setup_min
        assert minutes_of_plan(problem, plan, here) <= left_min + 1e-6


@settings(max_examples=share(300))
@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from(sorted(FITTED)),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 2),
)
def test_rounding_of_fitted_minutes_is_safe_and_less_than_a_tenth_of_a_minute_per_visit(
    seed: int, model: str, crossing: Crossing, shots: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = tiny_problem(rng, FITTED[model], crossing, shots)
    values = random_values(rng, problem.n_holes)
    here = int(rng.integers(NOWHERE, problem.n_holes))
    best = exhaustive_best(problem, values, here)
    plan = solved(problem, values, here, "up")
    bound = solved(problem, values, here, "down", plan=False).value
    assert plan.value - 1e-12 <= best <= bound + 1e-12
    assert value_of_plan(problem, plan, values, here) == pytest.approx(plan.value, abs=1e-12)
    if problem.budget_min >= problem.time_model.setup_min:
        left_min = problem.budget_min - problem.time_model.setup_min
        assert minutes_of_plan(problem, plan, here) <= left_min + 1e-6  # in true, not in rounded minutes
        roomier = problem.with_budget(problem.budget_min + 0.1 * problem.n_holes + 1e-6)
        assert solved(roomier, values, here, "up").value >= best - 1e-12
        assert exhaustive_best(roomier, values, here) >= bound - 1e-12


@given(seed=st.integers(0, 2**32 - 1), crossing=st.sampled_from(["count", "drop"]))
def test_a_larger_problem_is_served_with_a_plan_of_its_own_value(seed: int, crossing: Crossing) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, int(rng.integers(20, 120)), crossing=crossing, share_imaged=0.2)
    values = random_values(rng, problem.n_holes)
    here = int(rng.integers(NOWHERE, problem.n_holes))
    plan = solved(problem, values, here)
    assert value_of_plan(problem, plan, values, here) == pytest.approx(plan.value, abs=1e-9)
    assert minutes_of_plan(problem, plan, here) <= problem.budget_min + 1e-6
    assert solved(problem, values, here, plan=False).value == plan.value
    assert np.all(np.diff(plan.patches) > 0)
    assert np.all(plan.counts >= 1)
    longer = problem.with_budget(problem.budget_min + 5)
    assert solved(longer, values, here, plan=False).value >= plan.value
    if crossing == "drop":
        counting = replace(problem, crossing="count")
        assert solved(counting, values, here, plan=False).value >= plan.value


@given(seed=st.integers(0, 10_000), crossing=st.sampled_from(["count", "drop"]))
def test_with_time_enough_everything_is_collected(seed: int, crossing: Crossing) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 30, budget_min=1e7, crossing=crossing, share_allowed=0.8)
    values = random_values(rng, 30)
    assert solved(problem, values, NOWHERE).value == pytest.approx(values[problem.available()].sum())


# --- edges ----------------------------------------------------------------------------------------


def one_patch(p_good: list[float], **others: object) -> RoutingProblem:
    zero = np.zeros(1, dtype=np.int32)
    arguments: dict[str, object] = {"budget_min": 24.0} | others
    return RoutingProblem(
        HoleTree(np.zeros(len(p_good), dtype=np.int32), zero, zero),
        np.array(p_good),
        **arguments,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("crossing", "value"), [("drop", 0.0), ("count", 0.9)])
def test_nothing_left_still_allows_the_crossing_visit(crossing: Crossing, value: float) -> None:
    problem = one_patch([0.3, 0.9], crossing=crossing)
    solver = TreeKnapsack(problem)
    free = problem.available()
    assert solver.solve(problem.prior_p_good, free, NOWHERE, 0.0, plan=True).value == value
    over = solver.solve(problem.prior_p_good, free, NOWHERE, -0.1, plan=True)
    assert (over.value, len(over.patches), len(over.counts)) == (0.0, 0, 0)


@pytest.mark.parametrize("crossing", ["count", "drop"])
def test_no_free_hole_is_no_plan(crossing: Crossing) -> None:
    problem = one_patch([0.3, 0.9], crossing=crossing)
    plan = TreeKnapsack(problem).solve(
        problem.prior_p_good, np.zeros(2, dtype=bool), NOWHERE, 24.0, plan=True
    )
    assert (plan.value, plan.patches.tolist()) == (0.0, [])


def test_worthless_holes_are_never_planned() -> None:
    plan = solved(one_patch([0.0, 0.0, 0.5], budget_min=500.0), np.array([0.0, 0.0, 0.5]), NOWHERE)
    assert (plan.patches.tolist(), plan.counts.tolist()) == ([0], [1])


def test_a_plan_too_large_to_keep_is_refused_and_its_value_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = one_patch([0.5] * 20, budget_min=60.0)
    monkeypatch.setattr(knapsack, "_MOST_PLAN_STATES", 40)
    message = (
        r"budget must be below 40 minutes for a plan of 1 patches\. Got 60 instead\. Remedy: plan a shorter"
    )
    with pytest.raises(InputError, match=message):
        solved(problem, problem.prior_p_good, NOWHERE)
    assert solved(problem, problem.prior_p_good, NOWHERE, plan=False).value == pytest.approx(10.0)


def test_a_budget_beyond_every_visit_needs_no_more_states_than_all_visits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(knapsack, "_MOST_PLAN_STATES", 100)
    assert solved(one_patch([0.5] * 20, budget_min=1e9), np.full(20, 0.5), NOWHERE).value == pytest.approx(
        10.0
    )


# --- steps, tree and order ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "rounding", "steps"),
    [
        ((2, 5, 10, 20), "up", Steps(1.0, 2, 3, 5, 10)),
        ((2, 4, 10, 20), "down", Steps(2.0, 1, 1, 3, 5)),
        ((2.5, 5, 10, 20), "up", Steps(2.5, 1, 1, 2, 4)),
        ((0.25, 0.5, 1.5, 1.5), "up", Steps(0.25, 1, 1, 4, 0)),
        ((1.1, 1.1, 2.2, 4.4), "up", Steps(1.1, 1, 0, 1, 2)),
        ((0.3, 0.7, 1.1, 1.9), "down", Steps(0.1, 3, 4, 4, 8)),
    ],
)
def test_minutes_as_whole_steps(minutes: tuple[float, ...], rounding: Rounding, steps: Steps) -> None:
    got = steps_of(np.array(minutes, dtype=np.float64), rounding)
    assert got.step_min == pytest.approx(steps.step_min)
    assert replace(got, step_min=steps.step_min) == steps


@given(minutes=st.lists(st.floats(0.01, 60), min_size=4, max_size=4).map(sorted))
def test_rounded_tiers_enclose_the_true_ones(minutes: list[float]) -> None:
    true = np.array(minutes)

    def as_minutes(rounding: Rounding) -> np.ndarray:
        steps = steps_of(true, rounding)
        entries = [steps.hole, steps.patch_entry, steps.square_entry, steps.grid_entry]
        assert min(entries) >= 0
        return np.cumsum(entries) * steps.step_min

    assert np.all(as_minutes("down") <= true + 1e-6)
    assert np.all(true <= as_minutes("up") + 1e-6)
    assert np.all(as_minutes("up") - as_minutes("down") <= 0.1 + 1e-6)


@pytest.mark.parametrize(
    ("step_min", "budget_min", "steps"),
    [(0.1, 0.3, 3), (0.1, 0.7, 7), (1.1, 3.3, 3), (2.0, 7.9, 3), (1.0, -0.5, -1)],
)
def test_whole_steps_of_a_budget(step_min: float, budget_min: float, steps: int) -> None:
    assert Steps(step_min, 1, 0, 0, 0).in_budget(budget_min) == steps


def test_the_tree_is_ranges_and_a_parent_without_children_an_empty_one() -> None:
    problem = RoutingProblem(
        tree=HoleTree(
            np.array([1, 1, 3], dtype=np.int32),
            np.array([0, 1, 1, 3], dtype=np.int32),
            np.array([0, 0, 2, 2], dtype=np.int32),
        ),
        prior_p_good=np.ones(3),
        budget_min=10.0,
    )
    tree = TreeRanges.of(problem)
    assert tree.patch_start.tolist() == [0, 0, 2, 2, 3]
    assert tree.square_start.tolist() == [0, 1, 3, 3, 4]
    assert tree.grid_start.tolist() == [0, 2, 2, 4]


@given(seed=st.integers(0, 10_000))
def test_values_are_sorted_within_their_patch_and_only_free_positive_ones_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 25)
    values, free = random_values(rng, 25), rng.random(25) < 0.7
    start = TreeRanges.of(problem).patch_start
    in_order, counts = sorted_by_patch(values, free, start)
    for patch, count in enumerate(counts.tolist()):
        own = np.flatnonzero((problem.patch_of_hole == patch) & free & (values > 0)).tolist()
        best_first = sorted(own, key=lambda hole: (-values[hole], hole))
        assert in_order[start[patch] : start[patch] + count].tolist() == best_first
