"""What the study `ssl2rl` runs, one case per trial: a method on a simulated y3, judged on its validation part."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.coupling.hole_routes import REWARD, WITHOUT_WINDOWS, HoleRoutes
from cryoscout.coupling.holes import BeliefTeacher, HolePerception
from cryoscout.coupling.lesson import UNLABELLED, Told
from cryoscout.coupling.loop import Loop
from cryoscout.coupling.settings import CoupleSettings, couple_settings, is_agent
from cryoscout.perception.teaching import Places
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.session.splits import HELD_OUT_STREAM, hold_out
from cryoscout.study.engine.catalogue import Profile
from cryoscout.study.engine.runner import Json, Trial
from cryoscout.study.images.cases import Crops, crops_of, held_back, label_rows

if TYPE_CHECKING:
    from cryoscout.perception import Classifier
    from cryoscout.routing.policies.base import Policy
    from cryoscout.simulate.scene import Scene

PRESET = "y3"
BUDGET_MIN = 480.0
STARTS = 20
JUDGES = ("index", "adaptive")
"""Policies that the reward of a method without a policy of its own is measured with."""

SUPERVISED, FIXMATCH, ITERATIVE, FULL = "supervised", "fixmatch", "iterative-fixmatch", "full"
BELIEF, OWN, EXACT = "belief", "own", "exact"
ROUTE_120, ROUTE_480 = "ssl2rl-120", "ssl2rl-480"
RANKS, VALUES = "ranks", "values"
ONE_TRAINING = (SUPERVISED, FIXMATCH, FULL)
ROUTES = (ROUTE_120, ROUTE_480)

QUICK_BUDGET: dict[str, Any] = {
    "size_px": 32, "width": 16, "steps": 600, "evaluate_every": 100, "augmentation": "hole",
}  # fmt: skip
"""Of every training, the pretraining and each fine-tuning; small, because the quick profile takes hours as it is."""
PAPER_ROUNDS, PAPER_EPOCHS = 10, 20


@dataclass(frozen=True)
class Case:
    """One row, all but the seed, which draws the session, the labels and the first weights.

    driver : whose routes teach; of methods without a route "", and the reward is measured with each of JUDGES, or an
        agent that is trained on the classifier's pseudo-rewards, as the paper measures them, and teaches nothing
    labels : share of the training holes whose label is used
    changes : fields of CoupleSettings that differ; of methods of one training, of FitSettings
    variant : what differs is called so in tables     augmentation : "": the study's
    preset : of the simulated session
    """

    method: str
    labels: float
    driver: str = ""
    variant: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    augmentation: str = ""
    preset: str = PRESET

    @property
    def name(self) -> str:
        """For people, and for the trial's name."""
        by = f", {self.driver}" if self.driver else ""
        return (
            f"{self.method}{by}{', ' + self.variant if self.variant else ''}, {self.labels:.0%} of the labels"
        )

    @property
    def key(self) -> tuple[str, float, str, str]:
        """Identifies the row."""
        return self.method, self.labels, self.driver, self.variant

    @property
    def judges(self) -> tuple[str, ...]:
        """Policies that the reward is measured with."""
        return (self.driver,) if self.driver else JUDGES


def loop_settings(case: Case, seed: int, profile: Profile) -> CoupleSettings:
    """Of the loop behind a case; `own` and `exact` are `belief` with another teacher."""
    if case.method in (BELIEF, OWN, EXACT):
        return couple_settings(case.method, seed=seed, **case.changes)
    if case.method == ITERATIVE:
        # The paper's baseline: the classifier's own likelier class in the place of the route's, all else the same.
        rounds = 2 if profile == "quick" else PAPER_ROUNDS
        given = {"form": "hard", "keep": "best", "unsupervised_weight": 1.0, "rounds": rounds}
        return couple_settings("own", seed=seed, **{**given, **case.changes})
    if case.method == RANKS:
        return couple_settings("ranks", case.driver or "index", seed=seed, **case.changes)
    if case.method == VALUES:
        return couple_settings("values", "double", seed=seed, **case.changes)
    minutes = 120.0 if case.method == ROUTE_120 else 480.0
    more: dict[str, Any] = {}
    if profile == "paper":
        more = {"rounds": PAPER_ROUNDS, "epochs": PAPER_EPOCHS, "later_epochs": None}
    return couple_settings("route", case.driver, seed=seed, minutes=minutes, **{**more, **case.changes})


