"""An artifact ready to be asked, in the runtime that it is made for, one image at a time."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_amalgam.export import labels as labels_module
from keras_amalgam.export.entrance import entrance_of
from keras_amalgam.export.handing_over import cuts_other_shapes
from keras_amalgam.export.labels import Labels
from keras_amalgam.export.prediction.choosing import TEACHER, format_of
from keras_amalgam.export.preparation import check_logits
from keras_amalgam.export.serving.endpoints import ENCODED
from keras_amalgam.export.signatures import describe, outputs_of
from keras_amalgam.export.tflite import metadata
from keras_amalgam.export.verification import runner
from keras_amalgam.export.verification.encoded import as_jpeg_or_png
from keras_amalgam.files.keras_bounds import check_file, read_config
from keras_amalgam.files.keras_code import refuse_code
from keras_amalgam.files.keras_demand import refuse_excess
from keras_amalgam.images.measuring import built_in_normalisation
from keras_amalgam.quiet import quiet

if TYPE_CHECKING:
    from keras_amalgam.models.teacher import Teacher

Answer = Callable[[bytes, np.ndarray], dict[str, Any]]
"""From an image's file and its pixels as they were seen to named arrays of one row each."""


@dataclasses.dataclass(frozen=True)
class Opening:
    """An artifact that can be asked.

    Attributes:
        name: What it is called, its path if it has one.
        format: As in `Predictions`.
        labels: Output to class names; `None` where the artifact holds none.
        answer: What it says of an image.
        notes: What makes its answers doubtful, in sentences.
    """

    name: str
    format: str
    labels: Labels | None
    answer: Answer
    notes: tuple[str, ...] = ()


def of_path(path: Path) -> Opening:
    """An artifact that lies at a path.

    Args:
        path: As `choosing.choose` gives it.

    Raises:
        ValueError: If it is damaged, or no artifact of this package.
    """
    kind = str(format_of(path))
    if kind == TEACHER:
        from keras_amalgam.models.teacher import Teacher

        return dataclasses.replace(of_teacher(Teacher.load(path)), name=str(path))
    with _refused(path):
        holds_labels = labels_module.FILE_NAME in labels_module.carried(path)
    labels = labels_module.read_labels(path) if holds_labels else None
    if kind == "keras":
        model = _load(path)
        answer = _of_model(model, labels)
        return Opening(str(path), kind, labels, answer, _notes(str(path), model, labels))
    with _refused(path):
        if kind == "saved_model":
            kind, answer = _of_saved_model(path)
        else:
            opened = runner.OPENERS[kind](str(path), os.cpu_count() or 1)
            answer = _of_pixels(opened, cuts_other_shapes(_photograph(path, kind)))
    return Opening(str(path), kind, labels, answer)


def of_model(model: keras.Model) -> Opening:
    """A student in memory.

    Args:
        model: From raw images to one tensor of logits per task; its attribute `class_names` is
            used where it has one.

    Raises:
        TypeError, ValueError: If it is no such model.
    """
    given = getattr(model, "class_names", None)
    labels = None if given is None else {task: tuple(names) for task, names in given.items()}
    answer = _of_model(model, labels)
    return Opening(model.name, "keras", labels, answer, _notes(model.name, model, labels))


def of_teacher(teacher: "Teacher") -> Opening:
    """A teacher, which brings images to its own size and normalises them itself."""
    answers = teacher.answers(channels=3)

    def answer(content: bytes, pixels: np.ndarray) -> dict[str, Any]:
        image = runner.shown(pixels, None, 3)[np.newaxis]
        # Not as a graph: the runtime of some teachers stands outside of one.
        given: Any = answers(image.astype(np.float32), training=False)
        return {teacher.name: np.asarray(given[teacher.name])}

    return Opening(teacher.name, TEACHER, {teacher.name: tuple(teacher.class_names)}, answer)


