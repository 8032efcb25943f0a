"""What the fuzzer does to the constants of a graph."""

import numpy as np
import onnx
from mutations import FLOATS, INTEGERS, Random, a_node, mutation, pick
from onnx import TensorProto, helper, numpy_helper


def _tensor(model: onnx.ModelProto, random: Random) -> TensorProto | None:
    return pick(random, model.graph.initializer)


@mutation
def change_constant(model: onnx.ModelProto, random: Random) -> None:
    """Odd numbers among the weights, or in shapes."""
    tensor = _tensor(model, random)
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor).copy()
    if not array.size or array.dtype.kind not in "fiu":
        return
    index = tuple(int(random.integers(0, n)) for n in array.shape)
    if array.dtype.kind == "f":
        array[index] = pick(random, FLOATS)
    else:
        bounds = np.iinfo(array.dtype)
        array[index] = min(max(int(pick(random, INTEGERS)), bounds.min), bounds.max)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@mutation
def reshape_constant(model: onnx.ModelProto, random: Random) -> None:
    """Another shape with the right number of elements, or an empty or repeated one."""
    tensor = _tensor(model, random)
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor)
    forms = (array.reshape(-1), array[None], array[:0] if array.ndim else array, array.T)
    array = pick(random, (*forms, np.concatenate([array.reshape(-1)] * 2)))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


@mutation
def retype_constant(model: onnx.ModelProto, random: Random) -> None:
    """Another element type, with its data or without."""
    tensor = _tensor(model, random)
    if tensor is None:
        return
    types = ("float16", "float64", "int64", "int32", "uint8", "bool", "int8", "uint64")
    if random.random() < 0.7:
        with np.errstate(all="ignore"):
            array = numpy_helper.to_array(tensor).astype(str(pick(random, types)))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    else:
        tensor.data_type = int(random.integers(0, 31))


@mutation
def change_declared_shape(model: onnx.ModelProto, random: Random) -> None:
    """A shape that the data does not have."""
    tensor = _tensor(model, random)
    if tensor is None:
        return
    sizes = list(tensor.dims)
    if sizes and random.random() < 0.7:
        sizes[int(random.integers(0, len(sizes)))] = int(pick(random, INTEGERS))
    else:
        sizes.append(int(pick(random, INTEGERS)))
    tensor.dims[:] = sizes


@mutation
def as_constant_node(model: onnx.ModelProto, random: Random) -> None:
    """A constant from a node instead of an initializer."""
    tensor = _tensor(model, random)
    if tensor is not None:
        node = helper.make_node("Constant", [], [tensor.name])
        node.attribute.append(helper.make_attribute("value", tensor))
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, node)


@mutation
def as_sparse(model: onnx.ModelProto, random: Random) -> None:
    """A constant kept sparse, with odd indices."""
    tensor = _tensor(model, random)
    if tensor is not None:
        indices = np.array([int(pick(random, INTEGERS))], np.int64)
        values = numpy_helper.from_array(np.ones(1, np.float32), tensor.name)
        sparse = helper.make_sparse_tensor(
            values, numpy_helper.from_array(indices, "i"), list(tensor.dims)
        )
        model.graph.sparse_initializer.append(sparse)
        model.graph.initializer.remove(tensor)


@mutation
def insert_bomb(model: onnx.ModelProto, random: Random) -> None:
    """A constant or a map that is far larger than the file."""
    size = int(pick(random, (2**20, 2**27, 2**31, 2**40, 2**62)))
    kind = pick(random, ("ConstantOfShape", "Range", "Expand", "Tile", "Pad", "Resize", "Double"))
    shape = helper.make_node("Constant", [], ["bomb_n"], value_ints=[size])
    used = random.random() < 0.7
    target = a_node(model, random)
    nodes = [shape]
    if kind == "Range":
        ends = [helper.make_node("Constant", [], [f"bomb_{k}"], value_int=k) for k in (0, 1)]
        end = helper.make_node("Constant", [], ["bomb_e"], value_int=size)
        nodes += [*ends, end, helper.make_node("Range", ["bomb_0", "bomb_e", "bomb_1"], ["bomb"])]
    elif kind == "Double":
        nodes.append(helper.make_node("ConstantOfShape", ["bomb_n"], ["bomb0"]))
        chain = [
            helper.make_node("Concat", [f"bomb{i}", f"bomb{i}"], [f"bomb{i + 1}"], axis=0)
            for i in range(12)
        ]
        nodes += [*chain, helper.make_node("Identity", ["bomb12"], ["bomb"])]
    elif kind == "ConstantOfShape" or not target.input:
        nodes.append(helper.make_node("ConstantOfShape", ["bomb_n"], ["bomb"]))
    else:
        inputs = [target.input[0], "bomb_n"]
        if kind == "Resize":
            inputs = [target.input[0], "", "", "bomb_n"]
        nodes.append(helper.make_node(kind, inputs, ["bomb"]))
    if used and target.input:
        target.input[0] = "bomb"
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
