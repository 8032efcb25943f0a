"""The artifacts of a trained student, with what they cost and how well they agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam import evaluation, export
from keras_amalgam.export.tflite import runtime
from keras_amalgam.guards import split
from keras_amalgam.recipes.recipe import Recipe
from keras_amalgam.teacher import Teacher

COMPARED_IMAGES = 64
CALIBRATION_IMAGES = 512
FLOAT32_TOLERANCE = 1e-4  # The exporters' own: past it they refuse to write.


def package(student: keras.Model, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write and check every artifact, and measure it.

    Args:
        student: Trained.
        recipe: For calibration images, test images and teachers.
        folder: Where the artifacts go.

    Returns:
        `parity`, `bytes` and `latency_ms` as in the report, and `int8_accuracy` by task.
    """
    calibration = _images(recipe)
    images = calibration[:COMPARED_IMAGES]
    size = images.shape[1:3]
    int8 = folder / "student_int8.tflite"
    artifacts = {
        "keras": export.to_keras(student, folder / "student.keras", images=images),
        "saved_model": export.to_saved_model(student, folder / "saved_model", images=images),
        "tflite_float32": export.to_tflite(
            student, folder / "student.tflite", image_shape=size, images=images
        ),
        "tflite_int8": export.to_tflite(
            student, int8, precision="int8", calibration=calibration, image_shape=size
        ),
        "onnx": export.to_onnx(student, folder / "student.onnx", images=images),
    }
    one = images[:1]
    channels = images.shape[-1]
    teachers = [
        export.measure_latency(_timed(teacher, channels), one).median_ms
        for teacher in recipe.teachers
    ]
    return {
        "parity": {
            name: {
                "max_abs_error": artifact.parity["max_abs_error"],
                "tolerance": None if name == "tflite_int8" else FLOAT32_TOLERANCE,
                "num_images": artifact.parity["images"],
            }
            for name, artifact in artifacts.items()
        },
        "bytes": {
            "teachers": recipe.teacher_bytes,
            "tflite_float32": artifacts["tflite_float32"].bytes,
            "tflite_int8": artifacts["tflite_int8"].bytes,
        },
        "latency_ms": {
            "teachers": sum(teachers),
            "student_tflite_int8": export.measure_latency(int8).median_ms,
        },
        "int8_accuracy": _accuracy_of(int8, recipe.evaluation),
    }


def _images(recipe: Recipe) -> np.ndarray:
    """Unlabelled images for calibration and comparison, whole grey levels."""
    stream = recipe.streams.get("calibration", recipe.streams["train"])
    batches, count = [], 0
    for batch in stream:
        batches.append(np.rint(np.asarray(split(batch)[0])).astype("float32"))
        count += len(batches[-1])
        if count >= CALIBRATION_IMAGES:
            break
    return np.concatenate(batches)[:CALIBRATION_IMAGES]


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
