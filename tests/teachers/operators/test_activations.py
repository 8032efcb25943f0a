"""Activations against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node

PLAIN = {
    "Relu": {},
    "LeakyRelu": {"alpha": 0.2},
    "Elu": {"alpha": 0.7},
    "Sigmoid": {},
    "Tanh": {},
    "Softplus": {},
    "Softsign": {},
    "HardSwish": {},
    "HardSigmoid": {},
    "Mish": {},
    "Erf": {},
    "Exp": {},
    "Abs": {},
    "Neg": {},
}


@pytest.mark.parametrize("operator", PLAIN)
def test_activation_agrees(agrees, build, operator):
    node = make_node(operator, ["x"], ["y"], **PLAIN[operator])
    agrees(build([node], (3, 5, 4), opset=18))


@pytest.mark.parametrize("operator", ["Sqrt", "Log", "Reciprocal"])
def test_function_of_positive_numbers_agrees(agrees, build, operator):
    nodes = [make_node("Exp", ["x"], ["e"]), make_node(operator, ["e"], ["y"])]
    agrees(build(nodes, (3, 5, 4)))


def test_hard_sigmoid_of_pytorch_becomes_the_named_activation(agrees, build):
    node = make_node("HardSigmoid", ["x"], ["y"], name="gate", alpha=1 / 6)
    layer = agrees(build([node], (3, 5, 4))).get_layer("gate")
    assert layer.activation is keras.activations.hard_sigmoid


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_agrees(agrees, build, approximate):
    agrees(build([make_node("Gelu", ["x"], ["y"], approximate=approximate)], (3, 5, 4), opset=20))


@pytest.mark.parametrize(
    ("shape", "image"),
    [((3, 1, 1), (3, 5, 4)), ((1,), (3, 5, 4)), ((1, 3, 1, 1), (3, 5, 4)), ((6,), (6,))],
)
def test_prelu_agrees_and_trains_its_slopes(agrees, build, random, shape, image):
    model = agrees(build([make_node("PRelu", ["x", "s"], ["y"])], image, {"s": random(*shape)}))
    assert model.count_params() == image[0]


@pytest.mark.parametrize(
    ("bounds", "layer"),
    [
        (("zero", "six"), keras.layers.ReLU),
        (("zero", ""), keras.layers.ReLU),
        (("minus", "six"), keras.layers.Identity),
        (("", "six"), keras.layers.Identity),
    ],
)
def test_clip_agrees(agrees, build, bounds, layer):
    constants = {"zero": np.float32(0), "six": np.float32(0.6), "minus": np.float32(-0.5)}
    source = build([make_node("Clip", ["x", *bounds], ["y"], name="clip")], (3, 5, 4), constants)
    assert isinstance(agrees(source).get_layer("clip"), layer)


def test_clip_with_attributes_agrees(agrees, build):
    agrees(build([make_node("Clip", ["x"], ["y"], min=0.0, max=0.6)], (3, 5, 4), opset=9))


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [1, -1])
def test_softmax_agrees_along_an_axis(agrees, build, operator, axis):
    # TensorFlow itself turns the axis to the last place and back where it is another.
    source = build([make_node(operator, ["x"], ["y"], axis=axis)], (3, 5, 4))
    agrees(source, transposes=0 if axis == 1 else 2)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("image", [(3, 5, 4), (6,)])
def test_softmax_agrees_over_the_rest_before_opset_13(agrees, build, operator, image):
    agrees(build([make_node(operator, ["x"], ["y"], axis=1)], image, opset=11))


def test_softmax_over_the_channels_of_one_pixel_agrees(agrees, build):
    nodes = [make_node("GlobalMaxPool", ["x"], ["p"]), make_node("Softmax", ["p"], ["y"], axis=1)]
    agrees(build(nodes, (6, 5, 4), opset=11))
