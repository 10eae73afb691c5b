"""From crops and few labels to a classifier: checks, the loop, the temperature."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.perception.classifier import Classifier
from cryoscout.perception.methods.iterative_fixmatch import PseudoLabels
from cryoscout.perception.prepare import (
    UNLABELLED,
    check_confidence,
    check_images,
    check_labels,
    class_count,
    split_held_out,
    unusable,
)
from cryoscout.perception.settings import FitSettings, settings_for
from cryoscout.perception.temperature import fit_slope
from cryoscout.perception.training import Pool, Progress, Training, Weights, scaled

CLASSIFIER_FILE = "classifier.safetensors"
FEWEST_PER_BIN = 2


def fit(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    method: str = "fixmatch",
    profile: str = "quick",
    seed: int = 0,
    *,
    classes: int | None = None,
    truth: NDArray[np.int64] | None = None,
    pseudo: PseudoLabels | None = None,
    start_from: Classifier | None = None,
    threshold_angstrom: float | None = None,
    edges_angstrom: tuple[float, ...] = (),
    folder: Path | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    device: str | None = None,
    after_round: Callable[[Classifier], None] | None = None,
    **changes: object,
) -> Classifier:
    """Train a classifier of hole crops.

    images : (n, h, w) uint8     labels : (n,) whole numbers, -1 = unlabelled; good is 1 where there are two
    method, profile : names in `settings`     changes : fields of FitSettings that differ
    classes : None takes the largest label + 1     truth : (n,) labels for the metrics alone, -1 unknown
    pseudo : for `pseudo_label`, labels of unlabelled crops with confidence
    start_from : a classifier of the same network to begin with     edges_angstrom : of the classes of `fit_ctf`
    threshold_angstrom : CTF resolution that the labels were made with; `p_good` then answers it
    folder : gets the checkpoint, the metrics and the classifier; resume goes on from there
    after_round : gets the classifier of each round of `iterative_fixmatch` as it ends, without its temperature
    Crops that show nothing are left out and listed in `Classifier.set_aside`. A fifth of the labels choose the
    weights and the temperature: held-out accuracy is therefore a little too good.
    Raises InputError for wrong input, TrainingError (an InputError) when the loss is not a number.
    """
    settings = settings_for(method, profile, seed=seed, **changes)
    pixels = check_images(images)
    known = check_labels(labels, len(pixels))
    aside = unusable(pixels)
    n_classes = _classes(known, aside, classes, threshold_angstrom)
    true = np.full(len(pixels), UNLABELLED) if truth is None else check_labels(truth, len(pixels), "Truth")
    guessed = _check_pseudo(pseudo, settings, len(pixels), n_classes)
    start = None if start_from is None else _start(start_from, settings, n_classes)
    pool = _pool(pixels, known, true, guessed, ~aside, settings, n_classes, start_from)
    digest = _digest(pixels, known, guessed, start)
    training = Training(pool, settings, folder=folder, digest=digest, start=start, device=device)
    made = partial(
        Classifier, settings, n_classes, mean=pool.mean, spread=pool.spread, prior=tuple(training.prior.tolist()),
        threshold_angstrom=threshold_angstrom, edges_angstrom=edges_angstrom,
        set_aside=tuple(np.flatnonzero(aside).tolist()),
    )  # fmt: skip

    def ended(weights: Weights) -> None:
        if after_round is not None and settings.method == "iterative_fixmatch":
            after_round(made(weights=_arrays(weights)))

    best = training.run(resume=resume, progress=progress, after_stage=ended)
    classifier = _calibrated(made(weights=_arrays(best)), pixels[~aside], pool, training)
    if folder is not None:
        classifier.save(folder / CLASSIFIER_FILE)
    return classifier


def _arrays(weights: Weights) -> dict[str, NDArray[np.generic]]:
    return {name: value.numpy() for name, value in weights.items()}


def _classes(
    labels: NDArray[np.int64], aside: NDArray[np.bool_], classes: int | None, threshold: float | None
) -> int:
    if aside.all() and len(aside):
        raise InputError(
            f"Images must show something. Got {len(aside)} crops of one grey level each instead."
        )
    n = class_count(np.where(aside, UNLABELLED, labels), classes)
    if threshold is not None and n != 2:
        raise InputError(f"A threshold must go with two classes, bad 0 and good 1. Got {n} classes instead.")
    return n


def fit_ctf(
    images: NDArray[np.uint8],
    ctf_angstrom: NDArray[np.float64],
    profile: str = "quick",
    seed: int = 0,
    *,
    bins: int = 8,
    folder: Path | None = None,
    **options: Any,
) -> Classifier:
    """Train an ordinal regression of CTF resolution; `Classifier.p_good` then answers any threshold.

    images : (n, h, w) uint8     ctf_angstrom : (n,) measured resolution, NaN = none
    bins : most classes; their edges are quantiles of what was measured     options : of `fit`
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
    usable = values[np.isfinite(values) & ~unusable(pixels)]
    n_bins = min(bins, len(usable) // FEWEST_PER_BIN)
    if n_bins < 2:
        raise InputError(
            f"CTF resolution must be known for at least {2 * FEWEST_PER_BIN} crops and have two bins. Got "
            f"{len(usable)} and {bins} bins instead. Remedy: measure more holes."
        )
    # Edges are measured values: no bin is empty, however often a value repeats.
    edges = np.unique(np.quantile(usable, np.linspace(0.0, 1.0, n_bins + 1), method="inverted_cdf"))
    if len(edges) < 3:
        raise InputError("CTF resolution must differ between crops. Got too many equal values instead.")
    bin_of = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, len(edges) - 2)
    labels = np.where(np.isfinite(values), bin_of, UNLABELLED)
    return fit(
        pixels, labels, "regression", profile, seed,
        folder=folder, edges_angstrom=tuple(edges.tolist()), **options,
    )  # fmt: skip


