"""Policies by name or file: one way for planners and learned ones, without torch, and nothing in a file is run."""

from __future__ import annotations

import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cryoscout.core.errors import DataError, InputError, UnknownNameError
from cryoscout.learning import registry
from cryoscout.learning.policy import LearnedPolicy
from cryoscout.learning.registry import SHIPPED, policy_and_prediction, policy_named, policy_names
from cryoscout.learning.settings import N_INPUTS, settings_of
from cryoscout.learning.weights import write_policy
from cryoscout.routing.policies import POLICIES
from cryoscout.testing import check_policy


def write_random_policy(path: Path, **notes: object) -> None:
    """An untrained dqn policy."""
    settings = settings_of("dqn")
    rng = np.random.default_rng(0)
    widths = (N_INPUTS, *settings.network.hidden)
    layers = {f"trunk.{i}": (b, a) for i, (a, b) in enumerate(pairwise(widths))} | {"score": (1, widths[-1])}
    weights = {}
    for name, shape in layers.items():
        weights[f"{name}.weight"] = rng.normal(0, 0.1, shape).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], dtype=np.float32)
    write_policy(path, settings, weights, notes)


def test_planners_and_learned_policies_have_one_list_of_names():
    assert set(policy_names()) == set(POLICIES) | set(SHIPPED)
    assert not set(POLICIES) & set(SHIPPED)


def test_a_planner_is_the_registered_one_with_its_settings():
    assert policy_named("greedy").name == "greedy"
    assert policy_named("genetic", evaluations=7).settings.evaluations == 7


def test_a_file_and_the_folder_of_a_training_are_the_same_policy(tmp_path):
    write_random_policy(tmp_path / "mine" / "policy.safetensors", prediction="res18")
    by_folder = policy_named(str(tmp_path / "mine"))
    by_file = policy_named(str(tmp_path / "mine" / "policy.safetensors"))
    for policy in (by_folder, by_file):
        assert isinstance(policy, LearnedPolicy)
        assert (policy.kind, policy.default_prediction) == ("learned", "res18")
    assert by_folder.name == str(tmp_path / "mine")


def test_a_folder_in_the_working_folder_needs_no_slash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_random_policy(tmp_path / "mine" / "policy.safetensors")
    assert policy_named("mine").default_prediction == "res50"
    # A registered name is never a folder.
    write_random_policy(tmp_path / "greedy" / "policy.safetensors")
    assert policy_named("greedy").kind == "baseline"


@pytest.mark.slow
def test_a_policy_from_a_file_keeps_the_contract_of_policies(tmp_path):
    write_random_policy(tmp_path / "policy.safetensors")
    check_policy(lambda: policy_named(str(tmp_path / "policy.safetensors")))


@pytest.mark.parametrize(
    ("name", "nearest"), [("adaptiv", "adaptive"), ("dqn-y2", "dqn-y1"), ("gredy", "greedy")]
)
def test_an_unknown_name_offers_the_nearest_of_all(name, nearest):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{nearest}'") as caught:
        policy_named(name)
    assert "dqn-y1" in str(caught.value)
    assert "adaptive" in str(caught.value)


def test_a_path_without_a_policy_says_so(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(InputError, match="no such file"):
            policy_named(str(path))


def test_a_learned_policy_takes_no_settings(tmp_path):
    write_random_policy(tmp_path / "policy.safetensors")
    for name in ("dqn-y1", str(tmp_path / "policy.safetensors")):
        with pytest.raises(InputError, match=r"must be made without settings\. Got speed instead"):
            policy_named(name, speed=3)


def test_a_shipped_policy_that_is_not_there_is_an_error_of_the_installation(monkeypatch):
    monkeypatch.setitem(registry.SHIPPED, "lost", "lost.safetensors")
    with pytest.raises(DataError, match="install cryoscout again"):
        policy_named("lost")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["policy.safetensors", "policy.pt", "policy.pkl"])
def test_nothing_in_a_file_is_ever_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="must be a whole safetensors file"):
        policy_named(str(tmp_path / name))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("adaptive", ("adaptive", None)),
        ("adaptive@combined", ("adaptive", "combined")),
        ("greedy@my@model/2", ("greedy", "my@model/2")),
        ("dqn-y1@res18", ("dqn-y1", "res18")),
        ("runs/a/policy.safetensors", ("runs/a/policy.safetensors", None)),
        ("runs/a/policy.safetensors@res18", ("runs/a/policy.safetensors", "res18")),
        ("a@b/policy.safetensors", ("a@b/policy.safetensors", None)),
        ("a@b/policy.safetensors@res18", ("a@b/policy.safetensors", "res18")),
    ],
)
def test_the_prediction_stands_after_the_at(spec, expected):
    assert policy_and_prediction(spec) == expected


def test_a_folder_with_an_at_in_its_name_is_taken_whole_when_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert policy_and_prediction("mine@home") == ("mine", "home")
    (tmp_path / "mine@home").mkdir()
    assert policy_and_prediction("mine@home") == ("mine@home", None)
    assert policy_and_prediction("mine@home@res18") == ("mine@home", "res18")


@pytest.mark.parametrize("spec", ["", "@res50", "adaptive@"])
def test_half_a_specification_is_refused(spec):
    with pytest.raises(InputError, match="must be written policy or policy@prediction"):
        policy_and_prediction(spec)


@pytest.mark.slow
def test_no_torch_is_imported_for_a_learned_policy(tmp_path):
    write_random_policy(tmp_path / "policy.safetensors")
    code = (
        "import sys; from cryoscout.learning.registry import policy_named; "
        f"policy_named({str(tmp_path / 'policy.safetensors')!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
