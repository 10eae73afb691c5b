"""Small sessions, random networks and random routes that the tests of learning share. Needs no torch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from cryoscout.core.hole_tree import HoleTree
from cryoscout.learning.batch_env import TrainingSession
from cryoscout.learning.greedy_routes import Scores
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.policy import LearnedPolicy
from cryoscout.learning.settings import N_INPUTS, LearnSettings, NetworkSettings, ViewSettings, settings_of
from cryoscout.learning.weights import PolicyFile
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.routing.reward import reward_named
from cryoscout.testing import random_problem

VIEWS = [
    ViewSettings(candidates=candidates, labels=labels, history=history)
    for candidates in ("holes", "classes", "dominant")
    for labels in ("hard", "soft")
    for history in ("visited", "candidate")
]

PUBLISHED = ViewSettings(candidates="classes", labels="hard", history="visited")

QUICK = {
    "epochs": 3,
    "steps_per_epoch": 120,
    "environments": 4,
    "batch_size": 16,
    "buffer_size": 400,
    "target_every": 7,
    "updates_per_step": 0.25,
    "budget_min": 60.0,
    "parts": 0,
    "learning_rate": 0.01,
    "precision": "float32",
}
"""Settings of a training that takes a second."""


def quick(agent: str = "dqn", hidden: tuple[int, ...] = (12, 8), **changes: object) -> LearnSettings:
    """Settings of a named agent; `view` names what differs from PUBLISHED."""
    view = changes.pop("view", {})
    seen = view if isinstance(view, ViewSettings) else {**PUBLISHED.model_dump(), **view}  # type: ignore[dict-item]
    settings = settings_of(agent, **{**QUICK, **changes, "view": seen})
    return settings.model_copy(update={"network": settings.network.model_copy(update={"hidden": hidden})})


def random_truth(problem: RoutingProblem, rng: np.random.Generator) -> Truth:
    good = rng.binomial(problem.shots, problem.prior_p_good).astype(np.float64)
    return Truth(good, np.ones(problem.n_holes, dtype=bool))


def random_session(rng: np.random.Generator, n_holes: int = 20, **options: object) -> TrainingSession:
    """A random problem with at least two holes that may be visited, and random outcomes."""
    while True:
        problem = random_problem(rng, n_holes, **{"crossing": "count", **options})
        if problem.available().sum() >= 2:
            return TrainingSession(problem, random_truth(problem, rng))


def index(*parents: int) -> np.ndarray:
    return np.array(parents, dtype=np.int32)


def even_session(n_grids: int = 2, squares: int = 2, patches: int = 2, holes: int = 4) -> TrainingSession:
    """Every patch with as many holes; the last hole of each patch is bad and known to be."""
    n_squares, n_patches = n_grids * squares, n_grids * squares * patches
    good = np.tile(np.arange(holes) < holes - 1, n_patches).astype(np.float64)
    problem = RoutingProblem(
        tree=HoleTree(
            np.repeat(np.arange(n_patches), holes).astype(np.int32),
            np.repeat(np.arange(n_squares), patches).astype(np.int32),
            np.repeat(np.arange(n_grids), squares).astype(np.int32),
        ),
        prior_p_good=np.where(good > 0, 0.9, 0.1),
        budget_min=60.0,
        crossing="count",
    )
    return TrainingSession(problem, Truth(good, np.ones(len(good), dtype=bool)))


def random_weights(network: NetworkSettings, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights as `ScoringNetwork` names them."""
    widths = (N_INPUTS, *network.hidden)
    shapes = {f"trunk.{i}": (widths[i + 1], widths[i]) for i in range(len(network.hidden))}
    shapes["score"] = (network.atoms, widths[-1])
    if network.dueling or network.critic:
        shapes["value"] = (network.atoms, widths[-1])
    weights = {}
    for name, shape in shapes.items():
        scale = 1.0 / np.sqrt(shape[1])
        weights[f"{name}.weight"] = rng.normal(0.0, scale, shape).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0.0, scale, shape[0]).astype(np.float32)
    return weights


def random_policy(settings: LearnSettings, seed: int = 0) -> LearnedPolicy:
    weights = random_weights(settings.network, np.random.default_rng(seed))
    return LearnedPolicy("random", PolicyFile(settings, weights, {}))


def state_by_state(network: NumpyNetwork) -> Scores:
    """Scores of many states, each computed alone as a policy does: no rounding between batch sizes."""

    def scores(rows: np.ndarray, begin: np.ndarray) -> np.ndarray:
        parts = [network.scores(rows[a:b]) for a, b in pairwise(begin)]
        return np.concatenate(parts)

    return scores


def with_allowed(session: TrainingSession, allowed: np.ndarray) -> TrainingSession:
    return replace(session, problem=replace(session.problem, allowed=allowed))


def tiny_session() -> TrainingSession:
    """Eight holes: a poor patch, a good one and a smaller one in the same square and the next one."""
    good = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    problem = RoutingProblem(
        tree=HoleTree(index(0, 0, 0, 1, 1, 1, 2, 2), index(0, 0, 1), index(0, 0)),
        prior_p_good=np.where(good > 0, 0.9, 0.1),
        budget_min=1e3,
        crossing="count",
    )
    return TrainingSession(problem, Truth(good, np.ones(8, dtype=bool)))


def best_return(session: TrainingSession, start: int, gamma: float) -> float:
    """The largest discounted sum of rewards of any route through all holes, by trying every route."""
    problem, good = session.problem, session.truth.good
    rule = reward_named("cryorl", problem.time_model.tiers_min())

    def best_from(here: int, left: frozenset[int]) -> float:
        returns = [
            rule.of_visit(float(good[hole]), problem.tier_between(here, hole))
            + gamma * best_from(hole, left - {hole})
            for hole in left
        ]
        return max(returns, default=0.0)

    return best_from(start, frozenset(range(problem.n_holes)) - {start})
