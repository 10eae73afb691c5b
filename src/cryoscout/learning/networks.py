"""The scoring network in torch: one set of weights scores every candidate of every state."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from cryoscout.learning.settings import N_INPUTS, NetworkSettings


class NoisyLinear(nn.Module):
    """A linear layer with factorised Gaussian noise on its weights (Fortunato et al. 2018, noisy nets).

    While `training`, the weights carry the noise of the last `draw_noise`; else their means alone.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, n_in: int, n_out: int, noise: float) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_out).uniform_(-bound, bound))
        self.weight_noise = nn.Parameter(torch.full((n_out, n_in), noise * bound))
        self.bias_noise = nn.Parameter(torch.full((n_out,), noise * bound))
        self.register_buffer("noise_in", torch.zeros(n_in), persistent=False)
        self.register_buffer("noise_out", torch.zeros(n_out), persistent=False)

    def draw_noise(self, generator: torch.Generator) -> None:
        """New noise; the generator lives on the CPU, so that every device draws the same."""
        for noise in (self.noise_in, self.noise_out):
            draw = torch.randn(noise.shape, generator=generator)
            noise.copy_((draw.sign() * draw.abs().sqrt()).to(noise.device))

    def forward(self, x: Tensor) -> Tensor:
        """(R, n_in) -> (R, n_out)."""
        if not self.training:
            return nn.functional.linear(x, self.weight, self.bias)
        weight = self.weight + self.weight_noise * torch.outer(self.noise_out, self.noise_in)
        return nn.functional.linear(x, weight, self.bias + self.bias_noise * self.noise_out)


class ScoringNetwork(nn.Module):
    """Scores candidates: CryoRL's 128-256-128 network with one output, and its variants.

    Parts: `trunk` (a list of layers, ReLU between), `score` (one output, or one per atom), and with dueling or a
    critic `value`, which reads the mean of the candidates' last hidden layer: a state's value does not depend on
    the order or number of its candidates.
    """

    support: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = (N_INPUTS, *settings.hidden)

        def linear(n_in: int, n_out: int) -> nn.Module:
            return NoisyLinear(n_in, n_out, settings.noise) if settings.noisy else nn.Linear(n_in, n_out)

        self.trunk = nn.ModuleList(linear(a, b) for a, b in pairwise(widths))
        self.score = linear(widths[-1], settings.atoms)
        if settings.dueling or settings.critic:
            self.value = linear(widths[-1], settings.atoms)
        self.register_buffer(
            "support",
            torch.linspace(settings.value_min, settings.value_max, settings.atoms),
            persistent=False,
        )

    def draw_noise(self, generator: torch.Generator) -> None:
        """New noise in every noisy layer; nothing in other networks."""
        for module in self.modules():
            if isinstance(module, NoisyLinear):
                module.draw_noise(generator)

    def hidden(self, rows: Tensor) -> Tensor:
        """(R, N_INPUTS) -> (R, last width)."""
        for layer in self.trunk:
            rows = torch.relu(layer(rows))
        return rows

    def outputs(self, hidden: Tensor, state: Tensor, pooled: Tensor, mean_score: Tensor | None) -> Tensor:
        """Raw outputs of candidates, (R, atoms).

        hidden : (R, h)     state : (R,) which state each candidate belongs to     pooled : (B, h) means of hidden
        mean_score : (B, atoms) mean raw score of each state's candidates, for dueling
        """
        score: Tensor = self.score(hidden)
        if not self.settings.dueling:
            return score
        if mean_score is None:
            raise ValueError("mean_score must be given to a dueling network. Got None instead.")
        value: Tensor = self.value(pooled)
        return score + (value - mean_score)[state]

    def expectation(self, outputs: Tensor) -> Tensor:
        """(..., atoms) raw outputs -> (...,) scores: the mean of the distribution where there is one."""
        if self.settings.atoms == 1:
            return outputs.squeeze(-1)
        return (outputs.softmax(-1) * self.support).sum(-1)


def mean_by_state(rows: Tensor, state: Tensor, n_states: int) -> Tensor:
    """(R, d) -> (B, d) means over the rows of each state; zeros where a state has none."""
    sums = torch.zeros(n_states, rows.shape[1], dtype=rows.dtype, device=rows.device)
    sums = sums.index_add(0, state, rows)
    count = torch.bincount(state, minlength=n_states).clamp(min=1)
    return sums / count[:, None]


def score_states(
    network: ScoringNetwork, rows: Tensor, state: Tensor, n_states: int, chunk: int = 2048
) -> Tensor:
    """Raw outputs, (R, atoms), of whole states, without a gradient, in chunks that stay in the cache."""
    parts = [network.hidden(rows[i : i + chunk]) for i in range(0, len(rows), chunk)]
    hidden = torch.cat(parts) if parts else rows.new_zeros((0, network.settings.hidden[-1]))
    if not network.settings.dueling:
        score: Tensor = network.score(hidden)
        return score
    pooled = mean_by_state(hidden, state, n_states)
    mean_score = mean_by_state(network.score(hidden), state, n_states)
    return network.outputs(hidden, state, pooled, mean_score)
