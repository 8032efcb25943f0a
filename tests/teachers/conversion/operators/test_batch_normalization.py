"""Batch normalization against onnxruntime, of maps, columns, constants and kernels."""

import keras
import numpy as np
import pytest
from onnx.helper import make_node


def _parameters(random, units=3):
    return {
        "scale": random(units, seed=1, low=0.5, high=2),
        "offset": random(units, seed=2),
        "mean": random(units, seed=3),
        "variance": random(units, seed=4, low=1e-4, high=1e-2),
    }


@pytest.mark.parametrize("image", [(3, 5, 4), (3,), (3, 7)])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
def test_batch_normalization_agrees(agrees, build, random, image, epsilon):
    parameters = _parameters(random)
    node = make_node("BatchNormalization", ["x", *parameters], ["y"], name="bn", epsilon=epsilon)
    model = agrees(build([node], image, parameters))
    layer = model.get_layer("bn")
    assert isinstance(layer, keras.layers.BatchNormalization)
    assert layer.epsilon == pytest.approx(epsilon)


@pytest.mark.parametrize("opset", [9, 14])
def test_batch_normalization_of_a_flattened_map_agrees(agrees, build, random, opset):
    parameters = _parameters(random, 60)
    nodes = [
        make_node("Flatten", ["x"], ["f"]),
        make_node("BatchNormalization", ["f", *parameters], ["y"]),
    ]
    agrees(build(nodes, (3, 5, 4), parameters, opset=opset))


@pytest.mark.parametrize("opset", [8, 13, 14])
def test_batch_normalization_of_a_constant_agrees(agrees, build, random, opset):
    parameters = _parameters(random)
    nodes = [
        make_node("BatchNormalization", ["c", *parameters], ["n"]),
        make_node("Add", ["x", "n"], ["y"]),
    ]
    agrees(build(nodes, (3, 5, 4), parameters | {"c": random(1, 3, 5, 4)}, opset=opset))


def test_batch_normalization_of_kernels_in_training_mode_agrees(agrees, build, random):
    parameters = _parameters(random, 4)  # Weight standardization as torch writes it.
    nodes = [
        make_node("BatchNormalization", ["k", *parameters], ["n", "m", "v"], training_mode=1),
        make_node("Reshape", ["n", "shape"], ["w"]),
        make_node("Conv", ["x", "w"], ["y"]),
    ]
    parameters |= {"k": random(1, 4, 3 * 3 * 3), "shape": np.array([4, 3, 3, 3])}
    agrees(build(nodes, (3, 7, 6), parameters, opset=17))


@pytest.mark.parametrize("fold_batch_norm", [False, True])
def test_training_mode_behind_a_convolution_is_refused(agrees, build, random, fold_batch_norm):
    parameters = _parameters(random)
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node(
            "BatchNormalization", ["c", *parameters], ["y", "m", "v"], name="bn", training_mode=1
        ),
    ]
    source = build(nodes, (3, 5, 4), parameters | {"w": random(3, 3, 1, 1)})
    with pytest.raises(NotImplementedError, match=r"'bn'.*training mode"):
        agrees(source, fold_batch_norm=fold_batch_norm)


def test_batch_normalization_in_training_mode_is_refused(agrees, build, random):
    parameters = _parameters(random)
    node = make_node(
        "BatchNormalization", ["x", *parameters], ["y", "m", "v"], name="bn", training_mode=1
    )
    with pytest.raises(NotImplementedError, match=r"'bn'.*training mode"):
        agrees(build([node], (3, 5, 4), parameters))


def test_batch_normalization_of_every_pixel_is_refused(agrees, build, random):
    parameters = _parameters(random)
    node = make_node("BatchNormalization", ["x", *parameters], ["y"], spatial=0)
    with pytest.raises(NotImplementedError, match="spatial=0"):
        agrees(build([node], (3, 5, 4), parameters, opset=7))
