"""Signals of runtime teachers on their way to the training: in the data, not in its graph."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.training.guards import source_names

_KERAS_BATCH_SIZE = 32


def with_runtime_signals(images: tf.data.Dataset, teachers: Sequence[Teacher]) -> tf.data.Dataset:
    """Batches that bring the signals of the runtime teachers along.

    `Amalgamator.fit` and `evaluate` do this by themselves. Doing it by hand allows
    `with_runtime_signals(images, teachers).cache()`: each runtime teacher then runs once in all
    epochs instead of once in each, on the same views of the images. A cache in a file belongs to
    these teachers: nothing else tells that it was made by others of the same names and shapes.

    Args:
        images: Batches as for `Amalgamator.fit`.
        teachers: Those of the training; all but runtime teachers, and those whose signals are
            there already, are left to the training step.

    Returns:
        Batches `{"image": …, "signals": {teacher: {"answers": {task: …}, "features": {tap: …}}}}`
        with what else was known of the images, made while the last one is in use.

    Raises:
        TypeError: If `images` is no `tf.data.Dataset`.
        ValueError: If they bear labels, or their number of channels is not known.
    """
    if not isinstance(images, tf.data.Dataset):
        raise TypeError(
            f"Runtime teachers need batches in a tf.data.Dataset. Received: {type(images).__name__}"
            ". Use tf.data.Dataset.from_tensor_slices(array).batch(…), or from_generator(…)."
        )
    spec = Batch.of(images.element_spec)
    missing = _missing(spec, teachers)
    if not missing:
        return images
    channels = spec.images.shape[-1]
    if channels is None:
        raise ValueError(
            f"The number of channels must be known. Received: images {spec.images}. Map the "
            "data set with tf.ensure_shape(image, (None, height, width, channels))."
        )
    models = {teacher.name: teacher.signals(channels) for teacher in missing}

    def attach(*data: Any) -> dict[str, Any]:
        batch = Batch.of(data[0] if len(data) == 1 else data)
        made = {
            name: Signals.of(model(batch.images, training=False)) for name, model in models.items()
        }
        return dataclasses.replace(batch, signals={**batch.signals, **made}).as_element()

    # One batch at a time: a runtime has threads of its own.
    delivered = images.map(attach).prefetch(2)
    names = source_names(images)
    if names is not None:
        delivered.source_names = names  # pyright: ignore[reportAttributeAccessIssue]
    return delivered


def delivered(
    x: Any,
    teachers: Sequence[Teacher],
    batch_size: int | None = None,
    shuffle: bool | str = False,
    validation_split: float = 0.0,
) -> Any:
    """What `fit` and `evaluate` run on: `x`, with the runtime teachers' signals.

    Args:
        x: Images as given by the user, checked.
        teachers: Of the training.
        batch_size: For arrays, as in `fit`.
        shuffle: For arrays, as in `fit`.
        validation_split: As in `fit`; what becomes a data set cannot be split by Keras.

    Returns:
        `x` itself if no signals are missing, else a data set.

    Raises:
        TypeError: If signals are missing and `x` is a generator or the like.
        ValueError: If signals are missing and arrays were to be split.
    """
    if isinstance(x, tf.data.Dataset):
        return with_runtime_signals(x, teachers)
    batch = Batch.of(x)
    missing = _missing(batch, teachers)
    if not missing:
        return x
    if not hasattr(batch.images, "shape"):
        raise TypeError(
            f"Teacher {missing[0].name!r} runs in a runtime of its own and needs the images as a "
            f"tf.data.Dataset or an array. Received: {type(x).__name__}. Use "
            "tf.data.Dataset.from_generator(…)."
        )
    if validation_split:
        raise ValueError(
            f"With runtime teachers arrays cannot be split. Received: {validation_split=}. Use "
            "validation_data=images."
        )
    return with_runtime_signals(_batches(x, batch_size or _KERAS_BATCH_SIZE, shuffle), teachers)


def _missing(batch: Batch, teachers: Sequence[Teacher]) -> list[Teacher]:
    return [t for t in teachers if not t.in_graph and t.name not in batch.signals]


def _batches(x: Any, batch_size: int, shuffle: bool | str) -> tf.data.Dataset:
    """Arrays as Keras batches them: every image once, in a new order in each epoch."""
    count = len(Batch.of(x).images)
    indices = tf.data.Dataset.range(count)
    if shuffle:
        indices = indices.shuffle(count)
    # Beside the indices, not inside the function, whose graph has room for two gigabytes.
    pairs = tf.data.Dataset.zip(indices.batch(batch_size), tf.data.Dataset.from_tensors(x).repeat())

    def take(chosen: Any, arrays: Mapping[str, Any] | Any) -> Any:
        return keras.tree.map_structure(lambda array: tf.gather(array, chosen), arrays)

    return pairs.map(take)
