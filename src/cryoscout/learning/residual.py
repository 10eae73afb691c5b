"""A learned residual over the plan: a small network that changes which patch is next, trained on drawn outcomes.

The score of a patch is that of its plan at the time price (`price.py`), plus a network of N_TERMS terms, which starts
at zero: the untrained policy is the planner. It is trained by evolution strategies (Salimans et al. 2017): the return
is the number of good micrographs within the budget, which has no gradient, on outcomes drawn from the calibrated
belief, so that trying an uncertain patch can pay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cryoscout.belief.tree_gaussian import messages_up
from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.core.settings import Settings
from cryoscout.learning.batch_env import TrainingSession
from cryoscout.learning.held_out import random_parts, split_patches
from cryoscout.learning.weights import POLICY_FILE
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.outcome_draws import draw_outcomes
from cryoscout.routing.policies.base import STOP, Observation, PolicyKind
from cryoscout.routing.policies.price import (
    N_TERMS,
    PriceTree,
    best_free,
    choose_patch,
    learn_outcome,
    marginals,
    price_tree,
    simulate_route,
    values_of,
)
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN

Count = Annotated[int, Field(ge=1)]


class ResidualSettings(Settings):
    """Training a residual."""

    units: Count = 4
    """Units of the network's one layer."""
    generations: Count = 40
    pairs: Count = 8
    """Mirrored pairs of changed weights per generation."""
    routes: Count = 16
    """Routes per change; every change meets the same ones."""
    step: Annotated[float, Field(gt=0.0)] = 0.2
    """Standard deviation of a change of the weights."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.05
    budgets_min: tuple[float, ...] = (60.0, 120.0, 240.0, 360.0, 480.0)
    parts: Count = 24
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    seed: int = 0


@dataclass(frozen=True)
class _Scenario:
    """One route to simulate: everything but the weights."""

    tree: PriceTree
    good: NDArray[np.float64]
    free: NDArray[np.bool_]
    start: int
    left_min: float


class BeliefState:
    """What a route knows while it runs, in the form `price.py` uses."""

    def __init__(self, problem: RoutingProblem) -> None:
        n_patches = len(problem.square_of_patch)
        self.tree = price_tree(problem)
        self.evidence = np.zeros((n_patches, 2))
        self.messages = messages_up(
            self.evidence, self.tree.square_of_patch, self.tree.grid_of_square, self.tree.variances
        )
        self.n_seen = np.zeros(n_patches, dtype=np.int64)
        self.known = np.zeros(problem.n_holes, dtype=bool)
        self.shots = problem.shots

    def take_in(self, outcome: NDArray[np.float64]) -> None:
        """Learn from the outcomes that are not NaN and not known yet, (n,)."""
        for hole in np.flatnonzero(~np.isnan(outcome) & ~self.known):
            patch = int(self.tree.patch_of_hole[hole])
            share = float(outcome[hole]) / self.shots
            learn_outcome(
                self.tree, self.evidence, self.messages, patch, self.tree.location[hole], min(share, 1.0)
            )
            self.known[hole] = True

    def values(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """((n,) p_good now, (P,) variance of the patches' effects)."""
        mean, variance = np.empty(len(self.evidence)), np.empty(len(self.evidence))
        marginals(self.tree, self.evidence, self.messages, mean, variance)
        values = np.empty(len(self.known))
        values_of(self.tree, mean, variance, values)
        return values, variance


class ResidualPolicy:
    """The plan at the time price with a learned residual; without weights, the plan alone."""

    kind: PolicyKind = "learned"
    default_prediction: str = "combined"
    drops_crossing: bool = False

    def __init__(self, name: str = "residual", weights: NDArray[np.float64] | None = None) -> None:
        """weights : (k, N_TERMS + 2)"""
        self.name = name
        self.weights = np.zeros((0, N_TERMS + 2)) if weights is None else weights

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        self._problem = problem
        self._allowed = problem.available()
        self._state = BeliefState(problem)
        n_patches, n_squares = len(problem.square_of_patch), len(problem.grid_of_square)
        self._scratch = (
            np.empty(n_patches),
            np.empty(n_squares),
            np.empty(int(problem.grid_of_square[-1]) + 1),
            np.empty(n_patches, dtype=np.int64),
        )
        self._here = NOWHERE

    def next_hole(self, observation: Observation) -> int:
        """The surest hole of the patch with the best score, or STOP."""
        problem, state = self._problem, self._state
        if observation.here != self._here and observation.here != NOWHERE:
            state.n_seen[problem.patch_of_hole[observation.here]] += 1
        self._here = observation.here
        state.take_in(observation.outcome)
        free = self._allowed & ~observation.visited
        left = problem.budget_min - observation.minutes_used + ROUNDING_MIN
        here_patch = -1 if observation.here == NOWHERE else int(problem.patch_of_hole[observation.here])
        if problem.crossing == "drop":
            free = free & reachable(problem, here_patch, left)
        if not free.any():
            return STOP
        values, variance = state.values()
        patch = choose_patch(
            state.tree, values, free, here_patch, left, variance, state.n_seen, self.weights, *self._scratch
        )
        return STOP if patch < 0 else int(best_free(state.tree, free, patch))


def reachable(problem: RoutingProblem, here_patch: int, left_min: float) -> NDArray[np.bool_]:
    """(n,) holes whose visit ends within the minutes left."""
    tiers = problem.time_model.tiers_min(problem.shots)
    patches = np.arange(len(problem.square_of_patch))
    minutes = np.full(len(patches), tiers[3])
    if here_patch >= 0:
        square = problem.square_of_patch
        minutes[problem.grid_of_patch == problem.grid_of_patch[here_patch]] = tiers[2]
        minutes[square == square[here_patch]] = tiers[1]
        minutes[here_patch] = tiers[0]
    return np.asarray((minutes <= left_min)[problem.patch_of_hole])


def train_residual(
    sessions: Sequence[TrainingSession],
    settings: ResidualSettings,
    folder: Path,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> Path:
    """Train a residual on drawn outcomes of random parts of the sessions; returns the policy's file.

    The generation is chosen on held-out patches with their real outcomes. progress : (generation, share of bound)
    """
    rng = np.random.default_rng([settings.seed, 1])  # as `Training` splits, so that both learn from one half
    parts = [split_patches(session, settings.held_out, rng) for session in sessions]
    pool = [part for fit, _ in parts for part in random_parts(fit, settings.parts, rng)]
    trees = [price_tree(part.problem) for part in pool]
    judge = [_real_scenarios(held, settings, rng) for _, held in parts if held is not None]
    weights = np.zeros((settings.units, N_TERMS + 2))
    weights[:, : N_TERMS + 1] = rng.normal(0.0, 0.5, (settings.units, N_TERMS + 1))
    best, best_share, best_generation = weights.copy(), _share(judge, weights), 0
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    log: list[dict[str, Any]] = [{"generation": 0, "held_out_share_of_bound": best_share}]
    for generation in range(1, settings.generations + 1):
        scenarios = [_drawn_scenario(pool, trees, settings, rng) for _ in range(settings.routes)]
        gradient, gain = _gradient(scenarios, weights, settings, rng)
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        corrected = (first / (1 - 0.9**generation)) / (np.sqrt(second / (1 - 0.99**generation)) + 1e-8)
        weights = weights + settings.learning_rate * corrected
        share = _share(judge, weights)
        log.append({"generation": generation, "held_out_share_of_bound": share, "gain_of_changes": gain})
        if share > best_share:
            best, best_share, best_generation = weights.copy(), share, generation
        if progress is not None:
            progress(generation, share)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log), encoding="utf-8")
    path = folder / POLICY_FILE
    notes = {"generation": best_generation, "held_out_share_of_bound": best_share}
    write_arrays(
        {"weights": best},
        {"kind": "residual", "settings": settings.model_dump(mode="json"), "notes": notes},
        path,
    )
    return path


