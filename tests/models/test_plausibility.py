"""Images contradict that a linear head returns logits, or they do not."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special

from keras_amalgam.models.plausibility import contradictions, doubt

NAMES = ("row", "column", "size")
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (64, 3))
POSITIONS = RNG.uniform(3, 26, (64, 3))


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (POSITIONS, "all of its answers to 64 images are positive, from 3."),
        (-POSITIONS, "all of its answers to 64 images are negative, from -25.9"),
        (POSITIONS - 8 + [100, 0, 0], "'row' has the largest of its answers to each of 64 images"),
        (POSITIONS[:16], "all of its answers to 16 images are positive"),
    ],
    ids=["positive", "negative", "one class", "few"],
)
def test_numbers_of_a_regression_are_doubted_naming_what_gives_them_away(answers, says):
    assert says in contradictions(answers, NAMES)


@pytest.mark.parametrize(
    "answers",
    [
        LOGITS,
        np.maximum(LOGITS, 0),  # Of a head that ends in a relu.
        scipy.special.log_softmax(LOGITS, axis=1),
        scipy.special.log_softmax(LOGITS, axis=1).astype("float16"),
        POSITIONS[:15],
        (POSITIONS - 8 + [100, 0, 0])[:31],
        np.repeat(POSITIONS[:1], 64, axis=0),
        np.zeros((64, 3)),
    ],
    ids=["logits", "relu", "log", "half", "few", "few of a class", "one image", "zeros"],
)
def test_what_may_be_logits_is_not_doubted(answers):
    assert contradictions(answers, NAMES) is None


@pytest.mark.parametrize(
    ("outputs", "returns"),
    [("logits", "logits"), ("auto", "probabilities"), ("sigmoid", "sigmoid")],
)
def test_head_that_somebody_or_its_activation_vouches_for_is_not_doubted(outputs, returns):
    teacher = SimpleNamespace(name="box", outputs="auto", returns="logits", class_names=NAMES)
    assert doubt(teacher, POSITIONS).startswith("Teacher 'box' may not return logits: all of")
    teacher.outputs, teacher.returns = outputs, returns
    assert doubt(teacher, POSITIONS) is None


def test_trained_logits_of_two_classes_are_of_both_signs():
    """The gradient of a softmax leaves the sum of the logits as it was, here about zero."""
    x = RNG.normal(size=(400, 5))
    y = (x @ RNG.normal(size=5) > 0).astype(int)
    weights, bias = RNG.normal(0, 0.1, (5, 2)), np.zeros(2)
    for _ in range(300):
        error = scipy.special.softmax(x @ weights + bias, axis=1) - np.eye(2)[y]
        weights, bias = weights - x.T @ error / 400, bias - error.mean(axis=0)
    assert contradictions(x[:64] @ weights + bias, ("no", "yes")) is None
