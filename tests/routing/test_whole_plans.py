"""A whole plan is what the policy says hole by hole; the slow judge has every decision made by a policy that is new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.routing.course import PolicyError
from cryoscout.routing.policies import POLICIES, make_policy
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation, Policy
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.time_model import PRESETS, ROUNDING_MIN, TimeModel
from cryoscout.testing import random_problem
from examples import share

MODELS = {
    "cryorl": PRESETS["cryorl"],
    "flat": TimeModel(name="flat", same_patch_min=3, new_patch_min=3, new_square_min=3, new_grid_min=3),
    "overheads": PRESETS["cryorl"].model_copy(
        update={"setup_min": 7.0, "per_square_overhead_min": 3.0, "extra_shot_min": 0.5}
    ),
    "fitted": TimeModel(
        name="fitted", same_patch_min=1.517, new_patch_min=3.083, new_square_min=3.1, new_grid_min=3.233
    ),
}


def first_look(problem: RoutingProblem, start_hole: int) -> Observation:
    visited = np.zeros(problem.n_holes, dtype=bool) if problem.imaged is None else problem.imaged.copy()
    known = np.full(problem.n_holes, np.nan) if problem.outcome is None else problem.outcome.copy()
    if start_hole != NOWHERE:
        visited[start_hole] = True
    return Observation(visited, start_hole, problem.time_model.setup_min, known, 0)


def asked_anew(make: Callable[[], Policy], problem: RoutingProblem, start_hole: int) -> list[int]:
    """The route where every decision is made by a policy that was asked for nothing before."""
    seen = first_look(problem, start_hole)
    tiers_min = problem.time_model.tiers_min(problem.shots)
    route: list[int] = []
    while True:
        policy = make()
        policy.reset(problem, start_hole, np.random.default_rng(0))
        hole = policy.next_hole(seen)
        if hole == STOP:
            return route
        ends_min = seen.minutes_used + float(tiers_min[problem.tier_between(seen.here, hole)])
        if ends_min > problem.budget_min + ROUNDING_MIN and (
            policy.drops_crossing or problem.crossing == "drop"
        ):
            return route
        route.append(hole)
        visited = seen.visited.copy()
        visited[hole] = True
        seen = replace(seen, visited=visited, here=hole, minutes_used=ends_min)
        if ends_min > problem.budget_min + ROUNDING_MIN:
            return route


def problem_of_kind(rng: np.random.Generator, kind: str, **others: object) -> RoutingProblem:
    """Probabilities that are equal, that add up to equal sums, or that are all different."""
    problem = random_problem(rng, share_imaged=0.2, share_allowed=0.9, **others)  # type: ignore[arg-type]
    p_good = {
        "flat": np.full(problem.n_holes, 0.5),
        "tenths": rng.integers(0, 6, problem.n_holes) / 10.0,
        "distinct": rng.random(problem.n_holes),
    }[kind]
    return replace(problem, prior_p_good=p_good)


@settings(max_examples=share(150))
@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["adaptive", "adaptive-trust", "expected", "index"]),
    kind=st.sampled_from(["flat", "tenths", "distinct"]),
    model=st.sampled_from(sorted(MODELS)),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 2),
)
def test_a_plan_is_the_holes_of_a_policy_that_decides_every_visit_anew(
    seed: int, name: str, kind: str, model: str, crossing: Crossing, shots: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = problem_of_kind(
        rng, kind, n_holes=int(rng.integers(1, 40)), time_model=MODELS[model], crossing=crossing, shots=shots
    )
    start = int(rng.integers(NOWHERE, problem.n_holes))
    policy = make_policy(name)
    policy.reset(problem, start, rng)
    assert policy.plan(first_look(problem, start)) == asked_anew(lambda: make_policy(name), problem, start)


@pytest.mark.parametrize("name", POLICIES)
def test_a_plan_leaves_the_policy_as_it_was(name: str) -> None:
    problem = random_problem(np.random.default_rng(4), 30, budget_min=90.0)
    quick = {"evaluations": 60} if name in ("genetic", "annealing") else {}
    planned, plain = make_policy(name, **quick), make_policy(name, **quick)
    for policy in (planned, plain):
        policy.reset(problem, NOWHERE, np.random.default_rng(1))
    seen = first_look(problem, NOWHERE)
    route = planned.plan(seen)
    assert len(route) > 3
    for hole in route:
        assert planned.plan(seen)[0] == planned.next_hole(seen) == plain.next_hole(seen) == hole
        tier = problem.tier_between(seen.here, hole)
        used_min = seen.minutes_used + float(problem.time_model.tiers_min()[tier])
        visited = seen.visited.copy()
        visited[hole] = True
        seen = replace(seen, visited=visited, here=hole, minutes_used=used_min)
    assert planned.plan(seen) == []


def test_without_news_a_whole_plan_is_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryoscout.routing.knapsack import TreeKnapsack

    solve, solved = TreeKnapsack.solve, []

    def counted(self, *arguments, **others):  # type: ignore[no-untyped-def]
        solved.append(arguments[3])
        return solve(self, *arguments, **others)

    monkeypatch.setattr(TreeKnapsack, "solve", counted)
    problem = random_problem(np.random.default_rng(3), 200, budget_min=240.0)
    policy = make_policy("adaptive")
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    assert len(policy.plan(first_look(problem, NOWHERE))) > 20
    assert len(solved) == 2  # at the start, and when nothing of the plan is left


@pytest.mark.parametrize("changed", ["visited", "here", "minutes_used", "outcome"])
def test_what_was_not_planned_for_is_planned_anew(changed: str) -> None:
    """The operator imaged more, stands elsewhere, took longer, or a result came: as a policy that is new says."""
    problem = random_problem(np.random.default_rng(8), 120, budget_min=120.0)
    seen = first_look(problem, NOWHERE)
    policy = make_policy("adaptive")
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    route = policy.plan(seen)
    visited = seen.visited.copy()
    for hole in route[:3]:
        policy.next_hole(seen)
        visited = visited.copy()
        visited[hole] = True
        minutes = float(problem.time_model.tiers_min()[problem.tier_between(seen.here, hole)])
        seen = replace(seen, visited=visited, here=hole, minutes_used=seen.minutes_used + minutes)
    if changed == "visited":
        visited = visited.copy()
        visited[route[3:6]] = True
        seen = replace(seen, visited=visited)
    elif changed == "here":
        seen = replace(seen, here=route[0])
    elif changed == "minutes_used":
        seen = replace(seen, minutes_used=seen.minutes_used + 30.0)
    else:
        outcome = seen.outcome.copy()
        outcome[route[:3]] = 0.0
        seen = replace(seen, outcome=outcome, news=3)
    new = make_policy("adaptive")
    new.reset(problem, NOWHERE, np.random.default_rng(0))
    assert policy.next_hole(seen) == new.next_hole(seen)
    assert policy.plan(seen) == new.plan(seen)


class Stubborn(AskedHoleByHole):
    name, kind, default_prediction, drops_crossing = "stubborn", "planner", "combined", False

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        self._problem = problem

    def next_hole(self, observation: Observation) -> int:
        return 0


def test_a_hole_that_is_named_twice_is_refused() -> None:
    problem = random_problem(np.random.default_rng(0), 5, budget_min=100.0)
    policy = Stubborn()
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    with pytest.raises(PolicyError, match=r"'stubborn' must choose an allowed, unvisited hole\. Got 0"):
        policy.plan(first_look(problem, NOWHERE))
