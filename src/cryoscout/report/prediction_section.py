"""What a report says of a session's predictions: how right they were, how well calibrated, what the holes look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscout.belief.evaluation import Evaluation, evaluate_predictions
from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import CryoscoutError
from cryoscout.core.ties import at_least, order_lowest_first
from cryoscout.perception.from_session import SessionCrops
from cryoscout.report.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    svg_text,
)
from cryoscout.report.page import ReportSection, ReportTable
from cryoscout.session.model import Session

FEWEST_HOLES = 20
"""With fewer results a reliability diagram shows noise."""

MOST_MODELS = 6
CROPS_PER_KIND = 8
BINS = 10
_LOOKS = ((BLUE, "s"), (ORANGE, "^"), (GREEN, "o"), (VERMILLION, "v"), (PURPLE, "D"), (SKY, "P"))
_KINDS = (
    ("good, predicted good", True, True),
    ("good, predicted bad", True, False),
    ("bad, predicted good", False, True),
    ("bad, predicted bad", False, False),
)

MOST_NAMED = 20
"""Images set aside that are named one by one."""


@dataclass(frozen=True)
class _Judged:
    """One model's probabilities on the holes with a result."""

    model_id: str
    p: NDArray[np.float64]  # (m,)
    scores: Evaluation


def prediction_sections(
    session: Session,
    threshold_angstrom: float,
    crops: SessionCrops | None = None,
    fitted_to: NDArray[np.bool_] | None = None,
) -> list[ReportSection]:
    """Scores, reliability and example crops of the session's predictions, and the images that could not be used.

    Predictions are not judged with fewer than 20 results.
    crops : images of the holes, None for a session without
    fitted_to : (n,) holes that a classifier was fitted to; they are left out for all, so that models are judged on
        the same holes
    """
    aside = [] if crops is None or not crops.set_aside else [_set_aside(crops)]
    return [*_judged_sections(session, threshold_angstrom, crops, fitted_to), *aside]


def _judged_sections(
    session: Session,
    threshold_angstrom: float,
    crops: SessionCrops | None,
    fitted_to: NDArray[np.bool_] | None,
) -> list[ReportSection]:
    good = session.good_by_majority(threshold_angstrom)
    learned = np.zeros(len(good), dtype=np.bool_) if fitted_to is None else fitted_to
    judged_on = ~np.isnan(good) & ~learned
    is_good = good[judged_on]
    if len(is_good) < FEWEST_HOLES:
        return []
    patch_of_hole = session.tree().patch_of_hole
    judged: list[_Judged] = []
    for model_id in session.models()[-MOST_MODELS:]:
        try:
            p = session.prediction(model_id, threshold_angstrom)[judged_on]
        except CryoscoutError:
            continue  # made for another threshold
        rng = np.random.default_rng(0)
        judged.append(_Judged(model_id, p, evaluate_predictions(p, is_good, rng, patch_of_hole[judged_on])))
    if not judged:
        return []
    sections = [
        _scores(judged, len(is_good), int(learned.sum()), threshold_angstrom),
        _reliability(judged, is_good),
    ]
    if crops is not None:
        examples = _examples(judged[-1], is_good, np.flatnonzero(judged_on), crops)
        sections += [] if examples is None else [examples]
    return sections