def read_residual(path: Path) -> ResidualPolicy:
    """Read a trained residual. Raises InputError when the file is not one."""
    arrays, _ = read_arrays(path, "residual")
    weights = arrays.get("weights")
    if weights is None or weights.shape[1:] != (N_TERMS + 2,):
        got = "nothing" if weights is None else f"weights of shape {weights.shape}"
        raise InputError(
            f"{path} must be a residual of {N_TERMS} terms. Got {got} instead. Remedy: train it again."
        )
    return ResidualPolicy(path.parent.name, np.asarray(weights, dtype=np.float64))


def _drawn_scenario(
    pool: Sequence[TrainingSession],
    trees: Sequence[PriceTree],
    settings: ResidualSettings,
    rng: np.random.Generator,
) -> _Scenario:
    which = int(rng.integers(len(pool)))
    problem = pool[which].problem
    free = problem.available()
    start = int(rng.choice(np.flatnonzero(free)))
    good = np.minimum(draw_outcomes(problem, rng), 1.0)
    return _Scenario(trees[which], good, free, start, float(rng.choice(settings.budgets_min)))


def _real_scenarios(
    session: TrainingSession, settings: ResidualSettings, rng: np.random.Generator
) -> tuple[list[_Scenario], float]:
    """Routes with real outcomes on held-out patches, and the sum of their bounds."""
    problem, tree = session.problem, price_tree(session.problem)
    scenarios, bound = [], 0.0
    for budget in (60.0, 120.0, 180.0, 240.0):
        of_budget = replace(problem, budget_min=budget, crossing="count")
        for start in rng.choice(np.flatnonzero(problem.available()), 16):
            scenarios.append(
                _Scenario(tree, np.minimum(session.truth.good, 1.0), problem.available(), int(start), budget)
            )
            bound += good_holes_bound(of_budget, session.truth, int(start))
    return scenarios, bound


