"""The study `route-labels`: its rows, missing cells, and that a label never sees itself in the ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.coupling.lesson import UNLABELLED, Told
from cryoscout.study.coupling.route_labels import (
    BY_AGENT,
    FOLDS,
    ROWS,
    RULE,
    VALUES,
    _made_probability,
    page,
    trials,
)
from cryoscout.study.engine.runner import TrialRow


def rows(only: int | None = None) -> list[TrialRow]:
    made: list[TrialRow] = []
    for trial in trials("quick")[:only]:
        of_agent = (BY_AGENT, VALUES)
        right = {
            row: 0.58 + 0.01 * place
            for place, row in enumerate(ROWS)
            if (row in of_agent) == ("agent" in trial.parameters)
        }
        result: dict[str, Any] = {"holes": 8653, "labels": 865, "right": right}
        made.append(TrialRow(trial, 1.0, result, None))
    return made


def test_the_table_has_every_row_and_its_difference_to_the_classifier() -> None:
    found = page(rows(), "quick")
    line = next(line for line in found.markdown.splitlines() if line.startswith(f"| {RULE} "))
    assert line.endswith("| 61.0 ± 0.0 | 61.0 ± 0.0 | 61.0 ± 0.0 | +3.0 [+3.0, +3.0] |")
    line = next(line for line in found.markdown.splitlines() if line.startswith(f"| {VALUES} "))
    assert line.endswith("| missing | 69.0 ± 0.0 | missing | +11.0 [+11.0, +11.0] |")
    assert len(found.rows) == 3 * len(ROWS)
    assert found.figure_png.startswith(b"\x89PNG")


def test_cells_that_were_not_run_are_missing() -> None:
    assert "missing" in page(rows(0), "quick").markdown
    assert page(rows(1), "quick").rows[0]["right_mean"] is None


def test_the_rank_of_a_label_is_of_routes_that_were_not_told_it() -> None:
    n = 40
    labels = np.where(np.arange(n) % 2 == 0, np.arange(n) % 4 // 2, UNLABELLED).astype(np.int64)
    told = Told(labels, np.zeros(n, dtype=np.bool_))
    asked: list[NDArray[np.int64]] = []

    def routes(known: Told) -> NDArray[np.int64]:
        asked.append(known.labels)
        # Whoever knows a label visits it first: a rank that sees its own label is right everywhere.
        return np.array([np.lexsort((np.arange(n), -known.labels))])

    def early(known: Told) -> NDArray[np.float64]:
        places = np.empty(n)
        places[routes(known)[0]] = np.arange(n)
        return -places

    p = _made_probability(early(told), told, early, FOLDS, increasing=True)
    hidden = [(each == UNLABELLED) & (labels != UNLABELLED) for each in asked[1:]]
    assert len(hidden) == FOLDS
    np.testing.assert_array_equal(np.sum(hidden, axis=0), labels != UNLABELLED)
    assert ((p >= 0.0) & (p <= 1.0)).all()
    # Out of sight of its label a hole's rank is that of any other, and says nothing.
    assert p[labels == 1].mean() < 0.9
