"""What every trained classifier is, whoever computes its network: settings, calibration, thresholds. Needs no torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cryoscout.core.errors import InputError
from cryoscout.core.units import check_threshold_angstrom
from cryoscout.perception.prepare import check_images, unusable
from cryoscout.perception.settings import FitSettings
from cryoscout.perception.temperature import apply_slope

KIND = "perception classifier"
MOST_CLASSES = 1000
HELD_OUT_GIVEN = "held_out_given"
"""In the notes where the caller of a training said which labels are held out: the seed does not tell them."""


class Predictor(ABC):
    """Crops to probabilities of their classes; a subclass is a frozen dataclass with these fields."""

    settings: FitSettings
    classes: int
    mean: float
    spread: float
    """Of grey levels 0..1"""
    prior: tuple[float, ...]
    """Shares of the classes among the labels: the answer for a crop that shows nothing"""
    slope: float | None
    """1 / temperature, fitted on the held-out labels; None where they were too few"""
    threshold_angstrom: float | None
    """CTF resolution up to which a crop is good (class 1); None where classes mean something else"""
    edges_angstrom: tuple[float, ...]
    """Ordinal regression: class k is a CTF resolution in edges[k]..edges[k + 1]"""
    set_aside: tuple[int, ...]
    """Rows of the training images that show nothing and were left out"""
    notes: Mapping[str, Any]
    """What it was trained on and how it did: for people"""

    @abstractmethod
    def raw_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(m, classes) probabilities as the network says them: no temperature, no crop told apart."""

    def predict_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(m, classes) calibrated probabilities of crops (m, h, w) uint8, rows summing to 1.

        Crops of another size are scaled. A crop that shows nothing gets the shares of the labels; `unusable` lists
        those. Raises InputError for anything but such an array.
        """
        raw = self.raw_proba(images)
        p = raw if self.slope is None else apply_slope(raw, self.slope)
        p[self.unusable(images)] = self.prior
        return p

    def unusable(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Rows of crops that show nothing."""
        return np.flatnonzero(unusable(check_images(images)))

    def p_good(self, images: NDArray[np.uint8], threshold_angstrom: float) -> NDArray[np.float64]:
        """(m,) P(CTF resolution <= threshold).

        Ordinal regression answers any threshold, linearly between its edges, 0 below the first and 1 above the last;
        a classifier answers the one it was trained for. Raises InputError for another.
        """
        self.check_threshold(threshold_angstrom)
        return self._p_good_of(self.predict_proba(images), threshold_angstrom)

    def p_good_unseen(self, threshold_angstrom: float) -> float:
        """P(CTF resolution <= threshold) of a hole without an image: that of the labels. Raises as `p_good` does."""
        self.check_threshold(threshold_angstrom)
        return float(self._p_good_of(np.array([self.prior]), threshold_angstrom)[0])

    def check_threshold(self, threshold_angstrom: float) -> None:
        """Raise InputError for a threshold that this cannot answer."""
        check_threshold_angstrom(threshold_angstrom)
        if self.edges_angstrom:
            return
        if self.threshold_angstrom is None:
            raise InputError(
                "A prediction at a threshold must come from a classifier trained for one. Got one without instead. "
                "Remedy: give threshold_angstrom to fit, or use fit_ctf."
            )
        if not math.isclose(threshold_angstrom, self.threshold_angstrom, rel_tol=1e-9):
            raise InputError(
                f"This classifier must be asked for the threshold it was trained for, {self.threshold_angstrom:g} Å. "
                f"Got {threshold_angstrom:g} Å instead. Remedy: train for that one, or train the method regression "
                "(fit_ctf), which answers any."
            )

    def _p_good_of(self, p: NDArray[np.float64], threshold_angstrom: float) -> NDArray[np.float64]:
        if not self.edges_angstrom:
            return p[:, 1]
        up_to = np.concatenate([np.zeros((len(p), 1)), np.cumsum(p, axis=1)], axis=1)
        return _at(threshold_angstrom, np.asarray(self.edges_angstrom), up_to)

    def header(self) -> dict[str, Any]:
        """All fields but the network, as JSON values; `fields_of` reads them."""
        return {
            "kind": KIND, "settings": self.settings.model_dump(mode="json"), "classes": self.classes,
            "mean": self.mean, "spread": self.spread, "prior": self.prior, "slope": self.slope,
            "threshold_angstrom": self.threshold_angstrom, "edges_angstrom": self.edges_angstrom,
            "set_aside": self.set_aside, "notes": dict(self.notes),
        }  # fmt: skip


def fields_of(header: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The fields that a header says. Raises InputError, naming the file, where this version does not know them."""
    try:
        threshold = header["threshold_angstrom"]
        return {
            "settings": FitSettings.model_validate(header["settings"]),
            "classes": _classes(header["classes"]),
            "mean": float(header["mean"]),
            "spread": float(header["spread"]),
            "prior": tuple(map(float, header["prior"])),
            "slope": None if header["slope"] is None else float(header["slope"]),
            "threshold_angstrom": None if threshold is None else float(threshold),
            "edges_angstrom": tuple(map(float, header["edges_angstrom"])),
            "set_aside": tuple(map(int, header["set_aside"])),
            "notes": dict(header["notes"]),
        }
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, ValidationError) as error:
        raise InputError(
            f"{path} must have settings this version knows. Got {type(error).__name__} on reading them instead. "
            f"Remedy: use cryoscout {header.get('cryoscout')}, or train again."
        ) from None


def _classes(value: object) -> int:
    """Of a classifier: a network is made with them before its weights are looked at."""
    if type(value) is not int or not 2 <= value <= MOST_CLASSES:
        raise ValueError(f"no number of classes: {value!r}")
    return value


def _at(x: float, edges: NDArray[np.float64], cumulative: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) rows of cumulative (m, edges) at x, linear between the edges."""
    if x < edges[0]:
        return np.zeros(len(cumulative))
    if x >= edges[-1]:
        return np.ones(len(cumulative))
    k = int(np.searchsorted(edges, x, side="right")) - 1
    share = (x - edges[k]) / (edges[k + 1] - edges[k])
    return np.asarray((1.0 - share) * cumulative[:, k] + share * cumulative[:, k + 1])
