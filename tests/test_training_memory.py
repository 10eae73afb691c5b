"""No training destroys memory: torch 2.13 did with few channels, on processors with AVX2 and without AVX-512 alone.

Each training runs in a child process whose allocator checks itself, told to compute as a processor with AVX2 does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cryoscout.learning.settings import AGENTS
from cryoscout.perception.settings import LEAST_WIDTH, METHODS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator checks itself")

CHILD = Path(__file__).with_name("training_memory.py")
SMALLEST: list[list[Any]] = [
    ["perception", {"width": LEAST_WIDTH}],
    ["learning", "dqn", [1], "float32"],
]
OTHER_SMALL: list[list[Any]] = [
    ["perception", {"width": LEAST_WIDTH, "method": "fixmatch", "steps": 4}],
    ["learning", "rainbow", [5, 3], "float32"],
    ["learning", "a2c", [4], "float32"],
]
WIDTHS = (8, 9, 11, 12, 14, 15, 16, 17, 20, 23, 24, 31, 32)
NETWORKS: dict[str, list[list[Any]]] = {
    "other small ones": OTHER_SMALL,
    "ResNet-18 by width": [["perception", {"width": width}] for width in WIDTHS],
    "ResNet-50": [["perception", {"depth": 50, "width": width}] for width in (8, 9, 12, 16)],
    "stems": [
        ["perception", {"depth": depth, "width": 8, "stem_stride": stem}]
        for depth in (18, 50)
        for stem in (1, 4)
    ],
    "one pixel in the last stage": [["perception", {"width": 8, "size_px": 8}]],
    "methods": [
        ["perception", {"width": 8, "method": method}] for method in METHODS if method != "pseudo_label"
    ],
    "bfloat16": [["perception", {"width": width, "precision": "bfloat16"}] for width in (8, 9, 12)],
    "agents": [
        ["learning", agent, hidden, precision]
        for agent in AGENTS
        for hidden, precision in (([3], "float32"), ([128, 256, 128], "float32"), ([5, 3], "bfloat16"))
    ],
}


def run_watched(kinds: list[list[Any]], isa: str = "AVX2") -> subprocess.CompletedProcess[str]:
    """The child process after training these; isa : the most that oneDNN may use of the processor."""
    environment = {
        **os.environ,
        "ONEDNN_MAX_CPU_ISA": isa,
        "MALLOC_CHECK_": "3",
        # Since glibc 2.34 the checks are in a library of their own; an older one has none and says so on stderr.
        "LD_PRELOAD": " ".join(filter(None, ["libc_malloc_debug.so.0", os.environ.get("LD_PRELOAD")])),
    }
    return subprocess.run(
        [sys.executable, str(CHILD), json.dumps(kinds)], env=environment, capture_output=True, text=True
    )


def assert_trained(kinds: list[list[Any]], isa: str = "AVX2") -> None:
    ended = run_watched(kinds, isa)
    said = ended.stdout.splitlines() or ["nothing"]
    assert (ended.returncode, said[-1]) == (0, "all trained"), f"{said[-1]}: {ended.stderr[-2000:]}"


def test_a_process_that_destroys_memory_is_ended() -> None:
    assert run_watched([["write past the end"]]).returncode != 0


def test_the_smallest_networks_train_without_destroying_memory() -> None:
    assert_trained(SMALLEST)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "ALL"])
@pytest.mark.parametrize("networks", NETWORKS)
def test_every_kind_of_network_trains_without_destroying_memory(networks: str, isa: str) -> None:
    assert_trained(NETWORKS[networks], isa)
