"""Tensors of an ONNX file as a user names them, in a graph that need not be convertible."""

import onnx

from keras_amalgam.teachers.conversion.names import module_ends
from keras_amalgam.teachers.onnx_files.graph import read_graph


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
