"""Tianshou's DQN and ours on one small simulated session, beside each other: `--json` prints one JSON object.

Both learn on `cryoscout/Route-v0` or its batched form: the same session, network, optimiser, number of steps and
updates, exploration and replay; both are double DQN, because Tianshou masks no other target. What they learned is
judged on the session they learned from, by greedy routes from every hole.
Rule, chosen before any figure was seen: the 95 % bootstrap intervals of the mean return over training seeds overlap,
and both means lie above that of random routes by more than half of what the better of the two gains on them.
Needs tianshou 2.0.1, which wants pandas below 3 and so an environment of its own: tests/learning makes one.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from cryoscout.learning.batch_env import TrainingSession, session_to_learn_from
from cryoscout.learning.from_session import training_session
from cryoscout.learning.greedy_routes import greedy_routes
from cryoscout.learning.networks import ScoringNetwork
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.route_env import ENV_ID
from cryoscout.learning.settings import LearnSettings, settings_of
from cryoscout.learning.training import Training
from cryoscout.learning.weights import read_policy
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables

BUDGET_MIN = 120.0
HOLES = 150
SEEDS = 6
STEPS = 20_000
N_BOOTSTRAPS = 10_000


def parity_settings(seed: int, steps: int) -> LearnSettings:
    """What both learn with."""
    settings = settings_of(
        "double",
        seed=seed,
        budget_min=BUDGET_MIN,
        epochs=1,
        steps_per_epoch=steps,
        environments=10,
        batch_size=64,
        buffer_size=10_000,
        target_every=100,
        updates_per_step=0.1,
        learning_rate=0.001,
        random_first=0.2,
        random_last=0.02,
        held_out=0.0,
        parts=0,
        precision="float32",
        view={"candidates": "classes", "labels": "hard", "history": "visited"},
    )
    network = settings.network.model_copy(update={"hidden": (64, 64)})
    return settings.model_copy(update={"network": network})


def small_session() -> TrainingSession:
    """A simulated session of some 150 holes, reduced by action elimination as both agents meet it."""
    tables = simulate_tables(simulation_named("small").model_copy(update={"holes": HOLES}), seed=11)
    session, _, _ = training_session(to_session(tables, "parity"), budget_min=BUDGET_MIN)
    return session_to_learn_from(session, BUDGET_MIN, settings_of("double").beta_training)


def mean_return(session: TrainingSession, settings: LearnSettings, weights: dict[str, Any] | None) -> float:
    """Mean reward of greedy routes from every hole that may be visited; of random routes without weights."""
    starts = np.flatnonzero(session.problem.available())
    rng = np.random.default_rng(settings.seed)
    network = None if weights is None else NumpyNetwork(settings.network, weights)

    def scores(rows: NDArray[np.float32], _begin: NDArray[np.int64]) -> NDArray[np.float32]:
        return rng.random(len(rows)).astype(np.float32) if network is None else network.scores(rows)

    return float(greedy_routes(session, settings.view, scores, starts, rng).reward.mean())


def ours(session: TrainingSession, settings: LearnSettings) -> dict[str, Any]:
    """Weights that our learner ends with."""
    with tempfile.TemporaryDirectory() as folder:
        # The session is reduced already: elimination would reduce it again.
        learned = settings.model_copy(update={"elimination": False})
        return dict(read_policy(Training([session], learned, Path(folder), device="cpu").run()).weights)


class RowByRow(torch.nn.Module):
    """Our scoring network as Tianshou calls a network: (B, N, 68) observations to (B, N) values."""

    def __init__(self, network: ScoringNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[torch.Tensor, Any]:
        """Scores of every queue, masked or not: Tianshou takes the mask itself."""
        hidden = self.network.hidden(torch.as_tensor(obs, dtype=torch.float32))
        return self.network.score(hidden).squeeze(-1), state


def tianshous(session: TrainingSession, settings: LearnSettings) -> dict[str, Any]:
    """Weights that Tianshou's DQN ends with, after as many steps and updates."""
    from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy  # type: ignore[import-not-found]
    from tianshou.algorithm.optim import AdamOptimizerFactory  # type: ignore[import-not-found]
    from tianshou.data import Collector, VectorReplayBuffer  # type: ignore[import-not-found]
    from tianshou.env import DummyVectorEnv  # type: ignore[import-not-found]
    from tianshou.utils.torch_utils import policy_within_training_step, torch_train_mode  # type: ignore[import-not-found]

    np.random.seed(settings.seed)  # noqa: NPY002  Tianshou's exploration draws from it
    torch.manual_seed(settings.seed)
    n_environments = settings.environments

    def made() -> Any:
        return gymnasium.make(ENV_ID, session=session, elimination=False, **settings.view.model_dump())

    environments = DummyVectorEnv([made for _ in range(n_environments)])
    environments.seed(list(range(1000 * settings.seed, 1000 * settings.seed + n_environments)))
    one = made()
    policy = DiscreteQLearningPolicy(
        model=RowByRow(ScoringNetwork(settings.network)),
        action_space=one.action_space,
        observation_space=one.observation_space,
        eps_training=1.0,
    )
    algorithm = DQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=settings.learning_rate),
        gamma=settings.agent.gamma,
        n_step_return_horizon=settings.agent.n_step,
        target_update_freq=settings.target_every,
        is_double=settings.agent.double,
    )
    buffer = VectorReplayBuffer(settings.buffer_size, n_environments)
    collector = Collector(algorithm, environments, buffer, exploration_noise=True)
    collector.reset()
    owed, steps = 0.0, 0
    total = settings.epochs * settings.steps_per_epoch
    while steps < total:
        done = steps / total
        share = settings.random_first + (settings.random_last - settings.random_first) * done
        policy.set_eps_training(1.0 if steps < settings.batch_size else share)
        with policy_within_training_step(policy):
            collector.collect(n_step=n_environments)
        steps += n_environments
        owed += n_environments * settings.updates_per_step
        while owed >= 1.0:
            owed -= 1.0
            if steps >= settings.batch_size:
                with policy_within_training_step(policy), torch_train_mode(algorithm):
                    algorithm.update(buffer=buffer, sample_size=settings.batch_size)
    return {name: tensor.numpy() for name, tensor in copy.deepcopy(policy.model.network).state_dict().items()}


