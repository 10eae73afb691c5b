"""Ordinal regression: the whole distribution of a crop's CTF resolution, so that any threshold can be asked for.

Classes are bins of the measured value in rising order. Loss: the mean over the edges between them of the binary
cross-entropy of P(bin <= k), where P(bin <= k) is the sum of the softmax up to k: it cannot fall with k, and a guess
two bins off costs more than a guess one bin off.
Paper: the cumulative form of ordinal regression (Frank and Hall 2001; Niu et al. 2016) on one softmax, so that the
cumulative probabilities are in order. CryoRL and SSL2-RL classify at one threshold.
Departures: none. It reads no unlabelled crops.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cryoscout.perception.methods.base import Method, Seen


class Regression(Method):
    """Ordered classes."""

    def supervised(self, seen: Seen) -> Tensor:
        """Weighted mean of the ordinal loss."""
        return (ordinal_loss(seen.outputs["labelled_weak"], seen.labels) * seen.weights).mean()

    def held_out_loss(self, probabilities: Tensor, labels: Tensor) -> float:
        """The same loss on held-out labels."""
        return float(ordinal_loss(probabilities.clamp(min=1e-7).log(), labels).mean())


def ordinal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) mean over edges k of the binary cross-entropy of P(bin <= k).

    logits : (n, bins), bins >= 2     labels : (n,) bin, or (n, bins) probabilities, whose loss is the mean over bins
    """
    log_p = functional.log_softmax(logits, dim=1)
    up_to = torch.logcumsumexp(log_p, dim=1)[:, :-1]
    above = torch.logcumsumexp(log_p.flip(1), dim=1).flip(1)[:, 1:]
    if labels.ndim == 2:
        chance = labels.cumsum(dim=1)[:, :-1]
        return -(chance * up_to + (1.0 - chance) * above).mean(dim=1)
    edges = torch.arange(logits.shape[1] - 1, device=logits.device)
    return -torch.where(labels[:, None] <= edges, up_to, above).mean(dim=1)
