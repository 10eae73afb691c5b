"""The page of the study `advice`: three tables, and how far stated probabilities of reaching a target are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from cryoscout.advice.drift import LEVELS
from cryoscout.report.statistics import paired_difference
from cryoscout.study.engine.catalogue import Page, Profile
from cryoscout.study.engine.runner import Json, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table
from cryoscout.study.routes.advice import (
    BUDGET_MIN,
    DRIFT_AT,
    DRIFT_HOLES,
    DROPS,
    HOLES,
    LIMITS,
    MOMENTS,
    NEW_GRID_AFTER,
    PARTS,
    PRESET,
    RESULTS,
    SEED,
    SESSIONS,
)

LONGEST = RESULTS - DRIFT_AT
"""Results from the beginning of a drift to the end of a session."""


def page_of(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """Of the sessions that have run."""
    parts = {part: _rows_of(rows, part) for part in PARTS}
    stop = _stop_table(parts["stop"])
    drift, hard = _drift_table(parts["drift"]), _drift_table(parts["hard"], "hard")
    grid, calm = _grid_words(parts["drift"]), _calm_table(parts["calm"])
    so_far = ", ".join(
        f"{len(parts[part])} of {count if profile == 'paper' else count // 5} ({part})"
        for part, count in SESSIONS.items()
    )
    text = "\n\n".join(
        [
            f"Simulated sessions (`{PRESET}`; where not said otherwise {HOLES} holes, 30 % good, a classifier that is "
            f"right for three holes of four), {BUDGET_MIN:g} minutes, planner `adaptive`. Sessions run so far: "
            f"{so_far}. Settings were chosen on sessions of other seeds (`scripts/select_advice.py`).",
            "## Stop or go",
            "In half of the sessions the classifier is far too sure of itself. Each session's target is drawn between "
            "0.7 and 1.3 times the count that is expected at the start, independent of the truth. The rival takes the "
            "results so far as a beta-binomial with a flat prior, and the holes left from the mean minutes so far. "
            "Brier score of the probability of reaching the target, lower is better; brackets: paired 90 % bootstrap "
            "interval of the difference. Targets: lower than the rival at each moment, the interval below 0; the 80 % "
            "interval of the final count holds in 75 to 85 %, all moments together.",
            stop[0],
            stop[1],
            "The route plans again after every result and finds more than the plan that stands at the moment would "
            "have given. The forecast holds that: the plan, and a share of what leaving patches that turn out bad "
            "would save, which was estimated on sessions of other seeds. The last column says how often the final "
            "count lies above the interval.",
            "## Drift",
            f"Sessions of {RESULTS} results; after {DRIFT_AT} of them good micrographs are lost at random. First "
            f"`{PRESET}` with {DRIFT_HOLES} holes, as it is: a classifier that is right for 88.5 % of the holes and "
            "too sure of itself. The rival is a CUSUM that knows the rate before and 20 points less after, at the "
            "lowest limit at which it warns as rarely without a drift. Medians are over the sessions that had not "
            "warned before the drift, whose number is in brackets; one in which it is never told counts as "
            f"{LONGEST}, all results that are left. Targets: at most 5 % warn without a drift; 20 points within 80 "
            "results and 1.5 times the rival, 40 points within 30.",
            drift[0],
            "Then the hard sessions of the part above. Their patches differ by as much as a drift of 20 points, and "
            "the best holes are used up before the end: what can be told from that needs most of the session.",
            hard[0],
            grid[0],
            "## Calm",
            "One result after the other; with all defaults, and with none committed and the default hysteresis. "
            "Targets: all defaults find at most 1 % less than planning freely; with none committed one result changes "
            "at most 20 % of the next five.",
            calm[0],
        ]
    )
    return Page(text, _figure(parts["stop"]), [*stop[2], *drift[1], *hard[1], *grid[1], *calm[1]])


def _rows_of(rows: Sequence[TrialRow], part: str) -> list[Json]:
    chosen = [row.result for row in rows if row.trial.parameters["part"] == part]
    return [each for result in chosen if result is not None for each in result["rows"]]


def _stop_table(rows: Sequence[Json]) -> tuple[str, str, list[Json]]:
    if not rows:
        return MISSING, MISSING, []
    table = np.array([row["rows"] for row in rows])
    ours, rival = ((table[:, :, column] - table[:, :, 2]) ** 2 for column in (0, 1))
    held = (table[:, :, 3] <= table[:, :, 5]) & (table[:, :, 5] <= table[:, :, 4])
    above = table[:, :, 5] > table[:, :, 4]
    lines, json_rows = [], []
    for place, share in enumerate(MOMENTS):
        lines.append(
            [
                f"{share:.0%}".replace("%", " %"),
                str(len(rows)),
                f"{ours[:, place].mean():.3f}",
                f"{rival[:, place].mean():.3f}",
                f"{held[:, place].mean():.0%}".replace("%", " %"),
                f"{above[:, place].mean():.0%}".replace("%", " %"),
            ]
        )
        json_rows.append(
            {
                "part": "stop",
                "moment": share,
                "sessions": len(rows),
                "brier": float(ours[:, place].mean()),
                "brier_rival": float(rival[:, place].mean()),
                "held_80": float(held[:, place].mean()),
                "above_80": float(above[:, place].mean()),
            }
        )
    together = paired_difference(ours.mean(axis=1), rival.mean(axis=1), SEED, coverage=0.9)
    said = (
        f"All three together: difference {together.mean:+.4f} [{together.low:+.4f}, {together.high:+.4f}]. The 80% "
        f"interval of the final count holds in {held.mean():.1%} of all".replace("%", " %")
        + "."
    )
    json_rows.append(
        {
            "part": "stop together",
            "difference": together.mean,
            "low": together.low,
            "high": together.high,
            "held_80": float(held.mean()),
        }
    )
    head = ["time passed", "sessions", "Brier, ours", "Brier, rival", "80 % interval holds", "above it"]
    return markdown_table(head, lines), said, json_rows


def _drift_table(rows: Sequence[Json], part: str = "drift") -> tuple[str, list[Json]]:
    whole = [row for row in rows if row["results"] == RESULTS]
    if not whole:
        return MISSING, []
    false = float(np.mean([row["0"]["ours"] is not None for row in whole]))
    rival_false = [
        float(np.mean([row["0"]["rival"][place] is not None for row in whole]))
        for place in range(len(LIMITS))
    ]
    # Only a rival that warns as rarely is one; where none of its limits does, its cells are missing.
    place = next((number for number, each in enumerate(rival_false) if each <= false), None)
    warns = f"{MISSING}: no limit warns as rarely" if place is None else _warns(rival_false[place])
    lines = [["none", str(len(whole)), _warns(false), warns, ""]]
    json_rows: list[Json] = [
        {
            "part": part,
            "drop": 0.0,
            "sessions": len(whole),
            "warned": false,
            "warned_rival": None if place is None else rival_false[place],
            "limit_rival": None if place is None else LIMITS[place],
        }
    ]
    for drop in DROPS:
        told = [row[f"{drop:g}"] for row in whole]
        ours = _Delays.of([each["ours"] for each in told])
        rival = None if place is None else _Delays.of([each["rival"][place] for each in told])
        at_once = sum(each["level"] == "all at once" for each in told)
        found = sum(each["level"] is not None for each in told)
        words = [ours.in_words(), MISSING if rival is None else rival.in_words(), f"{at_once} of {found}"]
        fall = "to nothing" if drop == 1.0 else f"{100 * drop:.0f} points"
        lines.append([fall, str(len(whole)), *words])
        json_rows.append(
            {
                "part": part,
                "drop": drop,
                **{f"{name}": value for name, value in asdict(ours).items()},
                **(
                    {} if rival is None else {f"{name}_rival": value for name, value in asdict(rival).items()}
                ),
                "at_once": at_once,
                "told": found,
            }
        )
    head = ["drift", "sessions", "ours (median)", "rival (median)", "told as all at once"]
    return markdown_table(head, lines), json_rows


def _warns(share: float) -> str:
    return f"{100 * share:.1f} % warn"


@dataclass(frozen=True)
class _Delays:
    """Results from the beginning of a drift to the first warning."""

    delay_median: float  # of the sessions that had not warned before; one that never warns counts as LONGEST
    sessions: int  # behind the median
    not_told: int  # of these, sessions that never warn

    @classmethod
    def of(cls, first: Sequence[int | None]) -> _Delays:
        """first : index of the first warning of each session, None where there is none"""
        delays = [
            LONGEST if each is None else each - DRIFT_AT for each in first if each is None or each >= DRIFT_AT
        ]
        not_told = sum(each is None for each in first)
        return cls(float(np.median(delays)) if delays else float(LONGEST), len(delays), not_told)

    def in_words(self) -> str:
        after = "not told" if self.delay_median >= LONGEST else f"after {self.delay_median:.0f} results"
        return f"{after} ({self.sessions} sessions, {self.not_told} not told)"


def _grid_words(rows: Sequence[Json]) -> tuple[str, list[Json]]:
    found = [row["grid"] for row in rows if row["results"] == RESULTS and row["grid"] is not None]
    told = [each for each in found if each["told_after"] is not None]
    if not told:
        return MISSING, []
    after = float(np.median([each["told_after"] for each in told]))
    first, last = (
        {level: sum(each["levels"][end] == level for each in told) for level in LEVELS} for end in (0, -1)
    )
    named = [", ".join(f"{count} as {level}" for level, count in each.items()) for each in (first, last)]
    text = (
        f"A grid that gives nothing from its first result on (the first one entered after {NEW_GRID_AFTER} results, "
        f"in {len(found)} sessions) is told in {len(told)}, after {after:.0f} of its results (median). Named first: "
        f"{named[0]}; when the route leaves it: {named[1]}. Until results come from a second square of it, it is that "
        "square. A grid that is only worse than others is within what grids differ by: the belief learns it and the "
        "planner leaves it."
    )
    row: Json = {
        "part": "bad grid",
        "sessions": len(found),
        "told": len(told),
        "after_median": after,
        "first": first,
        "last": last,
    }
    return text, [row]


def _calm_table(rows: Sequence[Json]) -> tuple[str, list[Json]]:
    if not rows:
        return MISSING, []
    lines, json_rows = [], []
    free = float(np.sum([row["free"][0] for row in rows]))
    for name, words in (
        ("free", "planned freely"),
        ("defaults", "all defaults"),
        ("uncommitted", "--committed 0"),
    ):
        good = float(np.sum([row[name][0] for row in rows]))
        changed = float(np.mean([row[name][1] for row in rows]))
        lines.append(
            [
                words,
                str(len(rows)),
                f"{good / len(rows):.1f}",
                f"{100 * (good / free - 1):+.2f} %",
                f"{100 * changed:.1f} %",
            ]
        )
        json_rows.append(
            {
                "part": "calm",
                "setting": name,
                "sessions": len(rows),
                "good": good,
                "of_free": good / free,
                "changed": changed,
            }
        )
    head = ["plan", "sessions", "good found", "against freely", "next five changed by a result"]
    return markdown_table(head, lines), json_rows


def _figure(rows: Sequence[Json]) -> bytes:
    """Reliability of the probabilities of reaching the target, ours and the rival's."""
    from matplotlib.figure import Figure

    from cryoscout.report.figures import house_style, png_bytes

    with house_style():
        figure = Figure(figsize=(5, 4.2), layout="constrained")
        axes = figure.subplots()
        table = np.array([row["rows"] for row in rows]) if rows else np.zeros((0, 3, 6))
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for column, label, marker in ((0, "advice", "o"), (1, "results alone", "s")):
            stated, met = table[:, :, column].ravel(), table[:, :, 2].ravel()
            fifth = np.minimum((stated * 5).astype(int), 4)
            points = [
                (stated[fifth == bin_].mean(), met[fifth == bin_].mean())
                for bin_ in range(5)
                if (fifth == bin_).any()
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, label=label)
        axes.set_xlabel("stated probability of reaching the target")
        axes.set_ylabel("share that reached it")
        if rows:
            axes.legend()
    return png_bytes(figure)
