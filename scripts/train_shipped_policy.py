"""Train the shipped policy `dqn-y1`: the default deep Q-network on the training split of Y1.

It learns on the predictions of ResNet-18 and is meant for those of ResNet-50 (why: docs/learning.md).

    python scripts/train_shipped_policy.py [--check]

writes src/cryoscout/learning/data/dqn-y1.safetensors; minutes on one core. With `--check` nothing is written: the
policy is trained again and compared with the shipped one, which it must equal bit for bit (with the versions of
constraints.txt, on a processor of the same kind). Nothing of the validation split is read.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from cryoscout.learning.from_session import load_to_learn_from, training_session
from cryoscout.learning.registry import SHIPPED
from cryoscout.learning.settings import LearnSettings, settings_of
from cryoscout.learning.training import Progress, Training
from cryoscout.learning.weights import read_policy

NAME = "dqn-y1"
OUTPUT = Path(__file__).parents[1] / "src" / "cryoscout" / "learning" / "data" / SHIPPED[NAME]
SEED = 0
LEARNED_ON, MEANT_FOR = "res18", "res50"


def settings() -> LearnSettings:
    """The default settings of `dqn`, with action elimination."""
    return settings_of("dqn", elimination=True, seed=SEED, precision="bfloat16")


def train(chosen: LearnSettings, folder: Path) -> Path:
    """Train on the training split of Y1 and return the policy's file."""
    (session,) = load_to_learn_from(["y1"])
    data, learned_on, _ = training_session(
        session, budget_min=chosen.budget_min, prediction=LEARNED_ON, time_model="cryorl"
    )
    notes = {
        "sessions": ["y1"],
        "split": "train",
        "learned_on": learned_on,
        "prediction": MEANT_FOR,
        "draws": False,
    }
    said = 0

    def say(now: Progress) -> None:
        nonlocal said
        if now.epoch > said:
            said = now.epoch
            print(
                f"epoch {now.epoch}/{now.epochs}: {100 * now.share_of_bound:.2f} % of the bound", flush=True
            )

    return Training([data], chosen, folder, notes=notes, device="cpu").run(progress=say)


def difference(first: Path, second: Path) -> str | None:
    """What two policies differ in, or None; the version of cryoscout that wrote them does not count."""
    a, b = read_policy(first), read_policy(second)
    if a.settings != b.settings:
        return "settings"
    if a.notes != b.notes:
        return f"notes: {a.notes} and {b.notes}"
    for name in sorted(set(a.weights) | set(b.weights)):
        if (
            name not in a.weights
            or name not in b.weights
            or not np.array_equal(a.weights[name], b.weights[name])
        ):
            return f"weights of {name}"
    return None


def main(arguments: list[str] | None = None) -> int:
    """Train and write, or compare; 1 when the shipped policy is another one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare with the shipped file, write nothing")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        file = train(settings(), Path(folder))
        if options.check:
            other = difference(OUTPUT, file)
            print(
                "The shipped policy is the same."
                if other is None
                else f"The shipped policy differs: {other}."
            )
            return 0 if other is None else 1
        OUTPUT.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, OUTPUT)
    print(f"Wrote {OUTPUT}: {read_policy(OUTPUT).notes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
