"""pearson_distance and relational_losses against SciPy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_amalgam.losses import pearson_distance, relational_losses


def pair(shape=(7, 5), seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(scale=scale, size=(2, *shape)).astype("float32")


def reference(student, teacher, temperature):
    """T² times one minus SciPy's correlation: of rows, and of columns."""
    q, p = (
        scipy.special.softmax(z.astype("float64") / temperature, -1) for z in (student, teacher)
    )
    rows, columns = (
        [1 - scipy.stats.pearsonr(a, b)[0] for a, b in zip(x, y, strict=True)]
        for x, y in ((q, p), (q.T, p.T))
    )
    return temperature**2 * np.array(rows), temperature**2 * np.array(columns)


def gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(function(x))
    return np.asarray(tape.gradient(value, x))


def slopes(function, x, step):
    """Central differences of a float64 function."""
    result = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        moved = np.zeros(x.shape)
        moved[place] = step
        result[place] = (function(x + moved) - function(x - moved)) / (2 * step)
    return result


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_distance_is_one_minus_scipys_correlation(axis):
    x, y = pair()
    expected = 1 - scipy.stats.pearsonr(x, y, axis=axis).statistic
    np.testing.assert_allclose(pearson_distance(x, y, axis), expected, atol=1e-6)


def test_distance_does_not_change_with_scale_and_offset():
    x, y = pair()
    np.testing.assert_allclose(
        pearson_distance(5 * x - 3, 0.2 * y + 1, -1), pearson_distance(x, y, -1), atol=1e-5
    )


def test_distance_is_zero_to_a_multiple_and_two_to_a_negative_one():
    x, _ = pair()
    np.testing.assert_allclose(pearson_distance(x, 3 * x + 1, -1), np.zeros(7), atol=1e-5)
    np.testing.assert_allclose(pearson_distance(x, -x, -1), np.full(7, 2.0), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4 / 3])
def test_constant_vector_has_distance_one_and_no_gradient(value):
    """Eleven times 0.1 over eleven is not 0.1 in float32, and the difference is no correlation."""
    x, y = pair((7, 11))
    x[2] = value
    distance = np.asarray(pearson_distance(x, y, -1))
    assert distance[2] == 1.0
    gradients = gradient(lambda x: pearson_distance(x, y, -1), x)
    np.testing.assert_array_equal(gradients[2], np.zeros(11))
    assert np.abs(np.delete(gradients, 2, 0)).min() > 0


def test_compiled_by_xla_a_constant_vector_has_no_gradient():
    """XLA makes NaN of the root's slope at zero times zero, where TensorFlow makes zero."""
    x, y = pair()
    x[2] = 0.0
    compiled = tf.function(lambda x: tf.gradients(pearson_distance(x, y, -1), x), jit_compile=True)
    expected = gradient(lambda x: pearson_distance(x, y, -1), x)
    np.testing.assert_allclose(compiled(tf.constant(x))[0], expected, atol=1e-6)


