"""The port: what the rest of the package asks of a task."""

from typing import Any, Protocol

import keras
import numpy as np


class Task(Protocol):
    """A kind of knowledge: its head on the student and how it is imitated.

    A task is a value: it holds no weights and knows neither teacher nor student.
    """

    class_names: tuple[str, ...]

    def head(self, name: str) -> keras.layers.Layer:
        """The student's last layer for this task, named `name`, float32."""
        ...

    def check_output(self, shape: tuple[int | None, ...], owner: str) -> None:
        """Raise a `ValueError` naming `owner` if an output of `shape` cannot be this task's."""
        ...

    def soft_target_loss(self, student_logits: Any, teacher_logits: Any, temperature: float) -> Any:
        """Loss of imitating the teacher, one value per sample, shape `(batch,)`."""
        ...

    def agreement(self, student_answers: Any, teacher_answers: Any) -> np.ndarray:
        """How far two answers decide alike, one value in 0..1 per sample, shape `(batch,)`."""
        ...

    def to_config(self) -> dict[str, Any]:
        """The task as JSON-ready values, with its `kind`."""
        ...
