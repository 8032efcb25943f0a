"""Reductions against onnxruntime."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-2, -1], [1]])
@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
def test_reduction_agrees(agrees, build, operator, axes, keepdims):
    agrees(build([make_node(operator, ["x"], ["y"], axes=axes, keepdims=keepdims)], (3, 5, 4)))


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"])
def test_reduction_with_axes_as_an_input_agrees(agrees, build, operator):
    node = make_node(operator, ["x", "axes"], ["y"], keepdims=0)
    agrees(build([node], (3, 5, 4), {"axes": np.array([2, 3])}, opset=18))


def test_mean_over_the_image_is_a_global_pooling_for_any_size(agrees, build):
    node = make_node("ReduceMean", ["x"], ["y"], name="mean", axes=[2, 3])
    nodes = [make_node("MaxPool", ["x"], ["x2"], kernel_shape=[2, 2]), node]
    nodes[1].input[0] = "x2"
    model = agrees(build(nodes, (3, "h", "w")), image=(3, 6, 5))
    assert isinstance(model.get_layer("mean"), keras.layers.GlobalAveragePooling2D)


@pytest.mark.parametrize("axes", [{}, {"axes": [0]}])
def test_reduction_of_the_batch_is_refused(agrees, build, axes):
    with pytest.raises(NotImplementedError, match="reduces the batch"):
        agrees(build([make_node("ReduceMean", ["x"], ["y"], **axes)], (3, 5, 4)))
