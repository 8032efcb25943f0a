"""A source graph written as a Keras model, node by node."""

import keyword
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import onnx

from keras_amalgam.teachers.conversion.chosen_output import graph_of_output
from keras_amalgam.teachers.conversion.frozen_sizes import FollowedSizes, refuse_frozen_sizes
from keras_amalgam.teachers.conversion.layout import (
    Rows,
    Value,
    as_source,
    channels_last,
    natural,
    to_order,
)
from keras_amalgam.teachers.conversion.names import name_map
from keras_amalgam.teachers.conversion.operators import converts, resolve, unknown
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import Result, is_known
from keras_amalgam.teachers.conversion.operators.rows import with_rows
from keras_amalgam.teachers.conversion.passes import simplified
from keras_amalgam.teachers.conversion.passes.folding import (
    BATCH,
    MAX_ELEMENTS,
    fold,
    is_foldable,
)
from keras_amalgam.teachers.conversion.reshaping import settled
from keras_amalgam.teachers.conversion.writer import Scope, Writer, as_layer_name, output_keys
from keras_amalgam.teachers.onnx_files.file import OnnxFile, check_valid
from keras_amalgam.teachers.onnx_files.graph import Graph, Node, Port, read_graph

MAX_COMPUTED = 2**30  # Numbers that all nodes together make for one image.
# Operators that fix the layout of the image that reaches them: in ONNX, channels stand second.
_SPATIAL = {
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace",
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GroupNormalization",
    "InstanceNormalization", "LpPool", "LRN", "MaxPool", "Resize", "SpaceToDepth", "Upsample",
}  # fmt: skip
_STOPS = {"Flatten", "Gemm", "MatMul", "Reshape", "Shape", "Squeeze"}


@dataclass(frozen=True)
class Conversion:
    """A converted network.

    Args:
        model: Functional, of stock layers.
        source: The parsed file.
        original: The source's own graph.
        graph: What was converted: the source's graph after the passes.
        values: Tensors of the graph that depend on the image, and where they are in the model.
    """

    model: keras.Model
    source: onnx.ModelProto
    original: Graph
    graph: Graph
    values: dict[str, Value]

    @cached_property
    def names(self) -> dict[str, str]:
        """Every source name that a tap may use, to its layer; see `name_map`."""
        return name_map(self.graph, self.original, self.values)


def convert_file(
    file: OnnxFile,
    input_shape: tuple[int | None, ...] | None = None,
    fold_batch_norm: bool = False,
    output: str | None = None,
) -> Conversion:
    """Write an ONNX file as a Keras model.

    Args:
        file: As read.
        input_shape: `(height, width, channels)`, where the file leaves sizes open.
        fold_batch_norm: Whether batch normalizations become part of the convolutions before them.
        output: The only output to convert, with what it needs; by default all of them.

    Raises:
        NotImplementedError: If an operator, or a form of it, is not known, or a size is needed that
            the file leaves open.
        TypeError: If `output` is no name, or a registered function returns no Value.
        ValueError: If the graph is not valid, has not exactly one input with a batch axis or no
            such output, or a node does not fit its inputs.
    """
    try:
        graph = graph_of_output(read_graph(file.model), output, repr(file.path.name))
        return _written(file, graph, input_shape, fold_batch_norm)
    except RecursionError as error:
        raise ValueError(
            f"{file.path.name!r} has {len(file.model.graph.node):,} operators in a chain that is "
            "deeper than Python calls functions. Raise `sys.setrecursionlimit`, or export a "
            "shallower network."
        ) from error


