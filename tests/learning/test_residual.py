"""The learned residual: a policy like the others, trained on draws, kept in one file."""

import numpy as np
import pytest
from learning_samples import random_session

from cryoscout.core.array_file import write_arrays
from cryoscout.core.errors import InputError
from cryoscout.learning.residual import (
    ResidualPolicy,
    ResidualSettings,
    reachable,
    read_residual,
    train_residual,
)
from cryoscout.routing.policies.price import N_TERMS
from cryoscout.routing.problem import NOWHERE
from cryoscout.routing.replay import replay
from cryoscout.testing import check_policy

QUICK = ResidualSettings(generations=2, pairs=2, routes=3, parts=2, units=2, budgets_min=(30.0, 60.0))


def _weights(seed: int = 0, units: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.0, (units, N_TERMS + 2))


@pytest.mark.parametrize("weights", [None, _weights()])
def test_it_keeps_the_contract_of_policies(weights):
    check_policy(lambda: ResidualPolicy("residual", weights))


def test_weights_that_say_nothing_are_the_plan_alone():
    session = random_session(np.random.default_rng(3), n_holes=40, budget_min=80.0)
    silent = _weights()
    silent[:, N_TERMS + 1] = 0.0
    starts = np.flatnonzero(session.problem.available())[:5].tolist()
    routes = [
        [route.route.tolist() for route in replay(session.problem, session.truth, policy, starts, 0)]
        for policy in (ResidualPolicy(), ResidualPolicy("residual", silent))
    ]
    assert routes[0] == routes[1]


def test_weights_change_routes():
    session = random_session(np.random.default_rng(3), n_holes=40, budget_min=80.0)
    loud = 50.0 * _weights(1)
    starts = np.flatnonzero(session.problem.available())[:5].tolist()
    routes = [
        [route.route.tolist() for route in replay(session.problem, session.truth, policy, starts, 0)]
        for policy in (ResidualPolicy(), ResidualPolicy("residual", loud))
    ]
    assert routes[0] != routes[1]


def test_training_is_the_same_for_a_seed_and_its_file_reads_back(tmp_path):
    session = random_session(np.random.default_rng(4), n_holes=40, budget_min=60.0)
    seen: list[tuple[int, float]] = []
    first = train_residual(
        [session], QUICK, tmp_path / "a", progress=lambda generation, share: seen.append((generation, share))
    )
    second = train_residual([session], QUICK, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert [generation for generation, _ in seen] == [1, 2]
    policy = read_residual(first)
    assert policy.weights.shape == (2, N_TERMS + 2)
    assert (tmp_path / "a" / "metrics.jsonl").read_text().count("\n") == 3


def test_another_file_is_refused(tmp_path):
    write_arrays({"weights": np.zeros((2, 3))}, {"kind": "residual"}, tmp_path / "short.safetensors")
    with pytest.raises(InputError, match=f"must be a residual of {N_TERMS} terms"):
        read_residual(tmp_path / "short.safetensors")


def test_what_can_be_reached_follows_the_tiers():
    session = random_session(np.random.default_rng(6), n_holes=30)
    problem = session.problem
    for here in (NOWHERE, 0, 17):
        patch = -1 if here == NOWHERE else int(problem.patch_of_hole[here])
        for left in (1.0, 2.0, 5.0, 10.0, 19.9, 20.0):
            tiers = problem.time_model.tiers_min(problem.shots)
            expected = [tiers[problem.tier_between(here, hole)] <= left for hole in range(problem.n_holes)]
            np.testing.assert_array_equal(reachable(problem, patch, left), expected)
