"""What the study `squares` runs: trainings within one grid of real squares, and an ablation on simulated holes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.perception.augmentations import LEFT_OUT_ALONE
from cryoscout.study.engine.catalogue import Profile
from cryoscout.study.engine.runner import Json, Trial
from cryoscout.study.images.cases import QUICK_BUDGET, crops_of, held_back, label_rows, squares

Selection = Literal["last", "best", "last, 8 held out"]
"""Averaged weights: the last, of all labels; the best on two held-out labels of every class; the last of that."""

GRIDS = ("Sample2", "Sample3", "Sample5")
CLASSES = 4
MOST_LABELS_PER_CLASS = 10
SEEDS = range(10)
KEPT_SEEDS = range(3)
Y3, Y3_LABELS, Y3_SEEDS = "y3", 0.1, range(2000, 2005)
ACROSS, KEPT, FEATURES = "across", "kept", "features"
FOLDS = 5
ALIGN_TRUE = "align, true shares"
SEMI_SUPERVISED = ("fixmatch", "iterative-fixmatch", "defixmatch", "softmatch", "align", "barlow-twins")

SQUARES_BUDGET: dict[str, Any] = {
    "size_px": 32, "width": 16, "steps": 400, "pretrain_steps": 400, "batch_size": 16, "evaluate_every": 100,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One way of training.

    method : as on the command line; FEATURES: no network; ALIGN_TRUE: `align` told the grid's own shares, which no user
        knows
    """

    method: str
    augmentation: str = "hole"
    selection: Selection = "last"

    @property
    def name(self) -> str:
        """For people."""
        # Supervised learning changes crops weakly alone, and there hole and square are the same.
        of = "" if self.method in ("supervised", FEATURES) else f", {self.augmentation}"
        return f"{self.method}{of}{'' if self.selection == 'last' else f', {self.selection}'}"


SUPERVISED = Cell("supervised")
FIXMATCH = {name: Cell("fixmatch", name) for name in ("hole", "square")}
ONE_CHANGE_LESS = [Cell("fixmatch", f"hole-without-{change}") for change in LEFT_OUT_ALONE]
SELECTED = [
    Cell(method, augmentation, selection)
    for selection in ("best", "last, 8 held out")
    for method, augmentation in (("supervised", "hole"), ("fixmatch", "hole"), ("fixmatch", "square"))
]
OTHERS = [Cell(method, name) for method in SEMI_SUPERVISED[1:] for name in ("hole", "square")]
ORACLES = [Cell(ALIGN_TRUE, name) for name in ("hole", "square")]
NETWORKS = [SUPERVISED, *FIXMATCH.values(), *ONE_CHANGE_LESS, *SELECTED, *OTHERS, *ORACLES]
ON_Y3 = [SUPERVISED, *FIXMATCH.values(), *ONE_CHANGE_LESS]


def budget_of(profile: Profile) -> dict[str, Any]:
    """Of a training on squares."""
    return SQUARES_BUDGET | _more(profile)


def _more(profile: Profile) -> dict[str, Any]:
    return {} if profile == "quick" else {"steps": 3_000, "pretrain_steps": 3_000}


def trials(profile: Profile) -> list[Trial]:
    """Supervised and FixMatch on squares first, seed by seed; then y3, the rest, and the diagnosis."""
    of_squares, of_y3 = budget_of(profile), QUICK_BUDGET | _more(profile)
    first, rest = [SUPERVISED, *FIXMATCH.values()], [cell for cell in NETWORKS if cell not in ON_Y3[:3]]
    made = [
        Trial(
            "simple features across grids",
            {"data": ACROSS, "cell": None, "budget": {}, "profile": profile},
            0,
        )
    ]

    def on_squares(cells: Sequence[Cell]) -> list[Trial]:
        return [
            trial_of(grid, cell, seed, of_squares, profile)
            for seed in SEEDS
            for grid in GRIDS
            for cell in cells
        ]

    made += [trial_of(grid, Cell(FEATURES), seed, {}, profile) for seed in SEEDS for grid in GRIDS]
    made += on_squares(first)
    made += [trial_of(Y3, cell, seed, of_y3, profile) for seed in Y3_SEEDS for cell in ON_Y3]
    made += on_squares(rest)
    made += [
        trial_of(grid, Cell(KEPT), seed, of_squares, profile) for seed in KEPT_SEEDS for grid in GRIDS
    ]  # fmt: skip
    return made


