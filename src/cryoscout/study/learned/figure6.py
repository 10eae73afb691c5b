"""Study `cryorl-figure6`: the runtime of training and of deciding, with and without action elimination."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.published import BUDGETS_MIN, CITATION
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table
from cryoscout.study.learned.page import BUDGET_TITLES
from cryoscout.study.learned.trainings import (
    PACKAGES,
    StudyRow,
    TrainAndReplay,
    TrainingSpec,
    all_cells,
    learned_rows,
    rows_json,
    trained_policy,
    trials_of_rows,
)

EPOCHS = 1
CANDIDATES = ("holes", "classes")
SEEDS = {"quick": 1, "paper": 3}
WARM_UP_VISITS = 150
WARM_UP_SEED = 1_000
"""A training that nothing is taken from: the compilation of the environment is not in the figures."""

_WORDS = {
    "holes": "every hole scored, as published",
    "classes": "one of each patch and predicted class scored",
}


@dataclass(frozen=True)
class TimedTrainAndReplay(TrainAndReplay):
    """The same after a warm-up."""

    def __call__(self, trial: Trial) -> Json:
        """See TrainAndReplay."""
        short = replace(TrainingSpec(**trial.parameters["training"]), steps_per_epoch=WARM_UP_VISITS)
        with tempfile.TemporaryDirectory() as folder:
            trained_policy(short, WARM_UP_SEED, Path(folder))
        return super().__call__(trial)


def rows(profile: Profile) -> list[StudyRow]:
    """`dqn` with both candidate sets, with and without elimination, from any start."""
    return [
        row
        for candidates in CANDIDATES
        for elimination in (False, True)
        for row in learned_rows(
            f"dqn-{candidates}",
            TrainingSpec(
                "dqn", EPOCHS, elimination, changes={"view": {"candidates": candidates, "labels": "hard"}}
            ),
            rules=("all",),
        )
    ]


def trials(profile: Profile) -> list[Trial]:
    """One trial per candidate set, elimination and seed."""
    return trials_of_rows(rows(profile), SEEDS[profile])


@dataclass(frozen=True)
class Runtime:
    """Of one row, means over its seeds; None where a trial failed."""

    row: StudyRow
    training_s: float | None  # seconds of 1,000 visits in training, the epoch's judgement included
    deciding_ms: tuple[float | None, ...]  # (budgets,) milliseconds per visit in a replay


def runtimes(done: Sequence[TrialRow], profile: Profile) -> list[Runtime]:
    """The runtime of every row."""
    found = []
    for row in rows(profile):
        results = [
            each.result
            for each in done
            if any(spec["key"] == row.key for spec in each.trial.parameters["replays"])
        ]
        whole = [result for result in results if result is not None]
        if row.training is None or not whole or len(whole) < len(results):
            found.append(Runtime(row, None, (None,) * len(BUDGETS_MIN)))
            continue
        visits = row.training.settings(0).steps_per_epoch * EPOCHS
        training_s = float(np.mean([result["training"]["seconds"] for result in whole])) * 1_000 / visits
        deciding = []
        for budget in BUDGETS_MIN:
            cells = [cell for result in whole for cell in result["cells"] if cell["budget_min"] == budget]
            seconds = sum(cell["seconds"] for cell in cells)
            deciding.append(1_000 * seconds / sum(sum(cell["visited"]) for cell in cells))
        found.append(Runtime(row, training_s, tuple(deciding)))
    return found


def page(done: Sequence[TrialRow], profile: Profile) -> Page:
    """Seconds and how many times faster, and the figure."""
    found = runtimes(done, profile)
    text = "\n\n".join(
        [
            "Runtime of `dqn` on Y1: seconds of 1,000 visits in training (on the training split, learning and the "
            "epoch's judgement included), and milliseconds per visit in replays of the trained policy (on the "
            "validation split, from 50 starts; the elimination itself included). One epoch is trained: the time of a "
            "visit does not depend on how long one trains, and what such a short training finds is not a result. "
            f"The paper's Figure 6 compares the same two, and its text says 2 to 3 times faster ({CITATION}). One "
            "thread; run with `--workers 1`, because trials that run at the same time slow each other.",
            _table(found),
            "## Times faster with elimination",
            _ratios(found),
        ]
    )
    more = {"runtimes": [_runtime_json(each) for each in found]}
    return Page(text, _figure(found), rows_json(rows(profile), all_cells(done)), more)


def _table(found: Sequence[Runtime]) -> str:
    header = ["candidates", "action elimination", "training, s per 1,000 visits"]
    header += [f"deciding, ms per visit, {title}" for title in BUDGET_TITLES]
    lines = [
        [
            _WORDS[each.row.spec.policy.removeprefix("dqn-")],
            "with" if each.row.elimination else "without",
            _number(each.training_s),
            *[_number(ms) for ms in each.deciding_ms],
        ]
        for each in found
    ]
    return markdown_table(header, lines)


def _ratios(found: Sequence[Runtime]) -> str:
    lines = []
    for candidates in CANDIDATES:
        whole, reduced = (
            next(each for each in found if each.row.key == f"dqn-{candidates}, {words}, from all")
            for words in ("whole", "eliminated")
        )
        pairs = zip(
            (whole.training_s, *whole.deciding_ms), (reduced.training_s, *reduced.deciding_ms), strict=True
        )
        ratios = [None if a is None or b is None else a / b for a, b in pairs]
        lines.append([_WORDS[candidates], *[_number(ratio) for ratio in ratios]])
    return markdown_table(
        ["candidates", "training", *[f"deciding, {title}" for title in BUDGET_TITLES]], lines
    )


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"


def _runtime_json(each: Runtime) -> Json:
    return {
        "policy": each.row.spec.policy,
        "elimination": each.row.elimination,
        "training_s_per_1000_visits": each.training_s,
        "deciding_ms_per_visit": list(each.deciding_ms),
        "budgets_min": list(BUDGETS_MIN),
    }


def _figure(found: Sequence[Runtime]) -> bytes:
    from cryoscout.report.figures import png_bytes
    from cryoscout.study.engine.figures import times_figure

    bars = {}
    for each in found:
        name = each.row.spec.policy.removeprefix("dqn-") + (", elimination" if each.row.elimination else "")
        values = (each.training_s, each.deciding_ms[0], each.deciding_ms[-1])
        bars[name] = [float("nan") if value is None else value for value in values]
    titles = ["training, s per 1,000 visits"]
    titles += [f"deciding, ms per visit, {BUDGET_TITLES[at]}" for at in (0, -1)]
    return png_bytes(times_figure(bars, titles))


STUDY = Study(
    "cryorl-figure6",
    "CryoRL, Figure 6: the runtime, with and without action elimination",
    trials,
    TimedTrainAndReplay(),
    page,
    PACKAGES,
)
