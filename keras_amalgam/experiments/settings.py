"""How a recipe is run."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_amalgam.training.keeping import check_keeping

STEPS = ("train", "evaluate", "package", "compare", "report")

MakeCallbacks = Callable[[], Sequence[keras.callbacks.Callback]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a recipe is run.

    Args:
        only: The one step that is done, whether something has changed or not; the steps before it
            must be done. `None` for all that are not done.
        restart: Whether an earlier run in the folder is removed first.
        keep: How many states of a training stay, at least 1.
        minutes: The longest time between two of its states, at least 0.
        callbacks: Makes further callbacks for each `fit`.
        strategy: Under which the student is trained.
        full_run: The command that runs what this one did not, if there is one.
        described: For `run.json`: the command and its settings, with which it can be run again.
    """

    only: str | None = None
    restart: bool = False
    keep: int = 3
    minutes: float = 5.0
    callbacks: MakeCallbacks = tuple
    strategy: tf.distribute.Strategy | None = None
    full_run: str | None = None
    described: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a step that does not exist, numbers out of bounds, and callbacks not yet made."""
        if self.only is not None and self.only not in STEPS:
            raise ValueError(
                f"There is no step {self.only!r}. Received: only={self.only!r}. Choose one of "
                f"{list(STEPS)}."
            )
        check_keeping(self.keep, self.minutes)
        made = self.callbacks
        is_class = isinstance(made, type) and issubclass(made, keras.callbacks.Callback)
        if not callable(made) or is_class:
            raise TypeError(
                "`callbacks` is a function that makes a list of callbacks for each fit: a callback "
                f"keeps what it saw in one. Received: {made!r}. Expected: such as "
                "`callbacks=lambda: [callback]`."
            )
