from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cryoscout.simulate.scene_settings import SceneSettings
from cryoscout.study.engine.catalogue import run_study
from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.images import simulator

TINY = SceneSettings(holes=240, patches=12, squares=5, grids=3)


@pytest.fixture
def tiny_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    presets = {"y1-sim": TINY, "y3": TINY.model_copy(update={"share_good": 0.5})}
    monkeypatch.setattr(simulator, "SCENE_PRESETS", presets)
    monkeypatch.setattr(simulator, "scene_named", lambda name: presets.get(name, TINY))
    monkeypatch.setattr(simulator, "PRESET_SESSIONS", 2)


@pytest.fixture
def no_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without its sheet of examples, which has tests of its own."""
    with io.BytesIO() as file:
        Image.new("L", (60, 20)).save(file, "PNG")
        white = file.getvalue()
    monkeypatch.setattr(simulator, "_examples_png", lambda: white)


def trials_of(profile: str = "quick") -> list[Trial]:
    return [
        replace(trial, parameters=trial.parameters | {"holes": 500}) if "holes" in trial.parameters else trial
        for trial in simulator.trials(profile)
        if trial.parameters.get("first", 0) < 40
    ]


def test_a_hundred_sessions_are_held_against_y1_and_every_preset_is_measured() -> None:
    trials = simulator.trials("quick")
    sessions = [n for t in trials for n in range(t.parameters.get("first", 0), t.parameters.get("last", 0))]
    assert sessions == list(range(100))
    assert {t.parameters.get("preset") for t in trials} == {None, "y1-sim", "y3", "daily-images"}


@pytest.mark.usefixtures("tiny_presets")
def test_the_study_writes_its_page_with_both_tables_and_a_picture(tmp_path) -> None:
    study = replace(simulator.STUDY, trials=lambda profile: trials_of())
    run = run_study(study, "quick", tmp_path)
    assert not run.failed
    text = run.markdown_file.read_text(encoding="utf-8")
    rows = {row["figure"]: row for row in json.loads(run.json_file.read_text(encoding="utf-8"))["rows"]}
    good = rows["share of good"]
    assert good["y1"] == pytest.approx(0.379, abs=0.001)
    assert good["low"] <= good["mean"] <= good["high"]
    assert good["from"] == "fitted"
    assert rows["holes per patch, mean"]["from"] == "set"
    assert rows["correlation of ln CTF within a grid"]["from"] == "unseen"
    assert "40 sessions" in text
    assert text.count("| `y") == 2
    with Image.open(io.BytesIO(run.figure_file.read_bytes())) as picture:
        assert picture.height > 600


@pytest.mark.usefixtures("tiny_presets")
def test_the_same_trial_gives_the_same_figures() -> None:
    trial = trials_of()[1]
    first, again = simulator.run_trial(trial), simulator.run_trial(trial)
    assert first["figures"] == again["figures"]
    assert first["distribution"] == again["distribution"]


@pytest.mark.usefixtures("no_examples")
def test_y1_alone_and_missing_trials_leave_missing_cells_not_wrong_ones() -> None:
    y1 = next(trial for trial in simulator.trials("quick") if trial.name == "Y1")
    rows = [TrialRow(y1, 0.0, simulator.run_trial(y1), None)]
    rows += [TrialRow(t, 0.0, None, "stopped") for t in simulator.trials("quick") if t.name != "Y1"]
    page = simulator.page(rows, "quick")
    assert page.markdown.count("missing") > 20
    assert "Of 0 figures" in page.markdown


def test_within_and_inside_are_told_apart() -> None:
    values = list(np.linspace(0.9, 1.3, 41))
    y1 = {"figures": {"a": [1.0], "b": [2.0]}, "distribution": []}
    block = {"figures": {"a": values, "b": values}, "distribution": []}
    near, far = simulator._compared(y1, [block])
    assert near["mean"] == pytest.approx(1.1)
    assert (near["within"], near["inside"]) == (True, True)
    assert (far["within"], far["inside"]) == (False, False)
    assert "(not: b)" in simulator._verdict([near, far])


def test_failed_fits_are_above_every_resolution() -> None:
    shares = simulator._distribution(np.array([3.0, np.inf, np.nan, 29.0]))
    assert shares[-1] == 0.5
    assert shares[0] == 0.0
