"""Study `learned-selection`: how the defaults of training a policy were chosen, on the training split of Y1 alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoscout.report.statistics import mean_and_std
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table
from cryoscout.study.learned.page import training_in_words
from cryoscout.study.learned.trainings import (
    LEARNED_ON,
    PACKAGES,
    TESTED_ON,
    TRAINING_SEEDS,
    TrainingSpec,
    epochs_of,
    trained_policy,
)

DEFAULT = "default"
JUDGED_AT_MIN = 480.0
"""The judging routes have a quarter, a half, three quarters and the whole of it."""


@dataclass(frozen=True)
class Variant:
    """What differs from the default training of `dqn`. prediction : it is trained on"""

    words: str
    changes: Mapping[str, Any]
    prediction: str = LEARNED_ON
    agent: str = "dqn"


VARIANTS: dict[str, Variant] = {
    DEFAULT: Variant("soft predictions, dominant hole, random parts, rate 0.001, 240 min", {}),
    "hard": Variant("hard predictions", {"view": {"labels": "hard"}}),
    "classes": Variant("one candidate per patch and class", {"view": {"candidates": "classes"}}),
    "as-published": Variant(
        "hard, classes, the whole session, rate 0.01",
        {"view": {"labels": "hard", "candidates": "classes"}, "parts": 0, "learning_rate": 0.01},
    ),
    "whole-session": Variant("no random parts", {"parts": 0}),
    "on-resnet50": Variant("trained on ResNet-50, right on every training hole", {}, TESTED_ON),
    "rate-0.01": Variant("learning rate 0.01", {"learning_rate": 0.01}),
    "gamma-0.97": Variant("gamma 0.97 instead of 0.9", {"agent": {"name": "dqn", "gamma": 0.97}}),
    "three-steps": Variant("targets of three steps", {}, agent="nstep"),
    "candidate-history": Variant("the candidate's own history", {"view": {"history": "candidate"}}),
    "480-min": Variant("routes of 480 min", {"budget_min": 480.0}),
}


def trials(profile: Profile) -> list[Trial]:
    """One trial per variant and split; the seed of a training is that of its split."""
    made = []
    for name, variant in VARIANTS.items():
        spec = TrainingSpec(
            variant.agent,
            epochs_of(profile),
            elimination=False,
            prediction=variant.prediction,
            changes=variant.changes,
        )
        for seed in range(TRAINING_SEEDS):
            made.append(Trial(f"{name}, split {seed}", {"variant": name, "training": asdict(spec)}, seed))
    return made


@dataclass(frozen=True)
class RunTrial:
    """Runs one trial. folder : where trained policies are kept."""

    folder: Path = Path(".study") / "kept"

    def in_folder(self, folder: Path) -> RunTrial:
        """The same with another folder."""
        return replace(self, folder=folder)

    def __call__(self, trial: Trial) -> Json:
        """Share of the bound on held-out patches, its course by epoch, and what the training says of itself."""
        spec = TrainingSpec(**trial.parameters["training"])
        file, record = trained_policy(spec, trial.seed, self.folder)
        course = [
            json.loads(line)["held_out_share_of_bound"]
            for line in (file.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        return {
            "share": _share(file), "course": course, "best_epoch": record["best_epoch"], "seconds": record["seconds"],
            "precision": record["precision"],
        }  # fmt: skip


def _share(file: Path) -> float:
    """Share of the bound on the patches that the training held out, with ResNet-18 whatever it was trained on."""
    from cryoscout.learning.from_session import training_session
    from cryoscout.learning.held_out import kept_and_trials, share_of_bound
    from cryoscout.learning.numpy_network import NumpyNetwork
    from cryoscout.learning.settings import LearnSettings
    from cryoscout.learning.weights import read_policy
    from cryoscout.study.engine.sessions import session_of

    trained = read_policy(file)
    data, _, _ = training_session(
        session_of("y1", "train"), budget_min=JUDGED_AT_MIN, prediction=LEARNED_ON, time_model="cryorl"
    )
    judged = LearnSettings.model_validate({**trained.settings.model_dump(), "budget_min": JUDGED_AT_MIN})
    _, routes, _ = kept_and_trials([data], judged)
    network = NumpyNetwork(judged.network, trained.weights)
    return share_of_bound(routes, judged, lambda rows, _begin: network.scores(rows))


Shares = Mapping[str, list[Json] | None]


def results_by_variant(rows: Sequence[TrialRow]) -> Shares:
    """Results of every variant's splits, in their order; None where one failed."""
    by_variant: dict[str, list[Json] | None] = {name: [] for name in VARIANTS}
    for row in rows:
        name = row.trial.parameters["variant"]
        so_far = by_variant[name]
        by_variant[name] = None if row.result is None or so_far is None else [*so_far, row.result]
    return by_variant


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """Shares by variant and split, what each differs by, and the figure."""
    results = results_by_variant(rows)
    text = "\n\n".join(
        [
            f"`dqn` without elimination on the training split of Y1. {training_in_words(profile)} A quarter of the "
            "patches is held out, by the seed; the policy of the best epoch on them is kept. All are judged alike: "
            f"share of the exact bound on the held-out patches, scored by ResNet-18 ({LEARNED_ON}), 32 random starts "
            f"at each of four budgets up to {JUDGED_AT_MIN:g} minutes. No validation outcome is read.",
            "## Share of the bound on held-out patches",
            _table(results),
            "Differences are paired by split. Three splits tell large differences only: the smallest and the largest "
            "stand beside the mean, and a difference whose sign they do not share is no result.",
            "What this cannot see: ResNet-18 was trained on these holes too, so it is right here more often than on a "
            "new session, and an agent that doubts is at a disadvantage.",
        ]
    )  # fmt: skip
    return Page(text, _figure(results), [_row_json(name, results) for name in VARIANTS])


