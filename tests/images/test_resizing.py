"""The resize in the graph: against TensorFlow's, Pillow's and a float64 reference, at any size."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_amalgam import Preprocessing
from keras_amalgam.images.resizing import Resize, first_resize, fitted, resize_of
from keras_amalgam.teachers.comparison.reference_preprocessing import resizing_weights

SHRUNK, SAME, ENLARGED = (57, 91), (28, 30), (13, 20)


def photographs(size, channels=3, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(0, 255, (2, *size, channels)).astype("float32")


def model_of(resize, channels=3):
    images = keras.Input((None, None, channels), name="image")
    return keras.Model(images, keras.layers.Rescaling(1.0, dtype="float32")(resize(images)))


def in_float64(images, resize):
    """Cut, resized and cropped by matrices of weights."""
    rows, columns = images.shape[1:3]
    height, width = resize.full_size
    if resize.covers:
        kept = max(min(rows, columns * height // width), 1), 1
        kept = kept[0], max(min(columns, rows * width // height), 1)
        top, left = (rows - kept[0]) // 2, (columns - kept[1]) // 2
        images = images[:, top : top + kept[0], left : left + kept[1]]
    by_row, by_column = (
        resizing_weights(old, new, resize.interpolation, antialias=True)
        for old, new in zip(images.shape[1:3], resize.full_size, strict=True)
    )
    result = np.einsum("ih,nhwc,jw->nijc", by_row, images.astype("float64"), by_column)
    top, left = (
        (full - side) // 2 for full, side in zip((height, width), resize.size, strict=True)
    )
    return result[:, top : top + resize.size[0], left : left + resize.size[1]]


@pytest.mark.parametrize("size", [SHRUNK, SAME, ENLARGED, (560, 333), (1, 400), (28, 61)])
def test_resize_is_tensorflows_antialiased_one_at_any_size(size):
    images, model = photographs(size), model_of(Resize((28, 30)))
    expected = tf.image.resize(images, (28, 30), antialias=True)
    assert np.abs(model(images) - expected).max() <= 7e-5
    plain = tf.image.resize(images, (28, 30))
    if size in (SHRUNK, (560, 333)):
        assert np.abs(plain - expected).max() > 10


def test_resize_is_pillows_bilinear_filter():
    pixels = np.random.default_rng(1).integers(0, 256, (420, 300, 3)).astype("uint8")
    small = Image.fromarray(pixels).resize((30, 28), Image.Resampling.BILINEAR)
    # Pillow rounds after each axis.
    assert np.abs(model_of(Resize((28, 30)))(pixels[None])[0] - np.asarray(small)).max() <= 1.01
    bicubic = Image.fromarray(pixels).resize((30, 28))
    assert np.abs(np.asarray(bicubic, float) - np.asarray(small)).max() > 2


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("size", [SHRUNK, SAME, ENLARGED, (400, 31)])
@pytest.mark.parametrize(
    "resize",
    [
        Resize((28, 30), before_crop=(32, 35)),
        Resize((28, 30), covers=True),
        Resize((28, 30), before_crop=(40, 40), covers=True),
        Resize((28, 30), interpolation="bicubic"),
        Resize((28, 30), covers=True, interpolation="lanczos3"),
        Resize((28, 30), before_crop=(31, 31), interpolation="lanczos5"),
    ],
    ids=lambda resize: resize.name,
)
def test_crops_and_kernels_are_the_references(resize, size):
    images = photographs(size)
    received = np.asarray(model_of(resize)(images))
    np.testing.assert_allclose(received, in_float64(images, resize), atol=2e-3)


def test_covering_keeps_the_shape_of_things():
    """A bright square in a wide photograph stays one; squeezed, it becomes a strip."""
    images = np.zeros((1, 60, 120, 1), "float32")
    images[:, 22:38, 52:68] = 255.0
    covered, squeezed = (
        np.asarray(model_of(Resize((30, 30), covers=covers), 1)(images))[0, ..., 0] > 127
        for covers in (True, False)
    )
    assert (covered.any(1).sum(), covered.any(0).sum()) == (8, 8)
    assert (squeezed.any(1).sum(), squeezed.any(0).sum()) == (8, 4)


@pytest.mark.parametrize("shape", [(0, 40, 33, 3), (3, 40, 33, 3), (1, 1, 1, 3)])
def test_any_batch_is_resized_each_image_by_itself(shape):
    model = model_of(Resize((9, 8)))
    images = np.random.default_rng(2).uniform(0, 255, shape).astype("float32")
    received = np.asarray(model(images))
    assert received.shape == (shape[0], 9, 8, 3)
    for image, one in zip(images, received, strict=True):
        np.testing.assert_allclose(model(image[None])[0], one, atol=1e-4)


def test_resize_compiles_under_xla_with_the_same_result():
    images, model = photographs(SHRUNK), model_of(Resize((28, 30), covers=True))
    compiled = tf.function(lambda batch: model(batch), jit_compile=True)
    np.testing.assert_allclose(compiled(images), model(images), atol=1e-4)


def test_resize_keeps_float32_under_a_global_mixed_policy():
    images = photographs(SHRUNK)
    expected = np.asarray(model_of(Resize((28, 30)))(images))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        received = np.asarray(model_of(Resize((28, 30)))(images))
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize(
    "resize",
    [
        Resize((28, 30)),
        Resize((28, 30), covers=True),
        Resize((28, 30), before_crop=(32, 35)),
        Resize((28, 30), before_crop=(32, 35), covers=True, interpolation="lanczos3"),
        Resize((28, 30), interpolation="bicubic"),
    ],
    ids=lambda resize: resize.name,
)
def test_saved_model_is_known_to_resize(resize, tmp_path):
    model_of(resize).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found, result = first_resize(loaded)
    expected = None if resize.full_size == resize.size else resize.full_size
    assert found == Resize(resize.size, expected, resize.covers, resize.interpolation)
    assert result.shape[1:3] == resize.size


def test_one_model_can_resize_twice_to_one_size():
    images = keras.Input((None, None, 3))
    both = [Resize((8, 9), interpolation="bicubic")(images) for _ in range(2)]
    names = {resize.name for resize in keras.Model(images, both).layers[1:]}
    assert len(names) == 2
    for layer in keras.Model(images, both).layers[1:]:
        assert resize_of(layer) == Resize((8, 9), interpolation="bicubic")


@pytest.mark.parametrize("name", ["resize_28x30_triangle", "resize_28", "a_resize_28x30", "model"])
def test_models_of_other_names_are_no_resize(name):
    images = keras.Input((28, 30, 3))
    assert resize_of(keras.Model(images, images * 2.0, name=name)) is None


def in_sequence(*layers, name):
    return keras.Sequential([keras.Input((None, None, 3)), *layers], name=name)


def rescaled_by_an_operation(name):
    """The resize itself and one operation more."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, Resize((28, 30)).as_model(3, "inner")(images) / 255.0, name=name)


