"""DeFixMatch: FixMatch without the bias of its unlabelled part.

Loss: FixMatch's - lambda / B sum 1(max q_i >= tau) H(q_i, f(strong(x_i))) over the labelled crops, their labels not
read: in expectation the two unlabelled parts cancel, so that the whole is an unbiased estimate of the risk.
Paper: Schmutz, Humbert and Mattei 2023 (Don't fear the unlabelled).
Departures: those of `fixmatch`. With weights in the sampling, labelled crops are no sample of all crops, and the parts
do not cancel.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from cryoscout.perception.methods.base import Outcome, Seen, View, consistency
from cryoscout.perception.methods.fixmatch import FixMatch


class DeFixMatch(FixMatch):
    """FixMatch less the same on labelled crops."""

    views: tuple[View, ...] = ("labelled_weak", "labelled_strong", "weak", "strong")

    def loss(self, seen: Seen) -> Outcome:
        """FixMatch's, debiased."""
        outcome = super().loss(seen)
        target = torch.softmax(seen.outputs["labelled_weak"].detach(), dim=1)
        counted = self.counted(target, seen.step)
        bias = consistency(seen.outputs["labelled_strong"], target, counted, self.settings.target)
        return replace(outcome, unsupervised=outcome.unsupervised - self.settings.unsupervised_weight * bias)
