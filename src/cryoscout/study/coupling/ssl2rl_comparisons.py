"""What the study `ssl2rl` compares: paired differences with their aims, labels of teachers, settings; also as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.report.statistics import Interval
from cryoscout.study.coupling.ssl2rl import (
    AUGMENTED,
    BELIEF_UNTOLD,
    BEYOND,
    DEVELOPMENT_SEEDS,
    LEARNED_VALUES,
    NO_COST,
    OF_FIXMATCH,
    PLANNER_SEEDS,
    SENSITIVITY,
    SHARES,
    STUDY_SEEDS,
    TEN_PER_CENT,
    WITH_SQUARE,
    Found,
    columns,
)
from cryoscout.study.coupling.ssl2rl_cases import (
    BELIEF,
    EXACT,
    FIXMATCH,
    ITERATIVE,
    JUDGES,
    ONE_TRAINING,
    OWN,
    QUICK_BUDGET,
    ROUTE_480,
    SUPERVISED,
    Case,
)
from cryoscout.study.engine.runner import Json
from cryoscout.study.engine.tables import MISSING

UNLABELLED_ACCURACY = "unlabelled:accuracy"


@dataclass(frozen=True)
class Difference:
    """Two cases over the seeds that both have.

    score : `accuracy` and the like in points, `JUDGE reward` in per cent of the second's mean
    least : of the aim, None where there is none
    """

    first: Case
    second: Case
    score: str
    interval: Interval | None
    pairs: int
    least: float | None = None

    @classmethod
    def of(
        cls,
        found: Found,
        first: Case,
        second: Case,
        score: str = "accuracy",
        least: float | None = None,
        among: Sequence[int] = STUDY_SEEDS,
    ) -> Difference:
        """Of the results so far."""
        interval = found.difference(first, second, score, share=score.endswith(" reward"), among=among)
        pairs = len(set(found.seeds(first, among)) & set(found.seeds(second, among)))
        return cls(first, second, score, interval, pairs, least)

    @property
    def json(self) -> Json:
        """As JSON values."""
        shown = self.interval
        return {
            "first": _named(self.first), "second": _named(self.second), "score": self.score, "seeds": self.pairs,
            **{name: None if shown is None else round(float(getattr(shown, name)), 3)
               for name in ("mean", "low", "high")},
            **({} if self.least is None else {"aim": self.least}),
        }  # fmt: skip


def _named(case: Case) -> Json:
    return {"method": case.method, "driver": case.driver, "labels": case.labels, "variant": case.variant}


def comparisons(found: Found) -> list[Difference]:
    """What the study was made to say, the aims first."""
    belief, own, exact, supervised, fixmatch, iterative = (
        Case(method, TEN_PER_CENT) for method in (BELIEF, OWN, EXACT, SUPERVISED, FIXMATCH, ITERATIVE)
    )
    route = Case(ROUTE_480, TEN_PER_CENT, "index")

    def of(first: Case, second: Case, least: float | None = None, score: str = "accuracy") -> Difference:
        return Difference.of(found, first, second, score, least)

    return [
        of(belief, fixmatch, 1.0),
        of(belief, supervised, 0.0),
        of(belief, own, 0.0),
        *(
            of(belief, other, least, f"{judge} reward")
            for judge in JUDGES
            for other, least in ((supervised, 6.0), (fixmatch, 10.0))
        ),
        *(of(exact, other) for other in (fixmatch, supervised, own)),
        *(of(exact, other, None, f"{judge} reward") for judge in JUDGES for other in (supervised, fixmatch)),
        of(route, fixmatch, 0.0),
        of(route, own),
        of(route, iterative),
        of(route, NO_COST),
        of(BELIEF_UNTOLD, belief),
        *(of(BELIEF_UNTOLD, other) for other in (fixmatch, supervised, own)),
        *(of(Case(FIXMATCH, share), Case(SUPERVISED, share)) for share in SHARES),
    ]


@dataclass(frozen=True)
class LabelsRight:
    """How right the labels of a case's first round are, per cent by seed, before any fine-tuning."""

    case: Case
    right: list[float]
    network: NDArray[np.float64]
    """Per cent of the same holes that the pretrained network, from which the loop began, is right on."""


