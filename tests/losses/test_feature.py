"""squared_error against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.losses import squared_error

SHAPES = [(5, 4, 3, 2), (5, 7)]


def pair(shape, dtype="float32"):
    features, target = np.random.default_rng(0).normal(size=(2, *shape)).astype(dtype)
    return features, target


def test_batch_mean_is_golden(golden, assert_golden):
    """The published reconstruction error, from the golden maps alone."""
    errors = [
        np.mean(squared_error(golden[f"reconstruction_{t}"], golden[f"teacher_features_{t}"]))
        for t in range(2)
    ]
    assert_golden(np.stack(errors), golden["reconstruction_mse_per_teacher"])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_sample_is_the_mean_over_its_own_elements(shape):
    features, target = pair(shape)
    expected = ((features - target).astype("float64") ** 2).reshape(5, -1).mean(-1)
    np.testing.assert_allclose(squared_error(features, target), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_twice_the_difference_over_the_elements(shape):
    features, target = pair(shape)
    x = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(squared_error(x, target))
    elements = np.prod(shape[1:])
    np.testing.assert_allclose(
        tape.gradient(loss, x), 2 * (features - target) / elements, atol=1e-6
    )


def test_half_precision_is_squared_in_float32():
    """300² is beyond float16, which ends at 65,504."""
    features, target = np.full((2, 3), 300, "float16"), np.zeros((2, 3), "float16")
    loss = np.asarray(squared_error(features, target))
    assert loss.dtype == np.float32
    np.testing.assert_array_equal(loss, [9e4, 9e4])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"Received: \(2, 4, 4, 3\) and \(2, 1, 1, 3\)"):
        squared_error(np.zeros((2, 4, 4, 3)), np.zeros((2, 1, 1, 3)))
