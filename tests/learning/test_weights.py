"""Trained policies on disk: what is written is read again, and every broken file has its own message."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from learning_samples import quick, random_weights
from safetensors.numpy import save_file

from cryoscout.core.array_file import write_arrays
from cryoscout.core.errors import InputError
from cryoscout.learning.settings import LearnSettings
from cryoscout.learning.weights import read_policy, write_policy

SETTINGS = quick("rainbow")
WEIGHTS = random_weights(SETTINGS.network, np.random.default_rng(0))


def written(path: Path, settings: LearnSettings = SETTINGS) -> Path:
    write_policy(path, settings, WEIGHTS, {"session": "y1"})
    return path


def with_header(path: Path, header: object) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    save_file({"a": np.zeros(2, np.float32)}, path, metadata={"cryoscout": text})
    return path


def test_a_policy_is_read_as_it_was_written(tmp_path: Path) -> None:
    trained = read_policy(written(tmp_path / "deep" / "policy.safetensors"))
    assert trained.settings == SETTINGS
    assert trained.notes == {"session": "y1"}
    assert trained.weights.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(trained.weights[name], array)


def test_the_same_policy_is_the_same_file(tmp_path: Path) -> None:
    assert written(tmp_path / "a").read_bytes() == written(tmp_path / "b").read_bytes()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "policy.safetensors")
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_policy(path, quick("dqn"), {}, {})
    assert path.read_bytes() == before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no.safetensors", tmp_path):
        with pytest.raises(InputError, match=r"must be a \.safetensors file\. Got .*no such file"):
            read_policy(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is not what you look for", b"\x80\x04\x95pickle" * 9])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="must be a whole safetensors file"):
        read_policy(path)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "policy.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in (1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"whole safetensors file\. .* Remedy: copy or train it again"):
            read_policy(cut)


def test_a_safetensors_file_of_someone_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(2, np.float32)}, path)
    with pytest.raises(
        InputError, match=r"must be a file written by cryoscout\. Got a safetensors file without"
    ):
        read_policy(path)
    for header in ("not json", "[]", '{"format": "one"}', "3"):
        with pytest.raises(InputError, match="must be a file written by cryoscout"):
            read_policy(with_header(path, header))


def test_a_type_that_numpy_lacks_is_not_read_before_the_file_is_known_to_be_ours(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "bf16.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(InputError, match="must be a file written by cryoscout"):
        read_policy(path)


def test_a_file_of_a_newer_version_names_that_version(tmp_path: Path) -> None:
    path = with_header(tmp_path / "x", {"format": 2, "cryoscout": "9.1", "kind": "policy"})
    with pytest.raises(InputError, match=r"format 1 or older\. Got 2, written by cryoscout 9\.1 instead"):
        read_policy(path)


def test_a_checkpoint_is_not_a_policy(tmp_path: Path) -> None:
    write_arrays(WEIGHTS, {"kind": "checkpoint"}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(
        InputError, match=r"Got a checkpoint instead\. Remedy: name the policy\.safetensors beside"
    ):
        read_policy(tmp_path / "checkpoint.safetensors")


def test_settings_unknown_to_this_version_are_named(tmp_path: Path) -> None:
    settings = SETTINGS.model_dump(mode="json")
    for header, field in (
        ({"settings": {**settings, "colour": "red"}}, "colour"),
        ({"settings": {**settings, "view": {"candidates": "squares"}}}, "view.candidates"),
        ({}, ""),
    ):
        path = with_header(tmp_path / "x", {"format": 1, "cryoscout": "0.1", "kind": "policy", **header})
        with pytest.raises(InputError, match=rf"settings this version knows\. Got {field}"):
            read_policy(path)


def test_notes_that_are_no_object_are_left_out(tmp_path: Path) -> None:
    header = {"format": 1, "kind": "policy", "settings": SETTINGS.model_dump(mode="json"), "notes": "hello"}
    assert read_policy(with_header(tmp_path / "x", header)).notes == {}
