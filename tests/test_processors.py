"""Training and its tests hold on other processors: the same tests, with torch told to compute as those do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
FILES = (
    "learning/test_a2c.py",
    "learning/test_networks.py",
    "learning/test_numpy_network.py",
    "learning/test_q_learning.py",
    "learning/test_training.py",
    "perception/test_augment.py",
    "perception/test_classifier.py",
    "perception/test_fitting.py",
    "perception/test_methods.py",
    "perception/test_onnx_classifier.py",
    "perception/test_perception_training.py",
    "perception/test_resnet.py",
    "perception/test_scaling.py",
)
ONEDNN_OF = {"default": "SSE41", "avx2": "AVX2", "avx512": "ALL"}
"""By ATEN_CPU_CAPABILITY, the most that oneDNN, which computes the convolutions, may use of the same processor."""


def as_processor(capability: str) -> dict[str, str]:
    """The environment of a child process."""
    return {
        **os.environ, "ATEN_CPU_CAPABILITY": capability, "ONEDNN_MAX_CPU_ISA": ONEDNN_OF[capability],
    }  # fmt: skip


def available() -> list[str]:
    """What this processor can stand for."""
    own = torch.backends.cpu.get_cpu_capability().lower()
    return [
        name for name in ONEDNN_OF if name == "default" or own.startswith(name) or own.startswith("avx512")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("capability", available())
def test_training_and_predicting_hold_on_other_processors(capability: str) -> None:
    environment = as_processor(capability)
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert said.stdout.strip().lower() == capability
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, *(str(TESTS / name) for name in FILES)],
        env=environment, cwd=TESTS.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-6000:]
