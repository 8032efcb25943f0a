"""Looking into ONNX files."""

import math
from collections.abc import Mapping
from pathlib import Path

import onnx

from keras_amalgam.images.built_in import BuiltIn, SeveralWays
from keras_amalgam.images.measuring import built_in_normalisation
from keras_amalgam.models.heads import is_over_classes, seems_to_be
from keras_amalgam.teachers.conversion.chosen_output import graph_of_output
from keras_amalgam.teachers.conversion.convert import Conversion, convert_file
from keras_amalgam.teachers.conversion.names import module_ends
from keras_amalgam.teachers.conversion.operators import converts
from keras_amalgam.teachers.conversion.passes import without_unused
from keras_amalgam.teachers.conversion.passes.folding import fold_constants
from keras_amalgam.teachers.inspection.report import (
    Inspection,
    TapCandidate,
    Tensor,
    as_candidates,
    operators_of,
)
from keras_amalgam.teachers.inspection.tap_search import Sizes, Step, find_taps, is_read_on
from keras_amalgam.teachers.onnx_files.file import OnnxFile, read_onnx
from keras_amalgam.teachers.onnx_files.graph import Graph, Node, Port, read_graph
from keras_amalgam.teachers.runtimes.measuring import built_in_onnx
from keras_amalgam.teachers.runtimes.onnx_axes import CHANNELS_FIRST, Order

