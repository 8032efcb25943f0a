"""The forward passes of a training: from raw images to what the terms read."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_amalgam.outputs import final_activation
from keras_amalgam.taps import Tap, as_features, with_taps
from keras_amalgam.teacher import Teacher
from keras_amalgam.terms import ModelSpec
from keras_amalgam.xla import supports_jit


class Graphs:
    """Student and teachers as functions of raw images, for the amalgamator.

    A plain object, so that Keras does not track the teachers: tracked, they would be saved with
    the student and counted among its weights.

    Args:
        student: Takes raw images and returns `{task: logits}`.
        teachers: In their order.
        student_tap: The student's layer to imitate with, if any.

    Raises:
        ValueError: If the student's heads are not the teachers' tasks, or the tap does not exist.
    """

    def __init__(
        self, student: keras.Model, teachers: Sequence[Teacher], student_tap: Tap | None
    ) -> None:
        _check_heads(student, teachers)
        channels = student.input_shape[-1]
        self._student = _with_features(student, student_tap)
        self._teachers = {teacher.name: teacher.signals(channels) for teacher in teachers}
        models = (self._student, *self._teachers.values())
        self.supports_jit = all(supports_jit(model) for model in models)
        self.student_spec = ModelSpec(
            "The student",
            {teacher.name: teacher.class_names for teacher in teachers},
            _features_shape(self._student),
            student_tap.layer if student_tap else None,
        )
        self.teacher_specs = {
            teacher.name: ModelSpec(
                f"Teacher {teacher.name!r}",
                {teacher.name: teacher.class_names},
                _features_shape(self._teachers[teacher.name]),
                teacher.tap.layer if teacher.tap else None,
            )
            for teacher in teachers
        }

    def student(self, images: Any, training: bool) -> dict[str, Any]:
        """The student's `{"logits": {task: …}}` and, with a tap, `"features"`; one pass."""
        return self._student(images, training=training)

    def teachers(self, images: Any) -> dict[str, dict[str, Any]]:
        """Each teacher's `{"logits": …}` and, with a tap, `"features"`; inference mode."""
        return {name: model(images, training=False) for name, model in self._teachers.items()}


def _check_heads(student: keras.Model, teachers: Sequence[Teacher]) -> None:
    heads = student.output if isinstance(student.output, dict) else {}
    wanted = {teacher.name for teacher in teachers}
    if set(heads) != wanted:
        raise ValueError(
            "The student's heads and the teachers' names must be the same. Received: heads "
            f"{sorted(heads) or 'without names'}, teachers {sorted(wanted)}. "
            "build_student(backbone, teachers) makes a student with the right heads."
        )
    said = getattr(student, "class_names", None) or {}
    for teacher in teachers:
        where = f"The student's head {teacher.name!r}"
        teacher.task.check_output(tuple(heads[teacher.name].shape), where)
        kind = final_activation(heads[teacher.name])
        if kind is not None:
            raise ValueError(
                f"{where} must return logits. Received: {kind}. Leave out its activation."
            )
        if tuple(said.get(teacher.name, teacher.class_names)) != teacher.class_names:
            raise ValueError(
                f"{where} was built for other classes than the teacher's. Received: "
                f"{list(said[teacher.name])}, teacher {list(teacher.class_names)}. The order "
                "counts. Build the student from these teachers."
            )


def _with_features(student: keras.Model, tap: Tap | None) -> keras.Model:
    if tap is None:
        return keras.Model(student.input, {"logits": student.output}, name=student.name)
    tapped = with_taps(student, [tap.layer])
    features = as_features(tapped.output["taps"][0], tap.tokens)
    outputs = {"logits": tapped.output["output"], "features": features}
    return keras.Model(tapped.input, outputs, name=student.name)


def _features_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    features = model.output.get("features")
    return None if features is None else tuple(features.shape[1:])
