"""Models with features at two depths, and signals made up for terms."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms import ModelSpec, Observation, TapSpec


def network(widths, classes, seed, size=12):
    """A map after one layer, a smaller one after two, then classes."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 1))
    x = inputs
    for name, width in zip(("mid", "top"), widths, strict=True):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", activation="elu", name=name)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="head")(x))


TAPS = {"mid": "mid", "top": "top"}
ONE_TAP = {"top": "top"}


def two_tap_teachers(taps=TAPS):
    return [
        ka.Teacher(
            network((6, 10), len(classes), seed),
            name=name,
            class_names=classes,
            taps=taps,
            preprocessing=ka.Preprocessing(size=(12, 12), mean=0.4, std=0.3),
        )
        for seed, (name, classes) in enumerate(
            [("digits", ["0", "1", "2"]), ("shapes", ["circle", "square"])], start=1
        )
    ]


def amalgamator(terms, teachers=None, seed=7, run_eagerly=True):
    """With two taps in every model, compiled; eagerly, where a graph would not change a claim.

    For `RebuiltFeatures` with reused heads, and teachers of one tap.
    """
    reused = any(isinstance(term, ka.RebuiltFeatures) for term in terms)
    teachers = teachers or two_tap_teachers(ONE_TAP if reused else TAPS)
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same", activation="elu", name="mid")(inputs)
    x = keras.layers.Conv2D(7, 3, strides=2, padding="same", activation="elu", name="top")(x)
    heads = "reused" if reused else "new"
    student = ka.build_student(keras.Model(inputs, x, name="backbone"), teachers, heads=heads)
    taps = {"mid": "backbone/mid", "top": "backbone/top"}
    taps = ka.taps.rebuilt(teachers) if reused else taps
    model = ka.Amalgamator(student, teachers, terms=terms, student_taps=taps)
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=run_eagerly)
    return model


def connected(term, student, teachers):
    """A term on features of these shapes, by tap and by teacher and tap."""

    def spec(name, shapes):
        return ModelSpec(name, {}, {tap: TapSpec(tap, shape) for tap, shape in shapes.items()})

    teachers = {name: spec(f"Teacher {name!r}", shapes) for name, shapes in teachers.items()}
    term.attach(spec("The student", student), teachers)
    return term


def random_signals(shapes, images=5, seed=0, scale=1.0, shift=0.0):
    """Features by tap."""
    rng = np.random.default_rng(seed)
    return Signals(
        {},
        {
            tap: (shift + scale * rng.normal(size=(images, *shape))).astype("float32")
            for tap, shape in shapes.items()
        },
    )


def assert_gradient(term, student, teachers, tap, batch=None, step=0.01):
    """The gradient by the student's features at a tap equals central differences."""
    batch = batch or Batch(None)

    def total(features):
        signals = Signals(student.answers, {**student.features, tap: features})
        losses = term(signals, teachers, batch)
        return sum(tf.reduce_sum(one) for parts in losses.values() for one in parts.values())

    x = tf.constant(student.features[tap])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = total(x)
    gradient = np.asarray(tape.gradient(value, x))
    assert np.abs(gradient).max() > 0
    for direction in np.random.default_rng(3).normal(size=(3, *x.shape)).astype("float32"):
        move = step * direction
        difference = float(total(x + move) - total(x - move)) / 2
        assert np.sum(gradient * move) == pytest.approx(difference, rel=0.02, abs=1e-4)


@pytest.fixture
def fake():
    """The builders above, as test modules cannot import each other."""
    return SimpleNamespace(
        amalgamator=amalgamator,
        assert_gradient=assert_gradient,
        batch=Batch(None),
        connected=connected,
        observation=lambda student, teachers: Observation(student, teachers, Batch(None)),
        signals=random_signals,
        one_tap_teachers=lambda: two_tap_teachers(ONE_TAP),
        teachers=two_tap_teachers,
    )
