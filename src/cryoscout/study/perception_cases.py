"""What the study `perception` trains, one case per trial: crops, labels, a method, and the scores on the test part.

The simulated sessions stand for the paper's, whose images are not public; the squares are real.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.study.catalogue import Profile
from cryoscout.study.runner import Json, Trial

if TYPE_CHECKING:
    from cryoscout.perception import Classifier
    from cryoscout.simulate.scene import Scene

Level = Literal["patch", "square"]

SESSION_SEED = 0
TEST_SHARE = 0.25
FULL = "full"
SQUARES = "squares"
LABELS_PER_CLASS = 10
RELIABILITY_BINS = 10

QUICK_BUDGET: dict[str, Any] = {
    "size_px": 32, "width": 16, "steps": 600, "pretrain_steps": 600, "evaluate_every": 100,
}  # fmt: skip
"""Smaller than the quick profile of `fit` (64 px, width 32, 1,500 steps), so that all trials end in an hour or two."""

SQUARES_BUDGET: dict[str, Any] = {
    "size_px": 48, "width": 16, "steps": 300, "batch_size": 16, "evaluate_every": 100, "held_out": 0.0,
}  # fmt: skip
"""Nothing is held out of 40 labels: the averaged weights of the last step are used."""

_ONE, _OTHER = ("Sample2", "Sample3"), ("Sample5",)
DIRECTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "squares of Sample2 and Sample3, tested on Sample5": (_ONE, _OTHER),
    "squares of Sample5, tested on Sample2 and Sample3": (_OTHER, _ONE),
    "squares of Sample2 and Sample3, tested on their other half": (_ONE, _ONE),
    "squares of Sample5, tested on its other half": (_OTHER, _OTHER),
}
"""Name -> grids of the training part and of the test part; the same ones are halved by the seed, class by class."""


@dataclass(frozen=True)
class Case:
    """One row of the study, all but the seed.

    session : preset of a simulated session, or one of DIRECTIONS     method : as on the command line, or `full`
    labels : share of the training holes whose label is used; of squares, 0
    split : what lies whole in the training or in the test part
    """

    session: str
    method: str
    labels: float
    split: Level = "patch"

    @property
    def name(self) -> str:
        """For people and for the trial's name."""
        of_labels = (
            ""
            if self.session in DIRECTIONS
            else f" with {self.labels:.0%} of the labels, split by {self.split}"
        )
        return f"{self.method} on {self.session}{of_labels}"

    @property
    def key(self) -> tuple[str, str, float, str]:
        """Identifies the row within the study."""
        return self.session, self.method, self.labels, self.split


def budget_of(case: Case, profile: Profile) -> dict[str, Any]:
    """What a case's trainings have in place of the settings of the profile."""
    if case.session in DIRECTIONS:
        return SQUARES_BUDGET if profile == "quick" else {**SQUARES_BUDGET, "steps": 3_000}
    return QUICK_BUDGET if profile == "quick" else {}


def trial_of(case: Case, seed: int, profile: Profile) -> Trial:
    """The trial of a case and seed; its parameters say all that its result depends on."""
    parameters = {"case": asdict(case), "profile": profile, "budget": budget_of(case, profile)}
    return Trial(f"{case.name}, seed {seed}", parameters, seed)


@dataclass(frozen=True)
class RunCase:
    """Runs one trial. folder : where simulated crops are kept."""

    folder: Path = Path(".study") / "kept"

    def in_folder(self, folder: Path) -> RunCase:
        """The same with another folder."""
        return replace(self, folder=folder)

    def __call__(self, trial: Trial) -> Json:
        """Scores of the test part: `{"scores": {"": ..., "+belief": ...}, "training": ..., "rounds": [...]}`."""
        case = Case(**trial.parameters["case"])
        profile, budget = trial.parameters["profile"], trial.parameters["budget"]
        if case.session in DIRECTIONS:
            return _run_squares(case, trial.seed, budget)
        return _run_session(case, trial.seed, profile, budget, self.folder)


@dataclass(frozen=True)
class Crops:
    """A simulated session as a training takes it."""

    images: NDArray[np.uint8]  # (n, h, w)
    good: NDArray[np.int64]  # (n,) 0 or 1
    scene: Scene


