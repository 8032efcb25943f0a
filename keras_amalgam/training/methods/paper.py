"""Common feature learning as published."""

from collections.abc import Sequence

import keras

from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, CommonFeatures, SoftTargets
from keras_amalgam.training.method import Method, Stage, check_rate
from keras_amalgam.training.methods.serving import check_tapped


def paper(
    teachers: Sequence[Teacher],
    epochs: int = 30,
    learning_rate: float = 1e-4,
    units: int = 128,
    seed: int = 0,
) -> Method:
    """Variant A: joint soft targets, and ten times MMD and reconstruction in the common space.

    The rate falls to a tenth after half of the training, as in the authors' release. That has
    pretrained students, with rates of its own for heads and common space; here one rate serves all,
    and the decay of weights is decoupled from the gradient.

    Args:
        teachers: With taps, at the last map in the paper.
        epochs: Passes over the images, at least 1.
        learning_rate: Before it falls.
        units: Channels of the common space, at least 1.
        seed: Seed of the initial weights and of the order of the images.

    Returns:
        A method of one stage.

    Raises:
        TypeError: If they are not teachers.
        ValueError: If a teacher has no tap, or a setting is out of its range.

    Example:
    ```python
    method = paper(teachers, epochs=30)
    ```

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546)
    """
    check_tapped("paper", teachers)

    def terms() -> list[AmalgamationTerm]:
        return [SoftTargets(ownership="joint"), CommonFeatures(units=units, weight=10.0)]

    terms()  # Refuses what is out of range.
    check_rate(learning_rate)

    def optimizer(steps: int) -> keras.optimizers.Optimizer:
        rates = [learning_rate, 0.1 * learning_rate]
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([max(1, steps // 2)], rates)
        return keras.optimizers.AdamW(schedule, weight_decay=1e-4)

    return Method("paper", (Stage(terms, epochs, optimizer),), seed=seed)
