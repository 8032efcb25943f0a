"""The student imitates what the teachers answer."""

from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.images.checks import SOURCES_NEEDED
from keras_amalgam.losses.soft_target import (
    check_temperature,
    cross_entropy_by_class,
    soft_target_loss,
)
from keras_amalgam.tasks.label_space import LabelSpace
from keras_amalgam.terms.term import AmalgamationTerm, Losses, ModelSpec, Signals

Ownership = Literal["joint", "per_task", "source"]


@keras.saving.register_keras_serializable(package="keras_amalgam")
class SoftTargets(AmalgamationTerm):
    """Cross-entropy between the student's and the teachers' softened distributions.

    `ownership` says which teacher is believed on an image:

    - `"joint"`: all at once. The target is the softmax over the teachers' joined logits, as in
      the paper; it needs teachers whose confidences compare.
    - `"per_task"`: each about its own classes alone.
    - `"source"`: the one whose collection the image came from, which is provenance and no label.
      The target is this teacher's distribution, and zero for the classes it does not know;
      the student decides over the whole label space. An image of unknown source (-1) counts as
      under `"joint"`.

    A teacher's share of the loss is the part that its classes contribute; a class several
    teachers know is shared equally.

    Args:
        ownership: See above.
        temperature: Softmax divisor, positive; the loss is multiplied by its square.
        weight: The term's coefficient.
        name: Key in the history.
        **kwargs: Of the layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    ```python
    term = SoftTargets(ownership="source", temperature=2.0)
    ```

    Reference:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531)
        - [Luo et al., 2019](https://arxiv.org/abs/1906.10546)
    """

    def __init__(
        self,
        ownership: Ownership = "joint",
        temperature: float = 1.0,
        weight: float = 1.0,
        name: str | None = "soft_targets",
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, name=name, **kwargs)
        if ownership not in ("joint", "per_task", "source"):
            raise ValueError(
                f"`ownership` must be 'joint', 'per_task' or 'source'. Received: {ownership!r}."
            )
        check_temperature(temperature)
        self.ownership: Ownership = ownership
        self.temperature = temperature

    @property
    def components(self) -> tuple[str, ...]:
        """The one loss per teacher."""
        return ("soft_target",)

    @property
    def uses_source(self) -> bool:
        """Whether `ownership` is by source."""
        return self.ownership == "source"

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Lay out the label space."""
        self._label_space = LabelSpace(
            {name: spec.class_names[name] for name, spec in teachers.items()}
        )
        # Row t marks what of each joint class is teacher t's.
        self._shares = np.stack([self._label_space.share(t) for t in self._label_space.tasks])
        self.built = True

    def call(self, student: Signals, teachers: Mapping[str, Signals], source: Any = None) -> Losses:
        """The soft-target losses, one value per sample and teacher."""
        logits = {name: signals["logits"] for name, signals in teachers.items()}
        if self.ownership == "per_task":
            return {
                name: {
                    "soft_target": soft_target_loss(
                        student["logits"][name], logits[name], self.temperature
                    )
                }
                for name in logits
            }
        target = ops.softmax(self._label_space.join(logits) / self.temperature)
        if self.uses_source:
            target = self._target_of_source(logits, target, source)
        joint = self._label_space.join(student["logits"])
        by_class = cross_entropy_by_class(joint, target, self.temperature)
        by_teacher = ops.matmul(by_class, ops.transpose(self._shares))
        return {name: {"soft_target": by_teacher[:, t]} for t, name in enumerate(logits)}

    def _target_of_source(self, logits: Mapping[str, Any], joint: Any, source: Any) -> Any:
        """Each image's target from its own teacher; `joint` where the source is unknown."""
        if source is None:
            raise ValueError(SOURCES_NEEDED)
        target = joint
        for number, (name, values) in enumerate(logits.items()):
            own = ops.softmax(ops.cast(values, "float32") / self.temperature)
            own = self._label_space.spread(name, own, fill=0.0)
            target = ops.where(ops.equal(source, number)[:, None], own, target)
        return target

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "ownership": self.ownership,
            "temperature": self.temperature,
        }