def _check_pseudo(
    pseudo: PseudoLabels | None, settings: FitSettings, n: int, classes: int
) -> PseudoLabels | None:
    if (pseudo is not None) != (settings.method == "pseudo_label"):
        raise InputError(
            "Pseudo-labels must be given with the method pseudo_label, and with no other. Got method "
            f"{settings.method} {'without' if pseudo is None else 'with'} them instead."
        )
    if pseudo is None:
        return None
    labels = check_labels(pseudo.labels, n, "Pseudo-labels")
    if n and labels.max() >= classes:
        raise InputError(
            f"Pseudo-labels must be below {classes}, the number of classes. Got {labels.max()} instead."
        )
    return PseudoLabels(labels, check_confidence(pseudo.confidence, labels))


def _start(classifier: Classifier, settings: FitSettings, classes: int) -> dict[str, torch.Tensor]:
    """Weights to begin with. Raises InputError when they are of another network."""
    for name, want, got in (
        ("depth", settings.depth, classifier.settings.depth),
        ("width", settings.width, classifier.settings.width),
        ("stem_stride", settings.stem_stride, classifier.settings.stem_stride),
        ("number of classes", classes, classifier.classes),
    ):
        if want != got:
            raise InputError(
                f"The classifier to begin with must have {name} {want}. Got {got} instead. Remedy: give the settings "
                "it was trained with."
            )
    return {name: torch.from_numpy(np.array(array)) for name, array in classifier.weights.items()}


def _pool(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    truth: NDArray[np.int64],
    pseudo: PseudoLabels | None,
    kept: NDArray[np.bool_],
    settings: FitSettings,
    classes: int,
    start_from: Classifier | None,
) -> Pool:
    images, labels, truth = images[kept], labels[kept], truth[kept]
    held = split_held_out(labels, settings.held_out, settings.seed)
    pixels = scaled(images, settings.size_px)
    mean, spread = _grey_levels(pixels.numpy()[~held])
    return Pool(
        pixels, torch.from_numpy(labels), torch.from_numpy(held), torch.from_numpy(truth.astype(np.int64)),
        None if pseudo is None else PseudoLabels(pseudo.labels[kept], pseudo.confidence[kept]),
        mean if start_from is None else start_from.mean,
        max(spread, 1.0 / 255.0) if start_from is None else start_from.spread,
        classes,
    )  # fmt: skip


def _grey_levels(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of grey levels 0..1, from their histogram: no copy in a larger type."""
    counts = sum((np.bincount(crop.ravel(), minlength=256) for crop in pixels), np.zeros(256, dtype=np.int64))
    levels = np.arange(256) / 255.0
    mean = float(counts @ levels / counts.sum())
    return mean, float(np.sqrt(counts @ np.square(levels - mean) / counts.sum()))


def _calibrated(
    classifier: Classifier, images: NDArray[np.uint8], pool: Pool, training: Training
) -> Classifier:
    """The classifier with its temperature, its held-out accuracy and the precision that its training had."""
    last_look = training.last_look
    held = pool.held_out.numpy()
    p = classifier.raw_proba(images[held])
    labels = pool.labels.numpy()[held]
    slope = fit_slope(p, labels)
    notes: dict[str, Any] = {
        "images": len(images),
        "labels": int((pool.labels >= 0).sum()),
        "held_out_labels": len(labels),
        "held_out_accuracy": float((p.argmax(axis=1) == labels).mean()) if len(labels) else None,
        "calibrated": slope is not None,
        "mask_rate": last_look.get("mask_rate"),
        "pseudo_label_accuracy": last_look.get("pseudo_label_accuracy"),
        "precision": training.precision,
    }
    return Classifier(**{**vars(classifier), "slope": slope, "notes": notes})


def _digest(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    pseudo: PseudoLabels | None,
    start: dict[str, torch.Tensor] | None,
) -> str:
    """Of everything a training learns from."""
    digest = hashlib.sha256(str(images.shape).encode())
    for array in (images, labels, *(pseudo or ())):
        digest.update(np.ascontiguousarray(array).tobytes())
    for name in sorted(start or {}):
        digest.update(name.encode() + (start or {})[name].numpy().tobytes())
    return digest.hexdigest()
