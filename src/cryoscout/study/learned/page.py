"""What the pages of learning studies share: their tables of good holes, differences and seeds, and the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cryoscout.study.engine.catalogue import Profile
from cryoscout.study.engine.published import BUDGETS_MIN, CITATION, N_TRIALS, PublishedRow
from cryoscout.study.engine.tables import MISSING, interval_text, markdown_table, mean_std
from cryoscout.study.learned.trainings import STARTS, STEPS_PER_EPOCH, TRAINING_SEEDS, StudyRow, epochs_of
from cryoscout.study.routes.replays import BOUND, Cell, difference

Found = Mapping[tuple[str, float], Cell | None]
"""Cells by (row key, budget), as `learned.all_cells` gives them."""

BUDGET_TITLES = tuple(f"{budget} min" for budget in BUDGETS_MIN)

NOTE_ON_RULES = (
    "The visit that crosses the budget counts, as in the published environment; greedy drops it, as published. "
    "† Routes start inside the patches that action elimination keeps (test beta 1.5), which are good patches by "
    "construction; these rows compare with each other only. A policy with action elimination visits those patches "
    "alone."
)
NOTE_ON_PAIRS = (
    "Good holes more than another policy from the same starts, the mean of the training seeds for each start: mean "
    "and 95 % bootstrap interval over starts. The interval holds the choice of start only."
)


def training_in_words(profile: Profile, on: str = "the training split of Y1 (2,464 holes)") -> str:
    """How the policies of a study were trained and replayed."""
    epochs = epochs_of(profile)
    shorter = "" if profile == "paper" else f", fewer than the {epochs_of('paper')} of the paper"
    return (
        f"Every policy is trained on {on} for {epochs} epochs of {STEPS_PER_EPOCH:,} visits{shorter}, with "
        f"{TRAINING_SEEDS} seeds; some training patches never train and choose the epoch. No outcome of a test "
        f"hole is known to any policy. Routes start from {STARTS} drawn holes, the same for all policies and in "
        "the other studies. Mean ± standard deviation over the routes of all seeds."
    )


def published_in_words() -> str:
    """Where the published figures are from."""
    return f"Published figures: {CITATION}, each over {N_TRIALS} trials."


def good_table(
    rows: Sequence[StudyRow],
    found: Found,
    published: Mapping[str, PublishedRow] | None = None,
) -> str:
    """Good holes by row and budget. published : by row key, shown above that row."""
    beside = published or {}
    lines = []
    for row in rows:
        if row.key in beside:
            printed = beside[row.key]
            cells = zip(printed.good_mean, printed.good_std, strict=True)
            lines.append(
                [
                    printed.name,
                    reduced_in_words(row),
                    "published",
                    *[mean_std(*each, absent="-") for each in cells],
                ]
            )
        lines.append([title_of(row), reduced_in_words(row), "ours", *good_cells(row, found)])
    return markdown_table(["policy", "action elimination", "figures", *BUDGET_TITLES], lines)


def title_of(row: StudyRow) -> str:
    """A row's name on the page."""
    if row.spec.policy == BOUND:
        return "Exact bound"
    return f"`{row.spec.label}`" if row.shown is None else row.shown


def reduced_in_words(row: StudyRow) -> str:
    """Whether a trained policy reduces its candidates; nothing for others."""
    return "-" if row.training is None else "with" if row.elimination else "without"


def good_cells(row: StudyRow, found: Found) -> list[str]:
    """Mean and deviation at every budget."""
    cells = [found.get((row.key, float(budget))) for budget in BUDGETS_MIN]
    return [
        MISSING if cell is None else mean_std(float(cell.good.mean()), float(cell.good.std()))
        for cell in cells
    ]


def differences_table(pairs: Sequence[tuple[str, str, str]], found: Found) -> str:
    """Paired differences. pairs : (title, key of the first row, key of the second)"""
    lines = [
        [
            title,
            *[
                interval_text(
                    difference(found.get((first, float(budget))), found.get((second, float(budget))))
                )
                for budget in BUDGETS_MIN
            ],
        ]
        for title, first, second in pairs
    ]
    return markdown_table(["", *BUDGET_TITLES], lines)


def seeds_table(rows: Sequence[StudyRow], found: Found) -> str:
    """Standard deviation of the mean over training seeds."""
    lines = []
    for row in rows:
        if row.training is None:
            continue
        cells = [found.get((row.key, float(budget))) for budget in BUDGETS_MIN]
        shown = [
            MISSING if cell is None or cell.std_between_seeds is None else f"{cell.std_between_seeds:.2f}"
            for cell in cells
        ]
        starts = "eliminated" if row.spec.starts_from == "eliminated" else "all"
        lines.append([title_of(row), reduced_in_words(row), starts, *shown])
    return markdown_table(["policy", "action elimination", "starts", *BUDGET_TITLES], lines)


def dots(
    rows: Sequence[StudyRow], found: Found, published: Mapping[str, PublishedRow] | None = None
) -> bytes:
    """The figure: one line per row, the bound among them as a dashed line. Rows share a start rule."""
    from cryoscout.report.figures import png_bytes
    from cryoscout.study.engine.figures import DotRow, dots_figure

    absent = np.full(len(BUDGETS_MIN), np.nan)
    bound = absent
    shown = []
    for row in rows:
        mean, std = _means(row.key, found)
        if row.spec.policy == BOUND:
            bound = mean
            continue
        printed = (published or {}).get(row.key)
        figures = absent if printed is None else np.array(printed.good_mean, dtype=np.float64)
        label = row.spec.policy + (", elimination" if row.elimination else "")
        shown.append(DotRow(label, mean, std, figures))
    return png_bytes(dots_figure(shown, list(BUDGET_TITLES), bound, "good holes"))


def _means(key: str, found: Found) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cells = [found.get((key, float(budget))) for budget in BUDGETS_MIN]
    mean = [np.nan if cell is None else float(cell.good.mean()) for cell in cells]
    std = [np.nan if cell is None else float(cell.good.std()) for cell in cells]
    return np.array(mean), np.array(std)
