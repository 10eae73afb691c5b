"""Study `ssl2rl`: SSL2-RL's tables and figures beside ours, the controls it lacks, and the belief as teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.perception.augmentations import LEFT_OUT_ALONE
from cryoscout.report.statistics import Interval, mean_and_std, paired_difference
from cryoscout.study.coupling.ssl2rl_cases import (
    BELIEF,
    EXACT,
    FIXMATCH,
    FULL,
    ITERATIVE,
    ONE_TRAINING,
    OWN,
    RANKS,
    ROUTE_120,
    ROUTE_480,
    SUPERVISED,
    VALUES,
    Case,
    RunCase,
    trial_of,
)
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.images.cases import Y1_ICE_IN_Y3

Selected = Literal["held-out", "accuracy", "validation", "last", "none"]
"""How the round of a row was kept: by the held-out return, by the reward on validation, and in one table of the page by
held-out accuracy."""

STUDY_SEEDS, DEVELOPMENT_SEEDS = range(3000, 3020), range(2000, 2050)
TEN_PER_CENT = 0.1
SHARES = (0.05, TEN_PER_CENT, 0.2)
AUGMENTATION_SEEDS = range(2000, 2005)
ICE_SEEDS = 3
PLANNER_SEEDS, OTHER_SHARE_SEEDS, AGENT_SEEDS, OTHER_AGENT_SEEDS, SENSITIVITY_SEEDS = 10, 5, 3, 1, 3
COVERAGE = 0.9

NO_COST = Case(ROUTE_480, TEN_PER_CENT, "index", "no movement cost", {"movement_cost": False})
NO_COST_AGENT = Case(ROUTE_480, TEN_PER_CENT, "double", "no movement cost", {"movement_cost": False})
NO_PSEUDO = Case(ROUTE_480, TEN_PER_CENT, "double", "no pseudo-rewards", {"pseudo_rewards": False})
HARD_FEATURES = Case(ROUTE_480, TEN_PER_CENT, "double", "hard features", {"features": "hard"})
BELIEF_UNTOLD = Case(
    BELIEF, TEN_PER_CENT, "", "not told the held-out labels", {"belief_knows_held_out": False}
)
"""It learns from as many labels as the others, which hold a fifth of them back."""
BEYOND = (
    Case(RANKS, TEN_PER_CENT),
    Case(RANKS, TEN_PER_CENT, "adaptive"),
    Case(RANKS, TEN_PER_CENT, "", "on the belief", {"on_belief": True}),
    Case(ROUTE_480, TEN_PER_CENT, "index", "on the belief", {"on_belief": True}),
)
"""Other ways to learn from a route than its cut at N_C, and routes of a policy that goes by the belief."""
LEARNED_VALUES = Case(VALUES, TEN_PER_CENT)
SENSITIVITY = [
    Case(ROUTE_480, TEN_PER_CENT, "index", name, changes)
    for name, changes in (
        ("M 1", {"starts": 1}),
        ("M 20", {"starts": 20}),
        ("N_C 0.3 n", {"n_positive": 1947}),
        ("N_C 0.7 n", {"n_positive": 4542}),
        ("lambda 0", {"unsupervised_weight": 0.0}),
        ("weights in the draw alone", {"weights_in_loss": False}),
        ("weights in the loss alone", {"weights_in_sampling": False}),
        ("weights in neither", {"weights_in_loss": False, "weights_in_sampling": False}),
        ("last weights", {"keep": "last"}),
        ("K 4", {"rounds": 4}),
    )
] + [
    Case(BELIEF, TEN_PER_CENT, "", name, changes)
    for name, changes in (
        ("hard", {"form": "hard"}),
        ("batches of the labelled part", {"whole_batches": False}),
        ("best weights", {"keep": "best"}),
        ("lambda 1", {"unsupervised_weight": 1.0}),
        ("K 3", {"rounds": 3}),
    )
]
"""On development seeds."""

OF_FIXMATCH = [
    Case(FIXMATCH, TEN_PER_CENT, "", name, changes)
    for name, changes in (
        ("confidence 0.8", {"tau": 0.8}),
        ("confidence 0.98", {"tau": 0.98}),
        ("three unlabelled images to a labelled one", {"unlabelled_ratio": 3}),
        ("lambda 0.5", {"unsupervised_weight": 0.5}),
        ("lambda 2", {"unsupervised_weight": 2.0}),
        ("soft labels", {"target": "soft"}),
        ("last weights", {"keep": "last"}),
    )
]
"""FixMatch's own settings, on the same seeds."""