@lru_cache(maxsize=2)
def crops_of(preset: str, folder: Path) -> Crops:
    """The crops of a preset's session, rendered once and kept in the folder."""
    from filelock import FileLock

    from cryoscout.simulate.image_settings import ImageSettings
    from cryoscout.simulate.images import crops_in_order
    from cryoscout.simulate.presets import scene_named
    from cryoscout.simulate.scene import simulate_scene

    scene = simulate_scene(scene_named(preset), SESSION_SEED)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"crops-{preset}.npy"
    with FileLock(file.with_suffix(".lock")):
        if not file.is_file():
            ids = [str(patch) for patch in range(len(scene.square_of_patch))]
            made = np.concatenate([crops for _, crops in crops_in_order(scene, ids, ImageSettings())])
            part = file.with_suffix(".part.npy")
            np.save(part, made, allow_pickle=False)
            part.replace(file)
    images = np.load(file, allow_pickle=False)
    good = (scene.ctf_max_res_angstrom[:, 0] <= GOOD_THRESHOLD_ANGSTROM).astype(np.int64)
    return Crops(images, good, scene)


def held_back(scene: Scene, preset: str, split: Level) -> NDArray[np.bool_]:
    """(n,) holes of the test part: the preset's own split, where it has none a quarter of the patches or squares."""
    from cryoscout.session.splits import split_by
    from cryoscout.simulate.presets import y3_validation

    if preset == "y3" and split == "patch":
        return y3_validation(scene)
    level = scene.patch_of_hole if split == "patch" else scene.square_of_hole
    return split_by(level, TEST_SHARE, np.random.default_rng(SESSION_SEED))


