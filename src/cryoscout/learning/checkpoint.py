"""The state of a learner and of its environments as arrays by name, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscout.learning.a2c import ActorCritic
from cryoscout.learning.batch_env import BatchedRoutes
from cryoscout.learning.q_learning import QLearner

Arrays = dict[str, NDArray[np.generic]]


def save_learner(learner: QLearner | ActorCritic) -> Arrays:
    """Weights, target, optimiser, noise generator, number of updates."""
    arrays: Arrays = {"n_updates": np.array([learner.n_updates])}
    for name, tensor in learner.network.state_dict().items():
        arrays[f"network.{name}"] = tensor.detach().cpu().numpy()
    if isinstance(learner, QLearner):
        for name, tensor in learner.target.state_dict().items():
            arrays[f"target.{name}"] = tensor.detach().cpu().numpy()
        arrays["noise_generator"] = learner.noise_generator.get_state().numpy()
    for index, state in learner.optimizer.state_dict()["state"].items():
        for name, tensor in state.items():
            arrays[f"optimizer.{index}.{name}"] = tensor.detach().cpu().numpy()
    return arrays


def load_learner(learner: QLearner | ActorCritic, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Undo `save_learner`."""
    learner.n_updates = int(arrays["n_updates"][0])
    learner.network.load_state_dict(_tensors(arrays, "network."))
    if isinstance(learner, QLearner):
        learner.target.load_state_dict(_tensors(arrays, "target."))
        learner.noise_generator.set_state(torch.from_numpy(arrays["noise_generator"].copy()))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _tensors(arrays, "optimizer.").items():
        index, _, field = name.partition(".")
        state.setdefault(int(index), {})[field] = tensor
    whole = learner.optimizer.state_dict()
    learner.optimizer.load_state_dict({**whole, "state": state})


def start_learner(learner: QLearner | ActorCritic, weights: Mapping[str, NDArray[np.generic]]) -> None:
    """Let a new learner go on from the weights of a policy (`weights.PolicyFile`) with the same network."""
    state = _tensors(weights, "")
    learner.network.load_state_dict(state)
    if isinstance(learner, QLearner):
        learner.target.load_state_dict(state)


def save_routes(routes: BatchedRoutes) -> Arrays:
    """States, outcomes and minutes of all routes, and whose turn it is."""
    arrays: Arrays = {f"states.{name}": array for name, array in routes.states._asdict().items()}
    arrays["routes.good"], arrays["routes.minutes"] = routes.good, routes.minutes
    arrays["routes.start_hole"] = routes.start_hole
    arrays["routes.next_session"] = np.array([routes.next_session])
    return arrays


def load_routes(routes: BatchedRoutes, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Undo `save_routes`."""
    for name, array in routes.states._asdict().items():
        array[...] = arrays[f"states.{name}"]
    routes.good[...], routes.minutes[...] = arrays["routes.good"], arrays["routes.minutes"]
    routes.start_hole[...] = arrays["routes.start_hole"]
    routes.next_session = int(arrays["routes.next_session"][0])


def _tensors(arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(np.array(array))
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
