"""Study `perception`: p_good from few labels, by method, with and without the session's own outcomes (the belief)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.report.statistics import Interval, mean_and_std, paired_difference
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table
from cryoscout.study.images.cases import (
    AT_QUICK,
    DIRECTIONS,
    FULL,
    LABELS_PER_CLASS,
    OWN_PSEUDO_LABEL,
    PSEUDO_LABEL,
    REGRESSION,
    REGRESSION_THRESHOLDS_ANGSTROM,
    Case,
    RunCase,
    budget_of,
    trial_of,
)

METHODS = (
    "supervised",
    "fixmatch",
    "iterative-fixmatch",
    "defixmatch",
    "softmatch",
    "align",
    "barlow-twins",
    PSEUDO_LABEL,
    OWN_PSEUDO_LABEL,
)
TEN_PER_CENT = 0.1
SHARES = (0.05, TEN_PER_CENT, 0.2)
TEN_PER_CENT_SEEDS, OTHER_SEEDS, SQUARES_SEEDS = 5, 3, 5
SQUARES_METHODS = ("supervised", "fixmatch", "defixmatch", "softmatch", "align")
BELIEF = "+belief"
FORMS = ("", BELIEF)

FULL_Y3 = Case("y3", FULL, 1.0)
COLUMN = [Case("y3", method, TEN_PER_CENT) for method in METHODS]
OTHER_COLUMNS = [Case("y3", method, share) for share in SHARES if share != TEN_PER_CENT for method in METHODS]
LARGER = [
    Case("y3", FULL + AT_QUICK, 1.0),
    Case("y3", "supervised" + AT_QUICK, TEN_PER_CENT),
    Case("y1-sim", FULL + AT_QUICK, 1.0),
]
BY_SQUARE = [
    Case("y3", "supervised", TEN_PER_CENT, "square"),
    Case("y3", "fixmatch", TEN_PER_CENT, "square"),
    Case("y3", FULL, 1.0, "square"),
]
Y1_SIM = [Case("y1-sim", method, TEN_PER_CENT) for method in ("supervised", "fixmatch")] + [
    Case("y1-sim", FULL, 1.0)
]
REGRESSIONS = [
    Case(session, REGRESSION, share) for session in ("y3", "y1-sim") for share in (TEN_PER_CENT, 1.0)
]
CALIBRATED = (
    ("y3, other patches", [*COLUMN, FULL_Y3]),
    ("y3, other squares", BY_SQUARE),
    ("y1-sim, other patches", Y1_SIM),
)
MOST_ECE = 0.03
SQUARES = [Case(direction, method, 0.0) for direction in DIRECTIONS for method in SQUARES_METHODS]

PUBLISHED: dict[str, tuple[float, float, float]] = {
    "supervised": (57.07, 61.88, 62.99),
    "fixmatch": (62.29, 63.03, 63.82),
    "iterative-fixmatch": (63.72, 63.77, 63.96),
}
"""Accuracy (%) at 5, 10 and 20 % of the labels in SSL2-RL, Table 1 (a), on images that are not public."""
PUBLISHED_FULL = 65.24


def trials(profile: Profile) -> list[Trial]:
    """The 10 % column first and seed by seed, so that a study that was stopped has whole pairs."""
    chosen = [(case, seed) for seed in range(TEN_PER_CENT_SEEDS) for case in (*COLUMN, FULL_Y3)]
    compared = [case for case in OTHER_COLUMNS if case.method in ("supervised", "fixmatch")]
    rest = [case for case in OTHER_COLUMNS if case not in compared]
    chosen += [
        (case, seed) for seed in range(OTHER_SEEDS) for case in (*compared, *Y1_SIM, *REGRESSIONS, *BY_SQUARE)
    ]
    chosen += [(case, seed) for seed in range(SQUARES_SEEDS) for case in SQUARES]
    chosen += [(case, seed) for seed in range(OTHER_SEEDS) for case in rest]
    if profile == "quick":
        chosen += [(case, seed) for seed in range(OTHER_SEEDS) for case in LARGER]
    return [trial_of(case, seed, profile) for case, seed in chosen]


class Found:
    """Results by case: those of the seeds that ended, in the order of the seeds."""

    def __init__(self, rows: Sequence[TrialRow]) -> None:
        self._by_case: dict[tuple[Any, ...], dict[int, Json]] = {}
        for row in rows:
            case = Case(**row.trial.parameters["case"])
            if row.result is not None:
                self._by_case.setdefault(case.key, {})[row.trial.seed] = row.result

    def seeds(self, case: Case) -> list[int]:
        """Seeds that ended."""
        return sorted(self._by_case.get(case.key, {}))

    def results(self, case: Case) -> list[Json]:
        """Results of those seeds."""
        return [self._by_case[case.key][seed] for seed in self.seeds(case)]

    def values(self, case: Case, form: str, score: str) -> NDArray[np.float64]:
        """(k,) a score over the seeds that ended."""
        return np.array([result["scores"][form][score] for result in self.results(case)], dtype=np.float64)

    def difference(
        self, first: tuple[Case, str], second: tuple[Case, str], score: str = "accuracy"
    ) -> Interval | None:
        """Mean of first - second over the seeds that both have; None below two."""
        seeds = [seed for seed in self.seeds(first[0]) if seed in self.seeds(second[0])]
        if len(seeds) < 2:
            return None
        one, other = (
            np.array([100.0 * self._by_case[case.key][seed]["scores"][form][score] for seed in seeds])
            for case, form in (first, second)
        )
        return paired_difference(one, other, seed=0)


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The tables, the aims, the figure, the rows."""
    from cryoscout.study.images.figure import figure

    found = Found(rows)
    text = "\n\n".join(
        [
            *_introduction(profile),
            "## Accuracy on y3",
            _accuracy_table(found),
            _training_table(found),
            "## Is it better? Paired differences in accuracy",
            "Percentage points, paired by seed (the same session, labels and first weights): mean and 95 % bootstrap "
            "interval over seeds. With three or five seeds an interval says little more than whether the seeds "
            "agree.",
            _difference_table(found),
            *_aims(found),
            *_larger(found, profile),
            "## Probabilities at 10 % of the labels",
            _scores_table([*COLUMN, FULL_Y3], found),
            "## Split by square",
            "Neighbouring patches share a square, so a split by patch tells the belief about the square of every "
            "test hole. Here whole squares are held back: the belief has the grid and the far end of the stage "
            "only.",
            _scores_table(BY_SQUARE, found),
            "## y1-sim",
            _scores_table(Y1_SIM, found),
            "## Any threshold from one network",
            "`--method regression` learns the CTF resolution itself and answers P(CTF ≤ x) for any x. One training "
            "per session, share of labels and seed, asked for three thresholds; a failed fit counts as coarser than "
            "all of them. A test part that is all bad at a threshold has no AUC there and is left out.",
            _thresholds_table(found),
            "## Real grid squares",
            f"375 squares of three grids, EPU's own categories (3 and 4 as one), {LABELS_PER_CLASS} labels per "
            "class, the other squares of the training grids without label. Categories are EPU's clustering, no "
            "person's grade.",
            _squares_table(found),
            "EPU clusters the squares of each atlas anew: class 2 of Sample5 are small, blurred squares, class 2 "
            "of Sample2 are not. A network that is right on one grid is therefore wrong on the other by what the "
            "labels mean, and the halves of one grid are the fairer test.",
        ]
    )
    return Page(text, figure(found, COLUMN, OTHER_COLUMNS, FULL_Y3), _rows_json(found, profile))


