"""Barlow Twins: two strong views of a crop should give the same numbers, and no two numbers the same.

Loss: (1 / D) (sum_i (1 - C_ii)^2 + w sum_{i != j} C_ij^2), C = the D x D correlation over the batch of the views'
embeddings.
A stage before supervised learning; it reads no labels. Of a classifier to begin with it takes all but the head.
Paper: Zbontar et al. 2021.
Departures: SGD in place of LARS, an embedding of 128 numbers behind one hidden layer in place of 8192 behind two,
for batches of hundreds; divided by D, so that a learning rate means the same for every D.
"""

from __future__ import annotations

from torch import Tensor, nn

from cryoscout.perception.methods.base import Method, Outcome, Seen, View


class BarlowTwins(Method):
    """Pretraining."""

    views: tuple[View, ...] = ("strong", "strong_again")

    def loss(self, seen: Seen) -> Outcome:
        """Redundancy reduction; counted as the unsupervised part."""
        one, other = seen.outputs["strong"], seen.outputs["strong_again"]
        loss = redundancy(one, other, self.settings.redundancy_weight)
        none = one.new_zeros(0)
        return Outcome(one.new_zeros(()), loss, none, none.long())


def redundancy(one: Tensor, other: Tensor, weight: float) -> Tensor:
    """The loss of two (n, numbers) embeddings of the same crops."""
    scaled = [(z - z.mean(dim=0)) / (z.std(dim=0, correction=0) + 1e-5) for z in (one, other)]
    correlation = scaled[0].T @ scaled[1] / len(one)
    diagonal = correlation.diagonal()
    off = (correlation**2).sum() - (diagonal**2).sum()
    return (((1.0 - diagonal) ** 2).sum() + weight * off) / len(diagonal)


def projector(n_features: int, embedding: int) -> nn.Sequential:
    """What stands in the place of the classifier's last layer."""
    return nn.Sequential(
        nn.Linear(n_features, embedding),
        nn.BatchNorm1d(embedding),
        nn.ReLU(),
        nn.Linear(embedding, embedding),
    )
