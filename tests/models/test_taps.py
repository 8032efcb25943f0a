"""Taps: found by name, read in one pass, worth what the layer gives."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_amalgam.models.taps import as_features, as_functional, candidates, with_taps

IMAGES = np.random.default_rng(0).random((3, 8, 8, 1)).astype("float32")


class Counting(keras.layers.Layer):
    """Adds one and counts how often it is called on values."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x + 1.0


def inner_model(name="inner"):
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", name=f"{name}_conv")(inputs)
    return keras.Model(inputs, keras.layers.ReLU(name=f"{name}_relu")(x), name=name)


def nested_twice():
    """A model in a model in a model."""
    middle_in = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(2, 1, name="before")(middle_in)
    x = inner_model()(x)
    middle = keras.Model(middle_in, keras.layers.MaxPooling2D(name="pool")(x), name="middle")
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 1, name="stem")(inputs)
    x = middle(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x), name="outer")


def test_tap_two_models_deep_gives_what_the_layers_give_one_after_another():
    model = nested_twice()
    middle = model.get_layer("middle")
    inner = middle.get_layer("inner")
    stem = model.get_layer("stem")(IMAGES)
    conv = inner.get_layer("inner_conv")(middle.get_layer("before")(stem))
    pooled = middle.get_layer("pool")(ops.relu(conv))
    tapped = with_taps(model, ["middle/inner/inner_conv", "pool", "stem", "middle"])(IMAGES)
    taps = tapped["taps"]
    np.testing.assert_allclose(taps[0], conv, atol=1e-6)
    np.testing.assert_allclose(taps[1], pooled, atol=1e-6)
    np.testing.assert_allclose(taps[2], stem, atol=1e-6)
    np.testing.assert_array_equal(taps[3], taps[1])
    np.testing.assert_array_equal(tapped["output"], model(IMAGES))


def test_own_name_of_a_nested_layer_is_enough_where_it_is_unique():
    model = nested_twice()
    by_name = with_taps(model, ["inner_relu"])(IMAGES)["taps"][0]
    by_path = with_taps(model, ["middle/inner/inner_relu"])(IMAGES)["taps"][0]
    np.testing.assert_array_equal(by_name, by_path)
    assert np.asarray(by_name).shape == (3, 8, 8, 3)


def test_all_taps_and_the_output_take_one_forward_pass():
    counting = Counting(name="counting")
    inner_in = keras.Input((8, 8, 1))
    inner = keras.Model(inner_in, keras.layers.ReLU(name="relu")(counting(inner_in)), name="inner")
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D(name="mean")(inner(inputs))
    tapped = with_taps(keras.Model(inputs, x), ["counting", "relu", "mean"])
    counting.calls = 0
    result = tapped(IMAGES)
    assert counting.calls == 1
    np.testing.assert_array_equal(result["taps"][0], IMAGES + 1.0)


def test_layers_and_weights_are_shared_and_the_model_stays_as_it_is():
    model = nested_twice()
    before, config = np.asarray(model(IMAGES)), model.get_config()
    tapped = with_taps(model, ["inner_conv"])
    assert [id(v) for v in tapped.variables] == [id(v) for v in model.variables]
    np.testing.assert_array_equal(model(IMAGES), before)
    assert model.get_config() == config


def test_sequential_models_can_be_tapped_alone_and_nested():
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv")]
    sequential = keras.Sequential([*layers, keras.layers.Flatten(name="flat")], name="sequential")
    expected = layers[1](IMAGES)
    np.testing.assert_array_equal(with_taps(sequential, ["conv"])(IMAGES)["taps"][0], expected)
    nested = keras.Sequential([keras.Input((8, 8, 1)), sequential, keras.layers.Dense(2)])
    np.testing.assert_array_equal(with_taps(nested, ["conv"])(IMAGES)["taps"][0], expected)
    assert "sequential/flat" in candidates(nested)


def test_sequential_model_built_by_its_first_call_can_be_tapped():
    model = keras.Sequential([keras.layers.Conv2D(2, 3, name="conv")])
    expected = model(IMAGES)
    np.testing.assert_array_equal(with_taps(model, ["conv"])(IMAGES)["taps"][0], expected)