def _scores(judged: Sequence[_Judged], n: int, n_learned: int, threshold: float) -> ReportSection:
    rows = []
    for each in judged:
        scores = each.scores
        low, high = scores.ece_interval
        rows.append(
            [
                each.model_id,
                f"{100 * scores.accuracy:.1f} %",
                _share(scores.precision),
                _share(scores.recall),
                _number(scores.auc),
                f"{scores.brier:.3f}",
                _number(scores.brier_skill),
                f"{scores.ece_debiased:.3f} [{low:.3f}, {high:.3f}]",
            ]
        )
    left_out = (
        f" {counted(n_learned, 'holes')} that a classifier was fitted to {agreed(n_learned, 'are')} left out."
        if n_learned
        else " Where a classifier was fitted to results of this session, name it with --classifier: figures on holes "
        "that it has learned flatter it."
    )
    return ReportSection(
        "How right the predictions were",
        [
            f"{counted(n, 'holes')} with a result; good means that at least half of a hole's results are at most "
            f"{threshold:g} Å.{left_out}"
        ],
        table=ReportTable(
            "A hole is called good at a probability of one half",
            [
                "prediction",
                "accuracy",
                "precision",
                "recall",
                "AUC",
                "Brier",
                "Brier skill",
                "calibration error (ECE)",
            ],
            rows,
        ),
        note="Brier skill: 0 is no better than always saying the share of good holes, 1 is perfect. The calibration "
        "error is free of the bias of small samples; its interval is 95 %, by patches. A prediction that knows results "
        "of this session (predict --context) is flattered here.",
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@rc_context({"text.parse_math": False})
def _reliability(judged: Sequence[_Judged], is_good: NDArray[np.float64]) -> ReportSection:
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes: Axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=BLACK, linewidth=0.8)
    for each, (colour, marker) in zip(judged, _LOOKS, strict=False):
        bins = np.array_split(order_lowest_first(each.p), BINS)
        said = [each.p[rows].mean() for rows in bins]
        came = [is_good[rows].mean() for rows in bins]
        axes.plot(said, came, color=colour, marker=marker, markersize=5, linewidth=1.2, label=each.model_id)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("predicted probability of good")
    axes.set_ylabel("share that was good")
    axes.legend(frameon=False, fontsize=9)
    words = "Share of good holes against the predicted probability, in tenths of the holes, by prediction."
    return ReportSection(
        "Are the probabilities true?",
        svg=svg_text(figure, words, "reliability"),
        note="Each point is a tenth of the holes, by predicted probability. On the line, as many were good as said; "
        "below it, the prediction was too sure that holes are good.",
    )


@rc_context({"text.parse_math": False})
def _examples(
    judged: _Judged, is_good: NDArray[np.float64], holes: NDArray[np.int64], crops: SessionCrops
) -> ReportSection | None:
    """Random crops by result and prediction; None where no hole has an image."""
    rng = np.random.default_rng(0)
    row_of_hole = np.full(crops.session.n_holes, -1)
    row_of_hole[crops.hole] = np.arange(len(crops.hole))
    row = row_of_hole[holes]
    figure = Figure(figsize=(1.0 * CROPS_PER_KIND, 4.9), layout="constrained")
    panels = figure.subplots(len(_KINDS), CROPS_PER_KIND, squeeze=False)
    shown = 0
    for line, (title, good, said) in zip(panels, _KINDS, strict=True):
        inside = np.flatnonzero(((is_good > 0) == good) & (at_least(judged.p, 0.5) == said))
        chosen = rng.permutation(inside[row[inside] >= 0])[:CROPS_PER_KIND]
        for column, axes in enumerate(line):
            axes.set_axis_off()
            if column < len(chosen):
                at = chosen[column]
                axes.imshow(crops.images[row[at]], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axes.set_title(f"{judged.p[at]:.2f}", fontsize=7, pad=1.5)
        line[0].text(
            0.0, 1.32, f"{title}: {counted(len(inside), 'holes')}", transform=line[0].transAxes, fontsize=9, color=GREY
        )  # fmt: skip
        shown += len(chosen)
    if shown == 0:
        return None
    words = f"Hole images by what the hole gave and what {judged.model_id} had predicted."
    return ReportSection(
        "What the holes look like",
        [f"Chosen at random; above each its predicted probability by {judged.model_id}."],
        svg=svg_text(figure, words, "crops"),
        note="A prediction that is wrong for a reason (an empty hole called good, say) shows here first.",
    )


def _set_aside(crops: SessionCrops) -> ReportSection:
    aside = crops.set_aside
    more = f" The first {MOST_NAMED}:" if len(aside) > MOST_NAMED else ""
    return ReportSection(
        "Images set aside",
        [
            f"{counted(len(aside), 'holes', 'have')} an image that cannot be used; no classifier learns from it.{more}"
        ],
        table=ReportTable(
            "They are predicted like holes without an image",
            ["hole", "patch", "why"],
            [[each.hole_id, each.patch_id, each.why] for each in aside[:MOST_NAMED]],
        ),
    )