def _notes(name: str, model: keras.Model, labels: Labels | None) -> tuple[str, ...]:
    """A doubt about a network of others: it may want images that were normalised before it.

    Our students normalise images themselves, and where there are labels an exporter of ours wrote
    the file, with a student from raw images. An input of whole numbers takes pixels as they are.
    """
    is_whole = "int" in keras.backend.standardize_dtype(model.inputs[0].dtype)
    if labels is not None or is_whole or _normalises(model):
        return ()
    return (
        f"Nothing says how the training images of {name} were normalised: it begins without "
        "rescaling, and no labels of an export lie beside it. Pixels 0..255 went in as they are, "
        "so the scores may mean nothing. Make it a teacher's folder with `keras-amalgam convert` "
        "and --scale, --mean and --std, and ask that.",
    )


def _normalises(model: keras.Model) -> bool:
    """Whether something inside normalises images, also where it cannot be measured."""
    layers = model._flatten_layers()
    if any(isinstance(one, keras.layers.Rescaling | keras.layers.Normalization) for one in layers):
        return True
    entrance = entrance_of(model)  # Pixels are not followed through an antialiased resize.
    return built_in_normalisation(entrance.rest if entrance else model) is not None


def _of_model(model: keras.Model, labels: Labels | None) -> Answer:
    signature = describe(model)
    heads = signature.heads if labels is None else labels_module.classified(labels)
    check_logits(model, signature, [head for head in heads if head in signature.heads])
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], outputs_of(model), name=model.name)
    # What does not antialias by itself gets images of its own size.
    entrance = entrance_of(model)
    resize = None if entrance is None or entrance.rest is not model else entrance.resize
    opened = runner.of_keras(model)
    if resize is not None:
        shape = (*resize.full_size, opened.image_shape[2])
        opened = opened._replace(image_shape=shape)
    answer = _of_pixels(opened, resize is not None and resize.covers)

    def named(content: bytes, pixels: np.ndarray) -> dict[str, Any]:
        answers = answer(content, pixels)
        if "" in answers:  # Of a model with one output that has no name.
            return dict.fromkeys(signature.heads, answers[""])
        return {head: answers[head] for head in signature.heads}

    return named


def _of_pixels(opened: runner.Opened, covers: bool) -> Answer:
    """As verification and the documentation hand a photograph over; see `runner.shown`."""
    height, width, channels = opened.image_shape
    size = None if height is None or width is None else (height, width)
    return lambda content, pixels: opened(runner.shown(pixels, size, channels, covers)[np.newaxis])


def _of_saved_model(path: Path) -> tuple[str, Answer]:
    """A bundle gets the file, and brings it to size itself; another SavedModel the pixels."""
    import tensorflow as tf

    loaded: Any = tf.saved_model.load(str(path))
    if ENCODED not in loaded.signatures:
        return "saved_model", _of_pixels(runner.of_saved_model(loaded), covers=False)

    def answer(content: bytes, pixels: np.ndarray) -> dict[str, Any]:
        file = tf.constant([as_jpeg_or_png(content, pixels)])
        # `loaded` owns the weights, and lives as long as this function.
        outputs = loaded.signatures[ENCODED](image=file)
        return {head: values.numpy() for head, values in outputs.items()}

    return "serving", answer


def _photograph(path: Path, kind: str) -> Any:
    """What an artifact says of how a photograph is handed over."""
    if kind == "tflite":
        inputs = (metadata.read(path) or {}).get("inputs")
        first = next(iter(inputs.values()), None) if isinstance(inputs, dict) else None
        return first.get("photograph") if isinstance(first, dict) else None
    import onnx

    from keras_amalgam.export.to_onnx import PHOTOGRAPH_KEY

    for entry in onnx.load(str(path), load_external_data=False).metadata_props:
        if entry.key == PHOTOGRAPH_KEY:
            with contextlib.suppress(ValueError):
                return json.loads(entry.value)
    return None


def _load(path: Path) -> keras.Model:
    check_file(path)
    config = read_config(path)
    refuse_code(config, path.name)
    refuse_excess(path, config, None)
    with _refused(path):
        model: Any = keras.saving.load_model(path, compile=False)
    return model


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Says in our words what a runtime refuses: its exceptions have no common class."""
    try:
        with quiet():
            yield
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:200]
        raise ValueError(
            f"The artifact cannot be opened. Received: '{path}' ({said}). Expected: a whole "
            "artifact that `keras_amalgam.export` wrote. Copy it or export the student again."
        ) from error
