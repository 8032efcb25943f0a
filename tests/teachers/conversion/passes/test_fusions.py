"""What exporters spell out is recognised, and what only looks like it is left alone."""

import keras
import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from keras_amalgam import teachers

EPSILON = np.float32(1e-5)


def _layer_norm(square="Pow"):
    squared = ["d", "two"] if square == "Pow" else ["d", "d"]
    return [
        make_node("ReduceMean", ["x"], ["mean"], axes=[-1]),
        make_node("Sub", ["x", "mean"], ["d"]),
        make_node(square, squared, ["s"]),
        make_node("ReduceMean", ["s"], ["v"], axes=[-1]),
        make_node("Add", ["v", "epsilon"], ["e"]),
        make_node("Sqrt", ["e"], ["r"]),
        make_node("Div", ["d", "r"], ["n"]),
        make_node("Mul", ["n", "scale"], ["m"]),
        make_node("Add", ["m", "offset"], ["y"], name="/norm/Add"),
    ]


def _constants(random, **changed):
    return {
        "two": np.float32(2),
        "epsilon": EPSILON,
        "scale": random(6, low=0.5, high=2),
        "offset": random(6, seed=1),
        **changed,
    }


@pytest.mark.parametrize("square", ["Pow", "Mul"])
def test_spelled_out_layer_norm_becomes_one_layer(agrees, build, random, square):
    model = agrees(build(_layer_norm(square), (5, 6), _constants(random)))
    assert [type(layer) for layer in model.layers[1:]] == [keras.layers.LayerNormalization]
    assert model.layers[1].name == "norm_Add"


def test_scale_that_is_not_per_channel_is_no_layer_norm(agrees, build, random):
    scale = np.linspace(0.5, 1, 5, dtype=np.float32)[:, None]
    model = agrees(build(_layer_norm(), (5, 6), _constants(random, scale=scale)))
    assert not any(isinstance(x, keras.layers.LayerNormalization) for x in model.layers)


@pytest.mark.parametrize("shape", [(1, 6, 6), (6, 6), (6, 1), (1,)])
def test_offset_that_is_not_per_channel_is_added_where_it_belongs(agrees, build, random, shape):
    agrees(build(_layer_norm(), (6, 6), _constants(random, offset=random(*shape, seed=1))))


def test_other_power_than_the_square_is_no_layer_norm(tmp_path, build, random):
    """Compared without onnxruntime's optimizer, which takes the fourth power for the square."""
    path = tmp_path / "network.onnx"
    onnx.save(build(_layer_norm(), (5, 6), _constants(random, two=np.float32(4))), path)
    model = teachers.from_onnx(path)
    assert not any(isinstance(x, keras.layers.LayerNormalization) for x in model.layers)


def test_mean_over_another_axis_is_no_layer_norm(agrees, build, random):
    nodes = _layer_norm()
    nodes[3] = make_node("ReduceMean", ["s"], ["v"], axes=[-2])
    model = agrees(build(nodes, (6, 6), _constants(random)))
    assert not any(isinstance(x, keras.layers.LayerNormalization) for x in model.layers)


def _group_norm(groups):
    return [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("Shape", ["c"], ["shape"]),
        make_node("Reshape", ["c", "grouped"], ["g"]),
        make_node("InstanceNormalization", ["g", "ones", "zeros"], ["n"], epsilon=1e-4),
        make_node("Reshape", ["n", "shape"], ["u"]),
        make_node("Mul", ["u", "scale"], ["m"]),
        make_node("Add", ["m", "offset"], ["y"], name="norm"),
    ], {
        "grouped": np.array([0, groups, -1]),
        "ones": np.ones(groups, np.float32),
        "zeros": np.zeros(groups, np.float32),
    }  # fmt: skip