_WEIGHTED = {
    *("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "QLinearConv"),
    *("QLinearMatMul", "FusedConv", "FusedMatMul"),
}
_PASSED_ON = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


def inspect_onnx(path: Path, output: str | None = None) -> Inspection:
    """Describe an ONNX file."""
    file = read_onnx(path)
    return describe(file, file.producer, sum(each.stat().st_size for each in file.files), output)


def describe(file: OnnxFile, producer: str, size: int, output: str | None = None) -> Inspection:
    """Describe a parsed ONNX model.

    Args:
        file: As read.
        producer: What wrote it.
        size: In bytes.
        output: As in `inspect`.
    """
    whole = without_unused(read_graph(file.model))
    source = graph_of_output(whole, output, repr(file.path.name))
    conversion, obstacle = _try_to_convert(file, output)
    graph = conversion.graph if conversion else _folded(source)
    sizes = _sizes(file, conversion)
    steps = _steps(graph, sizes)
    shows_built_in, built_in = _built_in(file, source, conversion)
    return Inspection(
        file=file.path.name,
        format="ONNX",
        producer=producer,
        opsets={entry.domain or "ai.onnx": entry.version for entry in file.model.opset_import},
        bytes=size,
        sha256=file.sha256,
        inputs=tuple(_input(port, conversion) for port in source.inputs),
        outputs=tuple(_output(port, whole, sizes, conversion) for port in whole.outputs),
        parameters=_parameters(file.model),
        operators=operators_of(
            (f"{node.domain}.{node.operator}".lstrip("."), node.name, converts(node))
            for node in source.nodes
        ),
        built_in=built_in,
        shows_built_in=shows_built_in,
        taps=_taps(graph, source, steps),
        obstacle=obstacle,
        runtime="onnxruntime",
        output=output,
    )


def _built_in(
    file: OnnxFile, source: Graph, conversion: Conversion | None
) -> tuple[bool, BuiltIn | SeveralWays | None]:
    """Whether the normalisation inside can be measured, and what it is."""
    if conversion is not None:
        return True, built_in_normalisation(conversion.model)
    try:
        return True, built_in_onnx(file.model, _image_order(source))
    except ValueError:  # Of a damaged graph, or one that onnxruntime does not run either.
        return False, None


def _image_order(graph: Graph) -> Order:
    """The file's axes of batch, height, width and channels.

    Raises:
        ValueError: If it does not take one batch of images.
    """
    shapes = [port.shape for port in graph.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(f"A batch of images has four axes. Received: inputs of shapes {shapes}.")
    is_last = shapes[0][3] in (1, 3) and shapes[0][1] not in (1, 3)
    return (0, 1, 2, 3) if is_last else CHANNELS_FIRST


def _taps(graph: Graph, source: Graph, steps: list[Step]) -> tuple[TapCandidate, ...]:
    """Those on the way to the one output; none where it must still be chosen."""
    if len(graph.outputs) != 1:
        return ()
    found = find_taps(steps, _true_maker(steps, graph.outputs[0].name))
    return as_candidates(found, _modules(graph, source))


def _try_to_convert(file: OnnxFile, output: str | None) -> tuple[Conversion | None, str]:
    try:
        return convert_file(file, output=output), ""
    except (NotImplementedError, ValueError) as error:
        return None, str(error)


def _folded(graph: Graph) -> Graph:
    try:
        return fold_constants(graph)
    except ValueError:  # Of a node that does not fit its inputs; the obstacle says so.
        return graph


def _sizes(file: OnnxFile, conversion: Conversion | None) -> dict[str, Sizes]:
    """Sizes of tensors by name, as the converted network has them or as ONNX infers them."""
    if conversion is not None:
        return {name: tuple(value.tensor.shape) for name, value in conversion.values.items()}
    try:
        inferred = onnx.shape_inference.infer_shapes(file.model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        inferred = file.model
    infos = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    return {info.name: _channels_last(info.type.tensor_type.shape) for info in infos}


def _channels_last(shape: onnx.TensorShapeProto) -> Sizes:
    sizes = tuple(d.dim_value if d.dim_value > 0 else None for d in shape.dim)
    return (sizes[0], *sizes[2:], sizes[1]) if len(sizes) == 4 else sizes


def _steps(graph: Graph, sizes: Mapping[str, Sizes]) -> list[Step]:
    """The nodes that depend on the image; second outputs count as the first."""
    made_by = {port.name: port.name for port in graph.inputs}
    steps = []
    for node in graph.nodes:
        inputs = tuple(dict.fromkeys(made_by[name] for name in node.inputs if name in made_by))
        if not inputs or node.operator in ("Shape", "Size"):
            continue
        first = next(filter(None, node.outputs))
        made_by |= {name: first for name in node.outputs if name}
        has_constants = any(name and name not in made_by for name in node.inputs[1:])
        weighted = node.operator in _WEIGHTED and has_constants
        steps.append(Step(node.name, node.operator, inputs, first, sizes.get(first, ()), weighted))
    return steps


def _true_maker(steps: list[Step], output: str) -> str:
    """The output, or if it is a second output of its node or unknown, the last step's."""
    known = {step.output for step in steps}
    return output if output in known or not steps else steps[-1].output


def _modules(graph: Graph, source: Graph) -> dict[str, str]:
    """Node names to the outermost module that they end."""
    # A name that is a node's or tensor's as well means that one.
    taken = {name for node in graph.nodes for name in (node.name, *node.outputs)}
    ends = {path: end for path, end in module_ends(source).items() if path not in taken}
    outermost_last = sorted(ends.items(), key=lambda item: len(item[0]), reverse=True)
    return {
        graph.producers[end].name: path for path, end in outermost_last if end in graph.producers
    }


def _input(port: Port, conversion: Conversion | None) -> Tensor:
    note = ""
    if len(port.shape) == 4:
        first, last = port.shape[1] in (1, 3), port.shape[3] in (1, 3)
        note = "channels last" if last and not first else "channels first"
        if conversion is not None:
            is_first = conversion.values[port.name].order == (0, 2, 3, 1)
            note = "channels first" if is_first else "channels last"
    return Tensor(port.name, port.shape, port.dtype, note)


def _output(
    port: Port, graph: Graph, sizes: Mapping[str, Sizes], conversion: Conversion | None
) -> Tensor:
    name = port.name
    while (node := graph.producers.get(name)) is not None and node.operator in _PASSED_ON:
        name = node.inputs[0]
    answer = ""
    if node is not None and not is_read_on(_steps(graph, {}), port.name):
        operator, place, made = node.operator, node.outputs.index(name), sizes.get(name, ())
        if operator == "Softmax" and not _is_over_classes(node, name, port.shape, made, conversion):
            operator = ""
        answer = seems_to_be(operator, port.shape, port.dtype, place)
    return Tensor(port.name, port.shape, port.dtype, answer)


def _is_over_classes(
    softmax: Node, name: str, shown: Sizes, made: Sizes, conversion: Conversion | None
) -> bool:
    """Whether a softmax goes over the classes; see `_sizes` for what is known of its result."""
    axis = softmax.attributes.get("axis", -1 if softmax.opset >= 13 else 1)
    value = conversion.values.get(name) if conversion else None
    if value is not None:
        axis = value.axis(axis)
    elif len(made) == 4:
        axis = CHANNELS_FIRST.index(axis % 4)
    return is_over_classes(axis, made, shown)


def _parameters(model: onnx.ModelProto) -> int:
    """Elements of the constants, whole numbers of 32 and 64 bits left out: they are sizes."""
    sizes = (onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors += [attribute.t for attribute in node.attribute if attribute.name == "value"]
    return sum(math.prod(t.dims) for t in tensors if t.data_type not in sizes and t.dims)
