"""Two small students and every artifact of the first, made once for all tests of the folder."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
COLOURS = ("red", "green", "blue", "grey")


def coloured_blobs(count, seed):
    """Noisy 28x28 RGB images of a blob; two labels on each: its quadrant and its colour."""
    rng = np.random.default_rng(seed)
    quadrant, colour = rng.integers(0, 4, (2, count))
    images = rng.integers(0, 90, (count, 28, 28, 3))
    tints = np.array([[150, 0, 0], [0, 150, 0], [0, 0, 150], [120, 120, 120]])
    for image, where, which in zip(images, quadrant, colour, strict=True):
        top, left = 14 * (where // 2) + 3, 14 * (where % 2) + 3
        image[top : top + 8, left : left + 8] += tints[which]
    return images.astype(np.uint8), {"quadrant": quadrant, "colour": colour}


def separable_student(seed=0, mean=0.3, policy="float32"):
    """Raw 28x28 RGB images to two heads, named out of alphabetical order."""
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(policy)
    image = keras.Input((28, 28, 3))
    x = keras.layers.Resizing(24, 24)(image)
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Normalization(mean=[mean] * 3, variance=[0.04] * 3)(x)
    for filters in (8, 16, 32):
        x = keras.layers.SeparableConv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.7)(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.Flatten()(x)
    heads = {
        name: keras.layers.Dense(4, name=name, dtype="float32")(x)
        for name in ("quadrant", "colour")
    }
    keras.config.set_dtype_policy("float32")
    return keras.Model(image, heads, name="student")


@pytest.fixture(scope="session")
def class_names():
    return {"quadrant": QUADRANTS, "colour": COLOURS}


@pytest.fixture(scope="session")
def images():
    return coloured_blobs(64, seed=1)[0]


@pytest.fixture(scope="session")
def student(class_names):
    """A trained student: its decisions are clear, as those of real students are."""
    model = separable_student()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), dict.fromkeys(class_names, loss))
    model.fit(*coloured_blobs(512, seed=0), batch_size=64, epochs=6, verbose=0)
    model.class_names = class_names
    return model


@pytest.fixture(scope="session")
def make_student(student, class_names):
    """Makes a student with the trained weights, in another precision or with another mean."""

    def make(**changes):
        twin = separable_student(**changes)
        twin.set_weights(student.get_weights())
        twin.class_names = class_names
        return twin

    return make


@pytest.fixture(scope="session")
def nested_student():
    """Grey images of any size, a backbone nested as a model, heads of unequal widths."""
    keras.utils.set_random_seed(3)
    inner = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inner)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("hard_swish")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = keras.layers.ReLU(6.0)(x)
    backbone = keras.Model(inner, x, name="backbone")
    image = keras.Input((None, None, 1))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Resizing(28, 28)(image))
    x = keras.layers.GlobalAveragePooling2D()(backbone(x))
    heads = {
        "wide": keras.layers.Dense(5, name="wide")(x),
        "narrow": keras.layers.Dense(3, name="narrow")(x),
    }
    model = keras.Model(image, heads, name="nested")
    model.class_names = {"wide": tuple("abcde"), "narrow": ("x", "y", "z")}
    return model


@dataclasses.dataclass(frozen=True)
class Exported:
    folder: Path
    artifacts: dict


@pytest.fixture(scope="session")
def exported(student, images, tmp_path_factory):
    """The trained student in every format, compared on real images."""
    from keras_amalgam import export

    folder = tmp_path_factory.mktemp("exported")
    artifacts = {
        "keras": export.to_keras(student, folder / "student.keras", images=images),
        "saved_model": export.to_saved_model(student, folder / "student", images=images),
        "onnx": export.to_onnx(student, folder / "student.onnx", images=images),
    }
    for precision in ("float32", "float16", "dynamic", "int8"):
        artifacts[precision] = export.to_tflite(
            student,
            folder / f"student_{precision}.tflite",
            precision,
            calibration=coloured_blobs(100, seed=2)[0] if precision == "int8" else None,
            images=images,
        )
    return Exported(folder, artifacts)


def _with_a_corrupted_weight(student):
    """One of some three thousand weights has a flipped bit in its exponent."""
    twin = keras.models.clone_model(student)
    weights = student.get_weights()
    weights[1][0, 0, 1, 2] *= 16
    twin.set_weights(weights)
    return twin


def _with_swapped_channels(student):
    image = keras.Input(student.input_shape[1:])
    return keras.Model(image, student(keras.ops.flip(image, axis=-1), training=False))


def _with_swapped_heads(student):
    heads = student.output
    return keras.Model(student.inputs, {"quadrant": heads["colour"], "colour": heads["quadrant"]})


@pytest.fixture(
    scope="session",
    params=["corrupted weight", "swapped channels", "wrong mean", "swapped heads"],
)
def twin(request, student, make_student):
    """The student with a fault that no check may let pass; a test runs with each."""
    return {
        "corrupted weight": lambda: _with_a_corrupted_weight(student),
        "swapped channels": lambda: _with_swapped_channels(student),
        "wrong mean": lambda: make_student(mean=0.36),
        "swapped heads": lambda: _with_swapped_heads(student),
    }[request.param]()
