"""Arrays on disk: what is written is read again; a file of another kind says what it is and what to do.

Damaged, foreign and newer files are tested where policies are read (tests/learning/test_weights.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import InputError


def test_arrays_of_every_kind_keep_their_type_shape_and_order(tmp_path: Path) -> None:
    arrays = {
        "scalar": np.array(3.5, dtype=np.float32),
        "flags": np.array([True, False]),
        "bytes": np.arange(4, dtype=np.uint8),
        "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
        "part": np.arange(10, dtype=np.float64)[::2],
        "empty": np.zeros((0, 3), dtype=np.int32),
    }
    write_arrays(arrays, {"kind": "checkpoint"}, tmp_path / "x")
    back, header = read_arrays(tmp_path / "x", "checkpoint")
    assert header["kind"] == "checkpoint"
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_a_file_of_another_kind_says_what_it_is_and_what_to_do(tmp_path: Path) -> None:
    write_arrays({"a": np.zeros(2)}, {"kind": "checkpoint"}, tmp_path / "x")
    with pytest.raises(
        InputError, match=r"must be a classifier\. Got a checkpoint instead\. Remedy: name the right"
    ):
        read_arrays(tmp_path / "x", "classifier")
    with pytest.raises(InputError, match=r"Remedy: look beside it\."):
        read_arrays(tmp_path / "x", "classifier", "look beside it")


def test_a_file_without_a_kind_is_not_ours(tmp_path: Path) -> None:
    write_arrays({"a": np.zeros(2)}, {}, tmp_path / "x")
    with pytest.raises(InputError, match=r"must be a file written by cryoscout"):
        read_arrays(tmp_path / "x", "checkpoint")
