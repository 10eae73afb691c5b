"""Studies `cryorl-ablation-duration` and `cryorl-ablation-reward`: variants of one training (CryoRL, section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.learned.page import (
    NOTE_ON_PAIRS,
    NOTE_ON_RULES,
    differences_table,
    dots,
    good_table,
    seeds_table,
    training_in_words,
)
from cryoscout.study.learned.trainings import (
    PACKAGES,
    START_RULES,
    StudyRow,
    TrainAndReplay,
    TrainingSpec,
    all_cells,
    epochs_of,
    learned_rows,
    other_rows,
    rows_json,
    trainings_json,
    trials_of_rows,
)
from cryoscout.study.routes.replays import BOUND

OTHERS = (
    ("adaptive", "combined"),
    ("index", "combined"),
    ("greedy", "res50"),
    ("random", "res50"),
    (BOUND, "res50"),
)


@dataclass(frozen=True)
class Ablation:
    """Variants of one training.

    variants : name of the row -> what differs from the default settings     default : the variant without a change
    introduction : what is varied, and what the paper says of it
    """

    name: str
    title: str
    variants: Mapping[str, Mapping[str, Any]]
    default: str
    introduction: str

    def rows(self, profile: Profile) -> list[StudyRow]:
        """Every variant with and without elimination, then planners and baselines."""
        trained = [
            row
            for name, changes in self.variants.items()
            for elimination in (False, True)
            for row in learned_rows(
                name, TrainingSpec("dqn", epochs_of(profile), elimination, changes=dict(changes))
            )
        ]
        return trained + other_rows(OTHERS)

    def trials(self, profile: Profile) -> list[Trial]:
        """One trial per variant, elimination and training seed; replays of the others."""
        return trials_of_rows(self.rows(profile))

    def page(self, done: Sequence[TrialRow], profile: Profile) -> Page:
        """Two tables, by start rule; differences from the default; seeds; the figure."""
        found = all_cells(done)
        chosen = self.rows(profile)
        by_rule = {rule: [row for row in chosen if row.spec.starts_from == rule] for rule in START_RULES}
        changed = [name for name in self.variants if name != self.default]
        pairs = [
            (
                f"`{name}` − `{self.default}`, {words} elimination",
                f"{name}, {reduced}, from all",
                f"{self.default}, {reduced}, from all",
            )
            for reduced, words in (("whole", "without"), ("eliminated", "with"))
            for name in changed
        ]
        text = "\n\n".join(
            [
                f"{self.introduction} Good holes found on the 1,074 validation holes of Y1, `dqn` on ResNet-50, time "
                f"model `cryorl`. {training_in_words(profile)}",
                "## Routes that start anywhere",
                good_table(by_rule["all"], found),
                "## Routes that start in kept patches †",
                good_table(by_rule["eliminated"], found),
                NOTE_ON_RULES,
                "## Paired differences",
                NOTE_ON_PAIRS,
                differences_table(pairs, found),
                "## Seeds",
                "Standard deviation of the mean over training seeds (the ± above is over all routes).",
                seeds_table(chosen, found),
            ]
        )
        more = {"trainings": trainings_json(done)}
        return Page(text, dots(by_rule["all"], found), rows_json(chosen, found), more)

    def study(self) -> Study:
        """The study."""
        return Study(self.name, self.title, self.trials, TrainAndReplay(), self.page, PACKAGES)


DURATIONS_MIN = (120, 240, 480)
DEFAULT_MIN = 240

DURATION = Ablation(
    "cryorl-ablation-duration",
    "CryoRL, section 5.3: the minutes of a training route",
    {
        f"dqn-trained-{minutes}-min": {} if minutes == DEFAULT_MIN else {"budget_min": float(minutes)}
        for minutes in DURATIONS_MIN
    },
    f"dqn-trained-{DEFAULT_MIN}-min",
    f"Routes of {', '.join(map(str, DURATIONS_MIN))} minutes in training; action elimination keeps fewer patches for "
    "shorter ones. The paper prints no figures and says that 120 minutes gave inferior performance.",
).study()

REWARD = Ablation(
    "cryorl-ablation-reward",
    "CryoRL, section 5.3: the reward of switching",
    {
        "dqn": {},
        "dqn-square-x2": {"reward_square_factor": 2.0},
        "dqn-grid-x2": {"reward_grid_factor": 2.0},
        "dqn-both-x2": {"reward_square_factor": 2.0, "reward_grid_factor": 2.0},
    },
    "dqn",
    "The reward of a good hole that a new square, a new grid, or either was entered for is doubled in training. The "
    "paper prints no figures; it says that the schemes perform comparably, and the doubled square slightly better.",
).study()
