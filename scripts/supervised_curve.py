"""How many labels a network needs on the preset y3: supervised accuracy by share of labels, as SSL2-RL's Table 1 (a).

    python scripts/supervised_curve.py [--budget study|quick] [--shares 0.05 0.1 0.2 1] [--seeds 101 102 ...]

The images of y3 (`IMAGE_PRESETS`) were chosen by this. The sessions of the default seeds are in no study, and nothing
but supervised learning is trained. `study` is the budget of the study `perception`, a quarter of a minute per training;
`quick` is the quick profile of `cryoscout train`, two minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.study.images.cases import QUICK_BUDGET, Crops, crops_of, held_back, label_rows
from cryoscout.study.images.perception import PUBLISHED, PUBLISHED_FULL

SEEDS = (101, 102, 103, 104, 105, 106)
PUBLISHED_BY_SHARE = {
    **dict(zip((0.05, 0.1, 0.2), PUBLISHED["supervised"], strict=True)),
    1.0: PUBLISHED_FULL,
}
BUDGETS: dict[str, dict[str, Any]] = {"study": QUICK_BUDGET, "quick": {}}


def accuracies(crops: Crops, seed: int, shares: Sequence[float], budget: dict[str, Any]) -> list[float]:
    """Test accuracy (%) with each share of the labels."""
    from cryoscout.perception import fit

    test, good = held_back(crops.scene, "y3", "patch"), crops.good()
    found = []
    for share in shares:
        labels = np.where(label_rows(~test, share, seed), good, -1)[~test]
        trained = fit(
            crops.images[~test], labels, "supervised", "quick", seed,
            threshold_angstrom=GOOD_THRESHOLD_ANGSTROM, **budget,
        )  # fmt: skip
        said: NDArray[np.bool_] = trained.predict_proba(crops.images[test])[:, 1] > 0.5
        found.append(100.0 * float((said == good[test]).mean()))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line per session, their mean and what is published."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", choices=BUDGETS, default="study")
    parser.add_argument(
        "--shares", type=float, nargs="+", choices=PUBLISHED_BY_SHARE, default=[*PUBLISHED_BY_SHARE]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    asked = parser.parse_args(arguments)
    print("seed", *(f"{share:.0%}" for share in asked.shares), sep="\t")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in asked.seeds:
            crops = crops_of("y3", seed, Path(folder))
            rows.append(accuracies(crops, seed, asked.shares, BUDGETS[asked.budget]))
            print(seed, *(f"{value:.1f}" for value in rows[-1]), sep="\t", flush=True)
    print("mean", *(f"{value:.1f}" for value in np.mean(rows, axis=0)), sep="\t")
    print("published", *(PUBLISHED_BY_SHARE[share] for share in asked.shares), sep="\t")


if __name__ == "__main__":
    main()
