"""Teachers of one architecture become one code per layer, which the student learns."""

from collections.abc import Sequence

from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, LayerwiseCodes, LogitRegression
from keras_amalgam.training.method import Beyond, Method, Stage, cosine_adamw
from keras_amalgam.training.methods.serving import (
    check_one_architecture,
    check_tapped,
    epochs_of,
)


def layerwise(
    teachers: Sequence[Teacher],
    epochs: tuple[int, int, int] = (5, 15, 10),
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Method:
    """Codes of the teachers' features first, then the student's layers, then its answers.

    In the first stage an autoencoder at every tap learns to keep all teachers' features in as many
    channels as the student has there; in the second it is frozen, and the student's features are
    regressed to its codes; in the third the student's logits are regressed to the teachers'. The
    authors fit one layer of the student after the other, each to the codes before it; here all are
    fitted at once.

    Args:
        teachers: Networks of one architecture up to their taps, which have the same names, in the
            order of depth. The student is tapped by these names, too:
            `student_tap={"mid": …, "top": …}`.
        epochs: Passes over the images in each of the three stages, at least 1.
        learning_rate: The peak of the schedule of each stage.
        seed: Seed of the initial weights and of the order of the images.

    Returns:
        A method of three stages.

    Raises:
        TypeError: If they are not teachers.
        ValueError: If a teacher has no tap, a setting is out of its range, or they are not of one
            architecture; says where they differ.

    Example:
    ```python
    method = layerwise(teachers, epochs=(5, 15, 10))
    ```

    Reference:
        [Shen et al., 2019](https://arxiv.org/abs/1811.02796)
    """
    check_tapped("layerwise", teachers)
    check_one_architecture("layerwise", teachers)

    taps = [*teachers[0].taps]

    def codes() -> list[AmalgamationTerm]:
        return [LayerwiseCodes(taps=taps)]

    def answers() -> list[AmalgamationTerm]:
        return [LogitRegression()]

    encoded = [f"layerwise_codes/{tap}_autoencoder" for tap in taps]
    autoencoding, regressing, tuning = epochs_of("layerwise", epochs, 3)
    optimizer = cosine_adamw(learning_rate)
    stages = (
        Stage(codes, autoencoding, optimizer, freeze=["student"]),
        Stage(codes, regressing, optimizer, freeze=[*encoded, Beyond((*taps,))]),
        Stage(answers, tuning, optimizer),
    )
    return Method("layerwise", stages, seed=seed)
