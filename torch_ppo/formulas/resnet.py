"""ResNet18 as an encoder of pictures, with group normalisation.

Batch normalisation, the original's, would make an action depend on the other envs of a batch, and a gradient on the other
transitions of a minibatch; policies learned from pictures have groups of 16 channels in its place (Chi et al. 2023,
arXiv:2303.04137). Modules and parameters have torchvision's names and order.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ppo.formulas.convolution import Conv

GROUP = 16  # channels that are normalised together


def _conv(channels: int, out: int, kernel: int, stride: int, generator: torch.Generator | None) -> Conv:
    conv = Conv(channels, out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    return conv


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity, or beside a 1 x 1 convolution where sizes change."""

    def __init__(self, channels: int, out: int, stride: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, out, 3, stride, generator), nn.GroupNorm(out // GROUP, out)
        self.conv2, self.bn2 = _conv(out, out, 3, 1, generator), nn.GroupNorm(out // GROUP, out)
        self.downsample = None
        if stride != 1 or channels != out:
            shortcut = _conv(channels, out, 1, stride, generator)
            self.downsample = nn.Sequential(shortcut, nn.GroupNorm(out // GROUP, out))

    def forward(self, x: Tensor) -> Tensor:
        beside = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + beside)


class ResNet18(nn.Module):
    """`(n, channels, height, width)` -> `(n, 512)`: the mean of the last maps; 11 million parameters.

    Source: He et al. 2015 (arXiv:1512.03385), table 1.
    """

    def __init__(self, channels: int = 3, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, 64, 7, 2, generator), nn.GroupNorm(64 // GROUP, 64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        widths = (64, 64, 128, 256, 512)
        for i, (before, width) in enumerate(itertools.pairwise(widths), start=1):
            first = BasicBlock(before, width, 1 if i == 1 else 2, generator)
            self.add_module(f"layer{i}", nn.Sequential(first, BasicBlock(width, width, 1, generator)))

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((-2, -1))
