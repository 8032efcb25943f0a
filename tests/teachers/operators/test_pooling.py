"""Poolings against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node

ZERO = np.float32(0)
WINDOWS = {
    "plain": ({"kernel_shape": [2, 2], "strides": [2, 2]}, (3, 8, 9)),
    "overlapping": ({"kernel_shape": [3, 3], "strides": [2, 2]}, (3, 9, 9)),
    "padded_even": (
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        (3, 8, 10),
    ),
    "padded_odd": ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, (3, 9, 7)),
    "asymmetric": (
        {"kernel_shape": [3, 4], "strides": [2, 1], "pads": [0, 2, 2, 1]},
        (2, 9, 8),
    ),
    "same_upper": (
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        (2, 8, 9),
    ),
    "same_lower": (
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
        (2, 8, 9),
    ),
    "stride_1": ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, (2, 6, 5)),
    "ceil": ({"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, (2, 7, 8)),
    "ceil_wide": ({"kernel_shape": [3, 3], "strides": [3, 3], "ceil_mode": 1}, (2, 7, 8)),
    "ceil_padded": (
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        (2, 8, 10),
    ),
    "ceil_window_in_padding": (
        {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        (2, 5, 6),
    ),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_max_pool_agrees_on_negative_maps(agrees, build, case):
    attributes, image = WINDOWS[case]
    agrees(build([make_node("MaxPool", ["x"], ["y"], **attributes)], image))


@pytest.mark.parametrize("case", WINDOWS)
def test_max_pool_agrees_behind_relu(agrees, build, case):
    attributes, image = WINDOWS[case]
    nodes = [make_node("Relu", ["x"], ["r"]), make_node("MaxPool", ["r"], ["y"], **attributes)]
    agrees(build(nodes, image))


@pytest.mark.parametrize("counts_pads", [0, 1])
@pytest.mark.parametrize("case", WINDOWS)
def test_average_pool_agrees(agrees, build, case, counts_pads):
    attributes, image = WINDOWS[case]
    node = make_node("AveragePool", ["x"], ["y"], count_include_pad=counts_pads, **attributes)
    agrees(build([node], image, opset=19))


def _pooled_layers(build, agrees, before):
    nodes = [*before, make_node("MaxPool", ["r"], ["y"], **WINDOWS["padded_even"][0])]
    return [type(layer) for layer in agrees(build(nodes, (3, 8, 10), {"zero": ZERO})).layers]


@pytest.mark.parametrize(
    "before",
    [
        [make_node("Relu", ["x"], ["r"])],
        [make_node("Sigmoid", ["x"], ["s"]), make_node("Concat", ["s", "s"], ["r"], axis=1)],
        [make_node("Clip", ["x", "zero", ""], ["r"])],
    ],
)
def test_max_pool_pads_with_zeros_where_nothing_can_be_negative(agrees, build, before):
    assert keras.layers.ZeroPadding2D in _pooled_layers(build, agrees, before)


@pytest.mark.parametrize(
    "before",
    [
        [make_node("LeakyRelu", ["x"], ["r"])],
        [make_node("Relu", ["x"], ["s"]), make_node("Concat", ["s", "x"], ["r"], axis=1)],
        [make_node("Relu", ["x"], ["s"]), make_node("Sub", ["x", "s"], ["r"])],
    ],
)
def test_max_pool_never_pads_with_zeros_where_something_can_be_negative(agrees, build, before):
    assert keras.layers.ZeroPadding2D not in _pooled_layers(build, agrees, before)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pool_agrees_for_open_sizes(agrees, build, operator):
    agrees(build([make_node(operator, ["x"], ["y"])], (3, "h", "w")), image=(3, 7, 5))


@pytest.mark.parametrize(
    ("node", "image", "reason"),
    [
        (
            make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2]),
            (2, 8, 8),
            "dilations",
        ),
        (
            make_node("MaxPool", ["x"], ["y", "indices"], kernel_shape=[2, 2]),
            (2, 8, 8),
            "indices",
        ),
        (
            make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
            (2, "h", "w"),
            "input_shape",
        ),
        (
            make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 2, 1]),
            (2, "h", "w"),
            "input_shape",
        ),
    ],
)
def test_unknown_form_of_pool_is_refused(agrees, build, node, image, reason):
    with pytest.raises(NotImplementedError, match=reason):
        agrees(build([node], image))
