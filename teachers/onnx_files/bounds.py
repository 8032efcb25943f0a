"""What an ONNX file may ask for: a small file can describe a graph that no memory holds."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

# Of the file and of all weight files together: protobuf holds no larger message, and onnx's
# checker and onnxruntime get the model as one.
MAX_BYTES = 2**31 - 1
MAX_NODES = 50_000
# A field of two bytes can become an object of a hundred.
MAX_FIELDS = 2_000_000
MAX_DEPTH = 64
MAX_CALLS = 64

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def refuse_bombs(content: bytes, name: str) -> None:
    """Walk an encoded model without building it.

    Bytes that protobuf does not understand end the walk: protobuf itself refuses them.

    Args:
        content: An encoded `ModelProto`.
        name: The file's name.

    Raises:
        ValueError: If the message has more fields than `MAX_FIELDS`, is nested deeper than
            `MAX_DEPTH`, or a name is no UTF-8 text.
    """
    position, end, message = 0, len(content), _fields(onnx.ModelProto.DESCRIPTOR)
    around: list[tuple[int, Mapping[int, FieldDescriptor]]] = []
    for _ in range(MAX_FIELDS):
        while position >= end and around:
            end, message = around.pop()
        if position >= end:
            return
        tag, position = _varint(content, position)
        field, wire = message.get(tag >> 3), tag & 7
        if wire == _VARINT:
            _, position = _varint(content, position)
        elif wire in _FIXED:
            position += _FIXED[wire]
        elif wire == _BYTES:
            length, position = _varint(content, position)
            if position + length > end:
                return
            if field is not None and field.type == FieldDescriptor.TYPE_MESSAGE:
                around.append((end, message))
                end, message = position + length, _fields(field.message_type)
                if len(around) > MAX_DEPTH:
                    raise ValueError(
                        f"{name!r} is nested deeper than {MAX_DEPTH} levels, as no exporter writes "
                        "a network. Use a file that an exporter wrote."
                    )
                continue
            if field is not None and field.type == FieldDescriptor.TYPE_STRING:
                _refuse_broken_text(content[position : position + length], field, name)
            position += length
        else:
            return
    raise ValueError(
        f"{name!r} has more than {MAX_FIELDS:,} entries in {len(content):,} bytes, as no exporter "
        "writes a network. Use a file that an exporter wrote."
    )


def refuse_too_many_nodes(model: onnx.ModelProto, name: str) -> None:
    """Count what the graph holds once its local functions are written out.

    Args:
        model: As parsed, with its functions.
        name: The file's name.

    Raises:
        ValueError: If that are more than `MAX_NODES` nodes or `MAX_BYTES`, or functions call
            themselves or each other deeper than `MAX_CALLS`.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    known: dict[tuple[str, str, str], _Size] = {}

    def size(nodes: Iterable[onnx.NodeProto], depth: int) -> _Size:
        count = data = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key in functions:
                if key not in known:
                    if depth == MAX_CALLS:
                        raise ValueError(
                            f"{name!r} has local functions that call themselves, or each other "
                            f"deeper than {MAX_CALLS} levels. Received: {node.op_type!r} (domain "
                            f"{node.domain}). Export with functions inlined."
                        )
                    known[key] = size(_all_nodes(functions[key].node), depth + 1)
                count, data = count + known[key].nodes, data + known[key].data
            else:
                count, data = count + 1, data + node.ByteSize()
        return _Size(count, data)

    total = size(_all_nodes(model.graph.node), 0)
    if total.nodes > MAX_NODES:
        raise ValueError(
            f"{name!r} has {total.nodes:,} nodes, those of local functions counted at every call. "
            f"At most {MAX_NODES:,} are read. Export a smaller network."
        )
    if total.data > MAX_BYTES:
        raise ValueError(
            f"{name!r} holds {total.data:,} bytes in its nodes once local functions are written "
            f"out. At most {MAX_BYTES:,} are read. Export a smaller network."
        )


def drop_unused_nodes(graph: onnx.GraphProto) -> None:
    """Leave out nodes that no output needs: onnxruntime would run them, whatever they ask for.

    Args:
        graph: In any order, with circles or without; changed in place.
    """
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needed: set[int] = set()
    waiting = [port.name for port in graph.output]
    while waiting:
        index = makers.get(waiting.pop())
        if index is not None and index not in needed:
            needed.add(index)
            for node in _all_nodes([graph.node[index]]):
                waiting.extend(node.input)
            for inner in _inner_graphs([graph.node[index]]):
                waiting.extend(port.name for port in inner.output)
    for index in reversed(range(len(graph.node))):
        if index not in needed:
            del graph.node[index]


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a graph and the graphs inside its nodes hold."""
    for inner in (graph, *_inner_graphs(graph.node)):
        yield from inner.initializer
        for sparse in inner.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in inner.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
                    yield from (t for t in (sparse.values, sparse.indices) if t.data_type)


@dataclass(frozen=True)
class _Size:
    nodes: int
    data: int


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of the graphs inside them."""
    nodes = list(nodes)
    yield from nodes
    for graph in _inner_graphs(nodes):
        yield from graph.node


def _inner_graphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs inside nodes, and those inside these."""
    waiting = [graph for node in nodes for each in node.attribute for graph in _graphs(each)]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(g for node in graph.node for each in node.attribute for g in _graphs(each))


def _graphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _fields(message: Any) -> Mapping[int, FieldDescriptor]:
    return message.fields_by_number


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A number in protobuf's encoding and the position behind it; 0 past the end."""
    number = shift = 0
    while position < len(content) and shift < 70:
        byte = content[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
    return 0, len(content)


def _refuse_broken_text(text: bytes, field: FieldDescriptor, name: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name!r} is damaged: a {field.name!r} inside is no UTF-8 text. Received: "
            f"{text[:40]!r}. Copy or export it again."
        ) from error
