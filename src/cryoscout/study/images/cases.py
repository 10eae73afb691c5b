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
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.new_files import whole_file
from cryoscout.core.ties import order_lowest_first
from cryoscout.core.units import FAILED_FIT_ANGSTROM, GOOD_THRESHOLD_ANGSTROM
from cryoscout.perception.settings import PROFILES
from cryoscout.study.engine.catalogue import Profile
from cryoscout.study.engine.runner import Json, Trial

if TYPE_CHECKING:
    from cryoscout.perception import Classifier
    from cryoscout.perception.prepare import Labels
    from cryoscout.perception.teaching import Places, Taught
    from cryoscout.simulate.scene import Scene
    from cryoscout.simulate.scene_settings import SceneSettings

Level = Literal["patch", "square"]

TEST_SHARE = 0.25
_SPLIT_SEED = 0
FULL = "full"
PSEUDO_LABEL = "pseudo-label"
OWN_PSEUDO_LABEL = "own-pseudo-label"
TAUGHT = (PSEUDO_LABEL, OWN_PSEUDO_LABEL)
Y1_ICE_IN_Y3 = "y1-sim@y3"
"""In the place of a preset: the ice and the images of y1-sim, where kinds of holes are visible, at y3's counts."""
AT_QUICK = "@quick"
"""After a method: with the budget that `cryoscout train` has in its profile quick."""
REGRESSION = "regression"
REGRESSION_THRESHOLDS_ANGSTROM = (3.5, 4.0, 6.0)
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
    """One row of the study, all but the seed, which draws the simulated session, the labels and the first weights.

    session : preset of a simulated session, or one of DIRECTIONS
    method : as on the command line; `full` (supervised with all labels); `pseudo-label`, taught by the belief;
        `own-pseudo-label`, the same taught by itself; any of them with AT_QUICK
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
    if case.method.endswith(AT_QUICK):
        return {name: PROFILES["quick"][name] for name in ("size_px", "width", "steps")}
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
        """Scores of the test part: `{"scores": {"": ..., "+belief": ...}, "training": ..., "rounds": [...]}`.

        Of a regression `"thresholds"` holds the scores at each of REGRESSION_THRESHOLDS_ANGSTROM.
        """
        case = Case(**trial.parameters["case"])
        profile, budget = trial.parameters["profile"], trial.parameters["budget"]
        if case.session in DIRECTIONS:
            return _run_squares(case, trial.seed, budget)
        crops = crops_of(case.session, trial.seed, self.folder)
        if case.method == REGRESSION:
            return _run_regression(case, trial.seed, profile, budget, crops)
        return _run_session(case, trial.seed, profile, budget, crops)


@dataclass(frozen=True)
class Crops:
    """A simulated session as a training takes it."""

    images: NDArray[np.uint8]  # (n, h, w)
    ctf_angstrom: NDArray[np.float64]  # (n,) inf where the fit failed
    scene: Scene

    def good(self, threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM) -> NDArray[np.int64]:
        """(n,) 0 or 1."""
        return (self.ctf_angstrom <= threshold_angstrom).astype(np.int64)


@lru_cache(maxsize=2)
def crops_of(preset: str, seed: int, folder: Path) -> Crops:
    """The crops of a preset's session of that seed, rendered once and kept in the folder.

    preset : as of the simulator, or Y1_ICE_IN_Y3
    """
    from filelock import FileLock

    from cryoscout.simulate.images import crops_in_order
    from cryoscout.simulate.presets import image_settings_named
    from cryoscout.simulate.scene import simulate_scene

    scene = simulate_scene(scene_of(preset), seed)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"crops-{preset}-{seed}.npy"
    with FileLock(file.with_suffix(".lock")):
        if not file.is_file():
            ids = [str(patch) for patch in range(len(scene.square_of_patch))]
            optics = image_settings_named(preset.removesuffix("@y3"))
            made = np.concatenate([crops for _, crops in crops_in_order(scene, ids, optics)])
            with whole_file(file) as unfinished:
                np.save(unfinished, made, allow_pickle=False)
    images = np.load(file, allow_pickle=False)
    return Crops(images, scene.ctf_max_res_angstrom[:, 0], scene)


def scene_of(preset: str) -> SceneSettings:
    """Of a preset of the simulator, or of Y1_ICE_IN_Y3."""
    from cryoscout.simulate.presets import scene_named

    if preset != Y1_ICE_IN_Y3:
        return scene_named(preset)
    y3, counts = scene_named("y3"), ("holes", "patches", "squares", "grids")
    return scene_named("y1-sim").model_copy(update={name: getattr(y3, name) for name in counts})


def held_back(scene: Scene, preset: str, split: Level) -> NDArray[np.bool_]:
    """(n,) holes of the test part: the preset's own split, where it has none a quarter of the patches or squares."""
    from cryoscout.session.splits import split_by
    from cryoscout.simulate.presets import y3_validation

    if preset in ("y3", Y1_ICE_IN_Y3) and split == "patch":
        return y3_validation(scene)
    level = scene.patch_of_hole if split == "patch" else scene.square_of_hole
    return split_by(level, TEST_SHARE, np.random.default_rng(_SPLIT_SEED))


