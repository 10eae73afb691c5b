"""What the fields over the stage are worth: log loss of the next result under the belief before it, with and without.

Three kinds of cases: simulated sessions that have positions, the hole positions of a real EPU square with outcomes
drawn from a known field or from none, and the built-in sessions, which have no positions. No real session with
positions and results ships.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.effects import Y1_FLAT_EFFECTS, EffectBelief
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table

if TYPE_CHECKING:
    from cryoscout.session.model import Session

Outcomes = Literal["edge", "smooth", "none"]
OUTCOMES: tuple[Outcomes, ...] = get_args(Outcomes)
PRESETS = ("y1-sim", "y3")
BOTH_PRESETS = "both"
ORDERS = ("recorded", "adaptive")
BUILT_IN = ("y1", "y1-2022")

CASES, CASES_PER_TRIAL = 50, 10
"""Sessions of each preset, draws of each kind of outcomes; and how many of them one trial takes."""
FIRST_SEED = 31_000
"""Other seeds than those on which lengths and shares of the fields were chosen."""

BUDGET_MIN = 480.0
PATCH_RADIUS_UM = 5.0
INTERVAL_DRAWS = 2000

EDGE_LOGIT, EDGE_DROP, EDGE_UM = 1.5, 4.0, 20.0
"""logit = EDGE_LOGIT - EDGE_DROP exp(-d / EDGE_UM), d from the left edge of the square."""
SMOOTH_SD, SMOOTH_UM = 1.5, 20.0
"""Of a Gaussian field around logit 0, correlation exp(-d^2 / (2 SMOOTH_UM^2)): another one than the belief's."""
NO_FIELD_LOGIT = 0.4

MOST_LOST = 0.005
"""What the fields may lose, nats a result, where there is none."""

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


def trials() -> list[Trial]:
    """The same for every profile."""
    seeds = range(FIRST_SEED, FIRST_SEED + CASES, CASES_PER_TRIAL)
    simulated = [("simulated", preset) for preset in PRESETS]
    drawn = [("drawn", outcomes) for outcomes in OUTCOMES]
    made = [
        Trial(
            f"stage: {name}, seeds from {seed}", {"stage": kind, "of": name, "cases": CASES_PER_TRIAL}, seed
        )
        for kind, name in simulated + drawn
        for seed in seeds
    ]
    return made + [
        Trial(f"stage: {name}", {"stage": "built in", "of": name, "cases": 1}, 0) for name in BUILT_IN
    ]


def run_trial(trial: Trial) -> Json:
    """Mean losses (nats a result) with and without the fields of each case, by the order of results."""
    case_of: dict[str, Callable[[Any, int], dict[str, Json]]] = {
        "simulated": simulated_case,
        "drawn": drawn_case,
        "built in": built_in_case,
    }
    kind, name = trial.parameters["stage"], trial.parameters["of"]
    cases = range(trial.seed, trial.seed + trial.parameters["cases"])
    return {"cases": [case_of[kind](name, seed) for seed in cases]}


def losses(problem: RoutingProblem, order: Indices, good: Numbers) -> Json:
    """Mean log loss (nats) of each result under the belief before it, with the fields and without.

    problem : without outcomes, one shot a hole     order : (k,) holes as their results come     good : (n,) 0 or 1
    """
    belief = problem.belief()
    plain = belief.effects_alone if isinstance(belief, StageBelief) else belief
    of_results = np.empty((len(order), 2))
    for row, hole in enumerate(order.tolist()):
        p = np.array([belief.p_good()[hole], plain.p_good()[hole]])
        of_results[row] = -np.log(p if good[hole] else 1.0 - p)
        belief.observe(hole, float(good[hole]))
    with_fields, without = of_results.mean(axis=0).tolist()
    return {"results": len(order), "with": with_fields, "without": without}


