"""Study `squares`: where FixMatch helps and where it does not, on real grid squares and on simulated holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscout.perception.augmentations import LEFT_OUT_ALONE
from cryoscout.report.figures import BLUE, GREEN, GREY, ORANGE, png_bytes
from cryoscout.report.statistics import Interval, paired_difference
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Page, Profile, Study
from cryoscout.study.engine.runner import Json, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table, over_seeds
from cryoscout.study.images.square_cases import (
    ACROSS,
    FEATURES,
    FIXMATCH,
    GRIDS,
    KEPT,
    MOST_LABELS_PER_CLASS,
    NETWORKS,
    ON_Y3,
    ONE_CHANGE_LESS,
    ORACLES,
    OTHERS,
    SELECTED,
    SUPERVISED,
    Y3,
    Y3_SEEDS,
    Cell,
    RunCell,
    budget_of,
    trials,
)

MACRO, ACCURACY = "macro", "accuracy"
CANDIDATES = [cell for cell in NETWORKS if cell not in ORACLES]
"""Ways of training that a user has; a grid's own shares nobody knows."""


class Found:
    """Results by data and cell: those of the seeds that ended."""

    def __init__(self, rows: Sequence[TrialRow]) -> None:
        self.across: Json | None = None
        self._by_cell: dict[tuple[str, Cell], dict[int, Json]] = {}
        for row in rows:
            data, cell = row.trial.parameters["data"], row.trial.parameters["cell"]
            if row.result is None:
                continue
            if data == ACROSS:
                self.across = row.result
            else:
                self._by_cell.setdefault((data, Cell(**cell)), {})[row.trial.seed] = row.result

    def results(self, data: str, cell: Cell) -> dict[int, Json]:
        """By seed."""
        return self._by_cell.get((data, cell), {})

    def values(self, data: str, cell: Cell, score: str) -> NDArray[np.float64]:
        """(k,) of the seeds that ended, in their order; what a method has none of is left out."""
        results = self.results(data, cell)
        known = [results[seed].get(score) for seed in sorted(results)]
        return np.array([value for value in known if value is not None], dtype=np.float64)

    def difference(
        self, grids: Sequence[str], first: Cell, second: Cell, score: str = MACRO
    ) -> Interval | None:
        """Mean of first - second in points, over all pairs of one grid and seed; None below two pairs."""
        pairs = [
            (self.results(grid, first)[seed][score], self.results(grid, second)[seed][score])
            for grid in grids
            for seed in sorted(set(self.results(grid, first)) & set(self.results(grid, second)))
        ]
        if len(pairs) < 2:
            return None
        one, other = 100.0 * np.array(pairs, dtype=np.float64).T
        return paired_difference(one, other, seed=0)

    def known_on(self, grids: Sequence[str]) -> list[Cell]:
        """Candidates that have run on all of these grids."""
        return [cell for cell in CANDIDATES if all(len(self.values(grid, cell, MACRO)) for grid in grids)]

    def best_on(self, grids: Sequence[str]) -> Cell | None:
        """The candidate with the best macro accuracy on these grids, each counting alike."""
        return max(
            self.known_on(grids),
            key=lambda cell: np.mean([self.values(grid, cell, MACRO).mean() for grid in grids]),
            default=None,
        )


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The tables, what they say, the figure, the rows."""
    found = Found(rows)
    text = "\n\n".join(
        [
            _introduction(profile),
            "## All methods within one grid",
            _methods_table(found, [Cell(FEATURES), SUPERVISED, *FIXMATCH.values(), *OTHERS, *ORACLES]),
            f"`{ORACLES[0].method}` is `align` told the shares of the grid's categories, which no user knows: "
            f"{MOST_LABELS_PER_CLASS} labels of every class are balanced, the squares are not, and `align` takes the "
            "shares of the labels.",
            "## One change at a time",
            "FixMatch without one of the strong changes, on squares and on simulated holes (`y3`, a tenth of the "
            "labels, accuracy on the validation part; seeds "
            f"{Y3_SEEDS[0]}-{Y3_SEEDS[-1]}).",
            _changes_table(found),
            "Whether a change leaves the class alone: the share of the squares that keep it when that change alone is "
            "made, to a network that was trained on all squares of the grid without it, and to the nearest square by "
            "simple features.",
            _kept_table(found),
            "## Which weights",
            "The last averaged weights of a training on all labels, the best on 8 held-out labels (two of each class; "
            "of a small class fewer), and the last of that same training: what is lost by holding out, and what by "
            "choosing on so few.",
            _methods_table(found, [SUPERVISED, *FIXMATCH.values(), *SELECTED]),
            "## What to take for squares",
            "The way of training with the best macro accuracy on two grids, judged on the third, in turn.",
            *_recommended(found),
            "## Across grids",
            _across(found),
            "## Simulated holes",
            _y3_table(found),
        ]
    )
    return Page(text, figure(found), _rows_json(found, profile))


def _introduction(profile: Profile) -> str:
    budget = budget_of(profile)
    return (
        f"375 real squares of three grids with EPU's own category (3 and 4 as one). Within one grid "
        f"{MOST_LABELS_PER_CLASS} squares of every class are labelled, of a class with fewer than "
        f"{2 * MOST_LABELS_PER_CLASS} half of them; the others are learned from without a label, and are judged: "
        "macro accuracy, the mean over the classes. Ten seeds draw labels and first weights. "
        f"{budget['steps']} steps, {budget['size_px']} px, width {budget['width']}, batches of "
        f"{budget['batch_size']}. Differences are paired by grid and seed, in points, with a 95 % bootstrap interval "
        "over the pairs. Augmentations: [Hole images](../perception.md#augmentation)."
    )


def _methods_table(found: Found, cells: Sequence[Cell]) -> str:
    lines = []
    for cell in cells:
        difference = "" if cell == SUPERVISED else _points(found.difference(GRIDS, cell, SUPERVISED))
        lines.append(
            [
                f"`{cell.name}`",
                *[over_seeds(found.values(grid, cell, MACRO), 3) for grid in GRIDS],
                difference,
            ]
        )
    return markdown_table(["macro accuracy", *GRIDS, "− `supervised`"], lines)


def _points(interval: Interval | None) -> str:
    return MISSING if interval is None else str(interval)


def _changes_table(found: Found) -> str:
    hole, lines = FIXMATCH["hole"], []
    for cell in (hole, *ONE_CHANGE_LESS, FIXMATCH["square"]):
        lines.append(
            [
                f"`{cell.augmentation}`",
                *["" if cell == hole else _points(found.difference(grids, cell, hole, score))
                  for grids, score in ((GRIDS, MACRO), ((Y3,), ACCURACY))],
                *[_points(found.difference(grids, cell, SUPERVISED, score))
                  for grids, score in ((GRIDS, MACRO), ((Y3,), ACCURACY))],
            ]
        )  # fmt: skip
    header = [
        "FixMatch with",
        "squares: − `hole`",
        "y3: − `hole`",
        "squares: − `supervised`",
        "y3: − `supervised`",
    ]
    return markdown_table(header, lines)


def _kept_table(found: Found) -> str:
    results = [result["kept"] for grid in GRIDS for result in found.results(grid, Cell(KEPT)).values()]
    changes = sorted(results[0]) if results else list(LEFT_OUT_ALONE)
    lines = [
        [
            change,
            *[
                f"{100.0 * np.mean([kept[change][who] for kept in results]):.0f} %" if results else MISSING
                for who in ("network", "features")
            ],
        ]
        for change in changes
    ]
    return markdown_table(["change", "class kept, to a network", "to simple features"], lines)


def recommended_in_turn(found: Found) -> dict[str, tuple[Cell, Interval] | None]:
    """Grid -> the best way of training on the two others, and its difference to supervised on this one."""
    turns: dict[str, tuple[Cell, Interval] | None] = {}
    for grid in GRIDS:
        cell = found.best_on([other for other in GRIDS if other != grid])
        interval = None if cell is None else found.difference([grid], cell, SUPERVISED)
        turns[grid] = None if cell is None or interval is None else (cell, interval)
    return turns


def _recommended(found: Found) -> list[str]:
    turns = recommended_in_turn(found)
    lines = [
        [grid, *([MISSING] * 2 if turn is None else [f"`{turn[0].name}`", str(turn[1])])]
        for grid, turn in turns.items()
    ]
    table = markdown_table(["judged on", "chosen on the two others", "− `supervised`"], lines)
    known = [turn for turn in turns.values() if turn is not None]
    if len(known) < len(GRIDS):
        return [table]
    whole = _pooled(found, {grid: turn[0] for grid, turn in turns.items() if turn is not None})
    above = "is above supervised learning" if whole.low > 0.0 else "is not told from supervised learning"
    verdict = "is below supervised learning" if whole.high < 0.0 else above
    overall, n_known = found.best_on(GRIDS), len(found.known_on(GRIDS))
    told = "" if overall is None else f" On all three grids together the best is `{overall.name}`."
    among = f"The choice is among {n_known} of {len(CANDIDATES)} ways"
    among += "." if n_known == len(CANDIDATES) else "; the others have not run."
    return [table, f"{among} Over the three grids what is chosen so {verdict}: {whole} points.{told}"]


def _pooled(found: Found, chosen: Mapping[str, Cell]) -> Interval:
    """Of the chosen ways less supervised, over all pairs."""
    pairs = [
        (found.results(grid, cell)[seed][MACRO], found.results(grid, SUPERVISED)[seed][MACRO])
        for grid, cell in chosen.items()
        for seed in sorted(set(found.results(grid, cell)) & set(found.results(grid, SUPERVISED)))
    ]
    one, other = 100.0 * np.array(pairs, dtype=np.float64).T
    return paired_difference(one, other, seed=0)


def _across(found: Found) -> str:
    if found.across is None:
        return f"The row is {MISSING}."
    mixed, left = found.across["mixed"], found.across["left_out"]
    lines = [["a fifth of all squares left out", f"{mixed[ACCURACY]:.2f}", f"{mixed[MACRO]:.2f}"]]
    lines += [
        [f"{grid} left out", f"{left[grid][ACCURACY]:.2f}", f"{left[grid][MACRO]:.2f}"] for grid in GRIDS
    ]
    table = markdown_table(["nearest square by simple features, all labels", "accuracy", "macro"], lines)
    return (
        f"{table}\n\nEPU clusters the squares of each atlas anew: its category is a number within one grid, and does "
        "not transfer to another. Label some squares of every grid."
    )


def _y3_table(found: Found) -> str:
    lines = []
    for cell in ON_Y3:
        guesses = found.values(Y3, cell, "pseudo_label_accuracy")
        lines.append(
            [
                f"`{cell.name}`",
                str(len(found.values(Y3, cell, ACCURACY))),
                *[over_seeds(found.values(Y3, cell, score), 3) for score in (ACCURACY, "auc", "brier_skill")],
                f"{guesses.mean():.3f}" if len(guesses) else "",
                "" if cell == SUPERVISED else _points(found.difference((Y3,), cell, SUPERVISED, ACCURACY)),
            ]
        )
    header = ["", "seeds", "accuracy", "AUC", "Brier skill", "pseudo-labels right", "accuracy − `supervised`"]
    return markdown_table(header, lines)


def figure(found: Found) -> bytes:
    """PNG: macro accuracy of every method with each augmentation, on each grid."""
    drawing = Figure(figsize=(12.5, 4.4), layout="constrained")
    panels = drawing.subplots(1, len(GRIDS), sharey=True)
    shown = [Cell(FEATURES), SUPERVISED, *FIXMATCH.values(), *OTHERS, *ORACLES]
    colours = {"hole": ORANGE, "square": BLUE}
    names = list(dict.fromkeys(cell.method for cell in shown))
    for axes, grid in zip(panels, GRIDS, strict=True):
        for cell in shown:
            values = found.values(grid, cell, MACRO)
            if len(values):
                alone = cell.method in ("supervised", FEATURES)
                shift = 0.0 if alone else (-0.15 if cell.augmentation == "hole" else 0.15)
                colour = GREY if alone else colours[cell.augmentation]
                at = names.index(cell.method) + shift
                axes.plot([at] * len(values), values, "o", color=colour, markersize=3, alpha=0.4)
                axes.plot([at], [values.mean()], "_", color=colour, markersize=14, markeredgewidth=2.5)
        base = found.values(grid, SUPERVISED, MACRO)
        if len(base):
            axes.axhline(base.mean(), color=GREEN, linewidth=0.9)
        axes.set_title(f"{grid} (line: supervised)", fontsize=10)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    panels[0].set_ylabel("macro accuracy; orange hole, blue square")
    return png_bytes(drawing)


def _rows_json(found: Found, profile: Profile) -> list[Json]:
    rows: list[Json] = []
    for data, score in ((Y3, ACCURACY), *[(grid, MACRO) for grid in GRIDS]):
        for cell in ON_Y3 if data == Y3 else [Cell(FEATURES), *NETWORKS]:
            values = found.values(data, cell, score)
            rows.append(
                {
                    "data": data, **asdict(cell), "profile": profile, "score": score, "seeds": len(values),
                    "mean": round(float(values.mean()), 5) if len(values) else None,
                    "std": round(float(values.std()), 5) if len(values) else None,
                }
            )  # fmt: skip
    for grid, turn in recommended_in_turn(found).items():
        if turn is not None:
            cell, interval = turn
            rows.append({"recommended_for": grid, **asdict(cell), "minus_supervised": asdict(interval)})
    if found.across is not None:
        rows.append({"data": ACROSS, **found.across})
    return rows


STUDY = Study(
    "squares",
    "Where FixMatch helps: augmentation by kind of image",
    trials,
    RunCell(),
    page,
    (*PACKAGES_BEHIND_RESULTS, "perception"),
)
