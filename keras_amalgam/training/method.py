"""What distinguishes one training of the student from another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_amalgam.models.taps import Taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.terms import AmalgamationTerm


@dataclass(frozen=True)
class UpTo:
    """The part of the student that its features at a tap hang on, for `Stage(freeze=…)`.

    Args:
        tap: Name of one of the stage's student taps.
    """

    tap: str


@dataclass(frozen=True)
class Beyond:
    """The part of the student that its features at a tap do not hang on, for `Stage(freeze=…)`.

    Args:
        tap: Name of one of the stage's student taps.
    """

    tap: str


@dataclass(frozen=True)
class Stage:
    """One `fit`.

    Args:
        terms: Makes the terms. Called for each training, as terms hold weights.
        epochs: How many.
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
        if self.epochs < 1 or (self.steps is not None and self.steps < 1):
            raise ValueError(
                "A stage needs at least one epoch and one step. Received: "
                f"epochs={self.epochs}, steps={self.steps}."
            )
        if isinstance(self.freeze, (str, UpTo, Beyond)):
            raise TypeError(
                f"`freeze` is a list. Received: {self.freeze!r}. Expected: [{self.freeze!r}]."
            )


@dataclass(frozen=True)
class Method:
    """Successive stages with one student.

    A stage begins with the student's weights at the end of the one before it, and with those of
    its terms by name: a term of the same name and settings goes on, one of a new name begins. With
    a new student or other teachers all terms begin.

    Args:
        name: For folders and tables; no `/`.
        stages: At least one.
        removes: For a comparison: the term of the first method that is missing in this one.
        seed: Of the student's and the terms' initial weights and of the order of the images.
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


def cosine_adamw(
    learning_rate: float, weight_decay: float = 1e-4, warm_up: float = 0.05
) -> Callable[[int], keras.optimizers.Optimizer]:
    """AdamW whose learning rate rises linearly and falls along a cosine to zero.

    Args:
        learning_rate: The peak.
        weight_decay: Decoupled, of kernels; biases and normalisation are left alone.
        warm_up: Fraction of the steps in which the rate rises.

    Returns:
        For `Stage(optimizer=…)`.
    """

    def make(steps: int) -> keras.optimizers.Optimizer:
        rising = max(1, round(steps * warm_up))
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - rising), warmup_target=learning_rate, warmup_steps=rising
        )
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer

    return make
