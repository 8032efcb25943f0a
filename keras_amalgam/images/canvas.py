"""Images of different sizes brought to one canvas, as a named step."""

from numbers import Integral
from typing import Any

import tensorflow as tf

METHODS = ("resize", "pad", "crop")
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as in JPEG and Pillow

CanvasSpec = tuple[int, int, int] | tuple[int, int, int, str]


def canvas(
    images: tf.data.Dataset, size: tuple[int, int], channels: int, method: str = "resize"
) -> tf.data.Dataset:
    """Brings every image of a data set to one size and one number of channels.

    Resizing is bilinear and antialiased. Grey becomes RGB by repetition, RGB becomes grey by
    0.299 R + 0.587 G + 0.114 B. Images already on the canvas pass unchanged.

    Args:
        images: Unbatched images, each `(height, width, 1 or 3)`, `uint8` or float in 0..255.
        size: Height and width of the canvas in pixels.
        channels: 1 for grey, 3 for RGB.
        method: `"resize"` stretches to the canvas; `"pad"` keeps the aspect ratio, fits the whole
            image inside and fills up with zeros; `"crop"` keeps the aspect ratio, covers the
            canvas and cuts the centre out.

    Returns:
        Data set of images `(*size, channels)`: `uint8` from `uint8` (rounded), else `float32`,
        0..255.

    Raises:
        TypeError: If `images` is not a data set of plain images.
        ValueError: If size, channels or method are not possible.

    Example:
        >>> photos = canvas(from_folder("photos"), (96, 96), 3, "crop")
    """
    check_unlabelled(images, "canvas(images)")
    place = Canvas.parse((*size, channels, method))
    return images.map(place, num_parallel_calls=tf.data.AUTOTUNE)


class Canvas:
    """One image onto a canvas: what the pipelines map."""

    def __init__(self, height: int, width: int, channels: int, method: str = "resize"):
        """Checks and keeps the canvas; sizes in pixels."""
        received = f"Received: {(height, width, channels, method)}."
        for length in (height, width):
            if not isinstance(length, Integral) or length < 1:
                raise ValueError(
                    f"A canvas needs a height and a width of at least one pixel. {received} "
                    "Give integers, for example (96, 96, 3)."
                )
        if channels not in (1, 3):
            raise ValueError(
                f"A canvas has 1 (grey) or 3 (RGB) channels. {received} Choose one of them."
            )
        if method not in METHODS:
            raise ValueError(f"Unknown canvas method. {received} Choose one of {METHODS}.")
        self.size, self.channels, self.method = (height, width), channels, method

    @classmethod
    def parse(cls, spec: CanvasSpec) -> "Canvas":
        """From `(height, width, channels)` or `(height, width, channels, method)`."""
        if not isinstance(spec, tuple | list) or len(spec) not in (3, 4):
            raise ValueError(
                "A canvas is (height, width, channels) or (height, width, channels, method). "
                f"Received: {spec!r}. Give for example (96, 96, 3) or (96, 96, 3, 'crop')."
            )
        method = spec[3] if len(spec) == 4 else "resize"
        return cls(spec[0], spec[1], spec[2], method)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        """One image `(height, width, channels)` on the canvas, `uint8` or `float32`."""
        is_uint8 = image.dtype == tf.uint8
        image = to_channels(image, self.channels)
        if tuple(image.shape[:2]) != self.size:
            image = _fit(image, self.size, self.method)
        if is_uint8 and image.dtype != tf.uint8:
            image = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)
        elif not is_uint8:
            image = tf.cast(image, tf.float32)
        return tf.ensure_shape(image, (*self.size, self.channels))


def to_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """One image with the wanted channels; an alpha channel (2nd of 2, 4th of 4) is dropped."""

    def grey_as_it_is() -> tf.Tensor:
        grey = image[:, :, :1]
        return grey if channels == 1 else tf.repeat(grey, 3, axis=-1)

    def colour() -> tf.Tensor:
        return image[:, :, :3] if channels == 3 else _grey(image[:, :, :3])

    known = image.shape[-1]
    if known is not None:
        return grey_as_it_is() if known < 3 else colour()
    result = tf.cond(tf.shape(image)[-1] < 3, grey_as_it_is, colour)
    return tf.ensure_shape(result, (None, None, channels))


def _grey(image: tf.Tensor) -> tf.Tensor:
    weighted = tf.cast(image, tf.float32) * tf.constant(GREY_WEIGHTS)
    grey = tf.reduce_sum(weighted, axis=-1, keepdims=True)
    return tf.cast(tf.round(grey), tf.uint8) if image.dtype == tf.uint8 else grey


def _fit(image: tf.Tensor, size: tuple[int, int], method: str) -> tf.Tensor:
    if method == "resize":
        return tf.image.resize(image, size, antialias=True)
    actual = tf.cast(tf.shape(image)[:2], tf.float32)
    scales = tf.constant(size, tf.float32) / actual
    scale = tf.reduce_min(scales) if method == "pad" else tf.reduce_max(scales)
    # A side of a long thin image must not vanish, nor one of a covering image fall a pixel short.
    least = (1, 1) if method == "pad" else size
    scaled = tf.maximum(tf.cast(tf.round(actual * scale), tf.int32), least)
    image = tf.image.resize(image, scaled, antialias=True)
    return tf.image.resize_with_crop_or_pad(image, *size)


def check_unlabelled(images: Any, where: str) -> None:
    """Raises unless `images` is a data set of single images: no labels, no batches."""
    if not isinstance(images, tf.data.Dataset):
        raise TypeError(
            f"{where} must be a tf.data.Dataset of images. Received: {type(images).__name__}. "
            "Make one with data.from_tfds, data.from_folder or data.from_arrays."
        )
    spec = images.element_spec
    if isinstance(spec, tuple | list | dict):
        keys = sorted(spec) if isinstance(spec, dict) else f"{len(spec)} parts"
        raise TypeError(
            f"{where} must yield images only, without labels. Received: elements of {keys}. Keep "
            "the image, for example with `dataset.map(lambda image, label: image)`."
        )
    check_image_spec(spec, where)


def check_image_spec(spec: Any, where: str) -> None:
    """Raises unless the elements described by `spec` are single images."""
    rank = spec.shape.rank
    if rank != 3:
        advice = (
            "Call `.unbatch()` on it."
            if rank == 4
            else "Give each image a rank with `ensure_shape`."
        )
        raise ValueError(
            f"{where} must yield single images (height, width, channels). Received: {spec}. "
            f"{advice}"
        )
    if spec.shape[-1] not in (1, 3):
        raise ValueError(
            f"{where} must yield grey (1) or RGB (3) images, channels last. Received: {spec}. "
            "Select or convert the channels, or state them with `tf.ensure_shape`."
        )
    if spec.dtype != tf.uint8 and not spec.dtype.is_floating:
        raise TypeError(
            f"{where} must yield uint8 or float images in 0..255. Received: {spec}. Cast them."
        )
