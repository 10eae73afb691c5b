"""What an agent sees, judged by a slow reference that counts holes with sets and loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feature_reference import SlowState
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_samples import (
    PUBLISHED,
    VIEWS,
    even_session,
    random_session,
    random_weights,
    state_by_state,
    with_allowed,
)

from cryoscout.core.hole_tree import HoleTree
from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession
from cryoscout.learning.greedy_routes import greedy_routes
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.settings import AGENTS, N_FEATURES, N_INPUTS, ViewSettings, settings_of
from cryoscout.learning.states import FULL_PATCH, empty_states, look, start_route, visit
from cryoscout.learning.tables import route_tables
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth
from examples import share, slow_but


def assert_sees_what_the_reference_sees(routes: BatchedRoutes, route: int, slow: SlowState) -> None:
    seen = routes.look()
    mine = slice(seen.begin[route], seen.begin[route + 1])
    assert set(seen.holes[mine].tolist()) == slow.candidates()
    assert seen.begin[route + 1] - seen.begin[route] == len(slow.candidates())
    for hole, row in zip(seen.holes[mine], seen.rows[mine], strict=True):
        np.testing.assert_allclose(row, slow.inputs(int(hole)), atol=2e-6)


# Every candidate, label and history once; the pairs of them in `make test-slow`.
@pytest.mark.parametrize(
    "view",
    slow_but([VIEWS[0], VIEWS[7], VIEWS[9]], VIEWS),
    ids=lambda view: f"{view.candidates}-{view.labels}-{view.history}",
)
@settings(max_examples=share(20))
@given(
    seed=st.integers(0, 2**32 - 1),
    share_imaged=st.sampled_from([0.0, 0.3]),
    share_allowed=st.sampled_from([1.0, 0.7]),
    shots=st.sampled_from([1, 3]),
)
def test_inputs_are_those_of_the_slow_reference_on_every_step_of_a_random_route(
    view: ViewSettings, seed: int, share_imaged: float, share_allowed: float, shots: int
) -> None:
    rng = np.random.default_rng(seed)
    sessions = [
        random_session(
            rng, int(n), share_imaged=share_imaged, share_allowed=share_allowed, shots=shots, budget_min=1e6
        )
        for n in rng.integers(6, 25, 2)
    ]
    routes = BatchedRoutes(sessions, view, 2, rng)
    slow = []
    for route, session in enumerate(sessions):
        start = int(rng.integers(session.problem.n_holes))  # imaged, not allowed, or neither
        routes.reset(route, session=route, start_hole=start)
        slow.append(SlowState(session.problem, view, session.truth.good, [start]))
    for _ in range(9):
        for route in range(2):
            assert_sees_what_the_reference_sees(routes, route, slow[route])
        if not all(state.candidates() for state in slow):
            break
        holes = np.array([rng.choice(sorted(state.candidates())) for state in slow])
        routes.step(holes)
        for state, hole in zip(slow, holes, strict=True):
            state.visits.append(int(hole))


@pytest.mark.parametrize("history", ["visited", "candidate"])
def test_before_the_first_visit_everything_is_new_and_the_past_is_empty(history: str) -> None:
    session = even_session()
    view = ViewSettings(candidates="holes", labels="hard", history=history)  # type: ignore[arg-type]
    tables = route_tables([session.problem], view)
    states = empty_states(tables, 1)
    start_route(tables, states, 0, 0)
    seen = look(tables, states, view.history)
    slow = SlowState(session.problem, view, session.truth.good, [])
    for hole, row in zip(seen.holes, seen.rows, strict=True):
        np.testing.assert_allclose(row, slow.inputs(int(hole)), atol=1e-6)
    assert seen.rows[:, -3:].min() == 1.0


def test_the_features_of_a_hand_worked_state() -> None:
    """Two grids of 2 x 2 x 4 holes; from hole 0 (good) to hole 1 (good), then hole 4 in the next patch."""
    session = even_session()
    routes = BatchedRoutes(
        [session], ViewSettings(candidates="holes", labels="hard"), 1, np.random.default_rng(0)
    )
    routes.reset(0, session=0, start_hole=0)
    routes.step(np.array([1]))
    routes.step(np.array([4]))
    seen = routes.look()
    row = seen.rows[seen.holes.tolist().index(2)].reshape(4, N_FEATURES)
    patch, square, grid = [2, 1, 2, 2], [5, 3, 3, 3], [13, 9, 3, 3]
    expected = [1, 0, *np.divide(patch, 25), *np.divide(square, 150), *np.divide(grid, 500), 1, 0, 0]
    np.testing.assert_allclose(row[3], expected, atol=1e-6)
    np.testing.assert_array_equal(row[:3, 1], [1, 1, 1])  # the three visited holes, the start among them
    np.testing.assert_array_equal(row[:3, -3:], [[1, 1, 1], [0, 0, 0], [1, 0, 0]])


def test_counts_are_clipped_at_one() -> None:
    n = int(FULL_PATCH) + 5
    zero = np.zeros(1, dtype=np.int32)
    problem = RoutingProblem(
        HoleTree(np.zeros(n, dtype=np.int32), zero, zero), np.ones(n), 500.0, crossing="count"
    )
    routes = BatchedRoutes(
        [TrainingSession(problem, Truth(np.ones(n), np.ones(n, dtype=bool)))],
        PUBLISHED,
        1,
        np.random.default_rng(0),
    )
    routes.reset(0)
    assert routes.look().rows[:, -15:-13].tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("history", ["visited", "candidate"])
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_hole_has_the_inputs_of_its_class(history: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    session = random_session(rng, 24, share_imaged=0.2, share_allowed=0.8, budget_min=1e6)
    both = [
        BatchedRoutes([session], ViewSettings(candidates=candidates, labels="hard", history=history), 1, rng)  # type: ignore[arg-type]
        for candidates in ("holes", "classes")
    ]
    start = int(rng.integers(24))
    for routes in both:
        routes.reset(0, session=0, start_hole=start)
    hard = session.problem.prior_p_good >= 0.5
    while True:
        by_hole, by_class = both[0].look(), both[1].look()
        if not len(by_hole.holes):
            break

        def key(hole: int) -> tuple[int, bool]:
            return int(session.problem.patch_of_hole[hole]), bool(hard[hole])

        of_class = {key(hole): row for hole, row in zip(by_class.holes, by_class.rows, strict=True)}
        assert len(of_class) == len(by_class.holes)
        for hole, row in zip(by_hole.holes, by_hole.rows, strict=True):
            np.testing.assert_array_equal(row, of_class[key(hole)])
        assert {key(hole) for hole in by_hole.holes} == set(of_class)
        chosen = rng.choice(by_hole.holes)
        for routes in both:
            routes.step(np.array([chosen]))


@pytest.mark.parametrize("agent", [agent for agent in AGENTS if not settings_of(agent).network.dueling])
def test_with_classes_the_greedy_route_is_that_of_holes_up_to_holes_of_equal_score(agent: str) -> None:
    network_settings = settings_of(agent).network.model_copy(update={"hidden": (16,)})
    for seed in range(12):
        rng = np.random.default_rng([7, seed])
        session = random_session(rng, 30, budget_min=90.0)
        # The outcome is the label: which hole of a class is taken then changes nothing.
        hard = (session.problem.prior_p_good >= 0.5).astype(np.float64)
        session = replace(session, outcomes=Truth(hard, np.ones(30, dtype=bool)))
        scores = state_by_state(NumpyNetwork(network_settings, random_weights(network_settings, rng)))
        starts = rng.integers(0, 30, 4)
        by_hole, by_class = (
            greedy_routes(session, ViewSettings(candidates=which, labels="hard"), scores, starts, rng)
            for which in ("holes", "classes")
        )
        np.testing.assert_array_equal(by_hole.visited, by_class.visited)
        np.testing.assert_array_equal(by_hole.good, by_class.good)
        np.testing.assert_allclose(by_hole.reward, by_class.reward, atol=1e-5)


def test_a_hole_that_may_not_be_visited_is_in_no_count_of_unvisited_holes() -> None:
    session = with_allowed(even_session(), np.arange(32) % 4 != 1)
    routes = BatchedRoutes(
        [session], ViewSettings(candidates="holes", labels="hard"), 1, np.random.default_rng(0)
    )
    routes.reset(0, session=0, start_hole=1)
    seen = routes.look()
    assert 1 not in seen.holes
    assert 5 not in seen.holes
    first = seen.rows[seen.holes.tolist().index(0)]
    np.testing.assert_allclose(first[-15:-11], np.array([3, 2, 1, 1]) / 25, atol=1e-6)


@pytest.mark.parametrize("history", ["visited", "candidate"])
def test_the_past_of_visits_that_were_no_candidates_is_right_too(history: str) -> None:
    """An operator may image holes that action elimination left out."""
    session = with_allowed(even_session(), np.arange(32) % 4 != 1)
    view = ViewSettings(candidates="holes", labels="hard", history=history)  # type: ignore[arg-type]
    tables = route_tables([session.problem], view)
    states = empty_states(tables, 1)
    start_route(tables, states, 0, 0)
    slow = SlowState(session.problem, view, session.truth.good, [])
    for hole in (4, 1, 5, 2, 9):
        visit(tables, states, 0, hole, float(session.truth.good[hole]))
        slow.visits.append(hole)
        seen = look(tables, states, view.history)
        assert set(seen.holes.tolist()) == slow.candidates()
        for candidate, row in zip(seen.holes, seen.rows, strict=True):
            np.testing.assert_allclose(row, slow.inputs(int(candidate)), atol=1e-6)


def test_only_active_routes_have_rows() -> None:
    routes = BatchedRoutes([even_session()], PUBLISHED, 3, np.random.default_rng(0))
    routes.reset_all()
    seen = routes.look(np.array([True, False, True]))
    assert np.diff(seen.begin).tolist()[1] == 0
    assert seen.rows.shape == (seen.begin[-1], N_INPUTS)
    np.testing.assert_array_equal(
        seen.rows, np.delete(routes.look().rows, range(*routes.look().begin[1:3]), 0)
    )


def test_a_visit_of_a_visited_hole_counts_once() -> None:
    tables = route_tables([even_session().problem], PUBLISHED)
    states = empty_states(tables, 1)
    start_route(tables, states, 0, 0)
    visit(tables, states, 0, 3, 1.0)
    before = [array.copy() for array in (states.patch, states.square, states.grid, states.left)]
    visit(tables, states, 0, 3, 1.0)
    for old, new in zip(before, (states.patch, states.square, states.grid, states.left), strict=True):
        np.testing.assert_array_equal(old, new)
