"""LogitRegression against NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms import LogitRegression, ModelSpec


@pytest.fixture
def logits():
    random = np.random.default_rng(0)
    student = {
        name: random.normal(size=(4, n)).astype("float32") for name, n in (("a", 3), ("b", 2))
    }
    teachers = {
        name: Signals({name: random.normal(size=v.shape).astype("float32")})
        for name, v in student.items()
    }
    return student, teachers


def connected():
    classes = {"a": ["x", "y", "z"], "b": ["p", "q"]}
    tasks = {name: ka.tasks.Classification(names) for name, names in classes.items()}
    specs = {name: ModelSpec(name, {name: task}) for name, task in tasks.items()}
    term = LogitRegression()
    term.attach(ModelSpec("The student", tasks), specs)
    return term


def test_error_equals_numpy_for_every_teacher_on_every_image(logits, fake):
    student, teachers = logits
    losses = connected()(Signals(student), teachers, fake.batch)
    for name, signals in teachers.items():
        expected = ((student[name] - signals.answers[name]) ** 2).mean(-1)
        np.testing.assert_allclose(losses[name]["error"], expected, rtol=1e-5)


def test_gradient_is_twice_the_difference_over_the_classes(logits, fake):
    student, teachers = logits
    watched = tf.constant(student["a"])
    with tf.GradientTape() as tape:
        tape.watch(watched)
        losses = connected()(Signals({**student, "a": watched}), teachers, fake.batch)
        total = tf.reduce_sum(losses["a"]["error"])
    expected = 2 * (student["a"] - teachers["a"].answers["a"]) / 3
    np.testing.assert_allclose(tape.gradient(total, watched), expected, rtol=1e-5)


def test_answers_that_are_not_logits_are_refused():
    spec = ModelSpec("Teacher 'age'", {"age": SimpleNamespace()})
    with pytest.raises(ValueError, match="Teacher 'age', whose task is a SimpleNamespace"):
        LogitRegression().connect(spec, {"age": spec})
