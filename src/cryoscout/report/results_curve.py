"""How a session's predictions get better as its results come in: a part of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscout.belief.in_session import predict_given_labels
from cryoscout.core.errors import CryoscoutError
from cryoscout.core.ties import at_least
from cryoscout.report.figures import BLUE, GREY, svg_text
from cryoscout.report.page import ReportSection
from cryoscout.session.model import Session

RESULTS = (25, 100, 400)
"""Numbers of results that are told, those of them that every draw can tell."""
DRAWS = 3
TEST_SHARE = 0.25
"""Of the patches with results."""
FEWEST_RESULTS, FEWEST_PATCHES = 100, 8
MOST_HOLES = 20_000
"""In a larger session the fits would take minutes."""


@dataclass(frozen=True)
class ResultsCurve:
    """Scores on patches whose results were not told."""

    model_id: str
    results: NDArray[np.int64]  # (k,) told; the first is 0
    accuracy: NDArray[np.float64]  # (draws, k)
    precision: NDArray[np.float64]  # (draws, k) NaN where no hole was called good
    holes: float  # mean number that it was judged on


@dataclass(frozen=True)
class _Draw:
    """One choice of what is judged and what is told."""

    test: NDArray[np.bool_]  # (n,)
    order: NDArray[np.int64]  # (m,) holes that can be told, the first ones first

    def can_tell(self, count: int, good: NDArray[np.float64]) -> bool:
        """Whether there are so many, good and others among them: from one kind nothing can be learned."""
        return count <= len(self.order) and len(np.unique(good[self.order[:count]])) == 2


@dataclass(frozen=True)
class _Plan:
    """All that is fitted."""

    model_id: str
    p: NDArray[np.float64]  # (n,)
    good: NDArray[np.float64]  # (n,) 1 good, 0 not, NaN without a result
    draws: Sequence[_Draw]
    told: tuple[int, ...]


def number_of_fits(
    session: Session, threshold_angstrom: float, fitted_to: NDArray[np.bool_] | None = None
) -> int:
    """How many fits `results_curve` makes, each of about a second for 1,000 holes; 0 where it gives None."""
    plan = _plan(session, threshold_angstrom, fitted_to)
    return 0 if plan is None else DRAWS * len(plan.told)


def results_curve(
    session: Session,
    threshold_angstrom: float,
    fitted_to: NDArray[np.bool_] | None = None,
    progress: Callable[[], None] | None = None,
) -> ResultsCurve | None:
    """Tell the belief more and more results, and judge it on a quarter of the patches, drawn three times.

    fitted_to : (n,) holes that a classifier was fitted to; their results are neither told nor judged
    progress : called after each of `number_of_fits`
    The prediction is the session's last one at the threshold. None where there is none, with fewer than 100 results or
    8 patches that have some, where all results are of a kind, and with more than 20,000 holes.
    """
    plan = _plan(session, threshold_angstrom, fitted_to)
    if plan is None:
        return None
    p, good = plan.p, plan.good
    tree = session.tree()
    tree, nowhere = tree, np.full(len(p), np.nan)
    accuracy, precision = np.empty((2, DRAWS, 1 + len(plan.told)))
    for row, draw in enumerate(plan.draws):
        test = draw.test
        accuracy[row, 0], precision[row, 0] = _scores(p[test], good[test])
        for at, count in enumerate(plan.told, start=1):
            labels = np.full(len(p), np.nan)
            labels[draw.order[:count]] = good[draw.order[:count]]
            given = predict_given_labels(
                p, labels, tree.patch_of_hole, tree, nowhere, nowhere, "effects", fitted_to
            )
            accuracy[row, at], precision[row, at] = _scores(given.p_good[test], good[test])
            if progress is not None:
                progress()
    holes = float(np.mean([draw.test.sum() for draw in plan.draws]))
    return ResultsCurve(plan.model_id, np.array([0, *plan.told]), accuracy, precision, holes)


def _plan(session: Session, threshold_angstrom: float, fitted_to: NDArray[np.bool_] | None) -> _Plan | None:
    found = _last_prediction(session, threshold_angstrom)
    good = session.good_by_majority(threshold_angstrom)
    usable = ~np.isnan(good)
    if fitted_to is not None:
        usable &= ~fitted_to
    patch_of_hole = session.tree().patch_of_hole
    patches = np.unique(patch_of_hole[usable])
    too_few = (
        usable.sum() < FEWEST_RESULTS or len(patches) < FEWEST_PATCHES or len(np.unique(good[usable])) < 2
    )
    if found is None or too_few or len(good) > MOST_HOLES:
        return None
    draws = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(patches)[: round(TEST_SHARE * len(patches))]
        test = usable & np.isin(patch_of_hole, chosen)
        draws.append(_Draw(test, rng.permutation(np.flatnonzero(usable & ~test))))
    told = tuple(count for count in RESULTS if all(draw.can_tell(count, good) for draw in draws))
    return _Plan(*found, good, draws, told) if told else None


def _last_prediction(session: Session, threshold_angstrom: float) -> tuple[str, NDArray[np.float64]] | None:
    for model_id in reversed(session.models()):
        try:
            return model_id, session.prediction(model_id, threshold_angstrom)
        except CryoscoutError:
            continue  # made for another threshold, or not for every hole
    return None


def _scores(p: NDArray[np.float64], good: NDArray[np.float64]) -> tuple[float, float]:
    """(accuracy, precision), the second NaN where no hole is called good."""
    called = at_least(p, 0.5)
    return float(np.mean(called == (good > 0))), float(good[called].mean()) if called.any() else np.nan


@rc_context({"text.parse_math": False})
def results_section(curve: ResultsCurve) -> ReportSection:
    """The curve as a figure of the report."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for axes, title, values in zip(
        panels,
        ("accuracy (%)", "precision: good of those called good (%)"),
        (curve.accuracy, curve.precision),
        strict=True,
    ):
        percent = 100.0 * values
        places = np.arange(len(curve.results))
        axes.plot(places, percent.T, color=GREY, linewidth=0.8)
        shown = [row[~np.isnan(row)] for row in percent.T]
        mean = [row.mean() if len(row) else np.nan for row in shown]
        axes.plot(places, mean, color=BLUE, marker="o", markersize=5, linewidth=1.6)
        axes.set_xticks(places, [f"{count}" for count in curve.results])
        axes.set_xlabel("results known")
        axes.set_ylabel(title)
    words = f"Accuracy and precision of {curve.model_id} against the number of results known."
    return ReportSection(
        "What results add to the predictions",
        [
            f"{curve.model_id}, corrected by what results of other patches tell: how much better or worse each square "
            f"and grid turned out than predicted. Judged on {curve.holes:.0f} holes of patches of which none was told."
        ],
        svg=svg_text(figure, words, "results"),
        note=f"Blue: mean of {DRAWS} draws of which patches are judged, grey: each. A level line says that the "
        "prediction knew all that results of other patches tell; a rising one, that results are worth learning from "
        "(policy adaptive); a falling one, that they mislead more than they teach. A prediction that knows results of "
        "this session already (predict --context) is flattered here, and its line is level for that reason.",
    )
