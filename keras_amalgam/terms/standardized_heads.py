"""Each teacher has a disposable head on the student that predicts its standardised features."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_amalgam.layers.adapter import check_at_least_one
from keras_amalgam.layers.moments import Moments
from keras_amalgam.losses.feature import cosine_distance, smooth_l1
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms.features import (
    FeatureTerm,
    channels_at,
    common_size,
    pooled_to,
    shapes_at,
)
from keras_amalgam.terms.term import Losses, ModelSpec, Observation

# A channel of less deviation than this share of the largest one is dead, and not blown up.
DEAD = 1e-3


@keras.saving.register_keras_serializable(package="keras_amalgam")
class StandardizedHeads(FeatureTerm):
    """Half cosine, half smooth absolute error to each teacher's standardised features.

    At every tap each teacher has a head of two layers on the student's features, which is thrown
    away after the training. Its target has mean zero and variance one in every channel over the
    images, as found before the first step, so that no teacher and no channel outweighs another.
    Maps of different sizes are brought to the smallest by adaptive average pooling.

    In training the teacher that the student is furthest from is kept for every image, and each
    other one is dropped at random: the student cannot settle for the easiest.

    Args:
        weight: The term's coefficient.
        units: Channels of the heads' hidden layer; by default the student's own at the tap.
        dropping: Probability with which each teacher but the furthest is dropped on an image.
        taps: Where features are read; by default at all taps that the models share.
        seed: Of the dropping.
        name: Key in the history.
        **kwargs: Of the layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    ```python
    terms = [SoftTargets(), StandardizedHeads(weight=1.0)]
    ```

    Reference:
        [Sariyildiz et al., 2024](https://arxiv.org/abs/2408.05088), UNIC
    """

    def __init__(
        self,
        weight: float = 1.0,
        units: int | None = None,
        dropping: float = 0.5,
        taps: str | Sequence[str] | None = None,
        seed: int = 0,
        name: str | None = "standardized_heads",
        **kwargs: Any,
    ) -> None:
        super().__init__(taps=taps, weight=weight, name=name, **kwargs)
        if units is not None:
            check_at_least_one(units=units)
        if not 0 <= dropping <= 1:
            raise ValueError(f"`dropping` must be from 0 to 1. Received: {dropping}.")
        self.units = units
        self.dropping = dropping
        self.seed = seed

    @property
    def losses_per_tap(self) -> tuple[str, ...]:
        """The two halves of the loss at a tap."""
        return ("cosine", "smooth_l1")

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Create a head per tap and teacher, and room for the statistics."""
        self.connect_taps(student, teachers)
        self._sizes = {tap: common_size(shapes_at(tap, student, teachers)) for tap in self.reads}
        self.heads: list[keras.Sequential] = []
        self.means: list[Any] = []
        self.deviations: list[Any] = []
        for tap in self.reads:
            places = (None, *(self._sizes[tap] or ()))
            width = channels_at(tap, student)
            for spec in teachers.values():
                channels = channels_at(tap, spec)
                head = keras.Sequential(
                    [
                        keras.layers.Dense(
                            self.units or width, activation="gelu", dtype=self.dtype_policy
                        ),
                        keras.layers.Dense(channels, dtype=self.dtype_policy),
                    ]
                )
                head.build((*places, width))
                self.heads.append(head)
                number = len(self.means)
                self.means.append(self.add_statistic(f"mean_{number}", (channels,), "zeros"))
                self.deviations.append(self.add_statistic(f"deviation_{number}", (channels,)))
        self._random = keras.random.SeedGenerator(self.seed)

    def adapt(self, batches: Iterable[Observation]) -> None:
        """Find mean and deviation of every channel of every teacher."""
        moments = [Moments(variances_only=True) for _ in self.heads]
        for seen in batches:
            found = (
                pooled_to(signals.features[tap], self._sizes[tap])
                for tap in self.reads
                for signals in seen.teachers.values()
            )
            for one, features in zip(moments, found, strict=True):
                one.update(ops.convert_to_numpy(features))
        for one, mean, deviation in zip(moments, self.means, self.deviations, strict=True):
            one.check_varied()
            found_deviation = np.sqrt(one.variances)
            least = max(DEAD * found_deviation.max(), np.finfo("float32").tiny)
            mean.assign(one.mean)
            deviation.assign(np.maximum(found_deviation, least))

    def call(
        self,
        student: Signals,
        teachers: Mapping[str, Signals],
        batch: Batch,
        training: bool | None = None,
    ) -> Losses:
        """Both halves per sample, tap and teacher."""
        losses: Losses = {name: {} for name in teachers}
        number = 0
        for tap in self.reads:
            features = pooled_to(student.features[tap], self._sizes[tap])
            for name, signals in teachers.items():
                target = pooled_to(ops.cast(signals.features[tap], "float32"), self._sizes[tap])
                target = (target - self.means[number]) / self.deviations[number]
                predicted = self.heads[number](features, training=training)
                losses[name] |= {
                    self.component(tap, "cosine"): 0.5 * cosine_distance(predicted, target),
                    self.component(tap, "smooth_l1"): 0.5 * smooth_l1(predicted, target),
                }
                number += 1
        return self._with_dropping(losses) if training and self.dropping else losses

    def _with_dropping(self, losses: Losses) -> Losses:
        """Losses of zero where a teacher is dropped on an image."""
        sums = ops.stack([sum(parts.values()) for parts in losses.values()])
        furthest = ops.equal(sums, ops.max(sums, axis=0, keepdims=True))
        lucky = keras.random.uniform(ops.shape(sums), seed=self._random) >= self.dropping
        kept = ops.cast(ops.logical_or(furthest, lucky), "float32")
        return {
            name: {part: loss * kept[place] for part, loss in parts.items()}
            for place, (name, parts) in enumerate(losses.items())
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "units": self.units,
            "dropping": self.dropping,
            "seed": self.seed,
        }