def trial_of(case: Case, seed: int, profile: Profile, *, rewards: bool = True) -> Trial:
    """The trial of a case and seed; its parameters say all that its result depends on.

    rewards : False: the classifier's scores alone, for trials that settings are chosen by
    """
    budget = dict(QUICK_BUDGET) if profile == "quick" else {}
    budget["augmentation"] = case.augmentation or QUICK_BUDGET["augmentation"]
    if case.method in ONE_TRAINING:
        budget |= case.changes
    judges = list(case.judges) if rewards else []
    parameters = {"case": asdict(case), "profile": profile, "budget": budget, "judges": judges}
    if case.method in ROUTES and case.driver not in WITHOUT_WINDOWS:
        # What their results depend on beside the case; of no other method does it change anything.
        later = loop_settings(case, seed, profile).later_epochs
        parameters["routes"] = {"windows_end": "before the crossing visit", "later_epochs": later}
    return Trial(f"{case.name}, seed {seed}", parameters, seed)


@dataclass(frozen=True)
class Scenes:
    """A simulated session in its two parts: `inside` what is learned from, `test` what is judged."""

    crops: Crops
    test: NDArray[np.bool_]  # (n,)
    labelled: NDArray[np.bool_]  # (n,) of the training part

    @classmethod
    def of(cls, labels: float, seed: int, folder: Path, preset: str = PRESET) -> Scenes:
        """Of a seed; with one seed fewer labels are among the more."""
        crops = crops_of(preset, seed, folder)
        test = held_back(crops.scene, preset, "patch")
        return cls(crops, test, label_rows(~test, labels, seed))

    @property
    def good(self) -> NDArray[np.int64]:
        """(n,) 0 or 1."""
        return self.crops.good()

    def tree(self, part: NDArray[np.bool_]) -> HoleTree:
        """Of a part that holds whole patches, numbered anew."""
        return tree_of(self.crops.scene, part)

    def told(self, seed: int) -> Told:
        """What the training part is told, (m,)."""
        inside = ~self.test
        labels = np.where(self.labelled, self.good, UNLABELLED)[inside]
        patches = self.crops.scene.patch_of_hole[inside]
        held = hold_out(labels, patches, 0.2, np.random.default_rng([seed, HELD_OUT_STREAM]))
        return Told(labels, held)

    def places(self) -> Places:
        """Of the training part."""
        inside, scene = ~self.test, self.crops.scene
        tree = self.tree(inside)
        return Places(tree.patch_of_hole, tree, scene.x_um[inside], scene.y_um[inside])


def tree_of(scene: Scene, part: NDArray[np.bool_]) -> HoleTree:
    """Of a part of a scene that holds whole patches, numbered anew."""
    patches, patch = np.unique(scene.patch_of_hole[part], return_inverse=True)
    squares, square = np.unique(scene.square_of_patch[patches], return_inverse=True)
    _, grid = np.unique(scene.grid_of_square[squares], return_inverse=True)
    return HoleTree(patch.astype(np.int32), square.astype(np.int32), grid.astype(np.int32))


