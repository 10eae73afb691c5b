"""The shipped policy is the one its script trains: short trainings here, and the settings in the shipped file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from cryoscout.learning import held_out
from cryoscout.learning.weights import read_policy

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train_shipped_policy.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("train_shipped_policy", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def short(script, tmp_path, monkeypatch):
    """The same with one epoch of 60 visits, judged by four routes and written elsewhere."""
    whole = script.settings()
    monkeypatch.setattr(
        script, "settings", lambda: whole.model_copy(update={"epochs": 1, "steps_per_epoch": 60})
    )
    monkeypatch.setattr(held_out, "STARTS", 4)
    monkeypatch.setattr(script, "OUTPUT", tmp_path / "data" / "dqn-y1.safetensors")
    return script


def test_the_same_script_gives_the_same_file_and_check_says_so(short, capsys):
    assert short.main([]) == 0
    first = short.OUTPUT.read_bytes()
    assert short.main(["--check"]) == 0
    assert "The shipped policy is the same." in capsys.readouterr().out
    assert short.main([]) == 0
    assert short.OUTPUT.read_bytes() == first


def test_check_tells_another_policy_apart_and_writes_nothing(short, capsys, monkeypatch):
    assert short.main([]) == 0
    first = short.OUTPUT.read_bytes()
    changed = short.settings().model_copy(update={"seed": 1})
    monkeypatch.setattr(short, "settings", lambda: changed)
    assert short.main(["--check"]) == 1
    assert "The shipped policy differs: settings." in capsys.readouterr().out
    assert short.OUTPUT.read_bytes() == first


def test_the_shipped_file_is_of_the_settings_that_the_script_trains_with(script):
    shipped = read_policy(script.OUTPUT)
    assert shipped.settings == script.settings()
    assert shipped.settings.elimination
    assert shipped.settings.agent.name == "dqn"
    assert (shipped.notes["sessions"], shipped.notes["split"], shipped.notes["prediction"]) == (
        ["y1"],
        "train",
        "res50",
    )
    assert 0 < shipped.notes["held_out_share_of_bound"] <= 1
