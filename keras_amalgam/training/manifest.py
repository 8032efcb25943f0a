"""Saving and resuming an amalgamation; the teachers stay outside."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_amalgam.files.keras_bounds import read_member
from keras_amalgam.models.taps import Tap
from keras_amalgam.models.teacher import Teacher

if TYPE_CHECKING:
    from keras_amalgam.training.amalgamator import Amalgamator


def manifest_entry(teacher: Teacher) -> dict[str, Any]:
    """What must be the same of a teacher when a training goes on."""
    card = json.loads(json.dumps(teacher.card()))  # As it will be read back: lists, no tuples.
    keys = ("name", "task", "outputs", "tap", "preprocessing", "weights_sha256", "runtime")
    return {key: card[key] for key in keys if key in card}


def config(amalgamator: "Amalgamator") -> dict[str, Any]:
    """The amalgamator without its teachers, JSON-ready."""
    tap = amalgamator.student_tap
    return {
        "name": amalgamator.name,
        "student": keras.saving.serialize_keras_object(amalgamator.student),
        "student_tap": {"layer": tap.layer, "tokens": tap.tokens} if tap else None,
        "terms": [keras.saving.serialize_keras_object(term) for term in amalgamator.terms],
        "manifest": amalgamator.manifest,
    }


def load(cls: "type[Amalgamator]", path: str | Path, teachers: Sequence[Teacher]) -> "Amalgamator":
    """See `Amalgamator.load`."""
    saved = _read_config(Path(path))
    settings = saved["config"]
    _check_manifest(settings["manifest"], [manifest_entry(teacher) for teacher in teachers])
    student = keras.saving.deserialize_keras_object(settings["student"])
    student.class_names = {teacher.name: teacher.class_names for teacher in teachers}
    amalgamator = cls(
        student,
        teachers,
        student_tap=Tap(**settings["student_tap"]) if settings["student_tap"] else None,
        terms=[keras.saving.deserialize_keras_object(term) for term in settings["terms"]],
        name=settings["name"],
    )
    if saved.get("compile_config"):
        amalgamator.compile_from_config(saved["compile_config"])
    amalgamator.load_weights(path)
    return amalgamator


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"There is no file to load. Received: {path}. Give what `save` wrote.")
    try:
        saved = json.loads(read_member(path, "config.json") or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a whole .keras file: {error}. It may be truncated; use an earlier "
            "checkpoint."
        ) from error
    kind = saved.get("class_name") if isinstance(saved, dict) else None
    if kind != "Amalgamator":
        raise ValueError(
            f"{path} does not hold an Amalgamator. Received: a {kind!r}. "
            "A student alone is loaded with keras.saving.load_model."
        )
    return saved


def _check_manifest(saved: list[dict[str, Any]], given: list[dict[str, Any]]) -> None:
    if [entry["name"] for entry in saved] != [entry["name"] for entry in given]:
        raise ValueError(
            "The training cannot go on with other teachers. Received: "
            f"{[entry['name'] for entry in given]}. It was begun with "
            f"{[entry['name'] for entry in saved]}, in this order."
        )
    for before, now in zip(saved, given, strict=True):
        differing = [key for key in before | now if before.get(key) != now.get(key)]
        if differing:
            pairs = {key: (now.get(key), before.get(key)) for key in differing}
            details = "; ".join(f"{key}: {new}, was {old}" for key, (new, old) in pairs.items())
            raise ValueError(
                f"The training cannot go on with another teacher {before['name']!r}. "
                f"Received: {details}. Load the teacher of the first training."
            )
