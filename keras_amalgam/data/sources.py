"""Unlabelled sources: images only, one by one, as tf.data data sets that know their cardinality."""

import os
import random
from typing import Any

import numpy as np
import tensorflow as tf

from keras_amalgam.data.prepared import read_prepared
from keras_amalgam.images.canvas import check_image_spec
from keras_amalgam.images.checks import check_images
from keras_amalgam.images.files import decode_files, list_images


def from_tfds(
    name: str, split: str, data_dir: str | os.PathLike[str] | None = None, image_key: str = "image"
) -> tf.data.Dataset:
    """Images of a prepared TensorFlow Datasets (TFDS) data set; its labels are dropped.

    Nothing is downloaded: prepare a data set once with TFDS itself.

    Args:
        name: As in `tfds.load`.
        split: As in `tfds.load`; parts like `"train[:90%]"` too.
        data_dir: The folder it was prepared in; TFDS' own place if None.
        image_key: The feature that holds the image.

    Returns:
        Unbatched data set of images `(height, width, channels)` in stored order, as decoded
        (`uint8`).

    Raises:
        ValueError: If name, split or `image_key` is unknown, naming what there is.

    Example:
        >>> digits = from_tfds("demo_digits", "unlabelled", demo_data_dir())
    """
    dataset, _ = read_prepared(name, split, data_dir, {"image_key": image_key})
    images = dataset.map(lambda example: example[image_key])
    check_image_spec(images.element_spec, f"TFDS data set '{name}', feature '{image_key}'")
    return images


def from_folder(
    path: str | os.PathLike[str], recursive: bool = True, channels: int = 3
) -> tf.data.Dataset:
    """Images of a folder: JPEG, PNG, GIF, BMP, WEBP, TIFF, AVIF and others that Pillow reads.

    Every file's first and last bytes are checked here. Links are followed, and each file is found
    once. Names that begin with a dot are passed over; what may be an image and cannot be reached,
    such as a dangling link, is warned of by name. Sub-folders mean nothing (see
    `labelled_from_folder`): the files come in one fixed mixed order, so that shuffling within a
    window mixes them too.

    Images come as a viewer shows them, turned by their EXIF orientation. Of several in one file,
    the first is taken.

    Args:
        path: The folder.
        recursive: Whether sub-folders are searched too.
        channels: 3 for RGB, 1 for grey; converted where the file has it otherwise, alpha dropped.

    Returns:
        Unbatched data set of `uint8` images `(None, None, channels)`. Reading a file that cannot be
        decoded raises an error naming it.

    Raises:
        ValueError: If the folder is missing or holds no images, or a file is no image or cut off.

    Example:
        >>> photos = canvas(from_folder("photos"), (96, 96), 3, "crop")
    """
    _check_channels(channels)
    files = list_images(path, recursive)
    random.Random(0).shuffle(files)
    return decode_files(files, channels)


def from_arrays(images: Any) -> tf.data.Dataset:
    """Images that are in memory already.

    Args:
        images: Array `(count, height, width, 1 or 3)`, or a list of arrays `(height, width, 1 or
            3)` of different sizes and one type; `uint8` or float in 0..255.

    Returns:
        Unbatched data set of images in their order, of the same type.

    Raises:
        TypeError: If labels came along, or the type is neither `uint8` nor float.
        ValueError: If shapes or values are not those of images, or there is none.

    Example:
        >>> grey = from_arrays(np.zeros((100, 28, 28, 1), "uint8"))
    """
    where = "from_arrays(images)"
    if isinstance(images, list) and images:
        return _from_list([np.asarray(image) for image in images], where)
    if isinstance(images, list):
        images = np.zeros((0, 1, 1, 1), np.uint8)
    check_images(images, where)
    with tf.device("CPU:0"):
        return tf.data.Dataset.from_tensor_slices(np.asarray(images))


def _from_list(images: list[np.ndarray], where: str) -> tf.data.Dataset:
    for number, image in enumerate(images):
        check_images(image[None], f"{where}, image {number}")
    kinds = {(image.dtype, image.shape[-1]) for image in images}
    if len(kinds) > 1:
        raise ValueError(
            f"{where} must be of one type and one number of channels. Received: "
            f"{sorted(f'{dtype} with {channels} channels' for dtype, channels in kinds)}. "
            "Convert them."
        )
    # Images of all sizes lie one behind another in a single vector.
    with tf.device("CPU:0"):
        values = tf.concat([tf.reshape(image, [-1]) for image in images], axis=0)
        ends = np.cumsum([image.size for image in images])
        shapes = np.stack([image.shape for image in images])
    channels = images[0].shape[-1]

    def cut(end: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        image = tf.reshape(values[end - tf.reduce_prod(shape) : end], shape)
        return tf.ensure_shape(image, (None, None, channels))

    return tf.data.Dataset.from_tensor_slices((ends, shapes)).map(cut)


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise ValueError(
            f"Images are read as grey (1 channel) or RGB (3). Received: channels={channels!r}. "
            "Choose 1 or 3."
        )
