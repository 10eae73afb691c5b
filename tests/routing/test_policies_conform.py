"""Every registered policy, on minutes that are not whole too: its contract, and the bound above it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.policies import POLICIES, make_policy
from cryoscout.routing.policies.base import Policy
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.testing import check_policy, random_problem
from examples import share, slow_but

QUICK: dict[str, dict[str, object]] = {"genetic": {"evaluations": 60}, "annealing": {"evaluations": 60}}
"""Settings that make a policy's search short: its contract does not depend on how long it searches."""

MODELS = {
    "cryorl": PRESETS["cryorl"],
    "fitted": TimeModel(
        name="fitted", same_patch_min=1.517, new_patch_min=3.083, new_square_min=3.1, new_grid_min=3.233
    ),
    "tenths": TimeModel(
        name="tenths", same_patch_min=1.1, new_patch_min=1.1, new_square_min=2.2, new_grid_min=4.4
    ),
    "overheads": PRESETS["cryorl-code"].model_copy(
        update={"setup_min": 4.1, "per_square_overhead_min": 0.3, "extra_shot_min": 0.1}
    ),
}


def quick(name: str) -> Policy:
    return make_policy(name, **QUICK.get(name, {}))


def problems_that_just_fit() -> dict[str, RoutingProblem]:
    """Budgets that are sums of visits: the last one fits to the minute, or to the last bit of a float."""
    rng = np.random.default_rng(17)
    problems = {}
    for label, model in MODELS.items():
        for crossing in ("count", "drop"):
            for shots in (1, 2):
                tiers_min = model.tiers_min(shots)
                budget_min = model.setup_min + tiers_min[3] + 3 * tiers_min[2] + 3 * tiers_min[0]
                problems[f"{label}, {crossing}, {shots} shots"] = random_problem(
                    rng,
                    9,
                    budget_min=round(float(budget_min), 3),
                    time_model=model,
                    crossing=crossing,  # type: ignore[arg-type]
                    shots=shots,
                    share_imaged=0.15,
                    share_allowed=0.9,
                )
    zero = np.zeros(1, dtype=np.int32)
    flat = TimeModel(name="flat", same_patch_min=1.1, new_patch_min=1.1, new_square_min=1.1, new_grid_min=1.1)
    problems["three visits of 1.1 min in 3.3 min"] = RoutingProblem(
        HoleTree(np.zeros(5, dtype=np.int32), zero, zero), np.linspace(0.5, 0.9, 5), 3.3, time_model=flat
    )
    return problems


@pytest.mark.parametrize("name", slow_but(["random", "genetic", "index"], POLICIES))
def test_every_policy_keeps_its_contract_when_budgets_just_fit(name: str) -> None:
    check_policy(partial(quick, name), problems_that_just_fit(), seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_keeps_its_contract_with_other_seeds(name: str, seed: int) -> None:
    check_policy(partial(make_policy, name), seed=seed)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=share(40))
@given(
    seed=st.integers(0, 2**32 - 1),
    n_holes=st.integers(1, 25),
    model=st.sampled_from(sorted(MODELS)),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 2),
)
def test_no_policy_finds_more_than_the_bound_passes_the_budget_or_comes_back_to_a_hole(
    name: str, seed: int, n_holes: int, model: str, crossing: Crossing, shots: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng,
        n_holes,
        time_model=MODELS[model],
        crossing=crossing,
        shots=shots,
        share_imaged=0.1,
        share_allowed=0.9,
    )
    truth = Truth(
        rng.binomial(shots, problem.prior_p_good).astype(np.float64), np.ones(problem.n_holes, dtype=bool)
    )
    start = int(rng.integers(NOWHERE, n_holes))
    result = replay(problem, truth, quick(name), [start], seed)[0]
    assert result.good_found <= good_holes_bound(problem, truth, start)
    assert len({start, *result.route.tolist()}) == result.visited + 1
    assert problem.available()[result.route].all()
    drops = crossing == "drop" or quick(name).drops_crossing
    paid = result.minutes if drops else result.minutes[:-1]
    assert np.all(paid <= problem.budget_min + 1e-6)


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_replays_the_same_route(name: str) -> None:
    problem = random_problem(np.random.default_rng(6), 30, budget_min=120.0)
    truth = Truth(np.round(problem.prior_p_good), np.ones(30, dtype=bool))
    routes = [
        [result.route.tolist() for result in replay(problem, truth, quick(name), [2, NOWHERE], seed=4)]
        for _ in range(2)
    ]
    assert routes[0] == routes[1]
