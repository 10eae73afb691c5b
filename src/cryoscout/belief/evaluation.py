"""How good a prediction is on labelled holes: every score in one table, with bootstrap intervals over clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cryoscout.belief.calibration_interval import calibration_error_interval
from cryoscout.belief.scores import score_probabilities
from cryoscout.core.errors import InputError
from cryoscout.core.ties import at_least, ranks_best_first

DRAWS = 1000
INTERVAL = (0.025, 0.975)

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Scores of probabilities against outcomes; a hole is called good at p 0.5 or more.

    A score is None where it is not defined: precision where no hole is called good, recall where none is good, AUC
    and Brier skill where all outcomes are of one class. Intervals: 95 %, over clusters.
    """

    holes: int
    share_good: float
    accuracy: float
    precision: float | None
    recall: float | None
    auc: float | None
    brier: float
    brier_skill: float | None  # 1 - Brier / Brier of always saying the share of good
    brier_skill_interval: tuple[float, float] | None
    log_loss: float  # nats, mean over holes
    ece: float  # plug-in, 10 equal-mass bins
    ece_debiased: float
    ece_interval: tuple[float, float]
    """95 % interval of the true calibration error (`calibration_interval`): 0 is in it for 95 % of calibrated p."""


def evaluate_predictions(
    p: Numbers,
    good: Numbers,
    rng: np.random.Generator,
    cluster_of_hole: NDArray[np.integer] | None = None,
    draws: int = DRAWS,
) -> Evaluation:
    """All scores of probabilities p, (n,) in 0..1, against outcomes good, (n,) 0 or 1.

    cluster_of_hole : (n,) what the bootstrap draws whole, such as the patch of each hole; None: hole by hole, which
        makes intervals too narrow where holes of a patch resemble
    draws : bootstrap samples, at least 1
    Holes of one p stand in random order in the bins of the ECE. Raises InputError without holes, for arrays of unequal
    length, and for numbers outside of their range.
    """
    clusters = np.arange(len(p)) if cluster_of_hole is None else cluster_of_hole
    _check(p, good, clusters, draws)
    # Bins break ties by order; in the session's order they would be patches, and look miscalibrated.
    order = rng.permutation(len(p))
    p, good, clusters = p[order], good[order], clusters[order]
    scores = score_probabilities(p, good, rng)
    said, is_good = at_least(p, 0.5), good >= 0.5
    right = int((said & is_good).sum())
    skill = _bootstrap_skill(p, good, clusters, draws, rng)
    both_classes = 0.0 < good.mean() < 1.0
    return Evaluation(
        holes=len(p),
        share_good=float(good.mean()),
        accuracy=scores.accuracy,
        precision=right / int(said.sum()) if said.any() else None,
        recall=right / int(is_good.sum()) if is_good.any() else None,
        auc=area_under_curve(p, good),
        brier=scores.brier,
        brier_skill=scores.brier_skill if both_classes else None,
        brier_skill_interval=_pair(np.quantile(skill, INTERVAL)) if both_classes and len(skill) else None,
        log_loss=scores.log_loss,
        ece=scores.ece,
        ece_debiased=scores.ece_debiased,
        ece_interval=calibration_error_interval(p, good, clusters, rng, draws),
    )


def area_under_curve(p: Numbers, good: Numbers) -> float | None:
    """Probability that a good hole has a higher p than a bad one, ties half; None with one class. p, good : (n,)."""
    is_good = good >= 0.5
    n_good = int(is_good.sum())
    n_bad = len(good) - n_good
    if n_good == 0 or n_bad == 0:
        return None
    rank_sum = float(rankdata(-ranks_best_first(p))[is_good].sum())
    return (rank_sum - n_good * (n_good + 1) / 2) / (n_good * n_bad)


def _check(p: Numbers, good: Numbers, clusters: NDArray[np.integer], draws: int) -> None:
    if not len(p) == len(good) == len(clusters):
        raise InputError(
            "Predictions, outcomes and clusters must have one entry per hole. "
            f"Got {len(p)}, {len(good)} and {len(clusters)} instead."
        )
    for values, allowed, must, remedy in (
        (p, (p >= 0.0) & (p <= 1.0), "Predictions must be between 0 and 1", "predict the session again"),
        (good, np.isin(good, (0.0, 1.0)), "Outcomes must be 0 or 1", "leave out holes without an outcome"),
    ):
        if not allowed.all():
            first = int(np.flatnonzero(~allowed)[0])
            raise InputError(
                f"{must}. Got {values[first]} at hole {first} instead ({int((~allowed).sum())} such holes). "
                f"Remedy: {remedy}."
            )
    if draws < 1:
        raise InputError(f"draws must be at least 1. Got {draws} instead.")


def _bootstrap_skill(
    p: Numbers, good: Numbers, clusters: NDArray[np.integer], draws: int, rng: np.random.Generator
) -> Numbers:
    """Brier skill of samples of whole clusters, (drawn samples of both classes,)."""
    _, member_of_hole = np.unique(clusters, return_inverse=True)
    holes = np.bincount(member_of_hole)
    n_good = np.bincount(member_of_hole, weights=good)
    lost = np.bincount(member_of_hole, weights=(p - good) ** 2)
    drawn = rng.integers(0, len(holes), (draws, len(holes)))
    n = holes[drawn].sum(axis=1)
    share = n_good[drawn].sum(axis=1) / n
    both = (share > 0.0) & (share < 1.0)
    skill = 1.0 - (lost[drawn].sum(axis=1) / n)[both] / (share * (1.0 - share))[both]
    return np.asarray(skill)


def _pair(values: Numbers) -> tuple[float, float]:
    return float(values[0]), float(values[1])
