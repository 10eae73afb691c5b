"""SoftMatch: every crop counts, the less the further its confidence lies below the running mean of confidence.

Weight: exp(-(min(c_i - m, 0))^2 / (2 s^2 / 4)), c_i = max of the aligned prediction, m and s^2 running mean and
variance of c. Aligned: q_i times uniform over the running mean prediction, normalised; for the weight only.
Paper: Chen et al. 2023, with the constant of their code (variance over n_sigma^2, n_sigma = 2).
Departures: running averages warm up as min(0.999, (1 + t) / (10 + t)), because 1,500 steps are few for 0.999.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryoscout.perception.methods.base import move_average, warm_decay
from cryoscout.perception.methods.fixmatch import FixMatch
from cryoscout.perception.settings import FitSettings

N_SIGMA = 2.0


class SoftMatch(FixMatch):
    """A truncated Gaussian in place of the mask."""

    def __init__(self, settings: FitSettings, prior: Tensor) -> None:
        super().__init__(settings, prior)
        classes = len(prior)
        self.mean = prior.new_full((), 1.0 / classes)
        self.variance = prior.new_ones(())
        self.predicted = torch.full_like(prior, 1.0 / classes)

    def state(self) -> dict[str, Tensor]:
        """Running mean and variance of confidence, running mean prediction."""
        return {"mean": self.mean, "variance": self.variance, "predicted": self.predicted}

    def counted(self, target: Tensor, step: int) -> Tensor:
        """(n,) weights in 0..1."""
        decay = warm_decay(self.settings.ema_decay, step)
        move_average(self.predicted, target.mean(dim=0), decay)
        aligned = target / (self.predicted * len(self.prior))
        confidence = (aligned / aligned.sum(dim=1, keepdim=True)).amax(dim=1)
        move_average(self.mean, confidence.mean(), decay)
        move_average(self.variance, confidence.var(correction=1), decay)
        below = (confidence - self.mean).clamp(max=0.0)
        return torch.exp(-(below**2) * N_SIGMA**2 / (2.0 * self.variance.clamp(min=1e-8)))
