"""The networks that steps are timed with, as PyTorch modules; the Keras side converts most of them.

Each takes normalised images `(batch, channels, height, width)` and returns its features, a map
`(batch, channels, height, width)` or a vector, and, where it has classes, its logits.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3×3 convolutions beside a skip, which is a 1×1 convolution where the shape changes.

    Args:
        num_in: Channels of the images.
        num_out: Channels of the result.
        stride: Stride of the first convolution.
        folded: Whether batch normalizations are part of the convolutions, as biases.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385)
    """

    def __init__(self, num_in: int, num_out: int, stride: int, folded: bool = False) -> None:
        super().__init__()
        self.conv1 = convolution(num_in, num_out, 3, stride, folded)
        self.conv2 = convolution(num_out, num_out, 3, 1, folded)
        self.skip = None
        if stride != 1 or num_in != num_out:
            self.skip = convolution(num_in, num_out, 1, stride, folded)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        skip = x if self.skip is None else self.skip(x)
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + skip)


def convolution(num_in: int, num_out: int, side: int, stride: int, folded: bool) -> nn.Module:
    """A convolution with its batch normalization, beside it or inside."""
    conv = nn.Conv2d(num_in, num_out, side, stride, padding=side // 2, bias=folded)
    return conv if folded else nn.Sequential(conv, nn.BatchNorm2d(num_out))


class Residual(nn.Module):
    """A residual network.

    Args:
        widths: Channels of the stages.
        blocks: Number of blocks in each stage.
        classes: Number of classes, or None for no head.
        photographs: Whether the stem is the one for photographs, a quarter of the resolution.
        channels: Number of channels of the images.
        stem: Channels of the stem; by default as many as the first stage has.
        first_stride: Stride of the first stage.
        folded: Whether batch normalizations are part of the convolutions.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        classes: int | None,
        photographs: bool,
        channels: int = 3,
        stem: int | None = None,
        first_stride: int = 1,
        folded: bool = False,
    ) -> None:
        super().__init__()
        num_in = stem or widths[0]
        side, stride = (7, 2) if photographs else (3, 1)
        self.stem = convolution(channels, num_in, side, stride, folded)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if photographs else nn.Identity()
        stages = []
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stride = 1 if block else first_stride if number == 0 else 2
                stages.append(Block(num_in, width, stride, folded))
                num_in = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(num_in, classes) if classes else None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...] | torch.Tensor:
        """Features and logits, or features alone."""
        features = self.stages(self.pool(functional.relu(self.stem(x))))
        return features if self.head is None else (features, self.head(features.mean((2, 3))))


def resnet18(classes: int | None = None) -> Residual:
    """ResNet-18."""
    return Residual((64, 128, 256, 512), (2, 2, 2, 2), classes, photographs=True)


def resnet34(classes: int | None = None) -> Residual:
    """ResNet-34."""
    return Residual((64, 128, 256, 512), (3, 4, 6, 3), classes, photographs=True)


def cifar_resnet(depth: int, classes: int) -> Residual:
    """A residual network for CIFAR, of `6n + 2` layers."""
    return Residual((16, 32, 64), ((depth - 2) // 6,) * 3, classes, photographs=False)


class Transformer(nn.Module):
    """A vision transformer of pre-norm blocks; its features are the mean of its tokens.

    Args:
        size: Side of the images in pixels.
        patch: Side of a patch in pixels.
        units: Channels of a token.
        depth: Number of blocks.
        heads: Number of heads.
        classes: Number of classes.

    Reference:
        [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929)
    """

    def __init__(
        self, size: int, patch: int, units: int, depth: int, heads: int, classes: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, units, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, units))
        self.blocks = nn.Sequential(*[TransformerBlock(units, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(units, eps=1e-6)
        self.pooled = Mean()
        self.head = nn.Linear(units, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        features = self.pooled(self.norm(self.blocks(tokens)))
        return features, self.head(features)


class Mean(nn.Module):
    """The mean of the tokens, a module so that it has a path to be tapped by."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From `(batch, tokens, units)` to `(batch, units)`."""
        return tokens.mean(1)


class TransformerBlock(nn.Module):
    """Attention and two dense layers, each behind a layer normalization and beside a skip."""

    def __init__(self, units: int, heads: int, wide: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(units, eps=1e-6)
        self.qkv = nn.Linear(units, 3 * units)
        self.out = nn.Linear(units, units)
        self.norm2 = nn.LayerNorm(units, eps=1e-6)
        self.wide = nn.Linear(units, wide or 4 * units)
        self.narrow = nn.Linear(wide or 4 * units, units)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the block to `(batch, tokens, units)`."""
        batch, number, units = tokens.shape
        parts = self.qkv(self.norm1(tokens)).reshape(batch, number, 3, self.heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(batch, number, units))
        return tokens + self.narrow(functional.gelu(self.wide(self.norm2(tokens))))


class Compact(nn.Module):
    """The twin of `keras_amalgam.models.backbones.compact`, whose weights it takes in its order."""

    def __init__(self, channels: int, width: int = 96, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), *_normalised(channels, width // 4, 3, 2), nn.ReLU()
        )
        self.first = _separable(width // 4, width, 2)
        self.blocks = nn.ModuleList([_separable(width, width, 1) for _ in range(depth)])
        self.last = nn.Sequential(*_normalised(width, width * 4 // 3, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map."""
        x = self.first(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


def _normalised(
    num_in: int, num_out: int, side: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(num_in, num_out, side, stride, padding, groups=groups, bias=False)
    # Keras' momentum is what is kept, PyTorch's what is new.
    return conv, nn.BatchNorm2d(num_out, eps=1e-3, momentum=0.05)


def _separable(num_in: int, num_out: int, stride: int) -> nn.Sequential:
    # Keras pads strided layers at the far side alone.
    pad = nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
    depthwise = _normalised(num_in, num_in, 3, stride, groups=num_in)
    pointwise = _normalised(num_in, num_out, 1)
    return nn.Sequential(pad, *depthwise, nn.ReLU(), *pointwise, nn.ReLU())
