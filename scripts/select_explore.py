"""What `explore` finds with other settings, where they were chosen: training patches of Y1 and simulated sessions.

    python scripts/select_explore.py [SESSIONS]
    python scripts/select_explore.py [SESSIONS] --knowing
    python scripts/select_explore.py [SESSIONS] --without-predictions

Draws of 52 of the 121 training patches, as many as the validation split has, and simulated sessions of that size, one
start each; time model `y1-looks-as-sketched`. `--knowing` prints in their place, in minutes rounded to quarters, what
`explore` finds, what one would find who knows every prediction beforehand and still pays the looks, and the bound, with
how much less than the one who knows each finds. `--without-predictions` has the crude rule and `explore` alone, where
nothing is predicted. Validation patches have no part in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.context import fit_context
from cryoscout.belief.effects import Y1_FLAT_EFFECTS
from cryoscout.belief.unseen import PRIOR_P_GOOD, Y1_UNSEEN
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.from_session import problem_from_session, truth_from_session
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.looking import World, replay_looking
from cryoscout.routing.places import Places
from cryoscout.routing.policies import make_policy
from cryoscout.routing.predictions import prediction_of
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, only_measured
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.routing.visit_order import planned_route
from cryoscout.session.builtin import load_builtin
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.tables import simulate_tables

BUDGETS_MIN = (120.0, 240.0, 480.0)
PATCHES = 52
VARIANTS: dict[str, tuple[str, dict[str, float]]] = {
    "look-greedy": ("look-greedy", {}),
    "explore": ("explore", {}),
    "explore, spread 0": ("explore", {"spread": 0.0}),
    "explore, stay 0.85, spread 0": ("explore", {"stay": 0.85, "spread": 0.0}),
    "explore, narrow prior": ("explore", {}),
}
NARROW = Y1_UNSEEN.model_copy(update={"grid": 2.5, "square": 1.2, "patch": 1.8, "within": 4.5})
"""Standard deviations of unseen patches about 0.8 of the fitted ones."""
QUARTERS = TimeModel(
    name="quarters", same_patch_min=1.5, new_patch_min=3.0, new_square_min=3.0, new_grid_min=3.25,
    patch_look_min=1.5, square_look_min=3.25,
)  # fmt: skip


@lru_cache(maxsize=1)
def training_patches() -> tuple[RoutingProblem, Truth]:
    """All of Y1's."""
    session = load_builtin("y1", split="train")
    truth, prediction = truth_from_session(session), prediction_of(session, "combined")
    problem = problem_from_session(
        session, prediction=prediction, budget_min=240.0, time_model="y1-looks-as-sketched", as_new=True
    )
    return only_measured(problem, truth), truth


def training_draw(number: int) -> tuple[RoutingProblem, Truth]:
    """Some of the training patches, with their squares and grids alone."""
    problem, truth = training_patches()
    tree = problem.tree
    kept = np.sort(np.random.default_rng([77, number]).choice(tree.n_patches, PATCHES, replace=False))
    holes = np.flatnonzero(np.isin(tree.patch_of_hole, kept))
    squares, square_of_patch = np.unique(tree.square_of_patch[kept], return_inverse=True)
    grid_of_square = np.unique(tree.grid_of_square[squares], return_inverse=True)[1]
    part = replace(
        problem,
        tree=HoleTree(
            np.searchsorted(kept, tree.patch_of_hole[holes]).astype(np.int32),
            square_of_patch.astype(np.int32),
            grid_of_square.astype(np.int32),
        ),
        prior_p_good=problem.prior_p_good[holes],
        fit_loadings=None,
        imaged=None,
        outcome=None,
        results=None,
        allowed=None if problem.allowed is None else problem.allowed[holes],
        hole_ids=(),
    )
    return part, Truth(truth.good[holes], truth.measured[holes])


@lru_cache(maxsize=64)
def simulated(number: int) -> tuple[RoutingProblem, Truth]:
    """As many holes in as many squares as the validation split has, predictions fitted on another session."""
    y1_like = simulation_named("y1-like")
    tables = simulate_tables(
        y1_like.model_copy(update={"holes": 1074, "patches_per_square": 2.36}), 3_000_000 + number
    )
    training = simulate_tables(y1_like, 4_000_000 + number)
    tree = training.problem(1.0).tree
    model = fit_context(training.score, training.good, training.patch_of_hole, tree, variances_off_zero=True)
    problem = tables.problem(240.0)
    p_good = model.p_good(tables.score, tables.patch_of_hole, problem.tree)
    model_min = PRESETS["y1-looks-as-sketched"]
    return replace(problem, prior_p_good=p_good, effects=model.effects, time_model=model_min), tables.truth()


