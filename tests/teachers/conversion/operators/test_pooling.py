"""Poolings against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx import TensorProto
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
    "dilated": ({"kernel_shape": [2, 3], "dilations": [3, 2]}, (2, 8, 9)),
    "dilated_padded": (
        {"kernel_shape": [3, 2], "dilations": [2, 3], "strides": [2, 3], "pads": [1, 1, 2, 0]},
        (2, 9, 8),
    ),
    "dilated_ceil": (
        {"kernel_shape": [3, 1], "dilations": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        (2, 10, 8),
    ),
    "wide_border": (
        {"kernel_shape": [19, 3], "strides": [2, 2], "pads": [9, 1, 9, 1]},
        (2, 12, 9),
    ),
    "windows_apart": ({"kernel_shape": [2, 1], "strides": [3, 4], "ceil_mode": 1}, (2, 10, 9)),
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


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("counts_pads", [0, 1])
@pytest.mark.parametrize("case", WINDOWS)
def test_average_pool_agrees(agrees, build, case, counts_pads):
    attributes, image = WINDOWS[case]
    node = make_node("AveragePool", ["x"], ["y"], count_include_pad=counts_pads, **attributes)
    agrees(build([node], image, opset=19))


LINES = {
    "padded": {"kernel_shape": [3], "strides": [2], "pads": [1, 2]},
    "dilated": {"kernel_shape": [3], "dilations": [2], "pads": [2, 1]},
    "ceil": {"kernel_shape": [2], "strides": [3], "ceil_mode": 1},
    "same": {"kernel_shape": [3], "auto_pad": "SAME_UPPER", "strides": [2]},
}


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("case", LINES)
def test_pool_along_one_axis_agrees(agrees, build, case, operator):
    node = make_node(operator, ["x"], ["y"], **LINES[case])
    agrees(build([node], (3, 9), opset=19), transposes=2)  # The test's input and output.


@pytest.mark.parametrize("opset", [9, 11, 17, 18, 21])
@pytest.mark.parametrize("counts_pads", [0, 1])
def test_average_pool_agrees_in_every_opset(agrees, build, opset, counts_pads):
    case = "asymmetric" if opset < 10 else "ceil_padded"
    attributes, image = WINDOWS[case]
    node = make_node("AveragePool", ["x"], ["y"], count_include_pad=counts_pads, **attributes)
    agrees(build([node], image, opset=opset))


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("exponent", [1, 2, 3])
@pytest.mark.parametrize("case", ["asymmetric", "dilated_padded", "ceil_padded", "same_upper"])
def test_lp_pool_agrees(agrees, build, case, exponent):
    attributes, image = WINDOWS[case]
    agrees(build([make_node("LpPool", ["x"], ["y"], p=exponent, **attributes)], image, opset=18))


OPEN = {
    "padded": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "dilated": {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 0, 0, 2]},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "ceil_padded": {
        "kernel_shape": [3, 4], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 2]
    },
    "same": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
}  # fmt: skip


@pytest.mark.parametrize("size", [(8, 11), (9, 12)])
@pytest.mark.parametrize("case", OPEN)
def test_max_pool_agrees_for_open_sizes(agrees, build, case, size):
    node = make_node("MaxPool", ["x"], ["y"], **OPEN[case])
    agrees(build([node], (2, "h", "w")), image=(2, *size))


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("size", [(8, 11), (9, 12)])
@pytest.mark.parametrize(
    ("case", "counts_pads"), [(case, counts) for case in OPEN for counts in (0, 1)][:-1]
)
def test_average_pool_agrees_for_open_sizes(agrees, build, case, counts_pads, size):
    node = make_node("AveragePool", ["x"], ["y"], count_include_pad=counts_pads, **OPEN[case])
    agrees(build([node], (2, "h", "w"), opset=19), image=(2, *size))


def test_average_that_counts_other_pixels_is_noticed(agrees, build, random):
    models = [
        agrees(
            build(
                [make_node("AveragePool", ["x"], ["y"], count_include_pad=n, **OPEN["padded"])],
                (2, 8, 9),
            )
        )
        for n in (0, 1)
    ]
    images = random(1, 8, 9, 2)
    assert np.abs(np.subtract(*(np.asarray(model(images)) for model in models))).max() > 0.1


def test_max_pool_whose_indices_are_not_read_agrees(agrees, build):
    node = make_node(
        "MaxPool", ["x"], ["y", "indices"], kernel_shape=[2, 2], strides=[2, 2], storage_order=1
    )
    agrees(build([node], (2, 8, 8)))


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


GLOBAL = ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]


@pytest.mark.parametrize("operator", GLOBAL)
def test_global_pool_along_one_axis_agrees(agrees, build, operator):
    agrees(build([make_node(operator, ["x"], ["y"])], (3, 7)), transposes=1)


@pytest.mark.parametrize("operator", GLOBAL)
def test_global_pool_agrees_for_open_sizes(agrees, build, operator):
    agrees(build([make_node(operator, ["x"], ["y"])], (3, "h", "w")), image=(3, 7, 5))


@pytest.mark.parametrize(
    ("node", "image", "reason"),
    [
        (
            make_node(
                "MaxPool", ["x"], ["y"], kernel_shape=[3, 3], dilations=[2, 1],
                auto_pad="SAME_LOWER",
            ),
            (2, 8, 8),
            "dilations",
        ),
        (
            make_node("MaxPool", ["x"], ["y"], kernel_shape=[65, 1], dilations=[2, 1]),
            (2, 200, 8),
            "dilated window",
        ),
        (make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2, 2]), (2, 5, 5, 5), "3 spatial"),
        (
            make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1),
            (2, "h", "w"),
            "input_shape",
        ),
        (
            make_node(
                "AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2],
                auto_pad="SAME_UPPER", count_include_pad=1,
            ),
            (2, "h", "w"),
            "input_shape",
        ),
    ],
)  # fmt: skip
def test_unknown_form_of_pool_is_refused(agrees, build, node, image, reason):
    with pytest.raises(NotImplementedError, match=reason):
        agrees(build([node], image))


@pytest.mark.parametrize("image", [(2, 12, 8), (2, "h", "w")])
def test_pool_of_which_runtimes_crop_the_first_pixels_is_refused(agrees, build, image):
    """LpPool and newer AveragePools begin with the second pixel, convolutions with the first."""
    same = {"kernel_shape": [1, 1], "strides": [3, 1], "auto_pad": "SAME_UPPER"}
    node = make_node("LpPool", ["x"], ["y"], **same)
    with pytest.raises(NotImplementedError, match="3 apart, which runtimes read differently"):
        agrees(build([node], image, opset=18), image=(2, 12, 8))
    agrees(build([make_node("LpPool", ["x"], ["y"], **same)], (2, 13, 8), opset=18))


def test_max_pool_whose_indices_are_read_is_refused(agrees, build):
    nodes = [
        make_node("MaxPool", ["x"], ["p", "indices"], kernel_shape=[2, 2]),
        make_node("Cast", ["indices"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(NotImplementedError, match="indices"):
        agrees(build(nodes, (2, 8, 8)))


@pytest.mark.parametrize(
    "attributes",
    [{"ceil_mode": 1}, {"ceil_mode": 1, "count_include_pad": 1}, {"pads": [60, 60, 60, 60]}],
)
def test_window_larger_than_the_map_is_the_mean_over_it(agrees, build, attributes):
    """As EfficientNet's, whose window is as wide as its channels; padding would fill memory."""
    node = make_node(
        "AveragePool", ["x"], ["y"], kernel_shape=[90, 70], strides=[90, 70], **attributes
    )
    model = agrees(build([node], (3, 7, 5)))
    assert isinstance(model.layers[-1], keras.layers.GlobalAveragePooling2D)
