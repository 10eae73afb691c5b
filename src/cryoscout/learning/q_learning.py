"""Q-learning on candidate sets: DQN and its variants, one update at a time.

Departures from the published algorithms, all from scoring candidates one by one: the loss is on the visited
candidate only; a dueling network pools a state over its candidates, in the loss over OTHERS drawn ones, elsewhere
over all; targets look at candidates that may be visited and at no others.
Sources: DQN, Mnih et al. 2013; double, van Hasselt et al. 2016; dueling, Wang et al. 2016; prioritized replay,
Schaul et al. 2016; C51, Bellemare et al. 2017; noisy nets, Fortunato et al. 2018; Rainbow, Hessel et al. 2018.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoscout.core.precision import Precision, precision_taken
from cryoscout.learning.greedy_routes import best_rows
from cryoscout.learning.networks import ScoringNetwork, score_states
from cryoscout.learning.settings import LearnSettings
from cryoscout.learning.states import Look
from cryoscout.learning.transitions import Batch, VisitBuffer

OTHERS = 16
"""Candidates drawn per state to stand for all of them in the loss of a dueling network."""


@dataclass(frozen=True)
class UpdateResult:
    """What one update did."""

    loss: float
    mean_score: float
    errors: NDArray[np.float32]  # (B,) temporal-difference errors


class QLearner:
    """The networks and optimiser of a value-based agent."""

    def __init__(self, settings: LearnSettings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.precision: Precision = precision_taken(settings.precision, str(device))
        self.noise_generator = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = ScoringNetwork(settings.network).to(device)
        self.target = copy.deepcopy(self.network).eval()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.n_updates = 0

    def act(self, seen: Look, rng: np.random.Generator, random_share: float) -> NDArray[np.int64]:
        """(E,) row of `seen` to visit in every state: the best score, or a random one for a share of them."""
        if self.settings.network.noisy:
            self.network.train()
            self.network.draw_noise(self.noise_generator)
        best = best_rows(self.scores(self.network, seen.rows, seen.begin), seen.begin)
        if random_share > 0:
            n = np.diff(seen.begin)
            random_rows = seen.begin[:-1] + (rng.random(len(n)) * n).astype(np.int64)
            best = np.where(rng.random(len(n)) < random_share, random_rows, best)
        return best

    @torch.no_grad()
    def scores(
        self, network: ScoringNetwork, rows: NDArray[np.float32], begin: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """(R,) scores of candidates."""
        outputs = self._outputs(network, rows, begin)
        scores: NDArray[np.float32] = network.expectation(outputs).float().cpu().numpy()
        return scores

    def update(self, buffer: VisitBuffer, rng: np.random.Generator, progress: float) -> UpdateResult:
        """One step on one batch. progress : 0 at the start of training, 1 at its end."""
        agent = self.settings.agent
        start = agent.importance_exponent
        batch = buffer.sample(
            self.settings.batch_size,
            rng,
            gamma=agent.gamma,
            n_step=agent.n_step,
            n_others=OTHERS if self.settings.network.dueling else 0,
            bootstrap_at_budget=agent.bootstrap_at_budget,
            importance_exponent=start + (1.0 - start) * progress,
        )
        self.network.train()
        self.target.train(self.settings.network.noisy)
        self.network.draw_noise(self.noise_generator)
        self.target.draw_noise(self.noise_generator)
        outputs = self._chosen_outputs(batch)
        weight = torch.from_numpy(batch.weight).to(self.device)
        if self.settings.network.atoms == 1:
            errors = outputs.squeeze(-1) - self._target_values(batch)
            loss = (weight * errors.square()).mean()
        else:
            errors = -(self._target_distribution(batch) * outputs.log_softmax(-1)).sum(-1)
            loss = (weight * errors).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.largest_gradient)
        if not norm.isfinite():
            loss = torch.full_like(loss, torch.nan)  # a step along it would make every weight NaN
        else:
            self.optimizer.step()
        self.n_updates += 1
        if self.n_updates % self.settings.target_every == 0:
            self.target.load_state_dict(self.network.state_dict())
        detached = errors.detach().float().cpu().numpy()
        buffer.update_priorities(batch.where, detached)
        return UpdateResult(
            float(loss.detach()), float(self.network.expectation(outputs.detach()).mean()), detached
        )

    def _chosen_outputs(self, batch: Batch) -> Tensor:
        """(B, atoms) raw outputs of the visited candidates, with a gradient."""
        chosen = torch.from_numpy(batch.chosen).to(self.device)
        hidden = self.network.hidden(chosen)
        if not self.settings.network.dueling:
            scores: Tensor = self.network.score(hidden)
            return scores
        others = torch.from_numpy(batch.others).to(self.device)
        b, k = others.shape[:2]
        hidden_others = self.network.hidden(others.reshape(b * k, -1))
        mean_score = self.network.score(hidden_others).reshape(b, k, -1).mean(1)
        pooled = hidden_others.reshape(b, k, -1).mean(1)
        return self.network.outputs(hidden, torch.arange(b, device=self.device), pooled, mean_score)

    @torch.no_grad()
    def _outputs(
        self, network: ScoringNetwork, rows: NDArray[np.float32], begin: NDArray[np.int64]
    ) -> Tensor:
        counts = torch.from_numpy(np.diff(begin)).to(self.device)
        state = torch.repeat_interleave(torch.arange(len(counts), device=self.device), counts)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            outputs = score_states(network, torch.from_numpy(rows).to(self.device), state, len(counts))
        return outputs.float()

    @torch.no_grad()
    def _best_after(self, batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.bool_], Tensor]:
        """Row of the best candidate afterwards, whether there is one, and the target's raw outputs of that row."""
        alive = np.diff(batch.begin) > 0
        if not alive.any():
            return (
                np.zeros(0, np.int64),
                alive,
                torch.zeros(0, self.settings.network.atoms, device=self.device),
            )
        counts = np.diff(batch.begin)[alive]
        begin = np.concatenate([[0], np.cumsum(counts)])
        if not self.settings.agent.double:
            outputs = self._outputs(self.target, batch.after, begin)
            rows = best_rows(self.target.expectation(outputs).cpu().numpy(), begin)
            return rows, alive, outputs[torch.from_numpy(rows).to(self.device)]
        rows = best_rows(self.scores(self.network, batch.after, begin), begin)
        if self.settings.network.dueling:  # its mean needs the whole state
            return rows, alive, self._outputs(self.target, batch.after, begin)[rows]
        one_each = np.arange(len(rows) + 1)
        return rows, alive, self._outputs(self.target, batch.after[rows], one_each)

    @torch.no_grad()
    def _target_values(self, batch: Batch) -> Tensor:
        """(B,) reward and discounted best score afterwards."""
        _, alive, outputs = self._best_after(batch)
        future = torch.zeros(len(alive), device=self.device)
        future[torch.from_numpy(alive)] = self.target.expectation(outputs).to(self.device)
        reward = torch.from_numpy(batch.reward).to(self.device)
        return reward + torch.from_numpy(batch.discount).to(self.device) * future

    @torch.no_grad()
    def _target_distribution(self, batch: Batch) -> Tensor:
        """(B, atoms) the shifted and shrunk distribution of the best candidate, projected onto the support."""
        _, alive, outputs = self._best_after(batch)
        support = self.network.support
        n_atoms = len(support)
        step = (support[-1] - support[0]) / (n_atoms - 1)
        reward = torch.from_numpy(batch.reward).to(self.device)
        discount = torch.from_numpy(batch.discount).to(self.device)
        chance = torch.full((len(alive), n_atoms), 1.0 / n_atoms, device=self.device)
        chance[torch.from_numpy(alive)] = outputs.softmax(-1).to(self.device)
        shifted = (reward[:, None] + discount[:, None] * support).clamp(float(support[0]), float(support[-1]))
        place = (shifted - support[0]) / step
        low = place.floor().clamp(0, n_atoms - 1)
        high_share = place - low
        projected = torch.zeros_like(chance)
        projected.scatter_add_(1, low.long(), chance * (1.0 - high_share))
        projected.scatter_add_(1, (low + 1).clamp(max=n_atoms - 1).long(), chance * high_share)
        return projected
