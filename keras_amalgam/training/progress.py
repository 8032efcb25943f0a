"""What a training says while it runs, and the table that it leaves of its epochs."""

import csv
import io
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.files.writing import write_text
from keras_amalgam.training.state import Place

_EVERY = 15.0  # Seconds between two lines where nobody watches, and a tenth of it where one does.
_STEADY = 3  # Steps after which the speed is this process's own; the first ones build graphs.


@dataclass(frozen=True)
class Length:
    """How long a training is, and what comes after it.

    Args:
        epochs: Of each stage.
        total: Steps of all stages together.
        steps: Of one epoch.
        batch_size: Images of one step.
        later: From seconds a step to seconds of everything that follows the training.
    """

    epochs: Sequence[int]
    total: int
    steps: int
    batch_size: int
    later: Callable[[float], float] = lambda seconds: 0.0

    def done(self, place: Place) -> int:
        """Steps that are behind a place."""
        earlier = sum(self.epochs[: place.stage]) + place.epoch
        return self.steps * earlier + place.step


class Progress(keras.callbacks.Callback):
    """Says the images per second, the time that is left and every term's loss.

    Args:
        length: Of the training.
        begun: Where this process begins.
        seconds: Time spent training before it, from which the time that is left is told until this
            process has steps of its own.
        say: Where lines go; on a terminal, one line that changes.
    """

    def __init__(
        self, length: Length, begun: Place, seconds: float, say: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._length, self._place, self._say = length, begun, say
        done = length.done(begun)
        self._before = seconds / done if done and seconds else None
        self._left = begun.step
        self._times: list[float] = []
        self._said = time.monotonic()
        self._on_terminal = say is print and sys.stdout.isatty()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Say how it goes, if it is time."""
        if self._left > 0:  # An earlier process trained on it.
            self._left -= self.model.steps_per_execution
            return
        now = time.monotonic()
        self._times = [*self._times[-200:], now]
        step = min(batch + 1, self._length.steps)
        self._place = Place(self._place.stage, self._place.epoch, step)
        is_time = now - self._said > (_EVERY / 10 if self._on_terminal else _EVERY)
        if is_time and step < self._length.steps:  # The epoch's end says its last step.
            self._show(self.line(logs or {}))
            self._said = now

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Say how it went."""
        self._show(self.line(logs or {}), ends=True)
        self._place = Place(self._place.stage, self._place.epoch + 1)
        self._said = time.monotonic()

    def line(self, logs: Mapping[str, Any]) -> str:
        """One line about where the training stands.

        Args:
            logs: Losses by history key.
        """
        length, place = self._length, self._place
        epoch = sum(length.epochs[: place.stage]) + place.epoch + 1
        where = f"epoch {epoch}/{sum(length.epochs)} step {place.step}/{length.steps}"
        seconds = self.seconds_per_step
        rate = self.images_per_second
        speed = "" if rate is None else f", {rate:.0f} images/s"
        left = "" if seconds is None else f", {in_words(self._seconds_left(seconds))} left"
        return f"{where}{speed}{left}: {losses_in_words(logs)}"

    @property
    def seconds_per_step(self) -> float | None:
        """Of the latest steps, of the earlier processes' until there are some, or `None`."""
        steady = self._times[_STEADY:]
        if len(steady) < 2:
            return self._before
        execution = max(1, getattr(self.model, "steps_per_execution", 1))
        return (steady[-1] - steady[0]) / (len(steady) - 1) / execution

    @property
    def images_per_second(self) -> float | None:
        """At the present speed; `None` before it is known."""
        seconds = self.seconds_per_step
        return None if seconds is None else self._length.batch_size / max(seconds, 1e-9)

    def _seconds_left(self, seconds: float) -> float:
        left = max(0, self._length.total - self._length.done(self._place))
        return left * seconds + self._length.later(seconds)

    def _show(self, line: str, ends: bool = False) -> None:
        if not self._on_terminal:
            self._say(line)
            return
        width = shutil.get_terminal_size().columns - 1
        sys.stdout.write(f"\r{line[:width]:{width}}" + ("\n" if ends else ""))
        sys.stdout.flush()


class WriteHistory(keras.callbacks.Callback):
    """Writes a table with one row an epoch, as they end: speed, learning rate and every loss.

    Args:
        path: Of the file.
        epochs: Those whose rows stay, as later ones were not kept; `None` for all.
        progress: Which knows the speed.
    """

    def __init__(self, path: Path, epochs: int | None, progress: Progress) -> None:
        super().__init__()
        self._path, self._progress = path, progress
        self._rows = read_history(path)[:epochs]

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Add the epoch."""
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        about = {
            "epoch": len(self._rows) + 1,
            "images_per_second": self._progress.images_per_second,
            "learning_rate": float(rate),
        }
        self._rows.append({**about, **{key: float(value) for key, value in (logs or {}).items()}})
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows)
        write_text(self._path, text.getvalue())


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a `history.csv`; none if there is no such file."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def losses_in_words(logs: Mapping[str, Any]) -> str:
    """`loss 0.71 = soft_targets 0.51 (digits 0.2, clothes 0.31) + common_features 0.2 (…)`."""
    parts = []
    for term in (key for key in logs if "/" not in key and key != "loss"):
        keys = [key for key in logs if key.startswith(f"{term}/") and key.count("/") == 1]
        inside = ", ".join(f"{key.split('/')[1]} {float(logs[key]):.3g}" for key in keys)
        parts.append(f"{term} {float(logs[term]):.3g}" + (f" ({inside})" if inside else ""))
    total = f"loss {float(logs['loss']):.3g}" if "loss" in logs else ""
    return " = ".join(filter(None, [total, " + ".join(parts)]))


def in_words(seconds: float) -> str:
    """A time as people say it: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
