"""What distinguishes one training of the student from another."""

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_amalgam.models.taps import Taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm


@dataclass(frozen=True)
class UpTo:
    """The part of the student that its features at a tap depend on, for `Stage(freeze=…)`.

    Args:
        tap: Name of one of the stage's student taps.
    """

    tap: str


@dataclass(frozen=True)
class Beyond:
    """The part of the student that its features at a tap do not depend on, for `freeze`.

    Args:
        tap: Name of one of the stage's student taps, or several names: what none depends on.
    """

    tap: str | tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """One `fit`.

    Args:
        terms: Makes the terms. Called for each training, as terms hold weights.
        epochs: Passes over the images, at least 1.
        optimizer: Makes the optimizer from the number of steps of the stage, for its schedule.
        steps: How many at most, where the last epoch is to be cut short; `None` for whole epochs.
        freeze: What is not trained in this stage: names of layers of the student, of terms, or
            `"student"`, paths of layers inside them, such as `"backbone/conv1"`,
            `UpTo(tap)` and `Beyond(tap)`. It is trained again in the stages after it, unless they
            freeze it, too.
        student_tap: The student's layer to imitate with, or several by tap name; `None` for the
            training's.
        images: Makes this stage's batches from the training's, as many of them; `None` leaves them
            as they are. A training that is kept tells two apart by `repr`.
        student: Makes a new student, which this stage and those after it train; `None` goes on with
            the one before, and in the first stage with the training's.
        teachers: Makes this stage's teachers from the student of the stage before; `None` for the
            training's. Their tasks are the new student's.

    Raises:
        TypeError: If `freeze` is not a list.
        ValueError: If there is no epoch or no step.

    Example:
    ```python
    stage = Stage(lambda: [SoftTargets()], epochs=30, optimizer=cosine_adamw(3e-3))
    ```
    """

    terms: Callable[[], Sequence[AmalgamationTerm]]
    epochs: int
    optimizer: Callable[[int], keras.optimizers.Optimizer]
    steps: int | None = None
    freeze: Sequence[str | UpTo | Beyond] = ()
    student_tap: Taps | None = None
    images: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None
    student: Callable[[], keras.Model] | None = None
    teachers: Callable[[keras.Model], Sequence[Teacher]] | None = None

    def length(self, steps: int) -> int:
        """Steps of the stage, of epochs of so many steps."""
        whole = self.epochs * steps
        return whole if self.steps is None else min(self.steps, whole)

    def __post_init__(self) -> None:
        """Refuse a stage that would train nothing."""
        wanted = [self.epochs] if self.steps is None else [self.epochs, self.steps]
        if any(number != int(number) or number < 1 for number in wanted):
            raise ValueError(
                "A stage needs whole numbers of epochs and steps, at least one of each. Received: "
                f"epochs={self.epochs}, steps={self.steps}."
            )
        if isinstance(self.freeze, (str, UpTo, Beyond)):
            raise TypeError(
                f"`freeze` is a list. Received: {self.freeze!r}. Expected: [{self.freeze!r}]."
            )


@dataclass(frozen=True)
class Method:
    """Successive stages; each goes on with the student before it, or brings a new one.

    A stage begins with the student's weights at the end of the one before it, and with those of
    its terms by name: a term of the same name and settings goes on, one of a new name begins, and
    so does one that reads the student at another layer than before. With a new student, or with
    other teachers than the stage before, all terms begin.

    Args:
        name: For folders and tables; no `/`.
        stages: At least one.
        removes: For a comparison: the term of the first method that is missing in this one.
        seed: Of the student's and the terms' initial weights and of the order of the images.

    Raises:
        ValueError: If there is no stage, the name has a `/`, or the first stage makes teachers.

    Example:
    ```python
    method = Method("soft_targets", (stage,))
    ```
    """

    name: str
    stages: tuple[Stage, ...]
    removes: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a method that would train nothing."""
        if self.stages and self.stages[0].teachers is not None:
            raise ValueError(
                f"The first stage of {self.name!r} has no student before it to make teachers from. "
                "Received: Stage(teachers=…) as the first one. Leave it out there."
            )
        if not self.stages or "/" in self.name:
            raise ValueError(
                "A method needs at least one stage and a name without '/'. Received: "
                f"{len(self.stages)} stages, name {self.name!r}."
            )


def check_rate(learning_rate: float) -> None:
    """Raise a `ValueError` unless a learning rate is finite and at least zero."""
    is_number = isinstance(learning_rate, numbers.Real)
    if not (is_number and 0.0 <= learning_rate < float("inf")):  # NaN is neither.
        raise ValueError(
            "`learning_rate` must be finite and at least zero. Received: "
            f"learning_rate={learning_rate!r}."
        )


def cosine_adamw(
    learning_rate: float, weight_decay: float = 1e-4, warm_up: float = 0.05, **settings: Any
) -> Callable[[int], keras.optimizers.Optimizer]:
    """AdamW whose learning rate rises linearly and falls along a cosine to zero.

    Args:
        learning_rate: The peak, at least 0.
        weight_decay: Decoupled, of kernels, at least 0; biases and normalisation are left alone.
        warm_up: Fraction of the steps in which the rate rises, from 0 to 1.
        **settings: Of `keras.optimizers.AdamW`, such as `global_clipnorm`.

    Returns:
        For `Stage(optimizer=…)`.

    Raises:
        ValueError: If the rate is negative or not finite.

    Reference:
        - [Loshchilov and Hutter, 2017](https://arxiv.org/abs/1608.03983), the cosine
        - [Loshchilov and Hutter, 2019](https://arxiv.org/abs/1711.05101), the decay
    """
    check_rate(learning_rate)

    def make(steps: int) -> keras.optimizers.Optimizer:
        rising = max(1, round(steps * warm_up))
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - rising), warmup_target=learning_rate, warmup_steps=rising
        )
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay, **settings)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer

    return make
