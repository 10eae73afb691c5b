"""Arrays on disk: what is written is read again; a file of another kind says what it is and what to do.

Damaged, foreign and newer files are tested where policies are read (tests/learning/test_weights.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import CryoscoutError, InputError
from cryoscout.learning.registry import policy_named
from examples import share

HOSTILE = [
    *("[" * 100_000, '{"a":' * 5000, "null", "[]", "{}", '"', "", '{"format": 1e999, "kind": "policy"}'),
    *(
        '{"format": Infinity, "kind": "policy"}',
        '{"format": NaN, "kind": "policy"}',
        '{"format": true, "kind": 1}',
    ),
    *('{"format": [1], "kind": "policy"}', '{"format": ' + "9" * 5000 + ', "kind": "policy"}'),
    *(
        '{"format": 1, "kind": "policy", "settings": [[]]}',
        '{"format": 1, "kind": {}}',
        '{"format": -1, "kind": "x"}',
    ),
    '{"format": 1, "kind": "policy", "settings": {"network": {"hidden": [1000000000]}}}',
    '{"format": 1, "kind": "policy", "settings": {"network": {"atoms": 1e300}}}',
]
ENTRIES = [
    {"a": {"dtype": kind, "shape": shape, "data_offsets": offsets}}
    for kind in ("F32", "BF16", "F8_E4M3", "X", 1, None)
    for shape in ([1], [], [0], [-1], [2**62, 4], "a", [1.5])
    for offsets in ([0, 4], [4, 0], [0, 2**63], "a")
]


def by_hand(header: object, data: bytes = b"\0\0\0\0") -> bytes:
    """A safetensors file with a header as it may not be."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def attempt(path: Path) -> None:
    for read in (lambda: read_arrays(path, "policy"), lambda: policy_named(str(path))):
        try:
            read()
        except CryoscoutError:
            continue


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_header_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(by_hand({"__metadata__": {"cryoscout": text}}, b""))
    with pytest.raises(CryoscoutError):
        policy_named(str(path))


@settings(max_examples=share(100))
@given(
    entry=st.sampled_from(ENTRIES),
    text=st.sampled_from(HOSTILE) | st.text(max_size=20),
    noise=st.binary(max_size=9),
)
def test_a_file_made_by_hand_is_read_or_refused(tmp_path_factory, entry, text, noise) -> None:
    path = tmp_path_factory.getbasetemp() / "by_hand.safetensors"
    path.write_bytes(by_hand({"__metadata__": {"cryoscout": text}, **entry}, noise))
    attempt(path)


@settings(max_examples=share(100))
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=9)), max_size=5),
    length=st.none() | st.integers(0, 2**64 - 1),
)
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, changes, length) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    write_arrays({"a": np.arange(5.0)}, {"kind": "policy", "settings": {}, "notes": {}}, path)
    data = path.read_bytes()
    for place, span, put in changes:
        at = int(place * len(data))
        data = data[:at] + put + data[at + span :]
    path.write_bytes(data if length is None else length.to_bytes(8, "little") + data[8:])
    attempt(path)


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
