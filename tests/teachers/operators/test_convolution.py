"""Convolutions against onnxruntime."""

import keras
import pytest
from onnx.helper import make_node

CASES = {
    "valid": ({}, (3, 9, 7), (4, 3, 3, 3)),
    "same": ({"pads": [1, 1, 1, 1]}, (3, 9, 7), (4, 3, 3, 3)),
    "stride_2_even": ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, (3, 8, 10), (4, 3, 3, 3)),
    "stride_2_odd": ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, (3, 9, 11), (4, 3, 3, 3)),
    "asymmetric": ({"pads": [0, 2, 1, 3], "strides": [2, 1]}, (3, 9, 8), (4, 3, 3, 5)),
    "even_kernel": ({"pads": [1, 0, 0, 1]}, (2, 6, 7), (3, 2, 2, 2)),
    "dilated": ({"pads": [2, 2, 2, 2], "dilations": [2, 2]}, (2, 9, 8), (3, 2, 3, 3)),
    "auto_pad_upper": ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (2, 8, 9), (3, 2, 3, 2)),
    "auto_pad_lower": ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, (2, 8, 9), (3, 2, 3, 2)),
    "auto_pad_valid": ({"auto_pad": "VALID"}, (2, 8, 9), (3, 2, 3, 2)),
    "groups": ({"group": 2, "pads": [1, 1, 1, 1]}, (4, 7, 7), (6, 2, 3, 3)),
    "depthwise": ({"group": 4, "pads": [1, 1, 1, 1]}, (4, 7, 7), (4, 1, 3, 3)),
    "depthwise_stride_2": (
        {"group": 4, "pads": [1, 1, 1, 1], "strides": [2, 2]},
        (4, 8, 8),
        (4, 1, 3, 3),
    ),
    "depthwise_multiplied": ({"group": 3}, (3, 7, 7), (6, 1, 3, 3)),
    "depthwise_two_strides": ({"group": 3, "strides": [2, 1]}, (3, 7, 7), (3, 1, 3, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_conv_agrees(agrees, build, random, case):
    attributes, image, kernel = CASES[case]
    constants = {"w": random(*kernel, seed=1), "b": random(kernel[0], seed=2)}
    agrees(build([make_node("Conv", ["x", "w", "b"], ["y"], **attributes)], image, constants))


def test_conv_without_bias_agrees_and_has_none(agrees, build, random):
    node = make_node("Conv", ["x", "w"], ["y"])
    model = agrees(build([node], (3, 9, 7), {"w": random(4, 3, 3, 3)}))
    assert [weight.shape for weight in model.trainable_weights] == [(3, 3, 3, 4)]


@pytest.mark.parametrize(
    ("attributes", "padded"),
    [
        ({"pads": [1, 1, 1, 1]}, False),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, False),
        ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, True),
    ],
)
def test_conv_takes_any_image_size_when_the_file_leaves_it_open(
    agrees, build, random, attributes, padded
):
    node = make_node("Conv", ["x", "w"], ["y"], **attributes)
    source = build([node], (3, "height", "width"), {"w": random(4, 3, 3, 3)})
    model = agrees(source, image=(3, 11, 9))
    assert model.input_shape == (None, None, None, 3)
    has_padding = any(isinstance(layer, keras.layers.ZeroPadding2D) for layer in model.layers)
    assert has_padding == padded


def test_depthwise_conv_becomes_a_depthwise_layer(agrees, build, random):
    node = make_node("Conv", ["x", "w"], ["y"], name="dw", group=4)
    model = agrees(build([node], (4, 5, 5), {"w": random(4, 1, 3, 3)}))
    assert isinstance(model.get_layer("dw"), keras.layers.DepthwiseConv2D)


@pytest.mark.parametrize(
    ("attributes", "image", "kernel", "reason"),
    [
        ({"strides": [2, 2], "dilations": [2, 2]}, (2, 9, 9), (3, 2, 3, 3), "together"),
        ({"pads": [1, 1]}, (2, 9), (3, 2, 3), "1 spatial axes"),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, (2, "h", "w"), (3, 2, 3, 3), "input_shape"),
    ],
)
def test_unknown_form_of_conv_is_refused_with_the_node(
    agrees, build, random, attributes, image, kernel, reason
):
    node = make_node("Conv", ["x", "w"], ["y"], name="odd", **attributes)
    source = build([node], image, {"w": random(*kernel)})
    with pytest.raises(NotImplementedError, match=rf"(?s)'Conv'.*opset 17.*'odd'.*{reason}"):
        agrees(source)


def test_conv_with_a_kernel_from_the_image_is_refused(agrees, build, random):
    nodes = [
        make_node("Conv", ["x", "w"], ["k"]),
        make_node("Conv", ["x", "k"], ["y"], name="dynamic"),
    ]
    with pytest.raises(NotImplementedError, match="input 1 depends on the image"):
        agrees(build(nodes, (3, 5, 5), {"w": random(3, 3, 3, 3)}))
