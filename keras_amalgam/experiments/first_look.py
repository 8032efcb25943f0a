"""What some of the images tell, before anything is trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.evaluation.predictions import Labelled, check_labels, labelled_batches
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.unlabelled import unlabelled_images
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.plausibility import SIGN_IMAGES, doubt
from keras_amalgam.teachers.comparison.normalization_check import check_normalization

IMAGES = 64  # Of each teacher.


def doubts(recipe: Recipe) -> list[str]:
    """Warnings about teachers whose answers can hardly be logits, or whose images look wrong.

    The latter are normalised otherwise than the teacher's running statistics remember.

    A teacher is asked about the images of its own collection, if they are known to be.

    Args:
        recipe: With its teachers and streams.
    """
    images, sources = unlabelled_images(recipe, IMAGES * len(recipe.teachers))
    found = []
    for number, teacher in enumerate(recipe.teachers):
        own = images[sources == number]
        asked = (own if len(own) >= SIGN_IMAGES else images)[:IMAGES]
        # As it is: a graph for one batch would cost more than it saves.
        logits = teacher.answers(images.shape[-1])(asked, training=False)[teacher.name]
        found.append(doubt(teacher, np.asarray(logits)))
        found.append(check_normalization(teacher, asked).warning)
    return [one for one in found if one]


def check_tests(recipe: Recipe, student: keras.Model) -> None:
    """Refuse test images that could not be evaluated, rather than after the training.

    The first batch of each is looked at, and the student answers for its first image.

    Args:
        recipe: With its test images.
        student: Not trained yet.

    Raises:
        ValueError: Naming the task whose test images do not fit; if the training's images have
            labels.
    """
    spec = Batch.of(recipe.streams["train"].element_spec).images
    classes = {teacher.name: len(teacher.class_names) for teacher in recipe.teachers}
    for task, labelled in recipe.evaluation.items():
        with _named(f"The test images of {task!r}"):
            images = _first(labelled, classes[task])
            _check_shape(images, spec.shape)
            student(images[:1], training=False)
    for task, photographs in recipe.photographs.items():
        with _named(f"The test photographs of {task!r}"):
            _first(photographs, classes[task])


def _check_shape(images: np.ndarray, batch: tf.TensorShape) -> None:
    """Refuse images that are not of the training's size and channels, as far as that is known."""
    if not batch[1:].is_compatible_with(images.shape[1:]):
        raise ValueError(
            f"Received: images of {images.shape[1:]}. Expected: {tuple(batch[1:])}, as in training."
        )


def _first(labelled: Labelled, num_classes: int) -> np.ndarray:
    """The images of the first batch, whose labels must be classes."""
    found = next(labelled_batches(labelled), None)
    if found is None:
        raise ValueError("Received: no batch. Expected: at least one labelled image.")
    images, labels = found
    check_labels(labels, num_classes)
    return images


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(f"{what} cannot be evaluated. {error}") from error
