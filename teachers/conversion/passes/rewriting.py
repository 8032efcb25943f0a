"""How a graph is rewritten: nodes replaced, and what nobody needs any more left out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keras_amalgam.teachers.onnx_files.graph import Graph, Node


def without_unused(graph: Graph) -> Graph:
    """Leave out nodes that no output needs."""
    needed = {port.name for port in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


def with_merged(graph: Graph, merged: Mapping[str, Node]) -> Graph:
    """The graph with some tensors made by other nodes; what these replace becomes unused.

    Args:
        graph: Any.
        merged: By the name of the tensor that they make.
    """
    nodes = tuple(merged.get(node.outputs[0], node) for node in graph.nodes)
    return without_unused(replace(graph, nodes=nodes))


def absorbing(node: Node, last: Node, **changes: Any) -> Node:
    """A node that also does what the one behind it did, whose output and name it takes.

    Args:
        node: What is kept.
        last: Its only reader.
        **changes: Of the node's other fields.
    """
    return replace(
        node,
        name=last.name,
        metadata=last.metadata,
        outputs=last.outputs[:1],
        absorbed=(*node.absorbed, node.name, last.name),
        **changes,
    )


def other(node: Node, name: str) -> str:
    """The input of a two-input node that is not `name`; `name` itself if both are."""
    return next((given for given in node.inputs if given != name), name)
