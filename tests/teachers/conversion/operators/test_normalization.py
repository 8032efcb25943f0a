"""Normalizations against onnxruntime, and against exact arithmetic where the mean is large."""

from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.conversion.operators import registry


def _with_shape_of_input(source):
    """The model with the shape that shape inference does not find for its output."""
    source.graph.output[0].type.CopyFrom(source.graph.input[0].type)
    return source


@pytest.mark.parametrize("image", [(3, 5, 4), (3, 7)])
@pytest.mark.parametrize("epsilon", [1e-5, 0.3])
def test_instance_normalization_agrees(agrees, build, random, image, epsilon):
    constants = {"s": random(3, seed=1), "o": random(3, seed=2)}
    node = make_node("InstanceNormalization", ["x", *constants], ["y"], name="n", epsilon=epsilon)
    layer = agrees(build([node], image, constants, opset=11)).get_layer("n")
    assert isinstance(layer, keras.layers.GroupNormalization)


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("image", [(6, 5, 4), (6, 7)])
def test_group_normalization_agrees(agrees, build, random, groups, opset, image):
    units = 6 if opset == 21 else groups
    constants = {"s": random(units, seed=1), "o": random(units, seed=2)}
    node = make_node("GroupNormalization", ["x", *constants], ["y"], num_groups=groups)
    agrees(_with_shape_of_input(build([node], image, constants, opset=opset)))


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize(
    ("image", "axis", "shape"),
    [
        ((6,), -1, (6,)),
        ((5, 6), -1, (6,)),
        ((5, 6), 1, (5, 6)),
        ((3, 5, 4), -1, (4,)),
        ((3, 5, 4), 2, (5, 4)),
        ((3, 5, 4), -3, (3, 5, 4)),
        ((3, 5, 4), 1, (3, 1, 1)),
        ((3, 5, 4), 2, (1, 1, 5, 4)),
        ((5, 6), -1, (1,)),
    ],
)
def test_layer_normalization_agrees(agrees, build, random, image, axis, shape, offset):
    constants = {"s": random(*shape, seed=1)} | ({"o": random(*shape, seed=2)} if offset else {})
    node = make_node("LayerNormalization", ["x", *constants], ["y"], axis=axis, epsilon=1e-3)
    agrees(build([node], image, constants))


def test_layer_normalization_over_channels_that_stand_last_agrees(agrees, build, random):
    constants = {"s": random(3, seed=1), "o": random(3, seed=2)}
    nodes = [
        make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        make_node("LayerNormalization", ["t", *constants], ["l"], name="n"),
        make_node("Transpose", ["l"], ["y"], perm=[0, 3, 1, 2]),
    ]
    # The pooling says that images enter with their channels first.
    nodes.insert(0, make_node("GlobalAveragePool", ["x"], ["p"]))
    nodes.append(make_node("Add", ["y", "p"], ["z"]))
    model = agrees(build(nodes, (3, 5, 4), constants))
    assert model.get_layer("n").axis == [3]


@pytest.mark.parametrize("operator", ["LayerNormalization", "RMSNormalization"])
def test_normalization_of_a_flattened_map_agrees(agrees, build, random, operator):
    constants = {"s": random(60)}
    nodes = [make_node("Flatten", ["x"], ["f"]), make_node(operator, ["f", "s"], ["y"])]
    agrees(build(nodes, (3, 5, 4), constants, opset=23))


@pytest.mark.parametrize(
    ("image", "axis", "shape", "transposes"),
    [
        ((5, 6), -1, (6,), 0),
        ((3, 5, 4), 1, (3, 5, 4), 0),
        ((3, 5, 4), -1, (4,), 2),
        ((3, 5, 4), 2, (5, 4), 2),
        ((6,), 1, (1,), 0),
    ],
)
def test_rms_normalization_agrees(agrees, build, random, image, axis, shape, transposes):
    node = make_node("RMSNormalization", ["x", "s"], ["y"], axis=axis, epsilon=1e-3)
    source = build([node], image, {"s": random(*shape)}, opset=23)
    agrees(source, transposes=transposes)


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("axes", [[2, 3], [-1], [1, 2, 3], [1]])
def test_mean_variance_normalization_agrees(agrees, build, opset, axes):
    node = make_node("MeanVarianceNormalization", ["x"], ["y"], axes=axes)
    agrees(build([node], (3, 5, 4), opset=opset))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("image", "axis"), [((3, 5, 4), 1), ((5, 6), -1), ((6,), 1)])
def test_lp_normalization_agrees_also_of_zeros(agrees, build, power, image, axis):
    nodes = [
        make_node("Sub", ["x", "x"], ["zeros"]),
        make_node("LpNormalization", ["zeros"], ["y0"], axis=axis, p=power),
        make_node("LpNormalization", ["x"], ["y1"], axis=axis, p=power),
    ]
    agrees(build(nodes, image, outputs=["y0", "y1"]))


@pytest.mark.parametrize("node", ["LpNormalization", "ReduceL2"])
def test_gradient_at_a_vector_of_zeros_is_finite(agrees, build, node):
    """The root of a sum of squares has an infinite slope there, which XLA multiplies by zero."""
    nodes = [make_node("LpNormalization", ["x"], ["y"], axis=1, p=2)]
    if node == "ReduceL2":  # As PyTorch's `normalize` is exported.
        nodes = [
            make_node("ReduceL2", ["x"], ["n"], axes=[1]),
            make_node("Clip", ["n", "least"], ["c"]),
            make_node("Div", ["x", "c"], ["y"]),
        ]
    model = agrees(build(nodes, (6,), {"least": np.float32(1e-12)}))

    @tf.function(jit_compile=True)
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(model(images))
        return tape.gradient(loss, images)

    assert np.isfinite(gradient(tf.zeros((1, 6)))).all()


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("size", [1, 3, 5, 9, 1001])
@pytest.mark.parametrize("opset", [9, 13])
def test_local_response_normalization_agrees_also_when_read_again(
    agrees, build, random, tmp_path, size, opset
):
    node = make_node("LRN", ["x"], ["y"], size=size, alpha=0.9, beta=0.6, bias=1.3)
    model = agrees(build([node], (7, 5, 4), opset=opset))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    images = random(2, 5, 4, 7)
    np.testing.assert_array_equal(again(images), model(images))


