"""FixMatch with distribution alignment: pseudo-labels come in the shares of the labels.

Target: q_i times prior over the running mean of q, normalised; mask and pseudo-label are made of it.
Paper: ReMixMatch (Berthelot et al. 2020), as used with FixMatch.
Departures: an exponential average that warms up in place of the mean of the last 128 batches. Right only where the
unlabelled crops come from the same sessions as the labelled ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryoscout.perception.methods.base import move_average, warm_decay
from cryoscout.perception.methods.fixmatch import FixMatch
from cryoscout.perception.settings import FitSettings


class Align(FixMatch):
    """Aligned targets."""

    def __init__(self, settings: FitSettings, prior: Tensor) -> None:
        super().__init__(settings, prior)
        self.predicted = torch.full_like(prior, 1.0 / len(prior))

    def state(self) -> dict[str, Tensor]:
        """Running mean prediction."""
        return {"predicted": self.predicted}

    def target(self, probabilities: Tensor, step: int) -> Tensor:
        """(n, classes) aligned to the prior."""
        move_average(
            self.predicted, probabilities.mean(dim=0), warm_decay(self.settings.ema_decay, step)
        )  # fmt: skip
        aligned = probabilities * self.prior / self.predicted.clamp(min=1e-6)
        return aligned / aligned.sum(dim=1, keepdim=True)
