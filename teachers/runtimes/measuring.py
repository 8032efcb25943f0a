"""Measuring the normalisation that is built into a file, in the file's own runtime."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx

from keras_amalgam.images.built_in import BuiltIn, SeveralWays
from keras_amalgam.images.measuring import Operation, measured
from keras_amalgam.images.probe import Probe
from keras_amalgam.teachers.conversion.passes.folding import fold_constants
from keras_amalgam.teachers.onnx_files.graph import Graph, Node, read_graph
from keras_amalgam.teachers.runtimes.litert_runtime import LiteRtRuntime
from keras_amalgam.teachers.runtimes.source_runtimes import OnnxRuntime, SourceRuntime

# They mix pixels or channels by learned numbers, so that nothing behind them is a normalisation.
_MIXING = {
    *("Conv", "ConvInteger", "ConvTranspose", "Einsum", "Gemm", "GRU", "LSTM", "MatMul"),
    *("MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN"),
}
_MIXING_TFLITE = {
    *("BATCH_MATMUL", "CONV_2D", "CUSTOM", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
    *("TRANSPOSE_CONV",),
}


class _Step(NamedTuple):
    """A step of a file.

    Args:
        inputs: Names of the tensors that it reads and that depend on the image.
        outputs: Names of those that it makes.
        followed: Whether it may be a part of a normalisation.
        learned: Whether its numbers are statistics of training images.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    followed: bool
    learned: bool = False


def built_in_onnx(model: onnx.ModelProto, order: Sequence[int]) -> BuiltIn | SeveralWays | None:
    """The normalisation inside an ONNX file, measured in onnxruntime.

    Args:
        model: The parsed file, of one image input.
        order: The file's axis for each axis of images whose channels are last.

    Raises:
        ValueError: If its graph is damaged, or onnxruntime does not run its beginning.
    """
    graph = fold_constants(read_graph(model))
    (port,) = graph.inputs
    shape = tuple(port.shape[axis] for axis in order[1:])
    steps = [_onnx_step(node, graph) for node in graph.nodes if node.operator != "Shape"]
    ends = [out.name for out in graph.outputs]
    return _measured(OnnxRuntime(model, order), port.name, shape, port.dtype, steps, ends)


def built_in_tflite(runtime: LiteRtRuntime) -> BuiltIn | SeveralWays | None:
    """The normalisation inside a TFLite file, measured in LiteRT.

    Args:
        runtime: The file, opened with `inside=True`.

    Raises:
        ValueError: If LiteRT does not run it.
    """
    sizes = [int(size) if size > 0 else None for size in runtime.image["shape_signature"]]
    shape = tuple(sizes[axis] for axis in runtime.image_order[1:])
    steps = [
        _Step(inputs, outputs, operator not in _MIXING_TFLITE)
        for operator, inputs, outputs in runtime.operations()
        if operator != "SHAPE"
    ]
    # Numbers in and out are real, whatever the file holds them as.
    return _measured(runtime, runtime.image["name"], shape, "float32", steps, runtime.outputs)


def _onnx_step(node: Node, graph: Graph) -> _Step:
    is_norm = node.operator == "BatchNormalization"
    followed = not node.domain and node.operator not in _MIXING
    if is_norm:
        scale, offset = (graph.constants.get(name) for name in node.inputs[1:3])
        followed = bool(np.all(scale == 1) and np.all(offset == 0))
    inputs = tuple(name for name in dict.fromkeys(node.inputs) if name in graph.images)
    return _Step(inputs, tuple(filter(None, node.outputs)), followed, is_norm)


def _measured(
    source: SourceRuntime,
    image: str,
    shape: Sequence[int | None],
    dtype: str,
    steps: Iterable[_Step],
    ends: Sequence[str],
) -> BuiltIn | SeveralWays | None:
    reached, first = {image}, []
    steps = [step for step in steps if step.inputs]
    for step in steps:
        if step.followed and reached.issuperset(step.inputs):
            reached.update(step.outputs)
            first.append(step)
    names = [name for step in first for name in step.outputs]

    def operations(probe: Probe) -> Iterable[Operation]:
        values = _values(source, probe.images, names) if names else {}
        for step in steps:
            yield Operation(step.inputs, step.outputs, _known(values, step), learned=step.learned)

    return measured(shape, image, operations, ends, dtype)


def _values(source: SourceRuntime, images: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    try:
        return source.run(images, names)
    except RuntimeError as error:  # LiteRT's.
        raise ValueError(f"The file's beginning cannot be run by itself: {error}") from error


def _known(values: dict[str, np.ndarray], step: _Step) -> Any:
    def compute(given: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        made = [values[name] for name in step.outputs if name in values]
        return made if len(made) == len(step.outputs) else None

    return compute
