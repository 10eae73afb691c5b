"""Study `delay`: what learning from results is worth when they come late and the microscope takes lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cryoscout.routing.replay import ReplanEvery
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.published import BUDGETS_MIN
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import interval_text, markdown_table, mean_std
from cryoscout.study.routes.replays import (
    Cell,
    ReplaySpec,
    cell_json,
    cells,
    difference,
    replay_trials,
    run_replay_trial,
)

SEED = 0
DELAYS_MIN = (0.0, 5.0, 15.0)
REPLAN_EVERY: tuple[ReplanEvery, ...] = (1, 20, "square")
REFERENCES = (
    ReplaySpec("expected", "expected", "combined"),
    ReplaySpec("index", "index", "combined"),
)
"""Fixed plans: they ignore outcomes, so delays do not touch them."""


def adaptive_key(delay_min: float, every: ReplanEvery) -> str:
    """Key of one cell of the sweep."""
    return f"adaptive, delay {delay_min:g} min, results every {every}"


def specs(profile: Profile) -> tuple[ReplaySpec, ...]:
    """The sweep and its fixed references from the same starts: 20, or 200 in the profile `paper`."""
    starts = 20 if profile == "quick" else 200
    sweep = (
        ReplaySpec(
            adaptive_key(delay, every), "adaptive", "combined", ctf_delay_min=delay, replan_every=every
        )
        for every in REPLAN_EVERY
        for delay in DELAYS_MIN
    )
    return tuple(replace(spec, starts=starts) for spec in (*REFERENCES, *sweep))


def trials(profile: Profile) -> list[Trial]:
    """One trial per cell, budget and chunk of starts."""
    return replay_trials(specs(profile), BUDGETS_MIN, SEED)


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """Table of good holes and of the gain over the fixed plan."""
    found = cells(rows)
    chosen = specs(profile)
    text = "\n\n".join(
        [
            "Good holes found on Y1 validation, time model `cryorl`, mean ± standard deviation over "
            f"{chosen[0].starts} starts. A result reaches the policy so many minutes after its visit "
            "ended, and only "
            "when a new list is sent: before every visit, before every 20th, or on leaving a square. "
            "`expected` "
            "and `index` are fixed plans, which no delay touches; they are the reference.",
            _table(chosen, found),
            "## Gain over the fixed plan",
            "Good holes more than `expected` from the same starts: mean and 95 % bootstrap interval.",
            _gains(chosen, found),
        ]
    )
    json_rows: list[Json] = [
        cell_json(spec, budget, found.get((spec.key, float(budget))))
        for spec in chosen
        for budget in BUDGETS_MIN
    ]
    return Page(text, _figure(chosen, found), json_rows)


def _row_title(spec: ReplaySpec) -> list[str]:
    if spec.policy != "adaptive":
        return [f"`{spec.label}` (fixed)", "-", "-"]
    every = {1: "every hole", 20: "20 holes", "square": "square"}[spec.replan_every]
    return [f"`{spec.label}`", every, f"{spec.ctf_delay_min:g} min"]


def _table(chosen: Sequence[ReplaySpec], found: Mapping[tuple[str, float], Cell | None]) -> str:
    lines = []
    for spec in chosen:
        row = [found.get((spec.key, float(budget))) for budget in BUDGETS_MIN]
        shown = [
            mean_std(None, None)
            if cell is None
            else mean_std(float(cell.good.mean()), float(cell.good.std()))
            for cell in row
        ]
        lines.append([*_row_title(spec), *shown])
    return markdown_table(
        ["", "new list", "result after", *[f"{budget} min" for budget in BUDGETS_MIN]], lines
    )


def _gains(chosen: Sequence[ReplaySpec], found: Mapping[tuple[str, float], Cell | None]) -> str:
    lines = []
    for spec in chosen:
        if spec.key != "expected":
            gains = [
                difference(found.get((spec.key, float(budget))), found.get(("expected", float(budget))))
                for budget in BUDGETS_MIN
            ]
            lines.append([*_row_title(spec), *[interval_text(gain) for gain in gains]])
    return markdown_table(
        ["", "new list", "result after", *[f"{budget} min" for budget in BUDGETS_MIN]], lines
    )


def _figure(chosen: Sequence[ReplaySpec], found: Mapping[tuple[str, float], Cell | None]) -> bytes:
    from cryoscout.report.figures import png_bytes
    from cryoscout.study.engine.figures import gains_figure

    series: dict[str, list[tuple[float, float, float] | None]] = {}
    names = {
        1: "new list before every hole",
        20: "new list every 20 holes",
        "square": "new list on leaving a square",
    }
    for every in REPLAN_EVERY:
        points: list[tuple[float, float, float] | None] = []
        for delay in DELAYS_MIN:
            gain = difference(
                found.get((adaptive_key(delay, every), float(BUDGETS_MIN[-1]))),
                found.get(("expected", float(BUDGETS_MIN[-1]))),
            )
            points.append(None if gain is None else (gain.mean, gain.low, gain.high))
        series[names[every]] = points
    return png_bytes(
        gains_figure(
            np.array(DELAYS_MIN),
            series,
            "minutes from the end of a visit to its result",
            f"good holes more than the fixed plan in {BUDGETS_MIN[-1]} min",
        )
    )


STUDY = Study("delay", "What late results cost", trials, run_replay_trial, page)
