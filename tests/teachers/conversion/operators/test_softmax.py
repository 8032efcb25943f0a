"""Softmax and its kin against onnxruntime."""

from dataclasses import replace

import pytest
from onnx.helper import make_node

from keras_amalgam.teachers.conversion.operators import registry


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [1, -1])
def test_softmax_agrees_along_an_axis(agrees, build, operator, axis):
    # TensorFlow itself turns the axis to the last place and back where it is another.
    source = build([make_node(operator, ["x"], ["y"], axis=axis)], (3, 5, 4))
    agrees(source, transposes=0 if axis == 1 else 2)


def test_softmax_beside_axes_of_size_one_costs_no_transposition(agrees, build):
    # Separable attention: one score for each pixel of each patch.
    agrees(build([make_node("Softmax", ["x"], ["y"], axis=3)], (1, 5, 4)), transposes=0)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("image", [(3, 5, 4), (6,)])
def test_softmax_agrees_over_the_rest_before_opset_13(agrees, build, operator, image):
    agrees(build([make_node(operator, ["x"], ["y"], axis=1)], image, opset=11))


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_softmax_of_a_constant_agrees(agrees, build, random, opset, axis):
    nodes = [make_node("Softmax", ["c"], ["s"], axis=axis), make_node("Mul", ["x", "s"], ["y"])]
    agrees(build(nodes, (3, 5, 4), {"c": random(1, 3, 5, 4)}, opset=opset))


def test_softmax_over_the_channels_of_one_pixel_agrees(agrees, build):
    nodes = [make_node("GlobalMaxPool", ["x"], ["p"]), make_node("Softmax", ["p"], ["y"], axis=1)]
    agrees(build(nodes, (6, 5, 4), opset=11))


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize(("image", "axis"), [((3, 5, 4), 1), ((3, 5, 4), -1), ((7,), 1)])
def test_hardmax_agrees(agrees, build, opset, image, axis):
    nodes = [
        make_node("Round", ["x"], ["r"]),  # So that several are equal.
        make_node("Hardmax", ["r"], ["y"], axis=axis),
    ]
    # The first of all maxima of a map is found in the source's sequence: the result is turned.
    turns = 1 if (opset, len(image), axis) == (11, 3, 1) else 0
    agrees(build(nodes, image, opset=opset), transposes=turns)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Hardmax"])
def test_shares_across_the_batch_are_refused(agrees, build, operator, opset):
    with pytest.raises(NotImplementedError, match="across the batch"):
        agrees(build([make_node(operator, ["x"], ["y"], axis=0)], (3, 5, 4), opset=opset))


def test_another_axis_would_be_noticed(agrees, build, monkeypatch):
    source = build([make_node("Softmax", ["x"], ["y"], axis=2)], (3, 5, 5))
    handler = registry._HANDLERS["", "Softmax"][13]
    monkeypatch.setitem(
        registry._HANDLERS["", "Softmax"],
        13,
        lambda call: handler(replace(call, node=replace(call.node, attributes={"axis": 3}))),
    )
    with pytest.raises(AssertionError, match="largest error"):
        agrees(source)


def test_softmax_of_one_number_is_one_without_a_warning(agrees, build):
    agrees(build([make_node("Softmax", ["x"], ["y"], axis=1)], (1, 5)))
