"""Preprocessing against NumPy and Pillow, and what it leaves in a saved model."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_amalgam import Preprocessing
from keras_amalgam.images.preprocessing import check_takes_images

RGB = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3)).astype("uint8")
GREY = RGB[..., :1]
LUMA = np.array([0.2989, 0.5870, 0.1140])  # ITU-R BT.601, as TensorFlow rounds it.

LOAD_ALONE = """
import sys
sys.modules["keras_amalgam"] = None  # Any import of it fails.
import keras, numpy as np
for path in sys.argv[1:]:
    model = keras.saving.load_model(path)
    with np.load(path + ".npz") as saved:
        np.testing.assert_allclose(model(saved["images"]), saved["expected"], atol=1e-5)
        print(path)
"""


def model_of(preprocessing, images, channels):
    inputs = keras.Input((None, None, images.shape[-1]))
    return keras.Model(inputs, preprocessing.build(inputs, channels))


def applied(preprocessing, images, channels=3):
    return np.asarray(model_of(preprocessing, images, channels)(images))


def axis_weights(given, wanted):
    """Half-pixel bilinear interpolation along one axis as a matrix, the borders repeated."""
    centres = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
    weights = np.zeros((wanted, given))
    for row, centre in enumerate(centres):
        below = int(centre)
        weights[row, below] += 1 - (centre - below)
        weights[row, min(below + 1, given - 1)] += centre - below
    return weights


def bilinear(images, height, width):
    rows, columns = axis_weights(images.shape[1], height), axis_weights(images.shape[2], width)
    return np.einsum("ih,nhwc,jw->nijc", rows, images.astype("float64"), columns)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_defaults_scale_to_0_to_1(dtype):
    np.testing.assert_allclose(applied(Preprocessing(), RGB.astype(dtype)), RGB / 255, atol=1e-6)


def test_mean_and_std_apply_per_channel_after_the_scale():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    result = applied(Preprocessing(mean=mean, std=std), RGB)
    expected = (RGB / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    swapped = (RGB[..., ::-1] / 255 - np.array(mean)) / np.array(std)
    assert np.abs(result - swapped).max() > 0.1


def test_one_mean_goes_with_a_std_per_channel():
    result = applied(Preprocessing(scale=1.0, mean=10.0, std=(2.0, 4.0, 8.0)), RGB)
    np.testing.assert_allclose(result, (RGB - 10.0) / np.array([2, 4, 8]), atol=1e-5)


def test_scale_and_offset_say_the_same():
    scale, offset = Preprocessing(scale=1 / 127.5, mean=(1.0, 0.5, 0.0), std=2.0).scale_and_offset()
    expected = (RGB / 127.5 - np.array([1, 0.5, 0])) / 2
    np.testing.assert_allclose(RGB * np.array(scale) + np.array(offset), expected)
    assert Preprocessing(scale=1.0).scale_and_offset() == (1.0, 0.0)


def test_bgr_flips_channels_before_the_per_channel_mean():
    """As Caffe's networks take it: BGR minus the mean of blue, green and red."""
    mean = (103.939, 116.779, 123.68)
    result = applied(Preprocessing(scale=1.0, mean=mean, channels="bgr"), RGB)
    np.testing.assert_allclose(result, RGB[..., ::-1] - np.array(mean), atol=1e-4)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_grey_images_are_repeated_for_a_colour_network(channels):
    mean = (10.0, 20.0, 30.0)
    result = applied(Preprocessing(scale=1.0, mean=mean, channels=channels), GREY)
    np.testing.assert_allclose(result, np.repeat(GREY, 3, -1) - np.array(mean), atol=1e-5)


def test_colour_images_become_luma_for_a_grey_network():
    result = applied(Preprocessing(scale=1.0), RGB, channels=1)
    np.testing.assert_allclose(result[..., 0], RGB @ LUMA, atol=1e-3)


