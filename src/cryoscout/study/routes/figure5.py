"""Study `cryorl-figure5`: the share of good holes among the visited ones, by time (CryoRL, Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.published import CITATION
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table
from cryoscout.study.routes.replays import (
    Cell,
    ReplaySpec,
    cell_json,
    cells,
    course_moments,
    replay_trials,
    run_replay_trial,
)

SEED = 0
BUDGET_MIN = 480.0
TABLE_STEP_MIN = 60

SPECS = (
    ReplaySpec("random", "random", "res50"),
    ReplaySpec("greedy", "greedy", "res50", crossing="drop"),
    ReplaySpec("genetic", "genetic", "res50"),
    ReplaySpec("annealing", "annealing", "res50"),
    ReplaySpec("offline", "offline", "res50"),
    ReplaySpec("expected", "expected", "combined"),
    ReplaySpec("index", "index", "combined"),
    ReplaySpec("adaptive", "adaptive", "combined"),
)


def specs(profile: Profile) -> tuple[ReplaySpec, ...]:
    """Every policy at 480 min from the same 50 starts; `paper` takes 200, but 50 for the search methods."""
    if profile == "quick":
        return SPECS
    return tuple(replace(spec, starts=50 if spec.key in ("genetic", "annealing") else 200) for spec in SPECS)


def trials(profile: Profile) -> list[Trial]:
    """One trial per policy and chunk of starts."""
    return replay_trials(specs(profile), [BUDGET_MIN], SEED)


def share_of_good(cell: Cell) -> NDArray[np.float64]:
    """(k, t) share of good among the visits so far, per route and moment; NaN before the first visit."""
    with np.errstate(invalid="ignore"):
        share: NDArray[np.float64] = cell.good_course / cell.visited_course
    return share


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """Table at 60-minute steps, and the figure."""
    found = {key: cell for (key, _), cell in cells(rows).items()}
    moments = course_moments(BUDGET_MIN)
    chosen = specs(profile)
    text = "\n\n".join(
        [
            "Share of good among the holes visited so far (%), Y1 validation, time model `cryorl`, "
            "budget 480 min, "
            "mean over starts. The paper draws the same as its Figure 5 and prints one number of it: "
            "CryoRL finds "
            f"about 95 % good ({CITATION.rsplit(', Tables', 1)[0]}, section 5.2). Of all validation holes "
            "37.6 % "
            "are good.",
            _table(chosen, found, moments),
        ]
    )
    json_rows: list[Json] = []
    for spec in chosen:
        cell = found.get(spec.key)
        row = cell_json(spec, BUDGET_MIN, cell)
        row["minutes"] = moments.tolist()
        row["share_of_good_mean"] = None if cell is None else [round(each, 4) for each in _mean(cell)]
        json_rows.append(row)
    return Page(text, _figure(chosen, found, moments), json_rows)


def _mean(cell: Cell) -> list[float]:
    means: list[float] = np.nanmean(share_of_good(cell), axis=0).tolist()
    return means


def _table(
    chosen: Sequence[ReplaySpec], found: Mapping[str, Cell | None], moments: NDArray[np.float64]
) -> str:
    shown = [i for i, moment in enumerate(moments) if moment % TABLE_STEP_MIN == 0]
    lines = []
    for spec in chosen:
        cell = found.get(spec.key)
        values = [MISSING] * len(shown) if cell is None else [f"{100 * _mean(cell)[i]:.1f}" for i in shown]
        lines.append([f"`{spec.label}`", *values])
    return markdown_table(["", *[f"{moments[i]:.0f} min" for i in shown]], lines)


def _figure(
    chosen: Sequence[ReplaySpec], found: Mapping[str, Cell | None], moments: NDArray[np.float64]
) -> bytes:
    from cryoscout.report.figures import Curve, curves_figure, png_bytes

    curves = []
    for spec in chosen:
        cell = found.get(spec.key)
        if cell is not None:
            share = share_of_good(cell)
            mean = np.nanmean(share, axis=0)
            # No bands: those of eight policies hide each other; the paper's figure has none either.
            curves.append(Curve(spec.key, moments, mean, mean, mean))
    return png_bytes(curves_figure(curves, "good among visited (%)", percent=True, starts_at_zero=False))


STUDY = Study(
    "cryorl-figure5", "CryoRL, Figure 5: share of good among visited", trials, run_replay_trial, page
)
