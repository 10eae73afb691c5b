"""The page of the study `ssl2rl`: its tables, what was aimed at, the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryoscout.core.hole_tree import NOWHERE
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.coupling.hole_routes import HoleRoutes
from cryoscout.coupling.settings import couple_settings, is_agent
from cryoscout.report.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, png_bytes
from cryoscout.report.statistics import Interval
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.simulate.scene import Scene, simulate_scene
from cryoscout.study.coupling.ssl2rl import (
    AGENTS,
    ALL_LABELS,
    AUGMENTED,
    BELIEF_UNTOLD,
    COVERAGE,
    DEVELOPMENT_SEEDS,
    HARD_FEATURES,
    NO_COST,
    NO_COST_AGENT,
    NO_PSEUDO,
    OTHER_AGENTS,
    PAPER_ACCURACY,
    PAPER_FULL,
    PAPER_METHODS,
    PAPER_REWARD,
    PLANNER_SEEDS,
    SHARES,
    STUDY_SEEDS,
    TEN_PER_CENT,
    Y1_ICE,
    Found,
    Selected,
    columns,
)
from cryoscout.study.coupling.ssl2rl_cases import (
    BELIEF,
    BUDGET_MIN,
    EXACT,
    FIXMATCH,
    ITERATIVE,
    JUDGES,
    OWN,
    PRESET,
    QUICK_BUDGET,
    ROUTE_120,
    ROUTE_480,
    STARTS,
    SUPERVISED,
    Case,
    tree_of,
)
from cryoscout.study.coupling.ssl2rl_comparisons import (
    UNLABELLED_ACCURACY,
    Difference,
    augmentations,
    comparisons,
    labels_of_teachers,
    like,
    sensitivities,
    verdict,
    with_square,
)
from cryoscout.study.engine.catalogue import Profile
from cryoscout.study.engine.tables import MISSING, markdown_table, over_seeds
from cryoscout.study.images.cases import held_back, scene_of

COMMAND = "cryoscout study ssl2rl"
_GRID_APART_UM = 500.0

Lines = Sequence[tuple[Case, str, str]]
"""What is drawn, its colour and its marker."""
CoursesOf = Callable[[Case, int], list[float]]
"""A value of every round of a case and seed, the first round first."""


_LOOPED: Lines = (
    (Case(ROUTE_480, TEN_PER_CENT, "index"), BLUE, "s"),
    (AGENTS[0], PURPLE, "D"),
    (Case(ITERATIVE, TEN_PER_CENT), ORANGE, "^"),
    (Case(BELIEF, TEN_PER_CENT), GREEN, "o"),
)
_AGENTS_TOLD: Lines = ((AGENTS[0], PURPLE, "D"), (NO_PSEUDO, ORANGE, "^"))
_COSTS: Lines = (_LOOPED[0], (NO_COST, ORANGE, "^"), _LOOPED[1], (NO_COST_AGENT, GREEN, "o"))


def text_of(found: Found, profile: Profile) -> str:
    """The body of the page."""
    return "\n\n".join(
        [
            *_introduction(profile),
            "## The paper's Table 1 beside ours",
            "Accuracy (%) of the classifier on the validation part. Paper: SSL2-RL, Table 1 (a), on images that are "
            "not public; ours: mean ± deviation over seeds, and how many. The last three columns are not the paper's: "
            "the belief as teacher, and the two controls.",
            _table_1a(found),
            f"Reward (y − c) in {BUDGET_MIN:g} minutes, by the policy that it was measured with. The paper's are those "
            "of its DQN (Table 1, b); ours are on other specimens and with other policies, so the levels are not to be "
            "compared, only what is above what. By `double` all methods are measured in the paper profile: where no "
            "agent drives the loop, one is trained on the pseudo-rewards of the classifier that is judged; the driver "
            "of SSL2-RL is the agent of the round, which was trained before the round's fine-tuning.",
            _table_1b(found),
            "## The belief as teacher, and the controls",
            "`belief` is the default of `cryoscout couple`. `own` has the same steps on the classifier's own "
            "probabilities, `exact` on the simulator's true ones: the most that any teacher can give. The belief "
            "itself is told all labels, also the fifth that the trainings of all rows hold back to choose and to "
            "calibrate by; how it does without that fifth is said below.",
            _teachers_table(found),
            "## Is it better?",
            f"Paired by seed (the same specimen, labels, first weights and batches): mean and {COVERAGE:.0%} bootstrap "
            "interval over seeds; accuracy in points, rewards in per cent of the second's mean. The rows of `exact` "
            "say what there is to be gained: no teacher knows more of a hole.",
            _compared(found),
            "## The route's rule: labels, controls, ablations",
            "How right the labels are that each teacher gave to the unlabelled training holes, before any "
            "fine-tuning, and the pretrained network on the same holes; and what the classifier is right on after"
            " it. `ranks`: the place in the routes, made a probability by the held-out labels, in the place of "
            "the cut at N_C; by `adaptive` in windows of 120, 240 and 480 minutes; `values`: what a visit is "
            "worth to a double DQN, likewise; on the belief: the policy is told what the belief says of holes "
            "without a label, not what the classifier says. The match of the paper's rule is iterative FixMatch, "
            "which has its rounds, hard labels, lambda and choice of weights, with labels of its own; `own` is "
            "that of the soft teachers, which have one round and no lambda.",
            _labels_table(found),
            "The paper's ablations at 10 % of the labels:",
            _ablations(found),
            "## Round by round",
            "The figure has the paper's by round (4 a, 5, 8; 10 % of the labels) and by share of the labels (4 b), the "
            f"CTF resolutions of the specimen of seed {STUDY_SEEDS[0]} (7), and in its validation part the route of "
            "`index` on the true probabilities (2 b, an example).",
            "The round that is kept by the held-out return, the one by the held-out accuracy (the paper's Table 3), "
            "and the one with the best reward on validation (the paper's rule: it looks at what it is judged on, and "
            "is never a headline). All rounds are of the same runs.",
            _selection_table(found),
            "## Where kinds of holes are visible",
            "In `y3` a crop tells little of the ice: images of good and bad holes form no clusters. The same with the "
            "ice and the images of `y1-sim`, where empty, dry and crystalline holes can be seen, at `y3`'s counts; "
            "another share of the holes is good there.",
            _ice_table(found),
            "## Which augmentation",
            "What leaves the class of an image alone decides what FixMatch can learn ([the "
            "settings](../perception.md#augmentation)). FixMatch at 10 %, on development seeds alone; "
            f"`{QUICK_BUDGET['augmentation']}` is the setting of every training of every method on this page. "
            + _how_sure(found),
            _augmentations(found),
            "Whether the comparisons hang on it: the same study seeds with `square` in all trainings, accuracy in "
            "points.",
            _with_square(found),
            "## What our choices are worth",
            f"Development seeds {DEVELOPMENT_SEEDS[0]}-{DEVELOPMENT_SEEDS[2]}, difference to the default in points.",
            _sensitivity(found),
        ]
    )


def _introduction(profile: Profile) -> list[str]:
    budget = ", ".join(f"{name} {value}" for name, value in QUICK_BUDGET.items())
    return [
        "SSL2-RL trains a classifier of hole images and a policy of routes in turns ([how it "
        "works](../coupling.md)). Here on simulated sessions of the size of its Y3 ([simulator](../simulator.md)): "
        "8,653 holes, 6,489 to learn from, 2,164 in other patches to be judged. Each seed draws a specimen, the labels "
        f"and the first weights. Study seeds are {STUDY_SEEDS[0]}-{STUDY_SEEDS[-1]}; no default was chosen on "
        f"them. On development seeds, {DEVELOPMENT_SEEDS[0]}-{DEVELOPMENT_SEEDS[-1]}, the augmentation was chosen, and "
        "what our choices are worth is measured.",
        f"Every training of every method has the same budget ({budget if profile == 'quick' else 'that of FixMatch'}). "
        "Methods that teach have it twice or more: the pretraining, which is `fixmatch`, and one fine-tuning a round; "
        "`supervised`, `fixmatch` and `full` have it once. A fifth of the patches with labels is held out in all "
        "rows. The number in `ssl2rl-120` and `ssl2rl-480` is the minutes of the driver's training episodes or "
        "planning windows; `index` has none and stands at 480. Rewards are means over "
        f"{STARTS} random starts, {BUDGET_MIN:g} minutes, tiers 2-5-10-20. A cell whose trials did not run is shown as "
        "missing.",
    ]


def _case(method: str, share: float, driver: str = "index") -> Case:
    """The row of a method; ssl2rl-120 has windows, which `index` has not. driver : or the agent that judges"""
    if is_agent(driver):
        return Case(method, share, driver)
    if method == ROUTE_120:
        return Case(method, share, "adaptive" if driver == "index" else driver)
    return Case(method, share, driver if method == ROUTE_480 else "")


_OURS = (BELIEF, OWN, EXACT)
_BESIDE = [""] * len(_OURS)
_TABLE_1 = ["labels", "supervised", "FixMatch", "iterative FixMatch"]


def _table_1a(found: Found) -> str:
    lines = []
    for share in SHARES:
        ours = [
            over_seeds(100.0 * found.values(_case(method, share), "accuracy"), 2)
            for method in (*PAPER_METHODS, *_OURS)
        ]
        lines.append([f"{share:.0%}, paper", *(f"{each:.2f}" for each in PAPER_ACCURACY[share]), *_BESIDE])
        lines.append([f"{share:.0%}, ours", *ours])
    no_more = [""] * (len(PAPER_METHODS) - 1) + _BESIDE
    lines.append(["100 %, paper", PAPER_FULL[0], *no_more])
    lines.append(["100 %, ours", over_seeds(100.0 * found.values(ALL_LABELS, "accuracy"), 2), *no_more])
    header = [
        *_TABLE_1, "SSL2-RL 120 (`adaptive`)", "SSL2-RL 480 (`index`)", *(f"`{method}`" for method in _OURS),
    ]  # fmt: skip
    return markdown_table(header, lines)


def _table_1b(found: Found) -> str:
    lines = []
    for share in SHARES:
        lines.append([f"{share:.0%}, paper, DQN", *PAPER_REWARD[share], *_BESIDE])
        for judge in JUDGES:
            cells = []
            for method in (*PAPER_METHODS, *_OURS):
                case = _case(method, share, judge)
                measured = judge in case.judges
                cells.append(over_seeds(found.values(case, f"{judge} reward"), 1) if measured else "")
            lines.append([f"{share:.0%}, ours, `{judge}`", *cells])
        cases = [_case(method, share, "double") for method in PAPER_METHODS]
        if share == TEN_PER_CENT or any(found.seeds(case) for case in cases):
            known = [case in AGENTS or bool(found.seeds(case)) for case in cases]
            cells = [
                over_seeds(found.values(case, "double reward"), 1) if is_known else ""
                for case, is_known in zip(cases, known, strict=True)
            ]
            lines.append([f"{share:.0%}, ours, `double`", *cells, *_BESIDE])
    no_more = [""] * (len(PAPER_METHODS) - 1) + _BESIDE
    lines.append(["100 %, paper, DQN", PAPER_FULL[1], *no_more])
    by_agent = replace(ALL_LABELS, driver="double")
    for judge in (*JUDGES, *(["double"] if found.seeds(by_agent) else [])):
        full = found.values(by_agent if is_agent(judge) else ALL_LABELS, f"{judge} reward")
        lines.append([f"100 %, ours, `{judge}`", over_seeds(full, 1), *no_more])
    header = [*_TABLE_1, "SSL2-RL 120", "SSL2-RL 480", *(f"`{method}`" for method in _OURS)]
    return markdown_table(header, lines)


def _teachers_table(found: Found) -> str:
    lines = []
    for share in (TEN_PER_CENT, *(share for share in SHARES if share != TEN_PER_CENT)):
        for method in (SUPERVISED, FIXMATCH, OWN, BELIEF, EXACT):
            case = Case(method, share)
            lines.append(
                [
                    f"{share:.0%}, `{method}`",
                    over_seeds(100.0 * found.values(case, "accuracy"), 2),
                    over_seeds(100.0 * found.values(case, "auc"), 2),
                    over_seeds(found.values(case, "brier_skill"), 3),
                    *(over_seeds(found.values(case, f"{judge} reward"), 1) for judge in JUDGES),
                    *(over_seeds(found.values(case, f"{judge} good"), 1) for judge in JUDGES),
                ]
            )
    header = [
        "", "accuracy (%)", "AUC (%)", "Brier skill", *(f"reward, `{judge}`" for judge in JUDGES),
        *(f"good holes, `{judge}`" for judge in JUDGES),
    ]  # fmt: skip
    return markdown_table(header, lines)


def _in_words(interval: Interval | None, unit: str = "") -> str:
    if interval is None:
        return MISSING
    return f"{interval.mean:+.2f}{unit} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _compared(found: Found) -> str:
    lines = []
    for each in comparisons(found):
        judge, _, _ = each.score.rpartition(" ")
        share = "" if each.first.labels == TEN_PER_CENT else f", {each.first.labels:.0%}"
        shown = f"{_method_name(each.first)} − {_method_name(each.second)}{share}"
        interval = _in_words(each.interval, " %" if judge else "")
        aim = ""
        if each.least is not None:
            aim = f"≥ {each.least:g}{' %' if judge else ''}, above 0" if each.least else "above 0"
        lines.append(
            [
                shown + (f", reward by `{judge}`" if judge else ""),
                interval,
                str(each.pairs),
                aim,
                verdict(each),
            ]
        )
    lines.append(["(belief − own) / (exact − own), of the mean accuracies", *_ratio(found)])
    return markdown_table(["10 % of the labels", "difference", "seeds", "aim", "reached"], lines)


def _method_name(case: Case) -> str:
    return f"`{case.method}`" + (f" {case.variant}" if case.variant else "")


def _ratio(found: Found) -> list[str]:
    ratio = found.ratio()
    if not isinstance(ratio, tuple):
        return [ratio or MISSING, "", "≥ 0.5", "" if ratio else MISSING]
    mean, low, high, n = ratio
    reached = "yes" if mean >= 0.5 else "no"
    if n < PLANNER_SEEDS:
        reached = f"open: {n} of {PLANNER_SEEDS} seeds"
    return [f"{mean:.2f} [{low:.2f}, {high:.2f}]", str(n), "≥ 0.5", reached]


def _labels_table(found: Found) -> str:
    lines = []
    for each in labels_of_teachers(found):
        case = each.case
        by = f", `{case.driver}`" if case.driver else ""
        variant = f", {case.variant}" if case.variant else ""
        against = [like(case, method) for method in (FIXMATCH, OWN, ITERATIVE)]
        lines.append(
            [
                f"{case.labels:.0%}, `{case.method}`{by}{variant}",
                over_seeds(np.array(each.right), 2),
                over_seeds(each.network, 2),
                over_seeds(100.0 * found.values(case, "accuracy"), 2),
                *(
                    "" if case == other else _in_words(found.difference(case, other, "accuracy"))
                    for other in against
                ),
            ]
        )
    header = [
        "", "labels of round 1 right (%)", "the network before (%)", "classifier (%)", "− FixMatch", "− `own`",
        "− iterative FixMatch",
    ]  # fmt: skip
    return markdown_table(header, lines)


def _ablations(found: Found) -> str:
    index, double = Case(ROUTE_480, TEN_PER_CENT, "index"), AGENTS[0]
    lines = []
    for case in (
        index,
        NO_COST,
        double,
        AGENTS[1],
        HARD_FEATURES,
        NO_PSEUDO,
        NO_COST_AGENT,
        *OTHER_AGENTS,
    ):
        variant = f", {case.variant}" if case.variant else ""
        lines.append(
            [
                f"`{case.method}`, `{case.driver}`{variant}",
                over_seeds(100.0 * found.values(case, "accuracy"), 2),
                over_seeds(found.values(case, f"{case.driver} reward"), 1),
                over_seeds(found.values(case, f"{case.driver} good"), 1),
            ]
        )
    for method in (OWN, EXACT):
        control, judge = Case(method, TEN_PER_CENT), JUDGES[0]
        cells = [found.values(control, f"{judge} {what}") for what in ("reward", "good")]
        accuracy = over_seeds(100.0 * found.values(control, "accuracy"), 2)
        lines.append([f"`{method}`, control; `{judge}`", accuracy, *(over_seeds(each, 1) for each in cells)])
    paper = "paper (DQN; 10 rounds): 480 65.57, 65.7 ± 7.0; Rainbow 64, 62.8 ± 3.1; A2C 64, 61.8 ± 5.7"
    return markdown_table(["", "accuracy (%)", "reward", "good holes"], lines) + f"\n\nThe {paper}."


def _selection_table(found: Found) -> str:
    ways: tuple[Selected, ...] = ("held-out", "accuracy", "validation")
    lines = []
    for case in (
        Case(ITERATIVE, TEN_PER_CENT),
        *columns(TEN_PER_CENT)[5:6],
        *columns(TEN_PER_CENT)[7:],
        *AGENTS,
    ):
        for judge in case.judges:
            cells = []
            for selected in ways:
                rewards = found.values(case, f"{judge} reward", selected)
                accuracy = 100.0 * found.values(case, "accuracy", selected, judge=judge)
                cells += [over_seeds(rewards, 1), over_seeds(accuracy, 2)]
            lines.append([f"`{case.method}`, `{judge}`", *cells])
    for method in (OWN, EXACT):
        control = Case(method, TEN_PER_CENT)
        for judge in JUDGES:
            cells = [
                over_seeds(found.values(control, f"{judge} reward"), 1),
                over_seeds(100.0 * found.values(control, "accuracy"), 2),
            ]
            lines.append([f"`{method}`, control of one round; `{judge}`", *cells, "", "", "", ""])
    header = [
        "10 % of the labels", "held-out return: reward", "accuracy (%)", "held-out accuracy: reward", "accuracy (%)",
        "best on validation: reward", "accuracy (%)",
    ]  # fmt: skip
    return markdown_table(header, lines)


def _sensitivity(found: Found) -> str:
    lines = []
    for accuracy, auc in _both_scores(sensitivities(found)):
        case, base = accuracy.first, accuracy.second
        lines.append(
            [
                f"`{case.method}`, {case.variant}", _method_name(base) if base == BELIEF_UNTOLD else "",
                _in_words(accuracy.interval), _in_words(auc.interval), str(accuracy.pairs),
            ]
        )  # fmt: skip
    return markdown_table(["− the default", "or −", "accuracy", "AUC", "seeds"], lines)


def _ice_table(found: Found) -> str:
    lines = []
    for case in Y1_ICE:
        gain = "" if case == Y1_ICE[0] else _in_words(found.difference(case, Y1_ICE[0], "accuracy"))
        values = [100.0 * found.values(case, score) for score in ("accuracy", "auc")]
        lines.append([f"`{case.method}`", *(over_seeds(each, 2) for each in values), gain])
    return markdown_table(["ice of y1-sim, 10 %", "accuracy (%)", "AUC (%)", f"− `{SUPERVISED}`"], lines)


def _how_sure(found: Found) -> str:
    """Whether development seeds bear out the augmentation that every training has, and how surely."""
    chosen = next(case for case in AUGMENTED if case.augmentation == QUICK_BUDGET["augmentation"])
    others = [case for case in AUGMENTED if case != chosen]

    def mean(case: Case) -> float:
        return float(found.values(case, "accuracy", among=DEVELOPMENT_SEEDS).mean())

    if min(len(found.seeds(case, DEVELOPMENT_SEEDS)) for case in AUGMENTED) < 2:
        return "The comparison has not been run."
    best = max(others, key=mean)
    found_so = Difference.of(found, chosen, best, among=DEVELOPMENT_SEEDS)
    interval = found_so.interval
    if interval is None:
        return "The comparison has not been run."
    sure = "" if interval.low > 0.0 or interval.high < 0.0 else ", which does not tell the two apart"
    rank = "the best mean accuracy of all" if interval.mean >= 0.0 else "not the best mean accuracy"
    return (
        f"On {found_so.pairs} seeds it has {rank}; to `{best.augmentation}`, the best of the others, it is "
        f"{_in_words(interval)} points{sure}."
    )


def _augmentations(found: Found) -> str:
    gains = _both_scores(augmentations(found))
    lines = []
    for case in AUGMENTED:
        values = [
            100.0 * found.values(case, score, among=DEVELOPMENT_SEEDS)
            for score in ("accuracy", UNLABELLED_ACCURACY, "auc")
        ]
        over_hole = ["", ""] if case == AUGMENTED[0] else [_in_words(each.interval) for each in next(gains)]
        lines.append([f"`{case.augmentation}`", *(over_seeds(each, 2) for each in values), *over_hole])
    header = [
        "", "accuracy (%)", "of unlabelled training holes", "AUC (%)", "accuracy − `hole`", "of unlabelled − `hole`",
    ]  # fmt: skip
    return markdown_table(header, lines)


def _with_square(found: Found) -> str:
    lines = []
    for each in with_square(found):
        by = f", `{each.first.driver}`" if each.first.driver else ""
        second = (
            f"`{each.second.method}` with it"
            if each.second.variant
            else f"with `{QUICK_BUDGET['augmentation']}`"
        )
        lines.append([f"`{each.first.method}`{by} − {second}", _in_words(each.interval), str(each.pairs)])
    return markdown_table(["with `square`", "difference", "seeds"], lines)


def _both_scores(differences: Sequence[Difference]) -> Iterator[tuple[Difference, Difference]]:
    """Two scores of each case."""
    return zip(differences[::2], differences[1::2], strict=True)


def figure(found: Found) -> bytes:
    """PNG, by the paper's figures: 4 a and b, 8 and 7 above; 5 a and b, and a route (2 b) below."""
    drawing = Figure(figsize=(17.0, 7.4), layout="constrained")
    axes = drawing.subplots(2, 4)

    def score(name: str) -> CoursesOf:
        return lambda case, seed: [
            100.0 * (each["scores"][name] or float("nan")) for each in found.rounds(case, seed)
        ]

    def rewards(case: Case, seed: int) -> list[float]:
        return [each["rewards"][case.driver]["reward"] for each in found.rounds(case, seed)]

    def labels(case: Case, seed: int) -> list[float]:
        return [100.0 * each["guesses_right"] for each in found.reports(case, seed) if each["number"]]

    _by_round(axes[0, 0], _LOOPED, found, score("precision"), "precision on validation (%)")
    _good_by_share(axes[0, 1], found)
    _by_round(axes[0, 2], _LOOPED, found, labels, "labels of the teacher right (%)")
    _by_round(axes[1, 0], _AGENTS_TOLD, found, rewards, f"reward in {BUDGET_MIN:g} min")
    _by_round(axes[1, 1], _COSTS, found, score("accuracy"), "accuracy on validation (%)")
    scene = simulate_scene(scene_of(PRESET), STUDY_SEEDS[0])
    _ctf_of_holes(axes[0, 3], scene)
    _route_over_holes(axes[1, 2], scene)
    axes[1, 3].set_axis_off()
    for drawn, number in zip(axes.flat, ("4 a", "4 b", "8", "7", "5 a", "5 b", "2 b"), strict=False):
        drawn.set_title(f"as the paper's Figure {number}", fontsize=9)
    return png_bytes(drawing)


