"""Features as fewer channels, and back."""

from typing import Any

import keras

from keras_amalgam.layers.adapter import check_at_least_one, pointwise


@keras.saving.register_keras_serializable(package="keras_amalgam")
class Autoencoder(keras.layers.Layer):
    """A linear code of features, and the features again from the code; 1×1 convolutions, no bias.

    Args:
        units: Channels of the code.
        **kwargs: Further arguments of `keras.layers.Layer`.

    Input shape:
        A map `(batch, height, width, channels)` or a vector `(batch, channels)`.

    Output shape:
        The code, with `units` channels, and what is decoded from it, of the input's shape.

    Raises:
        ValueError: If `units` is below 1.

    Reference:
        [Shen et al., 2019](https://arxiv.org/abs/1811.02796)

    Example:
    ```python
    code, decoded = Autoencoder(64)(features)
    ```
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(units=units)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        rank = len(input_shape)
        channels: Any = input_shape[-1]
        self.encoder = pointwise(self.units, rank, dtype=self.dtype_policy)
        self.encoder.build(input_shape)
        self.decoder = pointwise(channels, rank, dtype=self.dtype_policy)
        self.decoder.build((*input_shape[:-1], self.units))

    def call(self, features: Any) -> tuple[Any, Any]:
        """Encode and decode the features."""
        code = self.encoder(features)
        return code, self.decoder(code)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units}
