"""FixMatch in rounds: the pseudo-labels of a round are those of the round before.

Round 1 is FixMatch. Every later round fine-tunes the network of the round before with its own predictions on the
unlabelled crops, confidence = the probability of the likelier class, with the loss of `pseudo_label`.
Paper: SSL2-RL, section 4.1 (Iterative FixMatch, its baseline without a policy).
Departures: the paper does not say how many steps a round has: as many as the first; the round with the best held-out
accuracy is kept, not the one with the best reward.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Guesses(NamedTuple):
    """A network's own labels of the crops that nobody labelled."""

    labels: NDArray[np.int64]
    """(n,) class, -1 where there is a label"""
    confidence: NDArray[np.float64]
    """(n,) 0..1; not read where there is a label"""


def own_guesses(probabilities: NDArray[np.float64], labelled: NDArray[np.bool_]) -> Guesses:
    """The likelier class of what is not labelled, and its probability.

    probabilities : (n, classes)     labelled : (n,)
    """
    labels = np.where(labelled, -1, probabilities.argmax(axis=1)).astype(np.int64)
    return Guesses(labels, probabilities.max(axis=1))