def _ctf_of_holes(axes: Axes, scene: Scene) -> None:
    resolution = scene.ctf_max_res_angstrom[:, 0]
    axes.hist(np.clip(resolution, 3.0, 15.0), bins=48, color=BLUE)
    axes.axvline(GOOD_THRESHOLD_ANGSTROM, color=BLACK, linestyle="--", label="threshold")
    axes.set_xlabel("CTF resolution (Å; first and last bin: all below and above)")
    axes.set_ylabel(f"holes of seed {STUDY_SEEDS[0]}")
    _legend(axes)


def _route_over_holes(axes: Axes, scene: Scene) -> None:
    """The holes of the validation part, grid beside grid, and the route of `index` on their true probabilities."""
    test = held_back(scene, PRESET, "patch")
    _, grid = np.unique(scene.grid_of_square[scene.square_of_hole[test]], return_inverse=True)
    row, column = np.divmod(grid, 3)
    x, y = scene.x_um[test] + _GRID_APART_UM * column, scene.y_um[test] - _GRID_APART_UM * row
    problem = HoleRoutes(tree_of(scene, test), couple_settings()).problem(scene.p_good()[test], BUDGET_MIN)
    route = plan_route(problem, make_policy("index"), NOWHERE, 0).route
    axes.scatter(x, y, s=1.0, color="0.75")
    axes.plot(x[route], y[route], color=BLUE, linewidth=0.8, marker="o", markersize=2.0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"{len(route)} holes in {BUDGET_MIN:g} min; {grid.max() + 1} grids, side by side")


