"""Keeping a training's state on disk as it goes."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.training import state
from keras_amalgam.training.interruption import Interrupted, Request
from keras_amalgam.training.state import Place, State


def check_keeping(keep: int, minutes: float) -> None:
    """Raise a `ValueError` unless a state stays and the time between two is not negative."""
    if not (keep >= 1 and 0 <= minutes < float("inf")):  # NaN is neither.
        raise ValueError(
            "At least one state stays, and time between two is not negative. Received: "
            f"keep={keep}, minutes={minutes}. Leave them out for 3 and 5."
        )


@dataclass(frozen=True)
class Keeping:
    """Where and how often the state of a training is kept, so that it can go on.

    Args:
        folder: Of this training alone; made if it is not there.
        made_from: What the training depends on beside its teachers, method, student and number of
            batches, JSON-ready, such as its images. A training that was begun with something else
            is not continued.
        keep: How many states stay, at least 1.
        minutes: The longest time between two states, at least 0; one is also written every epoch.

    Raises:
        ValueError: If `keep` or `minutes` is out of its range.

    Example:
    ```python
    train(…, keeping=Keeping("runs/mine", made_from={"images": "photos, 2026"}))
    ```
    """

    folder: str | Path
    made_from: Mapping[str, Any] = field(default_factory=dict)
    keep: int = 3
    minutes: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what would keep nothing."""
        check_keeping(self.keep, self.minutes)

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.folder)

    def begun(self) -> tuple[State, Path | None]:
        """The state to go on from, and its file: a fresh state and `None` if there is none.

        Raises:
            ValueError: If it was made from something else; says what differs.
        """
        found = state.latest(self.path)
        if found is None:
            return State(made_from=self.made_from), None
        differing = state.differences(found[0].made_from, self.made_from)
        if differing:
            raise ValueError(
                f"The training in {self.folder} cannot go on with something else than it was begun "
                f"with. Received: {'; '.join(differing)}. Go on with the same, or begin anew in "
                "another folder."
            )
        return found


class StopAfter(keras.callbacks.Callback):
    """Ends a stage after a number of steps, in the middle of an epoch.

    Args:
        steps: Of the stage.
        begun: Where this process begins.
        epoch_steps: Steps of one epoch.
    """

    def __init__(self, steps: int, begun: Place, epoch_steps: int) -> None:
        super().__init__()
        self._left = steps - begun.epoch * epoch_steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the step, one that an earlier process trained on as well."""
        self._left -= self.model.steps_per_execution
        if self._left <= 0:
            self.model.stop_training = True


class KeepState(keras.callbacks.Callback):
    """Writes the state every epoch, every few minutes and when the training is to end.

    Comes last among the callbacks, so that what the others changed is in the state.

    Args:
        keeping: Where and how often; `None` writes nothing and keeps the history alone.
        begun: The state the stage begins with: a fresh one, or that of an earlier process.
        means: The running means of an epoch that was begun already, from `state.restore`.
        request: What says that the training is to end.
        others: The callbacks before this one; those with `get_state` are kept.
    """

    def __init__(
        self,
        keeping: Keeping | None,
        begun: State,
        means: Sequence[np.ndarray],
        request: Request,
        others: Sequence[Any],
    ) -> None:
        super().__init__()
        self.state = begun
        self._keeping, self._means, self._request = keeping, means, request
        self._others = others
        self._left = begun.place.step
        self._began = self._written = time.monotonic()
        self._before = begun.seconds

    def on_train_begin(self, logs: Any = None) -> None:
        """Pass over the batches of the epoch that an earlier process trained on."""
        if self._left:
            self.model.train_function = self._passing_over(self.model.train_function)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Put back the running means that `fit` has just reset."""
        if self._left > 0:
            state.restore_means(self.model, self._means)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the step; write the state if it is time, or if the training is to end."""
        if self._left > 0:  # It was passed over.
            self._left -= self.model.steps_per_execution
            return
        place = self.state.place
        self._note(place=dataclasses.replace(place, step=batch + 1))
        if self._request.signal:
            self._write()
            raise Interrupted(self._request.signal)
        if self._keeping and time.monotonic() - self._written > 60.0 * self._keeping.minutes:
            self._write()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Add the epoch to the history and write the state."""
        self.state = self.state.with_epoch({k: float(v) for k, v in (logs or {}).items()})
        # A stage that is told to stop has no epoch left, whoever goes on from here.
        done = self.params["epochs"] if self.model.stop_training else epoch + 1
        place = Place(self.state.place.stage, done - self.state.epochs_before, 0)
        self._note(place=place)
        self._write()

    def finish(self, epochs: int, last: bool) -> State:
        """Write the end of a stage.

        Args:
            epochs: Of the stage; it may have ended before them.
            last: Whether no other stage follows.
        """
        self._note(place=Place(self.state.place.stage, epochs), finished=last)
        self._write()
        return self.state

    def _note(self, **changes: Any) -> None:
        seconds = self._before + time.monotonic() - self._began
        self.state = dataclasses.replace(self.state, seconds=seconds, **changes)

    def _write(self) -> None:
        kept = {
            str(number): callback.get_state()
            for number, callback in enumerate(self._others)
            if hasattr(callback, "get_state")
        }
        self._note(callbacks=kept)
        if self._keeping:
            state.save(self._keeping.path, self.state, self.model, self._keeping.keep)
        self._written = time.monotonic()

    def _passing_over(self, train: Any) -> Any:
        """A step that draws the batches that were trained on, and leaves everything as it is."""

        def step(iterator: Any) -> dict[str, Any]:
            if self._left <= 0:
                return train(iterator)
            for _ in range(self.model.steps_per_execution):
                next(iterator)
            return {key: mean.result() for key, mean in self.model._means.items()}

        return step
