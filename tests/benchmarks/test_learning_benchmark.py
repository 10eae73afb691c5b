"""The learning benchmark runs, prints every figure, and its baseline sees what our agents see."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession
from cryoscout.learning.settings import ViewSettings
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.tables import simulate_tables

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "learning.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("learning_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small() -> TrainingSession:
    settings = simulation_named("small").model_copy(update={"holes": 60, "holes_per_patch": 5})
    tables = simulate_tables(settings, seed=0)
    return TrainingSession(tables.problem(60.0), tables.truth())


def test_the_baseline_computes_the_same_features_minutes_and_rewards(benchmark, small):
    theirs = benchmark.PublishedLikeEnvironment(small, np.random.default_rng(0))
    view = ViewSettings(candidates="holes", labels="hard", history="candidate")
    ours = BatchedRoutes([small], view, 1, np.random.default_rng(0))
    theirs.start(7)
    ours.reset(0, start_hole=7)
    rng = np.random.default_rng(1)
    for _ in range(12):
        seen = ours.look()
        assert seen.rows == pytest.approx(theirs.state()[seen.holes], abs=1e-6)
        hole = int(rng.choice(seen.holes))
        reward, _ = theirs.visit(hole)
        step = ours.step(np.array([hole]))
        assert float(step.reward[0]) == pytest.approx(reward)
        assert ours.minutes[0] == pytest.approx(theirs.minutes)


def test_both_learn_on_the_training_half_of_the_later_split(benchmark):
    data = benchmark.training_half()
    assert data.problem.n_holes == 1197
    assert data.problem.available().all()
    settings = benchmark.settings_for(50_000)
    assert settings.epochs * settings.steps_per_epoch == 50_000
    assert (settings.batch_size, settings.updates_per_step, settings.elimination) == (128, 0.1, False)
    assert (settings.held_out, settings.parts) == (0.0, 0)


def test_a_million_transitions_stay_below_a_hundred_megabytes(benchmark, small):
    plain, prioritized = (benchmark.million_transitions_mb(small, prioritized=each) for each in (False, True))
    assert 0 < plain < prioritized <= 100


@pytest.mark.parametrize(("per_s", "is_like"), [(3.9, False), (6.8, True), (14.1, False)])
def test_a_baseline_unlike_the_published_code_makes_the_ratio_void(
    benchmark, small, monkeypatch, per_s, is_like
):
    monkeypatch.setattr(benchmark, "training_half", lambda: small)
    monkeypatch.setattr(benchmark, "baseline", lambda data, steps: per_s)
    monkeypatch.setattr(benchmark, "learning", lambda data, steps: {"env_steps_per_s": 680.0})
    monkeypatch.setattr(benchmark, "acting", lambda data: 1.0)
    monkeypatch.setattr(benchmark, "DECISION_SIZES", (500,))
    figures = benchmark.measure(100)
    assert (
        (figures["env_steps_ratio"] == pytest.approx(100.0))
        if is_like
        else figures["env_steps_ratio"] is None
    )
    assert (figures["env_steps_ratio_void"] is None) == is_like
    assert figures["decision_s"]["500"] > 0


@pytest.mark.slow
def test_the_benchmark_prints_one_json_object_with_every_figure():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", "--steps", "500"], capture_output=True, text=True, check=True
    )
    figures = json.loads(done.stdout)
    assert {
        "machine",
        "env_steps_per_s",
        "baseline_env_steps_per_s",
        "env_steps_ratio",
        "train_50k_steps_s",
        "acting_env_steps_per_s",
        "million_transitions_mb",
        "decision_s",
    } <= set(figures)
    assert set(figures["decision_s"]) == {"1000", "10000", "100000"}
    assert figures["train_50k_steps_is_scaled"]
    assert figures["holes"] == 1197
