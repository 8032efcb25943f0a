"""Classification: one image, one of several named classes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_amalgam.losses.soft_target import soft_target_loss
from keras_amalgam.tasks.names import as_class_names


class Classification:
    """One of several named classes.

    Args:
        class_names: The classes in the order of the logits, at least two, all different: any
            sequence of strings that each fit on a line of a labels file.

    Raises:
        TypeError: If it is no sequence of strings.
        ValueError: If there are fewer than two names, a name stands twice, is empty or has a
            line break.

    Example:
    ```python
    task = Classification(["cat", "dog"])
    ```
    """

    kind = "classification"

    def __init__(self, class_names: Sequence[str]) -> None:
        names = as_class_names(class_names)
        twice = [name for name, count in Counter(names).items() if count > 1]
        if len(names) < 2 or twice:
            raise ValueError(
                "`class_names` must be a list of at least two different names. Received: "
                + (f"names that stand twice: {twice}." if twice else f"{list(names)}.")
            )
        self.class_names = names

    def __eq__(self, other: object) -> bool:
        """Tasks are equal if their classes are."""
        return isinstance(other, Classification) and self.class_names == other.class_names

    def __hash__(self) -> int:
        """Hash of the classes, as equality is by classes."""
        return hash(self.class_names)

    def head(self, name: str) -> keras.layers.Layer:
        """A dense layer of logits; float32 also under mixed precision, for the softmax's sake."""
        return keras.layers.Dense(len(self.class_names), dtype="float32", name=name)

    def check_output(self, shape: tuple[int | None, ...], owner: str) -> None:
        """Raise a `ValueError` if an output of `shape` has not one logit per class."""
        if tuple(shape[1:]) == (1,) and len(self.class_names) == 2:
            raise ValueError(
                f"{owner} has one number for its two classes. Received: an output of shape {shape} "
                f"and the class names {list(self.class_names)}. Expected: one logit per class. "
                "With z, the model's output before its sigmoid, the two logits are 0 and z: "
                "keras.Model(model.input, keras.ops.concatenate([0 * z, z], axis=-1)). Of a "
                "probability p, z is log(p / (1 - p))."
            )
        if len(shape) != 2 or shape[-1] != len(self.class_names):
            raise ValueError(
                f"{owner} and its class names disagree. Received: an output of shape {shape} and "
                f"{len(self.class_names)} class names. Expected an output of shape "
                f"(None, {len(self.class_names)}). Give one name per logit, in the logits' order."
            )

    def soft_target_loss(self, student_logits: Any, teacher_logits: Any, temperature: float) -> Any:
        """Cross-entropy to the teacher's softened distribution, per sample."""
        return soft_target_loss(student_logits, teacher_logits, temperature)

    def agreement(self, student_answers: Any, teacher_answers: Any) -> np.ndarray:
        """Whether the likeliest class is the same, 1 or 0 per sample."""
        likeliest = [np.asarray(one).argmax(-1) for one in (student_answers, teacher_answers)]
        return (likeliest[0] == likeliest[1]).astype(float)

    def to_config(self) -> dict[str, Any]:
        """The task as JSON-ready values."""
        return {"kind": self.kind, "class_names": list(self.class_names)}
