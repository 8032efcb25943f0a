"""Architectures in PyTorch for state dicts that come without one."""

import importlib
import sys
from pathlib import Path

import torch
from torch import nn


def _conv(ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outs), nn.ReLU6())


class _InvertedResidual(nn.Module):
    def __init__(self, ins: int, outs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = ins * expansion
        expand = [_conv(ins, wide, 1)] if expansion > 1 else []
        depthwise = _conv(wide, wide, 3, stride, groups=wide)
        project = [nn.Conv2d(wide, outs, 1, bias=False), nn.BatchNorm2d(outs)]
        self.conv = nn.Sequential(*expand, depthwise, *project)
        self.skips = stride == 1 and ins == outs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.skips else self.conv(x)


# Expansion, width, blocks, stride of the first.
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """Sandler et al., 2018, with its parts called as torchvision calls them."""

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [_conv(3, 32, 3, 2)]
        width = 32
        for expansion, outs, number, stride in _MOBILENET_V2:
            for index in range(number):
                step = stride if index == 0 else 1
                features.append(_InvertedResidual(width, outs, step, expansion))
                width = outs
        self.features = nn.Sequential(*features, _conv(width, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).mean([2, 3]))


def with_state(network: nn.Module, weights: Path) -> nn.Module:
    """A network in evaluation mode with the weights of a state dict; no pickle is run."""
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def efficientnet_lite(number: int, code: Path, weights: Path) -> nn.Module:
    """EfficientNet-Lite as the package `efficientnet-lite-pytorch` builds it.

    Args:
        number: 0, 1 or 2.
        code: Folder of that package.
        weights: State dict.
    """
    sys.path.insert(0, str(code))
    made = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    network = made.from_name(f"efficientnet-lite{number}")
    return with_state(network, weights)
