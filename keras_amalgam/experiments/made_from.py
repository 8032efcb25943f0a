"""What the steps of a run depend on, in a form that tells later whether it has changed."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.evaluation.predictions import labelled_batches
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.models.taps import Taps, as_taps
from keras_amalgam.training import Method
from keras_amalgam.training.epoch_numbers import first_batch
from keras_amalgam.training.manifest import manifest_entry
from keras_amalgam.training.method import Stage
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
    return _json_ready(
        {
            "teachers": teachers(recipe),
            "student": {
                "parameters": student.count_params(),
                "taps": _taps(recipe.student_tap),
                "architecture": _of_architecture(student),
                "precision": student.dtype_policy.name,
                "initial_weights": of_weights(student),
            },
            "images": about_images,
            "replicas": replicas,
            "method": {
                "name": method.name,
                "seed": method.seed,
                "stages": [_stage(stage) for stage in method.stages],
            },
            "versions": versions(),
        }
    )


def teachers(recipe: Recipe) -> dict[str, Any]:
    """Of each teacher by name, what must stay the same."""
    entries = [manifest_entry(teacher) for teacher in recipe.teachers]
    return {entry["name"]: entry for entry in entries}


def images(recipe: Recipe) -> dict[str, Any]:
    """Of the unlabelled images, what the recipe says, or else a look at the first batch."""
    if recipe.made_from:
        return _json_ready(recipe.made_from)
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


def _of_architecture(model: keras.Model) -> str:
    """A hash of all layers and their settings, without the numbers that Keras counts names by."""
    text = json.dumps(model.get_config(), default=str, sort_keys=True)
    return hashlib.sha256(re.sub(r"_\d+\b", "", text).encode()).hexdigest()[:16]


def _hash_of(batches: Iterable[Any]) -> str:
    """A hash of all numbers and their shapes, batch after batch."""
    found = hashlib.sha256()
    for batch in batches:
        for array in map(np.asarray, tf.nest.flatten(batch)):
            found.update(f"{array.shape} {array.dtype}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _stage(stage: Stage) -> dict[str, Any]:
    optimizer = keras.saving.serialize_keras_object(stage.optimizer(1000))
    optimizer["config"].pop("name", None)  # It counts the optimizers of the process.
    terms = [keras.saving.serialize_keras_object(term) for term in stage.terms()]
    return {
        "epochs": stage.epochs,
        "steps": stage.steps,
        "freeze": [part if isinstance(part, str) else repr(part) for part in stage.freeze],
        "taps": None if stage.student_tap is None else _taps(stage.student_tap),
        "images": _callable(stage.images),
        "student": stage.student and _of_architecture(stage.student()),
        "teachers": _callable(stage.teachers),
        "optimizer": _plain(optimizer),
        "terms": _plain(terms),
    }


def _callable(function: Any) -> str | None:
    """A function in words that are the same in another process."""
    return function and re.sub(r" at 0x[0-9a-f]+", "", repr(function))


def _taps(taps: Taps) -> dict[str, Any]:
    return {name: asdict(tap) for name, tap in as_taps(taps).items()}


def _plain(config: Any) -> Any:
    """A serialized object's class and settings, without where its class is defined."""
    if isinstance(config, Mapping) and "class_name" in config:
        inside = {key: _plain(value) for key, value in config.get("config", {}).items()}
        return {"class": config["class_name"], **inside}
    if isinstance(config, Mapping):
        return {key: _plain(value) for key, value in config.items()}
    return [_plain(value) for value in config] if isinstance(config, list) else config


def _json_ready(value: Any) -> Any:
    """As it will be read back: lists for tuples, and a name for what JSON does not know."""
    return json.loads(json.dumps(value, default=str))
