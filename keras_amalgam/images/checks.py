"""What the library takes for images: the one place that decides it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

CHANNELS = (1, 3)
# Said before a training and by a term called by itself.
SOURCES_NEEDED = (
    "ownership='source' needs to know where each image came from. Received: images without "
    "sources. Yield {'image': images, 'source': numbers}, as keras_amalgam.data.stream does, or "
    "choose another ownership."
)


def check_images(images: Any, where: str = "Images") -> None:
    """Raises unless a batch holds images as the whole library expects them.

    Images are RGB or grey, `uint8` or float, in 0..255, shaped `(batch, height, width, channels)`;
    a training batch may also be a dict with the keys `"image"` and `"source"`. Float images whose
    largest value is at most 1 are taken for images in 0..1 (an all-black batch is not).

    Args:
        images: One batch, an array or tensor of shape `(batch, height, width, 1 or 3)`, or
            `{"image": that, "source": integers of shape (batch,)}`.
        where: What the error begins with, for example `"Source 'digits'"`.

    Raises:
        TypeError: If labels came along, or the data type is neither `uint8` nor float.
        ValueError: If rank, channels or values are not those of images.

    Example:
        >>> check_images(np.zeros((2, 28, 28, 1), "uint8"))
    """
    if isinstance(images, tuple | list):
        raise TypeError(
            f"{where}: images must come without labels: nothing is labelled here. Received: a "
            f"{type(images).__name__} of {len(images)} elements. Expected: an images tensor, or "
            "a dict with 'image' and 'source'. Drop the labels, for example with "
            "`dataset.map(lambda image, label: image)`."
        )
    if isinstance(images, Mapping):
        images = _image_of(images, where)
    array = np.asarray(images)
    _check_dtype(array, where)
    _check_shape(array.shape, where)
    _check_values(array, where)


def _image_of(batch: Mapping[str, Any], where: str) -> Any:
    if set(batch) != {"image", "source"}:
        raise ValueError(
            f"{where}: images came as a dict with other keys than 'image' and 'source'. Received: "
            f"{sorted(map(str, batch))}. Map each batch to {{'image': images, 'source': integers}}."
        )
    size, source = np.shape(batch["image"])[:1], np.asarray(batch["source"])
    if source.shape != size or not np.issubdtype(source.dtype, np.integer):
        raise ValueError(
            f"{where}: images need one integer source per image. Received: sources of shape "
            f"{source.shape} and type {source.dtype} for {size} images. Give an int32 vector: k "
            "for an image of the k-th teacher's collection, -1 for unknown."
        )
    return batch["image"]


def _check_dtype(array: np.ndarray, where: str) -> None:
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise TypeError(
            f"{where}: images must be of type uint8 or float. Received: {array.dtype}. If the "
            "values are in 0..255, use `images.astype('uint8')`."
        )


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    if len(shape) != 4:
        advice = {
            2: "Give images, not flattened rows: use `reshape(batch, height, width, channels)`.",
            3: "Add the missing axis: `images[..., None]` for grey ones, `images[None]` for one.",
        }.get(len(shape), "Reshape them.")
        raise ValueError(
            f"{where}: images must have the shape (batch, height, width, channels). Received: "
            f"{shape}. {advice}"
        )
    if shape[-1] not in CHANNELS:
        raise ValueError(
            f"{where}: images must have 1 (grey) or 3 (RGB) channels, the last axis. Received: "
            f"shape {shape}. Move the channels last, or drop an alpha channel with `images[..., "
            ":3]`."
        )
    if 0 in shape:
        raise ValueError(f"{where}: there are no images. Received: shape {shape}. Give some.")


def _check_values(array: np.ndarray, where: str) -> None:
    if array.dtype == np.uint8:
        return
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(array.size - np.isfinite(array).sum())
        raise ValueError(
            f"{where}: images must be finite. Received: {count} values that are NaN or infinite. "
            "Find the image they come from and leave it out."
        )
    if low < 0.0 or high > 255.0:
        raise ValueError(
            f"{where}: images must be in 0..255. Received: values from {low:.6g} to {high:.6g}. "
            "Give them as they were before normalisation: every teacher normalises for itself, "
            "inside its graph."
        )
    if 0.0 < high <= 1.0:
        raise ValueError(
            f"{where}: images must be in 0..255. Received: float values from {low:.6g} to "
            f"{high:.6g}, which look like images scaled to 0..1. Multiply them by 255."
        )
