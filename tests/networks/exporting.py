"""PyTorch networks with weights as after a training, written as ONNX by both exporters."""

import dataclasses
import importlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class Exporter:
    """One of torch's exporters at one opset.

    Args:
        dynamo: The newer of the two.
        opset: Of the file.
    """

    dynamo: bool
    opset: int

    def __str__(self) -> str:
        """As in the table."""
        return f"{'dynamo' if self.dynamo else 'script'} {self.opset}"


class Chosen(nn.Module):
    """A `transformers` model from images to the one output that is wanted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.model(pixel_values=images)
        wanted = ("logits", "predicted_depth", "last_hidden_state")
        return next(found[name] for name in wanted if found.get(name) is not None)


def from_config(model: str, options: dict[str, Any], attention: str) -> nn.Module:
    """A seeded network of `transformers` from images to logits, or to depths.

    Args:
        model: Name of its class.
        options: For its configuration.
        attention: `"eager"` or `"sdpa"`.
    """
    transformers = importlib.import_module("transformers")
    made = getattr(transformers, model)
    torch.manual_seed(0)
    classes = {"num_labels": 1000} if "ForImageClassification" in model else {}
    config = made.config_class(**classes | options)
    network = made._from_config(config, attn_implementation=attention)
    return Chosen(as_trained(network))


def as_trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """A network in evaluation mode whose weights and statistics let every part matter.

    Fresh weights of transformers are so small, and their normalizations, scales and tables so
    plain, that errors in them would not show.
    """
    generator = torch.Generator().manual_seed(seed)

    def fill(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in network.modules():
            own = dict(module.named_parameters(recurse=False))
            is_norm = "Norm" in type(module).__name__
            for name, weight in own.items():
                if is_norm and weight.ndim == 1:
                    fill(weight, *((0.5, 1.5) if name == "weight" else (-0.5, 0.5)))
                elif name == "weight" and weight.ndim >= 2:
                    spread = weight[0].numel() ** -0.5
                    weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
                else:  # Biases, embeddings, tables of positions, scales of layers.
                    low = 0.1 if weight.ndim <= 1 and weight.min() > 0 else -0.5
                    fill(weight, low, 0.5)
            statistics = dict(module.named_buffers(recurse=False))
            if statistics.get("running_var") is not None:
                fill(statistics["running_mean"], -0.5, 0.5)
                fill(statistics["running_var"], 0.5, 2)
    return network.eval()


def export(
    network: nn.Module,
    path: Path,
    size: tuple[int, int],
    exporter: Exporter,
    open_size: bool = False,
) -> None:
    """Write an ONNX file whose input is `images`, with an open batch.

    Args:
        network: From images to one tensor.
        path: Path of the file to write.
        size: Height and width of the example.
        exporter: Which of torch's.
        open_size: Whether height and width are open as well.
    """
    axes = {0: "batch"} | ({2: "height", 3: "width"} if open_size else {})
    options: dict[str, Any] = {"opset_version": exporter.opset, "dynamo": exporter.dynamo}
    if exporter.dynamo:
        shapes = {axis: torch.export.Dim(name) for axis, name in axes.items()}
        options |= {"external_data": False, "verbose": False, "dynamic_shapes": (shapes,)}
    else:
        options |= {"dynamic_axes": {"images": axes}}
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # Of the exporters about themselves.
        torch.onnx.export(network, (images,), path, input_names=["images"], **options)
