"""Slices, gathered parts and repetitions against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node, make_tensor

END = np.iinfo(np.int64).max


def _conv(random, *after):
    """A convolution to six channels in front, so that the layout is channels last."""
    return [make_node("Conv", ["x", "w"], ["c"]), *after], {"w": random(6, 3, 1, 1)}


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], None),
        ([0, 1], [END, -1], [1, 2], None),
        ([-4, 0], [-1, 5], [-3, -1], [1, 2]),
        ([-1], [-END], [3], [-1]),
        ([0, 2], [END, END], [0, 2], None),
        ([5, 3], [0, 0], [1, 2], [-2, -1]),
    ],
)
@pytest.mark.parametrize("opset", [9, 17])
def test_slice_agrees(agrees, build, random, starts, ends, axes, steps, opset):
    if opset == 9 and steps:
        steps = None
        ends = [END if end < -100 else max(end, 1) for end in ends]
        starts = [0] * len(starts)
    bounds = {"starts": starts, "ends": ends, "axes": axes} | ({"steps": steps} if steps else {})
    if opset == 9:
        node, constants = make_node("Slice", ["c"], ["y"], **bounds), {}
    else:
        node = make_node("Slice", ["c", *bounds], ["y"])
        constants = {key: np.array(value, np.int64) for key, value in bounds.items()}
    nodes, weights = _conv(random, node)
    agrees(build(nodes, (3, 7, 5), weights | constants, opset=opset))


def test_slice_of_an_open_size_agrees_at_any_size(agrees, build, random):
    nodes, weights = _conv(random, make_node("Slice", ["c", "s", "e", "a"], ["y"]))
    bounds = {"s": np.array([1, 0]), "e": np.array([END, -2]), "a": np.array([2, 3])}
    agrees(build(nodes, (3, "height", "width"), weights | bounds), image=(3, 8, 9))


@pytest.mark.parametrize(("axis", "split"), [(1, [1, 2, 3]), (-1, [2, 3]), (1, None), (2, None)])
@pytest.mark.parametrize("opset", [11, 13])
def test_split_agrees_at_every_part(agrees, build, random, axis, split, opset):
    names = [f"y{index}" for index in range(len(split or [0, 0, 0]))]
    given = {"split": np.array(split)} if split and opset == 13 else {}
    attributes = {"split": split} if split and opset == 11 else {}
    node = make_node("Split", ["c", *given], names, axis=axis, **attributes)
    nodes, weights = _conv(random, node)
    model = agrees(build(nodes, (3, 9, 5), weights | given, outputs=names, opset=opset))
    assert set(model.output) == set(names)


def test_class_token_is_a_weight_beside_the_tokens(agrees, build, random):
    """As a vision transformer has it: expanded to the batch, joined with the patches."""
    one = make_tensor("", TensorProto.INT64, [1], [0])
    nodes = [
        make_node("Shape", ["x"], ["s"]),
        make_node("Constant", [], ["zero"], value=one),
        make_node("Gather", ["s", "zero"], ["b"]),
        make_node("Concat", ["b", "rest"], ["size"], axis=0),
        make_node("Expand", ["token", "size"], ["t"]),
        make_node("Concat", ["t", "x"], ["j"], axis=1),
        make_node("Add", ["j", "position"], ["y"]),
    ]
    token, position = random(1, 1, 20), random(1, 8, 20, seed=1)
    constants = {"token": token, "position": position, "rest": np.array([1, 20])}
    model = agrees(build(nodes, (7, 20), constants))
    assert {w.shape for w in model.trainable_variables} == {(1, 20), (1, 160)}
    assert any(np.array_equal(w.numpy().ravel(), token.ravel()) for w in model.trainable_variables)


def test_mask_expanded_to_the_batch_is_a_weight_that_is_not_trained(agrees, build, random):
    mask = np.where(np.tri(7, dtype=bool), 0, -9).astype(np.float32)
    nodes = [
        make_node("Shape", ["x"], ["s"], start=0, end=1),
        make_node("Concat", ["s", "rest"], ["size"], axis=0),
        make_node("Expand", ["mask", "size"], ["m"]),
        make_node("Add", ["x", "m"], ["y"]),
    ]
    model = agrees(build(nodes, (7, 7), {"mask": mask, "rest": np.array([7, 7])}))
    assert not model.trainable_variables and len(model.non_trainable_variables) == 1


@pytest.mark.parametrize(
    ("operator", "amounts"),
    [("Expand", [1, 4, 5]), ("Expand", [4, 1]), ("Tile", [1, 2, 3]), ("Tile", [1, 1, 1])],
)
def test_repetition_agrees(agrees, build, operator, amounts):
    node = make_node(operator, ["x", "n"], ["y"])
    agrees(build([node], (1 if operator == "Expand" else 4, 5), {"n": np.array(amounts)}))


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (make_node("Slice", ["x", "one", "two", "zero"], ["y"]), "cuts the batch"),
        (make_node("Tile", ["x", "twice"], ["y"]), "repeats the batch"),
    ],
)
def test_what_mixes_images_or_is_not_known_is_refused(agrees, build, node, reason):
    constants = {
        "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]),
        "twice": np.array([2, 1]),
    }  # fmt: skip
    with pytest.raises(NotImplementedError, match=reason):
        agrees(build([node], (4,), constants, batch=3))


def test_slice_of_all_images_that_the_file_is_made_for_is_the_whole(agrees, build):
    nodes = [make_node("Slice", ["x", "zero", "n", "zero"], ["s"]), make_node("Relu", ["s"], ["y"])]
    constants = {"zero": np.array([0]), "n": np.array([4])}
    agrees(build(nodes, (3, 5), constants, batch=4), sizes=(4,))


def test_slice_that_ends_before_the_first_is_refused(agrees, build):
    """It is empty, by the standard."""
    nodes = [
        make_node("Slice", ["x", "zero", "end", "two"], ["s"], name="made"),
        make_node("Concat", ["x", "s"], ["y"], axis=2),
    ]
    constants = {"zero": np.array([0]), "end": np.array([-100]), "two": np.array([2])}
    with pytest.raises(NotImplementedError, match="'made'.*ends at -100.*takes nothing"):
        agrees(build(nodes, (3, 5, 4), constants))


@pytest.mark.parametrize("end", [2**31 - 1, 2**31, 2**62, END])
def test_end_of_an_open_size_is_written_in_any_large_number(agrees, build, random, end):
    nodes, weights = _conv(random, make_node("Slice", ["c", "s", "e", "a"], ["y"]))
    bounds = {"s": np.array([1]), "e": np.array([end]), "a": np.array([2])}
    agrees(build(nodes, (3, "height", "width"), weights | bounds), image=(3, 8, 9))


def test_shifted_slice_is_noticed(agrees, build, random):
    """The twin: a slice that begins one pixel later than the source's does not pass."""
    nodes, weights = _conv(random, make_node("Slice", ["c", "s", "e", "a"], ["y"]))
    bounds = {"s": np.array([1]), "e": np.array([4]), "a": np.array([2])}
    model = agrees(build(nodes, (3, 7, 5), weights | bounds))
    whole = keras.Model(model.input, model.layers[1].output)
    images = np.random.default_rng(0).random((1, 7, 5, 3), np.float32)
    assert np.allclose(model(images), whole(images)[:, 1:4])
    assert not np.allclose(model(images), whole(images)[:, 2:5], atol=1e-3)
