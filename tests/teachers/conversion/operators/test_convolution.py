"""Convolutions against onnxruntime."""

import keras
import numpy as np
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
    "depthwise_two_strides_same": (
        {"group": 3, "strides": [4, 2], "auto_pad": "SAME_LOWER"},
        (3, 9, 11),
        (3, 1, 5, 4),
    ),
    "groups_asymmetric": (
        {"group": 3, "pads": [0, 2, 1, 0], "strides": [1, 2]},
        (6, 8, 9),
        (6, 2, 2, 3),
    ),
    "strides_are_dilations": (
        {"strides": [2, 3], "dilations": [2, 3], "pads": [1, 2, 0, 3]},
        (2, 11, 12),
        (3, 2, 3, 2),
    ),
    "strides_share_nothing_with_dilations": (
        {"strides": [2, 3], "dilations": [3, 2], "pads": [3, 0, 2, 1]},
        (2, 13, 12),
        (3, 2, 3, 3),
    ),
    "strides_share_half_with_dilations": (
        {"strides": [4, 2], "dilations": [2, 4]},
        (2, 13, 15),
        (3, 2, 3, 3),
    ),
    "depthwise_strides_and_dilations": (
        {"group": 3, "strides": [2, 2], "dilations": [3, 1], "pads": [2, 1, 2, 1]},
        (3, 11, 9),
        (3, 1, 3, 3),
    ),
    "groups_strides_and_dilations": (
        {"group": 2, "strides": [2, 2], "dilations": [3, 3]},
        (4, 11, 12),
        (4, 2, 3, 3),
    ),
}
LINES = {
    "same": ({"pads": [1, 1]}, (3, 9), (4, 3, 3)),
    "asymmetric": ({"pads": [0, 2], "strides": [2], "dilations": [3]}, (3, 12), (4, 3, 2)),
    "groups": ({"group": 2, "strides": [2]}, (4, 9), (6, 2, 3)),
    "depthwise": ({"group": 4, "auto_pad": "SAME_UPPER", "strides": [3]}, (4, 11), (4, 1, 3)),
}


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("case", CASES)
def test_conv_agrees(agrees, build, random, case):
    attributes, image, kernel = CASES[case]
    constants = {"w": random(*kernel, seed=1), "b": random(kernel[0], seed=2)}
    agrees(build([make_node("Conv", ["x", "w", "b"], ["y"], **attributes)], image, constants))


@pytest.mark.parametrize("case", LINES)
def test_conv_along_one_axis_agrees(agrees, build, random, case):
    attributes, image, kernel = LINES[case]
    constants = {"w": random(*kernel, seed=1), "b": random(kernel[0], seed=2)}
    node = make_node("Conv", ["x", "w", "b"], ["y"], **attributes)
    agrees(build([node], image, constants), transposes=2)  # The test's input and output.


@pytest.mark.parametrize("opset", [9, 11, 21])
def test_conv_agrees_in_every_opset(agrees, build, random, opset):
    attributes, image, kernel = CASES["asymmetric"]
    node = make_node("Conv", ["x", "w"], ["y"], **attributes)
    agrees(build([node], image, {"w": random(*kernel)}, opset=opset))


def test_turned_kernel_is_noticed(agrees, build, random):
    node = make_node("Conv", ["x", "w"], ["y"], name="made", pads=[1, 1, 1, 1])
    model = agrees(build([node], (3, 7, 6), {"w": random(4, 3, 3, 3)}))
    layer = model.get_layer("made")
    layer.set_weights([layer.get_weights()[0][::-1]])
    images = random(1, 7, 6, 3)
    turned = agrees(build([node], (3, 7, 6), {"w": random(4, 3, 3, 3)[:, :, ::-1]}))
    difference = keras.ops.convert_to_numpy(model(images) - turned(images))
    assert np.abs(difference).max() < 1e-5
    straight = agrees(build([node], (3, 7, 6), {"w": random(4, 3, 3, 3)}))
    difference = keras.ops.convert_to_numpy(model(images) - straight(images))
    assert np.abs(difference).max() > 0.1


def test_groups_are_ordinary_convolutions(agrees, build, random):
    """Keras' own grouped convolution has no fast gradient outside a GPU."""
    node = make_node("Conv", ["x", "w"], ["y"], name="made", group=2)
    model = agrees(build([node], (4, 7, 7), {"w": random(6, 2, 3, 3)}))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.groups for layer in convolutions] == [1, 1]
    assert isinstance(model.get_layer("made"), keras.layers.Concatenate)


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
        ({}, (2, 5, 5, 5), (3, 2, 3, 3, 3), "3 spatial axes"),
        ({"auto_pad": "SAME_UPPER", "dilations": [2, 2]}, (2, 9, 9), (3, 2, 3, 3), "differently"),
        (
            {"auto_pad": "SAME_UPPER", "strides": [2, 1], "group": 2},
            (2, "h", "w"),
            (2, 1, 3, 3),
            "input_shape",
        ),
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
