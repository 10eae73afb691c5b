"""Reference figures of the packages behind studies: what tells that their results are others than before.

Written anew, after the number of the package in `study/engine/versions.py` was raised:

    python tests/study/engine/reference_figures.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cryoscout.study.engine.versions import RESULT_VERSIONS

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
    """`routing`: what planners and the bound find on `y1`, and expected numbers of a plan."""
    from cryoscout.advice.compare import ReplayRequest, replay_session
    from cryoscout.session.named import load_session

    outcome = replay_session(
        load_session("y1", "val"),
        ReplayRequest(
            budgets_min=(120.0,), policies=("greedy", "expected@res50", "adaptive@res50"), starts=2
        ),
    )
    return [*(row.good_mean[0] for row in outcome.rows.values()), *outcome.bound_mean]


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


FIGURES: dict[str, Callable[[], list[float]]] = {
    "session": of_sessions,
    "belief": of_belief,
    "routing": of_routes,
    "simulate": of_simulator,
}

if __name__ == "__main__":
    content = {
        "versions": RESULT_VERSIONS,
        "figures": {name: figures() for name, figures in FIGURES.items()},
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