def test_mobilenet_nested_under_a_head_is_tapped_at_its_own_layers():
    backbone = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
    )
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    images = np.random.default_rng(1).random((2, 32, 32, 3)).astype("float32")
    tapped = with_taps(model, ["block_6_expand_relu", "out_relu"])(images, training=False)
    alone = keras.Model(
        backbone.input, [backbone.get_layer("block_6_expand_relu").output, backbone.output]
    )
    for ours, expected in zip(tapped["taps"], alone(images, training=False), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert np.asarray(tapped["taps"][1]).shape == (2, 1, 1, 1280)
    assert candidates(model)[f"{backbone.name}/block_6_expand_relu"] == (None, 4, 4, 96)


def test_candidates_are_listed_by_path_with_shape_and_without_what_is_no_feature():
    inputs = keras.Input((2, 8, 8, 1), name="video")
    x = keras.layers.Conv3D(2, 1, name="volume")(inputs)
    x = keras.layers.Reshape((8, 8, 4), name="image")(x)
    x = inner_model()(keras.layers.Conv2D(2, 1, name="narrow")(x))
    assert candidates(keras.Model(inputs, x)) == {
        "image": (None, 8, 8, 4),
        "narrow": (None, 8, 8, 2),
        "inner": (None, 8, 8, 3),
        "inner/inner_conv": (None, 8, 8, 3),
        "inner/inner_relu": (None, 8, 8, 3),
    }


def test_missing_layer_is_refused_listing_candidates():
    with pytest.raises(ValueError, match=r"no layer 'conv5'.*'middle/pool' \(None, 4, 4, 3\)"):
        with_taps(nested_twice(), ["conv5"])


def test_ambiguous_name_is_refused_listing_the_paths():
    inputs = keras.Input((8, 8, 2))
    left, right = (
        keras.Model(inputs, keras.layers.ReLU(name="same")(inputs), name=name)
        for name in ("left", "right")
    )
    model = keras.Model(inputs, left(inputs) + right(inputs))
    with pytest.raises(ValueError, match=r"ambiguous.*\['left/same', 'right/same'\]"):
        with_taps(model, ["same"])
    images = np.repeat(IMAGES - 0.5, 2, axis=-1)
    tap = with_taps(model, ["right/same"])(images)["taps"][0]
    np.testing.assert_array_equal(tap, np.maximum(images, 0))


def test_layer_or_model_called_twice_is_refused():
    relu, inner = keras.layers.ReLU(name="relu"), inner_model()
    inputs = keras.Input((8, 8, 2))
    twice = keras.Model(inputs, relu(relu(inputs) - 1.0))
    with pytest.raises(ValueError, match="'relu' is called more than once"):
        with_taps(twice, ["relu"])
    siamese = keras.Model(inputs, inner(inputs) + inner(inputs + 1.0))
    for name in ("inner_conv", "inner"):
        with pytest.raises(ValueError, match="called more than once"):
            with_taps(siamese, [name])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def test_models_without_a_graph_are_refused():
    called = Subclassed()
    called(keras.Input((3,)))
    for model in (Subclassed(), called):
        with pytest.raises(ValueError, match="'subclassed' of type Subclassed"):
            as_functional(model)
    with pytest.raises(ValueError, match="must know its input's shape"):
        as_functional(keras.Sequential([keras.layers.Dense(2)]))


def tokens(number, channels=2):
    return np.arange(3 * number * channels, dtype="float32").reshape(3, number, channels)


def test_maps_and_vectors_are_features_as_they_are():
    for shape in ((3, 4, 5, 2), (3, 7)):
        features = np.ones(shape)
        assert as_features(features) is features


@pytest.mark.parametrize("how", ["auto", "map"])
def test_square_number_of_tokens_becomes_a_map_row_by_row(how):
    grid = as_features(tokens(9), how)
    assert tuple(grid.shape) == (3, 3, 3, 2)
    np.testing.assert_array_equal(grid[:, 1, 2], tokens(9)[:, 5])


@pytest.mark.parametrize("how", ["auto", "map"])
def test_class_token_in_front_is_left_out_of_the_map(how):
    grid = as_features(tokens(10), how)
    np.testing.assert_array_equal(grid, as_features(tokens(10)[:, 1:], how))
    assert tuple(grid.shape) == (3, 3, 3, 2)


def test_pooled_tokens_are_their_mean():
    np.testing.assert_allclose(as_features(tokens(9), "pooled"), tokens(9).mean(1), rtol=1e-6)
    np.testing.assert_allclose(as_features(tokens(7), "auto"), tokens(7).mean(1), rtol=1e-6)


def test_outputs_that_are_no_features_are_refused():
    with pytest.raises(ValueError, match="Received: 7 tokens"):
        as_features(tokens(7), "map")
    with pytest.raises(ValueError, match="two to four axes. Received: shape"):
        as_features(np.zeros((1, 2, 3, 4, 5)))
    with pytest.raises(ValueError, match="one output. Received: list of 2"):
        as_features([tokens(9), tokens(9)])


def test_unknown_number_of_tokens_is_pooled_but_no_map():
    open_tokens = keras.Input((None, 2))
    assert as_features(open_tokens).shape == (None, 2)
    with pytest.raises(ValueError, match="Received: None tokens"):
        as_features(open_tokens, "map")
