"""Read-only views of an ONNX graph: nodes with Python attributes, constants as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


@dataclass(frozen=True)
class Port:
    """An input or output of the graph.

    Args:
        name: The tensor's name.
        shape: Its sizes, `None` where the file leaves one open.
        dtype: The element type's NumPy name.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Node:
    """One operator of the graph.

    Args:
        operator: The operator's type, as `"Conv"`.
        domain: Its domain; empty for the standard one.
        opset: The version of the domain that the file was written for.
        name: The node's name, made up from its output where the file gives none.
        inputs: Names of the input tensors; empty where an optional one is left out.
        outputs: Names of the output tensors.
        attributes: Python values; tensors as arrays.
        metadata: What the exporter wrote beside the node.
        absorbed: Names of the nodes that a pass made one of, if it did.
    """

    operator: str
    domain: str
    opset: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    absorbed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The node as error messages name it."""
        domain = self.domain or "ai.onnx"
        return (
            f"operator {self.operator!r} (domain {domain}, opset {self.opset}, node {self.name!r})"
        )


@dataclass(frozen=True)
class Graph:
    """A graph in topological order.

    Args:
        nodes: In an order in which every input is there before it is read.
        constants: Initializers and folded constants.
        inputs: What the caller gives, constants left out.
        outputs: What the graph returns.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """Tensor name to the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """Tensor name to the nodes that read it."""
        found: dict[str, tuple[Node, ...]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(filter(None, node.inputs)):
                found[name] = (*found.get(name, ()), node)
        return found

    @cached_property
    def images(self) -> frozenset[str]:
        """The tensors that are computed from the image, its sizes left out."""
        found = {port.name for port in self.inputs}
        for node in self.nodes:
            if node.operator not in ("Shape", "Size") and found.intersection(node.inputs):
                found.update(filter(None, node.outputs))
        return frozenset(found)

    def only_consumer(self, name: str) -> Node | None:
        """The one node that reads a tensor; `None` if several do, or if it is an output."""
        readers = self.consumers.get(name, ())
        is_output = any(port.name == name for port in self.outputs)
        return readers[0] if len(readers) == 1 and not is_output else None

    def scalar(self, name: str) -> float | None:
        """The value of a constant with one element; `None` for anything else."""
        array = self.constants.get(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None


def read_graph(model: onnx.ModelProto) -> Graph:
    """The views of a parsed model.

    Args:
        model: With its external data loaded.

    Raises:
        ValueError: If a constant's bytes do not fit its shape.
    """
    opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
    constants = {tensor.name: _array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for index, proto in enumerate(model.graph.node):
        domain = _domain(proto.domain)
        outputs = tuple(proto.output)
        nodes.append(
            Node(
                operator=proto.op_type,
                domain=domain,
                opset=opsets.get(domain, 0),
                name=proto.name or next(filter(None, outputs), f"{proto.op_type}_{index}"),
                inputs=tuple(proto.input),
                outputs=outputs,
                attributes={a.name: _attribute(a) for a in proto.attribute},
                metadata={entry.key: entry.value for entry in proto.metadata_props},
            )
        )
    return Graph(
        nodes=tuple(nodes),
        constants=constants,
        inputs=tuple(_port(info) for info in model.graph.input if info.name not in constants),
        outputs=tuple(_port(info) for info in model.graph.output),
    )


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _port(info: onnx.ValueInfoProto) -> Port:
    tensor = info.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    dtype = np.dtype(np.float32)
    if tensor.elem_type:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return Port(info.name, tuple(d or None for d in dims), dtype.name)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return _array(value)
    if attribute.type == onnx.AttributeProto.STRINGS:
        return [v.decode("utf-8", "replace") for v in value]
    return list(value) if isinstance(value, (list, tuple)) else value


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(
            f"The tensor {tensor.name!r} inside a node keeps its data in another file, which "
            "is not read. Export with external_data=False."
        )
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The tensor {tensor.name!r} is damaged: its data does not fit its shape "
            f"{list(tensor.dims)}. {error} Export or copy the model again."
        ) from error
