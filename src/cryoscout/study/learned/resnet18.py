"""Study `cryorl-resnet18`: the deep Q-network and the planners on the paper's ResNet-18 in place of its ResNet-50."""

from __future__ import annotations

from collections.abc import Sequence

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

PREDICTION = "res18"
OTHERS = tuple(
    (policy, PREDICTION) for policy in ("adaptive", "index", "expected", "greedy", "random", BOUND)
)


def rows(profile: Profile) -> list[StudyRow]:
    """`dqn` with and without elimination, then planners and baselines, all on ResNet-18."""
    trained = [
        row
        for elimination in (False, True)
        for row in learned_rows(
            "dqn", TrainingSpec("dqn", epochs_of(profile), elimination, PREDICTION), prediction=PREDICTION
        )
    ]
    return trained + other_rows(OTHERS)


def trials(profile: Profile) -> list[Trial]:
    """One trial per elimination and training seed; replays of the others."""
    return trials_of_rows(rows(profile))


def page(done: Sequence[TrialRow], profile: Profile) -> Page:
    """Two tables, by start rule; paired differences; seeds; the figure."""
    found = all_cells(done)
    chosen = rows(profile)
    by_rule = {rule: [row for row in chosen if row.spec.starts_from == rule] for rule in START_RULES}
    reduced, whole = "dqn, eliminated, from all", "dqn, whole, from all"
    text = "\n\n".join(
        [
            "Good holes (CTF resolution at or below 6 Å) found on the 1,074 validation holes of Y1, ResNet-18, time "
            f"model `cryorl`. {training_in_words(profile)} The paper gives its ResNet-18 figures in a supplement that "
            "is not part of arXiv:2204.07543, so none stand here. The patches that † routes start in are ranked by "
            "ResNet-50, as in every study.",
            "## Routes that start anywhere",
            good_table(by_rule["all"], found),
            "## Routes that start in kept patches †",
            good_table(by_rule["eliminated"], found),
            NOTE_ON_RULES,
            "## Paired differences",
            NOTE_ON_PAIRS,
            differences_table(
                [
                    ("`dqn` with less without elimination", reduced, whole),
                    *[
                        (f"`dqn` with elimination − `{other}`", reduced, f"{other}, from all")
                        for other in ("adaptive", "index", "expected", "greedy")
                    ],
                ],
                found,
            ),
            "## Seeds",
            "Standard deviation of the mean over training seeds (the ± above is over all routes).",
            seeds_table(chosen, found),
        ]
    )
    more = {"trainings": trainings_json(done)}
    return Page(text, dots(by_rule["all"], found), rows_json(chosen, found), more)


STUDY = Study(
    "cryorl-resnet18",
    "CryoRL on ResNet-18: the deep Q-network and the planners",
    trials,
    TrainAndReplay(),
    page,
    PACKAGES,
)
