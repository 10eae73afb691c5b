"""Study `route-labels`: what makes labels of a route right, before any classifier learns from them.

Specimens of y3 without images, and a made-up classifier as weak as those of SSL2-RL: so the routes alone differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import expit, logit

from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.coupling.hole_routes import HoleRoutes
from cryoscout.coupling.lesson import UNLABELLED, Told, lesson_of_routes, pseudo_rewards
from cryoscout.coupling.linear_perception import LinearStates
from cryoscout.coupling.ranks import made_probability, mean_ranks
from cryoscout.coupling.settings import couple_settings
from cryoscout.perception.teaching import Places, believed
from cryoscout.report.figures import BLUE, GREEN, GREY, png_bytes
from cryoscout.report.statistics import Interval, paired_difference
from cryoscout.session.splits import label_fraction
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table, over_seeds

PRESET = "y3"
NOISE = 3.0
"""Standard deviations of noise on what a perfect image would show, ln CTF without its hidden part."""
SHARES, TEN_PER_CENT = (0.05, 0.1, 0.2), 0.1
SURENESS = 4.0
"""As a network is that was trained on few labels."""
FIRST_SEED, SEEDS, OTHER_SEEDS, COVERAGE = 3000, 5, 3, 0.9
ROUTES = 3
AGENT, AGENT_SEEDS, AGENT_FOLDS, VALUE_STARTS = "double", 3, 2, 20
"""Of the agent's rows, at 10 % alone: it is trained anew for every fold. Values are means over VALUE_STARTS starts."""

CLASSIFIER = "the classifier"
P_ALONE = "`index`, probabilities alone as reward"
NO_COST = "`index`, true labels in the reward, no movement cost"
RULE = "`index`, true labels in the reward and movement cost: the paper's rule"
NO_IMAGES = "the same without images"
GOOD_ONLY, BAD_ONLY = (
    "the paper's rule, told the good labels alone",
    "the paper's rule, told the bad labels alone",
)
SURER = f"the paper's rule, probabilities too sure of themselves (logits times {SURENESS:g})"
WINDOWS = "`expected` in 480-minute windows, the same reward"
ONE_ROUTE = "the paper's rule, M 1"
FEWER, MORE = "the paper's rule, N_C 0.3 n", "the paper's rule, N_C 0.7 n"
RANK = "the visiting rank made a probability"
ON_BELIEF = "`index` on the belief"
BY_AGENT = "a trained agent (`double`, 480 minutes): the paper's rule"
VALUES = "the agent's learned values made a probability"
BELIEF, BELIEF_NO_IMAGES = "the belief", "the belief without images"
ROWS = (
    CLASSIFIER, P_ALONE, NO_COST, RULE, NO_IMAGES, GOOD_ONLY, BAD_ONLY, SURER, WINDOWS, ONE_ROUTE, FEWER,
    MORE, RANK, BY_AGENT, VALUES, ON_BELIEF, BELIEF, BELIEF_NO_IMAGES,
)  # fmt: skip


def trials(profile: Profile) -> list[Trial]:
    """One per seed and share of the labels; the paper profile has twice the seeds."""
    more = 1 if profile == "quick" else 2
    chosen = [(TEN_PER_CENT, FIRST_SEED + k) for k in range(SEEDS * more)]
    chosen += [(share, FIRST_SEED + k) for k in range(OTHER_SEEDS * more) for share in (0.05, 0.2)]
    made = [
        Trial(f"{share:.0%} of the labels, seed {seed}", {"share": share}, seed) for share, seed in chosen
    ]
    return made + [
        Trial(
            f"{AGENT}, {TEN_PER_CENT:.0%} of the labels, seed {FIRST_SEED + k}",
            {"share": TEN_PER_CENT, "agent": AGENT},
            FIRST_SEED + k,
        )
        for k in range(AGENT_SEEDS * more)
    ]


