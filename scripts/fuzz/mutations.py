"""What the fuzzer does to a file: changes of bytes, and changes of the graph that they encode."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

Random = np.random.Generator
Mutation = Callable[[onnx.ModelProto, Random], None]

INTEGERS = (0, -1, 1, 2, 3, -2, 7, 1000, 2**24, 2**31 - 1, 2**31, 2**40, -(2**63), 2**63 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e30, -1e38, float("nan"), float("inf"), -float("inf"))
NAMES = ("", "/", "a b", "ä", "\x00", "x", "y", "../../x", "layer:0", "\u202e", "n" * 5000, "None")
OPERATORS = (
    *("Add", "Relu", "Conv", "MatMul", "Reshape", "Transpose", "Concat", "Slice", "Gather", "Pad"),
    *("Resize", "Expand", "Tile", "Softmax", "MaxPool", "Split", "Squeeze", "Cast", "Range"),
    *("If", "Loop", "Scan", "NonZero", "RandomNormal", "ConstantOfShape", "Shape", "Where", "Div"),
    *("Mod", "Pow", "TopK", "CumSum", "Einsum", "ConvTranspose", "LSTM", "QuantizeLinear"),
    *("Identity", "Flatten", "GlobalAveragePool", "BatchNormalization", "Gemm", "NoSuchOperator"),
)

STRUCTURAL: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    """Register a change of the graph under its function's name."""
    STRUCTURAL[function.__name__] = function
    return function


def mutate_bytes(content: bytes, other: bytes, random: Random) -> bytes:
    """Flip, cut out, insert, or join with another file.

    Args:
        content: The file.
        other: Another file of the corpus.
        random: Where and how.
    """
    data = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        at = int(random.integers(0, len(data) + 1))
        length = int(random.integers(1, 9))
        kind = random.integers(0, 6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << int(random.integers(0, 8))
        elif kind == 1:
            data[at:] = b""
        elif kind == 2:
            data[at : at + length] = b""
        elif kind == 3:
            data[at:at] = random.bytes(length)
        elif kind == 4:
            cut = int(random.integers(0, len(other) + 1))
            data[at:] = other[cut:]
        else:
            data[at : at + length] = random.bytes(length)
    return bytes(data)


def pick(random: Random, things):
    """One of the things; None if there is none."""
    things = list(things)
    return things[int(random.integers(0, len(things)))] if things else None


def a_node(model: onnx.ModelProto, random: Random) -> onnx.NodeProto:
    """Any node; a new one in an empty graph."""
    return pick(random, model.graph.node) or model.graph.node.add(op_type="Relu")


def _names(model: onnx.ModelProto) -> list[str]:
    made = [name for node in model.graph.node for name in node.output]
    ports = [port.name for port in (*model.graph.input, *model.graph.output)]
    return [*made, *ports, *(tensor.name for tensor in model.graph.initializer)]


def _value(random: Random, old):
    """Another value of the same kind, mostly."""
    if isinstance(old, (list, tuple)) or random.random() < 0.1:
        items = list(old) if isinstance(old, (list, tuple)) else [old]
        kind = random.integers(0, 4)
        if kind == 0 or not items:
            return [*items, int(pick(random, INTEGERS))]
        if kind == 1 and len(items) > 1:
            return items[:-1]
        at = int(random.integers(0, len(items)))
        return [*items[:at], _value(random, items[at]), *items[at + 1 :]]
    if isinstance(old, float):
        return float(pick(random, FLOATS))
    if isinstance(old, (bytes, str)):
        return pick(random, ("", "SAME_UPPER", "SAME_LOWER", "VALID", "reflect", "linear", "ä"))
    return int(pick(random, INTEGERS))


@mutation
def change_attribute(model: onnx.ModelProto, random: Random) -> None:
    """Another value, or another type."""
    node = a_node(model, random)
    attribute = pick(random, node.attribute)
    if attribute is None:
        node.attribute.append(helper.make_attribute("axis", int(pick(random, INTEGERS))))
        return
    old = helper.get_attribute_value(attribute)
    new = _value(random, old if random.random() < 0.9 else 1)
    try:
        changed = helper.make_attribute(attribute.name, new)
    except (TypeError, ValueError):
        changed = helper.make_attribute(attribute.name, 1)
    attribute.CopyFrom(changed)


@mutation
def remove_attribute(model: onnx.ModelProto, random: Random) -> None:
    """One attribute less."""
    node = a_node(model, random)
    if node.attribute:
        del node.attribute[int(random.integers(0, len(node.attribute)))]


@mutation
def add_attribute(model: onnx.ModelProto, random: Random) -> None:
    """One that may mean nothing, or that means much."""
    known = ("axis", "axes", "group", "dilations", "ceil_mode", "auto_pad", "keepdims", "transA")
    name = pick(random, (*known, "training_mode", "allowzero", "count_include_pad", "mode"))
    value = pick(random, (1, 2, -1, [1, 1], [2, 2], [0], "SAME_LOWER", 0.5, [1] * 40))
    a_node(model, random).attribute.append(helper.make_attribute(name, value))


@mutation
def add_subgraph(model: onnx.ModelProto, random: Random) -> None:
    """A graph inside a node, nested a few times."""
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "inner", [], [])
    for _ in range(int(random.integers(1, 40))):
        inner = helper.make_node("If", ["x"], ["z"])
        inner.attribute.append(helper.make_attribute("then_branch", graph))
        graph = helper.make_graph([inner], "inner", [], [])
    a_node(model, random).attribute.append(helper.make_attribute("body", graph))


