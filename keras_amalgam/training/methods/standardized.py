"""Soft targets, and every teacher's standardised features through a disposable head."""

from collections.abc import Sequence

from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm, SoftTargets, StandardizedHeads
from keras_amalgam.terms.soft_targets import Ownership
from keras_amalgam.training.method import Method, Stage, cosine_adamw
from keras_amalgam.training.methods.serving import check_tapped


def standardized(
    teachers: Sequence[Teacher],
    epochs: int = 30,
    ownership: Ownership = "per_task",
    temperature: float = 1.0,
    weight: float = 1.0,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Method:
    """Soft targets beside standardised heads, with teachers dropped at random.

    Args:
        teachers: With taps.
        epochs: Passes over the images, at least 1.
        ownership: Which teacher the soft targets believe on an image; see `SoftTargets`.
        temperature: Divisor of the logits in the soft targets, positive.
        weight: Coefficient of the standardised heads, at least 0.
        learning_rate: The peak of the schedule.
        seed: Seed of the initial weights and of the order of the images.

    Returns:
        A method of one stage.

    Raises:
        ValueError: If a teacher has no tap, or a setting is out of its range.

    Example:
    ```python
    method = standardized(teachers, epochs=30, ownership="source")
    ```

    Reference:
        [Sariyildiz et al., 2024](https://arxiv.org/abs/2408.05088), UNIC
    """
    check_tapped("standardized", teachers)

    def terms() -> list[AmalgamationTerm]:
        soft = SoftTargets(ownership=ownership, temperature=temperature)
        return [soft, StandardizedHeads(weight=weight)]

    terms()  # Refuses what is out of range.
    return Method("standardized", (Stage(terms, epochs, cosine_adamw(learning_rate)),), seed=seed)
