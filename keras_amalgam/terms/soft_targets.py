"""The student imitates what the teachers answer."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.images.checks import SOURCES_NEEDED
from keras_amalgam.losses.soft_target import (
    check_temperature,
    cross_entropy_by_class,
    standardized_logits,
)
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.tasks import Classification, Task
from keras_amalgam.tasks.label_space import LabelSpace
from keras_amalgam.terms.temperatures import equal_entropies
from keras_amalgam.terms.term import AmalgamationTerm, Losses, ModelSpec, Observation

Ownership = Literal["joint", "per_task", "source"]

# Of a teacher's own collection; with fewer, all images are looked at.
FEWEST_IMAGES = 32


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

    Ownership concerns classification alone: what decides between classes. Teachers of other tasks
    are imitated each by its task's own loss, on every image.

    Args:
        ownership: See above.
        temperature: Softmax divisor, positive; the loss is multiplied by its square.
        weight: The term's coefficient.
        name: Key in the history.
        standardize: Whether the logits of student and teachers, over the classes that are decided
            between, get mean zero and deviation one on every image. The student then learns the
            order and proportions of the classes, not how large a teacher's logits are. With
            `"joint"` that is so for the joined logits. With `"source"` it is so within the task of
            the image; which task that is, the student says by its logits as they are, as
            standardized ones could not leave the other tasks' classes out.
        fit_temperatures: Whether teachers are made equally sure before the first step: a divisor
            per teacher, found without labels, brings the mean entropy of its predictions, as a part
            of the largest possible, to the mean of all teachers'. Images of its own collection
            count where sources are known, else all.
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
        - [Sun et al., 2024](https://arxiv.org/abs/2403.01427), the standardization
    """

    def __init__(
        self,
        ownership: Ownership = "joint",
        temperature: float = 1.0,
        weight: float = 1.0,
        name: str | None = "soft_targets",
        standardize: bool = False,
        fit_temperatures: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, name=name, **kwargs)
        if ownership not in ("joint", "per_task", "source"):
            raise ValueError(
                f"`ownership` must be 'joint', 'per_task' or 'source'. Received: {ownership!r}."
            )
        check_temperature(temperature)
        if standardize and fit_temperatures:
            raise ValueError(
                "Standardized logits have no scale left to be fitted. Received: standardize=True "
                "and fit_temperatures=True. Choose one."
            )
        self.ownership: Ownership = ownership
        self.temperature = temperature
        self.standardize = standardize
        self.fit_temperatures = fit_temperatures

    @property
    def adapts(self) -> bool:
        """Whether the teachers' temperatures are fitted."""
        return self.fit_temperatures

    @property
    def components(self) -> tuple[str, ...]:
        """The one loss per teacher."""
        return ("soft_target",)

    @property
    def uses_source(self) -> bool:
        """Whether `ownership` is by source."""
        return self.ownership == "source"

    @property
    def reads(self) -> tuple[str, ...]:
        """No taps: answers alone."""
        return ()

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Lay out the label space of the classification tasks."""
        tasks = {name: spec.tasks[name] for name, spec in teachers.items()}
        self._sources = {name: number for number, name in enumerate(tasks)}
        self._classes = {
            name: task.class_names
            for name, task in tasks.items()
            if isinstance(task, Classification)
        }
        self._alone: dict[str, Task] = {
            name: task
            for name, task in tasks.items()
            if self.ownership == "per_task" or name not in self._classes
        }
        self._label_space = None
        if len(self._alone) < len(tasks):
            self._label_space = LabelSpace(self._classes)
            # Row t marks what of each joint class is teacher t's.
            self._shares = np.stack([self._label_space.share(t) for t in self._label_space.tasks])
        if self.fit_temperatures:
            self._divisors = self.add_statistic("divisors", (len(tasks),))

    def adapt(self, batches: Iterable[Observation]) -> None:
        """Find the divisors that make all teachers of classes equally sure."""
        logits: dict[str, list[np.ndarray]] = {name: [] for name in self._sources}
        own: dict[str, list[np.ndarray]] = {name: [] for name in self._sources}
        for seen in batches:
            for name, number in self._sources.items():
                answers = ops.convert_to_numpy(seen.teachers[name].answers[name])
                logits[name].append(answers)
                if seen.batch.source is not None:
                    own[name].append(answers[np.asarray(seen.batch.source) == number])
        chosen = {
            name: np.concatenate(own[name])
            if sum(map(len, own[name])) >= FEWEST_IMAGES
            else np.concatenate(logits[name])
            for name in self._classes
        }
        divisors = np.ones(len(self._sources), "float32")
        if chosen:
            found = equal_entropies(list(chosen.values()), self.temperature)
            divisors[[self._sources[name] for name in chosen]] = found
        self._divisors.assign(divisors)

    def call(self, student: Signals, teachers: Mapping[str, Signals], batch: Batch) -> Losses:
        """The soft-target losses, one value per sample and teacher."""
        answers = {name: signals.answers[name] for name, signals in teachers.items()}
        if self.fit_temperatures:
            answers = {
                name: ops.cast(values, "float32") / self._divisors[number]
                for number, (name, values) in enumerate(answers.items())
            }
        losses = {
            name: task.soft_target_loss(
                self._scaled(student.answers[name], name),
                self._scaled(answers[name], name),
                self.temperature,
            )
            for name, task in self._alone.items()
        }
        if self._label_space is not None:
            owned = {name: answers[name] for name in self._label_space.tasks}
            losses |= self._owned(self._label_space, student, owned, batch.source)
        return {name: {"soft_target": losses[name]} for name in teachers}

    def _scaled(self, logits: Any, name: str | None = None) -> Any:
        """Logits as they are compared; `name` is that of a task decided alone."""
        is_decision = name is None or name in self._classes
        return standardized_logits(logits) if self.standardize and is_decision else logits

    def _owned(
        self, space: LabelSpace, student: Signals, logits: Mapping[str, Any], source: Any
    ) -> dict[str, Any]:
        """Each teacher's share of the loss over the label space."""
        own = {name: student.answers[name] for name in logits}
        target = ops.softmax(self._scaled(space.join(logits)) / self.temperature)
        log_q = ops.log_softmax(self._scaled(space.join(own)) / self.temperature)
        if self.uses_source:
            if source is None:
                raise ValueError(SOURCES_NEEDED)
            for name in logits:
                its_own = ops.equal(source, self._sources[name])[:, None]
                believed = self._softened(logits[name], ops.softmax)
                target = ops.where(its_own, space.spread(name, believed, fill=0.0), target)
                if self.standardize:
                    log_q = ops.where(its_own, self._standardized_within(space, own, name), log_q)
        by_class = cross_entropy_by_class(log_q, target, self.temperature)
        by_teacher = ops.matmul(by_class, ops.transpose(self._shares))
        return {name: by_teacher[:, t] for t, name in enumerate(logits)}

    def _standardized_within(self, space: LabelSpace, own: Mapping[str, Any], name: str) -> Any:
        """The student's log probabilities where a task's logits alone are standardized.

        A class's is that of the task, by the logits as they are, times its own within the task.
        """
        joint = ops.log_softmax(space.join(own) / self.temperature)
        of_task = ops.take(joint, space.indices[name], axis=-1)
        within = self._softened(own[name], ops.log_softmax)
        answer = within + ops.logsumexp(of_task, axis=-1, keepdims=True)
        return space.spread(name, answer, fill=0.0)  # Where the target is zero.

    def _softened(self, logits: Any, function: Callable[[Any], Any]) -> Any:
        return function(self._scaled(ops.cast(logits, "float32")) / self.temperature)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "ownership": self.ownership,
            "temperature": self.temperature,
            "standardize": self.standardize,
            "fit_temperatures": self.fit_temperatures,
        }
