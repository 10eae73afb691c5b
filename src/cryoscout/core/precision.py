"""In which numbers a training computes, chosen by the processor in one place. Needs no torch until it is asked."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from cryoscout.core.errors import InputError

Precision = Literal["bfloat16", "float32"]
AskedPrecision = Literal["auto", "bfloat16", "float32"]
"""`auto`: bfloat16 where the processor has instructions for it; elsewhere 32 bits, because a processor that only
imitates bfloat16 takes several times as long in it."""

_ONEDNN_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Whoever sets one of them forbids torch's convolutions a part of the processor."""
_WITH_BFLOAT16 = ("BF16", "FP16", "AMX", "AVX10", "DEFAULT", "ALL")
_FLAGS = ("avx512_bf16", "amx_bf16")
_FIRST_GPU = (8, 0)
"""Compute capability of the first GPUs that have bfloat16 (Ampere)."""
_CLEARLY_FASTER = 0.8
_TRIALS = 5


def precision_taken(asked: AskedPrecision, device: str = "cpu") -> Precision:
    """The precision that a training begun now would have.

    device : torch's name, `cpu`, `cuda` or `cuda:1`; matters to `auto` alone
    """
    if asked != "auto":
        return asked
    return "bfloat16" if computes_in_bfloat16(device) else "float32"


def computes_in_bfloat16(device: str = "cpu") -> bool:
    """Whether the device has instructions for bfloat16.

    A GPU is known by its compute capability; x86 by the processor's flags and by what oneDNN may use of them; any other
    processor is measured for a moment, once per process.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_capability(device) >= _FIRST_GPU
    if device != "cpu":
        return False
    limit = next((os.environ[name] for name in _ONEDNN_LIMITS if name in os.environ), "ALL")
    if not any(word in limit.upper() for word in _WITH_BFLOAT16):
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return any(_processor_flags().get(flag, False) for flag in _FLAGS)
    return _is_faster_in_bfloat16()


def _processor_flags() -> Mapping[str, Any]:
    """Flags of the processor, as torch says them; those of Linux where torch is older than that."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    return dict.fromkeys(text.split(), True)


@lru_cache(maxsize=1)
def _is_faster_in_bfloat16() -> bool:
    """Whether a convolution of the size that perception trains is clearly faster in bfloat16 than in 32 bits."""
    import torch

    images = torch.zeros(32, 32, 16, 16).to(memory_format=torch.channels_last)
    weights = torch.zeros(32, 32, 3, 3).to(memory_format=torch.channels_last)
    seconds: dict[torch.dtype, float] = {}
    with torch.no_grad():
        for _ in range(_TRIALS):
            for kind in (torch.bfloat16, torch.float32):
                x, w = images.to(kind), weights.to(kind)
                began = time.perf_counter()
                torch.nn.functional.conv2d(x, w, padding=1)
                took = time.perf_counter() - began
                seconds[kind] = min(took, seconds.get(kind, took))
    return seconds[torch.bfloat16] < _CLEARLY_FASTER * seconds[torch.float32]


def with_precision(stored: Any) -> Any:
    """Stored settings in the present form: those written before `precision` had `bf16`, true or false."""
    if not isinstance(stored, Mapping) or not isinstance(stored.get("bf16"), bool):
        return stored
    values = {name: value for name, value in stored.items() if name != "bf16"}
    return {"precision": "bfloat16" if stored["bf16"] else "float32", **values}


def precision_to_go_on_in(
    path: Path, header: Mapping[str, Any], asked: AskedPrecision, taken: Precision
) -> Precision:
    """The precision in which a checkpoint's run was begun, so that it ends in no other.

    path, header : of the checkpoint; one written before says it by `bf16` in its settings alone
    asked : of the settings of the run that goes on     taken : what that would be in a new run
    Raises InputError when another precision was asked for by name.
    """
    begun: Precision | None = header.get("precision")
    if begun is None:
        stored = with_precision(header.get("settings", {})).get("precision")
        begun = stored if stored in ("bfloat16", "float32") else taken
    if asked != "auto" and begun != taken:
        raise InputError(
            f"{path} must be of a run in {taken} to go on from it. Got precision {begun!r} instead. Remedy: precision "
            f"{begun} or auto, or another folder."
        )
    return begun