def bootstrap_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean of (k,) values."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (N_BOOTSTRAPS, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def compared(seeds: int, steps: int) -> dict[str, Any]:
    """Mean returns of both by training seed, their intervals, and whether they agree by the rule."""
    session = small_session()
    returns: dict[str, list[float]] = {"ours": [], "tianshou": []}
    for seed in range(seeds):
        settings = parity_settings(seed, steps)
        for name, train in (("ours", ours), ("tianshou", tianshous)):
            torch.set_num_threads(1)
            returns[name].append(mean_return(session, settings, train(session, settings)))
            print(f"seed {seed}, {name}: {returns[name][-1]:.3f}", file=sys.stderr, flush=True)
    intervals = {name: bootstrap_interval(np.array(values)) for name, values in returns.items()}
    means = {name: float(np.mean(values)) for name, values in returns.items()}
    chance = float(np.mean([mean_return(session, parity_settings(seed, steps), None) for seed in range(20)]))
    overlap = all(intervals[a][0] <= intervals[b][1] for a, b in (("ours", "tianshou"), ("tianshou", "ours")))
    gain = min(means.values()) - chance > 0.5 * (max(means.values()) - chance) > 0
    return {
        "holes": int(session.problem.available().sum()),
        "steps": steps,
        "seeds": seeds,
        "returns": returns,
        "mean": means,
        "interval_95": intervals,
        "random": chance,
        "intervals_overlap": overlap,
        "both_learn": gain,
        "agree": overlap and gain,
    }


def main() -> int:
    """Compare, print, and leave with 1 when they do not agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="training seeds of each")
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps of each training")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    result = compared(arguments.seeds, arguments.steps)
    if arguments.json:
        print(json.dumps(result))
    else:
        for name in ("ours", "tianshou"):
            low, high = result["interval_95"][name]
            print(f"{name}: {result['mean'][name]:.3f} ({low:.3f} to {high:.3f})")
        print(f"random: {result['random']:.3f}\nagree: {result['agree']}")
    return 0 if result["agree"] else 1


if __name__ == "__main__":
    sys.exit(main())
