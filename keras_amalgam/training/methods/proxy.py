"""A large student first, and from it the small one."""

from collections.abc import Callable, Sequence

import keras

from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.models.student import check_names
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, SoftTargets
from keras_amalgam.terms.soft_targets import Ownership
from keras_amalgam.training.method import Method, Stage, cosine_adamw
from keras_amalgam.training.methods.serving import epochs_of


def proxy(
    teachers: Sequence[Teacher],
    large: Callable[[], keras.Model],
    small: Callable[[], keras.Model],
    epochs: tuple[int, int] = (15, 15),
    ownership: Ownership = "joint",
    temperature: float = 1.0,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Method:
    """A large student learns from all teachers, and the small one from the large one alone.

    The large one is strong enough to settle whom to believe on an image, and its heads, trained in
    one softmax, compare: the small one imitates that softmax over all classes. Each head is a
    teacher in the second stage, so the large student runs once per head.

    Args:
        teachers: Any.
        large: Makes the large student, with `build_student`.
        small: Makes the student that is left.
        epochs: Passes over the images for the large student, and for the small one; at least 1.
        ownership: Which teacher the large student believes on an image; see `SoftTargets`.
            `"source"` where sources are known. With `"per_task"` nothing compares its heads, and
            the small student, too, learns each task by itself.
        temperature: Divisor of the logits in the soft targets of both, positive.
        learning_rate: The peak of the schedule of each stage.
        seed: Seed of the initial weights and of the order of the images.

    Returns:
        A method of two stages.

    Raises:
        TypeError: If they are not teachers.
        ValueError: If a setting is out of its range, or, in training, `large` makes a student that
            does not know its classes.

    Example:
    ```python
    method = proxy(
        teachers,
        large=lambda: build_student(MobileNetV3Large(…), teachers),
        small=lambda: build_student(MobileNetV3Small(…), teachers),
        ownership="source",
    )
    ```

    Reference:
        [Mirzadeh et al., 2020](https://arxiv.org/abs/1902.03393), a teacher's assistant
    """
    check_names(teachers)

    def from_teachers() -> list[AmalgamationTerm]:
        return [SoftTargets(ownership=ownership, temperature=temperature)]

    def from_the_large() -> list[AmalgamationTerm]:
        settled = "per_task" if ownership == "per_task" else "joint"
        return [SoftTargets(ownership=settled, temperature=temperature, name="proxy_targets")]

    from_teachers()  # Refuses what is out of range.
    first, second = epochs_of("proxy", epochs, 2)
    stages = (
        Stage(from_teachers, first, cosine_adamw(learning_rate), student=large),
        Stage(
            from_the_large,
            second,
            cosine_adamw(learning_rate),
            student=small,
            teachers=heads_as_teachers,
        ),
    )
    return Method("proxy", stages, seed=seed)


def heads_as_teachers(student: keras.Model) -> list[Teacher]:
    """Each head of a trained student as a teacher of its task.

    Args:
        student: As `build_student` makes it: from raw images, with `class_names`.

    Returns:
        A teacher per task, of the task's name, without taps.

    Raises:
        ValueError: If the student does not know its classes.
    """
    if not hasattr(student, "class_names"):
        raise ValueError(
            "The heads of a student become teachers where it knows its classes. Received: "
            f"{student.name!r}, which has no `class_names`. Make it with build_student."
        )
    return [
        Teacher(
            keras.Model(student.input, student.output[task], name=f"{student.name}_{task}"),
            task,
            class_names=names,
            outputs="logits",
            preprocessing=Preprocessing(scale=1.0),  # It takes raw images.
        )
        for task, names in student.class_names.items()
    ]
