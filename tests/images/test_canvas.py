import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_amalgam import data

GRADIENT = np.stack(np.meshgrid(np.arange(40), np.arange(30)) + (np.full((30, 40), 9),), -1) * 6
RGB = GRADIENT.astype("uint8")
NOISE = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype("uint8")


def on_canvas(image, *arguments):
    (result,) = data.canvas(data.from_arrays(image[None]), *arguments)
    return result.numpy()


def test_canvas_resizes_as_pillow_does_with_antialiasing():
    reference = Image.fromarray(RGB).resize((10, 15), Image.Resampling.BILINEAR)
    result = on_canvas(RGB, (15, 10), 3)
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - np.asarray(reference)).max() <= 1


def test_canvas_crop_covers_and_cuts_the_centre():
    reference = Image.fromarray(RGB).resize((20, 15), Image.Resampling.BILINEAR)
    centre = np.asarray(reference)[:, 2:17]
    result = on_canvas(RGB, (15, 15), 3, "crop")
    assert np.abs(result.astype(int) - centre).max() <= 1


def test_canvas_pad_fits_inside_and_fills_with_zeros():
    reference = Image.fromarray(RGB).resize((20, 15), Image.Resampling.BILINEAR)
    result = on_canvas(RGB, (21, 20), 3, "pad")
    assert np.abs(result[3:18].astype(int) - np.asarray(reference)).max() <= 1
    assert not result[:3].any() and not result[18:].any()


@pytest.mark.matrix
@pytest.mark.parametrize("method", ["resize", "pad", "crop"])
def test_canvas_leaves_images_of_its_size_as_they_are(method):
    for images in (data.from_arrays(NOISE[None]), data.from_arrays([NOISE])):
        (result,) = data.canvas(images, (12, 9), 3, method)
        np.testing.assert_array_equal(result, NOISE)


@pytest.mark.matrix
@pytest.mark.parametrize("size", [(1, 1), (7, 31), (64, 3)])
@pytest.mark.parametrize("method", ["resize", "pad", "crop"])
def test_canvas_has_the_shape_asked_for(size, method):
    images = data.from_arrays([RGB, NOISE])
    placed = data.canvas(images, size, 1, method)
    assert placed.element_spec == tf.TensorSpec((*size, 1), tf.uint8)
    assert [image.shape for image in placed.as_numpy_iterator()] == [(*size, 1)] * 2


def test_canvas_turns_rgb_to_grey_as_pillow_does():
    reference = np.asarray(Image.fromarray(NOISE).convert("L"))
    result = on_canvas(NOISE, (12, 9), 1)
    assert np.abs(result[..., 0].astype(int) - reference).max() <= 1


def test_canvas_turns_grey_to_rgb_by_repetition():
    result = on_canvas(NOISE[..., :1], (12, 9), 3)
    np.testing.assert_array_equal(result, np.repeat(NOISE[..., :1], 3, axis=-1))


def test_canvas_keeps_the_range_of_float_images():
    result = on_canvas(NOISE.astype("float64"), (5, 31), 3)
    assert result.dtype == np.float32
    assert result.min() >= 0.0 and 100.0 < result.max() <= 255.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (((0, 5), 3), "at least one pixel"),
        (((5.5, 5), 3), "at least one pixel"),
        (((5, 5), 4), r"1 \(grey\) or 3 \(RGB\) channels"),
        (((5, 5), 3, "squeeze"), r"Choose one of \('resize', 'pad', 'crop'\)"),
    ],
)
def test_canvas_refuses_what_is_not_possible(arguments, says):
    with pytest.raises(ValueError, match=says):
        data.canvas(data.from_arrays(NOISE[None]), *arguments)


def test_canvas_refuses_labels_and_batches():
    images = data.from_arrays(NOISE[None])
    with pytest.raises(TypeError, match="without labels"):
        data.canvas(images.map(lambda image: (image, 1)), (5, 5), 3)
    with pytest.raises(ValueError, match="unbatch"):
        data.canvas(images.batch(1), (5, 5), 3)
    with pytest.raises(TypeError, match="Received: ndarray"):
        data.canvas(NOISE[None], (5, 5), 3)
