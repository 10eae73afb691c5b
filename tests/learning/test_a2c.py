"""Advantage actor-critic: returns and losses against loops, chances that sum to one, a tiny problem learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from learning_samples import even_session, quick
from test_q_learning import LEAST_OF_EVERY_SEED, SEEDS, shares_of_best

from cryoscout.learning.a2c import ActorCritic, RolloutStep, discounted_returns, log_chances
from cryoscout.learning.batch_env import BatchedRoutes
from cryoscout.learning.settings import LearnSettings
from cryoscout.learning.states import Look

CPU = torch.device("cpu")
N_ROUTES = 4


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def settings_and_look() -> tuple[LearnSettings, ActorCritic, Look]:
    settings = quick("a2c")
    routes = BatchedRoutes([even_session()], settings.view, N_ROUTES, np.random.default_rng(0))
    routes.reset_all()
    return settings, ActorCritic(settings, CPU), routes.look()


def rollout_step(seen: Look, rng: np.random.Generator) -> RolloutStep:
    ended = rng.integers(0, 3, N_ROUTES)
    n = np.diff(seen.begin)
    return RolloutStep(
        seen,
        seen.begin[:-1] + (rng.random(N_ROUTES) * n).astype(np.int64),
        rng.random(N_ROUTES).astype(np.float32),
        ended == 1,
        ended == 2,
        np.where(ended == 2, rng.normal(size=N_ROUTES), 0.0).astype(np.float32),
    )


def test_returns_are_discounted_to_the_end_of_the_route_or_of_the_rollout() -> None:
    rng = np.random.default_rng(0)
    _, _, seen = settings_and_look()
    rollout = [rollout_step(seen, rng) for _ in range(9)]
    values_after = rng.normal(size=N_ROUTES).astype(np.float32)
    returns = discounted_returns(rollout, values_after, 0.8)
    kinds = set()
    for first in range(9):
        for route in range(N_ROUTES):
            total, factor = 0.0, 1.0
            for step in rollout[first:]:
                total += factor * float(step.reward[route])
                factor *= 0.8
                if step.terminated[route] or step.truncated[route]:
                    kinds.add("terminated" if step.terminated[route] else "truncated")
                    total += factor * float(step.value_at_budget[route])
                    break
            else:
                kinds.add("cut")
                total += factor * float(values_after[route])
            assert returns[first][route] == pytest.approx(total, abs=1e-5)
    assert kinds == {"terminated", "truncated", "cut"}


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_chances_sum_to_one_in_every_state(scale: float) -> None:
    _, learner, seen = settings_and_look()
    state = torch.repeat_interleave(torch.arange(N_ROUTES), torch.from_numpy(np.diff(seen.begin)))
    logits = scale * torch.from_numpy(learner.scores(seen.rows, seen.begin))
    logs = log_chances(logits, state, N_ROUTES)
    assert torch.isfinite(logs).all()
    for route in range(N_ROUTES):
        mine = state == route
        assert float(logs[mine].exp().sum()) == pytest.approx(1.0, abs=1e-5)
        torch.testing.assert_close(logs[mine], logits[mine].log_softmax(0), atol=1e-4, rtol=1e-5)


def test_actions_are_drawn_in_proportion_to_their_chances() -> None:
    _, learner, seen = settings_and_look()
    with torch.no_grad():
        learner.network.score.weight *= 60.0
    rng = np.random.default_rng(1)
    drawn = np.stack([learner.act(seen, rng, 0.0) for _ in range(4000)])
    assert ((drawn >= seen.begin[:-1]) & (drawn < seen.begin[1:])).all()
    logits = learner.scores(seen.rows, seen.begin)[: seen.begin[1]].astype(np.float64)
    chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert chances.max() > 1.5 * chances.min()
    np.testing.assert_allclose(
        np.bincount(drawn[:, 0], minlength=len(chances)) / 4000, chances, atol=5 * np.sqrt(0.25 / 4000)
    )


def test_the_loss_is_that_of_policy_critic_and_entropy() -> None:
    settings, learner, seen = settings_and_look()
    step = rollout_step(seen, np.random.default_rng(3))
    target = torch.tensor([0.5, -1.0, 2.0, 0.0])
    got = float(learner._loss(step, target).detach())
    expected = 0.0
    with torch.no_grad():
        for route in range(N_ROUTES):
            rows = torch.from_numpy(seen.rows[seen.begin[route] : seen.begin[route + 1]])
            hidden = learner.network.hidden(rows)
            log_chance = learner.network.score(hidden)[:, 0].log_softmax(0)
            value = learner.network.value(hidden.mean(0, keepdim=True))[0, 0]
            advantage = target[route] - value
            expected -= float(advantage * log_chance[step.rows[route] - seen.begin[route]])
            expected += settings.agent.value_weight * float(advantage**2)
            expected -= settings.agent.entropy_weight * float(-(log_chance.exp() * log_chance).sum())
    assert got == pytest.approx(expected, rel=1e-4)


def test_the_policys_loss_does_not_move_the_critic() -> None:
    settings, learner, seen = settings_and_look()
    learner.settings = settings.model_copy(
        update={"agent": settings.agent.model_copy(update={"value_weight": 0.0, "entropy_weight": 0.0})}
    )
    learner._loss(rollout_step(seen, np.random.default_rng(3)), torch.ones(N_ROUTES)).backward()
    assert learner.network.value.weight.grad is None or not learner.network.value.weight.grad.any()
    assert learner.network.score.weight.grad.any()


def test_a_state_with_nothing_left_has_value_zero() -> None:
    settings, learner, _ = settings_and_look()
    routes = BatchedRoutes([even_session()], settings.view, 3, np.random.default_rng(0))
    routes.reset_all()
    values = learner.values(routes.look(np.array([True, False, True])))
    assert values[1] == 0.0
    assert (values[[0, 2]] != 0.0).all()


def test_an_update_lowers_the_critics_loss() -> None:
    settings = quick("a2c", learning_rate=0.01)
    _, _, seen = settings_and_look()
    learner = ActorCritic(settings, CPU)
    rng = np.random.default_rng(0)
    rollout = [
        RolloutStep(
            seen,
            seen.begin[:-1],
            np.ones(4, np.float32),
            np.ones(4, bool),
            np.zeros(4, bool),
            np.zeros(4, np.float32),
        )
    ]
    before = np.abs(learner.values(seen) - 1).mean()
    for _ in range(100):
        learner.update(rollout, rng.normal(size=4).astype(np.float32))
    assert np.abs(learner.values(seen) - 1).mean() < 0.3 * before
    assert learner.n_updates == 100


@pytest.mark.slow
def test_on_a_tiny_problem_it_learns_a_route_near_the_best(tmp_path: Path) -> None:
    def settings(seed: int) -> LearnSettings:
        made = quick(
            "a2c", hidden=(64, 64), epochs=8, steps_per_epoch=8000, environments=10, learning_rate=0.005,
            held_out=0.0, elimination=False, budget_min=1e3, seed=seed,
        )  # fmt: skip
        return made.model_copy(update={"agent": made.agent.model_copy(update={"entropy_weight": 0.03})})

    shares = np.array([shares_of_best(settings(seed), tmp_path / str(seed)) for seed in SEEDS])
    assert (shares >= LEAST_OF_EVERY_SEED).all(), shares
    assert shares.min(axis=1).max() > 0.95, shares
