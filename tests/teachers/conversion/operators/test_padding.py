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


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("size", [(6, 5), ("height", "width")])
@pytest.mark.parametrize("mode", ["edge", "wrap", "reflect", "constant"])
def test_borders_and_crops_agree_in_every_mode(agrees, build, random, mode, size):
    node = make_node("Pad", ["x", "pads"], ["p"], mode=mode)
    constants = {"w": random(2, 3, 3, 3), "pads": np.array([0, 0, 2, -1, 0, 0, 3, 3])}
    agrees(build([node, CONV], (3, *size), constants, opset=19), image=(3, 6, 5))


@pytest.mark.parametrize("mode", ["edge", "reflect", "constant"])
def test_pads_of_the_channels_agree(agrees, build, random, mode):
    node = make_node("Pad", ["x", "pads"], ["p"], mode=mode)
    constants = {"w": random(2, 6, 3, 3), "pads": np.array([0, 2, 0, 1, 0, 1, 1, 0])}
    agrees(build([node, CONV], (3, 6, 5), constants))


def test_pads_of_a_vector_agree_whatever_sequence_it_is_held_in(agrees, build):
    nodes = [
        make_node("GlobalMaxPool", ["x"], ["g"]),
        make_node("Sub", ["x", "g"], ["d"]),
        make_node("Flatten", ["d"], ["f"]),
        make_node("Pad", ["f", "pads"], ["y"]),
    ]
    agrees(build(nodes, (3, 4, 5), {"pads": np.array([0, -2, 0, 3])}))


def test_another_mode_is_noticed(agrees, build, random):
    models = [
        agrees(_padded(build, random, make_node("Pad", ["x", "pads"], ["p"], mode=mode), pads=PADS))
        for mode in ("edge", "reflect")
    ]
    images = random(1, 6, 5, 3)
    assert np.abs(np.subtract(*(np.asarray(model(images)) for model in models))).max() > 0.1


@pytest.mark.parametrize(("mode", "amount"), [("wrap", 7), ("reflect", 6)])
def test_borders_of_more_pixels_than_there_are_are_an_error(agrees, build, random, mode, amount):
    node = make_node("Pad", ["x", "pads"], ["p"], mode=mode)
    pads = np.array([0, 0, amount, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=f"{amount} pixels cannot be taken"):
        agrees(_padded(build, random, node, opset=19, pads=pads))


@pytest.mark.parametrize(
    ("pads", "mode", "reason"),
    [
        ([1, 0, 0, 0, 0, 0, 0, 0], "constant", "pad the batch"),
        (PADS, "mirror", "'mirror'"),
    ],
)
def test_unknown_form_of_pad_is_refused(agrees, build, random, pads, mode, reason):
    node = make_node("Pad", ["x", "pads"], ["p"], mode=mode)
    with pytest.raises(NotImplementedError, match=reason):
        agrees(_padded(build, random, node, pads=np.array(pads)))
