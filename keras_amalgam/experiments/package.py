"""The artifacts of a trained student, with what they cost and how well they agree."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
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
from keras_amalgam.report import ArtifactResult

CALIBRATION_IMAGES = 512
VERIFIED_IMAGES = 256
FLOAT32_TOLERANCE = 1e-4  # The exporters' own of logits up to 10: past it they refuse to write.
# Of unlabelled images, so that no test image decides which precision is shipped.
LIMITS = export.Thresholds(min_agreement=0.98)
KERAS, SAVED_MODEL, ONNX = "student.keras", "saved_model", "student.onnx"
FLOAT32, INT8 = "student.tflite", "student_int8.tflite"
INT16, FLOAT16 = "student_int16.tflite", "student_float16.tflite"


@dataclass(frozen=True)
class Packaged:
    """What was written, and what was measured of it.

    Attributes:
        artifacts: By name of the file or folder. One of `INT8`, `INT16` and `FLOAT16` is there.
        teachers_latency_ms: Sum of the teachers' medians for one image.
        notes: What the report must say.
    """

    artifacts: dict[str, ArtifactResult]
    teachers_latency_ms: float
    notes: list[str]


def package(student: keras.Model, recipe: Recipe, folder: Path) -> Packaged:
    """Write every artifact, verify each in a process of its own, and measure it.

    Where int8 decides otherwise than the student too often, int16 or float16 takes its place. That
    file is the one which is timed beside the teachers and run on the test images.

    Args:
        student: Trained.
        recipe: For calibration images, test images and teachers.
        folder: Where the artifacts go, with `export.json` and `export.html`.
    """
    images, sources = unlabelled_images(recipe, CALIBRATION_IMAGES)
    verified = _verified(student, images, sources, folder)
    (small,) = {INT8, INT16, FLOAT16} & set(verified)
    one, channels = images[:1], images.shape[-1]
    latencies = [
        export.measure_latency(_timed(teacher, channels), one).median_ms
        for teacher in recipe.teachers
    ]
    artifacts = {name: _result(artifact) for name, artifact in verified.items()}
    artifacts[small] = dataclasses.replace(
        artifacts[small],
        latency_beside_teachers_ms=export.measure_latency(folder / small).median_ms,
        accuracy={
            **dict.fromkeys(teacher.name for teacher in recipe.teachers),
            **_accuracy_of(folder / small, recipe.evaluation),
        },
    )
    return Packaged(artifacts, sum(latencies), _notes(small, verified[small]))


def _verified(
    student: keras.Model, images: np.ndarray, sources: np.ndarray, folder: Path
) -> dict[str, Verification]:
    size = images.shape[1:3]
    tflite = functools.partial(export.to_tflite, image_shape=size)
    integer = functools.partial(tflite, calibration=images)
    exporters = {
        KERAS: export.to_keras,
        SAVED_MODEL: export.to_saved_model,
        FLOAT32: tflite,
        INT8: functools.partial(integer, precision="int8"),
        ONNX: export.to_onnx,
    }
    fallbacks = {
        INT16: functools.partial(integer, precision="int16"),
        FLOAT16: functools.partial(tflite, precision="float16"),
    }
    labels: Any = student.class_names
    own = {task: images[sources == number] for number, task in enumerate(labels)}
    seen: Any = {task: some[:VERIFIED_IMAGES].astype("uint8") for task, some in own.items()}
    if min(map(len, own.values())) == 0:  # Collections of no teacher, or of some only.
        seen = images[:VERIFIED_IMAGES].astype("uint8")
    encoded = collect(seen, None, labels)
    verified = write_verified(
        student, folder, exporters, encoded, labels, LIMITS, {INT8: fallbacks}
    )
    report.write(folder, student.name, verified, LIMITS)
    return verified


def _result(one: Verification) -> ArtifactResult:
    heads, artifact = one.measured["heads"].values(), one.artifact
    return ArtifactResult(
        format=artifact.format,
        precision=artifact.precision,
        instead_of=tuple(one.instead_of),
        bytes=one.measured["bytes"],
        latency_ms=one.measured["latency_ms"]["one_thread"]["median"],
        max_abs_error=max(head["max_abs_error"] for head in heads),
        tolerance=FLOAT32_TOLERANCE if artifact.precision == "float32" else None,
        min_agreement=min(head["argmax_agreement"] for head in heads),
        num_images=one.measured["images"],
    )


def _notes(name: str, one: Verification) -> list[str]:
    """What the report must say where int8 is not what is shipped, or misses what it should keep."""
    notes = [
        f"{name} stands for {passed_over}. {' '.join(missed)}"
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
    answers = teacher.answers(channels)
    return answers if teacher.in_graph else lambda images: answers(images, training=False)
