"""Answers that are no vector of one logit per class: maps of 1×1, and one logit for two classes."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_amalgam as ka
from keras_amalgam.models.heads import num_logits
from keras_amalgam.models.outputs import to_logits

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
SAID = ka.Preprocessing(scale=1 / 255)


def convolutional(activation=None, classes=5, permuted=False):
    """A network whose head is a convolution, as SqueezeNet's, and the pooled logits in it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="map")(image)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    logits = keras.layers.Conv2D(classes, 1, name="head")(x)
    y = keras.layers.Activation(activation)(logits) if activation else logits
    y = keras.layers.Permute((3, 1, 2))(y) if permuted else y
    return keras.Model(image, y), keras.Model(image, ops.squeeze(logits, (1, 2)))


@pytest.mark.matrix(keep=2)
@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_map_of_one_by_one_becomes_the_logits(activation, permuted):
    model, logits = convolutional(activation, permuted=permuted)
    teacher = ka.Teacher(model, "five", list("abcde"), tap="map", preprocessing=SAID)
    signals = teacher.signals(3)(IMAGES)
    expected, received = logits(IMAGES / 255), signals["answers"][teacher.name]
    assert signals["features"]["features"].shape == (4, 6, 6, 6)
    if activation and permuted:  # Behind the permutation the softmax is seen by its numbers alone.
        expected, received = ops.log_softmax(expected), ops.log_softmax(received)
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_sigmoid_of_a_map_of_one_by_one_is_taken_off():
    model, logits = convolutional("sigmoid")
    received = to_logits(model, "sigmoid")(IMAGES / 255)
    np.testing.assert_allclose(received, logits(IMAGES / 255), atol=1e-5)


def test_map_that_may_be_larger_is_no_answer():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(5, 7, name="head")(image))
    with pytest.raises(ValueError, match=r"shape \(None, 2, 2, 5\)"):
        ka.Teacher(model, "five", list("abcde"), preprocessing=SAID)


def test_number_of_logits_is_that_of_a_vector_or_a_map_of_one_by_one():
    shapes = [(None, 5), (None, 1, 1, 5), (None, 5, 1, 1), (None, 1), (None, 1, 1, 1)]
    assert [num_logits(shape) for shape in shapes] == [5, 5, 5, 1, 1]
    others = [(None, 2, 1, 5), (None, None, None, 5), (None, 1, 5), (None, None), (None,)]
    assert [num_logits(shape) for shape in others] == [None] * 5


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_logit_for_two_classes_is_refused_and_the_advised_head_is_right(activation):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    z = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(image))
    model = keras.Model(image, keras.layers.Activation(activation)(z) if activation else z)
    advice = r"one number for its two classes.*shape \(None, 1\).*\[0 \* z, z\]"
    with pytest.raises(ValueError, match=advice):
        ka.Teacher(model, "pets", ["cat", "dog"], preprocessing=SAID)
    advised = keras.Model(model.input, ops.concatenate([0 * z, z], axis=-1))
    teacher = ka.Teacher(advised, "pets", ["cat", "dog"], preprocessing=SAID)
    two = ops.softmax(teacher.answers(3)(IMAGES)[teacher.name])
    expected = ops.sigmoid(keras.Model(image, z)(IMAGES / 255))
    np.testing.assert_allclose(two[:, 1:], expected, atol=1e-6)
