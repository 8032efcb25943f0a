"""Labelled data sets, for evaluation only: batches of (images, labels), with class names."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_amalgam.data.mixing import reason_of
from keras_amalgam.data.prefetch import prefetched
from keras_amalgam.data.prepared import read_prepared
from keras_amalgam.data.sources import from_arrays
from keras_amalgam.images.canvas import Canvas, CanvasSpec, check_image_spec
from keras_amalgam.images.checks import check_images
from keras_amalgam.images.files import decode_files, list_images
from keras_amalgam.images.folders import class_folders, composed


def labelled_from_tfds(
    name: str,
    split: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    canvas: CanvasSpec | None = None,
    batch_size: int = 64,
    keys: tuple[str, str] = ("image", "label"),
) -> tf.data.Dataset:
    """Images and labels of a prepared TensorFlow Datasets (TFDS) data set.

    Args:
        name: As in `tfds.load`.
        split: As in `tfds.load`.
        data_dir: The folder it was prepared in; TFDS' own place if None.
        canvas: `(height, width, channels)` or with a method of `canvas` as fourth; needed where
            images differ in size.
        batch_size: Images per batch; the last may be smaller.
        keys: The features that hold image and label.

    Returns:
        Data set of `(images, labels)`, images `(batch, height, width, channels)` in 0..255, labels
        `(batch,)` int64, in stored order. Its attribute `class_names` is a tuple, or None where
        TFDS has no names.

    Raises:
        ValueError: If name, split or a key is unknown, or a label is negative (unknown).

    Example:
        >>> digits = labelled_from_tfds("demo_digits", "test", demo_data_dir())
    """
    image_key, label_key = keys
    wanted = {"image key": image_key, "label key": label_key}
    dataset, features = read_prepared(name, split, data_dir, wanted)
    names = getattr(features[label_key], "names", None)
    pairs = dataset.map(lambda example: (example[image_key], example[label_key]))
    where = f"TFDS data set '{name}', split '{split}'"
    return _labelled(pairs, where, names, canvas, batch_size)


def labelled_from_folder(
    path: str | os.PathLike[str],
    *,
    canvas: CanvasSpec | None,
    batch_size: int = 64,
    class_names: Sequence[str] | None = None,
    channels: int = 3,
) -> tf.data.Dataset:
    """Images in class sub-folders.

    Args:
        path: A folder with one sub-folder per class.
        canvas: `(height, width, channels)` or with a method of `canvas` as fourth. None leaves
            images at their own sizes, for batches of one.
        batch_size: Images per batch; the last may be smaller.
        class_names: The sub-folders in the order of the labels, as the teacher has them; sorted if
            None. Accents may be composed in one and decomposed in the other.
        channels: Without a canvas: 3 for RGB, 1 for grey.

    Returns:
        Data set of `(images, labels)`, images `(batch, height, width, channels)` uint8, labels
        `(batch,)` int64, class after class. Its attribute `class_names` is a tuple.

    Raises:
        ValueError: If the folder is missing, has no sub-folders or others than `class_names`, a
            class has no images, or a file is no image or cut off.

    Example:
        >>> birds = labelled_from_folder("birds/test", canvas=(96, 96, 3),
        class_names=cub.class_names)
    """
    channels = channels if canvas is None else Canvas.parse(canvas).channels
    found = class_folders(path)
    if not found:
        raise ValueError(
            f"Folder '{path}' has no class sub-folders. Received: no sub-folder. Put the images of "
            "each class into a sub-folder of its name."
        )
    names = list(found) if class_names is None else list(class_names)
    if sorted(map(composed, names)) != list(found):
        wanted = set(map(composed, names))
        raise ValueError(
            f"Class names and the sub-folders of '{path}' differ. Received: only in class_names "
            f"{sorted(wanted - set(found))}, only in the folder {sorted(set(found) - wanted)}. "
            "Make them the same."
        )
    per_class = [list_images(found[composed(name)]) for name in names]
    labels = np.repeat(np.arange(len(names)), [len(files) for files in per_class])
    images = decode_files([file for files in per_class for file in files], channels)
    pairs = tf.data.Dataset.zip(images, tf.data.Dataset.from_tensor_slices(labels))
    return _labelled(pairs, f"Folder '{path}'", names, canvas, batch_size)


def labelled_from_arrays(
    images: Any,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    canvas: CanvasSpec | None = None,
    batch_size: int = 64,
) -> tf.data.Dataset:
    """Images and labels that are in memory already.

    Args:
        images: As in `from_arrays`.
        labels: Class numbers from 0, `(count,)` integers.
        class_names: Names in the order of the numbers.
        canvas: `(height, width, channels)` or with a method of `canvas` as fourth.
        batch_size: Images per batch; the last may be smaller.

    Returns:
        Data set of `(images, labels)` in their order, labels int64. Its attribute `class_names` is
        a tuple or None.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: If the numbers of images and labels differ, or a label has no class.

    Example:
        >>> test = labelled_from_arrays(x_test, y_test, class_names=[str(digit) for digit in
        range(10)])
    """
    unlabelled = from_arrays(images)
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"Labels must be class numbers. Received: type {labels.dtype}. Give integers from 0."
        )
    if labels.shape != (len(images),):
        raise ValueError(
            f"There must be one class number per image. Received: labels of shape {labels.shape} "
            f"for {len(images)} images. Turn one-hot rows into numbers with `labels.argmax(-1)`."
        )
    classes = np.inf if class_names is None else len(class_names)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"A label has no class. Received: labels from {labels.min()} to {labels.max()} for "
            f"{'unnamed' if class_names is None else len(class_names)} classes. Leave unlabelled "
            "images out, and give a name for each class."
        )
    pairs = tf.data.Dataset.zip(
        unlabelled, tf.data.Dataset.from_tensor_slices(labels.astype("int64"))
    )
    return _labelled(pairs, "labelled_from_arrays(images, labels)", class_names, canvas, batch_size)


def _labelled(
    pairs: tf.data.Dataset,
    where: str,
    class_names: Sequence[str] | None,
    canvas: CanvasSpec | None,
    batch_size: int,
) -> tf.data.Dataset:
    """Canvas, check of labels, batches; reads and checks the first batch."""
    specs: Any = pairs.element_spec
    image_spec, label_spec = specs
    check_image_spec(image_spec, where)
    if label_spec.shape.rank != 0 or not label_spec.dtype.is_integer:
        raise ValueError(
            f"{where} must have one class number per image. Received: labels {label_spec}. Map "
            "them to integers from 0."
        )
    if canvas is None and batch_size > 1 and not image_spec.shape.is_fully_defined():
        raise ValueError(
            f"{where} has images of different sizes. Received: {tuple(image_spec.shape)}. Bring "
            "them to one with `canvas=(height, width, channels)`, or take `batch_size=1`."
        )
    place = (lambda image: image) if canvas is None else Canvas.parse(canvas)

    def check(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        message = [f"{where} has images without a label (a negative one)."]
        with tf.control_dependencies([tf.debugging.Assert(label >= 0, message)]):
            return place(image), tf.cast(label, tf.int64)

    batches = pairs.map(check, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    try:
        first = next(iter(batches), None)
    except tf.errors.OpError as error:
        raise ValueError(
            f"{where} cannot be read. Received: {reason_of(error)} Repair or remove what is named."
        ) from error
    if first is None:
        raise ValueError(f"{where} is empty. Received: no image. Give at least one.")
    check_images(first[0], where)
    batches = prefetched(batches)
    names = None if class_names is None else tuple(class_names)
    # As keras.utils.image_dataset_from_directory does.
    batches.class_names = names  # pyright: ignore[reportAttributeAccessIssue]
    return batches
