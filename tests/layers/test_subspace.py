"""PrincipalSubspace and its rotation against NumPy and scikit-learn."""

import keras
import numpy as np
import pytest
import scipy.linalg
import sklearn.decomposition
import tensorflow as tf

from keras_amalgam.layers import Moments, PrincipalSubspace
from keras_amalgam.layers.subspace import even_rotation


def features(channels=8, number=400, mean=3.0, seed=0):
    """Correlated vectors whose variances fall from large to small."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels, channels)) * np.geomspace(10, 0.1, channels)[:, None]
    return (mean + rng.normal(size=(number, channels)) @ mixing).astype("float32")


def fitted(dimensions, x, **arguments):
    moments = Moments()
    moments.update(x)
    layer = PrincipalSubspace(dimensions, **arguments)
    layer.fit(moments)
    return layer


def falling(size):
    return np.geomspace(100, 0.01, size)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 12, 64, 100, 384])
@pytest.mark.parametrize("spread", ["falling", "one", "equal", "none but one"])
def test_rotation_is_orthogonal_and_evens_the_variances(size, spread):
    variances = {
        "falling": falling(size),
        "one": np.r_[np.full(size - 1, 1e-9), 1.0][::-1],
        "equal": np.full(size, 3.0),
        "none but one": np.eye(size)[0],
    }[spread]
    rotation = even_rotation(variances)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(size), atol=1e-12)
    diagonal = np.diag(rotation @ np.diag(variances) @ rotation.T)
    np.testing.assert_allclose(diagonal, np.full(size, variances.mean()), rtol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 4, 64])
def test_rotation_of_a_power_of_two_is_scipys_hadamard_matrix(size):
    expected = scipy.linalg.hadamard(size) / np.sqrt(size)
    np.testing.assert_allclose(even_rotation(falling(size)), expected, atol=1e-15)


@pytest.mark.parametrize("size", [6, 7, 100])
def test_rotation_of_another_size_mixes_all_directions(size):
    """Evening by plane rotations alone would leave most entries zero."""
    assert np.median(np.abs(even_rotation(falling(size)))) > 0.3 / np.sqrt(size)


def test_hartley_matrix_alone_would_not_even_the_variances():
    angles = 2 * np.pi / 6 * np.outer(np.arange(6), np.arange(6))
    hartley = (np.cos(angles) + np.sin(angles)) / np.sqrt(6)
    diagonal = np.diag(hartley @ np.diag(falling(6)) @ hartley.T)
    assert diagonal.max() / diagonal.min() > 1.1


@pytest.mark.parametrize("dimensions", [4, 6, 7, 64])
def test_every_coordinate_has_variance_one(dimensions):
    x = features(channels=70, number=500)
    coordinates = np.asarray(fitted(dimensions, x)(x), "float64")
    np.testing.assert_allclose(coordinates.mean(0), np.zeros(dimensions), atol=1e-4)
    np.testing.assert_allclose(coordinates.var(0, ddof=1), np.ones(dimensions), rtol=1e-4)


def test_principal_coordinates_without_the_rotation_would_not_have_variance_one():
    x = features()
    variances = sklearn.decomposition.PCA(6).fit_transform(x).var(0, ddof=1)
    assert variances.max() / variances.min() > 10


@pytest.mark.parametrize("dimensions", [1, 4, 6])
def test_reconstruction_is_scikit_learns_by_principal_components(dimensions):
    x = features()
    layer = fitted(dimensions, x)
    pca = sklearn.decomposition.PCA(dimensions).fit(x.astype("float64"))
    expected = pca.inverse_transform(pca.transform(x.astype("float64")))
    np.testing.assert_allclose(layer.inverse(layer(x)), expected, atol=1e-3)


@pytest.mark.parametrize("channels", [4, 6, 7, 64])
def test_inverse_is_exact_with_all_dimensions(channels):
    x = features(channels)
    layer = fitted(channels, x)
    np.testing.assert_allclose(layer.inverse(layer(x)), x, atol=1e-4 * np.abs(x).max())


def test_one_scale_serves_all_directions_so_that_distances_keep_their_proportions():
    x = features()
    layer = fitted(8, x)
    coordinates = np.asarray(layer(x), "float64")
    expected = np.linalg.norm(x[::2] - x[1::2], axis=-1) / np.asarray(layer.scale)
    actual = np.linalg.norm(coordinates[::2] - coordinates[1::2], axis=-1)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    total = np.trace(np.cov(x.T.astype("float64")))
    np.testing.assert_allclose(layer.scale, np.sqrt(total / 8), rtol=1e-5)


def test_teacher_of_another_scale_and_mean_has_the_same_coordinates_up_to_a_turn():
    x = features()
    one, other = (np.asarray(fitted(4, y)(y)) for y in (x, 1000 * x - 70))
    np.testing.assert_allclose(other @ other.T, one @ one.T, atol=2e-2)


def test_features_of_a_mean_of_1e4_are_standardised():
    x = features(mean=1e4)
    coordinates = np.asarray(fitted(6, x)(x), "float64")
    np.testing.assert_allclose(coordinates.var(0, ddof=1), np.ones(6), rtol=1e-3)
    np.testing.assert_allclose(coordinates.mean(0), np.zeros(6), atol=1e-3)


def test_directions_without_variance_do_no_harm():
    """Three dimensions of variance in eight channels, of which six are asked for."""
    x = features(3) @ np.random.default_rng(1).normal(size=(3, 8)).astype("float32")
    layer = fitted(6, x)
    coordinates = np.asarray(layer(x), "float64")
    np.testing.assert_allclose(coordinates.var(0, ddof=1), np.ones(6), rtol=1e-3)
    np.testing.assert_allclose(layer.inverse(coordinates), x, atol=1e-3 * np.abs(x).max())


def test_places_of_a_map_are_mapped_one_by_one():
    maps = features(number=60).reshape(5, 3, 4, 8)
    layer = fitted(3, maps)
    coordinates = layer(maps)
    assert tuple(coordinates.shape) == (5, 3, 4, 3) == layer.compute_output_shape(maps.shape)
    places = layer(maps.reshape(-1, 8))
    np.testing.assert_allclose(np.reshape(coordinates, (-1, 3)), places, atol=1e-5)
    back = layer.inverse(coordinates)
    assert tuple(back.shape) == maps.shape
    np.testing.assert_allclose(np.reshape(back, (-1, 8)), layer.inverse(places), atol=1e-4)


def test_gradient_reaches_the_features_and_no_weight():
    x = features()
    layer = fitted(4, x)
    inputs = tf.constant(x[:3])
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_sum(layer(inputs)[:, 1])
    expected = np.asarray(layer.basis)[:, 1] / np.asarray(layer.scale)
    np.testing.assert_allclose(tape.gradient(value, inputs), [expected] * 3, rtol=1e-5)
    assert layer.trainable_weights == []


def test_until_it_is_fitted_the_coordinates_are_the_first_channels():
    x = features()
    np.testing.assert_array_equal(PrincipalSubspace(3)(x), x[:, :3])


def test_layer_that_was_built_can_be_fitted_and_fitted_again():
    x, y = features(), features(mean=-50.0, seed=5)
    layer = PrincipalSubspace(4)
    layer(x)
    for seen in (x, y):
        moments = Moments()
        moments.update(seen)
        layer.fit(moments)
        np.testing.assert_array_equal(layer(seen), fitted(4, seen)(seen))


def test_fitted_subspace_is_the_same_after_saving_and_loading(tmp_path):
    x = features()
    layer = fitted(4, x)
    model = keras.Sequential([keras.Input((8,)), layer])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), layer(x))
    np.testing.assert_array_equal(again.layers[-1].inverse(layer(x)), layer.inverse(layer(x)))
    assert again.layers[-1].get_config() == layer.get_config()
    assert layer.get_config()["dimensions"] == 4


def test_compiled_by_xla_the_coordinates_and_the_way_back_are_the_same():
    x = features()
    layer = fitted(6, x)
    compiled = tf.function(lambda x: layer.inverse(layer(x)), jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(x)), layer.inverse(layer(x)), atol=1e-3)


def test_result_is_float32_under_every_setting(one_setting):
    x = features().astype("float16")
    layer = fitted(4, x)
    expected, back = layer(x), layer.inverse(layer(x))
    with one_setting():
        layer = fitted(4, x)
        coordinates = layer(x)
        features_again = layer.inverse(tf.cast(coordinates, "float16"))
    assert coordinates.dtype == features_again.dtype == "float32"
    np.testing.assert_allclose(coordinates, expected, atol=1e-4)
    np.testing.assert_allclose(features_again, back, atol=0.1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_features_without_variance_are_refused(value):
    with pytest.raises(ValueError, match="must vary.*Received: 30 equal samples"):
        fitted(3, np.full((30, 8), value))


@pytest.mark.parametrize("number", [3, 4])
def test_as_few_samples_as_dimensions_are_refused(number):
    """Four samples span three directions."""
    with pytest.raises(ValueError, match=f"need more samples than that. Received: {number} samp"):
        fitted(4, features(number=number))


def test_more_dimensions_than_channels_are_refused():
    with pytest.raises(ValueError, match="Received: dimensions=9 for features of 8 channels"):
        fitted(9, features())
    with pytest.raises(ValueError, match="Received: dimensions=9 for features of 8 channels"):
        PrincipalSubspace(9).build((None, 8))
    with pytest.raises(ValueError, match="`dimensions` must be at least 1. Received: 0"):
        PrincipalSubspace(0)


def test_moments_of_other_channels_are_refused_and_leave_no_trace():
    x = features()
    layer = fitted(4, x)
    before, moments = np.asarray(layer(x)), Moments()
    moments.update(features(channels=6))
    with pytest.raises(ValueError, match="built on features of 8 channels. Received: moments of 6"):
        layer.fit(moments)
    np.testing.assert_array_equal(layer(x), before)