def trial_of(data: str, cell: Cell, seed: int, budget: dict[str, Any], profile: Profile) -> Trial:
    """The trial of a cell; its parameters say all that its result depends on."""
    parameters = {"data": data, "cell": asdict(cell), "budget": budget, "profile": profile}
    return Trial(f"{cell.name} on {data}, seed {seed}", parameters, seed)


@dataclass(frozen=True)
class RunCell:
    """Runs one trial. folder : where simulated crops are kept."""

    folder: Path = Path(".study") / "kept"

    def in_folder(self, folder: Path) -> RunCell:
        """The same with another folder."""
        return replace(self, folder=folder)

    def __call__(self, trial: Trial) -> Json:
        """Scores of the rest of a grid (`macro`, `accuracy`), of y3 (`accuracy`, ...), or a diagnosis."""
        data, budget = trial.parameters["data"], trial.parameters["budget"]
        if data == ACROSS:
            return across_grids()
        cell = Cell(**trial.parameters["cell"])
        if data == Y3:
            return _on_y3(cell, trial.seed, budget, self.folder)
        if cell.method == KEPT:
            return _kept(data, trial.seed, budget)
        return _within_grid(data, cell, trial.seed, budget)


def grid_part(grid: str, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """(squares of a grid, their classes, which are labelled): 10 of every class, of a small one half."""
    images, classes, sample = squares()
    inside = sample == grid
    truth = classes[inside]
    labelled = np.zeros(len(truth), dtype=np.bool_)
    rng = np.random.default_rng([seed, 2])
    for each in range(CLASSES):
        rows = rng.permutation(np.flatnonzero(truth == each))
        labelled[rows[: min(MOST_LABELS_PER_CLASS, len(rows) // 2)]] = True
    return images[inside], truth, labelled


def _within_grid(grid: str, cell: Cell, seed: int, budget: dict[str, Any]) -> Json:
    from cryoscout.perception import fit

    images, truth, labelled = grid_part(grid, seed)
    rest = ~labelled
    if cell.method == FEATURES:
        guessed = nearest_class(features(images[labelled]), truth[labelled], features(images[rest]))
        return _judged(guessed, truth[rest])
    labels, given = np.where(labelled, truth, -1), {}
    method = cell.method.replace("-", "_")
    if cell.method == ALIGN_TRUE:
        # A label's weight enters neither loss nor sampling: it only makes the shares that pseudo-labels are aligned to.
        method, shares = "align", np.bincount(truth) / np.bincount(truth[labelled])
        given = {"weights": shares[truth], "weights_in_loss": False, "weights_in_sampling": False}
    if cell.selection == "last, 8 held out":
        # One look, at the end: the weights of the last step are the best of one.
        given["evaluate_every"] = budget["steps"]
    began = time.perf_counter()
    trained = fit(
        images, labels, method, "quick", seed, truth=truth, classes=CLASSES, augmentation=cell.augmentation,
        held_out=0.0 if cell.selection == "last" else 0.2, **{**budget, **given},
    )  # fmt: skip
    guessed = trained.predict_proba(images[rest]).argmax(axis=1)
    return {
        **_judged(guessed, truth[rest]),
        "labels": int(labelled.sum()),
        "held_out": trained.notes["held_out_labels"],
        "pseudo_label_accuracy": trained.notes["pseudo_label_accuracy"],
        "mask_rate": trained.notes["mask_rate"],
        "precision": trained.notes["precision"],
        "seconds": round(time.perf_counter() - began, 1),
    }


def _judged(guessed: NDArray[np.int64], truth: NDArray[np.int64]) -> Json:
    """Share right, and its mean over the classes."""
    right = guessed == truth
    recalls = [float(right[truth == each].mean()) for each in np.unique(truth)]
    return {"macro": float(np.mean(recalls)), "accuracy": float(right.mean()), "tested": len(truth)}


def _on_y3(cell: Cell, seed: int, budget: dict[str, Any], folder: Path) -> Json:
    from cryoscout.belief.evaluation import evaluate_predictions
    from cryoscout.perception import fit

    crops = crops_of(Y3, seed, folder)
    test, good = held_back(crops.scene, Y3, "patch"), crops.good()
    labelled = label_rows(~test, Y3_LABELS, seed)
    began = time.perf_counter()
    trained = fit(
        crops.images[~test], np.where(labelled, good, -1)[~test], cell.method, "quick", seed,
        truth=good[~test], threshold_angstrom=GOOD_THRESHOLD_ANGSTROM, augmentation=cell.augmentation, **budget,
    )  # fmt: skip
    p = trained.predict_proba(crops.images[test])[:, 1]
    scores = evaluate_predictions(p, good[test].astype(np.float64), np.random.default_rng(0))
    return {
        "accuracy": scores.accuracy, "auc": scores.auc, "brier_skill": scores.brier_skill,
        "pseudo_label_accuracy": trained.notes["pseudo_label_accuracy"], "mask_rate": trained.notes["mask_rate"],
        "precision": trained.notes["precision"], "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def _kept(grid: str, seed: int, budget: dict[str, Any]) -> Json:
    """How many squares keep their class under each change alone, to a network and to features that know all labels."""
    import torch

    from cryoscout.perception import augment, fit
    from cryoscout.perception.augmentations import EVERY_CHANGE
    from cryoscout.perception.scaling import scale_crops

    images, truth, _ = grid_part(grid, seed)
    small = scale_crops(images, budget["size_px"])
    trained = fit(small, truth, "supervised", "quick", seed, classes=CLASSES, held_out=0.0, **budget)
    before = trained.raw_proba(small).argmax(axis=1)
    pixels = torch.from_numpy(small)[:, None].float() / 255.0

    def kept(changed: NDArray[np.uint8]) -> Json:
        return {
            "network": float((trained.raw_proba(changed).argmax(axis=1) == before).mean()),
            "features": float((nearest_class(features(small), truth, features(changed)) == truth).mean()),
        }

    found: Json = {}
    for change in sorted(EVERY_CHANGE):
        generator = torch.Generator().manual_seed(seed)
        changed = augment.strong(pixels, generator, frozenset((change,)))
        found[change] = kept((changed[:, 0] * 255.0).round().byte().numpy())
    return {"kept": found, "precision": trained.notes["precision"]}


def features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 7) of squares (n, h, w): brightness, how large the bright part is, how bright it is and how it varies."""
    grey = images.reshape(len(images), -1) / 255.0
    tenth, half, ninth = np.quantile(grey, [0.1, 0.5, 0.9], axis=1)
    bright = grey > ((tenth + ninth) / 2.0)[:, None]
    area = bright.mean(axis=1)
    level = np.where(bright, grey, 0.0).sum(axis=1) / np.maximum(bright.sum(axis=1), 1)
    spread = np.sqrt(
        np.where(bright, (grey - level[:, None]) ** 2, 0.0).sum(axis=1) / np.maximum(bright.sum(axis=1), 1)
    )
    return np.stack([grey.mean(axis=1), tenth, half, ninth, area, level, spread], axis=1)


def nearest_class(
    known: NDArray[np.float64], classes: NDArray[np.int64], asked: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(m,) class of the nearest of the known squares, each feature in units of its spread among them.

    known : (n, k) features     classes : (n,)     asked : (m, k)
    """
    spread = known.std(axis=0) + 1e-9
    away = ((asked[:, None] - known) / spread) ** 2
    return np.asarray(classes[away.sum(axis=2).argmin(axis=1)])


def across_grids() -> Json:
    """Features with all labels: squares left out at random, and whole grids left out."""
    images, classes, sample = squares()
    x = features(images)
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    guessed = np.empty_like(classes)
    for each in range(FOLDS):
        held = fold == each
        guessed[held] = nearest_class(x[~held], classes[~held], x[held])
    left_out = {}
    for grid in GRIDS:
        held = sample == grid
        left_out[grid] = _judged(nearest_class(x[~held], classes[~held], x[held]), classes[held])
    return {"mixed": _judged(guessed, classes), "left_out": left_out}
