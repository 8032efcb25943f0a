"""Rearranging operators and shape arithmetic against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node, make_tensor_value_info


def test_dropout_and_identity_leave_no_layer_but_keep_their_names(agrees, build):
    nodes = [
        make_node("Relu", ["x"], ["r"], name="relu"),
        make_node("Dropout", ["r"], ["d"], name="drop"),
        make_node("Identity", ["d"], ["i"], name="same"),
        make_node("Neg", ["i"], ["y"]),
    ]
    names = agrees(build(nodes, (3, 5, 4))).provenance.names
    assert names["drop"] == names["same"] == names["i"] == names["relu"] == "relu"


def test_transpositions_around_a_convolution_disappear(agrees, build, random):
    nodes = [
        make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        make_node("Conv", ["t", "w"], ["c"]),
        make_node("Transpose", ["c"], ["u"], perm=[0, 2, 3, 1]),
        make_node("Add", ["u", "b"], ["v"]),
        make_node("Relu", ["v"], ["y"]),
    ]
    constants = {"w": random(4, 3, 3, 3), "b": random(4)}
    model = agrees(build(nodes, (7, 6, 3), constants), maps=False)
    assert model.output_shape == (None, 5, 4, 4)


def test_transposed_map_as_an_output_is_as_in_the_source(agrees, build, random):
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("ReduceMean", ["c"], ["m"], axes=[3], keepdims=0),
    ]
    agrees(build(nodes, (3, 7, 6), {"w": random(4, 3, 3, 3)}), transposes=1)


@pytest.mark.parametrize(
    "target",
    [
        [0, 12, 20],
        [0, 0, -1],
        [-1, 12, 4, 5],
        [0, 3, 4, 20],
        [1, -1],
        [0, 2, 6, 4, 5],
    ],
)
def test_reshape_agrees(agrees, build, random, target):
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("Reshape", ["c", "target"], ["r"]),
        make_node("Flatten", ["r"], ["f"]),
        make_node("Gemm", ["f", "v"], ["y"]),
    ]
    constants = {"w": random(12, 3, 1, 1), "v": random(240, 3), "target": np.array(target)}
    batch = 1 if target[0] == 1 else "batch"
    source = build(nodes, (3, 4, 5), constants, batch=batch)
    agrees(source, sizes=(1,) if batch == 1 else (1, 3))


def test_map_becomes_tokens_without_a_transposition(agrees, build, random):
    nodes = [
        make_node("Conv", ["x", "w"], ["c"], strides=[2, 2]),
        make_node("Reshape", ["c", "target"], ["r"]),
        make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        make_node("MatMul", ["t", "v"], ["y"]),
    ]
    constants = {"w": random(6, 3, 2, 2), "v": random(6, 5), "target": np.array([0, 6, -1])}
    agrees(build(nodes, (3, 8, 6), constants))


def test_channel_shuffle_transposes_once(agrees, build):
    nodes = [
        make_node("GlobalMaxPool", ["x"], ["g"]),
        make_node("Sub", ["x", "g"], ["d"]),
        make_node("Reshape", ["d", "split"], ["s"]),
        make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3, 4]),
        make_node("Reshape", ["t", "joined"], ["y"]),
    ]
    constants = {"split": np.array([0, 2, 3, 4, 5]), "joined": np.array([0, 6, 4, 5])}
    agrees(build(nodes, (6, 4, 5), constants), transposes=1)


@pytest.mark.parametrize("opset", [11, 17])
def test_squeeze_and_unsqueeze_agree(agrees, build, random, opset):
    axes = {"axes": [2, 3]} if opset < 13 else {}
    name = [] if opset < 13 else ["axes"]
    nodes = [
        make_node("GlobalAveragePool", ["x"], ["p"]),
        make_node("Squeeze", ["p", *name], ["s"], **axes),
        make_node("Gemm", ["s", "w"], ["g"]),
        make_node("Unsqueeze", ["g", *name], ["u"], **axes),
        make_node("Mul", ["x", "u"], ["y"]),
    ]
    constants = {"w": random(3, 3), "axes": np.array([2, 3])}
    agrees(build(nodes, (3, 5, 4), constants, opset=opset))


def test_squeeze_of_everything_agrees_unless_the_source_loses_the_batch(agrees, build):
    nodes = [make_node("GlobalMaxPool", ["x"], ["p"]), make_node("Squeeze", ["p"], ["y"])]
    source = build(nodes, (3, 5, 4))
    output = make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    source.graph.output[0].CopyFrom(output)  # Inferring cannot know that the batch is not one.
    agrees(source, sizes=(3,))
    with pytest.raises(ValueError, match=r"different shapes at node 'y' \(Squeeze\).*fixed number"):
        agrees(source, verify=True)


def test_batch_size_computed_in_the_graph_stays_open(agrees, build, random):
    """What older PyTorch exports write for `x.view(x.size(0), -1)`."""
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("Shape", ["c"], ["s"]),
        make_node("Constant", [], ["zero"], value_int=0),
        make_node("Gather", ["s", "zero"], ["n"], axis=0),
        make_node("Unsqueeze", ["n", "first"], ["u"]),
        make_node("Concat", ["u", "rest"], ["target"], axis=0),
        make_node("Reshape", ["c", "target"], ["f"]),
        make_node("Gemm", ["f", "v"], ["y"]),
    ]
    constants = {
        "w": random(4, 3, 3, 3),
        "v": random(4 * 3 * 2, 5),
        "first": np.array([0]),
        "rest": np.array([-1]),
    }
    model = agrees(build(nodes, (3, 5, 4), constants))
    assert model.output_shape == (None, 5)


def test_computed_spatial_size_follows_the_map(agrees, build):
    nodes = [
        make_node("Shape", ["x"], ["s"]),
        make_node("Slice", ["s", "zero", "two"], ["head"]),
        make_node("Slice", ["s", "two", "four"], ["space"]),
        make_node("ReduceProd", ["space"], ["pixels"], keepdims=1),
        make_node("Concat", ["head", "pixels"], ["target"], axis=0),
        make_node("Reshape", ["x", "target"], ["r"]),
        make_node("ReduceMean", ["r"], ["y"], axes=[2], keepdims=0),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "four": np.array([4])}
    agrees(build(nodes, (3, 5, 4), constants))


def test_reshape_of_an_open_map_asks_for_the_size(agrees, build):
    source = build([make_node("Flatten", ["x"], ["y"], name="flat")], (3, "height", "width"))
    with pytest.raises(NotImplementedError, match=r"'flat'.*Pass `input_shape=\("):
        agrees(source)
    assert agrees(source, image=(3, 5, 4), input_shape=(5, 4, 3)).output_shape == (None, 60)


@pytest.mark.parametrize(
    "node",
    [
        make_node("Reshape", ["x", "target"], ["y"]),
        make_node("Flatten", ["x"], ["y"], axis=2),
        make_node("Flatten", ["x"], ["y"], axis=-1),
    ],
)
def test_batch_merged_with_the_axes_behind_it_agrees(agrees, build, node):
    agrees(build([node], (3, 5, 4), {"target": np.array([-1, 5, 4])}), transposes=1)


def test_output_with_an_axis_before_the_batch_is_refused_by_name(agrees, build):
    node = make_node("Unsqueeze", ["x", "axes"], ["y"])
    with pytest.raises(NotImplementedError, match=r"output 'y'.*\(1, batch, 3, 5, 4\)"):
        agrees(build([node], (3, 5, 4), {"axes": np.array([0])}))


def test_cast_between_floats_is_nothing(agrees, build):
    nodes = [
        make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
        make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    assert len(agrees(build(nodes, (3, 5, 4))).layers) == 1


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL])
def test_cast_to_whole_numbers_and_back_agrees(agrees, build, kind):
    nodes = [
        make_node("Cast", ["x"], ["d"], to=kind),
        make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    agrees(build(nodes, (3, 5, 4)))


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.BOOL, TensorProto.FLOAT])
def test_cast_to_the_type_of_another_tensor_agrees(agrees, build, kind):
    nodes = [
        make_node("Cast", ["x"], ["k"], to=kind),
        make_node("CastLike", ["x", "k"], ["d"]),
        make_node("CastLike", ["two", "k"], ["c"]),
        make_node("Cast", ["d"], ["e"], to=TensorProto.FLOAT),
        make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
        make_node("Mul", ["e", "f"], ["y"]),
    ]
    agrees(build(nodes, (3, 5, 4), {"two": np.float32(2.5)}))


def test_cast_to_bfloat16_is_refused(agrees, build):
    """NumPy does not count it to its floating-point types, yet it is no integer."""
    nodes = [
        make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
        make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(NotImplementedError, match="type 'bfloat16' is not known"):
        agrees(build(nodes, (3, 5, 4)))


def test_layers_between_convolutions_are_never_permutations(network, agrees):
    model = agrees(network)
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Permute)]