@dataclass(frozen=True)
class RunCase:
    """Runs one trial. folder : where crops, pretrained classifiers and unfinished loops are kept."""

    folder: Path = Path(".study") / "kept"

    def in_folder(self, folder: Path) -> RunCase:
        """The same with another folder."""
        return replace(self, folder=folder)

    def __call__(self, trial: Trial) -> Json:
        """`{"chosen", "rounds": [{"number", "scores", "rewards": {policy: {reward, good}}, "report"}], ...}`.

        Scores and rewards are those of the validation part; a loop that was stopped goes on at its last round.
        """
        given = trial.parameters
        case, profile, budget = Case(**given["case"]), given["profile"], dict(given["budget"])
        judges = tuple(given["judges"])
        scenes = Scenes.of(case.labels, trial.seed, self.folder, case.preset)
        began = time.perf_counter()
        if case.method in ONE_TRAINING:
            model = self._one_training(case, scenes, trial.seed, profile, budget)
            trained = self._judge(
                case, model, scenes, trial.seed, profile, self._home(case, trial.seed, profile, budget)
            )
            measured = [{"number": 0, **judged(model, scenes, judges, trained), "report": None}]
            chosen, report = 0, None
        else:
            measured, chosen, report = self._loop(case, scenes, trial.seed, profile, budget, judges)
        return {
            "chosen": chosen, "rounds": measured, "report": report,
            "labels": int(scenes.labelled.sum()), "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip

    def _one_training(
        self, case: Case, scenes: Scenes, seed: int, profile: Profile, budget: dict[str, Any]
    ) -> Classifier:
        from cryoscout.perception import fit

        if case.method == FIXMATCH:
            return self._fixmatch(case, scenes, seed, profile, budget)
        told = scenes.told(seed)
        return fit(
            scenes.crops.images[~scenes.test], told.labels, "supervised", profile, seed, held_out=told.held_out,
            threshold_angstrom=GOOD_THRESHOLD_ANGSTROM, **budget,
        )  # fmt: skip

    def _fixmatch(
        self, case: Case, scenes: Scenes, seed: int, profile: Profile, budget: dict[str, Any]
    ) -> Classifier:
        """f_0 of Algorithm 1: trained once for all methods of a seed and share."""
        from filelock import FileLock

        from cryoscout.perception import Classifier
        from cryoscout.perception.fitting import CLASSIFIER_FILE

        known = json.dumps([case.preset, case.labels, seed, profile, budget], sort_keys=True)
        home = self.folder / f"fixmatch-{hashlib.sha256(known.encode()).hexdigest()[:16]}"
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / "lock"):
            if (home / CLASSIFIER_FILE).is_file():
                return Classifier.load(home / CLASSIFIER_FILE)
            told = scenes.told(seed)
            made = HolePerception(
                scenes.crops.images[~scenes.test], couple_settings(seed=seed), GOOD_THRESHOLD_ANGSTROM,
                profile=profile, changes=budget,
            )  # fmt: skip
            made.pretrained(told, home)
            return Classifier.load(home / CLASSIFIER_FILE)

    def _home(self, case: Case, seed: int, profile: Profile, budget: dict[str, Any]) -> Path:
        """Where what a trial has done so far is kept."""
        known = json.dumps([asdict(case), seed, profile, budget], sort_keys=True)
        return self.folder / f"loop-{hashlib.sha256(known.encode()).hexdigest()[:16]}"

    def _judge(
        self, case: Case, model: Classifier, scenes: Scenes, seed: int, profile: Profile, folder: Path
    ) -> Path | None:
        """The agent that the rewards of a method without a route are measured with; None where planners do."""
        if not is_agent(case.driver):
            return None
        inside = ~scenes.test
        more = {} if profile == "quick" else {"epochs": PAPER_EPOCHS}
        settings = couple_settings("route", case.driver, seed=seed, minutes=BUDGET_MIN, **more)
        routes = HoleRoutes(scenes.tree(inside), settings, device="cpu")
        p = model.predict_proba(scenes.crops.images[inside])[:, 1]
        return routes.train(p, scenes.told(seed), seed, folder)

    def _loop(
        self,
        case: Case,
        scenes: Scenes,
        seed: int,
        profile: Profile,
        budget: dict[str, Any],
        judges: tuple[str, ...],
    ) -> tuple[list[Json], int, Json]:
        settings, told = loop_settings(case, seed, profile), scenes.told(seed)
        inside = ~scenes.test
        first = self._fixmatch(case, scenes, seed, profile, budget)
        perception = HolePerception(
            scenes.crops.images[inside], settings, GOOD_THRESHOLD_ANGSTROM, profile=profile, changes=budget,
            start_from=first,
        )  # fmt: skip
        driver = HoleRoutes(scenes.tree(inside), settings, device="cpu")
        teacher: Any = None
        if settings.needs_belief:
            teacher = BeliefTeacher(told, scenes.places(), settings.belief_knows_held_out)
        elif case.method == EXACT:
            p_true = scenes.crops.scene.p_good()[inside]
            teacher = lambda p, number, folder: p_true  # noqa: E731
        folder = self._home(case, seed, profile, budget)
        measured: list[Json] = []

        def measure(number: int, model: Classifier) -> None:
            if number == 0:
                return  # that is the row of FixMatch
            policy = folder / f"round-{number:02}" / "policy"
            trained = (
                policy if case.method in ROUTES else self._judge(case, model, scenes, seed, profile, policy)
            )
            measured.append({"number": number, **judged(model, scenes, judges, trained)})

        loop = Loop(
            told,
            perception,
            driver,
            settings,
            folder,
            perception.digest(told),
            teacher,
            scenes.good[inside],
            measure,
        )
        found = loop.run(resume=True)
        return measured, found.chosen, found.report


