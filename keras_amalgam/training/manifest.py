"""What a saved training says of its teachers, which stay outside of it."""

import json
from collections.abc import Sequence
from typing import Any

from keras_amalgam.models.taps import FEATURES
from keras_amalgam.models.teacher import Teacher


def manifest_entry(teacher: Teacher) -> dict[str, Any]:
    """What must be the same of a teacher when a training goes on."""
    card = json.loads(json.dumps(teacher.card()))  # As it will be read back: lists, no tuples.
    keys = ("name", "task", "outputs", "taps", "preprocessing", "weights_sha256", "runtime")
    return {key: card[key] for key in keys if key in card}


def _upgraded(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry from before a teacher had several taps as one of the present form."""
    if "tap" not in entry:
        return entry
    tap = entry["tap"]
    others = {key: value for key, value in entry.items() if key != "tap"}
    return {**others, "taps": {FEATURES: tap} if tap else {}}


def check_manifest(saved: list[dict[str, Any]], teachers: Sequence[Teacher]) -> None:
    """Refuse to go on with other teachers than those of the training's beginning.

    Args:
        saved: A `manifest_entry` for each of those, in order.
        teachers: The ones that are there now.

    Raises:
        ValueError: If they differ, saying in what.
    """
    saved = [_upgraded(entry) for entry in saved]
    given = [manifest_entry(teacher) for teacher in teachers]
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
