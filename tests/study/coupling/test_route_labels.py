"""The study `route-labels`: its rows and missing cells."""

from __future__ import annotations

from typing import Any

from cryoscout.study.coupling.route_labels import (
    BY_AGENT,
    ROWS,
    RULE,
    VALUES,
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
    assert line.endswith("| 61.0 ± 0.0 (3) | 61.0 ± 0.0 (5) | 61.0 ± 0.0 (3) | +3.0 [+3.0, +3.0] |")
    line = next(line for line in found.markdown.splitlines() if line.startswith(f"| {VALUES} "))
    assert line.endswith("| missing | 72.0 ± 0.0 (3) | missing | +14.0 [+14.0, +14.0] |")
    assert len(found.rows) == 3 * len(ROWS)
    assert found.figure_png.startswith(b"\x89PNG")


def test_cells_that_were_not_run_are_missing() -> None:
    assert "missing" in page(rows(0), "quick").markdown
    assert page(rows(1), "quick").rows[0]["right_mean"] is None