def _run_session(case: Case, seed: int, profile: str, budget: dict[str, Any], crops: Crops) -> Json:
    from cryoscout.perception import fit

    part = _Part.of(case, seed, crops)
    good, patch = crops.good(), crops.scene.patch_of_hole
    began = time.perf_counter()
    rounds: list[Json] = []

    def judge_round(classifier: Classifier) -> None:
        p = classifier.predict_proba(crops.images[part.test])[:, 1]
        rounds.append(_binary(p, good[part.test], patch[part.test])["short"])

    def trained_by(labels: Labels, method: str, **given: Any) -> Classifier:
        return fit(
            crops.images[~part.test], labels, method, profile, seed,
            truth=good[~part.test], threshold_angstrom=GOOD_THRESHOLD_ANGSTROM, **given, **budget,
        )  # fmt: skip

    name, teaching = case.method.removesuffix(AT_QUICK), {}
    if name in TAUGHT:
        first = trained_by(part.labels(good), "supervised")
        p = first.predict_proba(crops.images)[:, 1]
        learned = part.learned(first, good)
        if name == PSEUDO_LABEL:
            p = part.with_belief(p, good, learned, crops.scene)
        lesson = part.taught(p, good)
        teaching = _teaching(lesson, good[~part.test])
        held_out = (part.labelled & ~learned)[~part.test]
        trained = trained_by(
            lesson.labels, "pseudo_label", weights=lesson.weights, held_out=held_out, start_from=first
        )
        learned = part.learned(trained, good, held_out)
    else:
        method = "supervised" if name == FULL else name.replace("-", "_")
        trained = trained_by(part.labels(good), method, after_round=judge_round)
        learned = part.learned(trained, good)
    seconds = time.perf_counter() - began
    return {
        "scores": part.scores(trained.predict_proba(crops.images)[:, 1], good, learned, crops.scene),
        "rounds": rounds,
        "training": {**part.training(trained, seconds), **teaching},
    }


def _teaching(lesson: Taught, good: NDArray[np.int64]) -> Json:
    """Of the guesses that a training was given: their mean weight, and how many are right, so weighted."""
    right = lesson.share_right(good)
    return {
        "mask_rate": lesson.mean_weight(),
        "pseudo_label_accuracy": None if np.isnan(right) else right,
    }


def _run_regression(case: Case, seed: int, profile: str, budget: dict[str, Any], crops: Crops) -> Json:
    from cryoscout.perception import fit_ctf

    part = _Part.of(case, seed, crops)
    ctf = np.where(np.isinf(crops.ctf_angstrom), FAILED_FIT_ANGSTROM, crops.ctf_angstrom)
    began = time.perf_counter()
    known = np.where(part.labelled, ctf, np.nan)[~part.test]
    trained = fit_ctf(crops.images[~part.test], known, profile, seed, **budget)
    seconds = time.perf_counter() - began
    learned = part.learned(trained, ctf)
    thresholds = {
        f"{angstrom:g}": part.scores(
            trained.p_good(crops.images, angstrom), crops.good(angstrom), learned, crops.scene
        )
        for angstrom in REGRESSION_THRESHOLDS_ANGSTROM
    }
    at_good = thresholds[f"{GOOD_THRESHOLD_ANGSTROM:g}"]
    return {
        "scores": at_good,
        "thresholds": thresholds,
        "rounds": [],
        "training": part.training(trained, seconds),
    }


