"""Study `cryorl-table3`: every agent, with and without action elimination, beside the CryoRL paper's Table 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryoscout.learning.settings import AGENTS
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.published import (
    BUDGETS_MIN,
    TABLE2,
    TABLE3_VARIANTS,
    PublishedRow,
    StartRule,
)
from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.engine.shortfall import shortfall
from cryoscout.study.learned.page import (
    NOTE_ON_PAIRS,
    NOTE_ON_RULES,
    Found,
    differences_table,
    dots,
    good_table,
    published_in_words,
    seeds_table,
    training_in_words,
)
from cryoscout.study.learned.trainings import (
    PACKAGES,
    START_RULES,
    TESTED_ON,
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
    ("adaptive", TESTED_ON),
    ("expected", TESTED_ON),
    ("greedy", "res50"),
    ("random", "res50"),
    (BOUND, "res50"),
)
HARD_LABELS = {"candidates": "classes", "labels": "hard"}
"""The features as printed: a hole is predicted good or not."""
_DQN_KEPT = "dqn, eliminated, from eliminated"
_NAMES = {"a2c": "CryoRL-A2C", "c51": "CryoRL-C51"}


def rows(profile: Profile) -> list[StudyRow]:
    """Every agent with and without elimination, from all starts and from eliminated ones; then the others."""
    trained = [
        row
        for agent in AGENTS
        for elimination in (False, True)
        for row in learned_rows(agent, TrainingSpec(agent, epochs_of(profile), elimination))
    ]
    as_printed = [
        row
        for elimination in (False, True)
        for row in learned_rows(
            "dqn-hard",
            TrainingSpec("dqn", epochs_of(profile), elimination, TESTED_ON, changes={"view": HARD_LABELS}),
        )
    ]
    return trained + as_printed + other_rows(OTHERS)


def trials(profile: Profile) -> list[Trial]:
    """One trial per agent, elimination and training seed; replays of the others."""
    return trials_of_rows(rows(profile))


def published(agent: str, rule: StartRule) -> PublishedRow | None:
    """The printed row of an agent: without elimination from any start, or with it from eliminated ones (†)."""
    if agent == "dqn":
        return TABLE2["dqn" if rule == "all" else "dqn-eliminated"]
    dagger = "" if rule == "all" else " †"
    if agent == "dqn-hard":
        return None
    name = _NAMES[agent] + dagger if agent in _NAMES else f"CryoRL-DQN{dagger} ({agent})"
    return next((row for row in TABLE3_VARIANTS if row.name == name), None)


def page(done: Sequence[TrialRow], profile: Profile) -> Page:
    """Two tables, by start rule; paired differences; seeds; the figure."""
    found = all_cells(done)
    chosen = rows(profile)
    beside = {
        row.key: printed
        for row in chosen
        if row.training is not None
        and row.elimination == (row.spec.starts_from == "eliminated")
        and (printed := published(row.spec.policy, row.spec.starts_from)) is not None
    }
    by_rule = {rule: [row for row in chosen if row.spec.starts_from == rule] for rule in START_RULES}
    text = "\n\n".join(
        [
            "Good holes (CTF resolution at or below 6 Å) found on the 1,074 validation holes of Y1, ResNet-50, time "
            f"model `cryorl`. {training_in_words(profile)} {published_in_words()}",
            "Agents learn on the predictions of ResNet-18, which is wrong on 9 % of the training holes, and are tested "
            "on those of ResNet-50, which is right on all it was trained on and so teaches no doubt. They see p_good "
            "itself and one hole per patch (`soft`, `dominant`). `dqn-hard` is nearer to the paper: it learns on "
            "ResNet-50 and sees holes as predicted good or not, one per patch and prediction.",
            "`adaptive@res50` and `expected@res50` plan exactly on the predictions that the agents are tested on: how "
            "much the predictions allow, as far as we know.",
            "## Routes that start anywhere",
            good_table(by_rule["all"], found, beside),
            "## Routes that start in kept patches †",
            good_table(by_rule["eliminated"], found, beside),
            NOTE_ON_RULES,
            *_shortfall(found, beside),
            "## Paired differences",
            NOTE_ON_PAIRS,
            "With action elimination less without it, routes that start anywhere:",
            differences_table(
                [(f"`{agent}`", _key(agent, True), _key(agent, False)) for agent in AGENTS], found
            ),
            "With action elimination less a planner or baseline, routes that start anywhere:",
            differences_table(
                [
                    (f"`{agent}` − `{other}`", _key(agent, True), f"{other}, from all")
                    for other in ("adaptive", "greedy")
                    for agent in AGENTS
                ],
                found,
            ),
            "## Seeds",
            "Standard deviation of the mean over training seeds (the ± above is over all routes).",
            seeds_table(chosen, found),
        ]
    )
    more = {"trainings": trainings_json(done)}
    return Page(text, dots(by_rule["all"], found, beside), rows_json(chosen, found), more)


def _shortfall(found: Found, beside: Mapping[str, PublishedRow]) -> list[str]:
    pairs = []
    for key, starts in ((_key("dqn", False), "anywhere"), (_DQN_KEPT, "in kept patches (†)")):
        cells = [found.get((key, float(budget))) for budget in BUDGETS_MIN]
        means = [None if cell is None else float(cell.good.mean()) for cell in cells]
        pairs.append((starts, beside[key], means))
    said = shortfall("dqn", pairs)
    return [said] if said else []


def _key(agent: str, elimination: bool) -> str:
    return f"{agent}, {'eliminated' if elimination else 'whole'}, from all"


STUDY = Study(
    "cryorl-table3",
    "CryoRL, Table 3: the agents, with and without action elimination",
    trials,
    TrainAndReplay(),
    page,
    PACKAGES,
)
