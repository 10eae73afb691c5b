"""Fit the shipped context model: ResNet-18 scores of the Y1 training split, in context, against its outcomes.

    python scripts/fit_y1_context.py

writes src/cryoscout/belief/data/y1_context.json and prints the variances without scores.
Nothing of the validation split is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoscout.belief.context import fit_context, fit_effects
from cryoscout.belief.effects import EffectTree
from cryoscout.session.builtin import load_builtin

OUTPUT = Path(__file__).parents[1] / "src" / "cryoscout" / "belief" / "data" / "y1_context.json"


def main() -> None:
    """Fit and write."""
    session = load_builtin("y1", split="train")
    patch_of_hole, square_of_patch, grid_of_square = session.tree()
    good, tree = session.good_by_hole(6.0), EffectTree(square_of_patch, grid_of_square)
    model = fit_context(session.prediction("res18", 6.0), good, patch_of_hole, tree)
    rounded = {
        name: round(value, 6) for name, value in model.model_dump(exclude={"effects", "holes"}).items()
    }
    effects = {name: round(value, 6) for name, value in model.effects.model_dump().items()}
    model.model_validate({**rounded, "effects": effects, "holes": model.holes}).save(OUTPUT)
    print(OUTPUT.read_text(encoding="utf-8"), end="")
    flat = fit_effects(np.zeros(len(good)), patch_of_hole, good, tree)
    print("Effects without scores (belief.effects.Y1_FLAT_EFFECTS):", flat.model_dump_json())


if __name__ == "__main__":
    main()
