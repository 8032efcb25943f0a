"""What the steps of a run depend on, in a form that tells later whether it has changed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.training import Method
from keras_amalgam.training.manifest import manifest_entry
from keras_amalgam.training.method import Stage
from keras_amalgam.versions import versions


def training(recipe: Recipe, method: Method, student: keras.Model) -> dict[str, Any]:
    """What a training depends on: with anything else it would not be the same one.

    Args:
        recipe: With teachers and images.
        method: How the student is trained.
        student: Before its training, with its initial weights.
    """
    return _json_ready(
        {
            "teachers": teachers(recipe),
            "student": {
                "parameters": student.count_params(),
                "tap": str(recipe.student_tap),
                "precision": student.dtype_policy.name,
                "initial_weights": of_weights(student),
            },
            "images": images(recipe),
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
    return _json_ready(recipe.made_from or of_data(recipe.streams["train"]))


def of_weights(model: keras.Model) -> str:
    """A hash of all weights of a model, in their order."""
    found = hashlib.sha256()
    for weight in model.get_weights():
        found.update(np.ascontiguousarray(weight).tobytes())
    return found.hexdigest()[:16]


def of_data(dataset: Any) -> dict[str, Any]:
    """How many batches a data set has, of what, and a hash of the first.

    Args:
        dataset: A `tf.data.Dataset`, or anything else whose batches can be iterated again.
    """
    number = getattr(dataset, "epoch_number", None)
    if number is not None:
        number.next = 0
    found = hashlib.sha256()
    for array in tf.nest.flatten(next(iter(dataset))):
        found.update(np.ascontiguousarray(array).tobytes())
    batches = int(dataset.cardinality()) if isinstance(dataset, tf.data.Dataset) else None
    spec = str(getattr(dataset, "element_spec", None))
    return {"batches": batches, "of": spec, "first_batch": found.hexdigest()[:16]}


def _stage(stage: Stage) -> dict[str, Any]:
    optimizer = keras.saving.serialize_keras_object(stage.optimizer(1000))
    optimizer["config"].pop("name", None)  # It counts the optimizers of the process.
    terms = [keras.saving.serialize_keras_object(term) for term in stage.terms()]
    return {
        "epochs": stage.epochs,
        "steps": stage.steps,
        "optimizer": _plain(optimizer),
        "terms": _plain(terms),
    }


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
