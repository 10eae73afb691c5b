"""The precision of a training: what each processor gets, what old settings mean, and that a run keeps its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cryoscout.core import precision
from cryoscout.core.errors import InputError
from cryoscout.core.precision import (
    computes_in_bfloat16,
    precision_taken,
    precision_to_go_on_in,
    with_precision,
)

CHECKPOINT = Path("run/checkpoint.safetensors")


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An x86 processor without a limit on what oneDNN uses; tests set its flags."""
    for name in precision._ONEDNN_LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    return monkeypatch


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),  # Zen 3, most laptops
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "float32"),  # Ice Lake
        ({"avx512_f": True, "avx512_bf16": True}, "bfloat16"),  # Zen 4, Cooper Lake
        ({"amx_tile": True, "amx_bf16": True, "avx512_bf16": True}, "bfloat16"),  # Sapphire Rapids
        ({}, "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_it(
    flags: dict[str, bool], expected: str, processor: pytest.MonkeyPatch
) -> None:
    processor.setattr(precision, "_processor_flags", lambda: flags)
    assert precision_taken("auto") == expected
    assert precision_taken("bfloat16") == "bfloat16"
    assert precision_taken("float32") == "float32"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("AVX2", False), ("avx512_core_vnni", False), ("AVX512_CORE_BF16", True), ("AVX512_CORE_AMX", True),
     ("all", True), ("DEFAULT", True)],
)  # fmt: skip
def test_what_onednn_may_not_use_the_processor_does_not_have(
    limit: str, expected: bool, processor: pytest.MonkeyPatch
) -> None:
    processor.setattr(precision, "_processor_flags", lambda: {"amx_bf16": True})
    processor.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert computes_in_bfloat16() is expected


def test_flags_are_found_on_this_processor_in_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if precision.platform.machine() != "x86_64":
        pytest.skip("flags are read of x86 alone")
    by_torch = precision._processor_flags()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    by_linux = precision._processor_flags()
    for flag in ("avx2", *precision._FLAGS):
        assert bool(by_torch.get(flag)) == bool(by_linux.get(flag)), flag


@pytest.mark.parametrize("faster", [True, False])
def test_another_processor_is_measured(faster: bool, processor: pytest.MonkeyPatch) -> None:
    processor.setattr(precision.platform, "machine", lambda: "arm64")
    processor.setattr(precision, "_is_faster_in_bfloat16", lambda: faster)
    assert computes_in_bfloat16() is faster


def test_the_measurement_answers() -> None:
    assert precision._is_faster_in_bfloat16() in (True, False)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_is_known_by_its_capability(
    capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_in_bfloat16("cuda:1") is expected
    assert computes_in_bfloat16("mps") is False


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"bf16": True, "seed": 1}, {"precision": "bfloat16", "seed": 1}),
        ({"bf16": False}, {"precision": "float32"}),
        ({"bf16": "yes"}, {"bf16": "yes"}),
        ({"precision": "auto"}, {"precision": "auto"}),
        ([1], [1]),
    ],
)
def test_settings_written_before_mean_what_they_meant(stored: Any, expected: Any) -> None:
    assert with_precision(stored) == expected


@pytest.mark.parametrize(
    ("header", "begun"),
    [
        ({"precision": "bfloat16", "settings": {"precision": "auto"}}, "bfloat16"),
        ({"settings": {"bf16": True}}, "bfloat16"),
        ({"settings": {"bf16": False}}, "float32"),
        ({}, "float32"),
    ],
)
def test_a_run_goes_on_in_the_precision_that_it_began_in(header: dict[str, Any], begun: str) -> None:
    assert precision_to_go_on_in(CHECKPOINT, header, "auto", "float32") == begun
    if begun == "bfloat16":
        with pytest.raises(InputError, match=r"run in float32 .* Got precision 'bfloat16' .* or auto"):
            precision_to_go_on_in(CHECKPOINT, header, "float32", "float32")
    else:
        assert precision_to_go_on_in(CHECKPOINT, header, "float32", "float32") == "float32"


def test_core_imports_no_torch() -> None:
    code = "import sys, cryoscout.core.precision; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