AUGMENTED = [
    Case(FIXMATCH, TEN_PER_CENT, "", f"augmentation {name}", augmentation=name)
    for name in ("hole", "square", "plain", *(f"hole-without-{change}" for change in LEFT_OUT_ALONE))
]
"""FixMatch by augmentation, on development seeds: the best of them is that of every method."""
WITH_SQUARE = [
    replace(case, variant="augmentation square", augmentation="square")
    for case in (
        *(Case(method, TEN_PER_CENT) for method in (FIXMATCH, SUPERVISED, BELIEF, OWN, EXACT)),
        Case(ROUTE_480, TEN_PER_CENT, "index"),
        Case(ROUTE_480, TEN_PER_CENT, "double"),
    )
]
"""The second best, on study seeds: do the comparisons hang on the augmentation?"""
SEEDS_WITH_SQUARE = (*[10] * 5, 5, 1)
"""Of each."""

Y1_ICE = [
    Case(method, TEN_PER_CENT, "", "ice of y1-sim", preset=Y1_ICE_IN_Y3)
    for method in (SUPERVISED, FIXMATCH, OWN, BELIEF, EXACT)
]
"""Where kinds of holes are visible, does FixMatch beat supervised learning?"""

PAPER_METHODS = (SUPERVISED, FIXMATCH, ITERATIVE, ROUTE_120, ROUTE_480)
PAPER_ACCURACY: dict[float, tuple[float, ...]] = {
    0.05: (57.07, 62.29, 63.72, 64.23, 64.51),
    TEN_PER_CENT: (61.88, 63.03, 63.77, 64.80, 65.57),
    0.2: (62.99, 63.82, 63.96, 65.02, 64.79),
}
PAPER_REWARD: dict[float, tuple[str, ...]] = {
    0.05: ("59.55 ± 5.4", "56.97 ± 3.2", "62.33 ± 7.5", "62.94 ± 4.6", "61.62 ± 7.1"),
    TEN_PER_CENT: ("50.96 ± 5.6", "58.50 ± 5.5", "61.95 ± 3.4", "64.28 ± 8.5", "65.73 ± 7.0"),
    0.2: ("56.76 ± 7.3", "58.98 ± 3.5", "65.77 ± 4.2", "64.29 ± 8.2", "67.28 ± 6.3"),
}
PAPER_FULL = ("65.24", "69.76 ± 2.1")
"""SSL2-RL, Table 1, in the order of PAPER_METHODS; the last with all labels."""


def columns(share: float) -> list[Case]:
    """The rows of a share of the labels, what decides first."""
    return [
        *(Case(method, share) for method in (FIXMATCH, SUPERVISED, BELIEF, OWN, EXACT)),
        Case(ROUTE_480, share, "index"),
        Case(ITERATIVE, share),
        *(Case(method, share, "adaptive") for method in (ROUTE_480, ROUTE_120)),
    ]


AGENTS = [Case(method, TEN_PER_CENT, "double") for method in (ROUTE_480, ROUTE_120)]
ALL_LABELS = Case(FULL, 1.0)
JUDGED_BY_AGENTS = [
    *(Case(method, share, "double") for share in SHARES for method in (SUPERVISED, FIXMATCH, ITERATIVE)),
    Case(FULL, 1.0, "double"),
    *(Case(method, share, "double") for share in (0.05, 0.2) for method in (ROUTE_480, ROUTE_120)),
]
"""The rest of the paper's Table 1 (b), whose rewards are those of a DQN: in the paper profile."""
OTHER_AGENTS = [Case(ROUTE_480, TEN_PER_CENT, agent) for agent in ("rainbow", "a2c")]


def trials(profile: Profile) -> list[Trial]:
    """Augmentations first, because one is chosen for every row; then the teachers at 10 %, seed by seed.

    So a study that was stopped has whole pairs.
    """
    seeds, development = list(STUDY_SEEDS), list(DEVELOPMENT_SEEDS)
    ten = columns(TEN_PER_CENT)
    chosen = [(case, seed) for seed in AUGMENTATION_SEEDS for case in AUGMENTED]
    chosen += _one_ahead(ten[0], ten[1:5], seeds[:PLANNER_SEEDS])
    chosen += [
        (case, seed)
        for seed in seeds[:PLANNER_SEEDS]
        for case in (ten[5], NO_COST, BELIEF_UNTOLD, *ten[6:], ALL_LABELS)
    ]
    for share in (0.05, 0.2):
        chosen += [(case, seed) for seed in seeds[:OTHER_SHARE_SEEDS] for case in columns(share)]
    chosen += [(case, seed) for seed in seeds[:OTHER_SHARE_SEEDS] for case in BEYOND]
    chosen += [(case, seed) for seed in development[:SENSITIVITY_SEEDS] for case in _with_bases()]
    chosen += [(case, seed) for seed in seeds[:AGENT_SEEDS] for case in AGENTS]
    chosen += [(case, seed) for seed in seeds[:ICE_SEEDS] for case in Y1_ICE]
    for case, n_seeds in zip(WITH_SQUARE, SEEDS_WITH_SQUARE, strict=True):
        chosen += [(case, seed) for seed in seeds[:n_seeds]]
    once = (LEARNED_VALUES, *OTHER_AGENTS, HARD_FEATURES, NO_PSEUDO, NO_COST_AGENT)
    chosen += [(case, seed) for seed in seeds[:OTHER_AGENT_SEEDS] for case in once]
    if profile == "paper":
        chosen += [(case, seed) for seed in seeds[:AGENT_SEEDS] for case in JUDGED_BY_AGENTS]
    return [trial_of(case, seed, profile, rewards=seed in STUDY_SEEDS) for case, seed in chosen]


