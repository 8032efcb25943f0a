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


@pytest.mark.parametrize("to", [2, 3, 4, 5])
def test_cast_to_narrow_integers_is_refused(agrees, build, to):
    nodes = [make_node("Cast", ["x"], ["i"], to=to), make_node("Cast", ["i"], ["y"], to=1)]
    with pytest.raises(NotImplementedError, match="wrap around"):
        agrees(build(nodes, (3, 5, 4)))
