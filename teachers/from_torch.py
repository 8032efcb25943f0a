"""PyTorch modules as Keras models."""

# PyTorch is an extra, which need not be there.
# pyright: reportMissingImports=false

import contextlib
import dataclasses
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.teachers.comparison.parity import check_parity
from keras_amalgam.teachers.comparison.tolerance import check_tolerance
from keras_amalgam.teachers.conversion.convert import convert_file
from keras_amalgam.teachers.from_onnx import finished
from keras_amalgam.teachers.onnx_files.file import read_onnx
from keras_amalgam.teachers.torch_modules.module import (
    View,
    imported_torch,
    reason,
    viewed,
)
from keras_amalgam.teachers.torch_modules.weights import filled, sha256_of_weights

if TYPE_CHECKING:
    import torch

Exporter = Literal["torchscript", "dynamo"]
_OPSETS = {"torchscript": 17, "dynamo": 20}
# The older exporter first: it is ten times as fast, keeps batch normalizations with their
# statistics, and takes what the newer one refuses, as Swin. It follows one example only; where
# that does not tell the whole network, the comparison finds out and the newer one is asked. Where
# a module reads values of the images in Python, the comparison may miss the images for which it
# decides otherwise: the newer one alone is asked then, which refuses such a branch.
_EXPORTERS: tuple[Exporter, ...] = ("torchscript", "dynamo")


@keras_defaults()
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
        TypeError: If `module` is no module, or a TorchScript, or `example_input` no images.
        ValueError: If the weights do not fit or their file holds code, the module does not take
            the example or any batch size, the result differs from it, or the module's Python
            branches on values of the images.

    Example:
    ```python
    model = from_torch(resnet, (1, 3, 224, 224), state_dict="birds.pt")
    ```
    """
    check_tolerance(tolerance)
    torch = imported_torch()
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            "`module` must be a torch.nn.Module. Received: "
            f"{type(module).__name__}. A file of weights goes into `state_dict`; build the module "
            "that they were trained in."
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            "`module` must be the torch.nn.Module itself. Received: a TorchScript, "
            f"{type(module).__name__}. Pass the module before torch.jit.script or torch.jit.trace, "
            "or export it yourself and use from_onnx."
        )
    source, digest = type(module).__name__, None
    if state_dict is not None:
        module, source, digest = filled(module, state_dict)
    with viewed(module, example_input, output) as view:
        model = _converted(view, source, fold_batch_norm, verify, tolerance)
    digest = digest or sha256_of_weights(module.state_dict())
    framework = f"pytorch {torch.__version__.split('+')[0]}"
    model.provenance = dataclasses.replace(
        model.provenance, sha256=digest, framework=framework, output=output
    )
    return model


class TorchRuntime:
    """A module in PyTorch itself, as a source to compare with.

    Args:
        view: The module, while it is viewed.
        image_order: Source axis that each axis of the images holds, as `(0, 2, 3, 1)`.
    """

    def __init__(self, view: View, image_order: Sequence[int]) -> None:
        """See the class."""
        self.outputs = view.outputs
        self._view = view
        self._order = list(image_order)

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`; maps come in the order of the images' axes."""
        torch = imported_torch()
        feed = np.ascontiguousarray(images.transpose(np.argsort(self._order)))
        with torch.no_grad():
            result = self._view.module(torch.from_numpy(feed).to(self._view.example.device))
        results = result if isinstance(result, tuple) else (result,)
        arrays = {
            name: tensor.detach().cpu().numpy()
            for name, tensor in zip(self.outputs, results, strict=True)
        }
        return {
            name: array.transpose(self._order) if array.ndim == 4 == len(self._order) else array
            for name, array in arrays.items()
            if name in tensors
        }


def _converted(
    view: View, source: str, fold_batch_norm: bool, verify: bool, tolerance: float
) -> keras.Model:
    """The model by the first exporter whose file converts and agrees with the module."""
    failures: dict[Exporter, Exception] = {}
    exporters: list[Exporter] = [n for n in _EXPORTERS if n == "dynamo" or not view.read_at]
    for exporter in exporters:
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{view.name}.onnx"
                _export(view, path, exporter)
                file = read_onnx(path)
                conversion = convert_file(file, fold_batch_norm=fold_batch_norm)
                model = finished(conversion, file, source, "", verify, tolerance, None)
            if verify:
                image = conversion.values[conversion.graph.inputs[0].name]
                runtime = TorchRuntime(view, image.order)
                report = check_parity(model, runtime, tolerance=tolerance)
                model.provenance.parity["outputs"].update(report["outputs"])
            return model
        except (NotImplementedError, ValueError) as error:
            failures[exporter] = error
    reasons = " ".join(f"By way of {name}: {error}" for name, error in failures.items())
    first = next(iter(failures.values()), None)
    if view.read_at:
        raise ValueError(
            f"Cannot convert the module {view.name!r}: its Python reads values of the images, so "
            f"that another image may take another branch. Received: {view.read_at}. Make it an "
            "operation on tensors, such as torch.where, or export the module by hand and use "
            f"from_onnx. {reasons}"
        ) from first
    kinds = {type(error) for error in failures.values()}
    kind = NotImplementedError if NotImplementedError in kinds else ValueError
    raise kind(f"Cannot convert the module {view.name!r}. {reasons}") from first


def _export(view: View, path: Path, exporter: Exporter) -> None:
    """Write ONNX with an open batch, unfolded batch norms and the modules' paths."""
    torch = imported_torch()
    names = {"input_names": ["images"], "output_names": list(view.outputs)}
    options = names | {"opset_version": _OPSETS[exporter], "dynamo": exporter == "dynamo"}
    try:
        with _quiet(), _without_fast_path():
            if exporter == "dynamo":
                from onnxscript.optimizer import fold_constants_ir, inline, remove_unused_nodes

                shapes = ({0: torch.export.Dim("batch")},)
                options |= {"dynamic_shapes": shapes, "optimize": False, "verbose": False}
                program = torch.onnx.export(view.module, (view.example,), **options)
                # The exporter's own optimization would fold the batch normalizations too.
                inline(program.model)
                fold_constants_ir(program.model)
                remove_unused_nodes(program.model)
                program.save(path, external_data=False)
            else:
                torch.onnx.export(
                    view.module,
                    (view.example,),
                    path,
                    dynamic_axes={name: {0: "batch"} for name in ("images", *view.outputs)},
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=False,
                    **options,
                )
    except Exception as error:  # The exporters raise what the module's own Python raises.
        raise NotImplementedError(f"PyTorch cannot export it: {reason(error)}") from error


@contextlib.contextmanager
def _without_fast_path() -> Iterator[None]:
    """Attention in operators that ONNX knows: PyTorch's own for inference is one that it does not.

    `aten::_native_multi_head_attention` and `aten::_transformer_encoder_layer_fwd` have no form.
    """
    mha = imported_torch().backends.mha
    was_enabled = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(was_enabled)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say about themselves: errors tell the reason."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    nowhere = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            _descriptors_to_null(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def _descriptors_to_null() -> Iterator[None]:
    """The process' own outputs too: PyTorch prints graphs from C++, past Python's streams."""
    with contextlib.ExitStack() as stack:
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            with contextlib.suppress(OSError, AttributeError, ValueError):  # Where there is none.
                stream.flush()  # What the user wrote before must not be lost.
            with contextlib.suppress(OSError):
                kept = os.dup(descriptor)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, descriptor)
                os.dup2(null, descriptor)
        yield
