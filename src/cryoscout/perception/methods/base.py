"""What the training loop and a method say to each other: which views of the crops, and what their loss is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cryoscout.perception.settings import FitSettings

View = Literal["labelled_weak", "labelled_strong", "weak", "strong", "strong_again"]
"""Augmented crops: of the labelled part of a batch, or of its unlabelled part."""


@dataclass(frozen=True)
class Seen:
    """One batch after the network: outputs by view, (B, classes) labelled and (mu B, classes) unlabelled."""

    outputs: Mapping[View, Tensor]
    labels: Tensor
    """(B,) int64 classes, or (B, classes) probabilities; measured or guessed"""
    weights: Tensor
    """(B,) of the labels in the loss"""
    step: int
    """Updates before this one, of this stage"""


@dataclass(frozen=True)
class Outcome:
    """A loss and what it was made of."""

    supervised: Tensor
    unsupervised: Tensor
    """Already times lambda"""
    counted: Tensor
    """(mu B,) weight with which each unlabelled crop counts, 0..1; empty where there are none"""
    guess: Tensor
    """(mu B,) pseudo-label, int64"""

    @property
    def loss(self) -> Tensor:
        """What is minimised."""
        return self.supervised + self.unsupervised


class Method:
    """Supervised learning, and what the others change of it: the views, the weight of a crop, the loss."""

    views: tuple[View, ...] = ("labelled_weak",)

    def __init__(self, settings: FitSettings, prior: Tensor) -> None:
        """prior : (classes,) shares of the labels trained on."""
        self.settings, self.prior = settings, prior

    def state(self) -> dict[str, Tensor]:
        """Running averages by name: tensors that `loss` changes in place; a stopped run goes on from them."""
        return {}

    def loss(self, seen: Seen) -> Outcome:
        """The loss of one batch."""
        logits = seen.outputs["labelled_weak"]
        none = logits.new_zeros(0)
        return Outcome(
            self.supervised(seen), logits.new_zeros(()), none, none.long()
        )  # fmt: skip

    def supervised(self, seen: Seen) -> Tensor:
        """Weighted cross-entropy, mean over the B labelled crops."""
        return weighted_cross_entropy(seen.outputs["labelled_weak"], seen.labels, seen.weights)

    def held_out_loss(self, probabilities: Tensor, labels: Tensor) -> float:
        """Mean loss on held-out labels; of two equally accurate networks the one with the smaller loss is kept."""
        chance = probabilities.gather(1, labels[:, None]).clamp(min=1e-7)
        return float(-chance.log().mean())


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i CE(logits_i, label_i) / B; labels as in `Seen`, soft ones by their cross-entropy."""
    return (functional.cross_entropy(logits, labels, reduction="none") * weights).mean()


def consistency(strong: Tensor, target: Tensor, counted: Tensor, kind: Literal["hard", "soft"]) -> Tensor:
    """sum_i counted_i H(target_i, softmax(strong_i)) / n: divided by all n crops, not by those that count.

    strong : (n, classes) logits     target : (n, classes) probabilities without gradient
    kind : `hard` replaces a target by its likeliest class
    """
    if kind == "hard":
        entropy = functional.cross_entropy(strong, target.argmax(dim=1), reduction="none")
    else:
        entropy = -(target * functional.log_softmax(strong, dim=1)).sum(dim=1)
    return (entropy * counted).mean()


def warm_decay(largest: float, t: int) -> float:
    """min(largest, (1 + t) / (10 + t)): an average that is of use before 1 / (1 - largest) steps are over."""
    return min(largest, (1 + t) / (10 + t))


def move_average(average: Tensor, value: Tensor, decay: float) -> None:
    """average <- decay average + (1 - decay) value, in place."""
    with torch.no_grad():
        average.lerp_(value.to(average.dtype), 1.0 - decay)
