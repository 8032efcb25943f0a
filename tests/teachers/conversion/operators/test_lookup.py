"""Parts looked up by constant indices against onnxruntime."""

import numpy as np
import pytest
from onnx.helper import make_node


def _conv(random, *after):
    """A convolution to six channels in front, so that the layout is channels last."""
    return [make_node("Conv", ["x", "w"], ["c"]), *after], {"w": random(6, 3, 1, 1)}


@pytest.mark.parametrize(
    ("indices", "axis"),
    [(2, 1), (-1, 2), ([1, 2, 3], 1), ([3, 0, 0, -1], 1), ([4, 1], -1), ([-2], 2)],
)
def test_gather_agrees(agrees, build, random, indices, axis):
    node = make_node("Gather", ["c", "i"], ["g"], axis=axis)
    nodes, weights = _conv(random, node, make_node("Neg", ["g"], ["y"]))
    agrees(build(nodes, (3, 7, 5), {**weights, "i": np.array(indices)}), transposes=int(
        np.ndim(indices) == 0 and axis == 2
    ))  # fmt: skip


@pytest.mark.parametrize("indices", [9, [0, 6], [-7]])
def test_gather_beyond_the_end_is_refused(agrees, build, random, indices):
    nodes, weights = _conv(random, make_node("Gather", ["c", "i"], ["y"], axis=1))
    with pytest.raises(ValueError, match="are not below 6"):
        agrees(build(nodes, (3, 7, 5), {**weights, "i": np.array(indices)}))


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_gather_by_a_table_of_indices_agrees(agrees, build, random, axis):
    node = make_node("Gather", ["c", "i"], ["g"], axis=axis)
    flatten = make_node("Flatten", ["g"], ["y"])
    nodes, weights = _conv(random, node, flatten)
    table = np.array([[0, 3, 1], [4, 4, -1]])
    agrees(build(nodes, (3, 7, 5), {**weights, "i": table}), transposes=None)


@pytest.mark.parametrize("front", [(2, 3, 0, 1), (1, 2, 0, 3), (3, 2, 1, 0)])
def test_gather_nd_agrees_behind_any_transposition(agrees, build, random, front):
    """As PyTorch writes an adaptive pooling whose windows do not divide the map."""
    back = {(2, 3, 0, 1): [2, 3, 0, 1], (1, 2, 0, 3): [2, 0, 1, 3], (3, 2, 1, 0): [2, 3, 0, 1]}
    nodes, weights = _conv(
        random,
        make_node("Transpose", ["c"], ["t"], perm=front),
        make_node("GatherND", ["t", "i"], ["g"]),
        make_node("Transpose", ["g"], ["b"], perm=np.argsort(np.argsort(back[front])).tolist()),
    )
    if front == (3, 2, 1, 0):
        nodes[-1] = make_node("Transpose", ["g"], ["b"], perm=[2, 1, 0])
    indices = np.array([[[0, 1], [4, 0]], [[2, 2], [-1, 3]]])
    if front == (3, 2, 1, 0):
        indices = indices[0]
    agrees(build(nodes, (3, 5, 5), {**weights, "i": indices}), transposes=None)


def test_gather_along_the_batch_is_refused(agrees, build):
    with pytest.raises(NotImplementedError, match="along the batch"):
        node = make_node("Gather", ["x", "i"], ["y"])
        agrees(build([node], (4,), {"i": np.array([1])}, batch=3))