def _one_ahead(first: Case, others: Sequence[Case], seeds: Sequence[int]) -> list[tuple[Case, int]]:
    """Seed by seed, but the pretraining one seed ahead, so that no worker waits for it while another makes it."""
    order = [(first, seed) for seed in seeds[:1]]
    for at, seed in enumerate(seeds):
        order += [(first, after) for after in seeds[at + 1 : at + 2]]
        order += [(case, seed) for case in others]
    return order


def _with_bases() -> list[Case]:
    """The sensitivities, and what they are compared with."""
    return [
        Case(BELIEF, TEN_PER_CENT), BELIEF_UNTOLD, Case(ROUTE_480, TEN_PER_CENT, "index"), *SENSITIVITY,
        *OF_FIXMATCH,
    ]  # fmt: skip


class Found:
    """Results by case: those of the seeds that ended."""

    def __init__(self, rows: Sequence[TrialRow]) -> None:
        self._by_case: dict[tuple[str, float, str, str], dict[int, Json]] = {}
        for row in rows:
            if row.result is not None:
                case = Case(**row.trial.parameters["case"])
                self._by_case.setdefault(case.key, {})[row.trial.seed] = row.result

    def seeds(self, case: Case, among: Sequence[int] = STUDY_SEEDS) -> list[int]:
        """Seeds that ended."""
        return [seed for seed in sorted(self._by_case.get(case.key, {})) if seed in among]

    def round_of(self, case: Case, seed: int, judge: str = "", selected: Selected = "held-out") -> Json:
        """The measurements of the round that is kept.

        `validation` keeps the best reward that `judge` measured, `accuracy` the best accuracy on held-out labels.
        """
        result = self._by_case[case.key][seed]
        taught: list[Json] = [each for each in result["rounds"] if each["number"] > 0] or result["rounds"]
        if selected == "validation":
            return max(taught, key=lambda each: float(each["rewards"][judge]["reward"]))
        if selected == "accuracy" and result["report"] is not None:
            right = {each["number"]: each["held_out_accuracy"] or 0.0 for each in result["report"]["rounds"]}
            return max(taught, key=lambda each: float(right[each["number"]]))
        return next(each for each in result["rounds"] if each["number"] == result["chosen"])

    def rounds(self, case: Case, seed: int) -> list[Json]:
        """All of them, with what the loop reported."""
        found: list[Json] = self._by_case[case.key][seed]["rounds"]
        return found

    def reports(self, case: Case, seed: int) -> list[Json]:
        """What the loop says of its rounds; none of methods without one."""
        report = self._by_case[case.key][seed]["report"]
        return [] if report is None else list(report["rounds"])

    def values(
        self,
        case: Case,
        score: str,
        selected: Selected = "held-out",
        among: Sequence[int] = STUDY_SEEDS,
        judge: str = "",
    ) -> NDArray[np.float64]:
        """(k,) a score over the seeds that ended; `JUDGE reward` and `JUDGE good` are of BUDGET_MIN.

        judge : whose reward chooses the round where it is selected on validation; "" that of the score, else the first

        `unlabelled:accuracy` is of the training holes without a label.
        """
        return np.array(
            [self._value(case, seed, score, selected, judge) for seed in self.seeds(case, among)],
            dtype=np.float64,
        )

    def _value(
        self, case: Case, seed: int, score: str, selected: Selected = "held-out", chosen_by: str = ""
    ) -> float:
        judge, _, what = score.rpartition(" ")
        measured = self.round_of(case, seed, chosen_by or judge or case.judges[0], selected)
        if judge:
            return float(measured["rewards"][judge][what])
        part, _, name = what.rpartition(":")
        value = (measured[part] or {}).get(name) if part else measured["scores"][what]
        return float("nan") if value is None else float(value)

    def difference(
        self,
        first: Case,
        second: Case,
        score: str,
        *,
        share: bool = False,
        among: Sequence[int] = STUDY_SEEDS,
    ) -> Interval | None:
        """Mean of first - second over the seeds that both have, in points; None below two.

        share : in per cent of the mean of the second
        """
        both = [seed for seed in self.seeds(first, among) if seed in self.seeds(second, among)]
        if len(both) < 2:
            return None
        one, other = (
            100.0 * np.array([self._value(case, seed, score) for seed in both]) for case in (first, second)
        )
        scale = float(other.mean()) / 100.0 if share else 1.0
        return paired_difference(one / scale, other / scale, seed=0, coverage=COVERAGE)

    def ratio(self) -> tuple[float, float, float, int] | str | None:
        """(belief - own) / (exact - own) of mean accuracies, its interval, the seeds; a word where undefined."""
        cases = [Case(method, TEN_PER_CENT) for method in (BELIEF, OWN, EXACT)]
        both = [seed for seed in self.seeds(cases[0]) if all(seed in self.seeds(case) for case in cases[1:])]
        if len(both) < 2:
            return None
        belief, own, exact = (
            np.array([100.0 * self._value(case, seed, "accuracy") for seed in both]) for case in cases
        )
        if float((exact - own).mean()) < 0.5:
            return f"undefined: exact − own is {float((exact - own).mean()):.2f} points"
        drawn = np.random.default_rng(0).integers(0, len(both), size=(4000, len(both)))
        gained, most = (belief - own)[drawn].mean(axis=1), (exact - own)[drawn].mean(axis=1)
        ratios = gained / np.where(np.abs(most) < 1e-9, np.nan, most)
        low, high = np.nanquantile(ratios, [0.5 - COVERAGE / 2.0, 0.5 + COVERAGE / 2.0])
        return float((belief - own).mean() / (exact - own).mean()), float(low), float(high), len(both)


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The paper's tables beside ours, the aims, the controls, the figure, the rows."""
    from cryoscout.study.coupling.ssl2rl_comparisons import as_json
    from cryoscout.study.coupling.ssl2rl_page import figure, text_of

    found = Found(rows)
    return Page(text_of(found, profile), figure(found), rows_json(found), as_json(found))


