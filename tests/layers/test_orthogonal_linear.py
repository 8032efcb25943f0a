"""OrthogonalLinear: the Cayley transform, orthonormality under training, files, XLA."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_amalgam.layers import OrthogonalLinear

# Channels and units.
SIZES = {"narrower": (9, 5), "wider": (5, 9), "square": (6, 6), "to one": (4, 1)}


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def sizes(request):
    return request.param


def built(sizes, **arguments):
    layer = OrthogonalLinear(sizes[1], **arguments)
    layer.build((None, sizes[0]))
    return layer


def displaced(sizes, scale=0.5, seed=1):
    layer = built(sizes)
    displacement = np.random.default_rng(seed).normal(scale=scale, size=layer.displacement.shape)
    layer.displacement.assign(displacement)
    return layer


def defect(layer):
    """How far the shorter of rows and columns are from orthonormal."""
    kernel = np.asarray(layer.kernel, "float64")
    gram = kernel @ kernel.T if kernel.shape[0] < kernel.shape[1] else kernel.T @ kernel
    return np.abs(gram - np.eye(len(gram))).max()


def cayley(base, displacement):
    """The transform as it is defined, by a matrix of n×n, in float64."""
    base, displacement = base.astype("float64"), displacement.astype("float64")
    along = base.T @ displacement
    turn, tilt = along - along.T, displacement - base @ along
    skew = base @ turn @ base.T + tilt @ base.T - base @ tilt.T
    np.testing.assert_allclose(skew, -skew.T, atol=1e-12)
    identity = np.eye(len(base))
    return np.linalg.solve(identity + skew, (identity - skew) @ base)


def test_kernel_is_the_cayley_transform_of_a_skew_symmetric_matrix_times_the_base(sizes):
    layer = displaced(sizes)
    expected = cayley(np.asarray(layer.base), np.asarray(layer.displacement))
    expected = expected.T if sizes[0] < sizes[1] else expected
    np.testing.assert_allclose(layer.kernel, expected, atol=1e-5)


def test_kernel_starts_as_the_base(sizes):
    layer = built(sizes)
    base = np.asarray(layer.base)
    np.testing.assert_allclose(layer.kernel, base.T if sizes[0] < sizes[1] else base, atol=1e-6)


def test_output_is_the_product_with_the_kernel(sizes):
    layer, x = displaced(sizes), np.random.default_rng(2).normal(size=(7, sizes[0]))
    expected = x @ np.asarray(layer.kernel)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    assert layer.compute_output_shape((None, sizes[0])) == (None, sizes[1])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
def test_kernel_is_orthonormal_whatever_the_weights(sizes, scale):
    layer = displaced(sizes, scale)
    assert defect(layer) < 1e-5 * max(1.0, scale)


def test_base_of_one_seed_is_the_same_and_of_another_is_not(sizes):
    one, same, other = (np.asarray(built(sizes, seed=seed).base) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_square_base_is_a_rotation_for_every_seed():
    for seed in range(6):
        assert np.linalg.det(np.asarray(built((5, 5), seed=seed).base)) == pytest.approx(1.0)


def test_wider_projection_keeps_distances():
    layer, x = displaced((5, 9)), np.random.default_rng(3).normal(size=(2, 50, 5))
    lengths = np.linalg.norm(np.asarray(layer(x[0])) - np.asarray(layer(x[1])), axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(x[0] - x[1], axis=-1), rtol=1e-5)


def test_gradient_of_the_weights_equals_finite_differences(sizes):
    layer = displaced(sizes)
    base, displacement = np.asarray(layer.base), np.asarray(layer.displacement, "float64")
    direction = np.random.default_rng(4).normal(size=base.shape)
    with tf.GradientTape() as tape:
        kernel = layer.kernel if sizes[0] >= sizes[1] else tf.transpose(layer.kernel)
        value = tf.reduce_sum(kernel * direction)
    actual = tape.gradient(value, layer.displacement.value)
    expected, step = np.zeros(base.shape), 1e-5
    for place in np.ndindex(base.shape):
        moved = np.zeros(base.shape)
        moved[place] = step
        ends = [cayley(base, displacement + sign * moved) for sign in (1, -1)]
        expected[place] = np.sum(direction * (ends[0] - ends[1])) / (2 * step)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_only_the_displacement_is_trained(sizes):
    layer = built(sizes)
    assert [weight.name for weight in layer.trainable_weights] == ["displacement"]
    assert [weight.name for weight in layer.non_trainable_weights] == ["base"]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.1),
        lambda: keras.optimizers.SGD(0.5, momentum=0.9),
        lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    ],
    ids=["adam", "sgd", "adamw"],
)
def test_kernel_is_orthonormal_after_training_by_any_optimizer(sizes, optimizer):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(32, sizes[0])), rng.normal(size=(32, sizes[1]))
    layer, optimizer, losses = built(sizes), optimizer(), []
    before = np.asarray(layer.kernel)
    for _ in range(20):
        with tf.GradientTape() as tape:
            losses.append(tf.reduce_mean((layer(x) - y) ** 2))
        gradients = tape.gradient(losses[-1], [layer.displacement.value])
        optimizer.apply(gradients, [layer.displacement])
    assert losses[-1] < losses[0]
    assert np.abs(np.asarray(layer.kernel) - before).max() > 0.1
    assert defect(layer) < 1e-5


def test_known_rotation_is_found():
    rotation = scipy.stats.special_ortho_group.rvs(6, random_state=8)
    x = np.random.default_rng(6).normal(size=(64, 6))
    layer = OrthogonalLinear(6, seed=1)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=False)
    x = np.tile(x, (300, 1))
    model.fit(x, x @ rotation, batch_size=64, shuffle=False, verbose=0)
    np.testing.assert_allclose(layer.kernel, rotation, atol=1e-2)


def test_compiled_by_xla_output_and_gradient_are_the_same(sizes):
    layer = displaced(sizes)
    x = tf.constant(np.random.default_rng(7).normal(size=(7, sizes[0])).astype("float32"))

    def step():
        with tf.GradientTape() as tape:
            projected = layer(x)
            loss = tf.reduce_sum(projected**3)
        return projected, tape.gradient(loss, layer.displacement.value)

    for actual, expected in zip(tf.function(step, jit_compile=True)(), step(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def test_places_of_a_map_are_projected_one_by_one():
    layer, x = displaced((9, 5)), np.random.default_rng(8).normal(size=(2, 3, 4, 9))
    expected = np.asarray(layer(x.reshape(-1, 9))).reshape(2, 3, 4, 5)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_trained_projection_is_the_same_after_saving_and_loading(sizes, tmp_path):
    layer = displaced(sizes)
    model = keras.Sequential([keras.Input((sizes[0],)), layer])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(9).normal(size=(3, sizes[0]))
    np.testing.assert_array_equal(again(x), model(x))
    assert again.layers[-1].get_config() == layer.get_config()
    assert (layer.get_config()["units"], layer.get_config()["seed"]) == (sizes[1], 0)


def test_result_is_float32_under_every_setting(one_setting):
    x = np.random.default_rng(10).normal(size=(3, 9)).astype("float16")
    expected = displaced((9, 5))(x)
    with one_setting():
        layer = displaced((9, 5))
        result = layer(x)
    assert result.dtype == "float32"
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_lengths_of_extreme_features_are_kept(dtype):
    x = np.random.default_rng(11).choice([-1e4, 0, 1e4], size=(6, 5)).astype(dtype)
    lengths = np.linalg.norm(np.asarray(displaced((5, 9))(x)), axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(x.astype("float64"), axis=-1), rtol=1e-5)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`units` must be at least 1. Received: 0"):
        OrthogonalLinear(0)
    with pytest.raises(ValueError, match="`seed` must be at least zero. Received: -1"):
        OrthogonalLinear(4, seed=-1)
