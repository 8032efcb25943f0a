"""Depth to space and back against onnxruntime."""

import numpy as np
import pytest
from onnx.helper import make_node


@pytest.mark.parametrize("opset", [11, 13, 21])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_agrees(agrees, build, mode, opset):
    node = make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)
    agrees(build([node], (12, 3, 5), opset=opset))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_takes_any_image_size(agrees, build, random, mode):
    node = make_node("DepthToSpace", ["c"], ["y"], blocksize=3, mode=mode)
    source = build(
        [make_node("Conv", ["x", "w"], ["c"]), node], (3, "h", "w"), {"w": random(18, 3, 2, 2)}
    )
    assert agrees(source, image=(3, 5, 4)).output_shape == (None, None, None, 2)


def test_other_mode_is_noticed(agrees, build, random):
    models = [
        agrees(build([make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)], (8, 3, 5)))
        for mode in ("DCR", "CRD")
    ]
    images = random(1, 3, 5, 8)
    assert np.abs(np.subtract(*(np.asarray(model(images)) for model in models))).max() > 0.1


@pytest.mark.parametrize("size", [(4, 6), ("h", "w")])
def test_space_to_depth_agrees(agrees, build, random, size):
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("SpaceToDepth", ["c"], ["y"], blocksize=2),
    ]
    agrees(build(nodes, (3, *size), {"w": random(5, 3, 1, 1)}), image=(3, 4, 6))


@pytest.mark.parametrize("operator", ["DepthToSpace", "SpaceToDepth"])
def test_maps_that_are_no_whole_blocks_are_an_error(agrees, build, operator):
    node = make_node(operator, ["x"], ["y"], blocksize=2, name="odd")
    source = build([node], (4, 4, 4))
    source.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6
    source.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 5
    with pytest.raises(ValueError, match=r"odd"):
        agrees(source)


def test_unknown_mode_is_refused(agrees, build):
    node = make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="RCD")
    with pytest.raises(NotImplementedError, match="'RCD'"):
        agrees(build([node], (8, 3, 5)))


def test_blocks_side_by_side_become_an_image(agrees, build):
    """Against onnxruntime; as MobileViT puts its patches back."""
    constants = {"image": np.array([6, 8]), "block": np.array([2, 4])}
    node = make_node("Col2Im", ["x", "image", "block"], ["y"], strides=[2, 4])
    agrees(build([node], (3 * 8, 6), constants, opset=18), maps=False, transposes=None)


@pytest.mark.parametrize("strides", [[1, 1], [2, 2]])
def test_blocks_that_overlap_are_refused(agrees, build, strides):
    constants = {"image": np.array([6, 8]), "block": np.array([2, 4])}
    node = make_node("Col2Im", ["x", "image", "block"], ["y"], strides=strides)
    with pytest.raises(NotImplementedError, match="overlap or leave gaps"):
        agrees(build([node], (24, 15), constants, opset=18))
