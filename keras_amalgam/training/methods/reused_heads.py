"""The teachers' own heads answer from features that the student rebuilds."""

from collections.abc import Callable, Sequence

import keras

from keras_amalgam.models import taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, RebuiltFeatures
from keras_amalgam.training.method import Method, Stage, cosine_adamw
from keras_amalgam.training.methods.serving import check_tapped


def reused_heads(
    teachers: Sequence[Teacher],
    student: Callable[[], keras.Model],
    epochs: int = 30,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Method:
    """The student learns features alone; no image's source is needed.

    Args:
        teachers: Each with one tap; its answer depends on nothing else.
        student: Makes the student, with `build_student(…, heads="reused")`.
        epochs: Passes over the images, at least 1.
        learning_rate: The peak of the schedule.
        seed: Seed of the initial weights and of the order of the images.

    Returns:
        A method of one stage, with a student of its own.

    Raises:
        TypeError: If they are not teachers.
        ValueError: If a setting is out of its range, or the head of a teacher cannot be reused;
            says why.

    Example:
    ```python
    method = reused_heads(teachers, lambda: build_student(backbone(), teachers, heads="reused"))
    ```

    Reference:
        [Chen et al., 2022](https://arxiv.org/abs/2203.14001), SimKD, there with one teacher
    """
    check_tapped("reused_heads", teachers)
    for teacher in teachers:
        teacher.answering()  # Says why where it cannot be.

    def terms() -> list[AmalgamationTerm]:
        return [RebuiltFeatures()]

    stage = Stage(
        terms,
        epochs,
        cosine_adamw(learning_rate),
        student=student,
        student_tap=taps.rebuilt(teachers),
    )
    return Method("reused_heads", (stage,), seed=seed)