@mutation
def change_inputs(model: onnx.ModelProto, random: Random) -> None:
    """Swap, remove, leave out, or repeat inputs."""
    node = a_node(model, random)
    names = list(node.input)
    kind = random.integers(0, 4)
    if kind == 0:
        random.shuffle(names)
    elif kind == 1:
        names = names[:-1]
    elif kind == 2 and names:
        names[int(random.integers(0, len(names)))] = ""
    else:
        names = [*names, *names[-1:]] * int(random.integers(1, 3))
    node.input[:] = names


@mutation
def rewire(model: onnx.ModelProto, random: Random) -> None:
    """Read any other tensor, perhaps one that comes later."""
    node = a_node(model, random)
    if node.input:
        node.input[int(random.integers(0, len(node.input)))] = pick(random, _names(model))


@mutation
def change_outputs(model: onnx.ModelProto, random: Random) -> None:
    """More, fewer, empty or repeated outputs of a node."""
    node = a_node(model, random)
    node.output[:] = pick(
        random, ([], ["", *node.output], [*node.output, "more"], [*node.output, *node.output], [""])
    )


@mutation
def change_graph_outputs(model: onnx.ModelProto, random: Random) -> None:
    """Any tensor as a further or as the only output."""
    if random.random() < 0.5:
        del model.graph.output[:]
    name = pick(random, _names(model)) or "x"
    shape = pick(random, (None, [], ["b", 4], [1, 2, 3, 4], [-1]))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


@mutation
def change_input_shape(model: onnx.ModelProto, random: Random) -> None:
    """Odd sizes, another rank, another type."""
    port = pick(random, model.graph.input)
    if port is None:
        return
    dims = port.type.tensor_type.shape.dim
    kind = random.integers(0, 5)
    if kind == 0 and dims:
        del dims[int(random.integers(0, len(dims)))]
    elif kind == 1:
        dims.add(dim_value=int(pick(random, INTEGERS)))
    elif kind == 2:
        port.type.tensor_type.elem_type = int(random.integers(0, 30))
    elif dims:
        chosen = pick(random, dims)
        if random.random() < 0.3:
            chosen.dim_param = "open"
        else:
            chosen.dim_value = int(pick(random, INTEGERS))


@mutation
def change_ports(model: onnx.ModelProto, random: Random) -> None:
    """No tensors, doubled inputs, shapes that nobody gave."""
    ports = pick(random, (model.graph.input, model.graph.output, model.graph.value_info))
    kind = random.integers(0, 4)
    if kind == 0 and ports:
        ports.append(pick(random, ports))
    elif kind == 1 and ports:
        element = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
        pick(random, ports).type.CopyFrom(helper.make_sequence_type_proto(element))
    elif kind == 2 and ports:
        pick(random, ports).ClearField("type")
    elif ports:
        del ports[int(random.integers(0, len(ports)))]


@mutation
def change_operator(model: onnx.ModelProto, random: Random) -> None:
    """Another operator, or another domain."""
    node = a_node(model, random)
    if random.random() < 0.8:
        others = [n.op_type for n in model.graph.node]
        node.op_type = pick(random, (*OPERATORS, *others))
    else:
        node.domain = pick(random, ("com.microsoft", "ai.onnx", "ai.onnx.ml", "local", "ä"))


@mutation
def change_versions(model: onnx.ModelProto, random: Random) -> None:
    """Another opset, another version of the format."""
    kind = random.integers(0, 4)
    if kind == 0:
        model.ir_version = int(pick(random, (0, 1, 3, 7, 10, 14, 99, 2**40, -1)))
    elif kind == 1:
        del model.opset_import[:]
    elif kind == 2:
        model.opset_import.add(domain="", version=int(random.integers(1, 30)))
    elif model.opset_import:
        model.opset_import[0].version = int(pick(random, (*range(1, 30), 0, -1, 2**40)))


@mutation
def delete_node(model: onnx.ModelProto, random: Random) -> None:
    """One node less."""
    if model.graph.node:
        del model.graph.node[int(random.integers(0, len(model.graph.node)))]


@mutation
def repeat_node(model: onnx.ModelProto, random: Random) -> None:
    """A node twice, chained to itself, unused, or unchanged."""
    node = onnx.NodeProto()
    node.CopyFrom(a_node(model, random))
    if node.output and random.random() < 0.7:
        if node.input and random.random() < 0.6:
            node.input[0] = node.output[0]
        node.output[0] += "_again"
        if random.random() < 0.6:
            shape = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
            model.graph.output.append(shape)
    model.graph.node.append(node)


@mutation
def shuffle_nodes(model: onnx.ModelProto, random: Random) -> None:
    """Two nodes change places."""
    nodes = list(model.graph.node)
    if len(nodes) > 1:
        one, other = random.choice(len(nodes), 2, replace=False)
        nodes[one], nodes[other] = nodes[other], nodes[one]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(copies)


@mutation
def rename(model: onnx.ModelProto, random: Random) -> None:
    """An odd name, given to a node, or to a tensor wherever it stands."""
    new = pick(random, NAMES)
    if random.random() < 0.4:
        a_node(model, random).name = new
        return
    old = pick(random, _names(model))
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for thing in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        thing.name = new if thing.name == old else thing.name


@mutation
def change_metadata(model: onnx.ModelProto, random: Random) -> None:
    """Scopes that are no list."""
    texts = (
        "[" * 500,
        "['a'," * 20_000,
        "9**9**9",
        "\x00",
        "[[]]",
        "{}",
        "['', 1, None]",
        "-" * 9999,
    )
    a_node(model, random).metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value=str(pick(random, texts))
    )
