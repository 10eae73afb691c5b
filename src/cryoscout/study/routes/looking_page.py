"""The page of the study `looking`: what CryoRL's premise costs, part by part."""

from __future__ import annotations

import numpy as np

from cryoscout.study.engine.catalogue import Page, Profile
from cryoscout.study.engine.runner import Json
from cryoscout.study.engine.tables import MISSING, interval_text, markdown_table, mean_std
from cryoscout.study.routes.looking import (
    ATLAS,
    BOUND,
    BUDGETS_MIN,
    FIRST_SESSION_SEED,
    MOST_SHIFT,
    SKETCHED,
    SQUARES_WORTH,
    STARTS,
    TARGETS,
    TIME_MODEL,
    WHOLE,
    WHOLE_STARTS,
    Y1,
    Cells,
    best_share,
    budgets_of,
    difference,
    means_over_both,
    runs_of,
    share_of_the_best_shares,
    specs,
)

WHY_NOT_MORE = (
    "On training patches and in simulated sessions, who knew every prediction beforehand and still paid the looks "
    "would find 1 to 10 % less than the bound with looks charged, and `explore` 8 to 15 % less than that: the price of "
    "not knowing where to look (`python scripts/select_explore.py 6 --knowing`). What was tried there, and what each "
    "change gains: [How `explore` was chosen](../belief-and-planners.md#how-explore-was-chosen)."
)


def page_of(cells: Cells, profile: Profile) -> Page:
    """The tables, the gains and the targets."""
    text = "\n\n".join(
        [
            _premise(cells),
            "## Y1, validation patches",
            f"Good micrographs found, mean ± standard deviation over {STARTS[profile]} starts, predictions `combined`, "
            f"time model `{TIME_MODEL}`, crossing visit dropped. In brackets: patches looked at. Everything is hidden "
            "at the start but the start hole's patch and square, which `look-first` pays for.",
            _table(cells, Y1),
            "`look-share` is a bar, no policy: which share is best is known in hindsight alone. `look-first` is the "
            "share of 1.",
            "Good micrographs more by `explore` from the same starts: mean and 95 % bootstrap interval.",
            _gains(cells, Y1, 0.95),
            "## Against the figures that the targets were set by",
            _targets(cells),
            "### Why not more",
            WHY_NOT_MORE,
            "## Simulated sessions with an atlas",
            f"Sessions of the preset `atlas`, seeds {FIRST_SESSION_SEED} and on, which were fixed before any was run. "
            "Predictions of a context model fitted on another session, no start hole, nothing looked at. Minutes are "
            f"those of {', '.join(map(str, SQUARES_WORTH[:-1]))} and all {SQUARES_WORTH[-1]} squares with their looks "
            "and the holes that are expected to be good. In brackets: patches looked at; how many of the "
            f"{runs_of(ATLAS, profile)} sessions were run.",
            _table(cells, ATLAS),
            "Good micrographs more by `explore` in the same session: mean and 90 % bootstrap interval.",
            _gains(cells, ATLAS, 0.90),
            _aims_of_simulated(cells),
            "## The whole of 21mar02c",
            "All 3,538 holes, squares in the order of their numbers, with the session's own results only (`flat`: the "
            f"classifiers saw the labels of its training holes); {WHOLE_STARTS[profile]} starts.",
            _table(cells, WHOLE),
            _gains(cells, WHOLE, 0.95),
        ]
    )
    return Page(text, _figure(cells), _json_rows(cells, profile))


def _mean(cells: Cells, key: str, budget: float, part: str = Y1) -> float | None:
    cell = cells[part, key, budget]
    return None if cell is None else float(cell.good.mean())