def of_another_size(name):
    """The very graph of a resize, with other constants in it."""
    return Resize((30, 28)).as_model(3, name)


def of_another_kernel(name):
    return Resize((28, 30), interpolation="lanczos5").as_model(3, name + "_lanczos3")


def resizing_and_rescaling(name):
    layers = keras.layers.Resizing(28, 30), keras.layers.Rescaling(1 / 255)
    return in_sequence(*layers, name=name)


def rescaling_only(name):
    return in_sequence(keras.layers.Rescaling(1 / 255), name=name)


IMITATIONS = [
    rescaled_by_an_operation,
    of_another_size,
    of_another_kernel,
    resizing_and_rescaling,
    rescaling_only,
]


@pytest.mark.parametrize("make", IMITATIONS)
def test_users_model_of_such_a_name_is_a_layer_like_any_other(make):
    images = keras.Input((None, None, 3))
    layer = make("resize_28x30")
    model = keras.Model(images, keras.layers.Rescaling(2.0)(layer(images)))
    assert resize_of(layer) is None
    assert first_resize(model) is None
    assert fitted(model, SAME) is model


class Doubling(keras.Model):
    def call(self, images):
        return images * 2.0


def test_users_class_of_such_a_name_is_no_resize():
    layer = Doubling(name="resize_28x30")
    assert resize_of(layer) is None
    layer(np.zeros((1, 28, 30, 3), "float32"))
    assert resize_of(layer) is None


def test_looking_at_a_model_does_not_rename_what_is_built_after_it():
    images = keras.Input((None, None, 3))
    name = "resize_27x29"
    layer = keras.Model(images, images * 2.0, name=name)
    before = [(images + 1.0)._keras_history.operation.name for _ in range(2)]
    assert resize_of(layer) is None
    after = (images + 1.0)._keras_history.operation.name
    first, second = (int(one.rpartition("_")[2]) for one in (before[1], after))
    assert second == first + 1
    resized = Resize((27, 29))(images)._keras_history.operation
    assert resized.name == name


def test_resize_is_known_under_a_global_mixed_policy_and_once_frozen():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = model_of(Resize((17, 19)))
    finally:
        keras.config.set_dtype_policy(before)
    model.trainable = False
    assert first_resize(model)[0] == Resize((17, 19))
    assert first_resize(keras.models.clone_model(model))[0] == Resize((17, 19))


def test_fitted_model_leaves_out_what_changes_nothing():
    model = model_of(Resize((28, 30)))
    assert fitted(model, SHRUNK) is model
    for size, resizes in ((SAME, False), (ENLARGED, True)):
        smaller = fitted(model, size)
        assert first_resize(smaller) is None
        kinds = [type(operation).__name__ for operation in smaller.operations]
        assert ("Resize" in kinds) == resizes
        np.testing.assert_allclose(smaller(photographs(size)), model(photographs(size)), atol=1e-4)


@pytest.mark.parametrize(
    "resize", [Resize((28, 30), before_crop=(32, 35)), Resize((28, 30), covers=True)]
)
def test_fitted_model_still_crops(resize):
    model = model_of(resize)
    assert fitted(model, (24, 20)) is model
    images = photographs(SAME)
    np.testing.assert_allclose(fitted(model, SAME)(images), in_float64(images, resize), atol=2e-3)


def test_student_and_teachers_shrink_antialiased_unless_told_otherwise():
    assert Preprocessing(size=(8, 8)).antialias
    images = keras.Input((None, None, 3))
    model = keras.Model(images, Preprocessing(size=(8, 8)).build(images, 3))
    assert first_resize(model)[0] == Resize((8, 8))
