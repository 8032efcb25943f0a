"""Raw images for calibration and for comparing an artifact with its model."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from keras_amalgam.export.signatures import Signature

DEFAULT_SAMPLES = 8
MAX_CALIBRATION_IMAGES = 512
# Phones take photographs of 10 to 20 times a student's size; of large students we make them smaller
# and fewer, so that a check takes seconds and some hundred megabytes.
TIMES_LARGER = (10, 13)
MAX_PIXELS = 2**22
MAX_PIXELS_TOGETHER = 2**23
SENSOR_NOISE = 25.0  # Standard deviation in grey levels, as in a dark room.


def random_images(signature: Signature, size: tuple[int, int]) -> np.ndarray:
    """Seeded uniform noise, shape `(8, height, width, channels)`, uint8."""
    shape = (DEFAULT_SAMPLES, *size, signature.image_shape[2])
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def photographs_of(images: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """What a camera would have seen of some images: the same, larger, with a sensor's noise.

    A resize that does not average, or averages in another way, makes other images of them.

    Args:
        images: Raw images in 0..255, shape `(count, height, width, channels)`.
        size: `(height, width)` of the photographs; by default 10 and 13 times the images', as
            far as that is not above 4 million pixels each and 8 million together.

    Returns:
        As many as there is room for, two at least if they are given, uint8.
    """
    import tensorflow as tf

    size = size or _of_a_photograph(images.shape[1], images.shape[2])
    images = images[: max(2, MAX_PIXELS_TOGETHER // (size[0] * size[1]))]
    enlarged = tf.image.resize(images, size, method="bicubic").numpy()
    noise = np.random.default_rng(1).standard_normal(enlarged.shape, np.float32)
    return np.clip(np.rint(enlarged + SENSOR_NOISE * noise), 0, 255).astype(np.uint8)


def _of_a_photograph(height: int, width: int) -> tuple[int, int]:
    taller, wider = (
        side * times for side, times in zip((height, width), TIMES_LARGER, strict=True)
    )
    share = min(1.0, (MAX_PIXELS / (taller * wider)) ** 0.5)
    return max(height, int(taller * share)), max(width, int(wider * share))


def checked_images(images: Any, signature: Signature, argument: str) -> np.ndarray:
    """Brings given images into the form `(count, height, width, channels)` and checks them.

    Args:
        images: Raw images in 0..255.
        signature: The interface of the model they are for.
        argument: The argument's name, for messages.

    Returns:
        The images, uint8 or float32.

    Raises:
        ValueError: If they do not fit the model's input, there are none, or their range is not
            0..255.
    """
    array = np.asarray(images)
    height, width, channels = signature.image_shape
    wanted = (height, width, channels)
    if array.ndim != 4 or any(
        own is not None and own != its for own, its in zip(wanted, array.shape[1:], strict=True)
    ):
        raise ValueError(
            f"`{argument}` does not fit the model's input. Received: shape {array.shape}. "
            f"Expected: (count, height, width, channels) with images of {wanted}, where None is "
            "any size. Resize or stack the images."
        )
    if len(array) == 0:
        raise ValueError(
            f"`{argument}` holds no image. Received: shape {array.shape}. Expected: at least one "
            "raw image. Check the folder or the data set it comes from."
        )
    check_range(float(array.min()), float(array.max()), argument)
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def calibration_images(
    calibration: Any, signature: Signature, size: tuple[int, int], precision: str
) -> np.ndarray:
    """Reads calibration images, the first 512 of a longer stream.

    Args:
        calibration: A `tf.data.Dataset` (or any iterable) of single or batched raw images, or of
            dicts with the key `"image"`; or one array of images.
        signature: The interface of the model to calibrate.
        size: `(height, width)` that the artifact takes.
        precision: What they are for, for messages.

    Returns:
        Float32 images in 0..255, shape `(count, height, width, channels)`.

    Raises:
        ValueError: If there are none, they have another size, or their range is not 0..255.
    """
    if calibration is None:
        raise ValueError(
            f"{precision} needs to see real images to choose its ranges. Received: "
            "calibration=None. Expected: some hundred unlabelled images like those in use. Pass "
            "`calibration=images`, a tf.data.Dataset or an array."
        )
    images = []
    for image in _single_images(calibration):
        if images and image.shape != images[0].shape:
            raise ValueError(
                f"The calibration images differ in size. Received: {images[0].shape} and "
                f"{image.shape}. Expected: one size. Resize them to one canvas."
            )
        images.append(image)
        if len(images) == MAX_CALIBRATION_IMAGES:
            break
    shape = (*size, signature.image_shape[2])
    stacked = np.stack(images) if images else np.zeros((0, *shape))
    fixed = Signature(shape, signature.heads)
    return checked_images(stacked, fixed, "calibration").astype(np.float32)


def spanning_full_range(images: np.ndarray) -> np.ndarray:
    """The images with two corner pixels set so that they span 0..255 exactly.

    The converter derives the input's scale from the smallest and largest value it sees. Only if
    these are 0 and 255 does one step of the uint8 input equal one grey level; otherwise raw images
    would silently be stretched.
    """
    if images.min() == 0 and images.max() == 255:
        return images
    images = images.copy()
    images[0, 0, 0, :] = 0
    images[0, -1, -1, :] = 255
    return images


def _single_images(calibration: Any) -> Iterator[np.ndarray]:
    if not isinstance(calibration, Iterable):
        raise ValueError(
            f"`calibration` cannot be read. Received: {type(calibration).__name__}. Expected: a "
            "tf.data.Dataset of images, or an array of images. Pass the unlabelled images."
        )
    for element in calibration:
        if isinstance(element, dict) and "image" in element:
            element = element["image"]
        if isinstance(element, (dict, tuple, list)):
            found = sorted(element) if isinstance(element, dict) else type(element).__name__
            raise ValueError(
                f"`calibration` yields something else than images. Received: {found}. Expected: "
                "images, or dicts with the key 'image'. Drop the labels: "
                "`dataset.map(lambda image, label: image)`."
            )
        array = np.asarray(element)
        if array.ndim not in (3, 4):
            raise ValueError(
                f"`calibration` yields something else than images. Received: an element of shape "
                f"{array.shape}. Expected: (height, width, channels), or a batch of these. Add "
                "the channel axis to grey images."
            )
        yield from array if array.ndim == 4 else array[np.newaxis]


def check_range(lowest: float, highest: float, argument: str) -> None:
    """Refuses images whose values, NaN among them, are not those of raw pixels.

    Args:
        lowest: The smallest of their values.
        highest: The largest.
        argument: The argument's name, for messages.

    Raises:
        ValueError: Saying what they look like.
    """
    if not (lowest >= 0 and highest <= 255):
        advice = "Undo the normalisation: the student normalises for itself"
    elif 0 < highest <= 1:
        advice = "They look like images scaled to 0..1: multiply them by 255"
    else:
        return
    raise ValueError(
        f"`{argument}` are not raw images. Received: values from {lowest:g} to {highest:g}. "
        f"Expected: values in 0..255. {advice}."
    )
