"""Tensors of an ONNX file as a user names them, in a graph that need not be convertible."""

from collections.abc import Mapping

import onnx

from keras_amalgam.teachers.names import module_paths
from keras_amalgam.teachers.onnx_graph import Node

# Operators whose images and maps have their channels second, by the standard.
_CHANNELS_SECOND = {
    "AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace",
    "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN",
    "MaxPool", "QLinearConv", "SpaceToDepth",
}  # fmt: skip
_NEVER_A_TAP = {"Constant", "Shape"}


def tensor_names(model: onnx.ModelProto, image: str) -> dict[str, str]:
    """Every name that a tap may use, with the tensor it means.

    As after a conversion: a tensor's own name, a node's for its first output, and a module's path
    for the last node inside the module.

    Args:
        model: As read.
        image: The image's name; what does not depend on it is left out.

    Returns:
        Name to tensor, in the graph's order.
    """
    dependent = {image}
    tensors: dict[str, str] = {}
    nodes: dict[str, str] = {}
    modules: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type in _NEVER_A_TAP or not dependent & set(node.input):
            continue
        dependent |= set(node.output)
        tensors |= {name: name for name in node.output if name}
        nodes.setdefault(node.name, node.output[0])
        modules |= dict.fromkeys(module_paths(_view(node)), node.output[0])
    nodes.pop("", None)
    return modules | nodes | tensors


def has_channels_second(model: onnx.ModelProto, tensor: str, image: str, image_is: bool) -> bool:
    """Whether a tensor of four axes is `(batch, channels, height, width)`.

    Args:
        model: As read.
        tensor: Its name.
        image: The image's name.
        image_is: Whether the image is so.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    waiting, seen = [tensor], set()
    while waiting:
        name = waiting.pop(0)
        if name == image:
            return image_is
        node = producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in _CHANNELS_SECOND:
            return True
        if node.op_type == "Transpose":
            return _permutation(node) != [0, 2, 3, 1]
        waiting.extend(node.input)
    return image_is


def _permutation(node: onnx.NodeProto) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == "perm"), [])


def _view(node: onnx.NodeProto) -> Node:
    metadata: Mapping[str, str] = {entry.key: entry.value for entry in node.metadata_props}
    inputs, outputs = tuple(node.input), tuple(node.output)
    return Node(node.op_type, node.domain, 0, node.name, inputs, outputs, metadata=metadata)