# How the sizes that come back are computed: as a whole, or the batch's and the others.
SHAPES = {
    "whole": [],
    "joined": [
        make_node("Shape", ["x"], ["batch"], start=0, end=1),
        make_node("Concat", ["batch", "rest"], ["shape"], axis=0),
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [1, 3])
def test_group_norm_written_with_reshapes_keeps_channels_last(agrees, build, random, groups, shape):
    nodes, constants = _group_norm(groups)
    nodes[1:2] = SHAPES[shape] or nodes[1:2]
    constants |= {
        "rest": np.array([6, 5, 4]),
        "w": random(6, 3, 1, 1),
        "scale": random(6, 1, 1, seed=1),
        "offset": random(6, 1, 1, seed=2),
    }
    model = agrees(build(nodes, (3, 5, 4), constants), transposes=0)
    layer = model.get_layer("norm")
    assert isinstance(layer, keras.layers.GroupNormalization)
    assert (layer.groups, layer.epsilon) == (groups, pytest.approx(1e-4))


@pytest.mark.parametrize("sizes", [(0, 6, 5, 4), (-1, 6, 4, 5), (0, 3, 10, 4)])
def test_group_norm_that_is_scaled_in_another_shape_is_never_wrong(agrees, build, random, sizes):
    nodes, constants = _group_norm(3)
    nodes[4] = make_node("Reshape", ["n", "sizes"], ["u"])
    constants |= {
        "w": random(6, 3, 1, 1),
        "sizes": np.array(sizes),
        "scale": random(sizes[1], 1, 1, seed=1),
        "offset": random(sizes[1], 1, 1, seed=2),
    }
    source = build(nodes, (3, 5, 4), constants)
    if sizes == (0, 6, 5, 4):
        agrees(source)
    else:
        with pytest.raises(NotImplementedError, match=r"'norm'.*scaled in another"):
            agrees(source)


def test_scale_of_another_shape_than_the_offset_is_no_group_norm(agrees, build, random):
    nodes, constants = _group_norm(3)
    constants |= {
        "w": random(6, 3, 1, 1),
        "scale": random(1, 1, 1, seed=1),
        "offset": random(6, 1, 1, seed=2),
    }
    agrees(build(nodes, (3, 5, 4), constants), transposes=2)


def test_instance_norm_with_scales_of_its_own_is_no_group_norm(agrees, build, random):
    nodes, constants = _group_norm(3)
    constants |= {
        "w": random(6, 3, 1, 1),
        "scale": random(6, 1, 1, seed=1),
        "offset": random(6, 1, 1, seed=2),
        "ones": np.array([1, 2, 1], np.float32),
    }
    model = agrees(build(nodes, (3, 5, 4), constants), transposes=2)
    assert not isinstance(model.get_layer("norm"), keras.layers.GroupNormalization)


def test_layer_scale_becomes_part_of_the_dense_layer(agrees, build, random):
    nodes = [
        make_node("MatMul", ["x", "w"], ["m"]),
        make_node("Add", ["m", "b"], ["d"], name="dense"),
        make_node("Mul", ["gamma", "d"], ["y"], name="scale"),
    ]
    constants = {"w": random(6, 4), "b": random(4, seed=1), "gamma": random(4, seed=2)}
    model = agrees(build(nodes, (5, 6), constants))
    assert [type(layer) for layer in model.layers[1:]] == [keras.layers.Dense]
    names = model.provenance.names
    assert names["scale"] == model.layers[1].name == "scale"
    assert "dense" not in names and "m" not in names


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_factor_per_channel_becomes_part_of_the_convolution(agrees, build, random, shape):
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node("Mul", ["c", "gamma"], ["y"])]
    model = agrees(
        build(nodes, (3, 5, 4), {"w": random(4, 3, 1, 1), "gamma": random(*shape, seed=1)})
    )
    assert [type(layer) for layer in model.layers[1:]] == [keras.layers.Conv2D]


def test_factor_along_the_width_stays_a_product(agrees, build, random):
    """The twin: as many numbers as channels, but for another axis."""
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node("Mul", ["c", "gamma"], ["y"])]
    model = agrees(build(nodes, (3, 5, 4), {"w": random(4, 3, 1, 1), "gamma": random(4)}))
    assert len(model.layers) > 2
