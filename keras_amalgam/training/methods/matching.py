"""Function matching: answers alone, on many views, for long."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_amalgam.models.student import check_names
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, SoftTargets
from keras_amalgam.terms.soft_targets import Ownership
from keras_amalgam.training.guards import check_mixed_up
from keras_amalgam.training.method import Method, Stage, check_rate, cosine_adamw

# Steps over which the student's weights are averaged: a part of the training, within bounds.
AVERAGED_SHARE, LEAST_AVERAGED, MOST_AVERAGED = 0.02, 10, 10_000


def matching(
    teachers: Sequence[Teacher],
    epochs: int = 100,
    ownership: Ownership = "per_task",
    temperature: float = 1.0,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Method:
    """Soft targets alone: teachers and student see the same view, and the training is long.

    The rate falls along a cosine, gradients are clipped at a length of one, and the student that is
    left is the running average of its weights. What makes the method are the images: every batch
    mixed up, zoomed, shifted and mirrored, `data.stream(…, augmentation=data.Augmentation(
    mixup=1.0, zoom=0.25, translation=4, flip=True))` for photographs of 32 pixels. A stream that
    mixes none up is refused when the training begins.

    Args:
        teachers: Any.
        epochs: Passes over the images; the authors' shortest training is 300.
        ownership: Which teacher the soft targets believe on an image; see `SoftTargets`.
        temperature: Divisor of the logits in the soft targets, positive.
        learning_rate: The peak of the schedule.
        seed: Seed of the initial weights and of the order of the images.

    Returns:
        A method of one stage.

    Raises:
        TypeError: If they are not teachers.
        ValueError: If a setting is out of its range.

    Example:
    ```python
    method = matching(teachers, epochs=300, ownership="source")
    ```

    Reference:
        [Beyer et al., 2022](https://arxiv.org/abs/2106.05237)
    """
    check_names(teachers)
    SoftTargets(ownership=ownership, temperature=temperature)  # Refuses what is out of range.

    def terms() -> list[AmalgamationTerm]:
        return [SoftTargets(ownership=ownership, temperature=temperature)]

    check_rate(learning_rate)

    def optimizer(steps: int) -> keras.optimizers.Optimizer:
        averaged = min(max(AVERAGED_SHARE * steps, LEAST_AVERAGED), MOST_AVERAGED)
        averaging = {"use_ema": True, "ema_momentum": 1.0 - 1.0 / averaged}
        return cosine_adamw(learning_rate, global_clipnorm=1.0, **averaging)(steps)

    return Method("matching", (Stage(terms, epochs, optimizer, images=_mixed_up),), seed=seed)


def _mixed_up(images: tf.data.Dataset) -> tf.data.Dataset:
    """The images as they are."""
    check_mixed_up(images, "matching")
    return images