def simulated_case(preset: str, seed: int) -> dict[str, Json]:
    """A session of that preset without predictions: its first 480 minutes as recorded, and as `adaptive` goes."""
    from cryoscout.routing.from_session import problem_from_session, truth_from_session
    from cryoscout.routing.policies import make_policy
    from cryoscout.routing.predictions import prediction_of
    from cryoscout.routing.replay import replay
    from cryoscout.simulate.presets import scene_named
    from cryoscout.simulate.scene import simulate_scene
    from cryoscout.simulate.session import scene_to_session

    session = scene_to_session(simulate_scene(scene_named(preset), seed), preset)
    prediction = prediction_of(session)
    problem = problem_from_session(session, prediction=prediction, budget_min=BUDGET_MIN, as_new=True)
    truth = truth_from_session(session)
    route = replay(problem, truth, make_policy("adaptive"), [NOWHERE], seed)[0].route
    orders = {"recorded": recorded_holes(session), "adaptive": np.asarray(route, dtype=np.int64)}
    return {name: losses(problem, order, truth.good) for name, order in orders.items()}


def recorded_holes(session: Session) -> Indices:
    """Holes whose result the session has, in recorded order; of a simulated one those of its first 480 minutes."""
    recorded = session.recorded_order()
    if recorded is None:
        return np.empty(0, dtype=np.int64)
    if session.info.built_in:
        return recorded.holes
    return recorded.holes[recorded.started_min[recorded.holes] < BUDGET_MIN]


def drawn_case(outcomes: Outcomes, seed: int) -> dict[str, Json]:
    """One draw of outcomes at the real positions; patches come in random order."""
    rng = np.random.default_rng([seed, OUTCOMES.index(outcomes)])
    problem, stage_um = real_square()
    good = (rng.random(problem.n_holes) < sigmoid(logit_of(outcomes, stage_um, rng))).astype(np.float64)
    borders = np.searchsorted(problem.patch_of_hole, np.arange(problem.tree.n_patches + 1))
    patches = [np.arange(first, last) for first, last in pairwise(borders)]
    order = np.concatenate([patches[patch] for patch in rng.permutation(len(patches))])
    return {"random": losses(problem, order, good)}


def logit_of(outcomes: Outcomes, stage_um: Numbers, rng: np.random.Generator) -> Numbers:
    """(n,) logit of being good."""
    from cryoscout.simulate.fields import SmoothField

    if outcomes == "edge":
        from_edge_um = stage_um[:, 0] - stage_um[:, 0].min()
        return np.asarray(EDGE_LOGIT - EDGE_DROP * np.exp(-from_edge_um / EDGE_UM))
    if outcomes == "smooth":
        field = SmoothField.drawn(SMOOTH_SD, SMOOTH_UM, 1, rng)
        return field.at(np.zeros(len(stage_um), dtype=np.int32), stage_um[:, 0], stage_um[:, 1])
    return np.full(len(stage_um), NO_FIELD_LOGIT)


def real_square() -> tuple[RoutingProblem, Numbers]:
    """The 570 holes of a real EPU square, in patches of 5 um radius, every p_good that of `flat`; their positions."""
    from cryoscout.formats.clusters import cluster_positions
    from cryoscout.routing.predictions import flat_p_good

    text = resources.files("cryoscout.study").joinpath("data", "epu_square_holes.csv").read_text("utf-8")
    stage_um = np.array(
        [(float(row["x_um"]), float(row["y_um"])) for row in csv.DictReader(text.splitlines())]
    )
    patch = cluster_positions(stage_um[:, 0], stage_um[:, 1], PATCH_RADIUS_UM)
    by_patch = np.argsort(patch, kind="stable")
    stage_um = stage_um[by_patch]
    one = np.zeros(1, dtype=np.int32)
    tree = HoleTree(patch[by_patch].astype(np.int32), np.zeros(int(patch.max()) + 1, dtype=np.int32), one)
    prior = np.full(len(stage_um), flat_p_good())
    return RoutingProblem(tree, prior, BUDGET_MIN, effects=Y1_FLAT_EFFECTS, stage_um=stage_um), stage_um


