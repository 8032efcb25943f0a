"""The port: what the amalgamator asks of a term."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

# What a model gives a term in one step. The student's `logits` are a dict by task, a teacher's a
# tensor; `features` is there if the model has a tap.
Signals = Mapping[str, Any]
# Losses by teacher and component: one value per sample `(batch,)`, or a scalar.
Losses = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ModelSpec:
    """What a term knows of a model before the first batch.

    Args:
        name: For errors.
        class_names: Classes by task: of every task for the student, of one for a teacher.
        features: Shape of the tap's features without the batch axis, or `None` without a tap.
        tap: The tap's name, for errors.
    """

    name: str
    class_names: Mapping[str, tuple[str, ...]]
    features: tuple[int | None, ...] | None
    tap: str | None


class AmalgamationTerm(keras.layers.Layer):
    """One weighted addend of the objective.

    A term is a layer: its weights are trained with the student's, saved and restored. Subclasses
    implement `components`, `connect`, which creates the weights and refuses what does not fit, and
    `call`.

    Args:
        weight: The term's coefficient, at least zero.
        name: Key in the history.
        **kwargs: Of the layer.

    Raises:
        ValueError: If `weight` is negative.
    """

    def __init__(self, weight: float = 1.0, name: str | None = None, **kwargs: Any) -> None:
        # Logits must stay float32 under mixed precision; the layers inside cast what they need.
        super().__init__(name=name, autocast=False, **kwargs)
        if weight < 0:
            raise ValueError(f"`weight` must be at least zero. Received: {weight}.")
        self.weight = weight

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the losses that the term returns for each teacher."""
        raise NotImplementedError(f"{type(self).__name__} must name its `components`.")

    @property
    def uses_source(self) -> bool:
        """Whether the term believes the teacher whose collection an image came from."""
        return False

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Fit the term to its models; called once, by the amalgamator's constructor.

        Args:
            student: The student.
            teachers: The teachers by name, in their order.

        Raises:
            ValueError: If the term cannot serve these models.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `connect`.")

    def call(self, student: Signals, teachers: Mapping[str, Signals], source: Any = None) -> Losses:
        """The term's losses on one batch, before the weight.

        Args:
            student: The student's signals.
            teachers: The teachers' signals, in the teachers' order.
            source: Which teacher's collection each image is from, shape `(batch,)`, integer,
                -1 for unknown; or `None`.

        Returns:
            `{teacher: {component: loss}}`, each loss one value per sample or a scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `call`.")

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Not known: how many losses there are depends on the teachers."""
        raise NotImplementedError(f"{type(self).__name__} returns a dict of losses.")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("autocast", None)
        return config | {"weight": self.weight}