def _by_round(axes: Axes, lines: Lines, found: Found, courses_of: CoursesOf, what: str) -> None:
    """The mean over the seeds of every line, as far as all of them come."""
    for case, colour, marker in lines:
        courses = [courses_of(case, seed) for seed in found.seeds(case)]
        if courses:
            length = min(map(len, courses))
            mean = np.nanmean([course[:length] for course in courses], axis=0)
            axes.plot(1 + np.arange(length), mean, color=colour, marker=marker, label=_short(case))
    axes.set_xlabel("round")
    axes.set_ylabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)


def _good_by_share(axes: Axes, found: Found) -> None:
    for method, colour, marker in (
        (SUPERVISED, BLACK, "x"), (FIXMATCH, ORANGE, "^"), (ITERATIVE, ORANGE, "v"), (ROUTE_120, BLUE, "P"),
        (ROUTE_480, BLUE, "s"), (BELIEF, GREEN, "o"), (EXACT, PURPLE, "D"),
    ):  # fmt: skip
        points = []
        judge = "adaptive" if method == ROUTE_120 else "index"
        for share in SHARES:
            good = found.values(_case(method, share), f"{judge} good")
            points.append(float(good.mean()) if len(good) else np.nan)
        if not np.isnan(points).all():
            label = method if judge == "index" else f"{method}, {judge}"
            axes.plot([100.0 * share for share in SHARES], points, color=colour, marker=marker, label=label)
    axes.set_xlabel("labelled holes (% of training holes)")
    axes.set_ylabel(f"good holes in {BUDGET_MIN:g} min, by `index`")
    _legend(axes)


def _short(case: Case) -> str:
    return ", ".join(word for word in (case.method, case.driver, case.variant) if word)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)
