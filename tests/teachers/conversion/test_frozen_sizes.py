"""What is computed with sizes that the file leaves open holds for every size, or is refused."""

import numpy as np
import pytest
from onnx.helper import make_node

INT = np.int64
SIZE = [
    make_node("Shape", ["x"], ["shape"]),
    make_node("Gather", ["shape", "axis"], ["size"], axis=0),
]


def _scaled_by(*nodes):
    """The image times a number that is computed from one of its sizes."""
    return [
        *SIZE,
        *nodes,
        make_node("Cast", ["number"], ["factor"], to=1),
        make_node("Mul", ["x", "factor"], ["y"]),
    ]


NODES = {
    "remainder": [make_node("Mod", ["size", "c"], ["number"], name="made")],
    "quotient": [make_node("Div", ["size", "c"], ["number"], name="made")],
    "maximum": [make_node("Max", ["size", "c"], ["number"], name="made")],
    "minimum": [make_node("Min", ["c", "size"], ["number"], name="made")],
    "clipped": [make_node("Clip", ["size", "c"], ["number"], name="made")],
    "larger": [make_node("Greater", ["size", "c"], ["number"], name="made")],
    "equal": [make_node("Equal", ["c", "size"], ["number"], name="made")],
    "reciprocal": [make_node("Div", ["c", "size"], ["number"], name="made")],
}


@pytest.mark.parametrize("case", NODES)
def test_open_size_in_a_comparison_or_quotient_asks_for_the_size(agrees, build, case):
    constants = {"axis": np.array(2, INT), "c": np.array(48, INT)}
    source = build(_scaled_by(*NODES[case]), (3, "height", "width"), constants)
    with pytest.raises(NotImplementedError, match="node 'made'.*Pass `input_shape="):
        agrees(source)
    agrees(source, image=(3, 50, 40), input_shape=(50, 40, 3))


@pytest.mark.parametrize("case", NODES)
def test_batch_size_in_a_comparison_or_quotient_is_refused(agrees, build, case):
    constants = {"axis": np.array(0, INT), "c": np.array(2, INT)}
    with pytest.raises(NotImplementedError, match="node 'made'.*number of images in a batch"):
        agrees(build(_scaled_by(*NODES[case]), (3, 5, 4), constants))


@pytest.mark.parametrize(
    ("operator", "constant"),
    [("Max", 0), ("Max", 1), ("Min", 2**60), ("Greater", 0), ("Equal", -1), ("Div", 1)],
)
def test_what_holds_for_every_size_is_computed(agrees, build, operator, constant):
    """Exporters write them around broadcasts and slices."""
    made = make_node(operator, ["size", "c"], ["made"])
    nodes = [
        *SIZE,
        made,
        make_node("Cast", ["made"], ["number"], to=7),
        make_node("Mul", ["number", "zero"], ["nothing"]),
        make_node("Cast", ["nothing"], ["offset"], to=1),
        make_node("Add", ["x", "offset"], ["y"]),
    ]
    constants = {"axis": np.array(2, INT), "c": np.array(constant, INT), "zero": np.array(0, INT)}
    agrees(build(nodes, (3, "height", "width"), constants), image=(3, 9, 6))