def shown_cases() -> list[Case]:
    """Every row of the JSON file, but the sensitivities."""
    return [
        *(case for share in SHARES for case in columns(share)), NO_COST, BELIEF_UNTOLD, *BEYOND, LEARNED_VALUES,
        ALL_LABELS, *AGENTS, *JUDGED_BY_AGENTS, *OTHER_AGENTS, HARD_FEATURES, NO_PSEUDO, NO_COST_AGENT, *Y1_ICE,
        *WITH_SQUARE,
    ]  # fmt: skip


def rows_json(found: Found) -> list[Json]:
    """One object per row, judging policy and way of selecting; null where no trial ended."""
    return [
        _row(found, case, judge, selected)
        for case in shown_cases()
        for judge in case.judges
        for selected in selections(case)
    ]


def selections(case: Case) -> tuple[Selected, ...]:
    """How the round of a case may be kept; `none` where there is but one."""
    if case.method in ONE_TRAINING or case.method in (BELIEF, OWN, EXACT, RANKS, VALUES):
        return ("none",)
    return ("held-out", "validation")


def _row(found: Found, case: Case, judge: str, selected: Selected) -> Json:
    accuracy = 100.0 * found.values(case, "accuracy", selected, judge=judge)
    reward, good = (found.values(case, f"{judge} {what}", selected) for what in ("reward", "good"))
    several = len(accuracy) > 0
    mean, std = mean_and_std(accuracy) if several else (None, None)
    reward_mean, reward_std = mean_and_std(reward) if several else (None, None)
    return {
        "method": case.method, "driver": judge, "labels": case.labels, "variant": case.variant,
        "accuracy_mean": _rounded(mean), "accuracy_std": _rounded(std if len(accuracy) > 1 else None),
        "reward_mean": _rounded(reward_mean), "reward_std": _rounded(reward_std if len(reward) > 1 else None),
        "good_mean": _rounded(float(good.mean())) if several else None,
        **{f"{name}_mean": _rounded(_mean_of(found.values(case, name, selected, judge=judge)))
           for name in ("auc", "brier_skill", "precision")},
        "seeds": len(accuracy), "selection": selected,
    }  # fmt: skip


def _mean_of(values: NDArray[np.float64]) -> float | None:
    return float(np.nanmean(values)) if len(values) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


STUDY = Study(
    "ssl2rl",
    "Classifier and routes that teach each other (SSL2-RL)",
    trials,
    RunCase(),
    page,
    (*PACKAGES_BEHIND_RESULTS, "perception", "learning", "coupling"),
)
