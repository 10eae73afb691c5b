"""A child process of `test_training_memory`: trains each kind of network that it is told, and says each before.

python training_memory.py '[["perception", {"width": 8}], ["learning", "dqn", [12, 8]]]'
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

STEPS = 20


def train_perception(changes: dict[str, Any]) -> None:
    """20 steps of a network of `FitSettings` with these changes."""
    import numpy as np

    from cryoscout.perception import fit

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 16, 16), dtype=np.uint8)
    labels = np.where(np.arange(24) < 12, np.arange(24) % 2, -1)
    small = {
        "method": "supervised", "size_px": 16, "stem_stride": 2, "batch_size": 4, "unlabelled_ratio": 2, "rounds": 2,
        "pretrain_steps": STEPS, "embedding": 8, "precision": "float32", "steps": STEPS, "evaluate_every": STEPS,
    }  # fmt: skip
    fit(images, labels, **{**small, **changes})


def train_learning(agent: str, hidden: list[int], precision: str) -> None:
    """More than 20 updates of a network of `LearnSettings`."""
    from learning_samples import even_session, quick

    from cryoscout.learning.training import Training

    settings = quick(agent, tuple(hidden), epochs=1, precision=precision, held_out=0.0)
    with tempfile.TemporaryDirectory() as folder:
        training = Training([even_session()], settings, Path(folder), device="cpu")
        training.run()
    if agent != "a2c" and training.learner.n_updates < STEPS:
        raise ValueError(f"{training.learner.n_updates} updates")


def write_past_the_end() -> None:
    """What a process that is watched must not survive: a byte after the memory that it was given."""
    given = ctypes.create_string_buffer(5000)
    ctypes.memset(given, 1, 5001)


def main() -> None:
    """Train one after the other."""
    sys.path.insert(0, str(Path(__file__).parent / "learning"))
    for kind in json.loads(sys.argv[1]):
        sys.stdout.write(json.dumps(kind) + "\n")
        sys.stdout.flush()
        if kind[0] == "write past the end":
            write_past_the_end()
        elif kind[0] == "perception":
            train_perception(kind[1])
        else:
            train_learning(*kind[1:])
    sys.stdout.write("all trained\n")


if __name__ == "__main__":
    main()