UP = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
# Twice the half of an image: as large as the image, or one pixel larger or smaller.
TWO_MAPS = [
    make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    make_node("Resize", ["p", "", "twice"], ["u"], **UP),
    *(
        made
        for name in "xpu"
        for made in (
            make_node("Shape", [name], [f"shape_{name}"]),
            make_node("Slice", [f"shape_{name}", "two", "four"], [f"size_{name}"]),
            make_node("Cast", [f"size_{name}"], [f"float_{name}"], to=1),
        )
    ),
]
NUMBERS = {
    "one": np.ones(2, np.float32),
    "half": np.float32(0.5),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "zeros": np.zeros(6, INT),
    "zero": np.zeros(2, INT),
    "nothing": np.array(0, INT),
    "step": np.array(1, INT),
    "two": np.array([2], INT),
    "four": np.array([4], INT),
    "axes": np.array([2, 3], INT),
    "swapped": np.array([0, 1, 3, 2], INT),
    "thirty_two": np.array([32, 32], INT),
    "table": np.arange(200, dtype=np.float32),
}
MADE = {"name": "made"}
OF_TWO_SIZES = {
    "crop to another map's size": [
        make_node("Slice", ["u", "zero", "size_x", "axes"], ["y"], **MADE),
    ],
    "difference": [
        make_node("Sub", ["size_u", "size_x"], ["d"], **MADE),
        make_node("Concat", ["zeros", "d"], ["pads"], axis=0),
        make_node("Pad", ["x", "pads"], ["y"]),
    ],
    "quotient": [
        make_node("Div", ["float_x", "float_p"], ["q"], **MADE),
        make_node("Concat", ["one", "q"], ["scales"], axis=0),
        make_node("Resize", ["p", "", "scales"], ["y"], **UP),
    ],
    "smaller of two": [
        make_node("Min", ["size_x", "size_u"], ["n"], **MADE),
        make_node("Slice", ["u", "zero", "n", "axes"], ["y"]),
    ],
    "height taken for the width": [
        make_node("Gather", ["shape_x", "swapped"], ["sizes"]),
        make_node("Resize", ["x", "", "", "sizes"], ["y"], **UP, **MADE),
    ],
    "size of a map of one pixel": [
        make_node("GlobalAveragePool", ["x"], ["g"]),
        make_node("Shape", ["g"], ["s"]),
        make_node("Slice", ["s", "zero_1", "two"], ["head"]),
        make_node("Concat", ["head", "size_x"], ["sizes"], axis=0),
        make_node("Resize", ["g", "", "", "sizes"], ["y"], **UP, **MADE),
    ],
}
OF_ONE_SIZE = {
    "negative remainder": [
        make_node("Neg", ["size_x"], ["negative"]),
        make_node("Mod", ["negative", "thirty_two"], ["d"], **MADE),
        make_node("Concat", ["zeros", "d"], ["pads"], axis=0),
        make_node("Pad", ["x", "pads"], ["y"]),
    ],
    "rounded half": [
        make_node("Mul", ["float_x", "half"], ["halves"]),
        make_node("Floor", ["halves"], ["f"], **MADE),
        make_node("Cast", ["f"], ["n"], to=7),
        make_node("Slice", ["x", "zero", "n", "axes"], ["y"]),
    ],
    "padding": [
        make_node("Concat", ["zeros", "size_x"], ["pads"], axis=0),
        make_node("Pad", ["x", "pads"], ["y"], **MADE),
    ],
    "range": [
        make_node("Gather", ["shape_x", "three"], ["w"]),
        make_node("Range", ["nothing", "w", "step"], ["r"], **MADE),
        make_node("Cast", ["r"], ["f"], to=1),
        make_node("Add", ["x", "f"], ["y"]),
    ],
    "part of a table": [
        make_node("Gather", ["shape_x", "three_1"], ["w"]),
        make_node("Slice", ["table", "zero_1", "w"], ["t"], **MADE),
        make_node("Add", ["x", "t"], ["y"]),
    ],
    "factor": [
        make_node("Gather", ["float_x", "nothing"], ["h"]),
        make_node("Mul", ["x", "h"], ["y"], **MADE),
    ],
}
MORE = {"three": np.array(3, INT), "three_1": np.array([3], INT), "zero_1": np.zeros(1, INT)}


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("case", OF_TWO_SIZES | OF_ONE_SIZE)
def test_what_holds_for_some_sizes_only_asks_for_the_size(agrees, build, case):
    nodes = [*TWO_MAPS, *(OF_TWO_SIZES | OF_ONE_SIZE)[case]]
    source = build(nodes, (3, "height", "width"), NUMBERS | MORE, opset=13)
    with pytest.raises(NotImplementedError, match="node 'made'.*Pass `input_shape="):
        agrees(source)
    agrees(source, image=(3, 9, 7), input_shape=(9, 7, 3))


