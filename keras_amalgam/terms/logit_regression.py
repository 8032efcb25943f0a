"""The student's logits are regressed to each teacher's."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_amalgam.losses.feature import squared_error
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.tasks import Classification
from keras_amalgam.terms.term import AmalgamationTerm, Losses, ModelSpec


@keras.saving.register_keras_serializable(package="keras_amalgam")
class LogitRegression(AmalgamationTerm):
    """Squared error between the student's logits and each teacher's, the mean over its classes.

    Every teacher is imitated on every image. Unlike soft targets, this asks for a teacher's logits
    themselves, of unlikely classes as much as of likely ones.

    Args:
        weight: The term's coefficient.
        name: Key in the history.
        **kwargs: Further arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `weight` is negative.

    Example:
    ```python
    term = LogitRegression(weight=0.1)
    ```

    Reference:
        [Ba & Caruana, 2014](https://arxiv.org/abs/1312.6184)
    """

    def __init__(
        self, weight: float = 1.0, name: str | None = "logit_regression", **kwargs: Any
    ) -> None:
        super().__init__(weight=weight, name=name, **kwargs)

    @property
    def components(self) -> tuple[str, ...]:
        """The one loss per teacher."""
        return ("error",)

    @property
    def reads(self) -> tuple[str, ...]:
        """No taps: answers alone."""
        return ()

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Refuse teachers whose answers are not logits."""
        for name, spec in teachers.items():
            if not isinstance(spec.tasks[name], Classification):
                raise ValueError(
                    f"LogitRegression compares logits. Received: {spec.name}, whose task is a "
                    f"{type(spec.tasks[name]).__name__}. Leave the term out."
                )

    def call(self, student: Signals, teachers: Mapping[str, Signals], batch: Batch) -> Losses:
        """The squared error per sample and teacher."""
        return {
            name: {"error": squared_error(student.answers[name], signals.answers[name])}
            for name, signals in teachers.items()
        }