def judged(model: Classifier, scenes: Scenes, judges: tuple[str, ...], trained: Path | None = None) -> Json:
    """Scores of a classifier on the validation part, and what policies collect there in BUDGET_MIN.

    `unlabelled`: accuracy and AUC on the training holes whose labels nobody was told, three times as many; None: none.
    trained : file or folder of an agent that was trained, for a judge that is one
    """
    from cryoscout.belief.evaluation import evaluate_predictions
    from cryoscout.learning.registry import policy_named

    test, good = scenes.test, scenes.good[scenes.test]
    p = model.predict_proba(scenes.crops.images[test])[:, 1]
    found = evaluate_predictions(p, good.astype(np.float64), np.random.default_rng(0), draws=1)
    rest = ~scenes.test & ~scenes.labelled
    unlabelled: Json | None = None
    if rest.any():
        p_rest = model.predict_proba(scenes.crops.images[rest])[:, 1]
        on_rest = evaluate_predictions(
            p_rest, scenes.good[rest].astype(np.float64), np.random.default_rng(0), draws=1
        )
        unlabelled = {"accuracy": on_rest.accuracy, "auc": on_rest.auc}
    names = ("accuracy", "precision", "recall", "auc", "brier_skill", "ece_debiased")
    problem = HoleRoutes(scenes.tree(test), couple_settings()).problem(p, BUDGET_MIN)
    rewards = {
        judge: _collected(
            problem, good, policy_named(str(trained)) if is_agent(judge) else make_policy(judge)
        )
        for judge in judges
    }
    return {
        "scores": {name: getattr(found, name) for name in names},
        "unlabelled": unlabelled,
        "rewards": rewards,
    }


def _collected(problem: RoutingProblem, good: NDArray[np.int64], policy: Policy) -> Json:
    """Mean reward (y - c) and good holes over STARTS random starts, the same for every method."""
    truth = Truth(good.astype(np.float64), np.ones(len(good), dtype=np.bool_))
    starts = np.random.default_rng(0).choice(problem.n_holes, size=STARTS)
    routes = replay(problem, truth, policy, starts.tolist(), 0, reward=REWARD)
    return {
        "reward": float(np.mean([route.reward for route in routes])),
        "good": float(np.mean([route.good_found for route in routes])),
    }
