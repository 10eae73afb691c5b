"""Markdown tables of the studies' pages; a missing cell is said to be missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cryoscout.report.statistics import Interval, mean_and_std

MISSING = "missing"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table: the first column left, the others right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def mean_std(mean: float | None, std: float | None, absent: str = MISSING) -> str:
    """`47.4 ± 0.5`; `absent` where there is no mean."""
    if mean is None:
        return absent
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def over_seeds(values: NDArray[np.float64], digits: int = 1) -> str:
    """`47.4 ± 0.5 (10)`: mean, deviation and number of values; missing where there is none, no deviation of one."""
    if not len(values):
        return MISSING
    mean, std = mean_and_std(values)
    spread = f" ± {std:.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread} ({len(values)})"


def interval_text(interval: Interval | None) -> str:
    """`+4.1 [+3.2, +5.0]`; missing where it could not be computed."""
    return MISSING if interval is None else str(interval)
