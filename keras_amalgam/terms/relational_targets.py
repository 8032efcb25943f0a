"""The student imitates how the teachers' predictions relate to each other."""

from collections.abc import Mapping
from typing import Any, Literal

import keras
from keras import ops

from keras_amalgam.images.checks import SOURCES_NEEDED
from keras_amalgam.losses.relational import relational_losses
from keras_amalgam.losses.soft_target import check_temperature
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.tasks import Classification
from keras_amalgam.terms.term import AmalgamationTerm, Losses, ModelSpec


@keras.saving.register_keras_serializable(package="keras_amalgam")
class RelationalTargets(AmalgamationTerm):
    """One minus the correlation of the student's and each teacher's predictions, both ways.

    Between the classes of an image, which class is how much likelier than another; and between the
    images of the batch, which image shows how much more of a class. A student that is too small to
    reach a strong teacher's probabilities can still learn their order and proportions. Put it
    beside `SoftTargets`.

    Args:
        ownership: Which images a teacher is imitated on: `"per_task"` on all, `"source"` on those
            of its own collection and on those of unknown source (-1).
        temperature: Softmax divisor, positive; the losses are multiplied by its square.
        weight: The term's coefficient.
        name: Key in the history.
        **kwargs: Of the layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    ```python
    terms = [SoftTargets(ownership="source"), RelationalTargets(ownership="source", weight=2.0)]
    ```

    Reference:
        [Huang et al., 2022](https://arxiv.org/abs/2205.10536), DIST
    """

    def __init__(
        self,
        ownership: Literal["per_task", "source"] = "per_task",
        temperature: float = 1.0,
        weight: float = 1.0,
        name: str | None = "relational_targets",
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, name=name, **kwargs)
        if ownership not in ("per_task", "source"):
            raise ValueError(
                f"`ownership` must be 'per_task' or 'source'. Received: {ownership!r}."
            )
        check_temperature(temperature)
        self.ownership: Literal["per_task", "source"] = ownership
        self.temperature = temperature

    @property
    def components(self) -> tuple[str, ...]:
        """Between the classes of an image, and between the images of the batch."""
        return ("classes", "images")

    @property
    def uses_source(self) -> bool:
        """Whether `ownership` is by source."""
        return self.ownership == "source"

    @property
    def reads(self) -> tuple[str, ...]:
        """No taps: answers alone."""
        return ()

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Refuse teachers that do not tell classes apart."""
        for name, spec in teachers.items():
            if not isinstance(spec.tasks[name], Classification):
                raise ValueError(
                    f"RelationalTargets compares the probabilities of classes. Received: "
                    f"{spec.name}, whose task is a {type(spec.tasks[name]).__name__}. Leave the "
                    "term out."
                )

    def call(self, student: Signals, teachers: Mapping[str, Signals], batch: Batch) -> Losses:
        """Distances per sample between the classes, and a scalar between the images."""
        if self.uses_source and batch.source is None:
            raise ValueError(SOURCES_NEEDED)
        losses: Losses = {}
        for number, (name, signals) in enumerate(teachers.items()):
            counts = None
            if self.uses_source:
                own = ops.logical_or(ops.equal(batch.source, number), ops.less(batch.source, 0))
                counts = ops.cast(own, "float32")
            classes, images = relational_losses(
                student.answers[name], signals.answers[name], self.temperature, counts
            )
            losses[name] = {"classes": classes, "images": ops.mean(images)}
            if counts is not None:
                # As between the classes, a teacher weighs as much as it has images in the batch.
                losses[name] = {
                    "classes": classes * counts,
                    "images": ops.mean(images) * ops.mean(counts),
                }
        return losses

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "ownership": self.ownership,
            "temperature": self.temperature,
        }
