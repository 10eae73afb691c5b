"""The training environment against `replay`, route by route."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_samples import PUBLISHED, even_session, index, random_session, with_allowed

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.learning.batch_env import (
    BatchedRoutes,
    TrainingSession,
    check_holds_a_visit,
    session_to_learn_from,
)
from cryoscout.learning.settings import ViewSettings
from cryoscout.learning.states import NO_HOLE
from cryoscout.routing.elimination import eliminated_holes
from cryoscout.routing.policies.base import STOP, Observation, PolicyKind
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.replay import ReplayResult, Truth, replay
from cryoscout.routing.reward import REWARDS, reward_named
from cryoscout.routing.time_model import PRESETS, TimeModel
from examples import share

OVERHEADS = PRESETS["cryorl"].model_copy(
    update={"name": "overheads", "setup_min": 7.0, "per_square_overhead_min": 3.0, "extra_shot_min": 0.5}
)
TENTHS = TimeModel(name="tenths", same_patch_min=1.1, new_patch_min=1.1, new_square_min=2.2, new_grid_min=4.4)


class Scripted:
    """Visits a list of holes in order."""

    name: ClassVar[str] = "scripted"
    kind: ClassVar[PolicyKind] = "baseline"
    default_prediction: ClassVar[str] = "res50"
    drops_crossing: ClassVar[bool] = False

    def __init__(self, holes: list[int]) -> None:
        self.holes = holes

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        self.left = list(self.holes)

    def next_hole(self, observation: Observation) -> int:
        return self.left.pop(0) if self.left else STOP


def replayed(session: TrainingSession, start: int, holes: list[int], reward: str) -> ReplayResult:
    (result,) = replay(session.problem, session.truth, Scripted(holes), [start], 0, reward=reward)
    return result


@pytest.mark.parametrize("reward", REWARDS)
@settings(max_examples=share(40))
@given(seed=st.integers(0, 2**32 - 1), shots=st.sampled_from([1, 2]))
def test_minutes_good_reward_and_end_are_those_of_replay_for_several_sessions_at_once(
    reward: str, seed: int, shots: int
) -> None:
    rng = np.random.default_rng(seed)
    models = [PRESETS["cryorl"], OVERHEADS, TENTHS]
    sessions = [
        random_session(
            rng, int(n), shots=shots, time_model=models[place], share_imaged=0.2, share_allowed=0.8
        )
        for n, place in zip(rng.integers(5, 30, 3), rng.permutation(3), strict=True)
    ]
    routes = BatchedRoutes(sessions, PUBLISHED, 3, rng, reward=reward)
    orders, results = [], []
    for route, session in enumerate(sessions):
        start = int(rng.integers(session.problem.n_holes))  # anywhere: imaged and not allowed holes too
        free = [int(hole) for hole in np.flatnonzero(session.problem.available()) if hole != start]
        orders.append([int(hole) for hole in rng.permutation(free)])
        results.append(replayed(session, start, orders[-1], reward))
        routes.reset(route, session=route, start_hole=start)
    collected = np.zeros(3)
    over = np.array([not order for order in orders])
    for place in range(30):
        assert not over.all() or all(result.visited <= place for result in results)
        if over.all():
            break
        holes = [NO_HOLE if over[route] else orders[route][place] for route in range(3)]
        step = routes.step(np.array(holes))
        for route in np.flatnonzero(~over):
            result = results[route]
            assert place < result.visited
            assert routes.minutes[route] == pytest.approx(result.minutes[place], abs=1e-9)
            assert step.good[route] == result.good[place]
            collected[route] += step.reward[route]
            assert bool(step.terminated[route]) == (place + 1 == len(orders[route]))
            assert bool(step.truncated[route]) == (
                result.minutes[place] > sessions[route].problem.budget_min + 1e-6
            )
        over |= step.terminated | step.truncated
    assert over.all()
    for route, result in enumerate(results):
        assert collected[route] == pytest.approx(result.reward, abs=1e-5)


def test_the_visit_that_crosses_the_budget_counts() -> None:
    session = even_session()
    problem = session.problem.with_budget(7.0)
    routes = BatchedRoutes([TrainingSession(problem, session.truth)], PUBLISHED, 1, np.random.default_rng(0))
    routes.reset(0, start_hole=0)
    first = routes.step(np.array([1]))  # 2 minutes
    second = routes.step(np.array([4]))  # 7: the budget to the minute
    third = routes.step(np.array([5]))  # 9
    assert [bool(step.truncated[0]) for step in (first, second, third)] == [False, False, True]
    assert third.good[0] == 1.0
    assert routes.minutes[0] == 9.0


def test_a_budget_is_met_to_the_last_bit_of_a_float() -> None:
    """Three visits of 1.1 minutes are 3.3000000000000003 in floats; a fourth crosses."""
    session = even_session()
    problem = replace(session.problem, time_model=TENTHS, budget_min=3.3)
    routes = BatchedRoutes([TrainingSession(problem, session.truth)], PUBLISHED, 1, np.random.default_rng(0))
    routes.reset(0, start_hole=0)
    assert [bool(routes.step(np.array([hole])).truncated[0]) for hole in (1, 2, 3, 4)] == [False] * 3 + [True]


def test_factors_change_the_reward_of_a_good_micrograph_by_tier() -> None:
    session = even_session()
    routes = BatchedRoutes(
        [session], PUBLISHED, 1, np.random.default_rng(0), tier_factors=(1.0, 1.0, 2.0, 3.0)
    )
    routes.reset(0, start_hole=0)
    rewards = [float(routes.step(np.array([hole])).reward[0]) for hole in (1, 4, 8, 16, 19)]
    printed = reward_named("cryorl", PRESETS["cryorl"].tiers_min()).tier_value
    np.testing.assert_allclose(
        rewards, [printed[0], printed[1], 2 * printed[2], 3 * printed[3], 0.0], rtol=1e-6
    )


@pytest.mark.parametrize("hole", [0, 2, 5, 32, -2])
def test_a_visited_imaged_eliminated_or_unknown_hole_is_refused(hole: int) -> None:
    session = even_session()
    imaged, allowed = np.zeros(32, dtype=bool), np.ones(32, dtype=bool)
    imaged[2], allowed[5] = True, False
    problem = RoutingProblem(
        HoleTree(session.problem.patch_of_hole, session.problem.square_of_patch, session.problem.grid_of_square),
        session.problem.prior_p_good, 60.0, imaged=imaged, allowed=allowed,
    )  # fmt: skip
    routes = BatchedRoutes([TrainingSession(problem, session.truth)], PUBLISHED, 2, np.random.default_rng(0))
    routes.reset(0, start_hole=1)
    routes.reset(1, start_hole=0)
    with pytest.raises(InputError, match=rf"available and not visited\. Got hole {hole} in route 1 instead"):
        routes.step(np.array([3, hole]))


def test_a_start_outside_the_allowed_holes_is_visited_and_nothing_else_there_is() -> None:
    session = with_allowed(even_session(), np.arange(32) >= 16)
    routes = BatchedRoutes(
        [session], ViewSettings(candidates="holes", labels="hard"), 1, np.random.default_rng(0)
    )
    routes.reset(0, start_hole=2)
    assert routes.look().holes.tolist() == list(range(16, 32))
    step = routes.step(np.array([16]))
    assert routes.minutes[0] == 20.0
    assert not step.terminated[0]


def test_starts_are_drawn_from_what_may_be_visited_and_sessions_take_turns() -> None:
    first = with_allowed(even_session(), np.arange(32) % 8 == 0)
    second = with_allowed(even_session(), np.arange(32) % 8 == 1)
    routes = BatchedRoutes([first, second], PUBLISHED, 40, np.random.default_rng(0))
    routes.reset_all()
    assert routes.states.session.tolist() == [0, 1] * 20
    assert set(routes.start_hole[::2]) == {0, 8, 16, 24}
    assert set(routes.start_hole[1::2]) == {1, 9, 17, 25}


def test_the_same_seed_draws_the_same_starts_and_outcomes() -> None:
    def made(seed: int) -> BatchedRoutes:
        session = even_session()
        routes = BatchedRoutes(
            [TrainingSession(session.problem, session.truth, draws=True)],
            PUBLISHED,
            8,
            np.random.default_rng(seed),
        )
        routes.reset_all()
        return routes

    np.testing.assert_array_equal(made(3).good, made(3).good)
    np.testing.assert_array_equal(made(3).start_hole, made(3).start_hole)
    assert (made(3).good != made(4).good).any()
    assert (made(3).good[0] != made(3).good[1]).any()


def test_drawn_outcomes_stand_in_place_of_the_truth() -> None:
    session = even_session()
    nothing = Truth(np.zeros(32), np.zeros(32, dtype=bool))
    routes = BatchedRoutes(
        [TrainingSession(session.problem, nothing, draws=True)], PUBLISHED, 1, np.random.default_rng(1)
    )
    routes.reset(0, start_hole=0)
    for hole in range(1, 10):
        assert routes.step(np.array([hole])).good[0] == routes.good[0, hole]
    assert routes.good[0].sum() > 10


def test_holes_without_an_outcome_are_refused_unless_outcomes_are_drawn() -> None:
    session = even_session()
    truth = Truth(session.truth.good, np.arange(32) != 7)
    with pytest.raises(
        InputError, match=r"outcome for every hole it may visit\. Got 1 holes without one instead"
    ):
        TrainingSession(session.problem, truth)
    TrainingSession(session.problem, truth, draws=True)
    TrainingSession(with_allowed(session, np.arange(32) != 7).problem, truth)


def test_one_hole_is_too_few_to_start_at_and_to_go_to() -> None:
    session = with_allowed(even_session(), np.arange(32) == 7)
    routes = BatchedRoutes([session], PUBLISHED, 1, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"two holes or more .* Got 1 in session 0 instead"):
        routes.reset(0)
    routes.reset(0, start_hole=0)
    assert routes.look().holes.tolist() == [7]


def test_a_session_without_a_hole_left_and_no_session_are_refused() -> None:
    session = even_session()
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"hole that may be visited\. Got none in session 1"):
        BatchedRoutes([session, with_allowed(session, np.zeros(32, dtype=bool))], PUBLISHED, 1, rng)
    with pytest.raises(InputError, match="at least one session"):
        BatchedRoutes([], PUBLISHED, 1, rng)


def test_a_budget_below_the_shortest_visit_is_refused() -> None:
    problem = even_session().problem
    check_holds_a_visit(problem.with_budget(2.0))
    with pytest.raises(InputError, match=r"hold a visit: 2 minutes or more\. Got 1\.9 instead"):
        check_holds_a_visit(problem.with_budget(1.9))
    slow = RoutingProblem(HoleTree(index(0), index(0), index(0)), np.ones(1), 8.0, time_model=OVERHEADS)
    with pytest.raises(InputError, match="hold a visit: 9 minutes"):
        check_holds_a_visit(slow)


def test_a_session_to_learn_from_is_eliminated_at_the_training_budget() -> None:
    session = even_session(n_grids=4)
    reduced = session_to_learn_from(session, 30.0, 1.5)
    assert reduced.problem.budget_min == 30.0
    np.testing.assert_array_equal(
        reduced.problem.available(), eliminated_holes(session.problem.with_budget(30.0), 1.5)
    )
    assert 0 < reduced.problem.available().sum() < 64
    assert session_to_learn_from(session, 30.0, None).problem.available().all()


def test_a_route_from_nowhere_costs_a_grid_switch_first() -> None:
    session = even_session()
    result = replayed(session, NOWHERE, [0, 1], "cryorl")
    assert result.minutes.tolist() == [20.0, 22.0]