def _premise(cells: Cells) -> str:
    budget = BUDGETS_MIN[1]
    free, first = _mean(cells, "everything known for free", budget), _mean(cells, "look-first", budget)
    explore = _mean(cells, "explore", budget)
    if free is None or first is None or explore is None:
        return "CryoRL presumes that every patch was looked at before. What that costs is not run yet."
    return (
        f"CryoRL presumes that every patch was looked at before. On its own session that premise costs "
        f"{free - first:.0f} of {free:.0f} good micrographs in {budget:g} minutes: with everything known for free a "
        f"plan finds {free:.1f}, and {first:.1f} when the looks are paid for first. `explore`, which looks as it goes, "
        f"finds {explore:.1f}."
    )


def _header(part: str) -> list[str]:
    if part != ATLAS:
        return ["", *[f"{budget:g} min" for budget in BUDGETS_MIN]]
    worth = zip(SQUARES_WORTH, budgets_of(part), strict=True)
    return ["", *[f"{squares} squares, {budget:,.0f} min" for squares, budget in worth]]


def _table(cells: Cells, part: str) -> str:
    lines = []
    for spec in specs(part):
        line = [f"`{spec.key}`" if spec.policy != BOUND and spec.looks == "charged" else spec.key]
        for budget in budgets_of(part):
            cell = cells[part, spec.key, budget]
            if cell is None:
                line.append(MISSING)
                continue
            shown = mean_std(float(cell.good.mean()), float(cell.good.std()))
            said = [f"{cell.patches.mean():.0f}"] if spec.policy != BOUND and spec.looks == "charged" else []
            said += [f"{len(cell.runs)} sessions"] if part == ATLAS else []
            line.append(f"{shown} ({'; '.join(said)})" if said else shown)
        lines.append(line)
    return markdown_table(_header(part), lines)


def _gains(cells: Cells, part: str, coverage: float) -> str:
    lines = []
    for other in ("look-first", "look-greedy"):
        gains = [
            interval_text(difference(cells, "explore", other, budget, part, coverage))
            for budget in budgets_of(part)
        ]
        lines.append([f"over `{other}`", *gains])
    gains = []
    for budget in budgets_of(part):
        share = best_share(cells, budget, part)
        gain = None if share is None else difference(cells, "explore", share, budget, part, coverage)
        gains.append(MISSING if gain is None else f"{interval_text(gain)} ({str(share).split()[-1]})")
    lines.append(["over the best `look-share`", *gains])
    shares = []
    for budget in budgets_of(part):
        means = means_over_both(cells, "explore", "bound, looks charged", budget, part)
        shares.append(MISSING if means is None else f"{100 * means[0] / means[1]:.0f} %")
    lines.append(["share of the charged bound", *shares])
    of_each = [share_of_the_best_shares(cells, budget, part) for budget in budgets_of(part)]
    said = [MISSING if share is None else f"{100 * share:.0f} %" for share in of_each]
    lines.append([f"share of the best `look-share` of each {'session' if part == ATLAS else 'start'}", *said])
    return markdown_table(_header(part), lines)


def _aims_of_simulated(cells: Cells) -> str:
    """Whether `explore` is above both others at every budget, as far as sessions were run."""
    reached, not_reached, missing = list[str](), list[str](), list[str]()
    for squares, budget in zip(SQUARES_WORTH, budgets_of(ATLAS), strict=True):
        for other in ("look-first", "look-greedy"):
            gain = difference(cells, "explore", other, budget, ATLAS, 0.90)
            of = missing if gain is None else reached if gain.low > 0 else not_reached
            of.append(f"`{other}` in the time of {squares} squares")
    told = (("above", reached), ("not above", not_reached), ("not run", missing))
    said = "; ".join(f"{words}: {', '.join(those)}" for words, those in told if those)
    return (
        f"`explore` has to be above both at every budget, the interval above 0. {said[:1].upper()}{said[1:]}."
    )


