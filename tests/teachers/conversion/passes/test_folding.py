"""Constants are computed while converting, within bounds."""

import numpy as np
import pytest
from onnx.helper import make_node

from keras_amalgam.teachers.conversion.passes.folding import (
    BATCH,
    fold,
    fold_constants,
    is_foldable,
)
from keras_amalgam.teachers.onnx_files.graph import Node, read_graph


def _node(operator, inputs, opset=17, **attributes):
    return Node(operator, "", opset, "node", tuple(inputs), ("y",), attributes)


@pytest.mark.parametrize(
    ("node", "inputs", "expected"),
    [
        (_node("Concat", "ab", axis=0), [[1, 2], [3]], [1, 2, 3]),
        (_node("Gather", "ab", axis=0), [[7, 8, 9], 2], 9),
        (_node("Unsqueeze", "ab"), [5, [0]], [5]),
        (_node("Slice", "abc"), [[1, 2, 3, 4], [1], [3]], [2, 3]),
        (_node("Constant", "", value_ints=[4, 5]), [], [4, 5]),
        (_node("Constant", "", value=np.float32(0.5)), [], 0.5),
        (_node("Cast", "a", to=1), [[1, 2]], [1.0, 2.0]),
        (_node("Mul", "ab"), [[BATCH, 3], [1, 2]], [BATCH, 6]),
        (_node("ScatterND", "abc"), [[1, 2, 3], [[2], [0]], [8, 9]], [9, 2, 8]),
        (_node("ScatterND", "abc"), [[[1, 2], [3, 4]], [[-1]], [[8, 9]]], [[1, 2], [8, 9]]),
        (_node("ScatterND", "abc", reduction="add"), [[1, 2], [[1], [1]], [8, 9]], [1, 19]),
    ],
)
def test_constant_is_computed(node, inputs, expected):
    (result,) = fold(node, [np.asarray(value) for value in inputs])
    np.testing.assert_array_equal(result, expected)


def test_everything_constant_is_folded_and_nothing_else(build, random):
    nodes = [
        make_node("Constant", [], ["two"], value_float=2.0),
        make_node("Mul", ["w", "two"], ["w2"]),
        make_node("Transpose", ["w2"], ["w3"], perm=[1, 0]),
        make_node("MatMul", ["x", "w3"], ["y"]),
    ]
    weight = random(4, 6)
    graph = fold_constants(read_graph(build(nodes, (6,), {"w": weight})))
    assert [node.operator for node in graph.nodes] == ["MatMul"]
    np.testing.assert_array_equal(graph.constants["w3"], 2 * weight.T)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (_node("ConstantOfShape", "a"), [[100_000, 100_000]]),
        (_node("Expand", "ab"), [[1.0], [100_000, 100_000]]),
        (_node("Tile", "ab"), [[1.0], [10**10]]),
        (_node("Range", "abc"), [0, 10**12, 1]),
        (_node("Range", "abc"), [0, 2**24 + 1, 1]),
        (_node("Add", "ab"), [np.zeros((20_000, 1)), np.zeros((1, 20_000))]),
        (_node("MatMul", "ab"), [np.zeros((20_000, 1)), np.zeros((1, 20_000))]),
        (_node("Gather", "ab"), [np.zeros((1, 20_000)), np.zeros(20_000, np.int64)]),
        (_node("GatherND", "ab"), [np.zeros((2, 20_000)), np.zeros((20_000, 1), np.int64)]),
        (_node("OneHot", "abc"), [[1, 2], 10**9, [0.0, 1.0]]),
        (_node("Pad", "ab"), [np.zeros((1, 1)), [0, 10**5, 0, 10**5]]),
        (_node("Einsum", "ab", equation="i,j->ij"), [np.zeros(20_000), np.zeros(20_000)]),
        (_node("Resize", "abcd"), [np.zeros((1, 1, 2, 2)), [], [], [1, 1, 3_000, 3_000]]),
    ],
)
def test_bomb_is_refused_before_it_is_computed(node, inputs):
    most = r"(134,217,728|16,777,216)"
    with pytest.raises(ValueError, match=rf"'node'.*too large.*At most {most} are allowed"):
        fold(node, [np.asarray(value) for value in inputs])


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (_node("Add", "ab"), [np.zeros(3), np.zeros(4)]),
        (_node("Gather", "ab"), [[1, 2], 7]),
        (_node("Reshape", "ab"), [np.zeros(6), [4]]),
        (_node("Transpose", "a", perm=[0, 5]), [np.zeros((2, 3))]),
        (_node("Cast", "a", to=99), [[1.0]]),
    ],
)
def test_constant_that_does_not_fit_is_refused_with_its_node(node, inputs):
    with pytest.raises(ValueError, match=r"Cannot compute operator .*node 'node'"):
        fold(node, [np.asarray(value) for value in inputs])


@pytest.mark.parametrize("operator", ["RandomNormal", "If", "Loop", "Conv"])
def test_only_cheap_and_certain_operators_are_folded(operator):
    assert not is_foldable(_node(operator, ""), [])


def test_tensor_that_grows_with_the_batch_is_not_folded():
    shape = np.array([BATCH, 4])
    assert not is_foldable(_node("Expand", "ab"), [np.zeros(4), shape])
    assert is_foldable(_node("Expand", "ab"), [np.zeros(4), np.array([3, 4])])
