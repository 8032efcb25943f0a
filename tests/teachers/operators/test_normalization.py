"""Normalizations against onnxruntime."""

import keras
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
    # Three axes come back in the source's own order, so they are turned; maps are not.
    model = agrees(build([node], image, parameters))
    layer = model.get_layer("bn")
    assert isinstance(layer, keras.layers.BatchNormalization)
    assert layer.epsilon == pytest.approx(epsilon)


def test_batch_normalization_in_training_mode_is_refused(agrees, build, random):
    parameters = _parameters(random)
    node = make_node(
        "BatchNormalization", ["x", *parameters], ["y", "m", "v"], name="bn", training_mode=1
    )
    with pytest.raises(NotImplementedError, match=r"'bn'.*training mode"):
        agrees(build([node], (3, 5, 4), parameters))