@dataclass(frozen=True)
class _Part:
    """Which holes are for the test, and which of the others have a label."""

    seed: int
    test: NDArray[np.bool_]  # (n,)
    labelled: NDArray[np.bool_]  # (n,)

    @classmethod
    def of(cls, case: Case, seed: int, crops: Crops) -> _Part:
        test = held_back(crops.scene, case.session, case.split)
        return cls(seed, test, label_rows(~test, case.labels, seed))

    def labels(self, good: NDArray[np.int64]) -> NDArray[np.int64]:
        """(m,) of the training part, -1 unlabelled."""
        return np.where(self.labelled, good, -1)[~self.test]

    def learned(
        self,
        trained: Classifier,
        known: NDArray[np.int64] | NDArray[np.float64],
        held_out: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.bool_]:
        """(n,) holes whose label the network was fitted to.

        known : (n,) class or CTF resolution, as it was trained on     held_out : (m,) as the training got it
        """
        from cryoscout.perception.from_session import learned_from

        learned = np.zeros(len(self.test), dtype=np.bool_)
        told = np.where(self.labelled, known, np.nan)[~self.test]
        learned[~self.test] = learned_from(trained, told, held_out)
        return learned

    def with_belief(
        self,
        p: NDArray[np.float64],
        good: NDArray[np.int64],
        learned: NDArray[np.bool_],
        scene: Scene,
    ) -> NDArray[np.float64]:
        """(n,) p_good given the labels of the session's other holes."""
        from cryoscout.perception.teaching import believed

        return believed(p, np.where(self.labelled, good, -1), learned, _places(scene))

    def taught(self, p: NDArray[np.float64], good: NDArray[np.int64]) -> Taught:
        """Labels of the training part, (m,), guessed by p_good of all holes where there is none."""
        from cryoscout.perception.teaching import taught

        return taught(self.labels(good), p[~self.test])

    def scores(
        self,
        p: NDArray[np.float64],
        good: NDArray[np.int64],
        learned: NDArray[np.bool_],
        scene: Scene,
    ) -> dict[str, Json]:
        """Of the test part, without and with the belief."""
        with_belief = self.with_belief(p, good, learned, scene)
        patch = scene.patch_of_hole[self.test]
        return {
            "": _binary(p[self.test], good[self.test], patch),
            "+belief": _binary(with_belief[self.test], good[self.test], patch),
        }

    def training(self, trained: Classifier, seconds: float) -> Json:
        """What the training was."""
        return {
            "seconds": round(seconds, 1), "labels": int(self.labelled.sum()), "holes": int((~self.test).sum()),
            "steps": trained.settings.steps, "size_px": trained.settings.size_px, "width": trained.settings.width,
            "set_aside": len(trained.set_aside), **_metrics(trained),
        }  # fmt: skip


def _places(scene: Scene) -> Places:
    from cryoscout.perception.teaching import Places

    tree = HoleTree(scene.patch_of_hole, scene.square_of_patch, scene.grid_of_square)
    return Places(scene.patch_of_hole, tree, scene.x_um, scene.y_um)


def label_rows(training: NDArray[np.bool_], share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) training holes whose label is used; the same for every method of a seed."""
    from cryoscout.session.splits import label_fraction

    chosen = training.copy()
    chosen[training] = label_fraction(training[training], share, np.random.default_rng([seed, 2]))
    return chosen


def _binary(p: NDArray[np.float64], good: NDArray[np.int64], patch: NDArray[np.int32]) -> Json:
    """Scores, and what the reliability diagram needs."""
    from cryoscout.belief.evaluation import evaluate_predictions

    scores = evaluate_predictions(p, good.astype(np.float64), np.random.default_rng(0), cluster_of_hole=patch)
    bins = np.array_split(order_lowest_first(p), RELIABILITY_BINS)
    plain = asdict(scores)
    low, high = plain.pop("ece_interval")
    return {
        **plain,
        "ece_plugin": plain["ece"], "ece": plain["ece_debiased"], "ece_low": low, "ece_high": high,
        "reliability": [[float(p[rows].mean()), float(good[rows].mean())] for rows in bins],
        "share_good": float(good.mean()),
        "short": {"accuracy": scores.accuracy, "precision": scores.precision},
    }  # fmt: skip


def _metrics(trained: Classifier) -> Json:
    notes = trained.notes
    names = ("held_out_accuracy", "mask_rate", "pseudo_label_accuracy", "precision")
    return {name: notes.get(name) for name in names}


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
        "training": {
            "seconds": round(time.perf_counter() - began, 1), "labels": int((labels >= 0).sum()),
            "precision": trained.notes["precision"],
        },
    }  # fmt: skip
