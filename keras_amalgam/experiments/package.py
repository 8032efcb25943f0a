"""The artifacts of a trained student, with what they cost and how well they agree."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam import evaluation, export
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.unlabelled import unlabelled_images
from keras_amalgam.export.package import write_verified
from keras_amalgam.export.tflite import runtime
from keras_amalgam.export.verification import report
from keras_amalgam.export.verification.encoded import collect
from keras_amalgam.export.verification.verify import Verification
from keras_amalgam.models.teacher import Teacher

CALIBRATION_IMAGES = 512
VERIFIED_IMAGES = 256
FLOAT32_TOLERANCE = 1e-4  # The exporters' own of logits up to 10: past it they refuse to write.
# Of unlabelled images, so that no test image decides which precision is shipped.
LIMITS = export.Thresholds(min_agreement=0.98)
FILES = {
    "keras": "student.keras",
    "saved_model": "saved_model",
    "tflite_float32": "student.tflite",
    "tflite_int8": "student_int8.tflite",
    "onnx": "student.onnx",
}
_INT8 = FILES["tflite_int8"]


def package(student: keras.Model, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write every artifact, verify each in a process of its own, and measure it.

    Where int8 decides otherwise than the student too often, int16 or float16 takes its place.

    Args:
        student: Trained.
        recipe: For calibration images, test images and teachers.
        folder: Where the artifacts go, with `export.json` and `export.html`.

    Returns:
        `parity`, `bytes` and `latency_ms` as in the report, `int8_accuracy` by task, and `notes`.
    """
    images, sources = unlabelled_images(recipe, CALIBRATION_IMAGES)
    verified = _verified(student, images, sources, folder)
    (quantized,) = set(verified) - (set(FILES.values()) - {_INT8})
    names = FILES | {"tflite_int8": quantized}
    artifacts = {key: verified[name] for key, name in names.items()}
    one = images[:1]
    channels = images.shape[-1]
    teachers = [
        export.measure_latency(_timed(teacher, channels), one).median_ms
        for teacher in recipe.teachers
    ]
    return {
        "parity": {key: _parity(artifact) for key, artifact in artifacts.items()},
        "bytes": {
            "teachers": recipe.teacher_bytes,
            "tflite_float32": artifacts["tflite_float32"].artifact.bytes,
            "tflite_int8": artifacts["tflite_int8"].artifact.bytes,
        },
        "latency_ms": {
            "teachers": sum(teachers),
            "student_tflite_int8": export.measure_latency(folder / quantized).median_ms,
        },
        "int8_accuracy": _accuracy_of(folder / quantized, recipe.evaluation),
        "notes": _notes(quantized, artifacts["tflite_int8"]),
    }


def _verified(
    student: keras.Model, images: np.ndarray, sources: np.ndarray, folder: Path
) -> dict[str, Verification]:
    size = images.shape[1:3]
    tflite = functools.partial(export.to_tflite, image_shape=size)
    integer = functools.partial(tflite, calibration=images)
    exporters = {
        FILES["keras"]: export.to_keras,
        FILES["saved_model"]: export.to_saved_model,
        FILES["tflite_float32"]: tflite,
        _INT8: functools.partial(integer, precision="int8"),
        FILES["onnx"]: export.to_onnx,
    }
    fallbacks = {
        "student_int16.tflite": functools.partial(integer, precision="int16"),
        "student_float16.tflite": functools.partial(tflite, precision="float16"),
    }
    labels: Any = student.class_names
    own = {task: images[sources == number] for number, task in enumerate(labels)}
    seen: Any = {task: some[:VERIFIED_IMAGES].astype("uint8") for task, some in own.items()}
    if min(map(len, own.values())) == 0:  # Collections of no teacher, or of some only.
        seen = images[:VERIFIED_IMAGES].astype("uint8")
    encoded = collect(seen, None, labels)
    verified = write_verified(
        student, folder, exporters, encoded, labels, LIMITS, {_INT8: fallbacks}
    )
    report.write(folder, student.name, verified, LIMITS)
    return verified


def _parity(one: Verification) -> dict[str, Any]:
    heads = one.measured["heads"].values()
    return {
        "max_abs_error": max(head["max_abs_error"] for head in heads),
        "agreement": min(head["argmax_agreement"] for head in heads),
        "tolerance": FLOAT32_TOLERANCE if one.artifact.precision == "float32" else None,
        "num_images": one.measured["images"],
        "bytes": one.measured["bytes"],
        "latency_ms": one.measured["latency_ms"]["one_thread"]["median"],
    }


def _notes(name: str, one: Verification) -> list[str]:
    """What the report must say where int8 is not what is shipped, or misses what it should keep."""
    notes = [
        f"{name} stands for {passed_over}, and what is called int8 is measured of it. "
        + " ".join(missed)
        for passed_over, missed in one.instead_of.items()
    ]
    return notes + [f"{name}: {missed}" for missed in one.missed]


def _accuracy_of(path: Path, test: Mapping[str, Any]) -> dict[str, float]:
    """What the file itself gets right, run image by image as a phone would."""
    model = runtime.load(path)
    accuracy = {}
    for task, labelled in test.items():
        logits, labels = evaluation.collect(
            lambda images: runtime.run(model, np.asarray(images)),
            labelled,
        )
        accuracy[task] = evaluation.task_accuracy(logits[task], labels)
    return accuracy


def _timed(teacher: Teacher, channels: int) -> Any:
    """What of a teacher is timed: as TFLite where it can be, else in its own runtime."""
    signals = teacher.signals(channels)
    logits = keras.Model(signals.input, {"logits": signals.output["logits"]})
    return logits if teacher.in_graph else lambda images: logits(images, training=False)
