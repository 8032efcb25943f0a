"""PyTorch modules as Keras models."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_amalgam.teachers.conversion import convert_file
from keras_amalgam.teachers.from_onnx import finished
from keras_amalgam.teachers.onnx_file import read_onnx
from keras_amalgam.teachers.parity import check_parity
from keras_amalgam.teachers.torch_module import (
    Exporter,
    TorchRuntime,
    View,
    export,
    imported_torch,
    viewed,
)
from keras_amalgam.teachers.torch_weights import filled, sha256_of_weights

if TYPE_CHECKING:
    import torch

# The older exporter first: it is ten times as fast, keeps batch normalizations with their
# statistics, and takes what the newer one refuses, as Swin. It follows one example only; where
# that does not tell the whole network, the comparison finds out and the newer one is asked.
_EXPORTERS: tuple[Exporter, ...] = ("torchscript", "dynamo")


def from_torch(
    module: "torch.nn.Module",
    example_input: Any,
    *,
    state_dict: str | Path | Mapping[str, Any] | None = None,
    output: str | None = None,
    fold_batch_norm: bool = False,
    verify: bool = True,
    tolerance: float = 1e-4,
) -> keras.Model:
    """A PyTorch module as a Keras model with the same weights.

    The module is exported to ONNX in evaluation mode and converted as in `from_onnx`: channels
    last, any batch size, batch normalizations with their statistics. `model.provenance.names`
    knows the module's paths, so that `tap="layer4"` is the end of `module.layer4`. The module
    itself is left as it was.

    Args:
        module: Of float32 weights, taking one tensor of images.
        example_input: A tensor or array `(batch, channels, height, width)`, or that shape; the
            model takes images of this height and width.
        state_dict: Trained weights for a copy of the module: a mapping, or the path of a file,
            which is read with `weights_only=True`, so that no code inside it runs. A checkpoint
            around the weights and the `module.` of DataParallel are seen through; the provenance
            says so.
        output: Which output to take where the module returns a dictionary, dataclass or tuple: a
            key, a field, or `"output_0"` and so on. By default `"logits"` if there is one, else
            all of them, in a dictionary.
        fold_batch_norm: As in `from_onnx`.
        verify: Whether the result is compared with the ONNX form at every tensor, and with the
            module in PyTorch at its outputs, for one and three images.
        tolerance: Largest error allowed then, as a fraction of a tensor's range, or of 1.

    Returns:
        The model, with `model.provenance`; its hash is that of the weights' file, or of the
        weights.

    Raises:
        FileNotFoundError: If `state_dict` is a path and there is no such file.
        ImportError: If PyTorch is not installed.
        NotImplementedError: If neither of PyTorch's exporters can write the module, or an operator
            is not known.
        TypeError: If `module` is no module or `example_input` no images.
        ValueError: If the weights do not fit or their file holds code, the module does not take
            the example, or the result differs from it.

    Example:
    ```python
    model = from_torch(resnet, (1, 3, 224, 224), state_dict="birds.pt")
    ```
    """
    torch = imported_torch()
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            "`module` must be a torch.nn.Module. Received: "
            f"{type(module).__name__}. A file of weights goes into `state_dict`; build the module "
            "that they were trained in."
        )
    source, digest = type(module).__name__, None
    if state_dict is not None:
        module, source, digest = filled(module, state_dict)
    with viewed(module, example_input, output) as view:
        model = _converted(view, source, fold_batch_norm, verify, tolerance)
    digest = digest or sha256_of_weights(module.state_dict())
    model.provenance = dataclasses.replace(
        model.provenance, sha256=digest, framework=f"pytorch {torch.__version__.split('+')[0]}"
    )
    return model


def _converted(
    view: View, source: str, fold_batch_norm: bool, verify: bool, tolerance: float
) -> keras.Model:
    """The model by the first exporter whose file converts and agrees with the module."""
    failures: dict[Exporter, Exception] = {}
    for exporter in _EXPORTERS:
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{view.name}.onnx"
                export(view, path, exporter)
                file = read_onnx(path)
                conversion = convert_file(file, fold_batch_norm=fold_batch_norm)
                model = finished(conversion, file, source, "", verify, tolerance)
            if verify:
                image = conversion.values[conversion.graph.inputs[0].name]
                runtime = TorchRuntime(view, image.order)
                report = check_parity(model, runtime, tolerance=tolerance)
                model.provenance.parity["outputs"].update(report["outputs"])
            return model
        except (NotImplementedError, ValueError) as error:
            failures[exporter] = error
    reasons = " ".join(f"By way of {name}: {error}" for name, error in failures.items())
    kinds = {type(error) for error in failures.values()}
    kind = NotImplementedError if NotImplementedError in kinds else ValueError
    raise kind(f"Cannot convert the module {view.name!r}. {reasons}") from failures[_EXPORTERS[0]]
