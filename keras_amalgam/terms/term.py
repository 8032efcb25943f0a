"""The port: what the amalgamator asks of a term."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.tasks import Task

# Losses by teacher and component: one value per sample `(batch,)`, or a scalar.
Losses = dict[str, dict[str, Any]]


class Observation(NamedTuple):
    """What `AmalgamationTerm.call` would get on a batch, for `adapt` to look at."""

    student: Signals
    teachers: Mapping[str, Signals]
    batch: Batch


@dataclass(frozen=True)
class TapSpec:
    """What is known of a tap before the first batch.

    Args:
        layer: The tapped layer, for errors.
        shape: Shape of the features without the batch axis: a map's three axes or a vector's one.
    """

    layer: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class ModelSpec:
    """What a term knows of a model before the first batch.

    Args:
        name: For errors.
        tasks: What it answers by name: all tasks for the student, one for a teacher.
        taps: Where its features can be read, by tap name.
    """

    name: str
    tasks: Mapping[str, Task]
    taps: Mapping[str, TapSpec] = field(default_factory=dict)


class AmalgamationTerm(keras.layers.Layer):
    """One weighted addend of the objective.

    A term is a layer: its weights are trained with the student's, saved and restored. Subclasses
    implement `components`, `connect`, which creates the weights and refuses what does not fit, and
    `call`. One that must look at real signals before the first step implements `adapt`, too, and
    keeps what it found in weights that are not trained. `docs/terms.md` shows one being written.

    Args:
        weight: The term's coefficient, finite and at least zero.
        name: Key in the history; by default that of the class, as in `soft_targets`.
        **kwargs: Of the layer.

    Attributes:
        adaptation_images: How many images `adapt` is shown, about.

    Raises:
        ValueError: If `weight` is negative or not finite.
    """

    adaptation_images = 1024

    def __init__(self, weight: float = 1.0, name: str | None = None, **kwargs: Any) -> None:
        # Logits must stay float32 under mixed precision; the layers inside cast what they need.
        super().__init__(name=name or _in_words(type(self)), autocast=False, **kwargs)
        if not 0 <= weight < float("inf"):  # NaN is neither.
            raise ValueError(f"`weight` must be finite and at least zero. Received: {weight}.")
        self.weight = weight
        self._adapted: Any = None
        self._all_taps: tuple[str, ...] = ()

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the losses that the term returns for each teacher."""
        raise NotImplementedError(f"{type(self).__name__} must name its `components`.")

    @property
    def uses_source(self) -> bool:
        """Whether the term believes the teacher whose collection an image came from."""
        return False

    @property
    def reads(self) -> tuple[str, ...]:
        """Taps whose features the term reads, once it is connected: all, unless a class tells."""
        return self._all_taps

    @property
    def reads_of_teachers(self) -> tuple[str, ...]:
        """Taps of the teachers whose features the term reads: those of the same names."""
        return self.reads

    @property
    def adapts(self) -> bool:
        """Whether `adapt` must have run before the first step."""
        return type(self).adapt is not AmalgamationTerm.adapt

    @property
    def is_adapted(self) -> bool:
        """Whether nothing stands in the way of the first step; restored with the weights."""
        return not self.adapts or (
            self._adapted is not None and bool(np.any(keras.ops.convert_to_numpy(self._adapted)))
        )

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Fit the term to its models: create weights, refuse what does not fit.

        Args:
            student: The student.
            teachers: The teachers by name, in their order.

        Raises:
            ValueError: If the term cannot serve these models.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `connect`.")

    def adapt(self, batches: Iterable[Observation]) -> None:
        """Look at real signals before the first step of a training; nothing by default.

        Runs once per training. What it finds belongs into weights, made by `add_statistic` in
        `connect`, so that it is saved and restored with the term.

        Args:
            batches: Some batches as `call` would get them, the student in inference mode. Iterated
                again, they are computed again.
        """

    def call(self, student: Signals, teachers: Mapping[str, Signals], batch: Batch) -> Losses:
        """The term's losses on one batch, before the weight.

        A term with dropout or batch normalization takes `training=None` as well.

        Args:
            student: The student's signals.
            teachers: The teachers' signals, in the teachers' order.
            batch: The images, and what is known of them.

        Returns:
            `{teacher: {component: loss}}`, each loss one value per sample or a scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `call`.")

    def __call__(
        self, student: Signals, teachers: Mapping[str, Signals], batch: Batch, **kwargs: Any
    ) -> Losses:
        """As `call`. By name, as Keras takes nothing but tensors by position."""
        return super().__call__(student=student, teachers=teachers, batch=batch, **kwargs)

    def attach(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Connect the term, once; called by the amalgamator's constructor.

        Args:
            student: As in `connect`.
            teachers: As in `connect`.

        Raises:
            ValueError: If the term belongs to another amalgamator already, or cannot serve these
                models.
        """
        if self.built:
            raise ValueError(
                f"A term belongs to one amalgamator, as it has weights of its own. Received: "
                f"{self.name!r}, which was given to another one before. Make a new term."
            )
        self.connect(student, teachers)
        self._all_taps = tuple(student.taps)
        if self.adapts:
            self._adapted = self.add_statistic("adapted", (), "zeros")
        self.built = True

    def add_statistic(self, name: str, shape: tuple[int, ...], initializer: str = "ones") -> Any:
        """A weight for what `adapt` finds: not trained, float32 under every precision, saved.

        Args:
            name: Of the weight.
            shape: Of the weight.
            initializer: What it holds before `adapt`.
        """
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=False,
            dtype="float32",
            autocast=False,
        )

    def adapt_once(self, batches: Iterable[Observation]) -> None:
        """Run `adapt` and note that it has run.

        Args:
            batches: As in `adapt`.
        """
        self.adapt(batches)
        if self._adapted is not None:
            self._adapted.assign(1.0)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Not known: how many losses there are depends on the teachers."""
        raise NotImplementedError(f"{type(self).__name__} returns a dict of losses.")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("autocast", None)
        return config | {"weight": self.weight}


def _in_words(kind: type) -> str:
    """`SoftTargets` as `soft_targets`: the same in every process and stage, as Keras' is not."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower().strip("_")