def _table(results: Shares) -> str:
    default = results[DEFAULT]
    lines = []
    for name, variant in VARIANTS.items():
        found = results[name]
        if found is None or default is None:
            lines.append([f"`{name}`", variant.words, *[MISSING] * 4])
            continue
        shares = [100.0 * each["share"] for each in found]
        apart = [one - 100.0 * other["share"] for one, other in zip(shares, default, strict=True)]
        lines.append(
            [
                f"`{name}`",
                variant.words,
                " / ".join(f"{share:.1f}" for share in shares),
                f"{np.mean(shares):.1f} %",
                "" if name == DEFAULT else f"{np.mean(apart):+.1f} [{min(apart):+.1f}, {max(apart):+.1f}]",
                " / ".join(str(each["best_epoch"]) for each in found),
            ]
        )
    return markdown_table(
        ["variant", "what differs", "splits", "mean", "from the default", "epoch kept"], lines
    )


def _figure(results: Shares) -> bytes:
    """Held-out share after each epoch, the mean of the splits, one line per variant."""
    from matplotlib.figure import Figure

    from cryoscout.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, png_bytes

    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    looks = [
        (colour, line)
        for line in ("-", "--")
        for colour in (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY)
    ]
    for (name, found), (colour, line) in zip(results.items(), looks, strict=False):
        if found is None:
            continue
        course = 100.0 * np.mean([each["course"] for each in found], axis=0)
        axes.plot(
            range(1, len(course) + 1), course, line, color=BLACK if name == DEFAULT else colour, label=name,
            linewidth=2.5 if name == DEFAULT else 1.3,
        )  # fmt: skip
    axes.set_xlabel("epoch")
    axes.set_ylabel("share of the bound on held-out patches,\nits own predictions and budgets (%)")
    if any(found is not None for found in results.values()):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return png_bytes(figure)


def _row_json(name: str, results: Shares) -> Json:
    found = results[name]
    row: Json = {
        "variant": name, "differs": VARIANTS[name].words, "share_mean": None, "share_std": None, "shares": None,
    }  # fmt: skip
    if found is not None:
        shares = np.array([each["share"] for each in found])
        mean, std = mean_and_std(shares)
        row |= {
            "share_mean": round(mean, 4), "share_std": round(std, 4),
            "shares": [round(float(share), 4) for share in shares],
            "best_epochs": [each["best_epoch"] for each in found],
        }  # fmt: skip
    return row


STUDY = Study(
    "learned-selection",
    "How the defaults of training a policy were chosen",
    trials,
    RunTrial(),
    page,
    PACKAGES,
)
