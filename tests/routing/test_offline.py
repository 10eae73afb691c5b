"""Offline planning against a slow reference that keeps whole paths, and against every route on tiny maps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.policies.offline import best_path
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.reward import reward_named
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.testing import random_problem
from examples import share

FITTED = TimeModel(
    name="fitted", same_patch_min=1.5, new_patch_min=3.1, new_square_min=3.1, new_grid_min=3.2, setup_min=1.0
)


def scored(problem: RoutingProblem, path: list[int], start_hole: int) -> tuple[int, int, int]:
    """Reward and minutes of a path in whole ten-thousandths, and the minutes when its last visit began."""
    tiers_min = problem.time_model.tiers_min(problem.shots)
    value = reward_named("cryorl", tiers_min).tier_value
    reward = minutes = began = 0
    for before, hole in itertools.pairwise([start_hole, *path]):
        tier = problem.tier_between(before, hole)
        began = minutes
        minutes += round(float(tiers_min[tier]) * 10_000)
        reward += round(float(value[tier]) * 10_000) if problem.prior_p_good[hole] >= 0.5 else 0
    return reward, minutes, began


def within(problem: RoutingProblem, path: list[int], start_hole: int) -> bool:
    budget = round((problem.budget_min - problem.time_model.setup_min) * 10_000 - 1e-6)
    _, minutes, began = scored(problem, path, start_hole)
    return (began if problem.crossing == "count" else minutes) <= budget


def slow_best_path(problem: RoutingProblem, start_hole: int) -> list[int]:
    """Every round: for each hole the best path that can be extended to it, all written out."""
    holes = [int(hole) for hole in np.flatnonzero(problem.available()) if hole != start_hole]
    paths = {hole: [hole] for hole in holes if within(problem, [hole], start_hole)}
    best: list[int] = []
    best_key = (0, 0)
    while paths:
        for end in sorted(paths):
            reward, minutes, _ = scored(problem, paths[end], start_hole)
            if (reward, -minutes) > best_key:
                best, best_key = paths[end], (reward, -minutes)
        extended = {}
        for hole in holes:
            candidates = []
            for end, path in paths.items():
                longer = [*path, hole]
                if hole not in path and within(problem, longer, start_hole):
                    reward, minutes, _ = scored(problem, longer, start_hole)
                    candidates.append((-reward, minutes, end))
            if candidates:
                extended[hole] = [*paths[min(candidates)[2]], hole]
        paths = extended
    return best


@settings(max_examples=share(40))
@given(
    seed=st.integers(0, 100_000),
    n_holes=st.integers(1, 11),
    crossing=st.sampled_from(["count", "drop"]),
    from_nowhere=st.booleans(),
    time_model=st.sampled_from([PRESETS["cryorl"], PRESETS["cryorl-code"], FITTED]),
)
def test_it_finds_the_path_of_the_slow_reference(
    seed: int, n_holes: int, crossing: Crossing, from_nowhere: bool, time_model: TimeModel
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng, n_holes, crossing=crossing, time_model=time_model, share_imaged=0.2, share_allowed=0.8
    )
    start_hole = NOWHERE if from_nowhere else int(rng.integers(n_holes))
    assert best_path(problem, start_hole) == slow_best_path(problem, start_hole)


def best_of_every_route(problem: RoutingProblem) -> int:
    holes = range(problem.n_holes)
    routes = (
        list(route) for k in range(1, problem.n_holes + 1) for route in itertools.permutations(holes, k)
    )
    return max(
        (scored(problem, route, NOWHERE)[0] for route in routes if within(problem, route, NOWHERE)), default=0
    )


@pytest.mark.parametrize("crossing", ["count", "drop"])
def test_it_is_never_better_than_every_route_and_mostly_as_good(crossing: Crossing) -> None:
    problems = [random_problem(np.random.default_rng(seed), 5, crossing=crossing) for seed in range(60)]
    best = np.array([best_of_every_route(problem) for problem in problems])
    found = np.array([scored(problem, best_path(problem, NOWHERE), NOWHERE)[0] for problem in problems])
    assert np.all(found <= best)
    assert np.mean(found == best) > 0.5
    assert found.sum() > 0.8 * best.sum()


def test_it_visits_a_whole_patch_before_it_pays_for_another() -> None:
    problem = RoutingProblem(
        tree=HoleTree(
            np.array([0, 0, 1, 1, 1], dtype=np.int32),
            np.array([0, 0], dtype=np.int32),
            np.array([0], dtype=np.int32),
        ),
        prior_p_good=np.array([1.0, 1.0, 1.0, 0.0, 1.0]),
        budget_min=10.0,
    )
    assert sorted(best_path(problem, 3)[:2]) == [2, 4]  # 2 + 2 + 5 min, 1 + 1 + 0.57
    assert best_path(problem, 3)[2:] in ([0], [1])
    assert sorted(best_path(problem.with_budget(11.0), 3)) == [0, 1, 2, 4]


def test_nothing_predicted_good_is_no_path() -> None:
    problem = random_problem(np.random.default_rng(0), 300, budget_min=200.0)
    nothing_good = RoutingProblem(
        HoleTree(problem.patch_of_hole, problem.square_of_patch, problem.grid_of_square), np.zeros(300), 200.0
    )
    assert best_path(nothing_good, NOWHERE) == []


def test_more_holes_than_one_word_of_visited_bits_are_kept_apart() -> None:
    problem = random_problem(np.random.default_rng(3), 200, budget_min=900.0)
    path = best_path(problem, NOWHERE)
    assert len(path) > 64
    assert len(set(path)) == len(path)
    assert within(problem, path, NOWHERE)


def test_a_budget_beyond_every_visit_plans_them_all_once() -> None:
    problem = random_problem(np.random.default_rng(4), 10, budget_min=1e18)
    path = best_path(problem, NOWHERE)
    assert len(path) == len(set(path))
    assert path == best_path(problem.with_budget(1e4), NOWHERE)
