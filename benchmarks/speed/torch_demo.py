"""The demo's teachers as PyTorch modules, with the weights of the files that ship."""

import keras
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from benchmarks.speed.torch_networks import Mean, Residual, TransformerBlock
from keras_amalgam import data

_FOLDER = data.demo_data_dir() / "teachers"


def digits() -> Residual:
    """The residual network for digits, its batch normalizations folded as in its file."""
    network = Residual(
        (32, 80), (2, 2), 10, photographs=False, channels=1, stem=16, first_stride=2, folded=True
    )
    held = {
        one.name: numpy_helper.to_array(one)
        for one in onnx.load(str(_FOLDER / "digits.onnx")).graph.initializer
    }
    places = {"stem": "conv1", "head": "fc"}
    for stage in (1, 2):
        for block in (0, 1):
            here, there = f"stages.{2 * (stage - 1) + block}", f"layer{stage}.{block}"
            places |= {f"{here}.conv1": f"{there}.conv1", f"{here}.conv2": f"{there}.conv2"}
            places[f"{here}.skip"] = f"{there}.downsample.0"
    state = {}
    for name in network.state_dict():
        path, kind = name.rsplit(".", 1)
        there = places[path]
        folded = f"{there}.weight_bias" if kind == "bias" and path != "head" else f"{there}.{kind}"
        state[name] = torch.tensor(held[folded])
    network.load_state_dict(state)
    return network


class Fashion(nn.Module):
    """The vision transformer for clothes: a convolutional stem, three blocks on 8×8 tokens."""

    def __init__(self) -> None:
        super().__init__()
        pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.stem = nn.Sequential(
            pad, nn.Conv2d(1, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3), nn.GELU(),
            pad, nn.Conv2d(32, 64, 3, 2, bias=False), nn.BatchNorm2d(64, eps=1e-3),
        )  # fmt: skip
        self.positions = nn.ModuleList(
            [nn.Conv2d(64, 64, 3, padding=1, groups=64) for _ in range(3)]
        )
        self.blocks = nn.ModuleList([TransformerBlock(64, 2, 256) for _ in range(3)])
        self.norm = nn.LayerNorm(64, eps=1e-6)
        self.pooled = Mean()
        self.head = nn.Linear(64, 10)
        self._load()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and logits of normalised images of 32 pixels."""
        x = self.stem(x)
        for position, block in zip(self.positions, self.blocks, strict=True):
            tokens = (x + position(x)).flatten(2).transpose(1, 2)
            x = block(tokens).transpose(1, 2).reshape(x.shape)
        features = self.pooled(self.norm(x.flatten(2).transpose(1, 2)))
        return features, self.head(features)

    def _load(self) -> None:
        model = keras.saving.load_model(_FOLDER / "fashion.keras")

        def weights(name: str) -> list[np.ndarray]:
            return [np.asarray(one) for one in model.get_layer(name).get_weights()]

        fill(self.stem[1], weights("stem_conv1"))
        fill(self.stem[2], weights("stem_norm1"))
        fill(self.stem[5], weights("stem_conv2"))
        fill(self.stem[6], weights("stem_norm2"))
        fill(self.norm, weights("tokens"))
        fill(self.head, weights("logits"))
        for number, (position, block) in enumerate(
            zip(self.positions, self.blocks, strict=True), 1
        ):
            fill(position, weights(f"block{number}_position"))
            fill(block.norm1, weights(f"block{number}_attention_norm"))
            fill(block.norm2, weights(f"block{number}_mlp_norm"))
            fill(block.wide, weights(f"block{number}_mlp_wide"))
            fill(block.narrow, weights(f"block{number}_mlp_narrow"))
            *qkv, out_kernel, out_bias = weights(f"block{number}_attention")
            kernels = [one.reshape(len(one), -1) for one in qkv[::2]]
            biases = [one.reshape(-1) for one in qkv[1::2]]
            fill(block.qkv, [np.concatenate(kernels, -1), np.concatenate(biases)])
            fill(block.out, [out_kernel.reshape(-1, out_kernel.shape[-1]), out_bias])


def fill(module: nn.Module, weights: list[np.ndarray]) -> None:
    """Give a module the weights of its Keras counterpart.

    Args:
        module: A convolution, a dense layer or a normalization.
        weights: As the Keras layer's `get_weights` gives them.
    """
    kernel, *others = weights
    if isinstance(module, nn.Conv2d):
        # Depthwise kernels have their channels third, as groups of one.
        axes = (2, 3, 0, 1) if module.groups > 1 else (3, 2, 0, 1)
        kernel = kernel.transpose(axes)
    elif isinstance(module, nn.Linear):
        kernel = kernel.T
    own = [module.weight, module.bias]
    if isinstance(module, nn.BatchNorm2d):
        own += [module.running_mean, module.running_var]
    own = [one for one in own if one is not None]
    with torch.no_grad():
        for mine, given in zip(own, (kernel, *others), strict=True):
            mine.copy_(torch.tensor(np.ascontiguousarray(given)))


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images brought to a teacher's size as Keras' layers do it."""
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)
