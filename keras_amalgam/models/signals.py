"""What models give the terms on a batch: one type with one meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Signals:
    """What one model gives on a batch.

    Args:
        answers: By task. A teacher has one task, of its own name; the student has all.
        features: By tap name: maps `(batch, height, width, channels)` or vectors
            `(batch, channels)`. Empty without taps.
    """

    answers: Mapping[str, Any]
    features: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any) -> "Signals":
        """What a model of signals returned, or a data set brings along, as `as_dict` writes it.

        Raises:
            ValueError: If it is neither `Signals` nor a dict of answers and features.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping) or not {"answers"} <= set(value) <= {
            "answers",
            "features",
        }:
            keys = sorted(value) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(
                "Signals must be {'answers': {task: …}, 'features': {tap: …}}. Received: "
                f"{keys}. Make them with keras_amalgam.data.with_runtime_signals(images, teachers)."
            )
        return cls(value["answers"], value.get("features", {}))

    def as_dict(self) -> dict[str, Mapping[str, Any]]:
        """The form in which a data set carries signals, and a model returns them."""
        features = {"features": self.features} if self.features else {}
        return {"answers": self.answers, **features}

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes without the batch axis, as `{"answers/<task>": …, "features/<tap>": …}`."""
        return {
            f"{kind}/{name}": tuple(value.shape[1:])
            for kind, values in self.as_dict().items()
            for name, value in values.items()
        }
