"""Moments against NumPy on all samples at once."""

import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.layers import Moments

SHAPES = {"maps": (3, 2, 5), "vectors": (5,)}


def batches_of(shape, numbers=(7, 1, 12, 4), mean=0.0, seed=0):
    """Correlated features, each batch around a mean of its own."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(shape[-1], shape[-1]))
    return [
        mean + rng.normal(size=shape[-1]) + rng.normal(size=(number, *shape)) @ mixing
        for number in numbers
    ]


def moments_of(batches):
    moments = Moments()
    for batch in batches:
        moments.update(batch)
    return moments


def samples_of(batches):
    return np.concatenate([np.asarray(b, "float64").reshape(-1, b.shape[-1]) for b in batches])


@pytest.mark.parametrize("mean", [0.0, 1e4, -1e8])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_moments_of_batches_are_numpys_of_all_samples(shape, mean):
    batches = batches_of(shape, mean=mean)
    moments, samples = moments_of(batches), samples_of(batches)
    assert moments.count == len(samples)
    np.testing.assert_allclose(moments.mean, samples.mean(0), rtol=1e-12, atol=1e-12)
    # At a mean of 1e8 float64 itself resolves the samples to 1.5e-8.
    np.testing.assert_allclose(moments.covariance, np.cov(samples.T), rtol=1e-6, atol=1e-6)


def test_sum_of_squares_would_not_pass_at_a_large_mean():
    samples = samples_of(batches_of((5,), mean=1e8))
    naive = (samples.T @ samples) / len(samples) - np.outer(samples.mean(0), samples.mean(0))
    assert np.abs(naive - np.cov(samples.T)).max() > 0.1


def test_order_and_division_into_batches_do_not_matter():
    batches = batches_of((5,))
    expected = moments_of(batches)
    for other in (batches[::-1], [np.concatenate(batches)], list(np.concatenate(batches)[:, None])):
        moments = moments_of(other)
        assert moments.count == expected.count
        np.testing.assert_allclose(moments.mean, expected.mean, atol=1e-12)
        np.testing.assert_allclose(moments.covariance, expected.covariance, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_low_precision_is_gathered_in_float64(dtype):
    """The sum of 64 squares of 1e4 is beyond float16, and 1e4 + 0.1 beyond float32's digits."""
    batches = [(1e4 + 64 * batch).astype(dtype) for batch in batches_of((5,), numbers=(64, 64))]
    moments, samples = moments_of(batches), samples_of(batches)
    assert moments.mean.dtype == moments.covariance.dtype == np.float64
    np.testing.assert_allclose(moments.covariance, np.cov(samples.T), rtol=1e-9)


def test_tensors_are_taken():
    batches = [batch.astype("float32") for batch in batches_of((3, 2, 5))]
    expected, moments = moments_of(batches), moments_of(map(tf.constant, batches))
    np.testing.assert_array_equal(moments.covariance, expected.covariance)


def test_empty_batch_changes_nothing():
    batches = batches_of((5,))
    expected = moments_of(batches)
    moments = moments_of([np.zeros((0, 5)), *batches, np.zeros((0, 5))])
    assert moments.count == expected.count
    np.testing.assert_array_equal(moments.mean, expected.mean)
    np.testing.assert_array_equal(moments.covariance, expected.covariance)


def test_batch_and_result_are_not_shared():
    batch = np.arange(10.0).reshape(5, 2)
    moments = moments_of([batch])
    moments.mean[:] = -1.0
    batch[:] = 7.0
    np.testing.assert_allclose(moments.mean, [4.0, 5.0])


def test_no_sample_has_no_mean_and_one_no_covariance():
    with pytest.raises(ValueError, match="at least 1 samples. Received: 0"):
        _ = Moments().mean
    with pytest.raises(ValueError, match="at least 2 samples. Received: 1"):
        _ = moments_of([np.zeros((1, 3))]).covariance


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((4, 3)), "same channels. Received: 3 after batches of 5"),
        (np.zeros(5), r"batch axis.*Received: shape \(5,\)"),
        (np.full((2, 5), np.inf), "must be finite. Received: 10 values of 10"),
    ],
    ids=["channels", "rank", "infinite"],
)
def test_batch_that_does_not_fit_is_refused_and_leaves_no_trace(batch, message):
    batches = batches_of((5,))
    moments, expected = moments_of(batches), moments_of(batches)
    with pytest.raises(ValueError, match=message):
        moments.update(batch)
    assert moments.count == expected.count
    np.testing.assert_array_equal(moments.covariance, expected.covariance)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_variances_alone_are_numpys(shape):
    batches = batches_of(shape, mean=1e4)
    moments = Moments(variances_only=True)
    for batch in batches:
        moments.update(batch)
    found = samples_of(batches).var(0, ddof=1)
    np.testing.assert_allclose(moments.variances, found, rtol=1e-6)
    np.testing.assert_allclose(moments_of(batches).variances, found, rtol=1e-6)
    with pytest.raises(ValueError, match="Received: variances_only=True"):
        _ = moments.covariance


def test_features_of_many_channels_need_no_square_of_them():
    """25,088 values, as behind VGG16's last map: their covariances would take five gigabytes."""
    moments = Moments(variances_only=True)
    moments.update(np.random.default_rng(0).normal(size=(8, 25_088)).astype("float32"))
    moments.update(np.ones((8, 25_088), "float32"))
    assert moments.variances.shape == (25_088,)


def test_equal_samples_are_told_from_small_variances():
    constant, small = Moments(variances_only=True), Moments(variances_only=True)
    constant.update(np.full((9, 4), 1e4))
    small.update(1e4 + 1e-6 * np.random.default_rng(0).normal(size=(9, 4)))
    small.check_varied()
    with pytest.raises(ValueError, match="must vary.* Received: 9 equal samples"):
        constant.check_varied()