def _introduction(profile: Profile) -> list[str]:
    budget = budget_of(FULL_Y3, profile)
    words = ", ".join(f"{name} {value}" for name, value in budget.items()) or "FixMatch's own, 2^20 steps"
    return [
        "A network learns from hole crops of which a share of the training holes is labelled (good: CTF at most 6 "
        "Å), and is judged on holes of other patches. The sessions are simulated ([simulator](simulator.md)): the "
        "images of the paper are not public. Every seed draws a session of its own, its labels and the first weights. "
        "Budget of every stage of a training, the same for all methods: "
        f"{words}; the other settings are the defaults of `cryoscout.perception.settings`. A fifth of the labels "
        "chooses the step and the temperature.",
        "`+belief` is the same network's probability, corrected by the outcomes of the labelled holes of the same "
        "session: effects of patch, square and grid and a smooth field over the stage (`cryoscout predict "
        "--context effects+stage`). It sees no test outcome. `pseudo-label` goes on from the network of `supervised`, "
        "taught by what `supervised+belief` says of the unlabelled training holes: SSL2-RL's loss, with the belief in "
        "the place of the policy; `own-pseudo-label` is taught by `supervised` alone. Both have two stages, and "
        "`iterative-fixmatch` three, where the others have one (`barlow-twins` one before). The belief knows all "
        "labels, also the fifth that chooses step and temperature.",
    ]


