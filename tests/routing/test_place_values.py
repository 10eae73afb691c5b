"""What a place to look at is said to be worth: the expectation and the interval are of one plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.belief.effects import Y1_FLAT_EFFECTS
from cryoscout.belief.unseen import PRIOR_P_GOOD
from cryoscout.core.hole_tree import NOWHERE, HoleTree
from cryoscout.routing.course import Course
from cryoscout.routing.looking import Sight, World, replay_looking
from cryoscout.routing.places import Places
from cryoscout.routing.policies import make_policy
from cryoscout.routing.policies.explore import Explore, PlaceValue
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import PRESETS
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.tables import simulate_tables

PLAIN = simulation_named("y1-like").model_copy(update={"holes": 500, "patches_per_square": 3.0})


def half_seen(seed: int, budget_min: float, flat: bool = False) -> tuple[RoutingProblem, int]:
    """A session of which every second square was looked at, as it is seen, and where its stage is.

    flat : every hole has the same prediction
    """
    tables = simulate_tables(PLAIN, seed)
    problem = replace(tables.problem(budget_min), time_model=PRESETS["y1-looks-as-sketched"])
    if flat:
        flat_p_good = np.full(problem.n_holes, PRIOR_P_GOOD)
        problem = replace(problem, prior_p_good=flat_p_good, effects=Y1_FLAT_EFFECTS)
    tree = problem.tree
    looked = np.arange(tree.n_squares) % 2 == 0
    world = World(problem, Places.looked_at(looked, looked[tree.square_of_patch]))
    start = int(np.flatnonzero(looked[tree.square_of_hole])[0])
    seen = Sight(world, budget_min, start, 1.0).seen_problem()
    return seen.problem, seen.start_hole


def values_of(problem: RoutingProblem, start: int) -> list[PlaceValue]:
    policy = Explore()
    policy.reset(problem, start, np.random.default_rng(0))
    return policy.places(Course(problem, start).observation(), np.random.default_rng(1))


@pytest.mark.parametrize("flat", [False, True])
def test_the_expected_rate_and_number_lie_in_their_own_intervals(flat: bool) -> None:
    shown = 0
    for seed in range(3):
        for budget_min in (480.0, 60.0, 20.0):
            for each in values_of(*half_seen(seed, budget_min, flat)):
                shown += 1
                assert each.rate_80[0] <= each.rate <= each.rate_80[1]
                assert each.good_80[0] <= each.good <= each.good_80[1]
    assert shown >= 30


def nothing_seen(loaded_grid: int = 0) -> RoutingProblem:
    """Two squares on each of two grids, nothing looked at."""
    grid_of_square = np.repeat(np.arange(2), 2).astype(np.int32)
    tree = HoleTree(np.empty(0, np.int32), np.empty(0, np.int32), grid_of_square, loaded_grid=loaded_grid)
    places = Places(np.zeros(4, dtype=bool), np.empty(0, dtype=bool), np.empty((4, 0)))
    model = PRESETS["y1-looks-as-sketched"].model_copy(update={"new_grid_min": 30.0})
    return RoutingProblem(tree, np.empty(0), 480.0, time_model=model, places=places)


def test_what_is_alike_has_the_same_interval_and_what_is_farther_takes_its_way_too() -> None:
    values = {each.look.index: each for each in values_of(nothing_seen(), NOWHERE)}
    near, far = values[0], values[2]
    assert values[1] == replace(near, look=values[1].look)
    assert far.good == near.good
    model = nothing_seen().time_model
    assert far.minutes - near.minutes == pytest.approx(model.new_grid_min - model.new_square_min)
    assert far.rate_80[1] < 0.9 * near.rate_80[1]


def test_without_predictions_explore_images_and_does_not_look_on_and_on() -> None:
    tables = simulate_tables(PLAIN, 1)
    problem = replace(
        tables.problem(60.0),
        time_model=PRESETS["y1-looks-as-sketched"],
        prior_p_good=np.full(PLAIN.holes, PRIOR_P_GOOD),
        effects=Y1_FLAT_EFFECTS,
    )
    starts = [5, 100]
    results = [
        replay_looking(World.hidden(problem), tables.truth(), make_policy(name), starts, 0)
        for name in ("explore", "look-greedy")
    ]
    explore, crude = (np.mean([each.good_found for each in result]) for result in results)
    assert explore >= 0.8 * crude
    assert np.mean([each.patches_looked for each in results[0]]) < 6