def run_scenario(scenario: _Scenario, weights: NDArray[np.float64]) -> float:
    """Good micrographs of one route."""
    tree = scenario.tree
    free = scenario.free.copy()
    free[scenario.start] = False
    n_patches = len(tree.square_of_patch)
    evidence, n_seen = np.zeros((n_patches, 2)), np.zeros(n_patches, dtype=np.int64)
    messages = messages_up(evidence, tree.square_of_patch, tree.grid_of_square, tree.variances)
    patch = int(tree.patch_of_hole[scenario.start])
    learn_outcome(
        tree, evidence, messages, patch, tree.location[scenario.start], scenario.good[scenario.start]
    )
    n_seen[patch] += 1
    return float(
        simulate_route(
            tree, scenario.good, free, evidence, n_seen, scenario.start, scenario.left_min + ROUNDING_MIN,
            weights, -1, np.inf,
        )
    )  # fmt: skip


def _gradient(
    scenarios: Sequence[_Scenario],
    weights: NDArray[np.float64],
    settings: ResidualSettings,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], float]:
    """Estimated gradient of the mean return, and the mean absolute effect of a change."""
    gradient, effects = np.zeros_like(weights), []
    for _ in range(settings.pairs):
        change = settings.step * rng.standard_normal(weights.shape)
        up = np.mean([run_scenario(scenario, weights + change) for scenario in scenarios])
        down = np.mean([run_scenario(scenario, weights - change) for scenario in scenarios])
        gradient += (up - down) / 2.0 * change
        effects.append(abs(up - down))
    return gradient / (settings.pairs * settings.step**2), float(np.mean(effects))


def _share(judge: Sequence[tuple[list[_Scenario], float]], weights: NDArray[np.float64]) -> float:
    found = sum(run_scenario(scenario, weights) for scenarios, _ in judge for scenario in scenarios)
    return found / max(sum(bound for _, bound in judge), 1.0)
