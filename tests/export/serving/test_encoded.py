"""From a file's bytes to what the student sees: upright, and resized as by the canvas."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

import keras_amalgam as ka
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
    function = encoded_function(model, describe(model), resized_to)
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