def _written(
    file: OnnxFile,
    original: Graph,
    input_shape: tuple[int | None, ...] | None,
    fold_batch_norm: bool,
) -> Conversion:
    _refuse_unknown_operators(original)
    check_valid(file)
    graph = simplified(original, fold_batch_norm)
    scope = Scope()
    port = _only_input(graph)
    image = _input(graph, port, scope, input_shape)
    scope.image = image.tensor
    tensors: dict[str, Result] = {**graph.constants, port.name: image}
    computed, sizes = 0, FollowedSizes(graph)
    for node in graph.nodes:
        made = _converted(node, tensors, graph, scope, sizes)
        computed += sum(map(_numbers, made.values()))
        _refuse_huge(f"Cannot convert {file.path.name!r}", computed, MAX_COMPUTED)
        tensors.update(made)
    outputs = [_output(out, tensors, scope, image, port.shape[0]) for out in graph.outputs]
    name = as_layer_name(file.path.stem)
    model = keras.Model(image.tensor, _structured(graph.outputs, outputs), name=name)
    values = {key: value for key, value in tensors.items() if isinstance(value, Value)}
    values |= {port.name: output for port, output in zip(graph.outputs, outputs, strict=True)}
    return Conversion(model, file.model, original, graph, values)


def _refuse_unknown_operators(graph: Graph) -> None:
    """Find what cannot be converted before any work is done.

    Raises:
        NotImplementedError: For the first node whose operator nothing is registered for.
    """
    for node in graph.nodes:
        if not converts(node):
            raise NotImplementedError(f"Cannot convert {node}: {unknown(node)}")


def _only_input(graph: Graph) -> Port:
    if len(graph.inputs) != 1:
        raise ValueError(
            f"A teacher takes one batch of images. Received: a graph with {len(graph.inputs)} "
            f"inputs, {[port.name for port in graph.inputs]}. Export the part that takes the image."
        )
    return graph.inputs[0]


def _input(graph: Graph, port: Port, scope: Scope, given: tuple[int | None, ...] | None) -> Value:
    rank = len(port.shape)
    if rank < 2:
        raise ValueError(
            f"The input {port.name!r} must have a batch axis and at least one more. Received: "
            f"shape {port.shape}. Export the network for a batch of images."
        )
    order = _input_order(graph, port)
    shape = tuple(port.shape[axis] for axis in order[1:])
    if given is not None:
        fits = len(given) == len(shape) and all(
            mine in (None, theirs) for mine, theirs in zip(shape, given, strict=True)
        )
        if not fits:
            raise ValueError(
                f"`input_shape` does not fit the file. Received: {given}. The input {port.name!r} "
                f"is {shape} with channels last, where None is open."
            )
        shape = given
    if shape[-1] is None:
        raise ValueError(
            f"The file leaves the number of channels of input {port.name!r} open. Pass "
            "`input_shape=(height, width, channels)`."
        )
    name = scope.unique(as_layer_name(port.name).replace(".", "_").replace("-", "_"))
    # Exported signatures need a name that is a Python argument.
    name = name if name.isidentifier() and not keyword.iskeyword(name) else f"input_{name}"
    # Half and double precision are computed as all else is, so that preprocessing stays exact.
    dtype = "float32" if port.dtype.startswith("float") else port.dtype
    tensor = keras.Input(shape, dtype=dtype, name=name)
    return Value(tensor, order)


def _input_order(graph: Graph, port: Port) -> tuple[int, ...]:
    """Whether images enter channels first: what the first operator that cares says."""
    rank = len(port.shape)
    if rank != 4:
        return natural(rank)
    waiting, seen = [port.name], set()
    while waiting:
        name = waiting.pop(0)
        for node in graph.consumers.get(name, ()):
            if node.operator in _SPATIAL:
                return channels_last(4)
            if node.operator == "Transpose":
                to_channels_first = node.attributes.get("perm") == [0, 3, 1, 2]
                return natural(4) if to_channels_first else channels_last(4)
            if node.operator not in _STOPS and node.name not in seen:
                seen.add(node.name)
                waiting.extend(node.outputs)
    is_last = port.shape[3] in (1, 3) and port.shape[1] not in (1, 3)
    return natural(4) if is_last else channels_last(4)


