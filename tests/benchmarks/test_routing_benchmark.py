"""The routing benchmark runs, prints one JSON object with every figure, and its rivals solve the same problem."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "routing.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("routing_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_integer_programme_and_the_knapsack_agree(benchmark):
    figures = benchmark.knapsack_ratio()
    assert figures["milp_value"] == pytest.approx(figures["knapsack_value"], rel=1e-6)


def test_a_command_that_fails_stops_the_benchmark(benchmark):
    with pytest.raises(SystemExit, match="failed"):
        benchmark.command_s_and_peak_mb(["simulate", "--preset", "no-such-preset", "-o", "x.session"])


@pytest.mark.slow
def test_the_benchmark_prints_one_json_object_with_every_figure():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", "--quick"], capture_output=True, text=True, check=True
    )
    figures = json.loads(done.stdout)
    assert {
        "index_plan_2341_s",
        "index_plan_100k_s",
        "adaptive_next_2341_s",
        "adaptive_next_2341_p95_s",
        "explore_next_2400_s",
        "explore_next_100k_s",
        "bound_2341_s",
        "bound_100k_s",
        "replay_index_50_s",
        "cli_help_s",
        "simulate_1m_s",
        "peak_mb_1m",
        "annealing_times_faster",
        "knapsack_times_faster",
    } <= set(figures)
    assert set(figures["targets"]) <= set(figures)
    assert figures["adaptive_next_2341_s"] <= figures["adaptive_next_2341_p95_s"]
