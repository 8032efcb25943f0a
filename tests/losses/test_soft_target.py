"""Soft targets and standardized logits against golden values and SciPy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_amalgam.losses import soft_target_loss, standardized_logits


def reference(student, teacher, temperature):
    p = scipy.special.softmax(teacher.astype("float64") / temperature, axis=-1)
    log_q = scipy.special.log_softmax(student.astype("float64") / temperature, axis=-1)
    return -(temperature**2) * (p * log_q).sum(-1)


@pytest.mark.parametrize(
    ("temperature", "key"), [(1, "soft_ce_t1"), (4, "soft_ce_t4_scaled_by_16")]
)
def test_batch_mean_is_golden(golden, assert_golden, temperature, key):
    loss = soft_target_loss(golden["soft_logits"], golden["soft_teacher_logits"], temperature)
    assert_golden(np.mean(loss), golden[key])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 7.0])
def test_each_sample_equals_numpy(temperature):
    student, teacher = np.random.default_rng(0).normal(scale=5, size=(2, 11, 6)).astype("float32")
    loss = soft_target_loss(student, teacher, temperature)
    assert loss.shape == (11,)
    np.testing.assert_allclose(loss, reference(student, teacher, temperature), rtol=2e-6)


def test_gradient_is_temperature_times_difference_of_distributions():
    student, teacher = np.random.default_rng(1).normal(size=(2, 5, 4)).astype("float32")
    logits = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(soft_target_loss(logits, teacher, 3.0))
    q, p = scipy.special.softmax(student / 3, axis=-1), scipy.special.softmax(teacher / 3, axis=-1)
    np.testing.assert_allclose(tape.gradient(loss, logits), 3.0 * (q - p), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_extreme_logits_give_the_exact_loss(dtype):
    student = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype)
    teacher = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], dtype)
    np.testing.assert_allclose(soft_target_loss(student, teacher), [0.0, 2e4], rtol=1e-3)


def test_wrong_shapes_and_temperature_are_refused():
    with pytest.raises(ValueError, match="same classes"):
        soft_target_loss(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="temperature"):
        soft_target_loss(np.zeros((2, 3)), np.zeros((2, 3)), 0)


def gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(function(x))
    return np.asarray(tape.gradient(value, x))


def test_standardized_logits_are_scipys_z_scores():
    logits = np.random.default_rng(0).normal(3, 5, size=(11, 6)).astype("float32")
    expected = scipy.stats.zscore(logits.astype("float64"), axis=-1)
    np.testing.assert_allclose(standardized_logits(logits), expected, atol=1e-5)


def test_standardized_logits_do_not_see_scale_and_offset():
    logits = np.random.default_rng(1).normal(size=(5, 6)).astype("float32")
    np.testing.assert_allclose(
        standardized_logits(40 * logits - 9), standardized_logits(logits), atol=1e-5
    )


def test_gradient_of_standardized_logits_equals_finite_differences():
    logits, weights = np.random.default_rng(2).normal(size=(2, 4, 5))
    expected, step = np.zeros((4, 5)), 1e-5
    for place in np.ndindex(4, 5):
        moved = np.zeros((4, 5))
        moved[place] = step
        ends = [scipy.stats.zscore(logits + sign * moved, axis=-1) for sign in (1, -1)]
        expected[place] = np.sum(weights * (ends[0] - ends[1])) / (2 * step)
    actual = gradient(lambda z: standardized_logits(z) * weights, logits.astype("float32"))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_row_of_equal_logits_becomes_zeros_and_has_no_gradient(value):
    """0.1 and 1e4 are not their own rounded means over seven classes."""
    logits = np.random.default_rng(3).normal(size=(3, 7)).astype("float32")
    logits[1] = value
    np.testing.assert_array_equal(standardized_logits(logits)[1], np.zeros(7))
    gradients = gradient(lambda z: standardized_logits(z) ** 3, logits)
    np.testing.assert_array_equal(gradients[1], np.zeros(7))
    assert np.abs(gradients[[0, 2]]).min() > 0


def test_compiled_by_xla_a_row_of_equal_logits_has_no_gradient():
    """XLA makes NaN of the root's slope at zero times zero, where TensorFlow makes zero."""
    logits = np.random.default_rng(3).normal(size=(3, 7)).astype("float32")
    logits[1] = 0.0
    compiled = tf.function(lambda z: tf.gradients(standardized_logits(z) ** 3, z), jit_compile=True)
    expected = gradient(lambda z: standardized_logits(z) ** 3, logits)
    np.testing.assert_allclose(compiled(tf.constant(logits))[0], expected, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_standardized_extreme_logits_are_exact(dtype):
    logits = np.array([[1e4, -1e4], [1e4, 1e4 + 8]], dtype)
    result = np.asarray(standardized_logits(logits))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[1, -1], [-1, 1]], rtol=1e-6)


def test_student_of_another_scale_loses_nothing_after_standardization():
    teacher = np.random.default_rng(4).normal(size=(6, 5)).astype("float32")
    student, target = standardized_logits(0.1 * teacher + 2), standardized_logits(teacher)
    loss = soft_target_loss(student, target, 2.0)
    np.testing.assert_allclose(loss, soft_target_loss(target, target, 2.0), rtol=1e-5)
    assert np.min(soft_target_loss(0.1 * teacher, teacher, 2.0) - loss) > 1e-2
