"""Fit the shipped context model: ResNet-18 scores of the Y1 training split, in context, against its outcomes.

    python scripts/fit_y1_context.py

writes src/cryoscout/belief/data/y1_context.json and prints the variances without scores.
Nothing of the validation split is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoscout.belief.context import ContextModel, fit_context, fit_effects, held_out_log_likelihood
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.session.builtin import load_builtin

OUTPUT = Path(__file__).parents[1] / "src" / "cryoscout" / "belief" / "data" / "y1_context.json"
CONTEXT_SDS = (0.02, 0.1, 0.3, 1.0)
FOLDS = 6


def main() -> None:
    """Choose the width of the context prior, fit and write."""
    session = load_builtin("y1", split="train")
    tree = session.tree()
    score = session.prediction("res18", GOOD_THRESHOLD_ANGSTROM)
    good = session.good_by_hole(GOOD_THRESHOLD_ANGSTROM)
    fold_of_patch = np.random.default_rng(0).permutation(tree.n_patches) % FOLDS
    held_out = {
        sd: held_out_log_likelihood(score, good, tree.patch_of_hole, tree, sd, fold_of_patch)
        for sd in CONTEXT_SDS
    }
    for sd, log_likelihood in held_out.items():
        print(f"context_sd {sd}: {log_likelihood:.2f} nats on held-out patches")
    sd = max(CONTEXT_SDS, key=held_out.__getitem__)
    model = fit_context(score, good, tree.patch_of_hole, tree, sd, variances_off_zero=True)
    _rounded(model).save(OUTPUT)
    print(OUTPUT.read_text(encoding="utf-8"), end="")
    flat = fit_effects(np.zeros(len(good)), tree.patch_of_hole, good, tree)
    print("Effects without scores (belief.effects.Y1_FLAT_EFFECTS):", flat.model_dump_json())


def _rounded(model: ContextModel) -> ContextModel:
    """Six decimals, so that the file is the same on every machine."""
    values = model.model_dump(exclude={"effects", "covariance"})
    effects = {name: round(value, 6) for name, value in model.effects.model_dump().items()}
    covariance = tuple(tuple(round(value, 8) for value in row) for row in model.covariance)
    rounded = {name: round(value, 6) for name, value in values.items()}
    return ContextModel.model_validate(rounded | {"effects": effects, "covariance": covariance})


if __name__ == "__main__":
    main()
