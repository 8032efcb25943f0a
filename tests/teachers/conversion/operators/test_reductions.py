"""Reductions, running sums and places of extremes against onnxruntime."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from onnx.helper import make_node

from keras_amalgam.teachers.conversion.operators import registry

OF_ANY = [
    *("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
]
ALL = [*OF_ANY, "ReduceLogSum"]


def _all_reductions(*axes, tensor="x", **attributes):
    """Each of them, of numbers whose product stays small; a logarithm's are positive."""
    return [
        make_node("Tanh", [tensor], ["t"]),
        *(make_node(name, ["t", *axes], [name], **attributes) for name in OF_ANY),
        make_node("Exp", ["t"], ["e"]),
        make_node("ReduceLogSum", ["e", *axes], ["ReduceLogSum"], **attributes),
    ]


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-2, -1], [1], [-1], [1, 3], [3, 2, 1]])
def test_reductions_agree(agrees, build, axes, keepdims):
    nodes = _all_reductions(axes=axes, keepdims=keepdims)
    # Without the last axis, what is left of a map comes back with its channels first.
    turns = len(ALL) if axes == [-1] and not keepdims else 0
    agrees(build(nodes, (3, 5, 4), outputs=ALL, opset=11), transposes=turns)


@pytest.mark.parametrize(("image", "axes"), [((3, 5, 4), [2, -1]), ((5, 7), [-1]), ((7,), [1])])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions_with_axes_as_an_input_agree(agrees, build, image, axes, keepdims):
    if image == (7,) and not keepdims:
        keepdims = 1  # Numbers without an axis are no output of a teacher.
    nodes = _all_reductions("axes", keepdims=keepdims)
    agrees(build(nodes, image, {"axes": np.array(axes)}, opset=18, outputs=ALL))


def test_sum_with_axes_as_an_input_agrees_in_opset_13(agrees, build):
    node = make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    agrees(build([node], (3, 5, 4), {"axes": np.array([2, 3])}, opset=13))


@pytest.mark.parametrize("inputs", [[], ["none"]])
def test_reductions_of_no_axes_agree(agrees, build, inputs):
    nodes = _all_reductions(*inputs, noop_with_empty_axes=1)
    constants = {"none": np.zeros(0, np.int64)} if inputs else {}
    agrees(build(nodes, (3, 5, 4), constants, opset=18, outputs=ALL))


def test_reductions_of_a_flattened_map_agree(agrees, build):
    nodes = [make_node("Flatten", ["x"], ["f"]), *_all_reductions(tensor="f", axes=[1])]
    agrees(build(nodes, (3, 5, 4), outputs=ALL, opset=11))


def test_mean_over_the_image_is_a_global_pooling_for_any_size(agrees, build):
    nodes = [
        make_node("MaxPool", ["x"], ["x2"], kernel_shape=[2, 2]),
        make_node("ReduceMean", ["x2"], ["y"], name="mean", axes=[2, 3]),
    ]
    model = agrees(build(nodes, (3, "h", "w")), image=(3, 6, 5))
    assert isinstance(model.get_layer("mean"), keras.layers.GlobalAveragePooling2D)


