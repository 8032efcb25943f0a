"""What a training depends on, in a form that tells later whether it has changed."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import keras

from keras_amalgam.models.taps import Taps, as_taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.training.manifest import manifest_entry
from keras_amalgam.training.method import Method, Stage


def of_teachers(teachers: Sequence[Teacher]) -> dict[str, Any]:
    """Of each teacher by name, what must stay the same."""
    return {teacher.name: manifest_entry(teacher) for teacher in teachers}


def of_method(method: Method) -> dict[str, Any]:
    """A method's seed and stages, with the settings of terms and optimizers.

    Raises:
        ValueError: If the class of a term, an optimizer or a schedule has no `get_config`.
    """
    return json_ready(
        {
            "name": method.name,
            "seed": method.seed,
            "stages": [_stage(stage) for stage in method.stages],
        }
    )


def of_architecture(model: keras.Model) -> str:
    """A hash of all layers and their settings, without the numbers that Keras counts names by."""
    text = json.dumps(model.get_config(), default=str, sort_keys=True)
    return hashlib.sha256(re.sub(r"_\d+\b", "", text).encode()).hexdigest()[:16]


def _stage(stage: Stage) -> dict[str, Any]:
    optimizer = _serialized(stage.optimizer(1000), "the optimizer")
    optimizer["config"].pop("name", None)  # It counts the optimizers of the process.
    terms = [_serialized(term, f"the term {term.name!r}") for term in stage.terms()]
    return {
        "epochs": stage.epochs,
        "steps": stage.steps,
        "freeze": [part if isinstance(part, str) else repr(part) for part in stage.freeze],
        "taps": None if stage.student_tap is None else of_taps(stage.student_tap),
        "images": _callable(stage.images),
        "student": stage.student and of_architecture(stage.student()),
        "teachers": _callable(stage.teachers),
        "optimizer": _plain(optimizer),
        "terms": _plain(terms),
    }


def _serialized(value: Any, what: str) -> dict[str, Any]:
    """An optimizer or a term with its settings, and what it consists of."""
    try:
        return keras.saving.serialize_keras_object(value)
    except NotImplementedError as error:
        raise ValueError(
            "The settings of a training that is kept are noted, so that it is not continued with "
            f"others. Received: {what}, of which something cannot tell its settings: {error} "
            "Give its class a `get_config`."
        ) from error


def _callable(function: Any) -> str | None:
    """A function in words that are the same in another process."""
    return function and re.sub(r" at 0x[0-9a-f]+", "", repr(function))


def of_taps(taps: Taps) -> dict[str, Any]:
    """The student's tapped layers, by tap name."""
    return {name: asdict(tap) for name, tap in as_taps(taps).items()}


def _plain(config: Any) -> Any:
    """A serialized object's class and settings, without where its class is defined."""
    if isinstance(config, Mapping) and "class_name" in config:
        inside = {key: _plain(value) for key, value in config.get("config", {}).items()}
        return {"class": config["class_name"], **inside}
    if isinstance(config, Mapping):
        return {key: _plain(value) for key, value in config.items()}
    return [_plain(value) for value in config] if isinstance(config, list) else config


def json_ready(value: Any) -> Any:
    """A value as it will be read back: lists for tuples, and a name for what JSON does not know."""
    return json.loads(json.dumps(value, default=str))