def test_window_of_too_many_channels_is_refused(agrees, build):
    node = make_node("LRN", ["x"], ["y"], size=1001)
    with pytest.raises(NotImplementedError, match="window of 599 channels would take as many"):
        agrees(build([node], (300, 2, 2)))


def test_even_window_of_channels_reaches_further_behind(build, random, tmp_path):
    # onnxruntime knows odd windows only; the standard has one channel more behind than before.
    node = make_node("LRN", ["x"], ["y"], size=4, alpha=0.9)
    onnx.save(build([node], (7, 5, 4)), tmp_path / "lrn.onnx")
    images = random(2, 5, 4, 7)
    squares = np.pad(images**2, [(0, 0)] * 3 + [(1, 2)])
    total = sum(squares[..., first : first + 7] for first in range(4))
    received = teachers.from_onnx(tmp_path / "lrn.onnx", verify=False)(images)
    np.testing.assert_allclose(received, images / (1 + 0.9 / 4 * total) ** 0.75, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "weights", "attributes", "axes"),
    [
        ("InstanceNormalization", 3, {}, (1, 2)),
        ("LayerNormalization", 4, {"axis": 3}, (2,)),
        ("MeanVarianceNormalization", 0, {"axes": [2, 3]}, (1, 2)),
    ],
)
def test_large_mean_costs_no_accuracy(build, random, tmp_path, operator, weights, attributes, axes):
    constants = {"s": np.ones(weights, np.float32), "o": np.zeros(weights, np.float32)}
    constants = constants if weights else {}
    node = make_node(operator, ["x", *constants], ["y"], **attributes)
    onnx.save(build([node], (3, 5, 4), constants), tmp_path / "network.onnx")
    model = teachers.from_onnx(tmp_path / "network.onnx", verify=False)
    images = 300 + random(3, 5, 4, 3, low=-3, high=3)
    exact = images.astype(np.float64)
    mean, variance = exact.mean(axes, keepdims=True), exact.var(axes, keepdims=True)
    exact = (exact - mean) / np.sqrt(variance + (1e-5 if weights else 0))
    assert np.abs(keras.ops.convert_to_numpy(model(images)) - exact).max() <= 1e-4 * np.ptp(exact)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("LayerNormalization", {"axis": 0}),
        ("MeanVarianceNormalization", {}),
        ("LpNormalization", {"axis": -4}),
    ],
)
def test_normalization_across_the_batch_is_refused(agrees, build, operator, attributes):
    constants = {"s": np.ones(1, np.float32)} if operator == "LayerNormalization" else {}
    node = make_node(operator, ["x", *constants], ["y"], **attributes)
    with pytest.raises(NotImplementedError, match="across the batch"):
        agrees(_with_shape_of_input(build([node], (3, 5, 4), constants)))


def test_weights_that_differ_beyond_their_axes_are_refused(agrees, build, random):
    node = make_node("LayerNormalization", ["x", "s"], ["y"])
    with pytest.raises(NotImplementedError, match=r"\(5, 4\) differs beyond"):
        agrees(build([node], (3, 5, 4), {"s": random(5, 4)}))


def test_weights_of_an_open_size_are_refused(agrees, build, random):
    node = make_node("LayerNormalization", ["x", "s"], ["y"])
    with pytest.raises(NotImplementedError, match="input_shape"):
        agrees(build([node], (3, "h", "w"), {"s": random(1)}), image=(3, 5, 4))


def test_another_epsilon_would_be_noticed(agrees, build, random, monkeypatch):
    constants = {"s": random(6, seed=1), "o": random(6, seed=2)}
    source = build([make_node("LayerNormalization", ["x", *constants], ["y"])], (5, 6), constants)
    handler = registry._HANDLERS["", "LayerNormalization"][17]
    monkeypatch.setitem(
        registry._HANDLERS["", "LayerNormalization"],
        17,
        lambda call: handler(replace(call, node=replace(call.node, attributes={"epsilon": 1e-3}))),
    )
    with pytest.raises(AssertionError, match="largest error"):
        agrees(source)


def test_group_normalization_of_a_flattened_map_agrees(build, random, tmp_path):
    """Against NumPy: onnxruntime does not know it for two axes."""
    scale, offset = random(12), random(12, seed=1)
    nodes = [
        make_node("Flatten", ["x"], ["f"]),
        make_node("GroupNormalization", ["f", "s", "o"], ["y"], num_groups=2),
    ]
    source = build(nodes, (3, 2, 2), {"s": scale, "o": offset}, opset=21)
    source.ir_version = 10
    onnx.save(source, tmp_path / "network.onnx")
    model = teachers.from_onnx(tmp_path / "network.onnx", verify=False)
    images = random(4, 3, 2, 2, seed=2)
    groups = images.reshape(4, 2, 6)
    groups = groups - groups.mean(2, keepdims=True)
    groups /= np.sqrt((groups**2).mean(2, keepdims=True) + 1e-5)
    expected = groups.reshape(4, 12) * scale + offset
    np.testing.assert_allclose(model(images.transpose(0, 2, 3, 1)), expected, atol=1e-5)
