"""From a file's bytes to what the student sees: upright, and resized as by the canvas."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

import keras_amalgam as ka
from keras_amalgam.export.entrance import entrance_of
from keras_amalgam.export.serving.images_in_graph import encoded_function
from keras_amalgam.export.signatures import describe
from keras_amalgam.images.resizing import Resize

SIZE = (8, 12)


def seeing(resized, image):
    """A model whose one output is the image as the student behind its resize has it."""
    return keras.Model(image, {"seen": keras.layers.Reshape((*resized.shape[1:3], 3))(resized)})


def of_any_size(resize):
    image = keras.Input((None, None, 3))
    return seeing(resize(image), image)


def seen_in(contents, model, resized_to=None):
    function = encoded_function(model, describe(model), entrance_of(model, resized_to))
    return tf.function(function)(tf.constant(contents))["seen"].numpy()


def photograph(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3)).astype("uint8")
    pixels = np.asarray(Image.fromarray(small).resize((width, height)), float)
    noise = np.random.default_rng(1).normal(0, 40, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype("uint8"))


def file_of(photo, kind, orientation=None):
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    photo.save(buffer, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


@pytest.mark.matrix
@pytest.mark.parametrize(
    "orientation",
    [1, 6, *(pytest.param(way, marks=pytest.mark.slow) for way in (2, 3, 4, 5, 7, 8))],
)
def test_photograph_is_seen_upright_and_antialiased_as_by_pillow(orientation):
    """The JPEG decoders are up to two grey levels apart, and Pillow rounds after each axis."""
    for kind, least in (("PNG", 1.01), ("JPEG", 3.0)):
        content = file_of(photograph(160, 90), kind, orientation)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        assert upright.size == ((90, 160) if orientation < 5 else (160, 90))
        expected = upright.resize(SIZE[::-1], Image.Resampling.BILINEAR)
        seen = seen_in([content], of_any_size(Resize(SIZE)))[0]
        assert np.abs(seen - np.asarray(expected, float)).max() <= least
    as_stored = Image.open(io.BytesIO(content)).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    assert (np.abs(seen - np.asarray(as_stored, float)).max() > 20) == (orientation != 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "resize",
    [
        Resize(SIZE, covers=True),
        Resize(SIZE, before_crop=(11, 15)),
        Resize(SIZE, before_crop=(10, 18), covers=True),
        Resize(SIZE, interpolation="bicubic"),
        Resize(SIZE, covers=True, interpolation="lanczos3"),
    ],
    ids=lambda resize: resize.name,
)
def test_students_own_resize_is_done_as_it_does_it(resize):
    model = of_any_size(resize)
    photos = [photograph(height, width) for height, width in ((90, 160), (161, 40), (5, 6))]
    seen = seen_in([file_of(photo, "PNG") for photo in photos], model)
    for photo, one in zip(photos, seen, strict=True):
        expected = model(np.asarray(photo, np.float32)[None])["seen"][0]
        np.testing.assert_allclose(one, expected, atol=2e-3)


def plainly_by_an_operation(crops):
    image = keras.Input((None, None, 3))
    return seeing(keras.ops.image.resize(image, SIZE, crop_to_aspect_ratio=crops), image)


def plainly_by_a_layer(crops):
    layers = keras.layers.Resizing(*SIZE, crop_to_aspect_ratio=crops)
    image = keras.Input((None, None, 3))
    return seeing(layers(image), image)


def plainly_in_a_sequence(crops):
    layer = keras.layers.Resizing(*SIZE, crop_to_aspect_ratio=crops)
    image = keras.Input((None, None, 3))
    return keras.Sequential([image, layer, keras.layers.Reshape((*SIZE, 3), name="seen")])


@pytest.mark.matrix
@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize(
    "make", [plainly_by_an_operation, plainly_by_a_layer, plainly_in_a_sequence]
)
def test_student_that_shrinks_plainly_sees_the_photograph_antialiased(make, crops):
    model, photo = make(crops), photograph(90, 160)
    antialiased = of_any_size(Resize(SIZE, covers=crops))
    pixels = np.asarray(photo, np.float32)[None]
    seen = seen_in([file_of(photo, "PNG")], model)
    np.testing.assert_allclose(seen, antialiased(pixels)["seen"], atol=2e-3)
    plain = model(pixels, training=False)
    plain = plain["seen"] if isinstance(plain, dict) else plain
    assert np.abs(seen - plain).max() > 20


def rescaled(image):
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)


def normalized(image):
    layer = keras.layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[900.0, 800.0, 700.0])
    return layer(image)


def by_arithmetic(image):
    """As `keras.applications` prepares images for the older networks."""
    mean = np.array([103.939, 116.779, 123.68], "float32")
    return -(keras.ops.cast(image, "float32")[..., ::-1] - mean) / 2.0


def rescaled_in_a_block(image):
    return keras.Sequential([keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255)])(image)


def then_resizing(prepared, image, **kwargs):
    resized = keras.layers.Resizing(*SIZE, **kwargs)(prepared)
    return seeing(resized, image)


@pytest.mark.matrix
@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("prepare", [rescaled, normalized, by_arithmetic, rescaled_in_a_block])
def test_student_that_shrinks_plainly_behind_steps_per_pixel_sees_it_antialiased(
    prepare, crops, tmp_path
):
    image = keras.Input((None, None, 3))
    then_resizing(prepare(image), image, crop_to_aspect_ratio=crops).save(tmp_path / "it.keras")
    model, photo = keras.saving.load_model(tmp_path / "it.keras"), photograph(90, 160)
    pixels = np.asarray(photo, np.float32)[None]
    small = of_any_size(Resize(SIZE, covers=crops))(pixels)["seen"]
    expected = model(small, training=False)["seen"]
    seen = seen_in([file_of(photo, "PNG")], model)
    np.testing.assert_allclose(seen, expected, atol=2e-3)
    assert np.abs(seen - model(pixels, training=False)["seen"]).max() > 0.05


def test_preparation_in_a_block_of_its_own_is_looked_into():
    image = keras.Input((None, None, 3))
    layers = [keras.Input((None, None, 3)), keras.layers.Rescaling(1.0)]
    block = keras.Sequential([*layers, keras.layers.Resizing(*SIZE)])
    model, photo = seeing(block(image), image), photograph(90, 160)
    expected = of_any_size(Resize(SIZE))(np.asarray(photo, np.float32)[None])["seen"]
    np.testing.assert_allclose(seen_in([file_of(photo, "PNG")], model), expected, atol=2e-3)


@pytest.mark.matrix
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos3"])
def test_students_own_filter_is_kept_and_antialiased(interpolation, antialias):
    image = keras.Input((None, None, 3))
    model = then_resizing(image, image, interpolation=interpolation, antialias=antialias)
    photo = photograph(90, 160)
    pixels = np.asarray(photo, np.float32)[None]
    seen = seen_in([file_of(photo, "PNG")], model)
    expected = tf.image.resize(pixels, SIZE, method=interpolation, antialias=True)
    np.testing.assert_allclose(seen, expected, atol=2e-3)
    bilinear = tf.image.resize(pixels, SIZE, antialias=True)
    assert np.abs(seen - bilinear).max() > 5
    agrees = np.allclose(seen, model(pixels, training=False)["seen"], atol=2e-3)
    assert agrees == antialias


def padded(image):
    return keras.layers.Resizing(*SIZE, pad_to_aspect_ratio=True)(image)


def blurred(image):
    return keras.layers.Resizing(*SIZE)(keras.layers.AveragePooling2D(3, 1, "same")(image))


def every_other_pixel(image):
    return keras.layers.Resizing(*SIZE)(image[:, ::2, ::2])


def forked(image):
    resized = keras.layers.Resizing(*SIZE)(keras.layers.Rescaling(1.0)(image))
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(image)
    return keras.layers.Add()([resized, mean])


class Resize2(keras.layers.Layer):
    def call(self, images):
        return keras.ops.image.resize(images, SIZE)


Resize2.__name__ = "Resize"  # As many a user calls it.


def by_a_layer_of_ones_own(image):
    return keras.layers.Rescaling(1.0)(Resize2()(image))


@pytest.mark.matrix
@pytest.mark.parametrize(
    "make", [padded, blurred, every_other_pixel, forked, by_a_layer_of_ones_own]
)
def test_resize_that_nothing_can_stand_for_is_the_students_own(make):
    image = keras.Input((None, None, 3))
    model, photo = seeing(make(image), image), photograph(90, 160)
    expected = model(np.asarray(photo, np.float32)[None], training=False)["seen"]
    np.testing.assert_allclose(seen_in([file_of(photo, "PNG")], model), expected, atol=2e-3)


@pytest.mark.matrix
@pytest.mark.parametrize("size", [SIZE, (90, 160)])
def test_block_named_like_a_resize_of_ours_is_run_whole(size):
    """What else it does, here rescaling, used to be left out together with its resize."""
    image, photo = keras.Input((None, None, 3)), photograph(*size)
    layers = [keras.Input((None, None, 3)), keras.layers.Resizing(*SIZE)]
    block = keras.Sequential([*layers, keras.layers.Rescaling(1 / 255)], name="resize_8x12")
    model = seeing(keras.layers.Rescaling(1.0)(block(image)), image)
    small = of_any_size(Resize(SIZE))(np.asarray(photo, np.float32)[None])["seen"]
    expected = model(small, training=False)["seen"]
    np.testing.assert_allclose(seen_in([file_of(photo, "PNG")], model), expected, atol=1e-4)
    assert np.max(expected) < 1.01


def test_photograph_for_a_student_of_one_size_is_antialiased():
    image = keras.Input((*SIZE, 3))
    model, photo = seeing(keras.layers.Rescaling(1.0)(image), image), photograph(90, 160)
    expected = photo.resize(SIZE[::-1], Image.Resampling.BILINEAR)
    seen = seen_in([file_of(photo, "PNG")], model, SIZE)[0]
    assert np.abs(seen - np.asarray(expected, float)).max() <= 1.01


def test_two_resizes_of_one_image_are_left_to_the_student():
    """Neither can stand for the other: it sees the photograph itself."""
    image = keras.Input((None, None, 3))
    both = [ka.Preprocessing(size=size).build(image, 3) for size in (SIZE, (4, 6))]
    larger = keras.layers.UpSampling2D(2)(both[1])
    model, photo = seeing(keras.layers.Add()([both[0], larger]), image), photograph(90, 160)
    image_shape = np.asarray(photo, np.float32)[None]
    seen = seen_in([file_of(photo, "PNG")], model)
    np.testing.assert_allclose(seen, model(image_shape)["seen"], atol=2e-3)