def test_reduction_over_other_axes_would_be_noticed(agrees, build, monkeypatch):
    handler = registry._HANDLERS["", "ReduceL2"][1]

    def swapped(call):
        attributes = {**call.node.attributes, "axes": [3]}
        return handler(replace(call, node=replace(call.node, attributes=attributes)))

    node = make_node("ReduceL2", ["x"], ["y"], axes=[2], keepdims=0)
    agrees(build([node], (3, 5, 5)), transposes=1)
    monkeypatch.setitem(registry._HANDLERS["", "ReduceL2"], 1, swapped)
    with pytest.raises(AssertionError, match="largest error"):
        agrees(build([node], (3, 5, 5)))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, r"names no axes, so it reduces the batch"),
        ({"axes": [0]}, r"reduces the batch \(axis 0\)"),
        ({"axes": [-4, 1]}, r"reduces the batch \(axis -4\)"),
    ],
)
@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceL2"])
def test_reduction_of_the_batch_is_refused(agrees, build, operator, attributes, reason):
    with pytest.raises(NotImplementedError, match=reason):
        agrees(build([make_node(operator, ["x"], ["y"], **attributes)], (3, 5, 4)))


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(
    ("image", "axis"), [((3, 5, 4), 1), ((3, 5, 4), -2), ((3, 7), -1), ((9,), 1)]
)
def test_place_of_the_extreme_agrees(agrees, build, operator, last, image, axis):
    nodes = [
        make_node("Round", ["x"], ["r"]),  # So that several are equal.
        make_node(operator, ["r"], ["i"], axis=axis, select_last_index=last),
        make_node("Cast", ["i"], ["y"], to=1),
    ]
    agrees(build(nodes, image, opset=13))


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_place_of_the_extreme_agrees_without_its_axis(agrees, build, operator):
    nodes = [
        make_node(operator, ["x"], ["i"], axis=1, keepdims=0),
        make_node("Cast", ["i"], ["y"], to=1),
    ]
    agrees(build(nodes, (3, 5, 4), opset=9))


def test_place_in_a_flattened_map_is_the_source_s(agrees, build):
    nodes = [
        make_node("Flatten", ["x"], ["f"]),
        make_node("ArgMax", ["f"], ["i"], axis=1),
        make_node("Cast", ["i"], ["y"], to=1),
    ]
    agrees(build(nodes, (3, 5, 4)))


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [1, -1])
def test_running_sum_agrees(agrees, build, exclusive, reverse, axis):
    attributes = {"exclusive": exclusive, "reverse": reverse}
    nodes = [
        make_node("CumSum", ["x", "axis"], ["map"], **attributes),
        make_node("Flatten", ["x"], ["f"]),
        make_node("CumSum", ["f", "one"], ["vector"], **attributes),
    ]
    constants = {"axis": np.int64(axis), "one": np.array([1])}
    agrees(build(nodes, (3, 5, 4), constants, opset=14, outputs=["map", "vector"]))


@pytest.mark.parametrize("largest", [1, 0])
@pytest.mark.parametrize("image", [(7, 5, 4), (7,)])
def test_largest_and_their_places_agree(agrees, build, image, largest):
    nodes = [
        make_node("TopK", ["x", "k"], ["values", "i"], axis=1, largest=largest),
        make_node("Cast", ["i"], ["indices"], to=1),
    ]
    constants = {"k": np.array([3])}
    agrees(build(nodes, image, constants, opset=11, outputs=["values", "indices"]))


def test_largest_alone_agree_in_opset_9(agrees, build):
    agrees(build([make_node("TopK", ["x"], ["y", "i"], axis=1, k=2)], (7, 5, 4), opset=9))


@pytest.mark.parametrize(
    "node",
    [
        make_node("ArgMax", ["x"], ["v"]),
        make_node("CumSum", ["x", "zero"], ["v"]),
        make_node("TopK", ["x", "k"], ["v", "i"], axis=0),
    ],
    ids=lambda node: node.op_type,
)
def test_places_and_sums_across_the_batch_are_refused(agrees, build, node):
    nodes = [node, make_node("Cast", ["v"], ["y"], to=1)]
    with pytest.raises(NotImplementedError, match="reduces the batch"):
        agrees(build(nodes, (3, 5, 4), {"zero": np.int64(0), "k": np.array([1])}))


def test_places_are_saved_and_read_again_and_exported_to_tflite(agrees, build, tmp_path):
    nodes = [
        make_node("ArgMax", ["x"], ["i"], axis=1, select_last_index=1),
        make_node("TopK", ["x", "k"], ["values", "j"], axis=1),
        make_node("Cast", ["i"], ["last"], to=1),
        make_node("Cast", ["j"], ["places"], to=1),
    ]
    outputs = ["last", "values", "places"]
    model = agrees(build(nodes, (7, 5, 4), {"k": np.array([3])}, outputs=outputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 5, 4, 7)).astype(np.float32)
    received, expected = again(images), model(images)
    for name in outputs:
        np.testing.assert_array_equal(received[name], expected[name])
    tf.lite.TFLiteConverter.from_keras_model(model).convert()  # Refuses operators of TensorFlow.