@pytest.mark.parametrize("size", [(18, 21), (4, 5), (9, 7), (5, 14)])
def test_resizing_is_half_pixel_bilinear(size):
    result = applied(Preprocessing(size=size, scale=1.0, antialias=False), RGB)
    np.testing.assert_allclose(result, bilinear(RGB, *size), atol=1e-3)


def test_uint8_images_are_not_rounded_by_resizing():
    result = applied(Preprocessing(size=(5, 5), scale=1.0), RGB)
    assert np.abs(result - np.round(result)).max() > 0.1


@pytest.mark.parametrize(
    ("interpolation", "kernel"),
    [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)],
)
def test_antialiased_shrinking_is_pillows(interpolation, kernel):
    images = np.random.default_rng(1).random((1, 40, 32, 1)).astype("float32") * 255
    preprocessing = Preprocessing((10, 12), 1.0, interpolation=interpolation, antialias=True)
    pillow = np.asarray(Image.fromarray(images[0, ..., 0], "F").resize((12, 10), kernel))
    np.testing.assert_allclose(applied(preprocessing, images, 1)[0, ..., 0], pillow, atol=0.05)
    plain = applied(
        Preprocessing((10, 12), 1.0, interpolation=interpolation, antialias=False), images, 1
    )
    assert np.abs(plain[0, ..., 0] - pillow).max() > 10


@pytest.mark.parametrize("fraction", [0.875, 0.5])
def test_crop_fraction_is_the_centre_of_a_larger_resize(fraction):
    result = applied(Preprocessing(size=(14, 7), scale=1.0, crop_fraction=fraction), RGB)
    height, width = round(14 / fraction), round(7 / fraction)
    top, left = (height - 14) // 2, (width - 7) // 2
    expected = bilinear(RGB, height, width)[:, top : top + 14, left : left + 7]
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(20, 10), (10, 20), (16, 16), (21, 9)])
def test_image_of_another_shape_is_cut_about_its_centre_or_squeezed(height, width):
    images = np.random.default_rng(2).random((2, height, width, 3)).astype("float32") * 255
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[:, top : top + side, left : left + side]
    plain = Preprocessing(size=(8, 8), scale=1.0)
    cut = Preprocessing(size=(8, 8), scale=1.0, crop_to_aspect_ratio=True)
    np.testing.assert_allclose(applied(cut, images), applied(plain, square), atol=1e-3)
    differs = np.abs(applied(plain, images) - applied(plain, square)).max() > 10
    assert differs == (height != width)


def test_no_batch_norm_behind_it_is_trained_by_a_plain_call():
    """Keras' layer Resizing would: its call() defaults to training=True, and Keras passes it on."""
    inputs = keras.Input((None, None, 3))
    x = Preprocessing(size=(4, 4), mean=0.5, channels="bgr", crop_fraction=0.5).build(inputs, 3)
    norm = keras.layers.BatchNormalization()
    model = keras.Model(inputs, norm(x))
    plain, inference = np.asarray(model(RGB)), np.asarray(model(RGB, training=False))
    np.testing.assert_array_equal(plain, inference)
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(3))
    assert np.abs(np.asarray(model(RGB, training=True)) - inference).max() > 0.1


@pytest.mark.slow
def test_saved_models_load_with_plain_keras_in_a_process_without_this_package(tmp_path):
    cases = {
        "crop_bgr": (Preprocessing((6, 4), mean=(0.1, 0.2, 0.3), crop_fraction=0.8), RGB, 3),
        "flip": (Preprocessing(channels="bgr", std=(0.1, 0.2, 0.3)), RGB, 3),
        "repeat": (Preprocessing((12, 12), 1 / 127.5, mean=1.0), GREY, 3),
        "luma": (Preprocessing((5, 5), antialias=True), RGB, 1),
    }
    paths = []
    for name, (preprocessing, images, channels) in cases.items():
        model = model_of(preprocessing, images, channels)
        paths.append(str(tmp_path / f"{name}.keras"))
        model.save(paths[-1])
        np.savez(f"{paths[-1]}.npz", images=images, expected=np.asarray(model(images)))
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALONE, *paths], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == paths