def _accuracy_table(found: Found) -> str:
    lines = []
    for method in METHODS:
        for form in FORMS:
            cells = [_mean_std(found.values(Case("y3", method, share), form, "accuracy")) for share in SHARES]
            published = PUBLISHED.get(method) if not form else None
            lines.append([f"`{method}{form}`", *cells, " / ".join(map(str, published)) if published else ""])
    for form in FORMS:
        full = _mean_std(found.values(FULL_Y3, form, "accuracy"))
        lines.append([f"`{FULL}{form}` (all labels)", full, full, full, "" if form else f"{PUBLISHED_FULL}"])
    header = ["accuracy (%)", *[f"{share:.0%} of the labels" for share in SHARES], "SSL2-RL, Table 1 (a)"]
    return markdown_table(header, lines)


def _training_table(found: Found) -> str:
    lines = []
    for case in (*COLUMN, FULL_Y3):
        results = found.results(case)
        if not results:
            lines.append([f"`{case.method}`", *[MISSING] * 4])
            continue
        trainings = [result["training"] for result in results]
        lines.append(
            [
                f"`{case.method}`",
                str(len(results)),
                f"{np.mean([training['seconds'] for training in trainings]):.0f} s",
                _percent([training["mask_rate"] for training in trainings]),
                _percent([training["pseudo_label_accuracy"] for training in trainings]),
            ]
        )
    header = [
        "10 % of the labels",
        "seeds",
        "a training",
        "weight of pseudo-labels",
        "of that right",
    ]
    return markdown_table(header, lines)


def _percent(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100.0 * np.mean(known):.0f} %" if known else ""


def _mean_std(values: NDArray[np.float64]) -> str:
    if not len(values):
        return MISSING
    mean, std = mean_and_std(100.0 * values)
    return f"{mean:.2f} ± {std:.2f}"


def _difference_table(found: Found) -> str:
    lines = []
    for share in SHARES:
        base, fixmatch = Case("y3", "supervised", share), Case("y3", "fixmatch", share)
        for method in METHODS:
            case = Case("y3", method, share)
            lines.append(
                [
                    f"{share:.0%}, `{method}`",
                    "" if method == "supervised" else _points(found.difference((case, ""), (base, ""))),
                    ""
                    if method in ("supervised", "fixmatch")
                    else _points(found.difference((case, ""), (fixmatch, ""))),
                    _points(found.difference((case, BELIEF), (case, ""))),
                    _points(found.difference((case, BELIEF), (FULL_Y3, ""))),
                ]
            )
    lines.append(
        [f"100 %, `{FULL}`", "", "", _points(found.difference((FULL_Y3, BELIEF), (FULL_Y3, ""))), ""]
    )
    header = ["", "− `supervised`", "− `fixmatch`", "belief: with − without", "with belief − `full` without"]
    return markdown_table(header, lines)


def _points(interval: Interval | None) -> str:
    return (
        MISSING if interval is None else f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
    )


