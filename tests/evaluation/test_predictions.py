import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam import Preprocessing, Teacher
from keras_amalgam.evaluation import (
    collect,
    predictor,
    standard_error,
    task_accuracy,
    teachers_predictor,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 6, 6, 1)).astype("uint8")
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1])


def _network(units: int, seed: int, name: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(seed)
    images = keras.Input((6, 6, 1))
    return keras.Model(images, keras.layers.Dense(units, name=name)(keras.layers.Flatten()(images)))


def _by_hand(model: keras.Model, images: np.ndarray, scale: float = 1.0) -> np.ndarray:
    kernel, bias = model.layers[-1].get_weights()
    return scale * images.reshape(len(images), -1) @ kernel + bias


def test_collect_gives_the_same_logits_for_arrays_and_for_a_batched_data_set():
    network = _network(3, 1, "a")
    student = keras.Model(network.input, {"a": network.output})
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4)

    from_arrays, labels = collect(predictor(student), (IMAGES, LABELS), batch_size=3)
    from_batches, batch_labels = collect(predictor(student), batches)

    np.testing.assert_allclose(from_arrays["a"], from_batches["a"], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(from_arrays["a"], _by_hand(network, IMAGES), rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(batch_labels, LABELS)


def test_predictor_shows_a_teacher_raw_images_and_names_its_logits():
    network = _network(3, 2)
    teacher = Teacher(network, "b", ["x", "y", "z"], preprocessing=Preprocessing(scale=1 / 255))

    logits, _ = collect(predictor(teacher), (IMAGES, LABELS))

    expected = _by_hand(network, IMAGES, 1 / 255)
    np.testing.assert_allclose(logits["b"], expected, rtol=1e-4, atol=1e-5)


def test_teachers_predictor_asks_every_teacher_about_every_image():
    names = ["x", "y", "z"]
    networks = {"b": _network(3, 3), "c": _network(2, 4)}
    teachers = [
        Teacher(network, name, names[: network.output_shape[-1]], preprocessing=Preprocessing())
        for name, network in networks.items()
    ]

    logits, _ = collect(teachers_predictor(teachers), (IMAGES, LABELS))

    for name, network in networks.items():
        expected = _by_hand(network, IMAGES, 1 / 255)
        np.testing.assert_allclose(logits[name], expected, rtol=1e-4, atol=1e-5)


def test_predictor_names_the_only_task_of_a_runner_that_returns_an_array():
    def runner(images):
        return np.eye(3)[images[:, 0, 0, 0] % 3]

    logits, _ = collect(predictor(runner, task="a"), (IMAGES, LABELS))

    np.testing.assert_array_equal(logits["a"].argmax(1), IMAGES[:, 0, 0, 0] % 3)
    with pytest.raises(TypeError, match="`task=`"):
        collect(predictor(runner), (IMAGES, LABELS))


def test_predictor_refuses_what_cannot_be_called():
    with pytest.raises(TypeError, match="must be callable"):
        predictor("student.tflite")


def _constant(logits):
    return lambda images: {"a": np.broadcast_to(logits, (len(images), len(logits)))}


@pytest.mark.parametrize(
    ("predict", "labelled", "message"),
    [
        (_constant([0.0, np.nan]), (IMAGES, LABELS), "task 'a' are not finite"),
        (lambda images: {"a": np.zeros(3)}, (IMAGES, LABELS), r"shape \(3,\) for 11 images"),
        (_constant([0.0, 1.0]), [], "nothing to evaluate"),
        (_constant([0.0, 1.0]), (IMAGES[:0], LABELS[:0]), "nothing to evaluate"),
        (_constant([0.0, 1.0]), (IMAGES, LABELS[:5]), "don't fit"),
        (_constant([0.0, 1.0]), [IMAGES], "labelled images"),
    ],
)
def test_collect_refuses(predict, labelled, message):
    with pytest.raises(ValueError, match=message):
        collect(predict, labelled)


def test_task_accuracy_is_the_fraction_of_right_answers():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(200, 7)), rng.integers(0, 7, 200)
    right = sum(1 for row, label in zip(logits, labels, strict=True) if max(row) == row[label])

    assert task_accuracy(logits, labels) == right / 200
    assert task_accuracy(np.eye(4), np.arange(4)) == 1.0
    assert task_accuracy(np.eye(4), np.array([0, 1, 3, 2])) == 0.5


def test_task_accuracy_refuses_unlabelled_images():
    with pytest.raises(ValueError, match="-1 marks unlabelled"):
        task_accuracy(np.eye(3), np.array([0, 1, -1]))
    with pytest.raises(ValueError, match="for 3 classes"):
        task_accuracy(np.eye(3), np.array([0, 1, 3]))


def test_standard_error_is_the_spread_of_repeated_draws():
    draws = np.random.default_rng(2).binomial(500, 0.9, 20_000) / 500

    assert standard_error(0.9, 500) == pytest.approx(draws.std(), rel=0.02)
    assert standard_error(0.9, 500) == pytest.approx((0.9 * 0.1 / 500) ** 0.5)
    with pytest.raises(ValueError, match="fraction in 0..1"):
        standard_error(97.0, 500)


@pytest.mark.slow
def test_many_models_and_sizes_of_batches_are_asked_without_a_word_of_tensorflow(caplog):
    images, labels = np.zeros((20, 8, 8, 1), "float32"), np.zeros(20, "int64")
    for _ in range(6):
        image = keras.Input((8, 8, 1))
        logits = keras.layers.Dense(3)(keras.layers.Flatten()(image))
        model = keras.Model(image, {"a": logits})
        with caplog.at_level("WARNING", "tensorflow"):
            collect(predictor(model), (images, labels), batch_size=8)
    assert [record for record in caplog.records if record.name == "tensorflow"] == []
