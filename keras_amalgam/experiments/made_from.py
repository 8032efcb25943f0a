"""What the steps of a run depend on, in a form that tells later whether it has changed."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.evaluation.predictions import labelled_batches
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.training import Method, made_from
from keras_amalgam.training.epoch_numbers import first_batch
from keras_amalgam.versions import versions


def training(
    recipe: Recipe,
    method: Method,
    student: keras.Model,
    about_images: Mapping[str, Any],
    replicas: int = 1,
) -> dict[str, Any]:
    """What a training depends on: with anything else it would not be the same one.

    Args:
        recipe: With the teachers.
        method: How the student is trained.
        student: Before its training, with its initial weights.
        about_images: From `images`.
        replicas: Number of replicas of the student. Terms that compare distributions, such as
            MMD, see the images of one replica alone.
    """
    return made_from.json_ready(
        {
            "teachers": teachers(recipe),
            "student": {
                "parameters": student.count_params(),
                "taps": made_from.of_taps(recipe.student_tap),
                "architecture": made_from.of_architecture(student),
                "precision": student.dtype_policy.name,
                "initial_weights": of_weights(student),
            },
            "images": about_images,
            "replicas": replicas,
            "method": made_from.of_method(method),
            "versions": versions(),
        }
    )


def teachers(recipe: Recipe) -> dict[str, Any]:
    """Of each teacher by name, what must stay the same."""
    return made_from.of_teachers(recipe.teachers)


def images(recipe: Recipe) -> dict[str, Any]:
    """Of the unlabelled images, what the recipe says, or else a look at the first batch."""
    if recipe.made_from:
        return made_from.json_ready(recipe.made_from)
    stream = recipe.streams["train"]
    return {
        "batches": int(stream.cardinality()),
        "of": str(stream.element_spec),
        "first_batch": _hash_of([first_batch(stream)]),
    }


def tests(recipe: Recipe) -> dict[str, Any]:
    """Of the test images by task, a hash of all of them, and of the photographs they are of."""
    shown = {"": recipe.evaluation, " photographs": recipe.photographs}
    return {
        f"{task}{kind}": _hash_of(labelled_batches(labelled))
        for kind, images in shown.items()
        for task, labelled in images.items()
    }


def of_weights(model: keras.Model) -> str:
    """A hash of all weights of a model, in their order."""
    found = hashlib.sha256()
    for weight in model.get_weights():
        found.update(np.ascontiguousarray(weight).tobytes())
    return found.hexdigest()[:16]


def _hash_of(batches: Iterable[Any]) -> str:
    """A hash of all numbers and their shapes, batch after batch."""
    found = hashlib.sha256()
    for batch in batches:
        for array in map(np.asarray, tf.nest.flatten(batch)):
            found.update(f"{array.shape} {array.dtype}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
