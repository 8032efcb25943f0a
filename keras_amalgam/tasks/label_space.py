"""The ordered union of the teachers' classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_amalgam.tasks.names import as_class_names


class LabelSpace:
    """All classes that any task knows, each once, in the order of first mention.

    A class that several tasks name is one class, and every one of these tasks speaks for it with
    equal weight: its joint score is the logarithm of the mean of their exponentiated logits. So a
    class known twice is not counted twice, and two tasks that agree say what each says alone.

    Args:
        class_names: The classes of each task in the order of its logits.

    Example:
    ```python
    space = LabelSpace({"pets": ["cat", "dog"], "farm": ["dog", "cow"]})
    space.names           # ("cat", "dog", "cow")
    space.speakers("dog") # ("pets", "farm")
    ```

    Raises:
        TypeError: If a task's classes are no sequence of strings.
        ValueError: If there is no task, or a task names a class twice.
    """

    def __init__(self, class_names: Mapping[str, Sequence[str]]) -> None:
        if not class_names:
            raise ValueError("A label space needs at least one task. Received: none.")
        self.class_names = {task: as_class_names(names) for task, names in class_names.items()}
        for task, names in self.class_names.items():
            if len(set(names)) < len(names):
                raise ValueError(
                    f"A task must name each of its classes once. Received: {names} of task "
                    f"{task!r}. Give every logit a name of its own."
                )
        every_name = [name for names in self.class_names.values() for name in names]
        self.names: tuple[str, ...] = tuple(dict.fromkeys(every_name))
        position = {name: index for index, name in enumerate(self.names)}
        self.indices: dict[str, np.ndarray] = {
            task: np.array([position[name] for name in names])
            for task, names in self.class_names.items()
        }
        self._counts = np.bincount(
            np.concatenate(list(self.indices.values())), minlength=len(self.names)
        )

    def __len__(self) -> int:
        """Number of classes in the union."""
        return len(self.names)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks in order."""
        return tuple(self.class_names)

    def speakers(self, name: str) -> tuple[str, ...]:
        """The tasks that know the class `name`."""
        return tuple(task for task, names in self.class_names.items() if name in names)

    def share(self, task: str) -> np.ndarray:
        """What part of each joint class is `task`'s: 1/speakers where it speaks, else 0.

        Returns:
            Shape `(classes,)`, float32; over all tasks the shares of a class sum to one.
        """
        share = np.zeros(len(self), "float32")
        share[self.indices[task]] = 1.0 / self._counts[self.indices[task]]
        return share

    def join(self, logits: Mapping[str, Any]) -> Any:
        """The tasks' logits as one vector over the whole label space.

        Args:
            logits: Per task, shape `(batch, classes of the task)`.

        Returns:
            Joint logits, shape `(batch, len(self))`, float32.

        Raises:
            ValueError: If a task is missing.
        """
        missing = [task for task in self.tasks if task not in logits]
        if missing:
            raise ValueError(
                f"Joint logits need every task's. Missing: {missing}. Received: {list(logits)}."
            )
        spread = [self.spread(task, logits[task], fill=-np.inf) for task in self.tasks]
        if self._counts.max() == 1:  # Exactly one task speaks for each class.
            return ops.max(ops.stack(spread), axis=0)
        return ops.logsumexp(ops.stack(spread), axis=0) - np.log(self._counts).astype("float32")

    def spread(self, task: str, values: Any, fill: float) -> Any:
        """Put one task's values at their places in the label space.

        Args:
            task: Whose values.
            values: Shape `(batch, classes of the task)`.
            fill: Value of the classes that the task does not know.

        Returns:
            Shape `(batch, len(self))`, float32.

        Raises:
            ValueError: If there is not one value per class of the task.
        """
        if values.shape[-1] != len(self.class_names[task]):
            raise ValueError(
                f"Task {task!r} has {len(self.class_names[task])} classes. Received: values of "
                f"shape {tuple(values.shape)}. Give one value per class, in the classes' order."
            )
        values = ops.cast(values, "float32")
        places = np.full(len(self), values.shape[-1])
        places[self.indices[task]] = np.arange(values.shape[-1])
        padded = ops.pad(values, [[0, 0], [0, 1]], constant_values=fill)
        return ops.take(padded, places, axis=-1)
