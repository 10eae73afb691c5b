"""Sessions as flat tables: which holes share a queue, and where each session's part lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning_samples import VIEWS, even_session, index, random_session

from cryoscout.core.hole_tree import HoleTree
from cryoscout.learning.settings import ViewSettings
from cryoscout.learning.tables import PREDICTED_GOOD, UNVISITED, RouteTables, eliminated_problem, route_tables
from cryoscout.routing.elimination import eliminated_holes
from cryoscout.routing.problem import RoutingProblem


def queues_of(tables: RouteTables, session: int = 0) -> list[list[int]]:
    first, last = tables.queue_begin[session], tables.queue_begin[session + 1]
    begin = tables.members_begin
    return [tables.members[begin[queue] : begin[queue + 1]].tolist() for queue in range(first, last)]


def one_patch(p_good: list[float]) -> RoutingProblem:
    n = len(p_good)
    return RoutingProblem(HoleTree(index(*[0] * n), index(0), index(0)), np.array(p_good), 60.0)


@pytest.mark.parametrize(
    ("view", "queues"),
    [
        ({"candidates": "holes", "labels": "hard"}, [[0], [1], [2], [3], [4]]),
        ({"candidates": "classes", "labels": "hard"}, [[3, 1, 4], [0, 2]]),
        ({"candidates": "dominant", "labels": "hard"}, [[3, 1, 4, 0, 2]]),
        ({"candidates": "classes", "labels": "soft"}, [[3], [1, 4], [0, 2]]),
    ],
)
def test_holes_that_an_agent_need_not_tell_apart_share_a_queue_the_surest_first(
    view: dict[str, str], queues: list[list[int]]
) -> None:
    problem = one_patch([0.42, 0.71, 0.38, 0.9, 0.68])
    assert queues_of(route_tables([problem], ViewSettings.model_validate(view))) == queues


def test_soft_classes_are_binned_by_tenths_and_nothing_else_is() -> None:
    problem = one_patch([0.42, 0.5])
    for candidates, labels, predicted in (
        ("classes", "soft", [0.4, 0.5]),
        ("dominant", "soft", [0.42, 0.5]),
        ("holes", "soft", [0.42, 0.5]),
        ("classes", "hard", [0.0, 1.0]),
    ):
        view = ViewSettings(candidates=candidates, labels=labels)  # type: ignore[arg-type]
        np.testing.assert_allclose(route_tables([problem], view).predicted, predicted, atol=1e-7)


@given(seed=st.integers(0, 2**32 - 1), view=st.sampled_from(VIEWS))
def test_every_hole_that_may_be_visited_is_in_one_queue_of_its_patch(seed: int, view: ViewSettings) -> None:
    rng = np.random.default_rng(seed)
    sessions = [
        random_session(rng, int(n), share_imaged=0.3, share_allowed=0.7) for n in rng.integers(5, 30, 3)
    ]
    problems = [session.problem for session in sessions]
    tables = route_tables(problems, view)
    assert len(tables.hole_begin) == 4
    for place, problem in enumerate(problems):
        queues = queues_of(tables, place)
        assert (
            sorted(hole for queue in queues for hole in queue) == np.flatnonzero(problem.available()).tolist()
        )
        of_hole = tables.queue_of_hole[tables.hole_begin[place] : tables.hole_begin[place + 1]]
        np.testing.assert_array_equal(of_hole >= 0, problem.available())
        patch_of_queue = tables.patch_of_queue[tables.queue_begin[place] : tables.queue_begin[place + 1]]
        for number, queue in enumerate(queues):
            assert (of_hole[queue] == number).all()
            assert (problem.patch_of_hole[queue] == patch_of_queue[number]).all()
            assert (np.diff(problem.prior_p_good[queue]) <= 0).all()
        grid0 = tables.grid0[tables.grid_begin[place] : tables.grid_begin[place + 1]]
        predicted = tables.predicted[tables.hole_begin[place] : tables.hole_begin[place + 1]]
        assert grid0[:, UNVISITED].sum() == problem.available().sum()
        assert grid0[:, PREDICTED_GOOD].sum() == pytest.approx(predicted[problem.available()].sum(), abs=1e-4)


def test_elimination_that_keeps_nothing_to_visit_is_left_out() -> None:
    problem = even_session(n_grids=8).problem.with_budget(40.0)
    reduced = eliminated_problem(problem)
    np.testing.assert_array_equal(reduced.available(), eliminated_holes(problem))
    assert reduced.available().sum() < problem.n_holes
    # No time, nothing predicted good: the rule keeps the first patch, which is imaged to the end.
    poor = replace(problem, prior_p_good=np.zeros(128), imaged=np.arange(128) < 4, budget_min=0.5)
    assert not eliminated_holes(poor)[poor.available()].any()
    np.testing.assert_array_equal(eliminated_problem(poor).available(), poor.available())
