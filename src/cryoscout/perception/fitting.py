"""From crops and few labels to a classifier: checks, the loop, the temperature."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.perception.augment import Augmentation, checked
from cryoscout.perception.augmentations import name_of_own
from cryoscout.perception.classifier import Classifier
from cryoscout.perception.predictor import HELD_OUT_GIVEN
from cryoscout.perception.prepare import (
    UNLABELLED,
    Labels,
    Targets,
    check_images,
    check_labels,
    targets_of,
    unusable,
)
from cryoscout.perception.settings import FitSettings, settings_for
from cryoscout.perception.temperature import fit_slope
from cryoscout.perception.training import Pool, Progress, Training, Weights, scaled

CLASSIFIER_FILE = "classifier.safetensors"
FEWEST_PER_BIN = 2


def fit(
    images: NDArray[np.uint8],
    labels: Labels,
    method: str = "fixmatch",
    profile: str = "quick",
    seed: int = 0,
    *,
    weights: NDArray[np.float64] | None = None,
    held_out: NDArray[np.bool_] | float | None = None,
    classes: int | None = None,
    augmentation: str | Augmentation | None = None,
    truth: NDArray[np.int64] | None = None,
    start_from: Classifier | None = None,
    threshold_angstrom: float | None = None,
    edges_angstrom: tuple[float, ...] = (),
    folder: Path | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    device: str | None = None,
    after_round: Callable[[Classifier], None] | None = None,
    notes_of: Callable[[Classifier], Mapping[str, Any]] | None = None,
    **changes: object,
) -> Classifier:
    """Train a classifier of hole crops.

    images : (n, h, w) uint8     method, profile : names in `settings`     changes : fields of FitSettings that differ
    labels : (n,) whole numbers, -1 = unlabelled; good is 1 where there are two; or soft, (n, classes) probabilities
    weights : (n,) of the labels, 0 = unlabelled, None: 1 (`weights_in_loss`, `weights_in_sampling` say what they do)
    held_out : (n,) bool, labels kept out of the training, which choose the network and the temperature, for example of
        whole patches (`session.splits.split_by`); a number: that share of every class, drawn from the seed; None: the
        share of the settings. With `weights` or soft labels it must be a mask, or 0
    classes : None takes the largest label + 1     truth : (n,) labels for the metrics alone, -1 unknown
    augmentation : a name in `augmentations`, or a function; None: of the settings, `hole`
    start_from : a classifier of the same network and classes to begin with     edges_angstrom : of `fit_ctf`'s classes
    threshold_angstrom : CTF resolution that the labels were made with; `p_good` then answers it
    folder : gets the checkpoint, the metrics and the classifier; resume goes on from there
    after_round : gets the classifier of each round of `iterative_fixmatch` as it ends, without its temperature
    notes_of : gets the finished classifier, and gives further notes that it is written and returned with
    Crops that show nothing are left out and listed in `Classifier.set_aside`. Held-out labels choose the network, so
    that accuracy on them is a little too good.
    Raises InputError for wrong input, TrainingError (an InputError) when the loss is not a number.
    """
    mask = held_out if isinstance(held_out, np.ndarray) else None
    share = {} if held_out is None or mask is not None else {"held_out": held_out}
    own, named = _augmentation(augmentation)
    settings = settings_for(method, profile, seed=seed, **share, **named, **changes)
    pixels = check_images(images)
    aside = unusable(pixels)
    targets = targets_of(labels, weights, mask, aside, settings, classes)
    _check_goes_with(targets, settings, threshold_angstrom, weights is None)
    true = np.full(len(pixels), UNLABELLED) if truth is None else check_labels(truth, len(pixels), "Truth")
    start = None if start_from is None else _start(start_from, settings, targets.classes, edges_angstrom)
    pool = _pool(pixels[~aside], targets.of(~aside), true[~aside], settings, start_from)
    digest = _digest(pixels, labels, weights, mask, start_from)
    training = Training(
        pool, settings, folder=folder, digest=digest, start=start, device=device,
        augmentation=own,
    )  # fmt: skip
    made = partial(
        Classifier, settings, targets.classes, mean=pool.mean, spread=pool.spread,
        prior=tuple(training.prior.tolist()), threshold_angstrom=threshold_angstrom, edges_angstrom=edges_angstrom,
        set_aside=tuple(np.flatnonzero(aside).tolist()),
    )  # fmt: skip

    def ended(best: Weights) -> None:
        if after_round is not None and settings.method == "iterative_fixmatch":
            after_round(made(weights=_arrays(best)))

    best = training.run(resume=resume, progress=progress, after_stage=ended)
    found = _calibrated(made(weights=_arrays(best)), pixels[~aside], pool, training, given=mask is not None)
    if notes_of is not None:
        found = replace(found, notes={**found.notes, **notes_of(found)})
    if folder is not None:
        found.save(folder / CLASSIFIER_FILE)
    return found


def _augmentation(given: str | Augmentation | None) -> tuple[Augmentation | None, dict[str, object]]:
    """(an own one, the setting that names it)."""
    if given is None or isinstance(given, str):
        return None, {} if given is None else {"augmentation": given}
    return checked(given), {"augmentation": name_of_own(given)}


def _arrays(weights: Weights) -> dict[str, NDArray[np.generic]]:
    return {name: value.numpy() for name, value in weights.items()}


def _check_goes_with(
    targets: Targets, settings: FitSettings, threshold: float | None, without_weights: bool
) -> None:
    if threshold is not None and targets.classes != 2:
        raise InputError(
            f"A threshold must go with two classes, bad 0 and good 1. Got {targets.classes} classes instead."
        )
    if settings.method == "pseudo_label" and without_weights:
        raise InputError(
            "The method pseudo_label must get weights, which say how far each label is to be believed. Got none "
            "instead. Remedy: give them, or the method fixmatch."
        )


def fit_ctf(
    images: NDArray[np.uint8],
    ctf_angstrom: NDArray[np.float64],
    profile: str = "quick",
    seed: int = 0,
    *,
    bins: int = 8,
    folder: Path | None = None,
    start_from: Classifier | None = None,
    **options: Any,
) -> Classifier:
    """Train an ordinal regression of CTF resolution; `Classifier.p_good` then answers any threshold.

    images : (n, h, w) uint8     ctf_angstrom : (n,) measured resolution, NaN = none
    bins : most classes; their edges are quantiles of what was measured     options : of `fit`
    start_from : a regression, whose bins are kept; what lies outside of them counts as in the outermost
    Raises InputError when values are not above 0, or too few or too alike to make two bins.
    """
    pixels = check_images(images)
    values = np.asarray(ctf_angstrom, dtype=np.float64)
    if values.shape != (len(pixels),):
        raise InputError(
            f"CTF resolution must be one number per image, {len(pixels)} in all. Got {values.shape} instead."
        )
    wrong = np.flatnonzero(np.isinf(values) | (values <= 0.0))
    if len(wrong):
        raise InputError(
            f"CTF resolution must be above 0 Å, NaN for none. Got {values[wrong[0]]} for image {wrong[0]} instead."
        )
    if start_from is None:
        held = options.get("held_out")
        # Of the labels that are trained on, so that each bin has some whatever is held out.
        kept = ~held if isinstance(held, np.ndarray) and held.shape == values.shape else True
        edges = _bin_edges(values[np.isfinite(values) & ~unusable(pixels) & kept], bins)
    else:
        edges = np.asarray(start_from.edges_angstrom)
        if not len(edges):
            raise InputError(
                "The classifier to begin with must be a regression. Got one for one threshold instead. Remedy: one of "
                "fit_ctf."
            )
    bin_of = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, len(edges) - 2)
    labels = np.where(np.isfinite(values), bin_of, UNLABELLED)
    return fit(
        pixels, labels, "regression", profile, seed,
        folder=folder, edges_angstrom=tuple(edges.tolist()), start_from=start_from, **options,
    )  # fmt: skip


def _bin_edges(usable: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """(bins + 1,) or fewer: measured values, so that no bin is empty, however often a value repeats."""
    n_bins = min(bins, len(usable) // FEWEST_PER_BIN)
    if n_bins < 2:
        raise InputError(
            f"CTF resolution must be known for at least {2 * FEWEST_PER_BIN} crops and have two bins. Got "
            f"{len(usable)} and {bins} bins instead. Remedy: measure more holes."
        )
    edges = np.unique(np.quantile(usable, np.linspace(0.0, 1.0, n_bins + 1), method="inverted_cdf"))
    if len(edges) < 3:
        raise InputError("CTF resolution must differ between crops. Got too many equal values instead.")
    return edges


def _start(
    classifier: Classifier, settings: FitSettings, classes: int, edges_angstrom: tuple[float, ...]
) -> dict[str, torch.Tensor]:
    """Weights to begin with. Raises InputError when they are of another network or of other classes."""
    for name, want, got in (
        ("depth", settings.depth, classifier.settings.depth),
        ("width", settings.width, classifier.settings.width),
        ("stem_stride", settings.stem_stride, classifier.settings.stem_stride),
        ("number of classes", classes, classifier.classes),
        ("edges_angstrom", edges_angstrom, classifier.edges_angstrom),
    ):
        if want != got:
            raise InputError(
                f"The classifier to begin with must have {name} {want}. Got {got} instead. Remedy: give the settings "
                "it was trained with."
            )
    return {name: torch.from_numpy(np.array(array)) for name, array in classifier.weights.items()}


def _pool(
    images: NDArray[np.uint8],
    targets: Targets,
    truth: NDArray[np.int64],
    settings: FitSettings,
    start_from: Classifier | None,
) -> Pool:
    pixels = scaled(images, settings.size_px)
    mean, spread = _grey_levels(pixels.numpy()[~targets.held_out])
    labels = torch.from_numpy(targets.labels)
    return Pool(
        pixels, labels if labels.ndim == 1 else labels.float(), torch.from_numpy(targets.weights).float(),
        torch.from_numpy(targets.held_out), torch.from_numpy(targets.classes_held_out),
        torch.from_numpy(truth.astype(np.int64)),
        mean if start_from is None else start_from.mean,
        max(spread, 1.0 / 255.0) if start_from is None else start_from.spread,
        targets.classes,
    )  # fmt: skip


def _grey_levels(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of grey levels 0..1, from their histogram: no copy in a larger type."""
    counts = sum((np.bincount(crop.ravel(), minlength=256) for crop in pixels), np.zeros(256, dtype=np.int64))
    levels = np.arange(256) / 255.0
    mean = float(counts @ levels / counts.sum())
    return mean, float(np.sqrt(counts @ np.square(levels - mean) / counts.sum()))


