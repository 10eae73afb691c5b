"""How many good micrographs a list of holes will give: draws of whole truths and honest intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.calibration import sigmoid
from cryoscout.core.ties import beats

DRAWS = 2000


class Belief(Protocol):
    """What a forecast needs of a belief; `EffectBelief`, `StageBelief` and `MixtureBelief` have it."""

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        ...

    def p_good(self) -> NDArray[np.float64]:
        """(n,) probability that one exposure of each hole is good, given the outcomes so far."""
        ...

    def draw_logits(
        self,
        draws: int,
        rng: np.random.Generator,
        holes: NDArray[np.int64],
        loadings: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Joint draws of the logits of these holes, (m,), given the outcomes so far, (draws, m)."""
        ...


def draw_truths(
    belief: Belief,
    draws: int,
    shots: int,
    rng: np.random.Generator,
    holes: NDArray[np.int64] | None = None,
    loadings: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Whole truths from the belief: good micrographs of each hole, (draws, m) in 0..shots.

    holes : (m,) the holes to draw, all when None. Holes of one patch, square, grid share their effects in a draw.
    loadings : see `draw_probabilities`
    """
    return rng.binomial(shots, draw_probabilities(belief, draws, rng, holes, loadings))


def draw_probabilities(
    belief: Belief,
    draws: int,
    rng: np.random.Generator,
    holes: NDArray[np.int64] | None = None,
    loadings: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Each hole's probability in draws from the belief, (draws, m).

    loadings : (n, k) how the logit of each hole moves with k independent standard normal errors of the fit behind
        it (`ContextModel.loadings`); None takes the fit as exact. Outcomes do not narrow these errors.
    """
    which = np.arange(belief.n_holes) if holes is None else holes
    return sigmoid(belief.draw_logits(draws, rng, which, loadings))


@dataclass(frozen=True)
class CountForecast:
    """The number of good micrographs a list of holes will give."""

    expected: float
    interval_50: tuple[float, float]
    interval_80: tuple[float, float]


def forecast_count(
    belief: Belief,
    holes: NDArray[np.int64],
    shots: int,
    rng: np.random.Generator,
    draws: int = DRAWS,
    loadings: NDArray[np.float64] | None = None,
) -> CountForecast:
    """Forecast of the good micrographs in these holes, (m,), given the outcomes the belief has seen.

    loadings : see `draw_probabilities`
    Intervals come from drawn counts, so the uncertainty shared by a patch is in them; see `nearest_interval`.
    """
    if len(holes) == 0:
        return CountForecast(0.0, (0.0, 0.0), (0.0, 0.0))
    counts = draw_truths(belief, draws, shots, rng, holes, loadings).sum(axis=1)
    interval_50 = nearest_interval(counts, 0.5)
    interval_80 = nearest_interval(counts, 0.8, around=interval_50)
    expected = float(shots * belief.p_good()[holes].sum())
    return CountForecast(expected, interval_50, interval_80)


def nearest_interval(
    counts: NDArray[np.int64], probability: float, around: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The whole numbers, both ends included, that hold drawn counts with the probability nearest to the one asked.

    counts : (draws,)     around : an interval that must lie within
    Equal-tailed quantiles of whole numbers hold too much: each end is moved in by one where that comes nearer.
    """
    tail = (1.0 - probability) / 2.0
    low, high = np.quantile(counts, [tail, 1.0 - tail], method="nearest").tolist()
    inside_low, inside_high = (high, low) if around is None else around
    best, best_distance = (low, high), np.inf
    for first in (low, low + 1):
        for last in (high, high - 1):
            distance = abs(float(((counts >= first) & (counts <= last)).mean()) - probability)
            if first <= min(last, inside_low) and last >= inside_high and beats(-distance, -best_distance):
                best, best_distance = (first, last), distance
    return float(best[0]), float(best[1])
