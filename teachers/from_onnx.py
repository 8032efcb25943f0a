"""ONNX files as Keras models."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from keras_amalgam.files.provenance import Provenance
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.teachers.comparison.pairing import pair_conversion
from keras_amalgam.teachers.comparison.parity import compare, worst
from keras_amalgam.teachers.comparison.tolerance import check_tolerance
from keras_amalgam.teachers.conversion.convert import Conversion, convert_file
from keras_amalgam.teachers.onnx_files.file import OnnxFile, read_onnx
from keras_amalgam.version import __version__


@keras_defaults()
def from_onnx(
    path: str | Path,
    *,
    input_shape: tuple[int | None, ...] | None = None,
    output: str | None = None,
    fold_batch_norm: bool = False,
    verify: bool = True,
    tolerance: float = 1e-4,
) -> keras.Model:
    """A trained network in an ONNX file as a Keras model with the same weights.

    The model is functional, made of stock layers only, and takes images channels last for any
    batch size; its outputs are the source's, with the channels of maps last. Its weights are
    trainable, so it can also initialise a student. `model.provenance` records where it came from
    and leads from the source's names (nodes, tensors, modules of the exported PyTorch network) to
    layers.

    Nothing in the file is executed by us; onnxruntime runs it for the comparison.

    Args:
        path: The `.onnx` file; weights beside it are read from its own folder only.
        input_shape: `(height, width, channels)` for a file that leaves them open and whose layers
            need them.
        output: The file's output to take, by its name there, where it has several; nothing is
            converted but what that needs. By default all of them, in a dictionary.
        fold_batch_norm: Whether batch normalizations become part of the convolutions before them:
            faster. The running statistics of the training images are then no longer in the model,
            but in `model.provenance.batch_norm`.
        verify: Whether the result is compared with the file in onnxruntime, at every tensor, with
            one and three images. See `check_parity`.
        tolerance: Largest error allowed then, as a fraction of a tensor's range, or of 1.

    Returns:
        The model, with `model.provenance`.

    Raises:
        FileNotFoundError: If there is no such file.
        NotImplementedError: If an operator is not known, or needs a size that the file leaves open;
            it is named with domain, opset and node.
        TypeError: If `path` is no path, `output` no name or `input_shape` no shape, or a function
            that `register_operator` registered returns no Value.
        ValueError: If the file is damaged or no valid ONNX model, has no such output, or the result
            differs from the source.

    Example:
    ```python
    model = from_onnx("cars.onnx")
    teacher = keras_amalgam.Teacher(model, name="cars", class_names=CARS, tap="layer4",
                                    preprocessing=keras_amalgam.Preprocessing(mean=0.5, std=0.5))
    ```
    """
    check_tolerance(tolerance)
    _check_input_shape(input_shape)
    file = read_onnx(path)
    conversion = convert_file(file, input_shape, fold_batch_norm, output)
    return finished(conversion, file, file.path.name, file.producer, verify, tolerance, output)


def _check_input_shape(shape: Any) -> None:
    if shape is None:
        return
    if not isinstance(shape, (tuple, list)) or not all(
        size is None or (isinstance(size, int) and not isinstance(size, bool)) for size in shape
    ):
        raise TypeError(
            f"`input_shape` must be a tuple of whole numbers. Received: {shape!r}. Expected "
            "(height, width, channels), as (224, 224, 3)."
        )


def finished(
    conversion: Conversion,
    file: OnnxFile,
    source: str,
    framework: str,
    verify: bool,
    tolerance: float,
    output: str | None,
) -> keras.Model:
    """The converted model with its provenance, compared with its source if wanted.

    Args:
        conversion: Of the file.
        file: What was converted.
        source: Name of the original source.
        framework: What wrote it.
        verify: As in `from_onnx`.
        tolerance: As in `from_onnx`.
        output: What was chosen out of several.

    Raises:
        ValueError: If the result differs from the source.
    """
    model = conversion.model
    parity = {}
    if verify:
        report = compare(pair_conversion(model, conversion), model, "all", tolerance)
        parity = {"tolerance": tolerance, "outputs": report["outputs"], "tap": worst(report)}
    model.provenance = Provenance(
        source=source,
        sha256=file.sha256,
        framework=framework,
        converter=f"keras-amalgam {__version__}, onnx {onnx.__version__}",
        opset=file.opset,
        names=conversion.names,
        parity=parity,
        batch_norm=_folded_statistics(conversion),
        output=output,
    )
    return model


def _folded_statistics(conversion: Conversion) -> dict[str, dict[str, list[float]]]:
    """Running mean and variance of every batch normalization that the passes took into another."""
    absorbed = {name for node in conversion.graph.nodes for name in node.absorbed}
    if not absorbed:
        return {}
    constants = conversion.graph.constants
    return {
        node.name: {
            key: constants[name].astype(np.float32).reshape(-1).tolist()
            for key, name in zip(("mean", "variance"), node.inputs[3:5], strict=True)
        }
        for node in conversion.original.nodes
        if node.operator == "BatchNormalization" and node.name in absorbed
    }
