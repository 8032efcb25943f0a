"""Recognising what exporters spell out: one operator in place of a group of nodes.

Each is a pass, graph in and graph out. What is not exactly the pattern stays as it is.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from keras_amalgam.teachers.conversion.passes.rewriting import other, with_merged
from keras_amalgam.teachers.onnx_files.graph import Graph, Node


def fuse_gelu(graph: Graph) -> Graph:
    """Recognise `0.5·x·(1 + erf(x/√2))`, which older exports spell out, as one operator."""
    return _fused(graph, "Erf", _gelu)


def fuse_layer_norm(graph: Graph) -> Graph:
    """Recognise `(x - mean) / sqrt(variance + epsilon) · scale + offset` over the last axis."""
    return _fused(graph, "Sqrt", _layer_norm)


def fuse_group_norm(graph: Graph) -> Graph:
    """Recognise a group norm in an instance norm of groups, with scale and offset of channels.

    The reshapes around it would run through the channels first, against the layout of the model.
    """
    return _fused(graph, "InstanceNormalization", _group_norm)


def _fused(
    graph: Graph, operator: str, find: Callable[[Graph, Node], tuple[Node, Node] | None]
) -> Graph:
    """Replace the groups found around each node of an operator.

    Args:
        graph: Any.
        operator: What each group has exactly one of.
        find: Gives the new node, whose second and third inputs, if any, are weights per channel,
            and the last old one; or nothing.
    """
    merged: dict[str, Node] = {}
    vectors: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        made = find(graph, node) if node.operator == operator and not node.domain else None
        if made is None:
            continue
        new, last = made
        given = new.inputs[1:3]
        weights = {f"{name}/vector": graph.constants[name].reshape(-1) for name in given}
        vectors |= weights
        merged[last.outputs[0]] = replace(new, inputs=(new.inputs[0], *weights, *new.inputs[3:]))
    return with_merged(replace(graph, constants={**graph.constants, **vectors}), merged)


def _gelu(graph: Graph, erf: Node) -> tuple[Node, Node] | None:
    scaled = graph.producers.get(erf.inputs[0])
    plus_one = graph.only_consumer(erf.outputs[0])
    if scaled is None or plus_one is None or plus_one.operator != "Add":
        return None
    source, divisor = _scaled_input(graph, scaled)
    if source is None or not np.isclose(divisor, np.sqrt(2), rtol=1e-3):
        return None
    if graph.scalar(other(plus_one, erf.outputs[0])) != 1.0:
        return None
    factor, meets_source, last = 1.0, False, plus_one
    while (multiply := graph.only_consumer(last.outputs[0])) is not None:
        if multiply.operator != "Mul":
            break
        number, tensor = _as_multiple(graph, other(multiply, last.outputs[0]))
        if tensor not in (None, source) or (tensor == source and meets_source):
            break
        factor, meets_source, last = factor * number, meets_source or tensor == source, multiply
        if meets_source and np.isclose(factor, 0.5):
            gelu = replace(
                last, operator="Gelu", opset=max(last.opset, 20), inputs=(source,), attributes={}
            )
            return gelu, last
    return None


def _scaled_input(graph: Graph, node: Node) -> tuple[str | None, float]:
    """`x` and `c` of a node that computes `x / c`."""
    constants = [graph.scalar(name) for name in node.inputs]
    if node.operator == "Div" and constants[1]:
        return node.inputs[0], constants[1]
    if node.operator == "Mul":
        for name, number in zip(node.inputs, reversed(constants), strict=True):
            if number:
                return name, 1 / number
    return None, 0.0


def _as_multiple(graph: Graph, name: str) -> tuple[float, str | None]:
    """A tensor as `number · tensor`: a constant has no tensor, an ordinary one the number 1."""
    number = graph.scalar(name)
    if number is not None:
        return number, None
    node = graph.producers.get(name)
    if node is not None and node.operator == "Mul":
        source, divisor = _scaled_input(graph, node)
        if source is not None:
            return 1 / divisor, source
    return 1.0, name


def _layer_norm(graph: Graph, root: Node) -> tuple[Node, Node] | None:
    shifted = _made_by(graph, root.inputs[0], "Add")
    epsilon = None if shifted is None else _number_in(graph, shifted)
    variance = (
        None if shifted is None else _made_by(graph, _tensor_in(graph, shifted), "ReduceMean")
    )
    square = None if variance is None else _made_by(graph, variance.inputs[0], "Pow", "Mul")
    divided = graph.only_consumer(root.outputs[0])
    if epsilon is None or variance is None or square is None or divided is None:
        return None
    difference = _made_by(graph, square.inputs[0], "Sub")
    is_square = (
        graph.scalar(square.inputs[1]) == 2.0
        if square.operator == "Pow"
        else square.inputs[0] == square.inputs[1]
    )
    if difference is None or not is_square or divided.operator != "Div":
        return None
    source, mean = difference.inputs[0], _made_by(graph, difference.inputs[1], "ReduceMean")
    if mean is None or mean.inputs[0] != source or divided.inputs[0] != difference.outputs[0]:
        return None
    if not (_is_over_last_axis(graph, mean) and _is_over_last_axis(graph, variance)):
        return None
    found = _scale_and_offset(graph, divided)
    if found is None or any(graph.constants[name].ndim != 1 for name in found[:2]):
        return None
    scale, offset, last = found
    norm = replace(
        last,
        operator="LayerNormalization",
        opset=max(last.opset, 17),
        inputs=(source, scale, offset),
        attributes={"axis": -1, "epsilon": epsilon},
    )
    return norm, last


def _group_norm(graph: Graph, norm: Node) -> tuple[Node, Node] | None:
    grouped = _made_by(graph, norm.inputs[0], "Reshape")
    ungrouped = graph.only_consumer(norm.outputs[0])
    scale, offset = (graph.constants.get(name) for name in norm.inputs[1:3])
    if grouped is None or ungrouped is None or ungrouped.operator != "Reshape":
        return None
    sizes = graph.constants.get(grouped.inputs[1])
    if scale is None or offset is None or sizes is None or sizes.size != 3:
        return None
    if not (np.all(scale == 1) and np.all(offset == 0)) or sizes.reshape(-1)[1] != scale.size:
        return None
    found = _scale_and_offset(graph, ungrouped)
    if found is None or found[0] == found[1]:
        return None
    factors, offsets, last = found
    shapes = {graph.constants[name].shape for name in (factors, offsets)}
    if len(shapes) > 1 or (shape := shapes.pop())[1:] != (1, 1):
        return None
    restored = graph.constants.get(ungrouped.inputs[1])
    if restored is not None and (restored.size != 4 or restored.reshape(-1)[1] != shape[0]):
        return None
    made = replace(
        last,
        operator="GroupNormalization",
        opset=max(last.opset, 21),
        # The sizes may be computed, so that only the operator can tell whether they are its own.
        inputs=(grouped.inputs[0], factors, offsets, ungrouped.inputs[1]),
        attributes={
            "num_groups": int(scale.size),
            "epsilon": norm.attributes.get("epsilon", 1e-5),
        },
    )
    return made, last


def _scale_and_offset(graph: Graph, node: Node) -> tuple[str, str, Node] | None:
    """The constants of a product and a sum behind a node, and the sum."""
    product = graph.only_consumer(node.outputs[0])
    if product is None or product.operator != "Mul":
        return None
    total = graph.only_consumer(product.outputs[0])
    if total is None or total.operator != "Add":
        return None
    scale, offset = other(product, node.outputs[0]), other(total, product.outputs[0])
    if scale not in graph.constants or offset not in graph.constants:
        return None
    return scale, offset, total


def _made_by(graph: Graph, tensor: str | None, *operators: str) -> Node | None:
    """The node that makes a tensor, if it is of one of the operators."""
    node = graph.producers.get(tensor or "")
    return node if node is not None and node.operator in operators else None


def _number_in(graph: Graph, node: Node) -> float | None:
    """The one-element constant among a node's inputs."""
    return next((n for n in map(graph.scalar, node.inputs) if n is not None), None)


def _tensor_in(graph: Graph, node: Node) -> str | None:
    """The input that is no constant."""
    return next((name for name in node.inputs if name not in graph.constants), None)


def _is_over_last_axis(graph: Graph, mean: Node) -> bool:
    axes = mean.attributes.get("axes")
    if len(mean.inputs) > 1:
        given = graph.constants.get(mean.inputs[1])
        axes = None if given is None else given.reshape(-1).tolist()
    return axes == [-1] and bool(mean.attributes.get("keepdims", 1))
