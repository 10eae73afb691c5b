"""Networks: parameter counts known from torchvision, its names, and first weights that follow the seed alone."""

from __future__ import annotations

import pytest
import torch

from cryoscout.core.errors import InputError
from cryoscout.perception.resnet import Convolution3x3, ResNet, seeded_resnet


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_177_538), (50, 23_512_130)])
def test_number_of_parameters_is_torchvisions(depth: int, parameters: int) -> None:
    network = ResNet(depth, classes=2, channels=3)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_one_channel_saves_two_thirds_of_the_stem() -> None:
    counts = [
        sum(p.numel() for p in ResNet(18, classes=2, channels=channels).parameters()) for channels in (3, 1)
    ]
    assert counts[0] - counts[1] == 2 * 64 * 7 * 7


def test_names_are_torchvisions() -> None:
    names = set(ResNet(50, classes=2, width=8).state_dict())
    assert {
        "conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias",
        "layer2.3.conv3.weight", "layer4.2.bn2.num_batches_tracked", "fc.weight", "fc.bias",
    } <= names  # fmt: skip
    assert "layer1.0.downsample.0.weight" not in ResNet(18, classes=2, width=8).state_dict()


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize(("stride", "last_map"), [(4, 1), (2, 2), (1, 4)])
def test_stem_stride_sets_the_last_map(depth: int, stride: int, last_map: int) -> None:
    network = ResNet(depth, classes=3, width=8, stem_stride=stride)
    sizes: list[torch.Size] = []
    network.get_submodule("layer4").register_forward_hook(lambda _m, _i, y: sizes.append(y.shape))
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    assert sizes[0] == (2, 8 * 8 * (4 if depth == 50 else 1), last_map, last_map)


def test_first_weights_follow_the_seed_and_leave_the_global_generator() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same, other = (
        seeded_resnet(seed, 18, classes=2, width=8, stem_stride=2).state_dict()["conv1.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_small_map_is_convolved_as_any_other(side: int, stride: int) -> None:
    torch.manual_seed(0)
    ours, plain = Convolution3x3(8, 16, stride), torch.nn.Conv2d(8, 16, 3, stride, 1, bias=False)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(5, 8, side, side)
    seen = [x.clone().requires_grad_() for _ in range(2)]
    results = [convolve(each) for convolve, each in zip((ours, plain), seen, strict=True)]
    torch.testing.assert_close(*results)
    toward = torch.randn(results[1].shape)
    for result in results:
        (result * toward).sum().backward()
    torch.testing.assert_close(seen[0].grad, seen[1].grad)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), plain(x))


def test_only_training_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    whole = Convolution3x3._as_product

    def counted(self: Convolution3x3, x: torch.Tensor) -> torch.Tensor:
        taken.append(x.shape[-1])
        return whole(self, x)

    monkeypatch.setattr(Convolution3x3, "_as_product", counted)
    convolve, small = Convolution3x3(8, 8), torch.rand(2, 8, 2, 2)
    convolve(small)
    convolve(torch.rand(2, 8, 3, 3))
    convolve(torch.rand(2, 8, 2, 1))
    with torch.autocast("cpu", torch.bfloat16):
        convolve(small)
    convolve.eval()(small)
    assert taken == [2]


@pytest.mark.parametrize("wrong", [{"depth": 34}, {"stem_stride": 3}, {"channels": 0}, {"classes": 0}])
def test_networks_that_do_not_exist_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="depth 18 or 50"):
        ResNet(**{"classes": 2, **wrong})


@pytest.mark.parametrize("width", [0, 4, 7])
def test_a_network_that_destroys_memory_when_it_is_trained_is_refused(width: int) -> None:
    with pytest.raises(
        InputError, match=rf"width 8 or more, because torch destroys memory .* Got {width} instead"
    ):
        seeded_resnet(0, 18, classes=2, width=width, stem_stride=2)
