"""The student alone as a `.keras` file, for going on in Keras without this package."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.export import labels, parity
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.preparation import prepare
from keras_amalgam.export.signatures import bare_copy, flat_operations
from keras_amalgam.export.staging import staged
from keras_amalgam.keras_settings import keras_defaults


@keras_defaults()
def to_keras(
    model: keras.Model,
    path: str | PathLike[str],
    *,
    class_names: Mapping[str, Sequence[str]] | None = None,
    images: Any = None,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Writes a student as a `.keras` file with its labels beside, and checks it.

    The file holds the layers and weights in the student's own dtype policy, without optimizer and
    losses. The labels lie beside: `student.keras` has `student.labels.json`.

    Args:
        model: The student, made of stock Keras layers only.
        path: The file to write, ending in `.keras`. Its directory must exist.
        class_names: Head to class names in the order of the head's units; by default the model's
            attribute `class_names`.
        images: Raw images in 0..255 for the comparison, shape `(count, height, width,
            channels)`; by default generated photographs.
        tolerance: Largest allowed absolute difference of a logit from the model in memory; by
            default 1e-4, or 1e-5 of a head's largest logit where that is more.
        overwrite: Whether an existing file at `path` is replaced.

    Returns:
        The artifact's record.

    Raises:
        TypeError: If the model is not functional, or the class names are no mapping.
        ValueError: If the model holds a class that plain Keras cannot load; if the names, the
            images or the path cannot be used; or if the reloaded model disagrees. Then `path` is
            left as it was.

    Example:
        ```python
        export.to_keras(student, "student.keras")
        student = keras.saving.load_model("student.keras")
        ```
    """
    bounds = parity.bounds_for("float32", tolerance, None)
    job = prepare(model, class_names).compared_on(images)
    foreign = sorted(set(_foreign_classes(keras.saving.serialize_keras_object(model))))
    if foreign:
        raise ValueError(
            f"Plain Keras cannot load model '{model.name}'. Received: {', '.join(foreign)}. "
            "Expected: stock Keras layers and functions only. Replace them, or export to another "
            "format."
        )
    target = Path(path)
    beside = labels.beside(target)
    with staged(target, suffix=".keras", overwrite=overwrite, beside=(beside.name,)) as partial:
        keras.saving.save_model(bare_copy(model), partial)
        labels.beside(partial).write_text(labels.to_json(job.labels), encoding="utf-8")
        loaded: Any = keras.saving.load_model(partial, compile=False)
        actual = parity.reference(loaded, job.signature, job.images)
        measured = job.verify(actual, bounds, f"Keras file '{target}'")
    layers = Counter(type(operation).__name__ for operation in flat_operations(model))
    return job.artifact(target, measured, ("keras", _policy(model)), dict(sorted(layers.items())))


def _policy(model: keras.Model) -> str:
    """The dtype policy of the layers that have weights; heads are kept in float32."""
    for layer in flat_operations(model):
        if isinstance(layer, keras.Layer) and layer.weights:
            return layer.dtype_policy.name
    return model.dtype_policy.name


def _foreign_classes(config: Any) -> Iterator[str]:
    """Classes and functions in a serialized model that come from outside Keras."""
    if isinstance(config, (list, tuple)):
        for value in config:
            yield from _foreign_classes(value)
    elif isinstance(config, dict):
        if (name := _foreign_name(config)) is not None:
            yield name
        for key, value in config.items():
            if key != "compile_config":
                yield from _foreign_classes(value)


def _foreign_name(config: Mapping[str, Any]) -> str | None:
    """What a serialized object is called if it is none of Keras' own."""
    kind, module = config.get("class_name"), config.get("module", "keras")
    registered = str(config.get("registered_name") or "")
    if kind == "__lambda__":
        return "the code of a Lambda"
    if kind == "function":
        return f"the function {registered if '>' in registered else config.get('config')}"
    if kind is None or (str(module).split(".")[0] == "keras" and ">" not in registered):
        return None
    # A class of the program's main module is saved without its module.
    return registered if ">" in registered or module is None else f"{module}.{kind}"
