"""Supervised learning on the labelled crops alone: what the others must beat.

Loss: (1 / B) sum_i CE(f(weak(x_i)), y_i).
Paper: CryoRL (Fan et al. 2022), section 4.3: an offline classifier of hole crops.
Departures: weak augmentation, averaged weights, and the best on held-out labels is kept, as for every method here.
"""

from __future__ import annotations

from cryoscout.perception.methods.base import Method


class Supervised(Method):
    """The base as it is."""
