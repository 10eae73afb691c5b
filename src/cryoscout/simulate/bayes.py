"""How well any classifier of holes could do on a simulated specimen: the Bayes-optimal accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.simulate.physics import HoleKind, hidden_sd, p_at_most
from cryoscout.simulate.scene import Scene, simulate_scene
from cryoscout.simulate.scene_settings import SceneSettings

HOLES = 200_000
"""Holes to fit on, and as many to judge on."""

FIRST_SEED = 5_000_000
"""Seeds of the scenes behind the figures; nothing is trained or fitted on them."""

_THICKNESS_BINS = 40
_CONTAMINATION_BINS = 6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BayesAccuracy:
    """Expected share of holes called right by the best possible rule, for one exposure each."""

    exact: float
    """Knowing kind, contamination and exact thickness: above anything that sees one hole."""
    relative: float
    """Knowing kind, contamination and the thickness less its patch's mean: what a level in a scaled image tells."""
    largest_class: float
    """Knowing nothing."""


def bayes_accuracy(
    settings: SceneSettings,
    *,
    holes: int = HOLES,
    threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM,
    first_seed: int = FIRST_SEED,
) -> BayesAccuracy:
    """Bayes-optimal accuracies of one kind of specimen, by simulation.

    holes : to fit on, and as many to judge on, of other scenes; the standard error falls with its root
    `exact` is the mean of max(p, 1 - p), p the probability of good over the hidden part, the exposure and failed
    fits, which the simulation knows in closed form. `relative` averages p within bins (kind x thickness relative to
    the patch x contamination, edges at quantiles) on the first scenes and judges the larger class of each bin on
    the others. The mean of a patch is over all its holes, empty ones as 0 nm.
    Raises InputError for fewer than one hole.
    """
    if holes < 1:
        raise InputError(f"The number of holes must be 1 or more. Got {holes} instead. Remedy: ask for more.")
    scenes = max(1, -(-holes // settings.holes))
    fitted, judged = (
        [
            _seen(simulate_scene(settings, first_seed + 2 * at + part), threshold_angstrom)
            for at in range(scenes)
        ]
        for part in range(2)
    )
    p_fit, kind_fit, thickness_fit, dirt_fit = (np.concatenate(each) for each in zip(*fitted, strict=True))
    p, kind, thickness, dirt = (np.concatenate(each) for each in zip(*judged, strict=True))
    right = np.empty(len(p))
    for one in HoleKind:
        here, train = kind == one, kind_fit == one
        if here.any():
            says_good = _majority(
                (thickness_fit[train], dirt_fit[train], p_fit[train]), (thickness[here], dirt[here])
            )
            right[here] = np.where(says_good, p[here], 1 - p[here])
    return BayesAccuracy(
        exact=float(np.maximum(p, 1 - p).mean()),
        relative=float(right.mean()),
        largest_class=float(max(p.mean(), 1 - p.mean())),
    )


def _seen(scene: Scene, threshold_angstrom: float) -> tuple[Floats, NDArray[np.int8], Floats, Floats]:
    """Each (n,): probability of good given what is visible, kind, thickness relative to the patch, contamination."""
    settings = scene.settings
    sd = np.hypot(hidden_sd(settings, scene.kind), settings.exposure_sd)
    p = p_at_most(settings, scene.visible_ln_ctf, sd, scene.p_failed, threshold_angstrom)
    patch = scene.patch_of_hole
    mean_nm = np.bincount(patch, weights=scene.thickness_nm) / np.bincount(patch)
    # Rounded, because the last bits of a difference would tell the thickness itself.
    relative_nm = np.round(scene.thickness_nm - mean_nm[patch], 6)
    return p, scene.kind, relative_nm, scene.contamination


def _majority(train: tuple[Floats, Floats, Floats], judged: tuple[Floats, Floats]) -> NDArray[np.bool_]:
    """(m,) whether good is likelier in the bin of each judged hole; a bin without training follows them all."""
    thickness, dirt, p = train
    if len(p) == 0:
        return np.zeros(len(judged[0]), dtype=bool)
    edges = [
        np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
        for values, bins in ((thickness, _THICKNESS_BINS), (dirt, _CONTAMINATION_BINS))
    ]
    cells = (len(edges[0]) + 1) * (len(edges[1]) + 1)
    bin_train, bin_judged = (
        np.searchsorted(edges[0], values[0]) * (len(edges[1]) + 1) + np.searchsorted(edges[1], values[1])
        for values in ((thickness, dirt), judged)
    )
    count = np.bincount(bin_train, minlength=cells)
    total = np.bincount(bin_train, weights=p, minlength=cells)
    mean = np.where(count > 0, total / np.maximum(count, 1), p.mean())
    says_good: NDArray[np.bool_] = mean[bin_judged] >= 0.5
    return says_good
