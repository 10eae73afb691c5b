"""Reference figures of the packages behind studies: what tells that their results are others than before.

Written anew, after the number of the package in `study/engine/versions.py` was raised:

    python tests/study/engine/reference_figures.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cryoscout.study.engine.versions import RESULT_VERSIONS

if TYPE_CHECKING:
    from cryoscout.routing.problem import RoutingProblem
    from cryoscout.routing.replay import Truth

FILE = Path(__file__).with_name("reference_figures.json")


def of_sessions() -> list[float]:
    """`session`: counts of the built-in sessions and their splits, and what was good in them."""
    from cryoscout.session.named import load_session

    figures: list[float] = []
    for name, split in (("y1", "train"), ("y1", "val"), ("y1-2022", "val")):
        session = load_session(name, split)
        figures += [float(session.n_holes), float(np.nansum(session.good_by_hole(6.0)))]
    return figures


def of_belief() -> list[float]:
    """`belief`: p_good of a few holes after results, by effects and by the mixture."""
    from cryoscout.testing import random_problem

    problem = random_problem(np.random.default_rng(7), 12)
    figures: list[float] = []
    for belief in (problem.belief(), problem.mixture_belief()):
        belief.observe_many(np.array([0, 3, 7]), np.array([1.0, 0.0, 0.0]), np.ones(3))
        figures += belief.p_good().tolist()
    return figures


def of_routes() -> list[float]:
    """`routing`: what planners and the bound find on `y1`, and what `explore` finds where looks are charged."""
    from cryoscout.advice.compare import ReplayRequest, replay_session
    from cryoscout.routing.looking import World, replay_looking
    from cryoscout.routing.policies.explore import Explore
    from cryoscout.routing.time_model import PRESETS
    from cryoscout.session.named import load_session

    outcome = replay_session(
        load_session("y1", "val"),
        ReplayRequest(
            budgets_min=(120.0,), policies=("greedy", "expected@res50", "adaptive@res50"), starts=2
        ),
    )
    problem, truth = _small_session()
    problem = replace(problem, time_model=PRESETS["y1-looks-as-sketched"])
    (looked,) = replay_looking(World.hidden(problem), truth, Explore(), [5], 0)
    return [
        *(row.good_mean[0] for row in outcome.rows.values()),
        *outcome.bound_mean,
        looked.good_found,
        float(looked.visited),
        float(looked.squares_looked),
        float(looked.patches_looked),
    ]


def of_advice() -> list[float]:
    """`advice`: log likelihood ratios of a drift, and the final count that is expected of a plan half-way."""
    from cryoscout.advice.drift import Promises, log_ratios
    from cryoscout.advice.outlook import outlook
    from cryoscout.advice.walk import walked

    problem, truth = _small_session()
    promises, holes = Promises(problem.prior_p_good, problem.tree), range(0, 160, 2)
    places = [(problem.patch_of_hole[h], problem.square_of_hole[h], problem.grid_of_hole[h]) for h in holes]
    promised = [promises.of(h, *map(str, place)) for h, place in zip(holes, places, strict=True)]
    figures: list[float] = []
    for kept in (1.0, 0.0):
        good = [bool(truth.good[h] * (1.0 if h < 120 else kept)) for h in holes]
        figures.append(float(log_ratios(list(zip(promised, good, strict=True))).max()))
    imaged = np.isin(np.arange(problem.n_holes), list(holes))
    outcome, nothing = np.where(imaged, truth.good, np.nan), np.zeros(problem.n_holes)
    walk = walked(problem, 158, range(161, problem.n_holes, 2), 60.0)
    for plans_again in (False, True):
        seen = outlook(
            problem, outcome, imaged.astype(float), nothing, walk, 60.0, 0, plans_again=plans_again
        )
        figures += [seen.final.expected, *seen.final.interval_80]
    return figures


def _small_session() -> tuple[RoutingProblem, Truth]:
    """400 holes, as new, one hour."""
    from cryoscout.simulate.presets import simulation_named
    from cryoscout.simulate.tables import simulate_tables

    tables = simulate_tables(simulation_named("small").model_copy(update={"holes": 400}), 3)
    return tables.problem(60.0), tables.truth()


def of_simulator() -> list[float]:
    """`simulate`: good holes and sums of p_good of small sessions."""
    from cryoscout.simulate.presets import simulation_named
    from cryoscout.simulate.session import to_session
    from cryoscout.simulate.tables import simulate_tables

    figures: list[float] = []
    for seed in (0, 1):
        session = to_session(simulate_tables(simulation_named("small"), seed), "small")
        figures += [float(np.nansum(session.good_by_hole(6.0))), float(session.predictions["p_good"].sum())]
    return figures


def of_coupling() -> list[float]:
    """`coupling`: where holes stand in the routes of planners that label, without windows and in them."""
    from cryoscout.coupling.hole_routes import HoleRoutes
    from cryoscout.coupling.lesson import UNLABELLED, Told
    from cryoscout.coupling.settings import couple_settings

    problem, _ = _small_session()
    told = Told(np.full(problem.n_holes, UNLABELLED), np.zeros(problem.n_holes, dtype=np.bool_))
    figures: list[float] = []
    for driver in ("index", "expected", "adaptive"):
        drive = HoleRoutes(problem.tree, couple_settings("route", driver, minutes=60.0))
        found = drive.routes(problem.prior_p_good, told, np.array([0, 5]), 0, Path())
        figures += [float(np.dot(route, np.arange(len(route)))) for route in found]
    return figures


FIGURES: dict[str, Callable[[], list[float]]] = {
    "session": of_sessions,
    "belief": of_belief,
    "routing": of_routes,
    "simulate": of_simulator,
    "advice": of_advice,
    "coupling": of_coupling,
}

if __name__ == "__main__":
    content = {
        "versions": RESULT_VERSIONS,
        "figures": {name: figures() for name, figures in FIGURES.items()},
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
