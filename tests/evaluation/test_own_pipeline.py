"""A teacher's accuracy on photographs at their own size, against a pipeline in float64."""

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import data, evaluation
from keras_amalgam.teachers.comparison.reference_preprocessing import resizing_weights

SIZES = [(60, 80), (90, 50), (64, 64), (33, 120), (24, 24)] * 4
CLASSES = 64  # Many, so that another resize decides otherwise.
KINDS = {
    "squeezed": {"size": (24, 20)},
    "centre of the squeezed": {"size": (24, 20), "crop_fraction": 0.8},
    "cut": {"size": (24, 24), "crop_to_aspect_ratio": True},
    "centre of the cut": {"size": (20, 24), "crop_fraction": 0.8, "crop_to_aspect_ratio": True},
    "not antialiased": {"size": (24, 24), "antialias": False},
    "bicubic": {"size": (24, 24), "interpolation": "bicubic"},
    "at its own size": {"size": None},
}


def photographs(channels=3):
    """Of patches, so that resizing leaves something of them, and noise."""
    generator = np.random.default_rng(0)
    images = []
    for height, width in SIZES:
        patches = generator.uniform(40, 215, (18, 18, channels))
        rows, columns = (np.arange(side) * 18 // side for side in (height, width))
        noise = generator.uniform(-40, 40, (height, width, channels))
        images.append((patches[rows][:, columns] + noise).astype("uint8"))
    return images


def make_teacher(channels=3, **settings):
    """Of details: noise is classed otherwise as soon as it is resized otherwise."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(32, 3, activation="relu")(inputs)
    x = keras.layers.GlobalMaxPooling2D()(x)
    dense = keras.layers.Dense(CLASSES, kernel_initializer="he_normal", name="logits")
    teacher = ka.Teacher(
        keras.Model(inputs, dense(x)),
        "fine",
        [str(number) for number in range(CLASSES)],
        preprocessing=ka.Preprocessing(mean=0.5, std=0.25, **settings),
    )
    # So that no class is everybody's.
    dense.bias.assign(-logits(teacher, photographs(channels)).mean(axis=0))
    return teacher


def in_float64(image, preprocessing):
    """One photograph as its network takes it: cut, resized, cropped and normalised."""
    image, size = image.astype("float64"), preprocessing.size
    if size is not None:
        height, width = (round(side / preprocessing.crop_fraction) for side in size)
        if preprocessing.crop_to_aspect_ratio:
            kept = (
                min(image.shape[0], image.shape[1] * height // width),
                min(image.shape[1], image.shape[0] * width // height),
            )
            top, left = ((old - new) // 2 for old, new in zip(image.shape[:2], kept, strict=True))
            image = image[top : top + kept[0], left : left + kept[1]]
        by_row, by_column = (
            resizing_weights(old, new, preprocessing.interpolation, preprocessing.antialias)
            for old, new in zip(image.shape[:2], (height, width), strict=True)
        )
        image = np.einsum("ih,hwc,jw->ijc", by_row, image, by_column)
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        image = image[top : top + size[0], left : left + size[1]]
    return (image / 255 - 0.5) / 0.25


def logits(teacher, images):
    """What the network itself gives, of photographs prepared in NumPy."""
    prepared = [in_float64(image, teacher.preprocessing) for image in images]
    if teacher.preprocessing.size is None:
        return np.concatenate([teacher.model(one[None]) for one in prepared])
    return teacher.model(np.stack(prepared)).numpy()


def answers(teacher, images):
    return logits(teacher, images).argmax(axis=1)


def labelled(images, labels):
    return data.labelled_from_arrays(images, labels, batch_size=1)


@pytest.mark.matrix
@pytest.mark.parametrize("kind", KINDS)
def test_accuracy_is_that_of_the_authors_pipeline(kind):
    teacher, images = make_teacher(**KINDS[kind]), photographs()
    labels = answers(teacher, images)
    assert len(set(labels)) > 2
    assert evaluation.own_accuracy(teacher, labelled(images, labels)) == 1.0
    wrong = np.where(np.arange(len(labels)) % 4 == 0, (labels + 1) % CLASSES, labels)
    assert evaluation.own_accuracy(teacher, labelled(images, wrong)) == 0.75


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"squeezed"}))
def test_comparison_with_the_authors_pipeline_sees_another_one(kind):
    teacher, images = make_teacher(**KINDS[kind]), photographs()
    size = teacher.preprocessing.size or (24, 24)
    teacher.preprocessing = ka.Preprocessing(mean=0.5, std=0.25, size=size)
    labels = answers(teacher, images)
    teacher.preprocessing = ka.Preprocessing(mean=0.5, std=0.25, **KINDS[kind])
    assert evaluation.own_accuracy(teacher, labelled(images, labels)) < 1.0


def test_a_teacher_itself_keeps_its_preprocessing():
    teacher, images = make_teacher(**KINDS["centre of the cut"]), photographs()
    before = teacher.preprocessing
    evaluation.own_accuracy(teacher, labelled(images, np.zeros(len(images), "int64")))
    assert teacher.preprocessing is before
    assert before.crop_fraction == 0.8


def test_a_grey_teacher_takes_grey_photographs():
    teacher, images = make_teacher(channels=1, **KINDS["cut"]), photographs(channels=1)
    labels = answers(teacher, images)
    assert evaluation.own_accuracy(teacher, labelled(images, labels)) == 1.0
