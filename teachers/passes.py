"""What is done to a source graph before it is converted: a list of passes, graph in, graph out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from keras_amalgam.teachers.folding import fold_constants
from keras_amalgam.teachers.onnx_graph import Graph, Node

Pass = Callable[[Graph], Graph]


def simplified(graph: Graph, fold_batch_norm: bool = False) -> Graph:
    """The graph after all passes.

    Args:
        graph: As read.
        fold_batch_norm: Whether a batch normalization becomes part of the convolution before it.
    """
    passes: list[Pass] = [without_unused, fold_constants, fuse_gelu, fuse_bias]
    if fold_batch_norm:
        passes.append(fuse_batch_norm)
    for run in (*passes, without_unused):
        graph = run(graph)
    return graph


def without_unused(graph: Graph) -> Graph:
    """Leave out nodes that no output needs."""
    needed = {port.name for port in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


def fuse_bias(graph: Graph) -> Graph:
    """Give a product with a constant matrix the vector added behind it as a third input."""
    merged: dict[str, Node] = {}
    for node in graph.nodes:
        follower = graph.only_consumer(node.outputs[0])
        if node.operator != "MatMul" or follower is None or follower.operator != "Add":
            continue
        matrix = graph.constants.get(node.inputs[1])
        bias_name = _other(follower, node.outputs[0])
        bias = graph.constants.get(bias_name)
        if matrix is None or bias is None or matrix.ndim != 2:
            continue
        if bias.size == matrix.shape[1] and bias.shape[-1:] == matrix.shape[1:]:
            merged[follower.outputs[0]] = replace(
                node,
                inputs=(*node.inputs, bias_name),
                outputs=follower.outputs,
                absorbed=(follower.name,),
            )
    return _with_merged(graph, merged)


def fuse_gelu(graph: Graph) -> Graph:
    """Recognise `0.5·x·(1 + erf(x/√2))`, which older exports spell out, as one operator."""
    merged: dict[str, Node] = {}
    for node in graph.nodes:
        found = _gelu_around(graph, node) if node.operator == "Erf" else None
        if found is not None:
            source, last = found
            merged[last.outputs[0]] = replace(
                last, operator="Gelu", opset=max(last.opset, 20), inputs=(source,), attributes={}
            )
    return _with_merged(graph, merged)


def fuse_batch_norm(graph: Graph) -> Graph:
    """Multiply a batch normalization into the kernel and bias of the convolution before it."""
    merged: dict[str, Node] = {}
    constants = dict(graph.constants)
    for node in graph.nodes:
        norm = graph.only_consumer(node.outputs[0])
        if node.operator != "Conv" or norm is None or norm.operator != "BatchNormalization":
            continue
        if any(name not in constants for name in (*node.inputs[1:], *norm.inputs[1:])):
            continue
        convolution = [constants[name] for name in node.inputs[1:]]
        parameters = [constants[name] for name in norm.inputs[1:]]
        if any(array.shape != convolution[0].shape[:1] for array in parameters):
            continue
        names = (f"{node.name}/folded_kernel", f"{node.name}/folded_bias")
        epsilon = norm.attributes.get("epsilon", 1e-5)
        constants.update(zip(names, _folded(convolution, parameters, epsilon), strict=True))
        merged[norm.outputs[0]] = replace(
            node,
            inputs=(node.inputs[0], *names),
            outputs=norm.outputs[:1],
            absorbed=(norm.name,),
        )
    return _with_merged(replace(graph, constants=constants), merged)


def _folded(
    convolution: Sequence[np.ndarray], parameters: Sequence[np.ndarray], epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias that do what the convolution and the normalization did."""
    kernel, *bias = (array.astype(np.float64) for array in convolution)
    scale, offset, mean, variance = (array.astype(np.float64) for array in parameters)
    factor = scale / np.sqrt(variance + epsilon)
    kernel = kernel * factor.reshape(-1, *(1,) * (kernel.ndim - 1))
    bias = (sum(bias, np.zeros(())) - mean) * factor + offset
    return kernel.astype(np.float32), bias.astype(np.float32)


def _with_merged(graph: Graph, merged: dict[str, Node]) -> Graph:
    """The graph with the makers of some tensors replaced; what they replace becomes unused."""
    nodes = tuple(merged.get(node.outputs[0], node) for node in graph.nodes)
    return without_unused(replace(graph, nodes=nodes))


def _other(node: Node, name: str) -> str:
    """The input of a two-input node that is not `name`; `name` itself if both are."""
    return next((given for given in node.inputs if given != name), name)


def _gelu_around(graph: Graph, erf: Node) -> tuple[str, Node] | None:
    """The tensor that enters the GELU around an `Erf`, and the GELU's last node."""
    scaled = graph.producers.get(erf.inputs[0])
    plus_one = graph.only_consumer(erf.outputs[0])
    if scaled is None or plus_one is None or plus_one.operator != "Add":
        return None
    source, divisor = _scaled_input(graph, scaled)
    if source is None or not np.isclose(divisor, np.sqrt(2), rtol=1e-3):
        return None
    if graph.scalar(_other(plus_one, erf.outputs[0])) != 1.0:
        return None
    factor, meets_source, last = 1.0, False, plus_one
    while (multiply := graph.only_consumer(last.outputs[0])) is not None:
        if multiply.operator != "Mul":
            break
        number, tensor = _as_multiple(graph, _other(multiply, last.outputs[0]))
        if tensor not in (None, source) or (tensor == source and meets_source):
            break
        factor, meets_source, last = factor * number, meets_source or tensor == source, multiply
        if meets_source and np.isclose(factor, 0.5):
            return source, last
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
