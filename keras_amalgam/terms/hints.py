"""The student's features are regressed to each teacher's."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_amalgam.layers.adapter import pointwise
from keras_amalgam.losses.feature import squared_error
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms.features import (
    FeatureTerm,
    channels_at,
    common_size,
    pooled_to,
    shapes_at,
)
from keras_amalgam.terms.term import Losses, ModelSpec


@keras.saving.register_keras_serializable(package="keras_amalgam")
class Hints(FeatureTerm):
    """Squared error between each teacher's features and a linear map of the student's.

    At every tap each teacher has a regressor of its own on the student's features, a 1×1
    convolution for maps. Maps of different sizes are brought to the smallest by adaptive average
    pooling. The error is in the teacher's own units: of teachers with features of other scales, the
    larger ones weigh more.

    Args:
        weight: The term's coefficient.
        taps: Where features are read; by default at all taps that the models share.
        name: Key in the history.
        **kwargs: Of the layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    ```python
    term = Hints(taps=("mid", "top"), weight=0.1)
    ```

    Reference:
        [Romero et al., 2015](https://arxiv.org/abs/1412.6550), FitNets
    """

    def __init__(
        self,
        weight: float = 1.0,
        taps: str | Sequence[str] | None = None,
        name: str | None = "hints",
        **kwargs: Any,
    ) -> None:
        super().__init__(taps=taps, weight=weight, name=name, **kwargs)

    @property
    def losses_per_tap(self) -> tuple[str, ...]:
        """The one loss at a tap."""
        return ("hint",)

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Create a regressor per tap and teacher."""
        self.connect_taps(student, teachers)
        self._sizes = {tap: common_size(shapes_at(tap, student, teachers)) for tap in self.reads}
        self.regressors: list[keras.layers.Layer] = []
        for tap in self.reads:
            places = (None, *(self._sizes[tap] or ()))
            for spec in teachers.values():
                regressor = pointwise(
                    channels_at(tap, spec), len(places) + 1, dtype=self.dtype_policy
                )
                regressor.build((*places, channels_at(tap, student)))
                self.regressors.append(regressor)

    def call(self, student: Signals, teachers: Mapping[str, Signals], batch: Batch) -> Losses:
        """The squared error per sample, tap and teacher."""
        losses: Losses = {name: {} for name in teachers}
        regressors = iter(self.regressors)
        for tap in self.reads:
            features = pooled_to(student.features[tap], self._sizes[tap])
            for name, signals in teachers.items():
                target = pooled_to(signals.features[tap], self._sizes[tap])
                error = squared_error(next(regressors)(features), target)
                losses[name][self.component(tap, "hint")] = error
        return losses
