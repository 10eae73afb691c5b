"""Many greedy routes at once are the routes that the trained policy takes in a replay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_samples import (
    PUBLISHED,
    VIEWS,
    even_session,
    quick,
    random_policy,
    random_session,
    random_weights,
    state_by_state,
)

from cryoscout.learning.batch_env import TrainingSession
from cryoscout.learning.greedy_routes import best_rows, first_values, greedy_routes
from cryoscout.learning.settings import AGENTS, Candidates, ViewSettings
from cryoscout.learning.weights import PolicyFile
from cryoscout.routing.elimination import eliminated_holes
from cryoscout.routing.replay import replay
from cryoscout.routing.time_model import PRESETS
from examples import share


@settings(max_examples=share(50))
@given(
    seed=st.integers(0, 2**32 - 1),
    view=st.sampled_from(VIEWS),
    agent=st.sampled_from(AGENTS),
    elimination=st.booleans(),
    shots=st.sampled_from([1, 2]),
    setup_min=st.sampled_from([0.0, 12.0, 500.0]),
)
def test_greedy_routes_are_those_of_a_replay_of_the_policy(
    seed: int, view: ViewSettings, agent: str, elimination: bool, shots: int, setup_min: float
) -> None:
    rng = np.random.default_rng(seed)
    time_model = PRESETS["cryorl"].model_copy(update={"setup_min": setup_min})
    session = random_session(
        rng, 25, shots=shots, share_imaged=0.1, share_allowed=0.9, time_model=time_model, budget_min=400.0
    )
    policy = random_policy(quick(agent, view=view, elimination=elimination), seed)
    starts = rng.integers(0, 25, 6)
    results = replay(session.problem, session.truth, policy, starts.tolist(), 0)
    reduced = session
    if elimination:
        problem = replace(session.problem, allowed=eliminated_holes(session.problem))
        if problem.available().any():
            reduced = TrainingSession(problem, session.truth)
    found = greedy_routes(reduced, view, state_by_state(policy._network), starts, rng)
    assert found.good.tolist() == [result.good_found for result in results]
    assert found.visited.tolist() == [result.visited for result in results]
    np.testing.assert_allclose(found.reward, [result.reward for result in results], atol=1e-4)


@settings(max_examples=share(30))
@given(seed=st.integers(0, 2**32 - 1), candidates=st.sampled_from(["holes", "classes", "dominant"]))
def test_learned_values_are_the_scores_of_a_policy_that_may_visit_any_hole(
    seed: int, candidates: Candidates
) -> None:
    rng = np.random.default_rng(seed)
    session = random_session(rng, 25, budget_min=1e6)
    seen = quick(elimination=False, view=ViewSettings(candidates=candidates))
    trained = PolicyFile(seen, random_weights(seen.network, np.random.default_rng(seed)), {})
    start = int(rng.choice(np.flatnonzero(session.problem.available())))
    values = first_values(session, trained, np.array([start]))[0]
    free = session.problem.available()
    free[start] = False
    np.testing.assert_array_equal(np.isfinite(values), free)
    anywhere = ViewSettings(candidates="holes")
    free_to_choose = random_policy(quick(elimination=False, view=anywhere), seed)
    (route,) = replay(session.problem, session.truth, free_to_choose, [start], 0)
    assert values[route.route[0]] == pytest.approx(np.nanmax(values), rel=1e-5, abs=1e-5)


def test_the_first_of_equal_scores_is_taken_in_every_state() -> None:
    scores = np.array([1, 3, 3, 2, 2, 2, 0, -1, 0], dtype=np.float32)
    assert best_rows(scores, np.array([0, 4, 6, 9])).tolist() == [1, 4, 6]


def test_a_score_that_is_not_a_number_is_never_the_best() -> None:
    scores = np.array([np.nan, 1, np.nan, np.nan, -np.inf, 5], dtype=np.float32)
    rows = best_rows(scores, np.array([0, 2, 4, 6]))
    assert rows[0] == 1
    assert rows[1] in (2, 3)
    assert rows[2] == 5


def test_routes_end_one_by_one_when_nothing_is_left() -> None:
    session = even_session(n_grids=1, squares=1, patches=1, holes=4)
    session = replace(session, problem=session.problem.with_budget(1e6))
    policy = random_policy(quick())
    found = greedy_routes(
        session, PUBLISHED, state_by_state(policy._network), np.arange(4), np.random.default_rng(0)
    )
    assert found.visited.tolist() == [3, 3, 3, 3]
    assert found.good.tolist() == [2.0, 2.0, 2.0, 3.0]


def test_routes_of_a_session_that_draws_use_the_given_generator() -> None:
    session = TrainingSession(even_session().problem, even_session().truth, draws=True)
    scores = state_by_state(random_policy(quick())._network)

    def found(seed: int) -> list[float]:
        rng = np.random.default_rng(seed)
        return greedy_routes(session, PUBLISHED, scores, np.zeros(20, dtype=np.int64), rng).good.tolist()

    assert found(1) == found(1)
    assert found(1) != found(2)


@pytest.mark.parametrize("reward", ["cryorl", "ssl2rl"])
def test_the_reward_is_the_named_one(reward: str) -> None:
    session = even_session()
    policy = random_policy(quick(elimination=False))
    (result,) = replay(session.problem, session.truth, policy, [0], 0, reward=reward)
    found = greedy_routes(
        session, PUBLISHED, state_by_state(policy._network), np.zeros(1, dtype=np.int64),
        np.random.default_rng(0), reward=reward,
    )  # fmt: skip
    assert found.reward[0] == pytest.approx(result.reward, abs=1e-4)
