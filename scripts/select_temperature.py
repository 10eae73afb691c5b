"""How far a network's temperature is known before any label, chosen on simulated sessions of development alone.

    python scripts/select_temperature.py

Networks are trained on a tenth of the labels of simulated y3 sessions, as the study ssl2rl trains them. Then the
labels of a fifth of the patches are drawn again and again, a temperature is fitted to them, and judged on all other
holes: mean log loss above that of the best temperature, in 1/1000 nats a hole.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.perception import fit
from cryoscout.perception.temperature import apply_slope, fit_slope
from cryoscout.study.coupling.ssl2rl_cases import QUICK_BUDGET, Scenes

LABELS, HELD_OUT, SHOWN = 0.1, 0.2, 0.8
SPREADS = (0.25, 0.35, 0.5, 0.7, 1.0, 1e6)
NETWORKS = ((2000, "fixmatch"), (2001, "supervised"), (2002, "supervised"), (2003, "supervised"))
DRAWS = 300


def loss(p: NDArray[np.float64], slope: float, labels: NDArray[np.int64]) -> float:
    """Mean of minus the log of what is said of the true class."""
    return float(-np.log(apply_slope(p, slope)[np.arange(len(labels)), labels]).mean())


def main() -> None:
    """Print one line a network."""
    for seed, method in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            scenes = Scenes.of(LABELS, seed, Path(folder))
        inside, told = ~scenes.test, scenes.told(seed)
        made = fit(
            scenes.crops.images[inside], told.labels, method, "quick", seed, held_out=told.held_out,
            threshold_angstrom=GOOD_THRESHOLD_ANGSTROM, **QUICK_BUDGET,
        )  # fmt: skip
        shown = np.zeros(len(scenes.good), dtype=np.bool_)
        shown[np.flatnonzero(inside)[told.shown >= 0]] = True
        p, labels = made.raw_proba(scenes.crops.images), scenes.good
        best_slope = fit_slope(p[~shown], labels[~shown], spread=1e6) or 1.0
        best = loss(p[~shown], best_slope, labels[~shown])
        rng, patch = np.random.default_rng(seed), scenes.crops.scene.patch_of_hole
        patches = np.unique(patch)
        above: dict[float, list[float]] = {spread: [] for spread in SPREADS}
        for _ in range(DRAWS):
            of = rng.choice(patches, round(HELD_OUT * len(patches)), replace=False)
            held = np.isin(patch, of) & ~shown & (rng.random(len(patch)) < LABELS * SHOWN)
            rest = ~shown & ~held
            for spread in SPREADS:
                slope = fit_slope(p[held], labels[held], spread) or 1.0
                above[spread].append(loss(p[rest], slope, labels[rest]) - best)
        said = ", ".join(f"{spread:g}: {1000 * np.mean(found):.1f}" for spread, found in above.items())
        as_it_is = 1000 * (loss(p[~shown], 1.0, labels[~shown]) - best)
        print(
            f"seed {seed}, {method}, best slope {best_slope:.2f}: {said}; as it is {as_it_is:.1f}", flush=True
        )


if __name__ == "__main__":
    main()