def run_one(trial: Trial) -> Json:
    """Share of the unlabelled holes that each way has right: `{"holes", "labels", "right": {row: share}}`."""
    from cryoscout.simulate.presets import scene_named
    from cryoscout.simulate.scene import simulate_scene

    scene = simulate_scene(scene_named(PRESET), trial.seed)
    good = (scene.ctf_max_res_angstrom[:, 0] <= GOOD_THRESHOLD_ANGSTROM).astype(np.int64)
    n, rng = len(good), np.random.default_rng([trial.seed, 4])
    labelled = label_fraction(
        np.ones(n, dtype=np.bool_), trial.parameters["share"], np.random.default_rng([trial.seed, 2])
    )
    told = Told(np.where(labelled, good, UNLABELLED), np.zeros(n, dtype=np.bool_))
    seen = -scene.visible_ln_ctf
    image = (seen - seen.mean()) / seen.std() + NOISE * rng.standard_normal(n)
    head = LinearStates(image[:, None])
    starts = rng.integers(n, size=ROUTES)
    tree = HoleTree(scene.patch_of_hole, scene.square_of_patch, scene.grid_of_square)
    if "agent" in trial.parameters:
        right = _right_by_agent(tree, head, told, good, starts, trial.seed)
        return {"holes": n, "labels": int(labelled.sum()), "right": right}
    places = Places(tree.patch_of_hole, tree, scene.x_um, scene.y_um)
    right = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        p = head.p_positive(head.pretrained(told, folder))
        flat = np.full(n, float(good[labelled].mean()))

        def keep(row: str, positive: NDArray[np.bool_]) -> None:
            right[row] = float((positive[~labelled] == (good[~labelled] == 1)).mean())

        def routes(
            reward: NDArray[np.float64], known: Told, driver: str = "index", **changes: object
        ) -> NDArray[np.int64]:
            settings = couple_settings("route", driver, **changes)
            return HoleRoutes(tree, settings).routes(reward, known, starts, trial.seed, folder)

        def by_rule(
            found: NDArray[np.int64], reward: NDArray[np.float64], known: Told = told
        ) -> NDArray[np.bool_]:
            return lesson_of_routes(found, _cut(pseudo_rewards(reward, known)), known).positive

        keep(CLASSIFIER, p > 0.5)
        blind = Told(np.full(n, UNLABELLED), told.held_out)
        keep(P_ALONE, by_rule(routes(p, blind), p))
        keep(NO_COST, by_rule(routes(p, told, movement_cost=False), p))
        whole = routes(p, told)
        keep(RULE, by_rule(whole, p))
        keep(NO_IMAGES, by_rule(routes(flat, told), flat))
        for row, kind in ((GOOD_ONLY, 1), (BAD_ONLY, 0)):
            known = Told(np.where(told.labels == kind, kind, UNLABELLED), told.held_out)
            keep(row, by_rule(routes(p, known), p, known))
        surer = expit(SURENESS * logit(p))
        keep(SURER, by_rule(routes(surer, told), surer))
        keep(WINDOWS, by_rule(routes(p, told, "expected"), p))
        keep(ONE_ROUTE, by_rule(whole[:1], p))
        for row, share in ((FEWER, 0.3), (MORE, 0.7)):
            keep(row, lesson_of_routes(whole, round(share * n), told).positive)
        by_rank = made_probability(
            mean_ranks(whole), told, lambda known, fold: mean_ranks(routes(p, known)), increasing=False
        )
        keep(RANK, by_rank > 0.5)
        # A regression of one number cannot memorise labels: its scores are as good on labelled holes as elsewhere.
        fitted_to = np.zeros(n, dtype=np.bool_)
        on_belief = believed(p, told.labels, fitted_to, places)
        keep(BELIEF, on_belief > 0.5)
        keep(ON_BELIEF, by_rule(routes(on_belief, told), on_belief))
        keep(BELIEF_NO_IMAGES, believed(flat, told.labels, fitted_to, places) > 0.5)
    return {"holes": n, "labels": int(labelled.sum()), "right": right}


def _cut(rewards: NDArray[np.float64]) -> int:
    return min(max(round(float(rewards.sum())), 1), len(rewards) - 1)


def _right_by_agent(
    tree: HoleTree,
    head: LinearStates,
    told: Told,
    good: NDArray[np.int64],
    starts: NDArray[np.int64],
    seed: int,
) -> dict[str, float]:
    """Share of the unlabelled holes that an agent has right: by its routes, and by what each hole is worth to it."""
    driver = HoleRoutes(tree, couple_settings("route", AGENT), device="cpu")
    value_starts = np.random.default_rng([seed, 5]).choice(tree.n_holes, size=VALUE_STARTS, replace=False)
    unlabelled = told.labels == UNLABELLED
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        p = head.p_positive(head.pretrained(told, folder))

        def values(known: Told, fold: int) -> NDArray[np.float64]:
            with tempfile.TemporaryDirectory(dir=folder) as of_fold:
                return driver.learned_values(p, known, value_starts, seed, Path(of_fold))

        whole = driver.learned_values(p, told, value_starts, seed, folder / "whole")
        routes = driver.routes(p, told, starts, seed, folder / "whole")  # of the same agent
        rule = lesson_of_routes(routes, _cut(pseudo_rewards(p, told)), told).positive
        valued = made_probability(whole, told, values, AGENT_FOLDS, increasing=True) > 0.5

    def share(positive: NDArray[np.bool_]) -> float:
        return float((positive[unlabelled] == (good[unlabelled] == 1)).mean())

    return {BY_AGENT: share(rule), VALUES: share(valued)}


