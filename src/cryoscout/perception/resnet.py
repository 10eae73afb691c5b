"""ResNet-18 and ResNet-50 (He et al. 2016) for one-channel crops, with torchvision's parameter names."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoscout.core.errors import InputError
from cryoscout.perception.settings import LEAST_WIDTH, WHY_LEAST_WIDTH

BLOCKS: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
STEM_STRIDES = (1, 2, 4)


class Convolution3x3(nn.Conv2d):
    """A 3x3 convolution without bias whose map has a border of one pixel of zeros.

    Trained in 32 bits on a CPU, maps of one or 2x2 pixels, the last ones of small crops, go through as one product of
    matrices of the taps that meet a pixel. It is the same sum; torch's convolution takes up to twice the time for it.
    """

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__(inputs, planes, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, planes, h / stride, w / stride)."""
        # A network that is exported or predicts keeps the plain operation, which any reader of its graph knows.
        on_cpu = self.training and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        return self._as_product(x) if on_cpu and x.shape[-2] == x.shape[-1] <= 2 else super().forward(x)

    def _as_product(self, x: Tensor) -> Tensor:
        side, stride = x.shape[-1], self.stride[0]
        places = [1 - stride * place for place in range(math.ceil(side / stride))]
        # Of each pixel of the result, the taps that lie on the map: (planes, inputs, side, side).
        taps = [
            self.weight[:, :, row : row + side, column : column + side] for row in places for column in places
        ]
        matrix = torch.stack(taps).permute(0, 1, 3, 4, 2).flatten(2).flatten(0, 1)
        y = functional.linear(x.permute(0, 2, 3, 1).flatten(1), matrix)
        return y.view(len(x), len(places), len(places), -1).permute(0, 3, 1, 2)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the way past them (ResNet-18)."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Convolution3x3(inputs, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = Convolution3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _downsample(inputs, planes * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, planes, h / stride, w / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions; the stride is in the 3x3, as torchvision has it (ResNet-50)."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = Convolution3x3(planes, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = _downsample(inputs, planes * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, 4 planes, h / stride, w / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Images (n, channels, h, w) to logits (n, classes).

    depth : 18 or 50     width : channels of the first stage, LEAST_WIDTH or more; 64 is the published one
    stem_stride : pixels per step of the first stage. 4 is the published stem (7x7 stride 2, then max-pooling), which
    leaves a 2x2 map of a 64 px crop and is what the quick profile's time is reckoned with; 2 leaves out the pooling
    (64 px: 4x4, about 3.5 times the work), for crops of 32 to 64 px; 1 is a 3x3 stem without stride (about 14 times
    the work), for 32 px and less.
    Raises InputError for a depth, width or stem that does not exist.
    """

    def __init__(
        self, depth: int = 18, *, classes: int, channels: int = 1, width: int = 64, stem_stride: int = 4
    ) -> None:
        super().__init__()
        if depth not in BLOCKS or stem_stride not in STEM_STRIDES or min(classes, channels) < 1:
            raise InputError(
                f"A ResNet must have depth 18 or 50, stem_stride 1, 2 or 4, and classes and channels of at least 1. "
                f"Got depth {depth}, stem_stride {stem_stride}, classes {classes}, channels {channels} instead."
            )
        if width < LEAST_WIDTH:
            raise InputError(
                f"A ResNet must have width {LEAST_WIDTH} or more, because {WHY_LEAST_WIDTH}. Got {width} instead."
            )
        kind: type[BasicBlock] | type[Bottleneck] = BasicBlock if depth == 18 else Bottleneck
        kernel, stride = (3, 1) if stem_stride == 1 else (7, 2)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem_stride == 4 else nn.Identity()
        inputs = width
        for stage, n_blocks in enumerate(BLOCKS[depth]):
            planes = width * 2**stage
            blocks: list[nn.Module] = []
            for block in range(n_blocks):
                blocks.append(kind(inputs, planes, 2 if stage > 0 and block == 0 else 1))
                inputs = planes * kind.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.n_features = inputs
        self.fc: nn.Module = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, n_features): the mean over the last map."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{stage}")(x)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, classes)."""
        logits: Tensor = self.fc(self.features(x))
        return logits


def seeded_resnet(seed: int, depth: int, *, classes: int, width: int, stem_stride: int) -> ResNet:
    """A one-channel ResNet whose first weights are a function of the seed; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(depth, classes=classes, width=width, stem_stride=stem_stride)