def labels_of_teachers(found: Found) -> list[LabelsRight]:
    """Of every method that teaches."""
    cases = [
        case
        for share in SHARES
        for case in (
            *columns(share),
            *((BELIEF_UNTOLD, *BEYOND, LEARNED_VALUES, *WITH_SQUARE) if share == TEN_PER_CENT else ()),
        )
        if case.method not in ONE_TRAINING
    ]
    return [
        LabelsRight(
            case,
            [
                100.0 * report["guesses_right"]
                for seed in found.seeds(case)
                for report in found.reports(case, seed)
                if report["number"] == 1 and report["guesses_right"] is not None
            ],
            100.0 * found.values(like(case, FIXMATCH), UNLABELLED_ACCURACY, among=found.seeds(case)),
        )
        for case in cases
    ]


def like(case: Case, method: str) -> Case:
    """Another method with the same share of the labels and the same augmentation."""
    variant = case.variant if case.augmentation else ""
    return Case(method, case.labels, "", variant, augmentation=case.augmentation)


def augmentations(found: Found) -> list[Difference]:
    """Of FixMatch, on development seeds, by augmentation: accuracy and that of the unlabelled holes over `hole`."""
    hole = AUGMENTED[0]
    return [
        Difference.of(found, case, hole, score, among=DEVELOPMENT_SEEDS)
        for case in AUGMENTED[1:]
        for score in ("accuracy", UNLABELLED_ACCURACY)
    ]


def with_square(found: Found) -> list[Difference]:
    """The comparisons with the second best augmentation in all trainings, and each method's with it to without."""
    of = {(case.method, case.driver): case for case in WITH_SQUARE}
    belief, route = of[BELIEF, ""], of[ROUTE_480, "index"]
    pairs = [(belief, of[method, ""]) for method in (FIXMATCH, SUPERVISED, OWN)]
    pairs += [(route, of[FIXMATCH, ""]), (of[FIXMATCH, ""], of[SUPERVISED, ""])]
    pairs += [(case, replace(case, variant="", augmentation="")) for case in WITH_SQUARE]
    return [Difference.of(found, first, second) for first, second in pairs]


def sensitivities(found: Found) -> list[Difference]:
    """Of our choices, on development seeds, over the default; a belief of several rounds over one as little told."""
    bases = {
        BELIEF: Case(BELIEF, TEN_PER_CENT), ROUTE_480: Case(ROUTE_480, TEN_PER_CENT, "index"),
        FIXMATCH: Case(FIXMATCH, TEN_PER_CENT, "", f"augmentation {QUICK_BUDGET['augmentation']}"),
    }  # fmt: skip
    return [
        Difference.of(
            found,
            case,
            BELIEF_UNTOLD if case.method == BELIEF and "rounds" in case.changes else bases[case.method],
            score,
            among=DEVELOPMENT_SEEDS,
        )
        for case in (*SENSITIVITY, *OF_FIXMATCH)
        for score in ("accuracy", "auc")
    ]


def as_json(found: Found) -> dict[str, Any]:
    """The further keys of ssl2rl.json: everything that the page says beyond its rows."""
    ratio = found.ratio()
    return {
        "differences": [each.json for each in comparisons(found)],
        "belief_share_of_exact": (
            dict(zip(("mean", "low", "high", "seeds"), (round(each, 3) for each in ratio), strict=True))
            if isinstance(ratio, tuple)
            else None
        ),
        "labels_right": [
            {
                **_named(each.case),
                "mean": round(float(np.mean(each.right)), 3) if each.right else None,
                "network_mean": round(float(np.mean(each.network)), 3) if len(each.network) else None,
                "seeds": len(each.right),
            }
            for each in labels_of_teachers(found)
        ],
        "augmentations": [each.json for each in augmentations(found)],
        "with_augmentation_square": [each.json for each in with_square(found)],
        "sensitivity": [each.json for each in sensitivities(found)],
    }


def verdict(difference: Difference) -> str:
    """Whether an aim is reached; "" where there is none, and open below the seeds that it asks for."""
    least, interval = difference.least, difference.interval
    if least is None:
        return ""
    if interval is None:
        return MISSING
    if difference.pairs < PLANNER_SEEDS:
        return f"open: {difference.pairs} of {PLANNER_SEEDS} seeds"
    if interval.low <= 0.0:
        return "no: the interval holds 0" if interval.mean > 0.0 else "no"
    return "yes" if interval.mean >= least else f"no: less than {least:g}"