def _aims(found: Found) -> list[str]:
    """What was aimed at, and whether the figures above reach it."""
    lines = []
    for share in SHARES:
        pair = found.difference((Case("y3", "fixmatch", share), ""), (Case("y3", "supervised", share), ""))
        lines.append([f"FixMatch above supervised at {share:.0%}", _points(pair), _met(pair, 0.0)])
    others = [case for case in COLUMN if case.method not in ("supervised", "fixmatch")]
    best = _best(found, [(case, "") for case in others])
    fixmatch = Case("y3", "fixmatch", TEN_PER_CENT)
    if best is not None:
        pair = found.difference(best, (fixmatch, ""))
        title = f"the best method (`{best[0].method}`) above FixMatch by 1 point at 10 %"
        lines.append([title, _points(pair), _met(pair, 1.0)])
    with_belief = _best(found, [(case, BELIEF) for case in COLUMN])
    if with_belief is not None:
        pair = found.difference(with_belief, (FULL_Y3, ""))
        title = f"the best with the belief (`{with_belief[0].method}{BELIEF}`), 10 %, above `{FULL}` without"
        lines.append([title, _points(pair), _met(pair, 0.0)])
    return [
        "## The aims",
        "The best method is the one with the highest mean in the table above, so its difference flatters it a "
        "little.",
        markdown_table(["aim", "difference in points", "reached"], lines),
        f"Calibrated, that is a debiased calibration error (mean over seeds) of at most {MOST_ECE}, among the rows of "
        "the tables below:",
        markdown_table(["", "calibrated", "not"], [_calibrated(found, *part) for part in CALIBRATED]),
    ]


def _calibrated(found: Found, title: str, cases: Sequence[Case]) -> list[str]:
    """How many rows are calibrated, and which are not."""
    known = [(case, form) for case in cases if found.seeds(case) for form in FORMS]
    errors = {f"`{case.method}{form}`": float(found.values(case, form, "ece").mean()) for case, form in known}
    missed = [f"{name} {error:.3f}" for name, error in errors.items() if error > MOST_ECE]
    return [title, f"{len(errors) - len(missed)} of {len(errors)}", ", ".join(missed)]


def _met(interval: Interval | None, least: float) -> str:
    if interval is None:
        return MISSING
    if interval.mean < least or interval.mean <= 0.0:
        return "no"
    return "yes" if interval.low > 0.0 else "yes, but the seeds do not agree"


def _best(found: Found, rivals: Sequence[tuple[Case, str]]) -> tuple[Case, str] | None:
    """The rival with the highest mean accuracy, by the seeds that ended."""
    known = [rival for rival in rivals if found.seeds(rival[0])]
    return max(
        known, key=lambda rival: float(found.values(rival[0], rival[1], "accuracy").mean()), default=None
    )


def _larger(found: Found, profile: Profile) -> list[str]:
    """What a larger budget is worth: that which a user has."""
    if profile != "quick":
        return []
    lines = []
    for case in LARGER:
        small = replace(case, method=case.method.removesuffix(AT_QUICK))
        lines.append(
            [
                f"{case.session}, `{small.method}`, {case.labels:.0%} of the labels",
                str(len(found.seeds(case))),
                _mean_std(found.values(small, "", "accuracy")[: len(found.seeds(case))]),
                _mean_std(found.values(case, "", "accuracy")),
                _mean_std(found.values(case, BELIEF, "accuracy")),
                _points(found.difference((case, ""), (small, ""))),
            ]
        )
    header = [
        "accuracy (%)",
        "seeds",
        "budget above",
        "quick profile",
        "with belief",
        "quick profile − above",
    ]
    return [
        "## With the budget of the profile quick",
        "64 px, width 32 and 1,500 steps, what `cryoscout train` does without other options, on the first sessions.",
        markdown_table(header, lines),
    ]


SCORES: Mapping[str, tuple[str, str]] = {
    "accuracy": ("accuracy", ".3f"),
    "precision": ("precision", ".3f"),
    "recall": ("recall", ".3f"),
    "auc": ("AUC", ".3f"),
    "brier": ("Brier", ".4f"),
    "brier_skill": ("Brier skill", ".3f"),
    "log_loss": ("NLL", ".3f"),
}


