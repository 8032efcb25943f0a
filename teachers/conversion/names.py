"""From the source's names to the model's layers: nodes, tensors, and the modules around them."""

import ast
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from keras_amalgam.teachers.conversion.layout import Value
from keras_amalgam.teachers.onnx_files.graph import Graph, Node

_REPEATED = re.compile(r"(.*[^_])_\d+")


def layer_name(value: Value) -> str:
    """The Keras layer whose output a value is."""
    return value.tensor._keras_history.operation.name


def name_map(graph: Graph, original: Graph, values: Mapping[str, Value]) -> dict[str, str]:
    """Every source name that a tap may use.

    A node and its first output lead to the layer that replaces the node; a module's path, as
    `"layer4"` or `"layer4.1.relu"`, to the last node inside the module, in its last call. Where a
    module is called like a node or tensor, the name means the node or tensor. What a pass merged
    into the node behind it has no output any more, and no name; nor has the module that it ended.

    Args:
        graph: What was converted.
        original: The source's own graph, before any pass.
        values: Tensors in the model.

    Returns:
        Source name to layer name.
    """
    names = {tensor: layer_name(value) for tensor, value in values.items()}
    for node in graph.nodes:
        if value := values.get(node.outputs[0]):
            names.setdefault(node.name, layer_name(value))
    ends = module_ends(original)
    return {path: names[end] for path, end in ends.items() if end in values} | names


def module_ends(graph: Graph) -> dict[str, str]:
    """The tensor that each module ends in: of its last node, in its last call.

    Args:
        graph: The source's own. In one that passes changed, the last node that is left may lie
            inside the module.

    Returns:
        Module path to tensor name.
    """
    paths = {node.name: module_paths(node) for node in graph.nodes}
    known = {path for own in paths.values() for path in own}
    ends: dict[str, str] = {}
    for node in graph.nodes:
        if node.outputs[0] in graph.images:
            own = paths[node.name]
            for path in (*own, *_without_numbers_of_calls(own, known, graph.constants)):
                ends[path] = node.outputs[0]
    return ends


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


def _without_numbers_of_calls(
    own: Sequence[str], known: Collection[str], weights: Iterable[str]
) -> list[str]:
    """The paths of one node with the numbers of repeated calls taken off.

    Torch's older exporter calls the second use of `layer1.relu` `layer1.relu_1`. What has weights
    under that name, or no namesake without the number, is a module of its own.
    """
    found: list[str] = []
    for index, path in enumerate(own):
        inside = path.removeprefix(own[index - 1]) if index else path
        called = (found[-1] if found else "") + inside
        base = _REPEATED.fullmatch(called)
        if base and base[1] in known and not any(w.startswith(f"{called}.") for w in weights):
            called = base[1]
        found.append(called)
    return found


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
