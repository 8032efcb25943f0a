"""Tensors of an ONNX file as a user names them, in a graph that need not be convertible."""

import onnx

from keras_amalgam.teachers.names import module_ends
from keras_amalgam.teachers.onnx_graph import read_graph

# Operators whose images and maps have their channels second, by the standard.
_CHANNELS_SECOND = {
    "AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace",
    "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN",
    "MaxPool", "QLinearConv", "SpaceToDepth",
}  # fmt: skip


def tensor_names(model: onnx.ModelProto) -> dict[str, str]:
    """Every name that a tap may use, with the tensor it means.

    As after a conversion: a tensor's own name, a node's for its first output, and a module's path
    for the last node inside the module. What does not depend on the image is left out.

    Args:
        model: As read.

    Returns:
        Name to tensor, in the graph's order.
    """
    graph = read_graph(model)
    made = [node for node in graph.nodes if graph.images.intersection(node.outputs)]
    nodes = {node.name: node.outputs[0] for node in reversed(made)}
    return module_ends(graph) | nodes | {name: name for n in made for name in n.outputs if name}


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