def _scores_table(cases: Sequence[Case], found: Found) -> str:
    lines = []
    for case in cases:
        for form in FORMS:
            if not found.seeds(case):
                lines.append([f"`{case.method}{form}`", *[MISSING] * (len(SCORES) + 1)])
                continue
            cells = [
                f"{found.values(case, form, score).mean():{digits}}" for score, (_, digits) in SCORES.items()
            ]
            low, high = (found.values(case, form, f"ece_{end}").mean() for end in ("low", "high"))
            ece = f"{found.values(case, form, 'ece').mean():.3f} [{low:.3f}, {high:.3f}]"
            lines.append([f"`{case.method}{form}`", *cells, ece])
    header = ["means over seeds", *[words for words, _ in SCORES.values()], "debiased ECE, 95 % interval"]
    return markdown_table(header, lines)


def _thresholds_table(found: Found) -> str:
    lines = []
    for case in REGRESSIONS:
        results = found.results(case)
        for angstrom in REGRESSION_THRESHOLDS_ANGSTROM:
            for form in FORMS:
                title = f"{case.session}, {case.labels:.0%} of the labels, {angstrom:g} Å{form}"
                scores = [result["thresholds"][f"{angstrom:g}"][form] for result in results]
                lines.append([title, *_threshold_cells(scores)])
    header = ["means over seeds", "share good", "AUC", "Brier skill", "debiased ECE, 95 % interval"]
    return markdown_table(header, lines)


def _threshold_cells(scores: Sequence[Json]) -> list[str]:
    """A seed whose test part is all good or all bad at a threshold has no AUC there, and does not count."""
    scores = [each for each in scores if each["auc"] is not None]
    if not scores:
        return [MISSING] * 4

    def mean(name: str) -> float:
        return float(np.mean([each[name] for each in scores]))

    ece = f"{mean('ece'):.3f} [{mean('ece_low'):.3f}, {mean('ece_high'):.3f}]"
    return [f"{mean('share_good'):.2f}", f"{mean('auc'):.3f}", f"{mean('brier_skill'):.3f}", ece]


def _squares_table(found: Found) -> str:
    lines = []
    for direction in DIRECTIONS:
        base = Case(direction, "supervised", 0.0)
        for method in SQUARES_METHODS:
            case = Case(direction, method, 0.0)
            lines.append(
                [
                    f"{direction}, `{method}`",
                    _mean_std(found.values(case, "", "accuracy")),
                    _mean_std(found.values(case, "", "mean_recall")),
                    "" if method == "supervised" else _points(found.difference((case, ""), (base, ""))),
                ]
            )
    return markdown_table(["", "accuracy (%)", "mean recall of the classes (%)", "− `supervised`"], lines)


def _rows_json(found: Found, profile: Profile) -> list[Json]:
    rows = []
    cases = [*COLUMN, *OTHER_COLUMNS, FULL_Y3, *BY_SQUARE, *Y1_SIM, *REGRESSIONS]
    for case in [*cases, *(LARGER if profile == "quick" else [])]:
        rows += [_row_json(case, form, found, profile) for form in FORMS]
    for case in SQUARES:
        rows.append(_row_json(case, "", found, profile))
    return rows


def _row_json(case: Case, form: str, found: Found, profile: Profile) -> Json:
    row: Json = {
        "session": case.session, "method": case.method + form, "labels": case.labels, "split": case.split,
        "profile": profile, "budget": budget_of(case, profile), "seeds": len(found.seeds(case)),
    }  # fmt: skip
    for score in ("accuracy", *[name for name in SCORES if name != "accuracy"], "ece", "ece_low", "ece_high"):
        known = bool(found.seeds(case)) and score in found.results(case)[0]["scores"][form]
        values = found.values(case, form, score) if known else np.empty(0)
        if score == "accuracy":
            row |= {
                "accuracy_mean": round(float(values.mean()), 5) if known else None,
                "accuracy_std": round(float(values.std()), 5) if known else None,
            }
        else:
            row[score] = round(float(values.mean()), 5) if known else None
    return row


STUDY = Study(
    "perception",
    "Hole images to p_good, from few labels",
    trials,
    RunCase(),
    page,
    (*PACKAGES_BEHIND_RESULTS, "perception"),
)
