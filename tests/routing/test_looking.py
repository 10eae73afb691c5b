"""Replays in which looks take minutes: what is shown, what is charged, and the exact bound by exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import NOWHERE, HoleTree, StagePlace
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.course import Course, PolicyError
from cryoscout.routing.looking import Sight, World, replay_looking
from cryoscout.routing.places import Look, Places
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.testing import random_problem
from examples import slow_but

SKETCHED = PRESETS["y1-looks-as-sketched"]
EVEN = TimeModel(
    name="even", same_patch_min=1.0, new_patch_min=2.0, new_square_min=3.0, new_grid_min=5.0,
    patch_look_min=1.5, square_look_min=2.5,
)  # fmt: skip
ROUGH = TimeModel(
    name="rough", same_patch_min=1.517, new_patch_min=3.083, new_square_min=3.1, new_grid_min=3.233,
    patch_look_min=1.371, square_look_min=3.317,
)  # fmt: skip


def world_of(problem: RoutingProblem, rng: np.random.Generator, share_looked: float = 0.3) -> World:
    tree = problem.tree
    squares = rng.random(tree.n_squares) < share_looked
    patches = (rng.random(tree.n_patches) < 0.5) & squares[tree.square_of_patch]
    return World(problem, Places.looked_at(squares, patches))


def most_by_trying(problem: RoutingProblem, good: np.ndarray, start: int, places: Places) -> float:
    """The most any route can collect, looks tried like visits: the slow judge of the charged bound."""
    tree, model, shots = problem.tree, problem.time_model, problem.shots
    tiers, patch_look = model.tiers_min(shots), model.patch_look_by_tier_min(shots)
    square_look = model.square_look_by_tier_min(shots)

    def best(
        at: StagePlace, used: float, left: frozenset[int], squares: frozenset[int], patches: frozenset[int]
    ):
        most = 0.0
        useful = {int(tree.patch_of_hole[hole]) for hole in left}
        for square in {int(tree.square_of_patch[patch]) for patch in useful} - squares:
            there = tree.place_of_square(square)
            ends = used + square_look[tree.tier_from(at, there)]
            if ends <= problem.budget_min + 1e-6:
                most = max(most, best(there, ends, left, squares | {square}, patches))
        for patch in useful - patches:
            if int(tree.square_of_patch[patch]) in squares:
                there = tree.place_of_patch(patch)
                ends = used + patch_look[tree.tier_from(at, there)]
                if ends <= problem.budget_min + 1e-6:
                    most = max(most, best(there, ends, left, squares, patches | {patch}))
        for patch in useful & patches:
            hole = max((h for h in left if tree.patch_of_hole[h] == patch), key=lambda h: good[h])
            there = tree.place_of(hole)
            ends = used + tiers[tree.tier_from(at, there)]
            if ends <= problem.budget_min + 1e-6:
                most = max(most, good[hole] + best(there, ends, left - {hole}, squares, patches))
        return most

    at = tree.place_of(start)
    squares = set(np.flatnonzero(places.square_looked).tolist())
    patches = set(np.flatnonzero(places.patch_looked).tolist())
    if start != NOWHERE:
        squares.add(at.square)
        patches.add(at.patch)
    left = frozenset(np.flatnonzero((good > 0) & problem.available()).tolist()) - {start}
    return best(at, 0.0, left, frozenset(squares), frozenset(patches))


@pytest.mark.parametrize("model", [EVEN, SKETCHED, ROUGH, PRESETS["cryorl"]], ids=lambda each: each.name)
@pytest.mark.parametrize("seed", range(6))
def test_the_charged_bound_is_what_trying_every_route_finds(model: TimeModel, seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    for _ in range(4):
        problem = random_problem(
            rng, 6, time_model=model, budget_min=float(rng.uniform(2, 8)) * model.new_patch_min
        )
        good = rng.integers(0, 2, 6).astype(np.float64)
        world, start = world_of(problem, rng), int(rng.integers(NOWHERE, 6))
        bound = good_holes_bound(problem, Truth(good, np.ones(6, dtype=bool)), start, world.features)
        most = most_by_trying(problem, good, start, world.features)
        if model is ROUGH:
            assert most <= bound <= most + 1
        else:
            assert bound == pytest.approx(most)


@pytest.mark.parametrize("name", ["look-first", "look-share", "look-greedy", "explore", "adaptive"])
@pytest.mark.parametrize("seed", range(3))
def test_no_policy_finds_more_than_the_charged_bound(name: str, seed: int) -> None:
    rng = np.random.default_rng([seed, 4])
    problem = random_problem(rng, 25, time_model=SKETCHED, budget_min=40.0)
    truth = Truth(rng.binomial(1, problem.prior_p_good).astype(np.float64), np.ones(25, dtype=bool))
    world = world_of(problem, rng)
    for result in replay_looking(world, truth, make_policy(name), [0, 7, NOWHERE], 0):
        assert result.good_found <= good_holes_bound(problem, truth, result.start_hole, world.features) + 1e-9
        assert len(set(result.route.tolist()) | {result.start_hole}) == result.visited + 1
        assert result.visited == 0 or result.minutes[-1] <= 40.0 + 1e-6


@pytest.mark.parametrize("seed", slow_but([1, 3], range(8)))
def test_explore_takes_the_routes_of_adaptive_when_everything_is_seen(seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    problem = random_problem(rng, 30, time_model=SKETCHED, crossing="drop" if seed % 2 else "count")
    truth = Truth(rng.binomial(1, problem.prior_p_good).astype(np.float64), np.ones(30, dtype=bool))
    everything = World(problem, Places.all_seen(problem.tree))
    for start in (NOWHERE, 3):
        (known,) = replay(problem, truth, make_policy("adaptive"), [start], 1)
        (seen,) = replay(problem, truth, make_policy("explore"), [start], 1)
        (charged,) = replay_looking(everything, truth, make_policy("explore"), [start], 1)
        assert known.route.tolist() == seen.route.tolist() == charged.route.tolist()
        np.testing.assert_allclose(known.minutes, charged.minutes)
        assert charged.patches_looked == charged.squares_looked == 0


@pytest.mark.parametrize("name", ["greedy", "adaptive", "random", "index"])
def test_a_replay_with_everything_seen_is_the_replay_with_looks_free(name: str) -> None:
    rng = np.random.default_rng(8)
    problem = random_problem(rng, 30, budget_min=80.0)
    truth = Truth(rng.binomial(1, problem.prior_p_good).astype(np.float64), np.ones(30, dtype=bool))
    everything = World(problem, Places.all_seen(problem.tree))
    (free,) = replay(problem, truth, make_policy(name), [2], 1, ctf_delay_min=4.0, replan_every=3)
    (charged,) = replay_looking(
        everything, truth, make_policy(name), [2], 1, ctf_delay_min=4.0, replan_every=3
    )
    assert free.route.tolist() == charged.route.tolist()
    assert free.reward == charged.reward


def three_places() -> RoutingProblem:
    """Two patches in square 0 and one in square 1, of two grids; three holes each."""
    tree = HoleTree(
        np.repeat(np.arange(3), 3).astype(np.int32), np.array([0, 0, 1], np.int32), np.array([0, 1], np.int32)
    )
    return RoutingProblem(tree, np.full(9, 0.5), 60.0, time_model=EVEN)


def test_looks_take_their_minutes_and_move_the_stage() -> None:
    world = World.hidden(three_places())
    sight = Sight(world, 60.0, start_hole=0, start_good=1.0)
    seen = sight.seen_problem()
    assert seen.problem.n_holes == 3
    assert seen.problem.tree.n_patches == 2  # of the start's square; the other square shows none
    course = Course(seen.problem, seen.start_hole)
    with pytest.raises(PolicyError, match="not looked at"):
        course.look(Look("square", 0))
    with pytest.raises(PolicyError, match="not looked at"):
        course.look(Look("patch", 0))
    course.look(Look("patch", 1))
    assert course.minutes_used == pytest.approx(1.5)
    sight.take_look(Look("patch", 1), seen)
    sight.stands_at(course.at, course.here, seen)
    sight.used_min = course.minutes_used
    seen = sight.seen_problem()
    assert seen.problem.n_holes == 6
    course = Course(seen.problem, seen.start_hole)
    assert course.visit(3) == 0  # right after its look a patch is the same patch
    assert course.minutes_used == pytest.approx(1.0)
    course.look(Look("square", 1))
    assert course.minutes_used == pytest.approx(1.0 + 2.5 + 2.0)  # to another grid: 5 - 3 beyond the look
    assert course.at == StagePlace(NOWHERE, 1, 1)


def test_who_looks_first_pays_for_the_start_too() -> None:
    world = World.hidden(three_places())
    truth = Truth(np.ones(9), np.ones(9, dtype=bool))
    (result,) = replay_looking(world, truth, make_policy("look-first"), [0], 0)
    assert (result.squares_looked, result.patches_looked) == (2, 3)
    (result,) = replay_looking(world, truth, make_policy("explore"), [0], 0)
    assert (result.squares_looked, result.patches_looked) == (1, 2)
    assert result.good_found == 8


def test_free_looks_take_what_the_tiers_say_of_the_move() -> None:
    model = PRESETS["cryorl"]
    np.testing.assert_allclose(model.patch_look_by_tier_min(), [0, 3, 8, 18])
    np.testing.assert_allclose(model.square_look_by_tier_min(), [0, 0, 5, 15])
    # A look at a square, at its patch and one visit are the visit of another square.
    assert model.square_look_by_tier_min()[2] + model.patch_look_by_tier_min()[1] + 2 == 10


def test_something_known_of_an_unseen_place_is_refused() -> None:
    problem = three_places()
    seen, unseen = np.array([True, True]), np.array([True, True, False])
    with pytest.raises(
        InputError, match=r"A hole must lie in a patch that was looked at\. Got hole 6 of patch 2"
    ):
        RoutingProblem(problem.tree, np.full(9, 0.5), 60.0, places=Places.looked_at(seen, unseen))
    with pytest.raises(
        InputError, match=r"A patch must lie in a square that was looked at\. Got patch 2 of square 1"
    ):
        RoutingProblem(
            problem.tree,
            np.full(9, 0.5),
            60.0,
            places=Places.looked_at(np.array([True, False]), ~unseen | unseen),
        )
    with pytest.raises(InputError, match="Features of squares must be one row for each of 2"):
        Places(seen, unseen, np.zeros((3, 1)))
    for what, more in (("Rooms", {"square_room": np.ones(3)}), ("Squares that", {"square_out": seen[:1]})):
        with pytest.raises(InputError, match=f"{what}.* must be of 2 squares"):
            Places(seen, ~unseen | unseen, np.zeros((2, 1)), **more).check(problem.tree)


def test_results_that_come_late_reach_a_policy_that_has_looked_meanwhile() -> None:
    rng = np.random.default_rng(2)
    problem = random_problem(rng, 30, time_model=SKETCHED, budget_min=60.0)
    truth = Truth(rng.binomial(1, problem.prior_p_good).astype(np.float64), np.ones(30, dtype=bool))
    world = World.hidden(problem)
    for name in ("look-greedy", "explore"):
        (at_once,) = replay_looking(world, truth, make_policy(name), [0], 0)
        (never,) = replay_looking(world, truth, make_policy(name), [0], 0, ctf_delay_min=1e9)
        assert at_once.visited > 0
        assert never.visited > 0