def _calibrated(
    classifier: Classifier, images: NDArray[np.uint8], pool: Pool, training: Training, *, given: bool
) -> Classifier:
    """The classifier with its temperature, its held-out accuracy and the precision that its training had.

    given : the caller said what is held out
    """
    last_look = training.last_look
    held = pool.held_out.numpy()
    p = classifier.raw_proba(images[held])
    labels = pool.classes_held_out.numpy()
    slope = fit_slope(p, labels)
    notes: dict[str, Any] = {
        "images": len(images),
        "labels": int((pool.weights > 0.0).sum()),
        "held_out_labels": len(labels),
        "held_out_accuracy": float((p.argmax(axis=1) == labels).mean()) if len(labels) else None,
        "calibrated": slope is not None,
        "mask_rate": last_look.get("mask_rate"),
        "pseudo_label_accuracy": last_look.get("pseudo_label_accuracy"),
        "precision": training.precision,
    }
    if given:
        notes[HELD_OUT_GIVEN] = True
    return Classifier(**{**vars(classifier), "slope": slope, "notes": notes})


def _digest(
    images: NDArray[np.uint8],
    labels: Labels,
    weights: NDArray[np.float64] | None,
    held_out: object,
    start: Classifier | None,
) -> str:
    """Of everything a training learns from."""
    digest = hashlib.sha256(str(images.shape).encode())
    told = np.asarray(labels)
    for array in (images, told.astype(np.float64 if told.ndim == 2 else np.int64)):
        digest.update(np.ascontiguousarray(array).tobytes())
    for name, given in (("weights", weights), ("held_out", held_out)):
        if given is not None:
            digest.update(name.encode() + np.asarray(given, dtype=np.float64).tobytes())
    if start is not None:
        digest.update(f"start {start.mean} {start.spread}".encode())
        for name in sorted(start.weights):
            digest.update(name.encode() + np.ascontiguousarray(start.weights[name]).tobytes())
    return digest.hexdigest()
