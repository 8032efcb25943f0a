"""How accurate a teacher is on what its authors would have shown it: photographs at their size."""

import copy
import dataclasses

import tensorflow as tf

from keras_amalgam.evaluation.predictions import collect, predictor, task_accuracy
from keras_amalgam.models.teacher import Teacher

BATCH_SIZE = 64


def own_accuracy(teacher: Teacher, photographs: tf.data.Dataset) -> float:
    """A teacher's accuracy in its own pipeline, from the photographs on, without any canvas.

    Each photograph is resized by itself before the network sees it in batches: what the network
    takes has one size, however large the photographs are.

    Args:
        teacher: The teacher whose preprocessing is applied.
        photographs: Batches `(images, labels)` of images of one size, which may be batches of one:
            `(batch, height, width, channels)` in 0..255, labels in the teacher's order.

    Returns:
        The fraction that it gets right, 0..1.

    Raises:
        ValueError: If no photographs are given, or a label is not one of the teacher's classes.

    Example:
        >>> photographs = data.labelled_from_folder("birds/test", canvas=None, batch_size=1)
        >>> own_accuracy(birds, photographs)
    """
    preprocessing = teacher.preprocessing

    def prepare(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return preprocessing.resized(tf.cast(image, tf.float32)[None])[0], label

    prepared = photographs.unbatch().map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    batches = prepared.batch(1 if preprocessing.size is None else BATCH_SIZE).prefetch(1)
    logits, labels = collect(predictor(_without_cropping(teacher)), batches)
    return task_accuracy(logits[teacher.name], labels)


def _without_cropping(teacher: Teacher) -> Teacher:
    """The same teacher, for images that were resized and cropped before."""
    later = copy.copy(teacher)
    later.preprocessing = dataclasses.replace(
        teacher.preprocessing, crop_fraction=1.0, crop_to_aspect_ratio=False
    )
    return later