def built_in_case(name: str, seed: int) -> dict[str, Json]:
    """The validation split in recorded order: what planners believe, and effects alone, made apart from it."""
    from cryoscout.belief.effects import location_of
    from cryoscout.routing.from_session import problem_from_session, truth_from_session
    from cryoscout.routing.predictions import prediction_of
    from cryoscout.session.named import load_session

    session = load_session(name, "val")
    prediction = prediction_of(session)
    problem = problem_from_session(session, prediction=prediction, budget_min=BUDGET_MIN)
    order, good = recorded_holes(session), truth_from_session(session).good
    found = losses(problem, order, good)
    location = location_of(prediction.p_good, prediction.effects.total)
    plain = EffectBelief(location, problem.patch_of_hole, problem.tree, prediction.effects)
    total = 0.0
    for hole in order.tolist():
        p = plain.p_good()[hole]
        total -= float(np.log(p if good[hole] else 1.0 - p))
        plain.observe(hole, float(good[hole]))
    return {"recorded": {**found, "without": total / len(order)}}


# --- the page -------------------------------------------------------------------------------------


def is_of_stage(trial: Trial) -> bool:
    """Whether a trial of the study is one of these."""
    return "stage" in trial.parameters


def section(rows: Sequence[TrialRow]) -> tuple[str, list[Json]]:
    """The section of the page, and its figures, one row a table line."""
    lines, figures = [], []
    for kind, name, order in _lines():
        cases = [
            case[order]
            for row in rows
            if row.trial.parameters["stage"] == kind
            and name in (row.trial.parameters["of"], BOTH_PRESETS)
            and row.result is not None
            for case in row.result["cases"]
        ]
        # How many cases there are stands in the table: one that failed or has not run hides no other.
        figure: Json = {"stage": kind, "of": name, "order": order, "missing": not cases}
        if cases:
            figure |= summary(cases)
        figures.append(figure)
        words = "simulated, both" if name == BOTH_PRESETS else _WORDS[kind].format(name)
        lines.append([words, order, *_cells(figure)])
    table = markdown_table(
        ["", "order of results", "cases", "results a case", "without fields", "with fields", "gain"], lines
    )
    return "\n\n".join([_INTRODUCTION, table, _verdict(figures), _DETAILS]), figures


def _lines() -> list[tuple[str, str, str]]:
    simulated = [("simulated", of, order) for of in (*PRESETS, BOTH_PRESETS) for order in ORDERS]
    drawn = [("drawn", outcomes, "random") for outcomes in OUTCOMES]
    return [*simulated, *drawn, *(("built in", name, "recorded") for name in BUILT_IN)]


def summary(cases: Sequence[Json]) -> Json:
    """Means over cases, and the gain (nats a result) with a 95 % bootstrap interval over cases."""
    with_fields, without = (np.array([case[name] for case in cases]) for name in ("with", "without"))
    gain = without - with_fields
    resampled = np.random.default_rng(0).integers(len(gain), size=(INTERVAL_DRAWS, len(gain)))
    low, high = np.quantile(gain[resampled].mean(axis=1), [0.025, 0.975]).tolist()
    return {
        "cases": len(cases),
        "results": float(np.mean([case["results"] for case in cases])),
        "without_fields": float(without.mean()),
        "with_fields": float(with_fields.mean()),
        "gain": float(gain.mean()),
        "gain_interval": [low, high],
    }


_WORDS = {"simulated": "simulated `{}`", "drawn": "real positions, {}", "built in": "`{}`, no positions"}


def _cells(figure: Json) -> list[str]:
    if figure["missing"]:
        return [MISSING] * 5
    gain = f"{figure['gain']:.4f}"
    if figure["cases"] > 1:
        low, high = figure["gain_interval"]
        gain += f" [{low:.4f}, {high:.4f}]"
    losses_of = [f"{figure[name]:.4f}" for name in ("without_fields", "with_fields")]
    return [str(figure["cases"]), f"{figure['results']:.0f}", *losses_of, gain]


