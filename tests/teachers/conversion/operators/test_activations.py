"""Activations against onnxruntime."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from onnx.helper import make_node, make_opsetid

from keras_amalgam.teachers.conversion.operators import registry

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
    "Selu": {},
    "Celu": {"alpha": 0.6},
    "ThresholdedRelu": {"alpha": 0.4},
    "Shrink": {},
}
OTHER_PARAMETERS = [
    ("LeakyRelu", {}),
    ("LeakyRelu", {"alpha": -0.5}),
    ("Elu", {}),
    ("Selu", {"alpha": 1.5, "gamma": 0.8}),
    ("Celu", {}),
    ("ThresholdedRelu", {}),
    ("Shrink", {"lambd": 0.7, "bias": 0.7}),
    ("Shrink", {"lambd": 0.7, "bias": 0.3}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
]


@pytest.mark.parametrize("image", [(3, 5, 4), (7,)])
def test_activations_agree(agrees, build, image):
    nodes = [make_node(name, ["x"], [name], **config) for name, config in PLAIN.items()]
    agrees(build(nodes, image, opset=18, outputs=list(PLAIN)))


def test_activations_of_older_opsets_agree(agrees, build):
    names = [name for name in PLAIN if name not in ("HardSwish", "Mish", "Celu")]
    nodes = [make_node(name, ["x"], [name], **PLAIN[name]) for name in names]
    agrees(build(nodes, (3, 5, 4), opset=10, outputs=names))


def test_activations_with_other_parameters_agree(agrees, build):
    outputs = [f"y{index}" for index in range(len(OTHER_PARAMETERS))]
    nodes = [
        make_node(name, ["x"], [output], **config)
        for output, (name, config) in zip(outputs, OTHER_PARAMETERS, strict=True)
    ]
    agrees(build(nodes, (3, 5, 4), outputs=outputs))


@pytest.mark.parametrize("alpha", [1.0, 1.7])
def test_swish_agrees(agrees, build, alpha):
    agrees(build([make_node("Swish", ["x"], ["y"], alpha=alpha)], (3, 5, 4), opset=24))


def test_selu_of_the_standard_becomes_the_named_activation(agrees, build):
    layer = agrees(build([make_node("Selu", ["x"], ["y"], name="selu")], (6,))).get_layer("selu")
    assert layer.activation is keras.activations.selu


def test_negative_threshold_is_refused(agrees, build):
    with pytest.raises(NotImplementedError, match="negative threshold"):
        agrees(build([make_node("Shrink", ["x"], ["y"], lambd=-0.5)], (6,)))


def test_another_slope_would_be_noticed(agrees, build, monkeypatch):
    source = build([make_node("Celu", ["x"], ["y"], alpha=0.6)], (3, 5, 4))
    handler = registry._HANDLERS["", "Celu"][12]
    monkeypatch.setitem(
        registry._HANDLERS["", "Celu"],
        12,
        lambda call: handler(replace(call, node=replace(call.node, attributes={"alpha": 0.61}))),
    )
    with pytest.raises(AssertionError, match="largest error"):
        agrees(source)


def test_hard_sigmoid_of_pytorch_becomes_the_named_activation(agrees, build):
    node = make_node("HardSigmoid", ["x"], ["y"], name="gate", alpha=1 / 6)
    layer = agrees(build([node], (3, 5, 4))).get_layer("gate")
    assert layer.activation is keras.activations.hard_sigmoid


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_agrees(agrees, build, approximate):
    agrees(build([make_node("Gelu", ["x"], ["y"], approximate=approximate)], (3, 5, 4), opset=20))


@pytest.mark.parametrize("operator", ["Gelu", "FastGelu", "QuickGelu", "BiasGelu", "biased"])
def test_gelus_of_the_runtime_agree(agrees, build, random, operator):
    name = "FastGelu" if operator == "biased" else operator
    inputs = ["x", "b"] if operator in ("biased", "BiasGelu") else ["x"]
    node = make_node(name, inputs, ["y"], domain="com.microsoft")
    source = build([make_node("Identity", ["x"], ["y"])], (5, 7), {"b": random(7)})
    source.graph.node[0].CopyFrom(node)  # Shape inference knows no operators of the runtime.
    source.opset_import.append(make_opsetid("com.microsoft", 1))
    agrees(source)


@pytest.mark.parametrize(
    ("shape", "image", "slopes"),
    [
        ((3, 1, 1), (3, 5, 4), 3),
        ((1,), (3, 5, 4), 3),
        ((1, 3, 1, 1), (3, 5, 4), 3),
        ((4,), (4, 5, 4), 4),
        ((5, 1), (3, 5, 4), 5),
        ((3, 5, 4), (3, 5, 4), 60),
        ((6,), (6,), 6),
        ((3, 1), (3, 7), 3),
    ],
)
def test_prelu_agrees_and_trains_its_slopes(agrees, build, random, shape, image, slopes):
    model = agrees(build([make_node("PRelu", ["x", "s"], ["y"])], image, {"s": random(*shape)}))
    assert model.count_params() == slopes


def test_prelu_of_a_flattened_map_agrees(agrees, build, random):
    nodes = [make_node("Flatten", ["x"], ["f"]), make_node("PRelu", ["f", "s"], ["y"])]
    agrees(build(nodes, (3, 5, 4), {"s": random(60)}))


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


@pytest.mark.parametrize("bounds", [{"min": 0.0, "max": 0.6}, {"max": 0.6}, {"min": -0.2}, {}])
def test_clip_with_attributes_agrees(agrees, build, bounds):
    agrees(build([make_node("Clip", ["x"], ["y"], **bounds)], (3, 5, 4), opset=9))