def test_settings_survive_json():
    settings = Preprocessing((8, 6), 1.0, mean=(1.0, 2.0, 3.0), channels="bgr", crop_fraction=0.9)
    again = Preprocessing.from_config(json.loads(json.dumps(settings.to_config())))
    assert again == settings
    assert again.size == (8, 6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": (0, 4)}, "size"),
        ({"size": (4, 4, 3)}, "size"),
        ({"size": 224}, "size"),
        ({"size": (4.5, 4)}, "size"),
        ({"scale": 0.0}, "positive"),
        ({"std": 0.0}, "positive"),
        ({"std": (1.0, -1.0, 1.0)}, "positive"),
        ({"std": float("nan")}, "finite"),
        ({"mean": float("nan")}, "finite"),
        ({"mean": (1.0, 2.0), "std": (1.0, 2.0, 3.0)}, "one value per channel"),
        ({"mean": ()}, "one value per channel"),
        ({"interpolation": "cubic"}, "interpolation.*bicubic"),
        ({"size": (4, 4), "crop_fraction": 0.0}, "crop_fraction"),
        ({"size": (4, 4), "crop_fraction": 1.5}, "crop_fraction"),
        ({"crop_fraction": 0.875}, "needs `size`"),
        ({"crop_to_aspect_ratio": True}, "needs `size`"),
        ({"channels": "gray"}, "'grey'"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=says) as raised:
        Preprocessing(**settings)
    assert "Received" in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "given", "network"),
    [
        ({}, 3, 4),
        ({}, 4, 3),
        ({"channels": "grey"}, 3, 3),
        ({"channels": "bgr"}, 1, 1),
        ({"mean": (1.0, 2.0, 3.0)}, 3, 1),
        ({"std": (1.0, 2.0)}, 3, 3),
    ],
    ids=str,
)
def test_channels_that_cannot_be_brought_together_are_refused(settings, given, network):
    with pytest.raises(ValueError, match="disagree about channels. Received: images with"):
        Preprocessing(**settings).build(keras.Input((8, 8, given)), network)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 6), (3, None, None)], ids=str)
def test_channels_first_model_is_refused_as_such(shape):
    model = keras.Sequential([keras.Input(shape), keras.layers.ReLU()])
    with pytest.raises(ValueError, match="It takes its images channels-first. Received: a model"):
        check_takes_images(model, "It")


@pytest.mark.parametrize("shape", [(3, 3, 1), (3, 8, 3), (1, 1, 1), (None, None, 3)], ids=str)
def test_channels_last_model_of_low_images_takes_images(shape):
    model = keras.Sequential([keras.Input(shape), keras.layers.ReLU()])
    assert check_takes_images(model, "It") is None


def test_numbers_of_numpy_are_those_of_python():
    given = Preprocessing(
        size=np.array([8, 6]),
        scale=np.float32(0.5),
        mean=np.array([1.0, 2.0, 3.0]),
        std=[np.float64(4.0)] * 3,
    )
    plain = Preprocessing(size=(8, 6), scale=0.5, mean=(1.0, 2.0, 3.0), std=(4.0, 4.0, 4.0))
    assert given == plain
    assert json.loads(json.dumps(given.to_config())) == json.loads(json.dumps(plain.to_config()))


@pytest.mark.parametrize(
    "wrong",
    [{"mean": None}, {"scale": "1/255"}, {"std": ("a", 1, 2)}, {"scale": (1, 2)}, {"mean": True}],
)
def test_what_is_no_number_is_refused_by_name(wrong):
    (field,) = wrong
    with pytest.raises(TypeError, match=f"`{field}` must be a number.* Received: "):
        Preprocessing(**wrong)
