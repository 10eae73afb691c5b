"""FixMatch: the confident prediction for a weakly changed crop is the label of the strongly changed one.

Loss: (1 / B) sum CE(f(weak(x_i)), y_i) + lambda / (mu B) sum 1(max q_i >= tau) H(q_i, f(strong(u_i))),
q_i = f(weak(u_i)) without gradient.
Papers: Sohn et al. 2020; SSL2-RL equation 1.
Departures: `target` is hard by default (FixMatch: q_i is replaced by its likelier class); SSL2-RL writes its
equation with the distribution, which is `target="soft"`, and as a sum over the unlabelled set, here the mean over
mu B crops of a batch. Crops are drawn with replacement. The weak crops of the unlabelled go through the network on
their own, without a gradient, not in one batch with the rest. Augmentation is that of `augment`, not RandAugment:
colours and inversions mean nothing for a hole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryoscout.perception.methods.base import Method, Outcome, Seen, View, consistency


class FixMatch(Method):
    """Mask by confidence; subclasses change the distribution or the weight."""

    views: tuple[View, ...] = ("labelled_weak", "weak", "strong")

    def target(self, probabilities: Tensor, step: int) -> Tensor:
        """(n, classes) what a pseudo-label is made of."""
        return probabilities

    def counted(self, target: Tensor, step: int) -> Tensor:
        """(n,) weight of each unlabelled crop: 1 where the target is confident."""
        return (target.amax(dim=1) >= self.settings.tau).to(target.dtype)

    def loss(self, seen: Seen) -> Outcome:
        """Supervised plus lambda times the consistency of the unlabelled."""
        probabilities = torch.softmax(seen.outputs["weak"].detach(), dim=1)
        target = self.target(probabilities, seen.step)
        counted = self.counted(target, seen.step)
        unsupervised = consistency(seen.outputs["strong"], target, counted, self.settings.target)
        weight = self.settings.unsupervised_weight
        return Outcome(self.supervised(seen), weight * unsupervised, counted, target.argmax(dim=1))
