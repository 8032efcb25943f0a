"""Transposed convolutions against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node

CASES = {  # attributes, image, kernel (channels, filters per group, height, width)
    "plain": ({}, (3, 5, 4), (3, 2, 3, 3)),
    "strides": ({"strides": [2, 2]}, (3, 5, 4), (3, 2, 2, 2)),
    "unequal_strides": ({"strides": [3, 1]}, (3, 5, 4), (3, 2, 3, 2)),
    "windows_apart": ({"strides": [3, 4]}, (3, 5, 4), (3, 2, 2, 1)),
    "twice_the_size": ({"strides": [2, 2], "pads": [1, 1, 1, 1]}, (3, 5, 4), (3, 2, 4, 4)),
    "output_padding": (
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        (3, 5, 4),
        (3, 2, 3, 3),
    ),
    "beyond_the_canvas": ({"strides": [3, 3], "output_padding": [2, 1]}, (3, 5, 4), (3, 2, 3, 4)),
    "asymmetric": ({"strides": [2, 3], "pads": [0, 2, 1, 0]}, (3, 5, 4), (3, 2, 3, 4)),
    "output_shape": (
        {"strides": [3, 2], "output_shape": [14, 9]},
        (3, 5, 4),
        (3, 2, 3, 4),
    ),
    "output_shape_upper": (
        {"strides": [3, 2], "output_shape": [14, 9], "auto_pad": "SAME_UPPER"},
        (3, 5, 4),
        (3, 2, 3, 4),
    ),
    "same_upper": ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, (3, 5, 4), (3, 2, 3, 4)),
    "same_lower": ({"strides": [2, 2], "auto_pad": "SAME_LOWER"}, (3, 5, 4), (3, 2, 3, 4)),
    "dilated": ({"strides": [2, 1], "dilations": [2, 3]}, (3, 5, 4), (3, 2, 3, 2)),
    "groups": (
        {"strides": [2, 3], "group": 2, "pads": [1, 0, 2, 1], "output_padding": [1, 0]},
        (4, 5, 4),
        (4, 3, 4, 3),
    ),
    "depthwise": (
        {"strides": [2, 2], "group": 3, "pads": [1, 1, 1, 1]},
        (3, 5, 4),
        (3, 1, 4, 4),
    ),
    "groups_cropped_within_the_window": (
        {"group": 3, "pads": [2, 2, 2, 2]},
        (3, 6, 7),
        (3, 1, 2, 3),
    ),
}


def _source(build, random, attributes, image, kernel, opset=17):
    filters = kernel[1] * attributes.get("group", 1)
    constants = {"w": random(*kernel, seed=1), "b": random(filters, seed=2)}
    node = make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="made", **attributes)
    return build([node], image, constants, opset=opset)


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("case", CASES)
def test_conv_transpose_agrees(agrees, build, random, case):
    agrees(_source(build, random, *CASES[case]))


@pytest.mark.parametrize("opset", [9, 11, 21])
def test_conv_transpose_agrees_in_every_opset(agrees, build, random, opset):
    agrees(_source(build, random, *CASES["output_padding"], opset=opset))


@pytest.mark.parametrize("group", [1, 3])
def test_conv_transpose_along_one_axis_agrees(agrees, build, random, group):
    attributes = {"strides": [2], "pads": [1, 0], "group": group}
    agrees(_source(build, random, attributes, (3, 6), (3, 2, 3)), transposes=2)


def test_conv_transpose_without_bias_has_none(agrees, build, random):
    node = make_node("ConvTranspose", ["x", "w"], ["y"])
    model = agrees(build([node], (3, 5, 4), {"w": random(3, 2, 3, 3)}))
    assert [weight.shape for weight in model.trainable_weights] == [(3, 3, 2, 3)]


@pytest.mark.parametrize("case", ["output_padding", "same_upper", "windows_apart"])
def test_conv_transpose_takes_any_image_size(agrees, build, random, case):
    attributes, _, kernel = CASES[case]
    source = _source(build, random, attributes, (3, "height", "width"), kernel)
    assert agrees(source, image=(3, 6, 7)).input_shape == (None, None, None, 3)


def test_twice_the_size_is_one_layer(agrees, build, random):
    model = agrees(_source(build, random, *CASES["twice_the_size"]))
    assert isinstance(model.get_layer("made"), keras.layers.Conv2DTranspose)
    assert len(model.layers) == 2


@pytest.mark.parametrize("case", ["plain", "dilated"])
def test_turned_kernel_is_noticed(agrees, build, random, case):
    attributes, image, kernel = CASES[case]
    model = agrees(_source(build, random, attributes, image, kernel))
    images = random(1, *image[1:], image[0])
    straight = keras.ops.convert_to_numpy(model(images))
    layer = next(layer for layer in model.layers if layer.weights)
    weights = layer.get_weights()
    layer.set_weights([weights[0][::-1, ::-1], *weights[1:]])
    assert np.abs(keras.ops.convert_to_numpy(model(images)) - straight).max() > 0.1


@pytest.mark.parametrize(
    ("attributes", "kernel", "reason"),
    [
        ({"output_shape": [14, 9], "strides": [3, 2]}, (3, 2, 3, 4), "output_shape"),
        ({"group": 3, "strides": [2, 2]}, (3, 1, 2, 2), "input_shape"),
        ({"dilations": [1, 3], "strides": [1, 3]}, (3, 2, 3, 2), "input_shape"),
    ],
)
def test_conv_transpose_that_needs_the_size_asks_for_it(
    agrees, build, random, attributes, kernel, reason
):
    source = _source(build, random, attributes, (3, "height", "width"), kernel)
    with pytest.raises(NotImplementedError, match=rf"'made'.*{reason}"):
        agrees(source)


def test_conv_transpose_with_a_kernel_that_does_not_fit_is_an_error(agrees, build, random):
    source = _source(build, random, {}, (3, 5, 4), (3, 2, 3, 3))
    source.graph.node[0].attribute.append(make_node("N", [], [], group=2).attribute[0])
    with pytest.raises(ValueError, match="does not fit"):
        agrees(source)
