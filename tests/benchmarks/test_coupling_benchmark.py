"""The coupling benchmark runs, prints every figure and says which are above their target."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coupling.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("coupling_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_figure_above_its_target_is_missed(benchmark):
    assert benchmark.missed({"belief_min": 3.1, "route_index_min": 5.0, "ray_over_workers": 1.2}) == [
        "belief_min",
        "ray_over_workers",
    ]


def test_the_runs_are_those_of_the_study_but_for_the_threads(benchmark):
    trial = benchmark.trial_of(benchmark.RUNS["belief_min"], benchmark.SEED, "quick", rewards=False)
    timed = benchmark.with_budget(trial, 2, None)
    assert timed.parameters["budget"] == {**trial.parameters["budget"], "threads": 2}
    assert timed.parameters["budget"]["steps"] == 600


@pytest.mark.slow
def test_it_prints_every_figure(benchmark, capsys):
    benchmark.main(["--json", "--quick", "--threads", "1"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {"machine", "threads", *benchmark.RUNS, "missed"}
    assert figures["missed"] == []
