"""The second computation of a preprocessing: against Pillow, by hand, and against the graph."""

import io

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_amalgam import Preprocessing
from keras_amalgam.teachers.comparison.image_bytes import decoded
from keras_amalgam.teachers.comparison.reference_preprocessing import (
    decoded_by_pillow,
    reference_input,
    resizing_weights,
)

PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


def pixels(height, width, channels, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, channels)).astype(np.uint8)


def encoded(image, suffix="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(
        buffer, suffix, **options
    )
    return buffer.getvalue()


def in_graph(image, preprocessing, channels):
    images = keras.Input((None, None, image.shape[-1]))
    model = keras.Model(images, preprocessing.build(images, channels))
    return keras.ops.convert_to_numpy(model(image[None].astype("float32")))[0]


@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("size", [(9, 7), (20, 31), (40, 13)])
def test_antialiased_resizing_is_pillows(interpolation, size):
    image = pixels(20, 31, 1)[..., 0].astype(np.float32)
    expected = Image.fromarray(image).resize(size[::-1], PILLOW[interpolation])
    rows = resizing_weights(20, size[0], interpolation, antialias=True)
    columns = resizing_weights(31, size[1], interpolation, antialias=True)
    received = rows @ image @ columns.T
    assert np.abs(received - np.asarray(expected)).max() < 1e-4


def test_bilinear_weights_by_hand():
    # New centres at 0.25 and 1.75 in units of old pixels, whose centres are 0, 1, 2 … minus a half.
    weights = resizing_weights(3, 2, "bilinear", antialias=False)
    np.testing.assert_allclose(weights, [[0.75, 0.25, 0], [0, 0.25, 0.75]])
    np.testing.assert_allclose(
        resizing_weights(2, 4, "bilinear", antialias=False),
        [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]],
    )
    np.testing.assert_array_equal(
        resizing_weights(4, 2, "nearest", antialias=False), [[0, 1, 0, 0], [0, 0, 0, 1]]
    )


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize(
    "interpolation", ["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"]
)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("shape", [(61, 45), (24, 24), (17, 90)])
def test_graph_agrees_for_every_interpolation(interpolation, antialias, shape):
    preprocessing = Preprocessing(
        size=(24, 20), interpolation=interpolation, antialias=antialias, crop_fraction=0.875,
        mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4),
    )  # fmt: skip
    image = pixels(shape[0], shape[1], 3)
    expected = reference_input(encoded(image), preprocessing, 3)
    received = in_graph(image, preprocessing, 3)
    assert expected.dtype == np.float32
    assert np.abs(received - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.parametrize(
    ("given", "network", "order"), [(3, 3, "bgr"), (1, 3, "rgb"), (1, 3, "bgr"), (3, 1, None)]
)
def test_graph_agrees_for_every_order_of_channels(given, network, order):
    mean = (0.4, 0.5, 0.6) if network == 3 else 0.45
    preprocessing = Preprocessing(size=(8, 9), mean=mean, std=0.3, channels=order)
    image = pixels(16, 12, given)
    expected = reference_input(encoded(image), preprocessing, network)
    assert expected.shape == (8, 9, network)
    assert np.abs(in_graph(image, preprocessing, network) - expected).max() < 1e-4


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("shape", [(61, 45), (45, 61), (24, 20), (7, 90), (90, 7)])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.875])
def test_graph_agrees_for_images_cut_to_the_networks_shape(shape, crop_fraction):
    preprocessing = Preprocessing(
        size=(24, 20), crop_fraction=crop_fraction, crop_to_aspect_ratio=True
    )
    image = pixels(shape[0], shape[1], 3)
    expected = reference_input(encoded(image), preprocessing, 3)
    assert np.abs(in_graph(image, preprocessing, 3) - expected).max() < 1e-4


@pytest.mark.parametrize(
    "other",
    [
        {"interpolation": "bicubic"},
        {"interpolation": "nearest"},
        {"antialias": False},
        {"crop_fraction": 1.0},
        {"crop_fraction": 0.9},
        {"crop_to_aspect_ratio": True},
        {"channels": "bgr"},
        {"mean": 0.41},
        {"std": 0.21},
        {"scale": 1 / 256},
    ],
)
def test_another_preprocessing_is_seen(other):
    said = {"size": (24, 20), "mean": 0.4, "std": 0.2, "crop_fraction": 0.875}
    image = pixels(61, 45, 3)
    expected = reference_input(encoded(image), Preprocessing(**said), 3)
    received = in_graph(image, Preprocessing(**said | other), 3)
    assert np.abs(received - expected).max() > 1e-2


def test_pictures_of_every_mode_are_decoded_to_grey_or_rgb():
    for mode, channels in (("L", 1), ("LA", 1), ("1", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)):
        buffer = io.BytesIO()
        Image.new(mode, (5, 4)).save(buffer, "PNG")
        assert decoded_by_pillow(buffer.getvalue()).shape == (4, 5, channels)


def test_both_sides_of_a_comparison_see_a_photo_the_right_way_up():
    values = pixels(40, 50, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for format in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, format, exif=exif)
        content = buffer.getvalue()
        expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
        np.testing.assert_array_equal(decoded_by_pillow(content), expected)
        assert np.abs(decoded(content).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("content", [b"", b"no image", encoded(pixels(40, 40, 3))[:200]])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(ValueError, match="must be JPEG or PNG"):
        decoded_by_pillow(content)
