"""The forward passes of a training: from raw images to what the terms read."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_amalgam.images.resizing import fitted
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.outputs import final_activation, innermost
from keras_amalgam.models.signals import Signals
from keras_amalgam.models.taps import Tap, features_at
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import ModelSpec, TapSpec
from keras_amalgam.training.xla import supports_jit


class Graphs:
    """Student and teachers as functions of raw images, for the amalgamator.

    A plain object, so that Keras does not track the teachers: tracked, they would be saved with
    the student and counted among its weights.

    Args:
        student: Takes raw images and returns `{task: logits}`.
        teachers: The teachers, in the order of their sources.
        student_taps: The student's layers to imitate with, by tap name.

    Attributes:
        outside: The teachers whose signals must come with the images.
        reads: Taps that must be among the signals that come with the images: those that terms
            read, once that is known; at first all.
        supports_jit: Whether XLA can compile all that runs inside the training step.

    Raises:
        ValueError: If the student's heads are not the teachers' tasks, or the tap does not exist.
    """

    def __init__(
        self, student: keras.Model, teachers: Sequence[Teacher], student_taps: Mapping[str, Tap]
    ) -> None:
        _check_heads(student, teachers)
        channels = student.input_shape[-1]
        self._fitted: dict[Any, keras.Model] = {}
        inputs, answers, features = features_at(student, student_taps)
        signals = Signals(answers, features).as_dict()
        self._student = keras.Model(inputs, signals, name=student.name)
        self._teachers = {teacher.name: teacher.signals(channels) for teacher in teachers}
        self.outside = tuple(teacher for teacher in teachers if not teacher.in_graph)
        inside = [self._teachers[teacher.name] for teacher in teachers if teacher.in_graph]
        self.supports_jit = all(supports_jit(model) for model in (self._student, *inside))
        tasks = {teacher.name: teacher.task for teacher in teachers}
        self.reads = frozenset(tap for teacher in teachers for tap in teacher.taps)
        self.student_spec = ModelSpec("The student", tasks, _specs(self._student, student_taps))
        self.teacher_specs = {
            teacher.name: ModelSpec(
                f"Teacher {teacher.name!r}",
                {teacher.name: teacher.task},
                _specs(self._teachers[teacher.name], teacher.taps),
            )
            for teacher in teachers
        }

    @property
    def student_model(self) -> keras.Model:
        """The model behind `student`."""
        return self._student

    def student(self, images: Any, training: bool) -> Signals:
        """The student's signals for raw images; one pass."""
        return Signals.of(self._fit("", self._student, images)(images, training=training))

    def teachers(self, batch: Batch) -> dict[str, Signals]:
        """Each teacher's signals, in inference mode; those that came with the batch as they are.

        Raises:
            ValueError: If given signals do not fit a teacher, or those of a runtime teacher are
                missing inside of a TensorFlow function.
        """
        given, images = batch.signals, batch.images
        _check_given(given, self._teachers, self.reads)
        missing = {teacher.name for teacher in self.outside} - set(given)
        if missing and not tf.executing_eagerly():
            raise ValueError(
                "Runtime teachers do not run inside the training step. Received: images without "
                f"the signals of {sorted(missing)}. Call fit or evaluate, which see to it, or take "
                "batches from keras_amalgam.data.with_runtime_signals(images, teachers)."
            )
        return {
            name: given[name]
            if name in given
            else Signals.of(self._fit(name, model, images)(images, training=False))
            for name, model in self._teachers.items()
        }

    def _fit(self, name: str, model: keras.Model, images: Any) -> keras.Model:
        """The model for images of this size, which are often of the size that it resizes to."""
        size = tuple(images.shape[1:3])
        if None in size:
            return model
        if (name, size) not in self._fitted:
            self._fitted[name, size] = fitted(model, size)
        return self._fitted[name, size]


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
        kind = final_activation(innermost(heads[teacher.name]))
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


def _check_given(
    given: Mapping[str, Signals], teachers: Mapping[str, keras.Model], reads: Collection[str]
) -> None:
    """Signals of another teacher, or of this one with other taps, would train without a word."""
    for name, signals in given.items():
        received = signals.shapes()
        own = Signals.of(teachers[name].output).shapes() if name in teachers else {}
        # Features that no term reads may be there or not.
        needed = {f"features/{tap}" for tap in reads} | set(received)
        expected = {k: shape for k, shape in own.items() if k.startswith("answers/") or k in needed}
        fits = set(received) == set(expected) and all(
            len(received[key]) == len(shape)
            and all(None in (a, b) or a == b for a, b in zip(received[key], shape, strict=True))
            for key, shape in expected.items()
        )
        if not fits:
            raise ValueError(
                f"Signals that came with the images are not those of teacher {name!r}. Received: "
                f"{received}. Expected: {expected or f'one of the teachers {list(teachers)}'}. "
                "Make them again with keras_amalgam.data.with_runtime_signals(images, teachers), "
                "or a SignalCache with the taps that the terms read."
            )


def _specs(model: keras.Model, taps: Mapping[str, Tap]) -> dict[str, TapSpec]:
    features = Signals.of(model.output).features
    return {name: TapSpec(tap.layer, tuple(features[name].shape[1:])) for name, tap in taps.items()}
