"""mmd_squared and median_bandwidth against golden values and an independent NumPy reference."""

import numpy as np
import pytest
import scipy.spatial
import tensorflow as tf

from keras_amalgam.losses import median_bandwidth, mmd_squared


def numpy_kernel(x, y, bandwidths):
    d2 = ((x[:, None, :].astype("float64") - y[None].astype("float64")) ** 2).sum(-1)
    d2 = np.maximum(d2, 1e-12)
    return sum(np.exp(-d2 / (2 * s**2)) for s in bandwidths)


def numpy_mmd(x, y, bandwidths, unbiased=False):
    xx, yy, xy = (numpy_kernel(a, b, bandwidths) for a, b in ((x, x), (y, y), (x, y)))
    if unbiased:
        mean = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))  # noqa: E731
        return mean(xx) + mean(yy) - 2 * xy.mean()
    return xx.mean() + yy.mean() - 2 * xy.mean()


def rows(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_biased_mmd_and_gradient_are_golden(golden, assert_golden):
    x = tf.constant(golden["mmd_x"])
    y = rows(golden["mmd_y"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = mmd_squared(tf.math.l2_normalize(x, axis=1), y, golden["bandwidths"].tolist())
    assert_golden(value, golden["mmd_normalized_7_bandwidths"])
    assert_golden(tape.gradient(value, x), golden["mmd_x_grad"])


def test_raw_bandwidths_are_golden(golden, assert_golden):
    value = mmd_squared(golden["mmd_x"], golden["mmd_y"], (1.0, 2.0, 4.0))
    assert_golden(value, golden["mmd_raw_bandwidths_1_2_4"])


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_mmd_equals_numpy_for_samples_of_unequal_number(estimator):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(9, 4)).astype("float32"), rng.normal(size=(6, 4)).astype("float32")
    expected = numpy_mmd(x, y, (0.5, 1.0), estimator == "unbiased")
    np.testing.assert_allclose(mmd_squared(x, y, (0.5, 1.0), estimator), expected, rtol=1e-5)


def test_biased_mmd_of_equal_samples_is_zero_up_to_the_shortcut():
    x = rows(np.random.default_rng(2).normal(size=(16, 8))).astype("float32")
    assert 0 <= float(mmd_squared(x, x, (1.0, 2.0))) < 1e-6


@pytest.mark.slow
def test_unbiased_mmd_of_equal_distributions_has_mean_zero():
    rng = np.random.default_rng(3)
    values = [
        float(mmd_squared(*rng.normal(size=(2, 12, 3)).astype("float32"), (1.0,), "unbiased"))
        for _ in range(200)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


@pytest.mark.parametrize("shapes", [(1, 4), (4, 1), (1, 1)], ids=str)
def test_unbiased_mmd_of_a_single_row_is_zero_and_pulls_nowhere(shapes):
    rng = np.random.default_rng(5)
    x, y = (tf.constant(rng.normal(size=(rows, 3)).astype("float32")) for rows in shapes)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = mmd_squared(x, y, (1.0,), "unbiased")
    assert float(value) == 0.0
    np.testing.assert_array_equal(tape.gradient(value, x), np.zeros(x.shape))
    assert float(mmd_squared(x, y, (1.0,), "biased")) > 0


def test_mmd_of_float16_is_computed_in_float32():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 8, 300)).astype("float16")
    value = mmd_squared(x * 16, y * 16, (100.0,))
    expected = numpy_mmd((x * 16).astype("float32"), (y * 16).astype("float32"), (100.0,))
    np.testing.assert_allclose(value, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("shapes", "bandwidths", "estimator"),
    [
        (((4, 3), (4, 2)), (1.0,), "biased"),
        (((4, 3, 1), (4, 3)), (1.0,), "biased"),
        (((4, 3), (4, 3)), (0.0,), "biased"),
        (((4, 3), (4, 3)), (), "biased"),
        (((4, 3), (4, 3)), (1.0,), "linear"),
    ],
)
def test_bad_arguments_are_refused(shapes, bandwidths, estimator):
    with pytest.raises(ValueError, match="Received"):
        mmd_squared(np.zeros(shapes[0]), np.zeros(shapes[1]), bandwidths, estimator)


def test_median_bandwidth_of_a_few_rows_is_golden():
    """By hand: squared distances 9, 16 and 1, whose median is 9 = 2σ²."""
    assert median_bandwidth([[0.0], [3.0], [4.0]]) == pytest.approx(np.sqrt(4.5))


def test_median_bandwidth_equals_scipys_distances():
    rows = np.random.default_rng(6).normal(3, 2, size=(60, 7))
    expected = np.sqrt(np.median(scipy.spatial.distance.pdist(rows, "sqeuclidean")) / 2)
    assert median_bandwidth(rows) == pytest.approx(expected)


def test_kernel_of_the_median_bandwidth_is_one_over_e_at_the_median_distance():
    rows = np.random.default_rng(7).normal(size=(31, 3))
    distances = scipy.spatial.distance.pdist(rows)
    kernel = np.exp(-(distances**2) / (2 * median_bandwidth(rows) ** 2))
    assert np.median(kernel) == pytest.approx(np.exp(-1))


def test_median_bandwidth_scales_with_the_rows_and_does_not_see_their_mean():
    rows = np.random.default_rng(8).normal(size=(40, 5))
    expected = 1e-3 * median_bandwidth(rows)
    assert median_bandwidth(1e-3 * rows + 1e4) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_repeated_rows_do_not_draw_the_bandwidth_to_zero(seed):
    """By seed, rounding leaves their distances just above, at or just below zero."""
    few = np.random.default_rng(seed).normal(size=(5, 300))
    repeated = np.repeat(few, [3, 4, 60, 5, 6], axis=0)
    distances = scipy.spatial.distance.pdist(repeated, "sqeuclidean")
    assert np.median(distances) == 0
    expected = np.sqrt(np.median(distances[distances > 0]) / 2)
    assert median_bandwidth(repeated) == pytest.approx(expected)


def test_of_many_rows_evenly_spaced_ones_are_taken():
    rows = np.random.default_rng(9).normal(size=(2999, 2))
    assert median_bandwidth(rows) == median_bandwidth(rows)
    expected = median_bandwidth(rows[np.linspace(0, 2998, 1000).round().astype(int)])
    assert median_bandwidth(rows) == pytest.approx(expected)
    all_pairs = np.sqrt(np.median(scipy.spatial.distance.pdist(rows, "sqeuclidean")) / 2)
    assert median_bandwidth(rows) == pytest.approx(all_pairs, rel=0.1)


def test_median_bandwidth_takes_tensors_of_half_precision():
    rows = np.random.default_rng(10).normal(size=(20, 3)).astype("float16") * 1000
    assert median_bandwidth(tf.constant(rows)) == pytest.approx(median_bandwidth(rows))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((1, 3)), r"at least two samples.*Received: shape \(1, 3\)"),
        (np.zeros(5), r"Received: shape \(5,\)"),
        (np.full((4, 3), 0.1), "must not be all equal.*Received: 4 equal rows"),
        (np.full((9, 7), 1e4 + 0.1), "must not be all equal.*Received: 9 equal rows"),
        (np.array([[0.0, np.nan], [1.0, 2.0]]), "must be finite. Received: 1 values of 4"),
    ],
    ids=["one row", "vector", "equal", "equal and large", "nan"],
)
def test_rows_without_a_bandwidth_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        median_bandwidth(rows)
