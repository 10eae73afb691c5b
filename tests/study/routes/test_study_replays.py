"""Replay trials share their starts, and their cells are the replays they are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.core.errors import InputError
from cryoscout.routing.policies import make_policy
from cryoscout.routing.replay import ReplayResult, good_course, random_starts, replay, visited_course
from cryoscout.study.engine.runner import TrialRow
from cryoscout.study.routes.replays import (
    BOUND,
    ReplaySpec,
    cell_json,
    cells,
    course_moments,
    difference,
    problem_and_truth,
    replay_trials,
    run_replay_trial,
    start_candidates,
    starts_of,
)

GREEDY = ReplaySpec("greedy", "greedy", "res50", crossing="drop", starts=6)
RANDOM = ReplaySpec("random", "random", "res50", starts=6, repeats=2)


def run(specs, budgets, chunk=4):
    return [
        TrialRow(trial, 0.0, run_replay_trial(trial), None)
        for trial in replay_trials(specs, budgets, 0, chunk)
    ]


def test_trials_cover_every_spec_budget_seed_and_start_once():
    trials = replay_trials([GREEDY, RANDOM], [120, 240], seed=0, chunk=4)
    assert len(trials) == 2 * 2 + 2 * 2 * 2
    assert len({trial.key for trial in trials}) == len(trials)
    assert [(trial.parameters["first"], trial.parameters["last"]) for trial in trials[:2]] == [(0, 4), (4, 6)]


def test_a_cell_is_the_replay_from_its_starts():
    found = cells(run([GREEDY], [120]))["greedy", 120.0]
    problem, truth = problem_and_truth(GREEDY, 120.0)
    starts = random_starts(truth.measured, 6, np.random.default_rng(0))
    assert found.starts.tolist() == starts.tolist()
    for first in (0, 4):
        chunk = starts[first : first + 4].tolist()
        results = replay(problem, truth, make_policy("greedy"), chunk, seed=first)
        assert found.good[first : first + 4].tolist() == [result.good_found for result in results]
        assert found.visited[first : first + 4].tolist() == [result.visited for result in results]


def test_two_runs_give_the_same_rows_and_seeds_differ():
    first, second = run([RANDOM], [120]), run([RANDOM], [120])
    assert [row.result for row in first] == [row.result for row in second]
    cell = cells(first)["random", 120.0]
    assert cell.good_course[cell.repeat == 0].tolist() != cell.good_course[cell.repeat == 1].tolist()
    assert cell.std_between_seeds is not None
    assert cells(run([GREEDY], [120]))["greedy", 120.0].std_between_seeds is None


def test_no_policy_finds_more_than_the_bound():
    bound = ReplaySpec("bound", BOUND, "res50", starts=6)
    found = cells(run([bound, replace(GREEDY, crossing="count")], [120]))
    assert (found["greedy", 120.0].good <= found["bound", 120.0].good).all()
    assert len(found["bound", 120.0].visited) == 0


def test_the_course_ends_with_the_totals_and_holds_the_crossing_visit_at_the_budget():
    result = ReplayResult(
        0, np.array([1, 2, 3]), np.array([20.0, 60.0, 125.0]), np.array([1.0, 0.0, 1.0]), 0.0
    )
    moments = course_moments(120.0)
    assert moments.tolist() == [30, 60, 90, 120]
    assert good_course(result, moments).tolist() == [1, 1, 1, 2]
    assert visited_course(result, moments).tolist() == [1, 2, 2, 3]
    assert course_moments(100.0).tolist() == [30, 60, 90, 100]


def test_eliminated_starts_are_few_rich_and_the_same_for_every_prediction():
    spec = replace(GREEDY, starts_from="eliminated")
    kept = start_candidates(spec, 240.0)
    _, truth = problem_and_truth(spec, 240.0)
    assert 0 < kept.sum() < truth.measured.sum()
    assert truth.good[kept].mean() > 1.5 * truth.good[truth.measured].mean()
    assert (start_candidates(replace(spec, prediction="res18"), 240.0) == kept).all()
    assert kept[starts_of(spec, 240.0, seed=0)].all()


def test_all_starts_are_every_measured_hole_once():
    trials = replay_trials([replace(GREEDY, starts="all")], [120], seed=0, chunk=500)
    assert [trial.parameters["last"] for trial in trials] == [500, 1000, 1074]


def test_a_failed_chunk_makes_the_whole_cell_missing():
    rows = run([GREEDY], [120])
    rows[1] = replace(rows[1], result=None, error="ValueError: no")
    assert cells(rows)["greedy", 120.0] is None
    row = cell_json(GREEDY, 120.0, None)
    assert row["missing"]
    assert row["good_mean"] is None


def test_differences_pair_by_start_hole_and_need_one_in_common():
    cell = cells(run([GREEDY], [120]))["greedy", 120.0]
    better = replace(cell, good=cell.good + 2.0)
    fewer = replace(better, starts=better.starts[:3], good=better.good[:3], repeat=better.repeat[:3])
    assert difference(fewer, cell).mean == pytest.approx(2.0)
    assert difference(None, cell) is None
    with pytest.raises(InputError, match="share start holes"):
        difference(replace(cell, starts=cell.starts + 5000), cell)