def _targets(cells: Cells) -> str:
    lines, words = [], []
    for name, figures in SKETCHED.items():
        lines.append([f"sketched: {name}", *[f"{figure:.1f}" for figure in figures]])
    shifted = []
    for budget, target, crude in zip(BUDGETS_MIN, TARGETS, SKETCHED["a crude rule"], strict=True):
        here = _mean(cells, "look-greedy", budget)
        shift = 0.0 if here is None or abs(here - crude) <= MOST_SHIFT else here - crude
        shifted.append(target + shift)
        if shift:
            words.append(f"{shift:+.1f} at {budget:g} min")
    lines.append(["target for `explore`", *[f"{target:.0f}" for target in TARGETS]])
    lines.append(["target, shifted", *[f"{target:.1f}" for target in shifted]])
    found = [_mean(cells, "explore", budget) for budget in BUDGETS_MIN]
    lines.append(["`explore`", *[MISSING if mean is None else f"{mean:.1f}" for mean in found]])
    table = markdown_table(["", *[f"{budget:g} min" for budget in BUDGETS_MIN]], lines)
    moved = (
        f" `look-greedy` differs from the sketch by {', '.join(words)}, so the targets shift by that."
        if words
        else ""
    )
    missed = [
        f"{budget:g} min ({mean:.1f} of {target:.1f})"
        for budget, mean, target in zip(BUDGETS_MIN, found, shifted, strict=True)
        if mean is not None and mean < target
    ]
    for budget in BUDGETS_MIN:
        share = best_share(cells, budget)
        gain = None if share is None else difference(cells, "explore", share, budget)
        if gain is not None and gain.mean < 0:
            missed.append(f"`{share}` in hindsight, {-gain.mean:.1f} more at {budget:g} min")
    outcome = f" Missed: {', '.join(missed)}." if missed else ""
    return f"The sketch had its own 12 starts.{moved}{outcome}\n\n{table}"


def _json_rows(cells: Cells, profile: Profile) -> list[Json]:
    rows: list[Json] = []
    for part in (Y1, WHOLE, ATLAS):
        for spec in specs(part):
            for budget in budgets_of(part):
                cell = cells[part, spec.key, budget]
                bound = f"bound, looks {spec.looks}"
                rows.append(
                    {
                        "session": part,
                        "policy": spec.key if spec.share is not None else spec.policy,
                        "looks": spec.looks,
                        "budget_min": budget,
                        "good_mean": None if cell is None else round(float(cell.good.mean()), 3),
                        "good_std": None if cell is None else round(float(cell.good.std()), 3),
                        "bound_mean": _bound_mean(cells, spec.key, bound, budget, part),
                        "looked_patches_mean": None if cell is None else round(float(cell.patches.mean()), 3),
                        "prediction": None if spec.policy == BOUND else spec.prediction,
                        "time_model": spec.time_model,
                        "starts": runs_of(part, profile) if cell is None else len(cell.runs),
                        "missing": cell is None,
                    }
                )
    return rows


def _bound_mean(cells: Cells, key: str, bound: str, budget: float, part: str) -> float | None:
    """Mean of the bound over the runs of a row, its own where the row is missing; None where it lacks some of them."""
    cell, of = cells[part, key, budget], cells.get((part, bound, budget))
    if cell is None or of is None:
        return None if of is None else float(of.good.mean())
    return float(of.among(cell.runs).mean()) if np.isin(cell.runs, of.runs).all() else None


def _figure(cells: Cells) -> bytes:
    from cryoscout.report.figures import png_bytes
    from cryoscout.study.engine.figures import gains_figure

    series: dict[str, list[tuple[float, float, float] | None]] = {}
    for other in ("look-first", "look-greedy"):
        points: list[tuple[float, float, float] | None] = []
        for budget in BUDGETS_MIN:
            gain = difference(cells, "explore", other, budget)
            points.append(None if gain is None else (gain.mean, gain.low, gain.high))
        series[f"over {other}"] = points
    return png_bytes(
        gains_figure(
            np.array(BUDGETS_MIN),
            series,
            "minutes in all, looks included",
            "good micrographs more by explore",
        )
    )
