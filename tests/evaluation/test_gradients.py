import keras
import numpy as np
import pytest

from keras_amalgam import Amalgamator, CommonFeatures, Preprocessing, SoftTargets, Teacher
from keras_amalgam.evaluation.gradients import gradient_norms


def _network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 1))
    features = keras.layers.Conv2D(4, 3, activation="relu", name="map")(images)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(images, keras.layers.Dense(3, name="head")(pooled))


@pytest.fixture
def amalgamator() -> Amalgamator:
    teacher = Teacher(
        _network(1), "left", ["x", "y", "z"], tap="map", preprocessing=Preprocessing(scale=0.02)
    )
    network = _network(2)
    student = keras.Model(network.input, {"left": network.output})
    terms = [SoftTargets(weight=3.0), CommonFeatures(units=4)]
    return Amalgamator(student, [teacher], "map", terms=terms)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 255, (5, 8, 8, 1)).astype("float32")


def test_gradient_norm_of_soft_targets_equals_the_one_by_hand(amalgamator, images):
    student, teachers = amalgamator.signals(images)
    target, answer = (
        np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for logits in (
            np.array(teachers["left"].answers["left"]),
            np.array(student.answers["left"]),
        )
    )
    kernel = amalgamator.student.get_layer("head").get_weights()[0]
    # Mean over 5 images; average pooling spreads a gradient evenly over the 6 × 6 positions.
    by_feature = 3.0 * (answer - target) / 5 @ kernel.T / 36
    expected = np.sqrt(36 * np.sum(by_feature**2))

    norms = gradient_norms(amalgamator, images)

    assert norms["soft_targets"] == pytest.approx(expected, rel=1e-4)
    assert norms["soft_targets"] > 1e-4


def test_gradient_norms_have_the_keys_of_the_history(amalgamator, images):
    history_keys = {metric.name for metric in amalgamator.metrics} - {"loss"}
    assert set(gradient_norms(amalgamator, images)) == history_keys


def test_reconstruction_does_not_pull_at_the_student(amalgamator, images):
    norms = gradient_norms(amalgamator, images)
    assert norms["common_features/left/reconstruction"] == 0.0
    assert norms["common_features/left/mmd"] > 0.0
