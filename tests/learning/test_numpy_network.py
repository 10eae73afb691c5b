"""The forward pass without torch against the one with it, for every agent; weights that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learning_samples import random_weights

from cryoscout.core.errors import InputError
from cryoscout.learning.networks import ScoringNetwork, score_states
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.settings import AGENTS, N_INPUTS, NetworkSettings, settings_of


@pytest.mark.parametrize("n_rows", [1, 2, 300])
@pytest.mark.parametrize("agent", AGENTS)
def test_scores_are_those_of_torch_in_evaluation(agent: str, n_rows: int) -> None:
    torch.set_num_threads(1)
    settings = settings_of(agent).network
    torch.manual_seed(n_rows)
    network = ScoringNetwork(settings)
    network.draw_noise(torch.Generator().manual_seed(0))
    network.eval()
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    rows = np.random.default_rng(0).random((n_rows, N_INPUTS), dtype=np.float32)
    with torch.no_grad():
        one_state = torch.zeros(n_rows, dtype=torch.long)
        expected = network.expectation(score_states(network, torch.from_numpy(rows), one_state, 1))
    got = NumpyNetwork(settings, weights).scores(rows)
    assert got.shape == (n_rows,)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)


SETTINGS = NetworkSettings(hidden=(6, 5), dueling=True, atoms=3)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("trunk.0.weight", (6, 67)),
        ("trunk.1.bias", (6,)),
        ("score.weight", (1, 5)),
        ("value.weight", (3, 4)),
        ("trunk.0.weight", None),
        ("score.bias", None),
        ("value.bias", None),
    ],
)
def test_a_layer_missing_or_of_another_shape_is_named(name: str, shape: tuple[int, ...] | None) -> None:
    weights = random_weights(SETTINGS, np.random.default_rng(0))
    NumpyNetwork(SETTINGS, weights)
    if shape is None:
        del weights[name]
    else:
        weights[name] = np.zeros(shape, dtype=np.float32)
    layer = name.rpartition(".")[0]
    got = "nothing" if shape is None else r"\("
    with pytest.raises(
        InputError, match=rf"Layer '{layer}' of a trained policy must have shapes .* Got {got}"
    ):
        NumpyNetwork(SETTINGS, weights)


def test_very_large_outputs_do_not_overflow() -> None:
    settings = NetworkSettings(hidden=(4,), atoms=5, value_min=-1.0, value_max=3.0)
    weights = random_weights(settings, np.random.default_rng(0))
    weights["score.bias"] = np.array([0, 0, 0, 0, 3e4], dtype=np.float32)
    assert NumpyNetwork(settings, weights).scores(np.ones((2, N_INPUTS), np.float32)).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300], ids=str)
@pytest.mark.parametrize("name", ["trunk.0.weight", "value.bias"])
def test_a_layer_with_a_number_that_is_not_finite_is_refused(name: str, number: float) -> None:
    weights = {
        key: array.astype(np.float64)
        for key, array in random_weights(SETTINGS, np.random.default_rng(0)).items()
    }
    weights[name].flat[0] = number
    layer = name.rpartition(".")[0]
    with pytest.raises(
        InputError, match=rf"Layer '{layer}' .* finite numbers\. Got NaN or infinity .* train it again"
    ):
        NumpyNetwork(SETTINGS, weights)
