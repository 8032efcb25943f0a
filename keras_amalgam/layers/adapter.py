"""From one model's features to the common width."""

from typing import Any

import keras


def pointwise(channels: int, rank: int, **kwargs: Any) -> keras.layers.Layer:
    """A linear map of the channels alone, without bias: 1×1 convolution or dense layer.

    Args:
        channels: Of the result.
        rank: Of the features: 4 for maps, 2 for vectors.
        **kwargs: Of the layer.
    """
    if rank == 4:
        return keras.layers.Conv2D(channels, 1, use_bias=False, **kwargs)
    return keras.layers.Dense(channels, use_bias=False, **kwargs)


def spatial(channels: int, rank: int, **kwargs: Any) -> keras.layers.Layer:
    """A 3×3 convolution without bias for maps; for vectors, which have no space, a dense layer."""
    if rank == 4:
        return keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, **kwargs)
    return keras.layers.Dense(channels, use_bias=False, **kwargs)


def check_at_least_one(**numbers: int) -> None:
    """Raise a `ValueError` unless every number of channels or blocks is at least 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {number}.")


@keras.saving.register_keras_serializable(package="keras_amalgam")
class Adapter(keras.layers.Layer):
    """Maps one model's features to the common width: 1×1 convolution, ReLU; no bias.

    Args:
        units: Channels of the result.
        **kwargs: Of the layer.

    Input shape:
        A map `(batch, height, width, channels)` or a vector `(batch, channels)`.

    Output shape:
        The same with `units` channels.

    Raises:
        ValueError: If `units` is below 1.

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546)

    Example:
    ```python
    adapted = Adapter(256)(features)
    ```
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(units=units)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        self.linear = pointwise(
            self.units, len(input_shape), activation="relu", dtype=self.dtype_policy
        )
        self.linear.build(input_shape)

    def call(self, features: Any) -> Any:
        """Adapt the features."""
        return self.linear(features)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units}