def _verdict(figures: Sequence[Json]) -> str:
    found = {(figure["of"], figure["order"]): figure for figure in figures}
    of_simulated = [found[BOTH_PRESETS, order] for order in ORDERS]
    of_drawn = {name: found[name, "random"] for name in OUTCOMES}
    of_built_in = [found[name, "recorded"] for name in BUILT_IN]
    expected = [len(PRESETS) * CASES] * len(of_simulated) + [CASES] * len(of_drawn) + [1] * len(of_built_in)
    whole = zip([*of_simulated, *of_drawn.values(), *of_built_in], expected, strict=True)
    if any(figure.get("cases") != cases for figure, cases in whole):
        return f"Whether the fields reach what they have to: {MISSING}."
    gain = {
        "at an edge": [of_drawn["edge"]],
        "in a smooth field": [of_drawn["smooth"]],
    }
    alone = {name: [found[name, order] for order in ORDERS] for name in PRESETS}
    said = [_gain_on_simulated(of_simulated, alone)]
    said += [f"{where} {'they do' if _all_gain(those) else 'they do not'}" for where, those in gain.items()]
    none = of_drawn["none"]
    same = all(each["with_fields"] == each["without_fields"] for each in of_built_in)
    return (
        f"The fields have to gain (interval above 0): {', '.join(said)}. Without a field they may lose at most "
        f"{MOST_LOST:g} nats a result: {'they lose no more' if none['gain'] >= -MOST_LOST else 'they lose more'} "
        f"({none['gain']:+.4f}). Sessions without positions keep their figures to the digit: "
        f"{'they do' if same else 'they do not'}."
    )


def _all_gain(figures: Sequence[Json]) -> bool:
    return all(figure["gain_interval"][0] > 0 for figure in figures)


def _gain_on_simulated(together: Sequence[Json], alone: Mapping[str, Sequence[Json]]) -> str:
    """Whether the presets gain together, and which of them do not by themselves. alone : preset -> figures by order"""
    said = f"on the simulated sessions of both presets together {'they do' if _all_gain(together) else 'they do not'}"
    without = [f"`{name}`" for name, figures in alone.items() if not _all_gain(figures)]
    return said + (f" (on those of {' and of '.join(without)} alone no gain is shown)" if without else "")


_INTRODUCTION = (
    "## Fields over the stage\n\n"
    "Log loss (nats) of each next result under the belief before it, on average over the results of a case: effects of "
    "patch, square and grid alone, and with the "
    "[smooth fields over the stage](../belief-and-planners.md#where-stage-positions-are-known) that planners use "
    "where positions are known. Gain: mean difference over cases, with its 95 % bootstrap interval over cases. No real "
    "session with stage positions and results ships with cryoscout: what the fields gain on one is not shown here."
)

_DETAILS = (
    f"Simulated: sessions without predictions, seeds from {FIRST_SEED} on, on which nothing was chosen; the results of "
    f"the first {BUDGET_MIN:.0f} minutes, in recorded order and in the order of `adaptive`. Their ice changes within "
    "some 15 um, less than patches are apart, so that there is little to learn from other patches. Real positions: the "
    f"570 holes of one EPU square in patches of {PATCH_RADIUS_UM:.0f} um radius, which come in random order; outcomes "
    f"are drawn. Edge: logit {EDGE_LOGIT:g} - {EDGE_DROP:g} exp(-d / {EDGE_UM:g} um), d from the left edge. Smooth: a "
    f"Gaussian field around 0, standard deviation {SMOOTH_SD:g}, length {SMOOTH_UM:g} um. None: logit "
    f"{NO_FIELD_LOGIT:g} everywhere. Built in: the validation split in recorded order."
)
