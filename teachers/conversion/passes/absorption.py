"""Making what follows a product or a convolution a part of its weights.

Each is a pass, graph in and graph out.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_amalgam.teachers.conversion.passes.rewriting import absorbing, other, with_merged
from keras_amalgam.teachers.onnx_files.graph import Graph, Node


def fuse_bias(graph: Graph) -> Graph:
    """Give a product with a constant matrix the vector added behind it as a third input."""
    merged: dict[str, Node] = {}
    for node in graph.nodes:
        follower = graph.only_consumer(node.outputs[0])
        if node.operator != "MatMul" or follower is None or follower.operator != "Add":
            continue
        matrix = graph.constants.get(node.inputs[1])
        bias_name = other(follower, node.outputs[0])
        bias = graph.constants.get(bias_name)
        if matrix is None or bias is None or matrix.ndim != 2:
            continue
        if bias.size == matrix.shape[1] and bias.shape[-1:] == matrix.shape[1:]:
            inputs = (*node.inputs, bias_name)
            merged[follower.outputs[0]] = absorbing(node, follower, inputs=inputs)
    return with_merged(graph, merged)


def absorb_scale(graph: Graph) -> Graph:
    """Multiply a factor per channel, as a layer scale is, into the weights before it."""
    merged: dict[str, Node] = {}
    constants = dict(graph.constants)
    for node in graph.nodes:
        product = graph.only_consumer(node.outputs[0])
        weights = [constants[name] for name in node.inputs[1:] if name in constants]
        if product is None or product.operator != "Mul" or not weights:
            continue
        factor = constants.get(other(product, node.outputs[0]))
        if factor is None or len(weights) < len(node.inputs) - 1:
            continue
        scaled = _scaled(node, weights, factor)
        if scaled is None:
            continue
        names = [f"{name}/scaled_by_{product.name}" for name in node.inputs[1:]]
        constants.update(zip(names, scaled, strict=True))
        merged[product.outputs[0]] = absorbing(node, product, inputs=(node.inputs[0], *names))
    return with_merged(replace(graph, constants=constants), merged)


def _scaled(
    node: Node, weights: Sequence[np.ndarray], factor: np.ndarray
) -> list[np.ndarray] | None:
    """Kernel and bias of a node whose outputs a factor scales, one per channel."""
    kernel = weights[0]
    if node.operator == "MatMul" and kernel.ndim == 2:
        units, is_last = kernel.shape[1], factor.shape[-1:] == kernel.shape[1:]
        along = (1, -1)
    elif node.operator == "Conv":
        units, is_last = (
            kernel.shape[0],
            factor.shape[-kernel.ndim + 1 :]
            == (
                kernel.shape[0],
                *(1,) * (kernel.ndim - 2),
            ),
        )
        along = (-1, *(1,) * (kernel.ndim - 1))
    else:
        return None
    if not is_last or factor.size != units or units == 1:
        return None
    flat = factor.reshape(-1).astype(np.float64)
    scaled = [kernel * flat.reshape(along), *(bias * flat for bias in weights[1:])]
    return [array.astype(np.float32) for array in scaled]


def fuse_batch_norm(graph: Graph) -> Graph:
    """Multiply a batch normalization into the kernel and bias of the convolution before it."""
    merged: dict[str, Node] = {}
    constants = dict(graph.constants)
    for node in graph.nodes:
        norm = graph.only_consumer(node.outputs[0])
        if node.operator != "Conv" or norm is None or norm.operator != "BatchNormalization":
            continue
        if norm.attributes.get("training_mode") or not norm.attributes.get("spatial", 1):
            continue  # It is refused where it is converted.
        if any(name not in constants for name in (*node.inputs[1:], *norm.inputs[1:])):
            continue
        convolution = [constants[name] for name in node.inputs[1:]]
        parameters = [constants[name] for name in norm.inputs[1:]]
        if any(array.shape != convolution[0].shape[:1] for array in parameters):
            continue
        names = (f"{node.name}/folded_kernel", f"{node.name}/folded_bias")
        epsilon = norm.attributes.get("epsilon", 1e-5)
        constants.update(zip(names, _folded(convolution, parameters, epsilon), strict=True))
        merged[norm.outputs[0]] = absorbing(node, norm, inputs=(node.inputs[0], *names))
    return with_merged(replace(graph, constants=constants), merged)


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
