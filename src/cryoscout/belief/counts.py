"""How many good micrographs a list of holes will give: draws of whole truths and honest intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.effects import EffectBelief

DRAWS = 2000


def draw_truths(
    belief: EffectBelief,
    draws: int,
    shots: int,
    rng: np.random.Generator,
    holes: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Whole truths from the belief: good micrographs of each hole, (draws, m) in 0..shots.

    holes : (m,) the holes to draw, all when None. Holes of one patch, square, grid share their effects in a draw.
    """
    return rng.binomial(shots, draw_probabilities(belief, draws, rng, holes))


def draw_probabilities(
    belief: EffectBelief, draws: int, rng: np.random.Generator, holes: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Each hole's probability under drawn effects, (draws, m)."""
    effects = belief.draw_effects(draws, rng)
    which = np.arange(belief.n_holes) if holes is None else holes
    return sigmoid(belief.location[which] + effects[:, belief.patch_of_hole[which]])


@dataclass(frozen=True)
class CountForecast:
    """The number of good micrographs a list of holes will give."""

    expected: float
    interval_50: tuple[float, float]
    interval_80: tuple[float, float]


def forecast_count(
    belief: EffectBelief, holes: NDArray[np.int64], shots: int, rng: np.random.Generator, draws: int = DRAWS
) -> CountForecast:
    """Forecast of the good micrographs in these holes, (m,), given the outcomes the belief has seen.

    Intervals are equal-tailed quantiles of drawn counts, so the uncertainty shared by a patch is in them.
    """
    if len(holes) == 0:
        return CountForecast(0.0, (0.0, 0.0), (0.0, 0.0))
    counts = draw_truths(belief, draws, shots, rng, holes).sum(axis=1)
    low_80, low_50, high_50, high_80 = np.quantile(counts, [0.1, 0.25, 0.75, 0.9], method="nearest").tolist()
    expected = float(shots * belief.p_good()[holes].sum())
    return CountForecast(expected, (low_50, high_50), (low_80, high_80))
