"""Advantage actor-critic on candidate sets (A2C; Mnih et al. 2016, synchronous as in OpenAI Baselines)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoscout.core.precision import Precision, precision_taken
from cryoscout.learning.greedy_routes import best_rows
from cryoscout.learning.networks import ScoringNetwork, mean_by_state
from cryoscout.learning.settings import LearnSettings
from cryoscout.learning.states import Look

CHUNK = 2048
"""Candidates scored at once when no gradient is needed: what stays in the cache."""


@dataclass(frozen=True)
class RolloutStep:
    """One visit of every environment."""

    seen: Look
    rows: NDArray[np.int64]  # (E,) row of `seen` that was visited
    reward: NDArray[np.float32]  # (E,)
    terminated: NDArray[np.bool_]  # (E,)
    truncated: NDArray[np.bool_]  # (E,)
    value_at_budget: NDArray[np.float32]  # (E,) value of the state a truncated route ended in; 0 elsewhere


class ActorCritic:
    """The network and optimiser of A2C: scores are logits over the candidates of a state."""

    def __init__(self, settings: LearnSettings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.precision: Precision = precision_taken(settings.precision, str(device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = ScoringNetwork(settings.network).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.n_updates = 0

    def act(self, seen: Look, rng: np.random.Generator, random_share: float) -> NDArray[np.int64]:
        """(E,) row of `seen` drawn from the policy. random_share : not used, the policy explores by itself."""
        logits = self.scores(seen.rows, seen.begin).astype(np.float64)
        # The largest logit plus Gumbel noise is a draw from the softmax.
        noisy = logits + rng.gumbel(size=len(logits))
        return best_rows(noisy, seen.begin)

    @torch.no_grad()
    def scores(self, rows: NDArray[np.float32], begin: NDArray[np.int64]) -> NDArray[np.float32]:
        """(R,) logits of candidates."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            whole = torch.from_numpy(rows).to(self.device)
            parts = [
                self.network.score(self.network.hidden(whole[first : first + CHUNK]))
                for first in range(0, len(whole), CHUNK)
            ]
        logits: NDArray[np.float32] = torch.cat(parts).squeeze(-1).float().cpu().numpy()
        return logits

    @torch.no_grad()
    def values(self, seen: Look) -> NDArray[np.float32]:
        """(E,) values of states; 0 where nothing is left."""
        _, value = self._forward(seen)
        values: NDArray[np.float32] = np.where(
            np.diff(seen.begin) > 0, value.float().cpu().numpy(), np.float32(0.0)
        )
        return values

    def update(self, rollout: list[RolloutStep], values_after: NDArray[np.float32]) -> float:
        """One step on one rollout. values_after : (E,) values of the states after its last visits."""
        agent = self.settings.agent
        returns = discounted_returns(rollout, values_after, agent.gamma)
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        n_visits = len(rollout) * len(values_after)
        total = 0.0
        # One backward pass per step of the rollout: the sum of their gradients is the gradient of the sum.
        for step, target in zip(rollout, returns, strict=True):
            loss = self._loss(step, torch.from_numpy(target).to(self.device)) / n_visits
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.largest_gradient)
        if not norm.isfinite():
            return float("nan")  # a step along it would make every weight NaN
        self.optimizer.step()
        self.n_updates += 1
        return total

    def _loss(self, step: RolloutStep, target: Tensor) -> Tensor:
        """Sum over the environments of the policy's, the critic's and the entropy's loss."""
        agent = self.settings.agent
        logits, value = self._forward(step.seen)
        state = self._state_of_row(step.seen)
        log_chance = log_chances(logits, state, len(target))
        entropy = -(log_chance.exp() * log_chance).sum()
        advantage = target - value
        chosen = log_chance[torch.from_numpy(step.rows).to(self.device)]
        return (
            -(advantage.detach() * chosen).sum()
            + agent.value_weight * advantage.square().sum()
            - agent.entropy_weight * entropy
        )

    def _forward(self, seen: Look) -> tuple[Tensor, Tensor]:
        """((R,) logits, (E,) values)."""
        hidden = self.network.hidden(torch.from_numpy(seen.rows).to(self.device))
        pooled = mean_by_state(hidden, self._state_of_row(seen), len(seen.begin) - 1)
        return self.network.score(hidden).squeeze(-1), self.network.value(pooled).squeeze(-1)

    def _state_of_row(self, seen: Look) -> Tensor:
        counts = torch.from_numpy(np.diff(seen.begin)).to(self.device)
        return torch.repeat_interleave(torch.arange(len(counts), device=self.device), counts)


def log_chances(logits: Tensor, state: Tensor, n_states: int) -> Tensor:
    """(R,) logarithm of the chance of each candidate within its state; state : (R,) whose candidate it is."""
    largest = torch.full((n_states,), -torch.inf, device=logits.device)
    largest = largest.scatter_reduce(0, state, logits.detach(), "amax")
    shifted = logits - largest[state]
    total = torch.zeros(n_states, device=logits.device).index_add(0, state, shifted.exp())
    return shifted - total.log()[state]


def discounted_returns(
    rollout: list[RolloutStep], values_after: NDArray[np.float32], gamma: float
) -> list[NDArray[np.float32]]:
    """(E,) per step: rewards to come, discounted, with the critic's value where the rollout or a budget cuts it."""
    following = values_after.astype(np.float64)
    returns: list[NDArray[np.float32]] = []
    for step in reversed(rollout):
        future = np.where(step.terminated, 0.0, np.where(step.truncated, step.value_at_budget, following))
        following = step.reward + gamma * future
        returns.append(following.astype(np.float32))
    return returns[::-1]
