"""What travels with an artifact, held against what it should say: an application believes it."""

import json
from collections.abc import Collection, Iterator
from typing import Any

from keras_amalgam.export import labels as labels_module
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.labels import Labels
from keras_amalgam.export.serving import endpoints, warmup
from keras_amalgam.export.tflite import metadata, runtime

_AS_IS = ("name", "quantizer", "keras_amalgam")
"""Of the metadata, what cannot be read off the file itself."""


def wrong(artifact: Artifact, labels: Labels) -> list[str]:
    """What travels with an artifact and is not as it should be, a sentence each.

    Args:
        artifact: The artifact, in its place.
        labels: Every output of logits, the joint prediction included, to its class names.
    """
    found = [*_wrong_labels(artifact, labels)]
    if artifact.format == "tflite":
        found += _wrong_metadata(artifact, labels)
    if artifact.format == "serving":
        found += _wrong_warmup(artifact)
    return found


def _wrong_labels(artifact: Artifact, labels: Labels) -> Iterator[str]:
    try:
        named = labels_module.read_labels(artifact.path)
    except ValueError as error:
        yield str(error)
        return
    for head in {**labels, **named}:
        if named.get(head) != labels.get(head):
            yield (
                f"The artifact names other classes for '{head}'. Received: "
                f"{_in_words(named, head)}. Expected: {_in_words(labels, head)}."
            )
    carried = labels_module.carried(artifact.path)
    if artifact.format in ("keras", "onnx"):  # These have the one file of all heads.
        return
    wanted = {
        name: text
        for name, text in labels_module.files(labels).items()
        if name != labels_module.FILE_NAME
    }
    for name in sorted({*wanted, *carried} - {labels_module.FILE_NAME}):
        if carried.get(name) != wanted.get(name):
            yield (
                f"The artifact's '{name}' is not what it should be. Received: "
                f"{_lines(carried, name)}. Expected: {_lines(wanted, name)}."
            )


def _wrong_metadata(artifact: Artifact, labels: Labels) -> Iterator[str]:
    inside = metadata.read(artifact.path)
    beside = metadata.beside(artifact.path)
    if inside is None:
        yield (
            f"The file carries no description. Received: no '{metadata.FILE_NAME}' inside. "
            "Expected: one."
        )
        return
    if not beside.is_file() or beside.read_bytes() != metadata.to_json(inside).encode():
        yield (
            f"The description beside the file is not the one inside. Received: "
            f"{'another' if beside.is_file() else 'none'} at '{beside.name}'. Expected: the same."
        )
    loaded = runtime.load(artifact.path)
    expected = metadata.describe("", loaded, artifact.precision, "", labels, artifact.covers)
    expected = json.loads(metadata.to_json(expected))
    if differing := _differing(inside, expected, _AS_IS):
        yield (
            f"The description is not of this file. Received: other values at {differing}. "
            "Expected: what the file has."
        )


def _differing(given: Any, expected: Any, but: Collection[str] = ()) -> list[str]:
    """Paths of the entries that differ, such as `outputs.digits.shape`."""
    if not isinstance(given, dict) or not isinstance(expected, dict):
        return [] if given == expected else [""]
    return [
        f"{key}.{path}".rstrip(".")
        for key in sorted({*given, *expected} - {*but})
        for path in _differing(given.get(key), expected.get(key))
    ]


def _wrong_warmup(artifact: Artifact) -> Iterator[str]:
    signatures = (endpoints.FLOAT, endpoints.UINT8, endpoints.ENCODED, endpoints.CLASSIFY)
    wanted = sorted((name, size) for name in signatures for size in warmup.BATCHES)
    try:
        requests = sorted(warmup.read(artifact.path))
    except ValueError as error:
        yield str(error)
        return
    if requests != wanted:
        yield (
            f"The warm-up requests are not those of the bundle. Received: {requests}. Expected: "
            f"signatures and batch sizes {wanted}."
        )


def _in_words(labels: Labels, head: str) -> str:
    return str(list(labels[head])) if head in labels else "no such head"


def _lines(files: dict[str, str], name: str) -> str:
    return str(files[name].splitlines()) if name in files else "no such file"
