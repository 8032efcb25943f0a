"""The student's features, turned but not deformed, are drawn to each teacher's."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_amalgam.layers.orthogonal_linear import OrthogonalLinear
from keras_amalgam.losses.feature import smooth_l1
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms.features import FeatureTerm, as_vector, channels_at
from keras_amalgam.terms.term import Losses, ModelSpec

# Of a layer normalization.
EPSILON = 1e-5


@keras.saving.register_keras_serializable(package="keras_amalgam")
class OrthogonalProjection(FeatureTerm):
    """Smooth absolute error between teachers' normalised features and a turned student's.

    The student's features, averaged over their places, pass a map per teacher whose kernel is
    always orthonormal: it keeps distances and drops nothing, so that what is to be learned must be
    learned by the student. The target is the teacher's averaged feature with mean zero and variance
    one over its channels, which evens out teachers of other scales.

    Args:
        weight: The term's coefficient.
        taps: Where features are read; by default at all taps that the models share. Maps and
            vectors may meet.
        name: Key in the history.
        **kwargs: Of the layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    ```python
    terms = [SoftTargets(), OrthogonalProjection(taps="top", weight=1.0)]
    ```

    Reference:
        [Miles et al., 2024](https://arxiv.org/abs/2403.06213), VkD
    """

    def __init__(
        self,
        weight: float = 1.0,
        taps: str | Sequence[str] | None = None,
        name: str | None = "orthogonal_projection",
        **kwargs: Any,
    ) -> None:
        super().__init__(taps=taps, weight=weight, name=name, **kwargs)

    @property
    def losses_per_tap(self) -> tuple[str, ...]:
        """The one loss at a tap."""
        return ("projection",)

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Create a projection per tap and teacher."""
        self.connect_taps(student, teachers, same_rank=False)
        self.projections: list[OrthogonalLinear] = []
        for tap in self.reads:
            for spec in teachers.values():
                projection = OrthogonalLinear(channels_at(tap, spec), seed=len(self.projections))
                projection.build((None, channels_at(tap, student)))
                self.projections.append(projection)

    def call(self, student: Signals, teachers: Mapping[str, Signals], batch: Batch) -> Losses:
        """The error per sample, tap and teacher."""
        losses: Losses = {name: {} for name in teachers}
        projections = iter(self.projections)
        for tap in self.reads:
            features = as_vector(student.features[tap])
            for name, signals in teachers.items():
                target = _normalized(as_vector(signals.features[tap]))
                error = smooth_l1(next(projections)(features), target)
                losses[name][self.component(tap, "projection")] = error
        return losses


def _normalized(features: Any) -> Any:
    """Rows of mean zero and variance one, as after a layer normalization without weights."""
    features = ops.cast(features, "float32")
    mean = ops.mean(features, axis=-1, keepdims=True)
    variance = ops.var(features, axis=-1, keepdims=True)
    return (features - mean) / ops.sqrt(variance + EPSILON)
