"""One teacher's blocks are replaced by the student's, one after the other."""

from collections.abc import Callable, Sequence

from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, Hints, SoftTargets
from keras_amalgam.training.method import Beyond, Method, Stage, UpTo, cosine_adamw
from keras_amalgam.training.methods.serving import check_depth, check_tapped


def progressive(
    teachers: Sequence[Teacher],
    epochs: int = 5,
    tuning: int = 15,
    temperature: float = 1.0,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Method:
    """A stage per tap, in which the student's block learns the teacher's; then all of it together.

    A block is what lies between two taps of the student. It is fitted to the teacher's features at
    its end by a squared error, on what the student's earlier blocks give, which are fixed by then.
    The last stage trains the whole student with soft targets.

    Args:
        teachers: One teacher, with its taps in the order of depth. The student is tapped by the
            same names: `student_tap={"first": …, "second": …}`.
        epochs: Passes over the images for each block, at least 1.
        tuning: Passes over the images in the last stage, at least 1.
        temperature: Divisor of the logits in its soft targets, positive.
        learning_rate: The peak of the schedule of each stage.
        seed: Seed of the initial weights and of the order of the images.

    Returns:
        A method of one stage more than the teacher has taps.

    Raises:
        TypeError: If they are not teachers.
        ValueError: If there are several, if the teacher has no tap, or a setting is out of its
            range.

    Example:
    ```python
    method = progressive([teacher], epochs=5, tuning=15)
    ```

    Reference:
        [Wang et al., 2018](https://www.ijcai.org/proceedings/2018/384)
    """
    check_tapped("progressive", teachers)
    if len(teachers) > 1:
        names = [teacher.name for teacher in teachers]
        raise ValueError(
            "The method 'progressive' replaces the blocks of one teacher. Received: "
            f"{len(names)} teachers, {names}. Choose another method, such as matching or "
            "standardized."
        )
    check_depth("progressive", teachers[0])
    optimizer = cosine_adamw(learning_rate)

    def answers() -> list[AmalgamationTerm]:
        return [SoftTargets(ownership="per_task", temperature=temperature)]

    answers()  # Refuses what is out of range.
    taps = [*teachers[0].taps]
    blocks = [
        Stage(_hint_at(tap), epochs, optimizer, freeze=[*map(UpTo, before), Beyond(tap)])
        for before, tap in zip([[], *([tap] for tap in taps)], taps, strict=False)
    ]
    return Method("progressive", (*blocks, Stage(answers, tuning, optimizer)), seed=seed)


def _hint_at(tap: str) -> Callable[[], list[AmalgamationTerm]]:
    return lambda: [Hints(taps=tap, name=f"hints_at_{tap}")]
