"""Figures printed by the CryoRL paper, kept apart from ours so that no table can mix the two up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StartRule = Literal["all", "eliminated"]

CITATION = (
    "Fan, Li, Yao, Cohn, Liu, Vos, Cianfrocco: CryoRL: Reinforcement Learning Enables Efficient Cryo-EM Data "
    "Collection, arXiv:2204.07543 (2022), Tables 2 and 3"
)

BUDGETS_MIN = (120, 240, 360, 480)
"""Budgets of the paper's Table 2, minutes."""

N_TRIALS = 50
"""Trials from random holes behind every published mean (section 5.2)."""


@dataclass(frozen=True)
class PublishedRow:
    """One printed row: good holes on Y1 validation per budget, None where not given.

    starts_from : where its routes start; `eliminated` rows (a dagger in the paper) start in patches that
    action elimination kept, good ones by construction, so they do not compare with the other rows
    """

    name: str
    starts_from: StartRule
    good_mean: tuple[float | None, ...]  # (4,) one per entry of BUDGETS_MIN
    good_std: tuple[float | None, ...]  # (4,)
    table: int


def _row(
    name: str, table: int, *cells: tuple[float, float] | None, starts_from: StartRule = "all"
) -> PublishedRow:
    means = tuple(None if cell is None else cell[0] for cell in cells)
    deviations = tuple(None if cell is None else cell[1] for cell in cells)
    return PublishedRow(name, starts_from, means, deviations, table)


TABLE2: dict[str, PublishedRow] = {
    "random": _row("Random", 2, (2.6, 1.4), (5.1, 1.6), (7.3, 2.3), (9.8, 2.2)),
    "greedy": _row("Greedy", 2, (41.8, 2.5), (69.3, 3.2), (104.9, 4.9), (147.9, 5.1)),
    "genetic": _row("Genetic algorithm", 2, (28.3, 6.5), (72.3, 6.8), (115.7, 7.8), (150.4, 6.8)),
    "annealing": _row("Simulated annealing", 2, (39.4, 6.5), (73.3, 7.0), (104.7, 8.9), (147.9, 9.6)),
    "offline": _row("Offline path planning", 2, (44.3, 0.9), (84.6, 6.1), (121.4, 6.7), (166.6, 4.9)),
    "dqn": _row("CryoRL-DQN", 2, (41.7, 3.1), (86.6, 3.0), (132.0, 2.3), (171.4, 2.0)),
    "dqn-eliminated": _row(
        "CryoRL-DQN †", 2, (47.4, 0.5), (89.0, 3.1), (131.8, 1.8), (172.6, 2.0), starts_from="eliminated"
    ),
    "people": _row("People (15 students, 50 and 100 picks)", 2, (31.9, 10.6), (77.4, 6.2), None, None),
}
"""Table 2, in the paper's order. Its minutes are those of the `cryorl` time model."""

TABLE3_VARIANTS: tuple[PublishedRow, ...] = (
    _row("CryoRL-A2C", 3, (35.5, 7.8), (74.0, 9.0), (111.3, 8.8), (147.0, 8.8)),
    _row("CryoRL-C51", 3, (39.4, 4.2), (76.3, 3.1), (109.6, 2.0), (141.0, 2.7)),
    _row("CryoRL-DQN (dueling)", 3, (44.6, 3.3), (89.3, 4.4), (126.3, 4.2), (157.4, 4.4)),
    _row("CryoRL-DQN (prioritized)", 3, (42.5, 4.3), (86.4, 3.9), (128.7, 5.1), (172.0, 3.5)),
    _row("CryoRL-A2C †", 3, (47.0, 1.3), (90.8, 4.0), (128.2, 2.4), (163.9, 4.7), starts_from="eliminated"),
    _row("CryoRL-C51 †", 3, (47.4, 0.9), (82.2, 2.3), (116.9, 1.0), (144.0, 1.9), starts_from="eliminated"),
    _row(
        "CryoRL-DQN † (dueling)",
        3,
        (47.3, 1.0),
        (89.4, 2.9),
        (128.6, 2.0),
        (165.4, 2.5),
        starts_from="eliminated",
    ),
    _row(
        "CryoRL-DQN † (prioritized)",
        3,
        (47.2, 1.7),
        (90.6, 2.8),
        (132.9, 3.0),
        (174.0, 3.1),
        starts_from="eliminated",
    ),
)
"""The variants of Table 3 that Table 2 does not hold."""


TABLE4: tuple[PublishedRow, ...] = (
    _row("test Y1, classifier of Y1, agent of Y1", 4, (47.4, 0.5), (89.0, 3.1), (131.8, 1.8), (172.6, 2.0),
         starts_from="eliminated"),
    _row("test Y1, classifier of M, agent of Y1", 4, (44.7, 2.2), (70.0, 4.7), (104.0, 3.6), (138.9, 2.6),
         starts_from="eliminated"),
    _row("test Y2, classifier of M, agent of Y2", 4, (31.0, 6.5), (56.3, 7.7), (87.1, 8.0), (125.5, 8.3),
         starts_from="eliminated"),
    _row("test Y2, classifier of M, agent of Y1", 4, (20.9, 4.3), (55.8, 3.7), (83.1, 3.5), (91.8, 3.3),
         starts_from="eliminated"),
)  # fmt: skip
"""Table 4: Y2 is another sample and grid type, M the daily use of a microscope. Its first row is CryoRL-DQN † of
Table 2, so all are read as rows with action elimination. Y2 and M are not public."""

TABLE4_ACCURACY = {"Y1": 0.885, "M": 0.735}
"""Table 4, share of holes that a classifier of Y1 gets right on Y1, and one of M on Y2."""


def best_published(starts_from: StartRule) -> tuple[float, ...]:
    """(4,) the best published mean per budget among rows with this start rule."""
    rows = [row for row in (*TABLE2.values(), *TABLE3_VARIANTS) if row.starts_from == starts_from]
    columns = zip(*(row.good_mean for row in rows), strict=True)
    return tuple(max(mean for mean in column if mean is not None) for column in columns)