def knowing(problem: RoutingProblem, truth: Truth, start: int) -> float:
    """Good micrographs of `adaptive` that knows every prediction and pays the looks it needs to enter a place."""
    tree, model = problem.tree, problem.time_model
    tiers, patch_look, square_look = (
        model.tiers_min(), model.patch_look_by_tier_min(), model.square_look_by_tier_min(),
    )  # fmt: skip
    squares, patches = np.zeros(tree.n_squares, dtype=bool), np.zeros(tree.n_patches, dtype=bool)
    at = tree.place_of(start)
    squares[at.square] = patches[at.patch] = True
    belief, free = problem.belief(), np.ones(problem.n_holes, dtype=bool)
    belief.observe(start, float(truth.good[start]))
    free[start] = False
    used, good, here, knapsack = 0.0, 0.0, start, None
    while True:
        knapsack = knapsack or TreeKnapsack(problem, unseen=Places.looked_at(squares, patches))
        plan = knapsack.solve(belief.p_good(), free, here, problem.budget_min - used, plan=True)
        if len(plan.patches) == 0:
            return good
        hole = planned_route(problem, plan, here)[0]
        at, there = tree.place_of(here), tree.place_of(hole)
        if not patches[there.patch]:
            if not squares[there.square]:
                over = tree.place_of_square(there.square)
                used, at = used + square_look[tree.tier_from(at, over)], over
            over = tree.place_of_patch(there.patch)
            used, at = used + patch_look[tree.tier_from(at, over)], over
            squares[there.square] = patches[there.patch] = True
            knapsack = None
        used += tiers[tree.tier_from(at, there)]
        if used > problem.budget_min + 1e-6:
            return good
        free[hole], here = False, hole
        good += float(truth.good[hole])
        belief.observe(hole, float(truth.good[hole]))


def unpredicted(
    made: Callable[[int], tuple[RoutingProblem, Truth]],
) -> Callable[[int], tuple[RoutingProblem, Truth]]:
    """The same sessions, in which every hole is as good as any."""

    def flat(number: int) -> tuple[RoutingProblem, Truth]:
        problem, truth = made(number)
        even = np.full(problem.n_holes, PRIOR_P_GOOD)
        return replace(problem, prior_p_good=even, effects=Y1_FLAT_EFFECTS), truth

    return flat


def main() -> None:
    """Print one line per policy, budget and kind of session."""
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    sessions = numbers[0] if numbers else 16
    kinds: dict[str, Callable[[int], tuple[RoutingProblem, Truth]]] = {
        "training patches": training_draw,
        "simulated": simulated,
    }
    knowing_too = "--knowing" in sys.argv
    flat = "--without-predictions" in sys.argv
    names = ["knowing", "explore", "bound"] if knowing_too else list(VARIANTS)
    if flat:
        names = ["look-greedy", "explore"]
        kinds = {f"{kind}, nothing predicted": unpredicted(made) for kind, made in kinds.items()}
    for kind, made in kinds.items():
        for budget in BUDGETS_MIN:
            compared = np.zeros(sessions)
            for name in names:
                found = np.array(
                    [found_in(name, *made(number), number, budget, knowing_too) for number in range(sessions)]
                )
                compared = found if name == names[0] else compared
                print(
                    f"{kind}, {budget:g} min, {name}: {found.mean():.1f}{_against(found, compared, knowing_too)}",
                    flush=True,
                )


def _against(found: NDArray[np.float64], compared: NDArray[np.float64], knowing_too: bool) -> str:
    if not compared.any():
        return ""
    if knowing_too:
        return f" ({100 * (found.mean() / compared.mean() - 1.0):+.1f} %)"
    more = found - compared
    return f" ({more.mean():+.1f} ± {more.std() / np.sqrt(len(more)):.1f})"


def found_in(
    name: str, problem: RoutingProblem, truth: Truth, number: int, budget_min: float, quarters: bool
) -> float:
    """Good micrographs of a variant, of who knows, or of the bound. quarters : minutes rounded to these"""
    problem = problem.with_budget(budget_min)
    start = int(np.random.default_rng([5, number]).integers(problem.n_holes))
    if quarters:
        problem = replace(problem, time_model=QUARTERS)
    if name == "knowing":
        return knowing(problem, truth, start)
    if name == "bound":
        return float(good_holes_bound(problem, truth, start, World.hidden(problem).features))
    if name == "explore, narrow prior":
        problem = replace(problem, unseen_prior=NARROW)
    policy, settings = VARIANTS[name]
    (result,) = replay_looking(World.hidden(problem), truth, make_policy(policy, **settings), [start], 0)
    return float(result.good_found)


if __name__ == "__main__":
    main()