def _values(rows: Sequence[TrialRow], share: float, row: str) -> dict[int, float]:
    """Per cent right, of the seeds that ended."""
    return {
        each.trial.seed: 100.0 * each.result["right"][row]
        for each in rows
        if each.result is not None and each.trial.parameters["share"] == share and row in each.result["right"]
    }


def _gain(rows: Sequence[TrialRow], row: str) -> Interval | None:
    one, other = (_values(rows, TEN_PER_CENT, name) for name in (row, CLASSIFIER))
    both = [seed for seed in one if seed in other]
    if len(both) < 2:
        return None
    return paired_difference(
        np.array([one[seed] for seed in both]),
        np.array([other[seed] for seed in both]),
        seed=0,
        coverage=COVERAGE,
    )


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The table, what it says, the figure, the rows."""
    del profile
    lines, plain = [], []
    for row in ROWS:
        cells = []
        for share in SHARES:
            values = np.array(list(_values(rows, share, row).values()))
            cells.append(over_seeds(values))
            plain.append(
                {"labelled_by": row, "labels": share, "seeds": len(values),
                 "right_mean": round(float(values.mean()), 3) if len(values) else None}
            )  # fmt: skip
        gain = _gain(rows, row)
        more = (
            ""
            if row == CLASSIFIER
            else MISSING
            if gain is None
            else f"{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
        )
        lines.append([row, *cells, more])
    header = [
        "unlabelled holes labelled by",
        *(f"{share:.0%} of the labels" for share in SHARES),
        "10 %: − the classifier",
    ]
    text = "\n\n".join(
        [
            "Why should the labels of a route be better than those of the classifier that drives it ([why routes label "
            "well](../explanation/localization.md))? Here routes alone are at work: specimens of `y3` "
            "([simulator](../simulator.md)), a share of whose holes is labelled, and a made-up classifier in the place "
            "of a network, a logistic regression on what the image of a hole shows, with so much noise that it is "
            "right about as often as those of the paper (its row). The rule is that of SSL2-RL: the first N_C holes of "
            f"a route are good, N_C the sum of the rewards, the majority of {ROUTES} routes from random holes. Per "
            "cent of the unlabelled holes that are labelled right; mean ± deviation over specimens (their number), "
            f"difference paired by specimen with a {COVERAGE:.0%} bootstrap interval.",
            markdown_table(header, lines),
            "The rows take the rule apart. With the probabilities alone the route has nothing to correct them with: it "
            "only prefers whole patches. True labels in the reward, without a movement cost, change the order of the "
            "labelled holes and of hardly any other. With the movement cost a labelled good hole makes its patch worth "
            "the way, and its neighbours are visited early: the label spreads over the neighbourhood, and that needs "
            "no image. But a labelled bad hole is only left out; it makes its patch no worse: see what the rule is "
            "right on when it is told the good labels alone, or the bad ones. Where nearly every patch has a good "
            "label the order says little. The belief spreads good and bad labels alike, as a model of patches, "
            "squares, grids and the stage, and weighs them by how many there are.",
        ]
    )
    return Page(text, figure(rows), plain)


def figure(rows: Sequence[TrialRow]) -> bytes:
    """PNG: bars at 10 % of the labels."""
    drawing = Figure(figsize=(9.0, 4.6), layout="constrained")
    axes = drawing.subplots()
    values = [np.array(list(_values(rows, TEN_PER_CENT, row).values())) for row in ROWS]
    heights = [float(each.mean()) if len(each) else 0.0 for each in values]
    colours = [GREY if row == CLASSIFIER else GREEN if "belief" in row else BLUE for row in ROWS]
    names = [row.replace("`", "") for row in ROWS]
    axes.barh(names[::-1], heights[::-1], color=colours[::-1])
    known = [height for height in heights if height]
    axes.set_xlim(min([50.0, *known]) - 2.0, max([60.0, *known]) + 2.0)
    axes.axvline(heights[0], color=GREY, linewidth=1.0)
    axes.set_xlabel("unlabelled holes labelled right (%), 10 % of the labels")
    return png_bytes(drawing)


STUDY = Study(
    "route-labels",
    "What makes the labels of a route right",
    trials,
    run_one,
    page,
    (*PACKAGES_BEHIND_RESULTS, "perception", "coupling"),
    result_version=3,  # 2: windows of planners end before the visit that crosses them; 3: three rows more
)
