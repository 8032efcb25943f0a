"""From the source's names to the model's layers: nodes, tensors, and the modules around them."""

import ast
from collections.abc import Mapping

from keras_amalgam.teachers.layout import Value
from keras_amalgam.teachers.onnx_graph import Graph, Node


def layer_name(value: Value) -> str:
    """The Keras layer whose output a value is."""
    return value.tensor._keras_history.operation.name


def name_map(graph: Graph, values: Mapping[str, Value]) -> dict[str, str]:
    """Every source name that a tap may use.

    A node and its first output lead to the layer that replaces the node; a module's path, as
    `"layer4"` or `"layer4.1.relu"`, to the last node inside the module. Where a module is called
    like a node or tensor, the name means the node or tensor.

    Args:
        graph: The source.
        values: Its tensors in the model.

    Returns:
        Source name to layer name.
    """
    names = {tensor: layer_name(value) for tensor, value in values.items()}
    modules: dict[str, str] = {}
    for node in graph.nodes:
        value = values.get(node.outputs[0])
        if value is None:
            continue
        for name in (node.name, *node.absorbed):
            names.setdefault(name, layer_name(value))
        for path in module_paths(node):
            modules[path] = layer_name(value)
    return modules | names


def module_paths(node: Node) -> list[str]:
    """The modules a node stands in, outermost first, as far as the exporter wrote them down.

    Torch's newer exporter lists the scopes in the node's metadata; the older one and TensorFlow
    write them into the node's name.
    """
    recorded = node.metadata.get("pkg.torch.onnx.name_scopes")
    if recorded is not None:
        scopes = _literal_list(recorded)
        return [scope for scope in scopes[:-1] if scope]
    if node.name.startswith("/"):
        return _paths_from_torch_name(node.name)
    parts = [part for part in node.name.split("/")[:-1] if part != "StatefulPartitionedCall"]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _literal_list(text: str) -> list[str]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [str(item) for item in found] if isinstance(found, list) else []


def _paths_from_torch_name(name: str) -> list[str]:
    """`/layer4/layer4.1/relu/Relu` to `layer4`, `layer4.1`, `layer4.1.relu`.

    A child of a sequence repeats its parent's own name; any other child gives its own only.
    """
    paths: list[str] = []
    parent = ""
    for part in name.strip("/").split("/")[:-1]:
        if parent and part.startswith(parent + "."):
            path = paths[-1] + part.removeprefix(parent)
        else:
            path = f"{paths[-1]}.{part}" if paths else part
        paths.append(path)
        parent = part
    return paths
