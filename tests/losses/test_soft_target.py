"""soft_target_loss against golden values and an independent NumPy reference."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_amalgam.losses import soft_target_loss


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