def test_constant_target_gives_distance_one_and_no_gradient():
    x, y = pair()
    y[:] = 0.3
    np.testing.assert_array_equal(pearson_distance(x, y, -1), np.ones(7))
    np.testing.assert_array_equal(
        gradient(lambda x: pearson_distance(x, y, -1), x), np.zeros((7, 5))
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_gradient_of_the_distance_equals_finite_differences(axis):
    x, y = pair()
    expected = slopes(
        lambda x: np.sum(1 - scipy.stats.pearsonr(x, y, axis=axis).statistic),
        x.astype("float64"),
        1e-5,
    )
    actual = gradient(lambda x: pearson_distance(x, y, axis), x)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_distance_of_extreme_values_equals_scipy(dtype):
    x = np.array([[1e4, -1e4, 0, 5e3], [1e4, 1e4, -1e4, 1]], dtype)
    y = np.array([[-1e4, 1e4, 3, 1e4], [1, 2, 3, 4]], dtype)
    expected = 1 - scipy.stats.pearsonr(x.astype("float64"), y.astype("float64"), axis=1).statistic
    distance = np.asarray(pearson_distance(x, y, -1))
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance, expected, atol=1e-5)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3, 4), (4,))], ids=str)
def test_arrays_of_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match="must have one shape. Received: "):
        pearson_distance(*map(np.zeros, shapes), axis=-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_relations_within_images_and_within_classes_equal_scipy(temperature):
    student, teacher = pair((9, 6), scale=2.0)
    per_sample, per_class = relational_losses(student, teacher, temperature)
    rows, columns = reference(student, teacher, temperature)
    np.testing.assert_allclose(per_sample, rows, atol=1e-5 * temperature**2)
    np.testing.assert_allclose(per_class, columns, atol=1e-5 * temperature**2)


@pytest.mark.parametrize("part", [0, 1], ids=["per_sample", "per_class"])
def test_gradient_of_the_relations_equals_finite_differences(part):
    student, teacher = pair((5, 4))
    expected = slopes(
        lambda z: reference(z, teacher, 2.0)[part].sum(), student.astype("float64"), 1e-5
    )
    actual = gradient(lambda z: relational_losses(z, teacher, 2.0)[part], student)
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_offset_of_all_logits_changes_nothing():
    student, teacher = pair()
    one, other = relational_losses(student, teacher), relational_losses(student + 7, teacher - 2)
    for loss, shifted in zip(one, other, strict=True):
        np.testing.assert_allclose(shifted, loss, atol=1e-5)


def test_equal_logits_lose_nothing():
    logits, _ = pair()
    for loss, length in zip(relational_losses(logits, logits, 2.0), (7, 5), strict=True):
        np.testing.assert_allclose(loss, np.zeros(length), atol=1e-5)


def test_single_image_has_no_relation_to_others_and_no_gradient_from_it():
    student, teacher = pair((1, 5))
    per_sample, per_class = relational_losses(student, teacher)
    np.testing.assert_allclose(per_sample, reference_of_one(student, teacher), atol=1e-5)
    np.testing.assert_array_equal(per_class, np.zeros(5))
    np.testing.assert_array_equal(
        gradient(lambda z: relational_losses(z, teacher)[1], student), np.zeros((1, 5))
    )


def reference_of_one(student, teacher):
    q, p = (scipy.special.softmax(z[0].astype("float64")) for z in (student, teacher))
    return [1 - scipy.stats.pearsonr(q, p)[0]]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_extreme_logits_give_the_relations_of_one_hot_vectors(dtype):
    """Different one-hot rows of three correlate by −1/2; a class that nobody takes by zero."""
    student = np.array([[1e4, -1e4, -1e4], [1e4, -1e4, -1e4], [-1e4, 1e4, -1e4]], dtype)
    teacher = np.array([[1e4, -1e4, -1e4], [-1e4, 1e4, -1e4], [-1e4, 1e4, -1e4]], dtype)
    per_sample, per_class = relational_losses(student, teacher)
    np.testing.assert_allclose(per_sample, [0.0, 1.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(per_class, [0.5, 0.5, 1.0], atol=1e-6)
    for part in range(2):
        gradients = gradient(lambda z, part=part: relational_losses(z, teacher)[part], student)
        np.testing.assert_array_equal(gradients, np.zeros((3, 3)))


def test_student_without_an_opinion_is_at_distance_one_with_small_gradients():
    """As one with a head of zeros: rounding must not be correlated."""
    student, teacher = np.full((4, 7), 0.3, "float32"), pair((4, 7))[1]
    per_sample, per_class = relational_losses(student, teacher)
    np.testing.assert_array_equal(per_sample, np.ones(4))
    np.testing.assert_array_equal(per_class, np.ones(7))
    gradients = gradient(lambda z: relational_losses(z, teacher)[0], student)
    assert np.abs(gradients).max() <= 1e-6


def test_wrong_classes_and_temperature_are_refused():
    for shapes in [((2, 3), (2, 4)), ((2, 1), (2, 1))]:
        with pytest.raises(ValueError, match=r"same classes, at least two. Received: shapes \(2, "):
            relational_losses(*map(np.zeros, shapes))
    with pytest.raises(ValueError, match="`temperature` must be positive. Received: 0"):
        relational_losses(np.zeros((2, 3)), np.zeros((2, 3)), 0)


def test_losses_are_float32_under_other_global_types(all_settings):
    student, teacher = pair()
    with all_settings():
        losses = relational_losses(student, teacher)
    assert [loss.dtype for loss in losses] == ["float32", "float32"]