def _converted(
    node: Node, tensors: dict[str, Result], graph: Graph, scope: Scope, sizes: FollowedSizes
) -> dict[str, Result]:
    missing = [name for name in node.inputs if name and name not in tensors]
    if missing:
        raise NotImplementedError(
            f"Cannot convert {node}: its inputs {missing} are second outputs, or sparse constants, "
            "which are not known."
        )
    inputs = [tensors[name] if name else None for name in node.inputs]
    constants = [None if isinstance(value, (Value, Rows)) else value for value in inputs]
    depends_on_image = any(isinstance(value, (Value, Rows)) for value in inputs)
    try:
        if not depends_on_image and is_foldable(node, constants):
            return _folded(node, constants, sizes)
        if is_known(node):
            sizes.refuse_in(node, constants)
        call = Call(node, inputs, graph, Writer(node.name, scope), sizes)
        result = with_rows(resolve(node), call)
        if node.operator == "Shape" and isinstance(result, np.ndarray):
            sizes.record_shape(node, call.value_or_rows(), result)
    except NotImplementedError as error:
        raise NotImplementedError(f"Cannot convert {node}: {error}") from error
    except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
        # What an attribute or constant of a damaged or malicious file leads to.
        raise ValueError(
            f"Cannot convert {node}, which does not fit its inputs: {error}"
        ) from error
    results = result if isinstance(result, tuple) else (result,)
    for made in results:
        _check_made(node, made)
        _refuse_huge(f"Cannot convert {node}", _numbers(made), MAX_ELEMENTS)
    return dict(zip(node.outputs, results, strict=False))  # Training's outputs are never read.


def _folded(
    node: Node, constants: Sequence[np.ndarray | None], sizes: FollowedSizes
) -> dict[str, Result]:
    """What a node on constants gives, those that are computed from sizes among them."""
    is_sized = sizes.depend(node.inputs)
    if is_sized:
        refuse_frozen_sizes(node, constants)
    results = fold(node, constants)
    if is_sized:
        sizes.record(node, constants, results)
    return dict(zip(filter(None, node.outputs), results, strict=True))


def _check_made(node: Node, made: Any) -> None:
    """Whether a handler, which may be a user's own, gave what it should."""
    if not isinstance(made, Result):
        handler = resolve(node)
        name = getattr(handler, "__name__", handler)
        raise TypeError(
            f"The handler {name!r}, which is registered for {node}, must return a "
            f"Value for every output. Received: {type(made).__name__}. Return "
            "`value.with_tensor(tensor)`, or an array for a constant."
        )


def _numbers(made: Result) -> int:
    """How many numbers of a result are computed for one image; open sizes count as one."""
    made = made.value if isinstance(made, Rows) else made
    if not isinstance(made, Value):
        return 0
    return math.prod(size or 1 for size in made.tensor.shape[1:]) * (made.batch // BATCH)


def _refuse_huge(what: str, numbers: int, most: int) -> None:
    """Nothing for one image is as large as what a damaged or malicious file may ask for."""
    if numbers > most:
        raise ValueError(
            f"{what}: it would make {numbers:,} numbers for one image. At most {most:,} are "
            "allowed. Export the network for smaller images."
        )


def _output(
    port: Port, tensors: dict[str, Result], scope: Scope, image: Value, images: int | None
) -> Value:
    """An output as in the source, but with its channels where the image has them."""
    value = tensors.get(port.name)
    if not isinstance(value, (Value, Rows)):
        raise ValueError(
            f"The output {port.name!r} does not depend on the image. Export the network again."
        )
    write = Writer(f"{port.name}_output", scope)
    try:
        if isinstance(value, Rows):
            value = settled(write, value, images)
        if value.rank == 4 and image.rank == 4:
            return to_order(write, value, image.order)
        return as_source(write, value)
    except NotImplementedError as error:
        raise NotImplementedError(f"Cannot convert the output {port.name!r}: {error}") from error


def _structured(ports: Sequence[Port], values: Sequence[Value]) -> Any:
    if len(ports) == 1:
        return values[0].tensor
    keys = output_keys([port.name for port in ports])
    return {keys[port.name]: value.tensor for port, value in zip(ports, values, strict=True)}
