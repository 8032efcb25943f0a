"""All teachers' features at a tap as one code, which the student learns."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_amalgam.layers.adapter import pointwise
from keras_amalgam.layers.autoencoder import Autoencoder
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
class LayerwiseCodes(FeatureTerm):
    """A linear autoencoder over all teachers at each tap, whose code the student regresses.

    With the teachers' features F₁ … F_n side by side, an encoder E and a decoder D, both 1×1
    convolutions, and a regressor R on the student's features F_s:

    - `reconstruction`, of each teacher: its part of ‖D(E(F)) − F‖², the mean over its channels;
    - `code`: the mean of (R(F_s) − E(F))², in equal shares for the teachers. The code is a target
      here: its gradient does not reach the encoder.

    The code has as many channels as the student has at the tap. The authors match a layer of the
    student to the code itself; R lets the student's features end in an activation, where a code
    would have to be positive. Maps of different sizes are brought to the smallest by adaptive
    average pooling.

    Args:
        weight: The term's coefficient.
        taps: Where features are read; by default at all taps that the models share.
        name: Key in the history.
        **kwargs: Further arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    ```python
    term = LayerwiseCodes(taps=("mid", "top"))
    ```

    Reference:
        [Shen et al., 2019](https://arxiv.org/abs/1811.02796)
    """

    def __init__(
        self,
        weight: float = 1.0,
        taps: str | Sequence[str] | None = None,
        name: str | None = "layerwise_codes",
        **kwargs: Any,
    ) -> None:
        super().__init__(taps=taps, weight=weight, name=name, **kwargs)

    @property
    def losses_per_tap(self) -> tuple[str, ...]:
        """How well the code keeps the teachers, and how well the student knows the code."""
        return ("reconstruction", "code")

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Create an autoencoder and a regressor for every tap."""
        self.connect_taps(student, teachers)
        self._sizes = {tap: common_size(shapes_at(tap, student, teachers)) for tap in self.reads}
        self.autoencoders: list[Autoencoder] = []
        self.regressors: list[keras.layers.Layer] = []
        for tap in self.reads:
            width = channels_at(tap, student)
            together = sum(channels_at(tap, spec) for spec in teachers.values())
            places = (None, *(self._sizes[tap] or ()))
            autoencoder = Autoencoder(width, name=f"{tap}_autoencoder", dtype=self.dtype_policy)
            autoencoder.build((*places, together))
            self.autoencoders.append(autoencoder)
            regressor = pointwise(width, len(places) + 1, dtype=self.dtype_policy)
            regressor.build((*places, width))
            self.regressors.append(regressor)

    def call(self, student: Signals, teachers: Mapping[str, Signals], batch: Batch) -> Losses:
        """Both errors per sample, tap and teacher."""
        losses: Losses = {name: {} for name in teachers}
        for number, tap in enumerate(self.reads):
            size = self._sizes[tap]
            targets = {
                name: pooled_to(signals.features[tap], size) for name, signals in teachers.items()
            }
            together = ops.concatenate([*targets.values()], axis=-1)
            code, decoded = self.autoencoders[number](together)
            regressed = self.regressors[number](pooled_to(student.features[tap], size))
            error = squared_error(regressed, ops.stop_gradient(code)) / len(teachers)
            start = 0
            for name, target in targets.items():
                own = decoded[..., start : start + target.shape[-1]]
                start += target.shape[-1]
                losses[name][self.component(tap, "reconstruction")] = squared_error(own, target)
                losses[name][self.component(tap, "code")] = error
        return losses
