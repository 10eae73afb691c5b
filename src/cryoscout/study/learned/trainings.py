"""Trials that train a policy and replay it: what is trained, where its file is kept, and the rows that come of it.

A trained policy is kept in one folder per settings, seed and data, so that trials and studies that need the same one
train it once, and a training that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoscout.routing.policies import policy_type
from cryoscout.routing.policies.base import PolicyKind
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Profile
from cryoscout.study.engine.published import BUDGETS_MIN, StartRule
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.sessions import session_of
from cryoscout.study.routes.replays import (
    BOUND,
    Cell,
    ReplaySpec,
    cells,
    problem_and_truth,
    replay_trials,
    routes_json,
    run_replay_trial,
    starts_of,
)

if TYPE_CHECKING:
    from cryoscout.learning.settings import LearnSettings

PACKAGES = (*PACKAGES_BEHIND_RESULTS, "learning")

SEED = 0
"""Of the start holes: the same as in the other studies."""

LEARNED_ON, TESTED_ON = "res18", "res50"
"""ResNet-50 is right on every training hole of y1, because it has seen them: an agent that learns on it never meets a
wrong prediction, and believes all of them on new patches. ResNet-18 is wrong on 9 % of the training holes."""

TRAINING_SEEDS = 3
STARTS = 50
QUICK_EPOCHS = 8
PAPER_EPOCHS = 20
STEPS_PER_EPOCH = 2_500

START_RULES: tuple[StartRule, ...] = ("all", "eliminated")


def epochs_of(profile: Profile) -> int:
    """Epochs of every training of a profile."""
    return QUICK_EPOCHS if profile == "quick" else PAPER_EPOCHS


@dataclass(frozen=True)
class TrainingSpec:
    """What is trained, all but the seed.

    session, split : as study.sessions takes them     changes : further fields of LearnSettings
    """

    agent: str
    epochs: int
    elimination: bool = True
    prediction: str = LEARNED_ON
    session: str = "y1"
    split: str | None = "train"
    changes: Mapping[str, Any] = field(default_factory=dict)
    steps_per_epoch: int = 0
    """0 stands for STEPS_PER_EPOCH."""
    draws: bool = False
    """Whether outcomes are drawn from the calibrated belief."""

    def settings(self, seed: int) -> LearnSettings:
        """The settings of a training."""
        from cryoscout.learning.settings import settings_of

        return settings_of(
            self.agent,
            elimination=self.elimination,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch or STEPS_PER_EPOCH,
            seed=seed,
            **self.changes,
        )


@dataclass(frozen=True)
class StudyRow:
    """One row of a learning study: a policy, how it is replayed, and what it was trained on.

    training : None for planners and baselines
    shown : its name on the page and in JSON; None for that of the policy
    """

    spec: ReplaySpec
    kind: PolicyKind
    elimination: bool = False
    training: TrainingSpec | None = None
    shown: str | None = None

    @property
    def key(self) -> str:
        """Identifies the row within its study."""
        return self.spec.key


def learned_rows(
    policy: str,
    training: TrainingSpec,
    rules: Iterable[StartRule] = START_RULES,
    **of_replay: Any,
) -> list[StudyRow]:
    """Rows of a trained policy, one per start rule.

    of_replay : fields of ReplaySpec; by default the validation split of y1, TESTED_ON after a training on y1
    """
    tested_on = TESTED_ON if training.session == "y1" else training.prediction
    reduced = "eliminated" if training.elimination else "whole"
    return [
        StudyRow(
            ReplaySpec(
                f"{policy}, {reduced}, from {rule}",
                policy,
                **{"prediction": tested_on, **of_replay},
                starts_from=rule,
                starts=STARTS,
            ),
            "learned",
            training.elimination,
            training,
        )
        for rule in rules
    ]


def other_rows(
    policies: Iterable[tuple[str, str]], rules: Iterable[StartRule] = START_RULES, **of_replay: Any
) -> list[StudyRow]:
    """Rows of planners and baselines, (policy, prediction), and of the bound. of_replay : as of `learned_rows`."""
    rows = []
    named: set[str] = set()
    for policy, prediction in policies:
        # A policy's second prediction is part of its key.
        name = f"{policy}@{prediction}" if policy in named else policy
        named.add(policy)
        for rule in rules:
            spec = ReplaySpec(
                f"{name}, from {rule}",
                policy,
                prediction,
                starts_from=rule,
                starts=STARTS,
                crossing="drop" if policy == "greedy" else "count",
                **of_replay,
            )
            kind: PolicyKind = "baseline" if policy == BOUND else policy_type(policy).kind
            rows.append(StudyRow(spec, kind))
    return rows


def trials_of_rows(rows: Sequence[StudyRow], seeds: int = 0) -> list[Trial]:
    """One trial per training and seed, which replays every row of that training; replays of the other rows.

    seeds : 0 stands for TRAINING_SEEDS
    """
    replays = [row.spec for row in rows if row.training is None]
    by_training: dict[str, tuple[TrainingSpec, list[ReplaySpec]]] = {}
    for row in rows:
        if row.training is not None:
            same = json.dumps(asdict(row.training), sort_keys=True)
            by_training.setdefault(same, (row.training, []))[1].append(row.spec)
    trials = []
    for training, specs in by_training.values():
        parameters = {
            "training": asdict(training),
            "replays": [asdict(spec) for spec in specs],
            "budgets_min": list(BUDGETS_MIN),
        }
        title = specs[0].key.partition(", from")[0]
        trials += [
            Trial(f"{title}, training seed {seed}", parameters, seed)
            for seed in range(seeds or TRAINING_SEEDS)
        ]
    return [*trials, *replay_trials(replays, BUDGETS_MIN, SEED)]


@dataclass(frozen=True)
class TrainAndReplay:
    """Runs one trial of a learning study. folder : where trained policies are kept."""

    folder: Path = Path(".study") / "kept"

    def in_folder(self, folder: Path) -> TrainAndReplay:
        """The same with another folder."""
        return replace(self, folder=folder)

    def __call__(self, trial: Trial) -> Json:
        """A replay trial as in other studies, or `{"training": {...}, "cells": [...]}`.

        training: seconds (of all epochs), best_epoch, held_out_share_of_bound, precision; cells: key, budget_min,
        seconds (of all routes) and what `run_replay_trial` gives.
        """
        if "training" not in trial.parameters:
            return run_replay_trial(trial)
        from cryoscout.learning.registry import policy_named

        training = TrainingSpec(**trial.parameters["training"])
        file, record = trained_policy(training, trial.seed, self.folder)
        found = []
        for parameters in trial.parameters["replays"]:
            spec = ReplaySpec(**parameters)
            for budget in trial.parameters["budgets_min"]:
                routes = replayed(spec, float(budget), policy_named(str(file)))
                found.append({"key": spec.key, "budget_min": budget, **routes})
        return {"training": record, "cells": found}


def replayed(spec: ReplaySpec, budget_min: float, policy: Any) -> Json:
    """Replay a trained policy as the spec says; with the seconds its routes took."""
    from cryoscout.routing.replay import replay

    problem, truth = problem_and_truth(spec, budget_min)
    starts = starts_of(spec, budget_min, SEED)
    began = time.perf_counter()
    results = replay(
        problem,
        truth,
        policy,
        starts.tolist(),
        SEED,
        ctf_delay_min=spec.ctf_delay_min,
        replan_every=spec.replan_every,
    )
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 4), **routes_json(results, budget_min)}


def trained_policy(spec: TrainingSpec, seed: int, folder: Path) -> tuple[Path, Json]:
    """(file of the trained policy, what its training says of itself); trains it unless the folder holds it.

    Raises InputError when torch is not installed or the training fails.
    """
    from cryoscout.core.torch_needed import need_torch

    need_torch()
    from filelock import FileLock

    from cryoscout.learning.from_session import data_digest, training_session
    from cryoscout.learning.training import METRICS_FILE, Training
    from cryoscout.learning.weights import POLICY_FILE, read_policy

    settings = spec.settings(seed)
    data, prediction, _ = training_session(
        session_of(spec.session, spec.split),
        budget_min=settings.budget_min,
        prediction=spec.prediction,
        time_model="cryorl",
        draws=spec.draws,
    )
    known = json.dumps([settings.model_dump(mode="json"), data_digest([data])], sort_keys=True)
    home = folder / f"{spec.agent}-{hashlib.sha256(known.encode()).hexdigest()[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    # Another trial or study may train the same one at the same time; the lock falls with its process.
    with FileLock(home / "lock"):
        lines = _lines(home / METRICS_FILE)
        if len(lines) < settings.epochs or not (home / POLICY_FILE).is_file():
            about = {"session": spec.session, "split": spec.split, "prediction": prediction}
            Training([data], settings, home, notes=about, device="cpu").run(resume=True)
            lines = _lines(home / METRICS_FILE)
    epochs = [json.loads(line) for line in lines]
    best = int(epochs[-1]["best_epoch"])
    record = {
        "seconds": round(sum(epoch["seconds"] for epoch in epochs), 3),
        "best_epoch": best,
        "held_out_share_of_bound": epochs[best - 1]["held_out_share_of_bound"],
        "precision": read_policy(home / POLICY_FILE).notes["precision"],
    }
    return home / POLICY_FILE, record


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def all_cells(rows: Sequence[TrialRow]) -> dict[tuple[str, float], Cell | None]:
    """Cells by (row key, budget), `repeat` being the training seed; None where a seed failed."""
    replays = [row for row in rows if "training" not in row.trial.parameters]
    found = dict(cells(replays))
    by_cell: dict[tuple[str, float], list[tuple[int, Json | None]]] = {}
    for row in rows:
        if "training" not in row.trial.parameters:
            continue
        given = {} if row.result is None else {
            (cell["key"], float(cell["budget_min"])): cell for cell in row.result["cells"]
        }  # fmt: skip
        for spec in row.trial.parameters["replays"]:
            for budget in row.trial.parameters["budgets_min"]:
                where = (str(spec["key"]), float(budget))
                by_cell.setdefault(where, []).append((row.trial.seed, given.get(where)))
    for where, parts in by_cell.items():
        found[where] = _joined(parts)
    return found


def _joined(parts: Sequence[tuple[int, Json | None]]) -> Cell | None:
    whole = [(seed, part) for seed, part in parts if part is not None]
    if len(whole) < len(parts):
        return None

    def column(name: str) -> Any:
        return np.array([entry for _, part in whole for entry in part[name]], dtype=np.float64)

    return Cell(
        starts=column("starts").astype(np.int64),
        good=column("good"),
        visited=column("visited"),
        reward=column("reward"),
        repeat=np.repeat([seed for seed, _ in whole], [len(part["starts"]) for _, part in whole]),
        good_course=column("good_course"),
        visited_course=column("visited_course"),
    )


def rows_json(rows: Sequence[StudyRow], found: Mapping[tuple[str, float], Cell | None]) -> list[Json]:
    """One object per row and budget; where a trial failed the figures are null and `starts` is 0.

    good_std is over all routes, starts and seeds together.
    """
    return [
        _row_json(row, budget, found.get((row.key, float(budget)))) for row in rows for budget in BUDGETS_MIN
    ]


def _row_json(row: StudyRow, budget_min: float, cell: Cell | None) -> Json:
    seeds = 0 if cell is None or row.training is None else len(np.unique(cell.repeat))
    return {
        "policy": row.shown or row.spec.policy,
        "kind": row.kind,
        "prediction": row.spec.prediction,
        "elimination": row.elimination,
        "starts_from": row.spec.starts_from,
        "budget_min": budget_min,
        "good_mean": None if cell is None else round(float(cell.good.mean()), 3),
        "good_std": None if cell is None else round(float(cell.good.std()), 3),
        "visited_mean": None
        if cell is None or not len(cell.visited)
        else round(float(cell.visited.mean()), 3),
        "starts": 0 if cell is None else len(cell.starts) // max(seeds, 1),
        "training_seeds": seeds,
    }


def trainings_json(rows: Sequence[TrialRow]) -> list[Json]:
    """What each training says of itself: name, seed, seconds, best_epoch, held_out_share_of_bound, precision."""
    return [
        {
            "training": row.trial.name.partition(", training seed")[0],
            "seed": row.trial.seed,
            **row.result["training"],
        }
        for row in rows
        if row.result is not None and "training" in row.trial.parameters
    ]
