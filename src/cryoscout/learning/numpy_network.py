"""The scoring network's forward pass in numpy: a trained policy runs on a microscope computer without torch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.learning.settings import N_INPUTS, NetworkSettings


class NumpyNetwork:
    """Scores the candidates of one state as `networks.ScoringNetwork` does in evaluation: noisy layers by their
    means, a distribution by its mean, a policy by its logits."""

    def __init__(self, settings: NetworkSettings, weights: Mapping[str, NDArray[np.generic]]) -> None:
        """Raises InputError when the weights are not those of a network with these settings, or not finite."""
        self.settings = settings
        widths = (N_INPUTS, *settings.hidden)
        shapes = {f"trunk.{i}": (b, a) for i, (a, b) in enumerate(pairwise(widths))}
        shapes["score"] = (settings.atoms, widths[-1])
        if settings.dueling:
            shapes["value"] = (settings.atoms, widths[-1])
        self._layers: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        for name, (n_out, n_in) in shapes.items():
            weight, bias = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
            got = "nothing" if weight is None or bias is None else f"{weight.shape} and {bias.shape}"
            if weight is None or bias is None or weight.shape != (n_out, n_in) or bias.shape != (n_out,):
                raise InputError(
                    f"Layer {name!r} of a trained policy must have shapes {(n_out, n_in)} and {(n_out,)}. Got "
                    f"{got} instead. Remedy: train it again, or use the settings it was trained with."
                )
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
                layer = weight.astype(np.float32).T.copy(), bias.astype(np.float32)
            if not all(np.isfinite(numbers).all() for numbers in layer):
                raise InputError(
                    f"Layer {name!r} of a trained policy must hold finite numbers. Got NaN or infinity instead. "
                    "Remedy: copy the file again, or train it again."
                )
            self._layers[name] = layer
        self._support = np.linspace(settings.value_min, settings.value_max, settings.atoms, dtype=np.float32)

    def scores(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(R, N_INPUTS) candidates of one state -> (R,) scores."""
        hidden = rows
        for i in range(len(self.settings.hidden)):
            hidden = np.maximum(self._apply(f"trunk.{i}", hidden), 0.0)
        outputs = self._apply("score", hidden)
        if self.settings.dueling:
            outputs = (
                outputs + self._apply("value", hidden.mean(axis=0, keepdims=True)) - outputs.mean(axis=0)
            )
        if self.settings.atoms == 1:
            return outputs[:, 0]
        chance = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        expectation: NDArray[np.float32] = (chance @ self._support) / chance.sum(axis=1)
        return expectation

    def _apply(self, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        weight, bias = self._layers[name]
        out: NDArray[np.float32] = x @ weight + bias
        return out