def _run_session(case: Case, seed: int, profile: str, budget: dict[str, Any], folder: Path) -> Json:
    from cryoscout.perception import fit

    crops = crops_of(case.session, folder)
    scene, n = crops.scene, len(crops.good)
    test = held_back(scene, case.session, case.split)
    labelled = _labelled(crops.good, ~test, case.labels, seed)
    labels = np.where(labelled, crops.good, -1)[~test]
    began = time.perf_counter()
    rounds: list[Json] = []

    def judge_round(classifier: Classifier) -> None:
        p = classifier.predict_proba(crops.images[test])[:, 1]
        rounds.append(_binary(p, crops.good[test], scene.patch_of_hole[test])["short"])

    method = "supervised" if case.method == FULL else case.method.replace("-", "_")
    trained = fit(
        crops.images[~test], labels, method, profile, seed,
        truth=crops.good[~test], threshold_angstrom=GOOD_THRESHOLD_ANGSTROM, after_round=judge_round, **budget,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    p = trained.predict_proba(crops.images)[:, 1]
    known = np.where(labelled, crops.good, np.nan)
    learned = np.zeros(n, dtype=np.bool_)
    learned[np.flatnonzero(~test)[trained_rows(labels, seed, trained)]] = True
    with_belief = _in_session(p, known, scene, learned)
    scores = {
        "": _binary(p[test], crops.good[test], scene.patch_of_hole[test]),
        "+belief": _binary(with_belief[test], crops.good[test], scene.patch_of_hole[test]),
    }
    return {
        "scores": scores,
        "rounds": rounds,
        "training": {
            "seconds": round(seconds, 1), "labels": int(labelled.sum()), "holes": int((~test).sum()),
            "steps": trained.settings.steps, "size_px": trained.settings.size_px, "width": trained.settings.width,
            "set_aside": len(trained.set_aside), **_metrics(trained),
        },
    }  # fmt: skip


def _labelled(
    good: NDArray[np.int64], training: NDArray[np.bool_], share: float, seed: int
) -> NDArray[np.bool_]:
    """(n,) training holes whose label is used; the same for every method of a seed."""
    from cryoscout.session.splits import label_fraction

    chosen = np.zeros(len(good), dtype=np.bool_)
    chosen[training] = True
    chosen[training] = label_fraction(chosen[training], share, np.random.default_rng([seed, 2]))
    return chosen


def trained_rows(labels: NDArray[np.int64], seed: int, trained: Classifier) -> NDArray[np.int64]:
    """Rows whose labels the network learned from: the labelled ones that were not held out."""
    from cryoscout.perception.prepare import split_held_out

    kept = np.setdiff1d(np.arange(len(labels)), np.asarray(trained.set_aside, dtype=np.int64))
    held = split_held_out(labels[kept], trained.settings.held_out, seed)
    return kept[(labels[kept] >= 0) & ~held]


def _in_session(
    p: NDArray[np.float64], labels: NDArray[np.float64], scene: Scene, learned: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(n,) p_good given the labels of the session's other holes."""
    from cryoscout.belief.effects import EffectTree
    from cryoscout.belief.in_session import predict_given_labels

    tree = EffectTree(scene.square_of_patch, scene.grid_of_square)
    found = predict_given_labels(
        p, labels, scene.patch_of_hole, tree, scene.x_um, scene.y_um, "effects+stage", learned_from=learned
    )
    return found.p_good


def _binary(p: NDArray[np.float64], good: NDArray[np.int64], patch: NDArray[np.int32]) -> Json:
    """Scores, and what the reliability diagram needs."""
    from cryoscout.belief.evaluation import evaluate_predictions

    scores = evaluate_predictions(p, good.astype(np.float64), np.random.default_rng(0), cluster_of_hole=patch)
    bins = np.array_split(np.argsort(p, kind="stable"), RELIABILITY_BINS)
    plain = asdict(scores)
    low, high = plain.pop("ece_interval")
    return {
        **plain,
        "ece_plugin": plain["ece"], "ece": plain["ece_debiased"], "ece_low": low, "ece_high": high,
        "reliability": [[float(p[rows].mean()), float(good[rows].mean())] for rows in bins],
        "short": {"accuracy": scores.accuracy, "precision": scores.precision},
    }  # fmt: skip


def _metrics(trained: Classifier) -> Json:
    notes = trained.notes
    return {name: notes.get(name) for name in ("held_out_accuracy", "mask_rate", "pseudo_label_accuracy")}


@lru_cache(maxsize=1)
def squares() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.str_]]:
    """(375, 48, 48) real grid squares, their classes 0 to 3 (EPU's categories 3 and 4 are one), and their grids."""
    source = files("cryoscout.study").joinpath("data/emharvest_squares.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as found:
        classes = np.minimum(found["category"], 3).astype(np.int64)
        return found["images"], classes, found["sample"]


def squares_parts(direction: str, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(375,) squares of the training and of the test part."""
    _, classes, sample = squares()
    learned_on, tested_on = (np.isin(sample, grids) for grids in DIRECTIONS[direction])
    if DIRECTIONS[direction][0] == DIRECTIONS[direction][1]:
        rng = np.random.default_rng([seed, 3])
        for each in np.unique(classes):
            rows = rng.permutation(np.flatnonzero(tested_on & (classes == each)))
            learned_on[rows[: len(rows) // 2]] = False
        tested_on &= ~learned_on
    return learned_on, tested_on


def _run_squares(case: Case, seed: int, budget: dict[str, Any]) -> Json:
    from cryoscout.perception import fit

    images, classes, _ = squares()
    training, test = squares_parts(case.session, seed)
    inside, truth = images[training], classes[training]
    rng = np.random.default_rng([seed, 2])
    labels = np.full(len(truth), -1, dtype=np.int64)
    for each in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(truth == each))[:LABELS_PER_CLASS]
        if len(rows) < LABELS_PER_CLASS:
            raise InputError(
                f"A class must have {LABELS_PER_CLASS} squares to label. Got {len(rows)} of class {each} instead."
            )
        labels[rows] = each
    if case.method == FULL:
        labels = truth
    method = "supervised" if case.method == FULL else case.method.replace("-", "_")
    began = time.perf_counter()
    trained = fit(inside, labels, method, "quick", seed, truth=truth, classes=4, **budget)
    right = trained.predict_proba(images[test]).argmax(axis=1) == classes[test]
    recalls = [float(right[classes[test] == each].mean()) for each in np.unique(classes)]
    return {
        "scores": {"": {"accuracy": float(right.mean()), "mean_recall": float(np.mean(recalls))}},
        "training": {"seconds": round(time.perf_counter() - began, 1), "labels": int((labels >= 0).sum())},
    }
