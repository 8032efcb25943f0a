"""Padding against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node

PADS = np.array([0, 0, 1, 2, 0, 0, 3, 0])
CONV = make_node("Conv", ["p", "w"], ["y"])


def _padded(build, random, node, opset=17, **constants):
    """A convolution behind says where the channels are."""
    return build([node, CONV], (3, 6, 5), {"w": random(2, 3, 3, 3)} | constants, opset=opset)


def test_zeros_around_a_map_agree_and_are_a_layer(agrees, build, random):
    node = make_node("Pad", ["x", "pads"], ["p"], name="pad")
    model = agrees(_padded(build, random, node, pads=PADS))
    assert isinstance(model.get_layer("pad"), keras.layers.ZeroPadding2D)


def test_other_constants_agree(agrees, build, random):
    node = make_node("Pad", ["x", "pads", "value"], ["p"])
    agrees(_padded(build, random, node, pads=PADS, value=np.float32(0.5)))


def test_reflection_agrees(agrees, build, random):
    node = make_node("Pad", ["x", "pads"], ["p"], mode="reflect")
    agrees(_padded(build, random, node, pads=PADS))


def test_named_axes_agree(agrees, build, random):
    node = make_node("Pad", ["x", "pads", "", "axes"], ["p"])
    constants = {"pads": np.array([1, 2, 3, 0]), "axes": np.array([2, -1])}
    agrees(_padded(build, random, node, opset=18, **constants))


def test_pads_as_an_attribute_agree(agrees, build, random):
    node = make_node("Pad", ["x"], ["p"], pads=[int(n) for n in PADS], value=0.5)
    agrees(_padded(build, random, node, opset=10))


@pytest.mark.parametrize(
    ("pads", "mode", "reason"),
    [
        ([0, 0, -1, 0, 0, 0, 0, 0], "constant", "crop"),
        ([1, 0, 0, 0, 0, 0, 0, 0], "constant", "pad the batch"),
        (PADS, "edge", "'edge'"),
    ],
)
def test_unknown_form_of_pad_is_refused(agrees, build, random, pads, mode, reason):
    node = make_node("Pad", ["x", "pads"], ["p"], mode=mode)
    with pytest.raises(NotImplementedError, match=reason):
        agrees(_padded(build, random, node, pads=np.array(pads)))
