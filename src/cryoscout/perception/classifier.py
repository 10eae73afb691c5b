"""A trained perception network: what `fit` returns, what predicts, and its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.perception.prepare import check_images, unusable
from cryoscout.perception.resnet import ResNet
from cryoscout.perception.settings import FitSettings
from cryoscout.perception.temperature import apply_slope
from cryoscout.perception.training import probabilities_of, scaled, torch_threads

KIND = "perception classifier"


@dataclass(frozen=True)
class Classifier:
    """Crops to probabilities of their classes."""

    settings: FitSettings
    classes: int
    weights: Mapping[str, NDArray[np.generic]]
    mean: float
    spread: float
    """Of grey levels 0..1"""
    prior: tuple[float, ...]
    """Shares of the classes among the labels: the answer for a crop that shows nothing"""
    slope: float | None = None
    """1 / temperature, fitted on the held-out labels; None where they were too few"""
    threshold_angstrom: float | None = None
    """CTF resolution up to which a crop is good (class 1); None where classes mean something else"""
    edges_angstrom: tuple[float, ...] = ()
    """Ordinal regression: class k is a CTF resolution in edges[k]..edges[k + 1]"""
    set_aside: tuple[int, ...] = ()
    """Rows of the training images that show nothing and were left out"""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What it was trained on and how it did: for people"""

    def predict_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(m, classes) calibrated probabilities of crops (m, h, w) uint8, rows summing to 1.

        Crops of another size are scaled. A crop that shows nothing gets the shares of the labels; `unusable` lists
        those. Raises InputError for anything but such an array.
        """
        raw = self.raw_proba(images)
        p = raw if self.slope is None else apply_slope(raw, self.slope)
        p[self.unusable(images)] = self.prior
        return p

    def raw_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(m, classes) probabilities as the network says them: no temperature, no crop told apart."""
        pixels = scaled(check_images(images), self.settings.size_px)
        with torch_threads(self.settings.threads):
            p = probabilities_of(
                self.network(), pixels, self.mean, self.spread, bf16=self.settings.bf16
            )  # fmt: skip
        return np.asarray(p.double().numpy())

    def unusable(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Rows of crops that show nothing."""
        return np.flatnonzero(unusable(check_images(images)))

    def p_good(self, images: NDArray[np.uint8], threshold_angstrom: float) -> NDArray[np.float64]:
        """(m,) P(CTF resolution <= threshold).

        Ordinal regression answers any threshold, linearly between its edges, 0 below the first and 1 above the last;
        a classifier answers the one it was trained for. Raises InputError for another.
        """
        if not math.isfinite(threshold_angstrom) or threshold_angstrom <= 0.0:
            raise InputError(f"A threshold must be above 0 Å. Got {threshold_angstrom} instead.")
        if self.edges_angstrom:
            up_to = np.cumsum(self.predict_proba(images), axis=1)
            whole = np.concatenate([np.zeros((len(up_to), 1)), up_to], axis=1)
            return _at(threshold_angstrom, np.asarray(self.edges_angstrom), whole)
        if self.threshold_angstrom is None:
            raise InputError(
                "A prediction at a threshold must come from a classifier trained for one. Got one without instead. "
                "Remedy: give threshold_angstrom to fit, or use fit_ctf."
            )
        if not math.isclose(threshold_angstrom, self.threshold_angstrom, rel_tol=1e-9):
            raise InputError(
                f"This classifier must be asked for the threshold it was trained for, {self.threshold_angstrom:g} Å. "
                f"Got {threshold_angstrom:g} Å instead. Remedy: train for that one, or use fit_ctf, which answers any."
            )
        return self.predict_proba(images)[:, 1]

    def network(self) -> ResNet:
        """A new network with these weights, on the CPU."""
        network = ResNet(
            self.settings.depth, classes=self.classes, width=self.settings.width,
            stem_stride=self.settings.stem_stride,
        )  # fmt: skip
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in self.weights.items()}
        network.load_state_dict(tensors)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def save(self, path: Path) -> None:
        """Write weights and settings as one safetensors file."""
        header = {
            "kind": KIND, "settings": self.settings.model_dump(mode="json"), "classes": self.classes,
            "mean": self.mean, "spread": self.spread, "prior": self.prior, "slope": self.slope,
            "threshold_angstrom": self.threshold_angstrom, "edges_angstrom": self.edges_angstrom,
            "set_aside": self.set_aside, "notes": dict(self.notes),
        }  # fmt: skip
        write_arrays(self.weights, header, path)

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read what `save` wrote. Raises InputError when it cannot be used, as when the weights do not fit."""
        weights, header = read_arrays(path, KIND)
        try:
            found = cls(
                FitSettings.model_validate(header["settings"]), int(header["classes"]), weights,
                float(header["mean"]), float(header["spread"]), tuple(map(float, header["prior"])),
                None if header["slope"] is None else float(header["slope"]),
                header["threshold_angstrom"], tuple(map(float, header["edges_angstrom"])),
                tuple(map(int, header["set_aside"])), dict(header["notes"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise InputError(
                f"{path} must have settings this version knows. Got {type(error).__name__} on reading them instead. "
                f"Remedy: use cryoscout {header.get('cryoscout')}, or train again."
            ) from None
        try:
            found.network()
        except RuntimeError:
            raise InputError(
                f"{path} must hold the weights of a ResNet-{found.settings.depth} of width {found.settings.width} with "
                f"{found.classes} classes. Got weights of another shape instead. Remedy: copy or train it again."
            ) from None
        return found


def _at(x: float, edges: NDArray[np.float64], cumulative: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) rows of cumulative (m, edges) at x, linear between the edges."""
    if x < edges[0]:
        return np.zeros(len(cumulative))
    if x >= edges[-1]:
        return np.ones(len(cumulative))
    k = int(np.searchsorted(edges, x, side="right")) - 1
    share = (x - edges[k]) / (edges[k + 1] - edges[k])
    return np.asarray((1.0 - share) * cumulative[:, k] + share * cumulative[:, k + 1])
