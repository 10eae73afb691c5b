"""The scoring network: shapes, noise, and what dueling means on candidate sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryoscout.learning.networks import NoisyLinear, ScoringNetwork, mean_by_state, score_states
from cryoscout.learning.settings import AGENTS, N_INPUTS, NetworkSettings, settings_of

STATE = torch.tensor([0, 0, 0, 2, 2, 3])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def rows(n: int = 6) -> torch.Tensor:
    return torch.rand(n, N_INPUTS, generator=torch.Generator().manual_seed(1))


def test_the_published_network_is_128_256_128_with_one_output() -> None:
    network = ScoringNetwork(NetworkSettings())
    assert [tuple(layer.weight.shape) for layer in network.trunk] == [(128, 68), (256, 128), (128, 256)]
    assert network.score.weight.shape == (1, 128)
    assert sum(p.numel() for p in network.parameters()) == 68 * 128 + 128 * 256 + 256 * 128 + 128 + 512 + 1


@pytest.mark.parametrize("agent", AGENTS)
def test_a_candidate_scores_the_same_in_chunks_of_any_size(agent: str) -> None:
    network = ScoringNetwork(settings_of(agent).network).eval()
    with torch.no_grad():
        whole = score_states(network, rows(), STATE, 4)
        chunks = score_states(network, rows(), STATE, 4, chunk=2)
        none = score_states(network, rows(0), STATE[:0], 4)
    torch.testing.assert_close(whole, chunks, atol=1e-6, rtol=0)
    assert whole.shape == (6, network.settings.atoms)
    assert none.shape == (0, network.settings.atoms)


@pytest.mark.parametrize("atoms", [1, 51])
def test_dueling_the_mean_over_a_states_candidates_is_its_value(atoms: int) -> None:
    network = ScoringNetwork(NetworkSettings(hidden=(16, 8), dueling=True, atoms=atoms)).eval()
    with torch.no_grad():
        outputs = score_states(network, rows(), STATE, 4)
        pooled = mean_by_state(network.hidden(rows()), STATE, 4)
        value = network.value(pooled)
    for state in (0, 2, 3):
        mine = state == STATE
        torch.testing.assert_close(outputs[mine].mean(0), value[state], atol=1e-6, rtol=0)
        advantage = outputs[mine] - value[state]
        assert advantage.mean(0).abs().max() < 1e-6  # the mean advantage over the candidates is zero
        if mine.sum() > 1:
            assert advantage.abs().max() > 1e-4


def test_dueling_does_not_depend_on_the_order_of_the_candidates() -> None:
    network = ScoringNetwork(NetworkSettings(hidden=(16, 8), dueling=True)).eval()
    order = torch.tensor([4, 0, 3, 5, 2, 1])
    with torch.no_grad():
        outputs = score_states(network, rows(), STATE, 4)
        shuffled = score_states(network, rows()[order], STATE[order], 4)
    torch.testing.assert_close(shuffled, outputs[order], atol=1e-6, rtol=0)


def test_dueling_without_the_mean_of_a_state_is_refused() -> None:
    network = ScoringNetwork(NetworkSettings(hidden=(4,), dueling=True))
    with pytest.raises(ValueError, match="mean_score must be given"):
        network.outputs(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long), torch.zeros(1, 4), None)


def test_means_by_state_are_zero_where_a_state_has_no_row() -> None:
    means = mean_by_state(rows(), STATE, 5).numpy()
    for state in range(5):
        mine = rows().numpy()[STATE.numpy() == state]
        np.testing.assert_allclose(means[state], mine.mean(0) if len(mine) else 0.0, atol=1e-6)


def test_a_distribution_scores_by_its_mean() -> None:
    network = ScoringNetwork(NetworkSettings(hidden=(4,), atoms=3, value_min=-1.0, value_max=5.0))
    chances = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5]])
    logits = chances.clamp(min=1e-12).log() + 4.0
    torch.testing.assert_close(
        network.expectation(logits), torch.tensor([0.5, 5.0, -0.2 + 0.6 + 2.5]), atol=1e-5, rtol=0
    )


def test_noise_changes_scores_while_training_and_nothing_in_evaluation() -> None:
    network = ScoringNetwork(settings_of("noisy").network)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        drawn = []
        for _ in range(2):
            network.train()
            network.draw_noise(generator)
            drawn.append(score_states(network, rows(), STATE, 4))
            network.eval()
            drawn.append(score_states(network, rows(), STATE, 4))
    assert (drawn[0] - drawn[2]).abs().max() > 1e-3
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3
    assert torch.equal(drawn[1], drawn[3])


def test_a_noisy_layer_is_the_factorised_one_of_its_source() -> None:
    layer = NoisyLinear(4, 3, 0.5)
    assert layer.weight_noise.detach().numpy() == pytest.approx(0.5 / 2)
    layer.draw_noise(torch.Generator().manual_seed(0))
    x = torch.rand(2, 4)
    noise = torch.outer(layer.noise_out, layer.noise_in)
    expected = (
        x @ (layer.weight + layer.weight_noise * noise).T + layer.bias + layer.bias_noise * layer.noise_out
    )
    torch.testing.assert_close(layer(x), expected)
    draws = []
    generator = torch.Generator().manual_seed(1)
    for _ in range(3000):
        layer.draw_noise(generator)
        draws.append(layer.noise_out.clone())
    noise = torch.stack(draws)
    # sgn(x) sqrt(|x|) of a standard normal x: mean 0, mean square sqrt(2 / pi)
    assert abs(float(noise.mean())) < 0.05
    assert float(noise.square().mean()) == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)


def test_the_same_seed_gives_the_same_noise() -> None:
    network = ScoringNetwork(settings_of("rainbow").network)
    with torch.no_grad():
        seen = []
        for _ in range(2):
            network.draw_noise(torch.Generator().manual_seed(5))
            seen.append(score_states(network, rows(), STATE, 4))
    assert torch.equal(seen[0], seen[1])
