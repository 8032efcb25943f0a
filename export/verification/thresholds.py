"""What an artifact must keep to before it may be used."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from keras_amalgam.export import parity
from keras_amalgam.export.arguments import check_limit
from keras_amalgam.export.serving.endpoints import FLOAT

NEED_LABELS = ("max_accuracy_loss", "min_accuracy")


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Limits on what verification measures; `None` means no limit.

    Without `max_error` and `min_agreement` the bounds of the precision hold, as in `to_tflite`.
    What is no number, or is out of its range, is a `ValueError`.

    Attributes:
        max_error: Largest allowed difference of a logit from the Keras student's.
        min_agreement: Smallest allowed share of images with the student's class, 0..1: on what the
            artifact was given, and on the student's canvas.
        max_accuracy_loss: How many points of accuracy a task may lose against the student on its
            canvas.
        min_accuracy: Smallest allowed accuracy of a task, 0..1.
        max_bytes: Of the artifact on disk.
        max_memory_bytes: That loading and running one image may add to a process.
        max_latency_ms: Median for one image on one thread, in milliseconds.
    """

    max_error: float | None = None
    min_agreement: float | None = None
    max_accuracy_loss: float | None = None
    min_accuracy: float | None = None
    max_bytes: int | None = None
    max_memory_bytes: int | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        """Refuses limits out of range."""
        for field in dataclasses.fields(self):
            value, lowest, highest = getattr(self, field.name), 0.0, math.inf
            if field.name.startswith("min_"):
                highest = 1.0
            elif field.name == "max_accuracy_loss":  # A loss below 0 asks for a gain.
                lowest, highest = -100.0, 100.0
            check_limit(field.name, value, lowest, highest, "no limit")

    def check_measurable(self, labelled: Mapping[str, Any] | None) -> None:
        """Refuses limits on accuracy where no accuracy will be measured.

        Args:
            labelled: As in `verify`.

        Raises:
            ValueError: If there are no labelled images, and a limit needs them.
        """
        wanted = [name for name in NEED_LABELS if getattr(self, name) is not None]
        if wanted and not labelled:
            raise ValueError(
                f"The limit on accuracy has nothing to be held against. Received: "
                f"`{wanted[0]}` without labelled images. Expected: images of known classes. Pass "
                "`labelled={task: folder}`, on the command line --test TASK=DIR, or drop the limit."
            )

    def bounds(self, precision: str) -> parity.Bounds:
        """How far a precision's logits may be from the student's."""
        return parity.bounds_for(precision, self.max_error, self.min_agreement)

    def missed(
        self, measured: Mapping[str, Any], heads: Mapping[str, parity.HeadParity], precision: str
    ) -> list[str]:
        """What the measurements miss, a sentence each; empty if all is well.

        Args:
            measured: A verification's numbers.
            heads: Head to its agreement with the student.
            precision: The artifact's.
        """
        missed = []
        for one in parity.exceeded(heads, self.bounds(precision)):
            missed.append(
                f"Task '{one.head}' disagrees with the student. Received: {one.received}. "
                f"Expected: {one.expected}."
            )
        for what, value, word, limit in self._limits(measured):
            # Written so that a NaN misses.
            kept = value >= limit if word == "at least" else value <= limit
            if not kept:
                missed.append(f"{what}. Received: {value:.6g}. Expected: {word} {limit:.6g}.")
        return missed

    def _limits(self, measured: Mapping[str, Any]) -> Iterator[tuple[str, float, str, float]]:
        latency = measured["latency_ms"]["one_thread"]["median"]
        limits = [
            ("The artifact is too large, in bytes", measured["bytes"], "at most", self.max_bytes),
            (
                "It takes too much memory, in bytes",
                measured["memory_bytes"],
                "at most",
                self.max_memory_bytes,
            ),
            ("One image takes too long, in ms", latency, "at most", self.max_latency_ms),
        ]
        for task, one in measured["accuracy"].items():
            for signature, accuracy in one.get("signatures", {FLOAT: one["artifact"]}).items():
                whose = f"Task '{task}'"
                if signature != FLOAT:
                    whose = f"Signature '{signature}', task '{task}',"
                loss = 100 * (one["student"] - accuracy)
                what = f"{whose} loses too many points of accuracy"
                limits.append((what, loss, "at most", self.max_accuracy_loss))
                what = f"{whose} is not accurate enough"
                limits.append((what, accuracy, "at least", self.min_accuracy))
        for what, value, word, limit in limits:
            if limit is not None:
                yield what, value, word, limit
