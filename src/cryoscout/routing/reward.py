"""The shaped rewards of the papers; planners are judged by counts, these are reported beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import UnknownNameError

BETA_PER_MIN = 0.185
T0_MIN = 2.0


def movement_cost(minutes: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """c(t) = 1 - exp(-beta (t - t0)), beta 0.185 / min, t0 2 min; 0 below t0 (CryoRL, section 4.3)."""
    return 1.0 - np.exp(-BETA_PER_MIN * np.maximum(np.asarray(minutes, dtype=np.float64) - T0_MIN, 0.0))


@dataclass(frozen=True)
class Reward:
    """Reward of one visit as a function of good micrographs and tier.

    tier_value : (4,) factor of a good micrograph by tier      tier_cost : (4,) subtracted from every visit
    """

    name: str
    tier_value: NDArray[np.float64]
    tier_cost: NDArray[np.float64]

    def of_visit(self, good: float, tier: int) -> float:
        """good : good micrographs the hole gave     tier : 0 same patch ... 3 other grid."""
        return float(good * self.tier_value[tier] - self.tier_cost[tier])


def _formula(tiers_min: NDArray[np.float64]) -> Reward:
    return Reward("formula", 1.0 - movement_cost(tiers_min), np.zeros(4))


def _cryorl(tiers_min: NDArray[np.float64]) -> Reward:
    return Reward("cryorl", np.array([1.0, 0.57, 0.23, 0.09]), np.zeros(4))


def _ssl2rl(tiers_min: NDArray[np.float64]) -> Reward:
    return Reward("ssl2rl", np.ones(4), movement_cost(tiers_min))


REWARDS: dict[str, Callable[[NDArray[np.float64]], Reward]] = {
    "cryorl": _cryorl,
    "ssl2rl": _ssl2rl,
    "formula": _formula,
}
"""`cryorl`: the printed tiers 1 / 0.57 / 0.23 / 0.09 (the formula at 2, 5, 10, 15 min), only for good micrographs;
`ssl2rl`: y - c, additive (SSL2-RL, section 2); `formula`: good (1 - c(t)) at this time model's own minutes."""


def reward_named(name: str, tiers_min: NDArray[np.float64]) -> Reward:
    """The reward of that name for these tier minutes, (4,). Raises UnknownNameError with the nearest name."""
    try:
        return REWARDS[name](tiers_min)
    except KeyError:
        raise UnknownNameError("The reward", name, REWARDS) from None
