"""Losses between features against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.spatial
import scipy.special
import tensorflow as tf

from keras_amalgam.losses import cosine_distance, smooth_l1, squared_error
from keras_amalgam.losses.feature import unit_vectors

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


def gradient(loss, features, target):
    x = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(loss(x, target))
    return np.asarray(tape.gradient(value, x))


def slopes(reference, features, target, step=1e-5):
    """Central differences of a float64 function, for each element."""
    x = features.astype("float64")
    result = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        moved = np.zeros(x.shape)
        moved[place] = step
        difference = reference(x + moved, target) - reference(x - moved, target)
        result[place] = difference.sum() / (2 * step)
    return result


def numpy_smooth_l1(features, target, beta):
    """SciPy's Huber function over its threshold."""
    huber = scipy.special.huber(beta, features.astype("float64") - target.astype("float64"))
    return huber.reshape(len(features), -1).mean(-1) / beta


def scipy_cosine(features, target):
    places = [x.reshape(len(x), -1, x.shape[-1]) for x in (features, target)]
    distances = [
        [scipy.spatial.distance.cosine(a, b) for a, b in zip(*maps, strict=True)]
        for maps in zip(*places, strict=True)
    ]
    return np.mean(distances, axis=-1)


@pytest.mark.parametrize("beta", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_smooth_l1_equals_scipys_huber_function_over_beta(shape, beta):
    features, target = pair(shape)
    expected = numpy_smooth_l1(features, target, beta)
    np.testing.assert_allclose(smooth_l1(features, target, beta), expected, rtol=1e-5)


def test_smooth_l1_of_small_differences_is_half_the_squared_error_over_beta():
    features, target = pair((5, 7))
    np.testing.assert_allclose(
        smooth_l1(features, target, 100.0), squared_error(features, target) / 200.0, rtol=1e-5
    )


def test_gradient_of_smooth_l1_is_the_clipped_difference_over_beta():
    features, target = pair((5, 7))
    expected = np.clip((features - target) / 0.8, -1, 1) / 7
    actual = gradient(lambda x, y: smooth_l1(x, y, 0.8), features, target)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_smooth_l1_of_extremes_is_the_absolute_error_with_a_gradient_of_one(dtype):
    features, target = np.array([[1e4], [-1e4]], dtype), np.array([[-1e4], [1e4]], dtype)
    loss = np.asarray(smooth_l1(features, target))
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, [2e4 - 0.5] * 2, rtol=1e-6)
    np.testing.assert_array_equal(gradient(smooth_l1, features, target), [[1.0], [-1.0]])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cosine_distance_equals_scipy_at_each_place(shape):
    features, target = pair(shape)
    expected = scipy_cosine(features, target)
    np.testing.assert_allclose(cosine_distance(features, target), expected, atol=1e-6)


def test_cosine_distance_of_a_map_is_that_of_its_places_as_vectors():
    features, target = pair((5, 4, 3, 2))
    places = cosine_distance(features.reshape(-1, 2), target.reshape(-1, 2))
    expected = np.asarray(places).reshape(5, 12).mean(-1)
    np.testing.assert_allclose(cosine_distance(features, target), expected, atol=1e-6)


def test_cosine_distance_does_not_see_the_length():
    features, target = pair((5, 7))
    lengths = np.array([[1e-3], [1e3], [1], [7], [1e6]], "float32")
    np.testing.assert_allclose(
        cosine_distance(features * lengths, target), cosine_distance(features, target), atol=1e-6
    )


@pytest.mark.parametrize("shape", [(2, 2, 2, 3), (3, 4)], ids=str)
def test_gradient_of_the_cosine_distance_equals_finite_differences(shape):
    features, target = pair(shape)
    expected = slopes(scipy_cosine, features, target)
    np.testing.assert_allclose(gradient(cosine_distance, features, target), expected, atol=1e-5)


def test_vector_of_zeros_is_at_distance_one_and_has_no_gradient():
    """As channels that ReLU has shut at one place of a map."""
    features, target = pair((2, 2, 1, 3))
    features[0, 1] = 0.0
    alone = cosine_distance(features[:1, 0, 0], target[:1, 0, 0])
    loss = np.asarray(cosine_distance(features, target))
    np.testing.assert_allclose(loss[0], (np.asarray(alone)[0] + 1.0) / 2, atol=1e-6)
    gradients = gradient(cosine_distance, features, target)
    np.testing.assert_array_equal(gradients[0, 1], np.zeros((1, 3)))
    assert np.abs(gradients[0, 0]).min() > 0


def test_compiled_by_xla_a_vector_of_zeros_has_no_gradient():
    """XLA makes NaN of the slope of 1/√ at zero times zero, where TensorFlow makes zero."""
    features, target = pair((2, 2, 1, 3))
    features[0, 1] = 0.0
    compiled = tf.function(lambda x: tf.gradients(cosine_distance(x, target), x), jit_compile=True)
    expected = gradient(cosine_distance, features, target)
    np.testing.assert_allclose(compiled(tf.constant(features))[0], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cosine_distance_of_extremes_is_exact(dtype):
    features = np.array([[1e4, 1e4], [1e4, -1e4], [1e4, 0]], dtype)
    target = np.array([[1e4, 1e4], [-1e4, 1e4], [0, 1e4]], dtype)
    loss = np.asarray(cosine_distance(features, target))
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, [0.0, 2.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("loss", [smooth_l1, cosine_distance])
def test_every_loss_refuses_shapes_that_would_broadcast(loss):
    with pytest.raises(ValueError, match=r"Received: \(2, 4, 4, 3\) and \(2, 1, 1, 3\)"):
        loss(np.zeros((2, 4, 4, 3)), np.zeros((2, 1, 1, 3)))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_smooth_l1_refuses_a_beta_that_is_not_positive(beta):
    with pytest.raises(ValueError, match="`beta` must be positive. Received: "):
        smooth_l1(np.zeros((2, 3)), np.zeros((2, 3)), beta)


def test_unit_vectors_have_length_one_and_zeros_stay_without_a_gradient():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [-1e4, 0.0]], "float32")
    np.testing.assert_allclose(unit_vectors(x), [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)
    slope = gradient(lambda a, b: unit_vectors(a) * b, x, np.array([1.0, 2.0], "float32"))
    np.testing.assert_array_equal(slope[1], [0, 0])
    # d(x/‖x‖)·b = (b − (b·x̂)x̂)/‖x‖ with x̂ = (0.6, 0.8), b·x̂ = 2.2
    np.testing.assert_allclose(slope[0], [(1 - 2.2 * 0.6) / 5, (2 - 2.2 * 0.8) / 5], rtol=1e-5)
