"""A large session's map shows the squares the route enters, and the route through them is unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.report import map_scene
from cryoscout.report.map_scene import (
    MapScene,
    RouteOnMap,
    entered_squares,
    offsets,
    scene_of_session,
    short_names,
)
from cryoscout.routing.from_session import problem_from_session
from cryoscout.routing.predictions import prediction_of
from cryoscout.routing.problem import NOWHERE
from cryoscout.session.named import load_session
from cryoscout.testing import random_problem


@given(st.integers(0, 10_000), st.integers(1, 40), st.booleans())
def test_only_entered_squares_stay_and_every_step_keeps_its_tier(seed, n_holes, from_nowhere):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes)
    stops = rng.permutation(n_holes)[: rng.integers(1, n_holes + 1)]
    start, route = (NOWHERE, stops) if from_nowhere else (int(stops[0]), stops[1:])
    imaged = rng.random(n_holes) < 0.3
    names = [f"grid {i}" for i in range(int(problem.grid_of_square.max()) + 1)]
    positions = rng.normal(size=(n_holes, 2))
    scene = entered_squares(MapScene(problem, RouteOnMap(route, start, None, imaged), names, positions))
    small = scene.problem
    assert len(small.grid_of_square) + scene.squares_left_out == len(problem.grid_of_square)
    assert len(small.grid_of_square) == len(set(problem.square_of_hole[stops].tolist()))
    moved = scene.drawn.route if from_nowhere else np.append(scene.drawn.start_hole, scene.drawn.route)
    for old, new in zip(stops.tolist(), moved.tolist(), strict=True):
        assert small.prior_p_good[new] == problem.prior_p_good[old]
        assert scene.offset_in_patch[new].tolist() == positions[old].tolist()
        assert scene.drawn.imaged[new] == imaged[old]
        assert scene.grid_names[small.grid_of_hole[new]] == names[problem.grid_of_hole[old]]
    for k in range(1, len(stops)):
        assert small.tier_between(moved[k - 1], moved[k]) == problem.tier_between(stops[k - 1], stops[k])


def test_a_small_session_is_drawn_whole_and_a_large_one_is_not(monkeypatch):
    session = load_session("y1")
    problem = problem_from_session(session, prediction=prediction_of(session, "res50"), budget_min=60)
    drawn = RouteOnMap(np.arange(3), NOWHERE, None)
    assert scene_of_session(session, problem, drawn).squares_left_out == 0
    monkeypatch.setattr(map_scene, "HOLES_OF_A_READABLE_MAP", 1000)
    assert scene_of_session(session, problem, drawn).squares_left_out == 21


def test_rows_of_an_image_run_down_and_the_map_runs_up():
    session = load_session("y1")
    assert offsets(session)[5].tolist() == [session.holes["x_px"].iloc[5], -session.holes["y_px"].iloc[5]]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["21mar02c_grid1c_00008gr", "21mar02c_grid1c_00019gr"], ["00008gr", "00019gr"]),
        (["a1", "a2"], ["a1", "a2"]),
        (["g_1", "g_"], ["1", "g_"]),
        (["only"], ["only"]),
        ([], []),
    ],
)
def test_short_names_lose_what_all_names_repeat(names, short):
    assert short_names(names) == short
