"""The rate index against a slow reference that computes every rate anew before each visit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.routing.time_model import PRESETS, ROUNDING_MIN, TimeModel
from cryoscout.testing import random_problem
from examples import share

MODELS = {
    "cryorl": PRESETS["cryorl"],
    "overheads": PRESETS["cryorl"].model_copy(
        update={"setup_min": 7.0, "per_square_overhead_min": 3.0, "extra_shot_min": 0.5}
    ),
    "fitted": TimeModel(
        name="fitted", same_patch_min=1.517, new_patch_min=3.083, new_square_min=3.1, new_grid_min=3.233
    ),
    "tenths": TimeModel(
        name="tenths", same_patch_min=1.1, new_patch_min=2.2, new_square_min=3.3, new_grid_min=4.4
    ),
}


def route_of(problem: RoutingProblem, start_hole: int) -> list[int]:
    truth = Truth(problem.prior_p_good, np.ones(problem.n_holes, dtype=bool))
    return replay(problem, truth, make_policy("index"), [start_hole], seed=0)[0].route.tolist()


def rates(problem: RoutingProblem, left: set[int], here: int, used_min: float) -> dict[int, float]:
    """Best rate of every patch that can be entered and imaged in the minutes left, every k of it tried."""
    t = problem.time_model.tiers_min(problem.shots)
    left_min = problem.budget_min + ROUNDING_MIN - used_min
    found: dict[int, float] = {}
    for patch in {int(problem.patch_of_hole[hole]) for hole in left}:
        holes = [hole for hole in left if problem.patch_of_hole[hole] == patch]
        values = sorted((problem.expected_good()[hole] for hole in holes), reverse=True)
        entry = t[problem.tier_between(here, holes[0])] - t[0]
        for k in range(1, len(values) + 1):
            # Where the crossing visit counts, only what comes before the last hole has to fit.
            paid = (
                entry + k * t[0] if problem.crossing == "drop" else entry + (k - 1) * t[0] if k > 1 else 0.0
            )
            if paid <= left_min:
                found[patch] = max(found.get(patch, 0.0), sum(values[:k]) / (entry + k * t[0]))
    return found


def assert_follows_the_rates(problem: RoutingProblem, start_hole: int, route: list[int]) -> None:
    """Every visit goes to a patch whose rate no other exceeds, to its best hole; the end comes when none fits."""
    t = problem.time_model.tiers_min(problem.shots)
    left = set(np.flatnonzero(problem.available()).tolist()) - {start_hole}
    here, used_min = start_hole, problem.time_model.setup_min
    for hole in route:
        assert used_min <= problem.budget_min + ROUNDING_MIN
        now = rates(problem, left, here, used_min)
        patch = int(problem.patch_of_hole[hole])
        best = max(now.values())
        assert now[patch] == pytest.approx(best, rel=1e-12, abs=1e-300)
        if best > 0:
            first = min(key for key, rate in now.items() if rate >= best * (1 - 1e-12))
            assert patch == first or now[patch] != now[first]  # equal rates: the lower patch
        inside = [other for other in left if problem.patch_of_hole[other] == patch]
        assert hole == min(inside, key=lambda other: (-problem.prior_p_good[other], other))
        used_min += t[problem.tier_between(here, hole)]
        left.remove(hole)
        here = hole
    if used_min <= problem.budget_min + ROUNDING_MIN:
        assert not rates(problem, left, here, used_min)


@settings(max_examples=share(200))
@given(
    seed=st.integers(0, 2**32 - 1),
    n_holes=st.integers(1, 40),
    model=st.sampled_from(sorted(MODELS)),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 3),
)
def test_every_visit_has_the_best_rate_there_is(
    seed: int, n_holes: int, model: str, crossing: Crossing, shots: int
) -> None:
    rng = np.random.default_rng(seed)
    budget_min = MODELS[model].setup_min + float(rng.choice([rng.integers(20, 700) / 10, 5000.0]))
    problem = random_problem(
        rng,
        n_holes,
        budget_min=budget_min,
        time_model=MODELS[model],
        crossing=crossing,
        shots=shots,
        share_imaged=float(rng.choice([0.0, 0.2])),
        share_allowed=float(rng.choice([1.0, 0.8])),
    )
    start = int(rng.integers(NOWHERE, n_holes))
    assert_follows_the_rates(problem, start, route_of(problem, start))


def two_patches(p_good: list[float], budget_min: float, crossing: Crossing = "drop") -> RoutingProblem:
    """Holes 0, 1, 2 in patch 0, the others in patch 1 of another square of the same grid."""
    return RoutingProblem(
        tree=HoleTree(
            np.array([0] * 3 + [1] * (len(p_good) - 3), dtype=np.int32),
            np.array([0, 1], dtype=np.int32),
            np.array([0, 0], dtype=np.int32),
        ),
        prior_p_good=np.array(p_good),
        budget_min=budget_min,
        crossing=crossing,
    )


def test_it_stays_while_the_next_hole_is_worth_more_than_moving() -> None:
    # From hole 0: staying gives 0.4 / 2 = 0.2, then 0.1 / 2 = 0.05; moving gives (0.9 + 0.9) / 12 = 0.15.
    assert route_of(two_patches([0.0, 0.4, 0.1, 0.9, 0.9], 100.0), 0) == [1, 3, 4, 2]


def test_a_patch_is_worth_no_more_than_what_fits() -> None:
    # In 11 minutes only one of the two good holes fits after the move: 0.9 / 10 is less than 0.2 / 2.
    assert route_of(two_patches([0.0, 0.2, 0.0, 0.9, 0.9], 11.0), 0) == [1, 2]
    assert route_of(two_patches([0.0, 0.2, 0.0, 0.9, 0.9], 12.0), 0) == [3, 4]
    # Where the visit that crosses counts, the second one fits in 11 minutes too.
    assert route_of(two_patches([0.0, 0.2, 0.0, 0.9, 0.9], 11.0, "count"), 0) == [3, 4]


def test_surely_bad_holes_come_last_and_only_when_nothing_else_is_left() -> None:
    assert route_of(two_patches([0.0, 0.0, 0.0, 0.0, 0.3], 1000.0), 0) == [4, 3, 1, 2]


def test_outcomes_do_not_change_the_route() -> None:
    problem = random_problem(np.random.default_rng(3), 60, budget_min=200.0)
    everywhere = np.ones(60, dtype=bool)
    routes = [
        replay(problem, Truth(np.full(60, good), everywhere), make_policy("index"), [5], seed=0)[0].route
        for good in (0.0, 1.0)
    ]
    assert routes[0].tolist() == routes[1].tolist()


def test_the_order_of_holes_within_a_patch_in_the_session_does_not_matter() -> None:
    problem = two_patches([0.1, 0.8, 0.5, 0.3, 0.9, 0.6], 1000.0)
    turned = replace(problem, prior_p_good=np.array([0.5, 0.1, 0.8, 0.9, 0.6, 0.3]))
    first = problem.prior_p_good[route_of(problem, NOWHERE)].tolist()
    assert first == turned.prior_p_good[route_of(turned, NOWHERE)].tolist()
