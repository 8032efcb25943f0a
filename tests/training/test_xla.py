"""What is said to compile under XLA does, and what is said not to does not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam.images.preprocessing import INTERPOLATIONS
from keras_amalgam.training.xla import supports_jit

IMAGES = np.random.default_rng(0).random((2, 9, 9, 1)).astype("float32")


def model_of(function):
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, function(inputs))


@pytest.mark.matrix
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resizing_is_said_to_compile_where_it_does(interpolation, antialias):
    preprocessing = ka.Preprocessing((4, 4), interpolation=interpolation, antialias=antialias)
    model = model_of(lambda images: preprocessing.build(images, 1))
    compiled = tf.function(model, jit_compile=True)
    if supports_jit(model):
        np.testing.assert_allclose(compiled(IMAGES), model(IMAGES), atol=1e-5)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
            compiled(IMAGES)


class Uncompilable(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.supports_jit = False

    def call(self, x):
        return x


class Wrapping(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = Uncompilable()

    def call(self, x):
        return self.inner(x)


UNSUPPORTED = {
    "layer Resizing": lambda: keras.layers.Resizing(4, 4, antialias=True),
    "layer UpSampling2D": lambda: keras.layers.UpSampling2D(interpolation="bicubic"),
    "layer that says so": Uncompilable,
    "layer inside a layer": Wrapping,
    "nested models": lambda: model_of(model_of(keras.layers.Resizing(4, 4, antialias=True))),
    "nested operation": lambda: model_of(
        lambda x: keras.ops.image.resize(x, (4, 4), interpolation="lanczos3")
    ),
    "sequential model": lambda: keras.Sequential([keras.Input((9, 9, 1)), Uncompilable()]),
}


@pytest.mark.parametrize("make_layer", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_xla_cannot_is_found_wherever_it_stands(make_layer):
    assert not supports_jit(model_of(make_layer()))


def test_plain_models_compile():
    plain = keras.Sequential([keras.Input((9, 9, 1)), keras.layers.UpSampling2D()])
    assert supports_jit(plain)
    assert supports_jit(model_of(plain))


def test_student_that_cannot_be_compiled_keeps_xla_off(teachers, make):
    backbone = make.student(teachers).get_layer("backbone")
    preprocessing = ka.Preprocessing((12, 12), interpolation="bicubic", antialias=False)
    model = ka.Amalgamator(ka.build_student(backbone, teachers, preprocessing), teachers)
    model.compile()
    assert model.jit_compile is False
    with pytest.raises(ValueError, match="Received: jit_compile=True"):
        model.compile(jit_compile=True)