@pytest.mark.parametrize(
    "nodes",
    [
        [
            make_node("Relu", ["x"], ["r"]),
            make_node("Slice", ["r", "zero", "size_x", "axes"], ["y"]),
        ],
        [
            make_node("Add", ["float_p", "float_p"], ["wanted"]),
            make_node("Div", ["wanted", "float_p"], ["q"]),
            make_node("Concat", ["one", "q"], ["scales"], axis=0),
            make_node("Resize", ["p", "", "scales"], ["y"], **UP),
        ],
    ],
    ids=["a map's own size", "quotient of a multiple of a size and the size"],
)
def test_what_a_size_gives_with_itself_is_computed(agrees, build, nodes):
    source = build([*TWO_MAPS, *nodes], (3, "height", "width"), NUMBERS, opset=13)
    agrees(source, image=(3, 9, 7))


def test_division_by_the_number_of_images_is_refused(agrees, build):
    nodes = [
        make_node("Shape", ["x"], ["s"]),
        make_node("Gather", ["s", "nothing"], ["n"]),
        make_node("Cast", ["n"], ["f"], to=1),
        make_node("Div", ["x", "f"], ["y"], name="made"),
    ]
    with pytest.raises(NotImplementedError, match="node 'made'.*number of images in a batch"):
        agrees(build(nodes, (3, 5, 4), NUMBERS))


@pytest.mark.parametrize(
    ("operator", "number"),
    [("Max", -3.4028235e38), ("Min", 1e30), ("Add", 1e-20), ("Mul", 1e-5), ("Add", 10_009)],
)
def test_number_that_is_no_size_is_never_taken_for_one(agrees, build, operator, number):
    nodes = [make_node(operator, ["x", "c"], ["y"])]
    agrees(build(nodes, (3, 5, 4), {"c": np.float32(number)}))


@pytest.mark.parametrize("to", [2, 3, 4, 5])
def test_cast_to_narrow_integers_is_refused(agrees, build, to):
    nodes = [make_node("Cast", ["x"], ["i"], to=to), make_node("Cast", ["i"], ["y"], to=1)]
    with pytest.raises(NotImplementedError, match="wrap around"):
        agrees(build(nodes, (3, 5, 4)))


def _view_with_strides(order):
    """A flat batch, looked up image by image: how PyTorch's exporter writes `as_strided`."""
    nodes = [
        make_node("Reshape", ["x", "flat"], ["all"]),
        *SIZE,
        make_node("Range", ["zero", "size", "one"], ["images"]),
        make_node("Mul", ["images", "twelve"], ["starts"]),
        make_node("Unsqueeze", ["starts", "axes"], ["column"]),
        make_node("Add", ["column", "places"], ["indices"], name="made"),
        make_node("Gather", ["all", "indices"], ["y"], axis=0, name="looked_up"),
    ]
    constants = {
        "flat": np.array([-1], INT),
        "axis": np.array(0, INT),
        "zero": np.array(0, INT),
        "one": np.array(1, INT),
        "twelve": np.array(12, INT),
        "axes": np.array([1], INT),
        "places": np.array(order, INT),
    }
    return nodes, constants


def test_every_place_of_a_batch_in_its_order_is_a_view(agrees, build):
    nodes, constants = _view_with_strides(range(12))
    agrees(build(nodes, (3, 2, 2), constants), sizes=(1, 2, 5), transposes=1)


def test_places_of_a_batch_in_another_order_are_refused(agrees, build):
    nodes, constants = _view_with_strides(range(11, -1, -1))
    with pytest.raises(NotImplementedError, match="node 'looked_up'.*the number of images"):
        agrees(build(nodes, (3, 2, 2), constants))
