import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.export.samples import (
    MAX_CALIBRATION_IMAGES,
    calibration_images,
    checked_images,
    photographs_of,
    random_images,
    spanning_full_range,
)
from keras_amalgam.export.signatures import Signature

SIGNATURE = Signature((None, None, 3), {"a": (2,)})
SIZE = (6, 8)


def raw_images(count=5):
    return np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def test_random_images_are_the_same_every_time():
    first = random_images(SIGNATURE, SIZE)
    assert first.shape == (8, 6, 8, 3)
    assert first.max() > 250
    np.testing.assert_array_equal(first, random_images(SIGNATURE, SIZE))


def test_photographs_are_larger_and_show_their_images_once_they_are_averaged():
    images = random_images(SIGNATURE, (28, 20))
    photographs = photographs_of(images)
    assert photographs.shape == (8, 280, 260, 3)
    shrunk = tf.image.resize(photographs, (28, 20), antialias=True)
    plain = tf.image.resize(photographs, (28, 20))
    likeness, of_plain = (
        np.corrcoef(np.ravel(one), np.ravel(images))[0, 1] for one in (shrunk, plain)
    )
    assert likeness > 0.9 and np.abs(shrunk - plain).mean() > 10 and of_plain > 0.5
    np.testing.assert_array_equal(photographs, photographs_of(images))


@pytest.mark.parametrize("side", [224, 384, 3000])
def test_photographs_of_large_images_keep_to_a_size(side):
    photographs = photographs_of(np.zeros((8, side, side, 1), np.uint8))
    assert len(photographs) == 2
    assert side <= photographs.shape[1] and side <= photographs.shape[2]
    assert photographs[0].size <= max(2**22, side * side)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda images: images,
        lambda images: images.astype(np.float32),
        lambda images: tf.data.Dataset.from_tensor_slices(images),
        lambda images: tf.data.Dataset.from_tensor_slices(images).batch(2),
        lambda images: tf.data.Dataset.from_tensor_slices(
            {"image": images, "source": np.zeros(len(images), np.int32)}
        ).batch(3),
        lambda images: list(images),
        lambda images: iter([images[:2], images[2:]]),
    ],
    ids=["array", "float", "single", "batched", "dict", "list", "batches"],
)
def test_calibration_images_are_read_from_every_form(wrap):
    images = raw_images()
    read = calibration_images(wrap(images), SIGNATURE, SIZE, "int8")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, images)


def test_calibration_stops_on_an_endless_stream():
    stream = tf.data.Dataset.from_tensor_slices(raw_images()).repeat()
    assert len(calibration_images(stream, SIGNATURE, SIZE, "int8")) == MAX_CALIBRATION_IMAGES


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "calibration=None.*some hundred unlabelled images"),
        (7, "cannot be read. Received: int"),
        (np.zeros((0, *SIZE, 3)), "holds no image"),
        (tf.data.Dataset.from_tensor_slices(raw_images()).take(0), "holds no image"),
        (raw_images() / 255.0, "look like images scaled to 0..1: multiply them by 255"),
        (raw_images() - 128.0, "values from -128 to 127.*Undo the normalisation"),
        (raw_images() * np.nan, "values from nan to nan"),
        (raw_images()[:, :5], r"does not fit.*\(5, 5, 8, 3\)"),
        (raw_images()[..., 0], r"an element of shape \(6, 8\).*channel axis"),
        ([raw_images()[0], raw_images()[0, :4]], "differ in size"),
        (
            tf.data.Dataset.from_tensor_slices((raw_images(), np.zeros(5))),
            "Received: tuple.*Drop the labels",
        ),
        (tf.data.Dataset.from_tensors({"pixels": raw_images()}), r"Received: \['pixels'\]"),
    ],
)
def test_calibration_that_is_no_raw_images_is_refused(calibration, message):
    with pytest.raises(ValueError, match=message):
        calibration_images(calibration, SIGNATURE, SIZE, "int8")


def test_checked_images_refuses_another_channel_count():
    with pytest.raises(ValueError, match=r"`images` does not fit.*\(5, 6, 8, 1\)"):
        checked_images(raw_images()[..., :1], SIGNATURE, "images")


def test_spanning_full_range_changes_two_pixels_only_when_needed():
    images = np.full((3, *SIZE, 3), 100, np.float32)
    spanned = spanning_full_range(images)
    assert (spanned.min(), spanned.max()) == (0, 255)
    assert np.count_nonzero(spanned != images) == 6
    assert images.min() == 100
    assert spanning_full_range(spanned) is spanned
