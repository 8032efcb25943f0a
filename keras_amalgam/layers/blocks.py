"""The blocks that common extractors are made of; each calls stock layers alone."""

from typing import Any

import keras
from keras import ops

from keras_amalgam.layers.adapter import check_at_least_one, pointwise, spatial


def batch_norm(channels_shape: tuple[int | None, ...], **kwargs: Any) -> keras.layers.Layer:
    """Batch normalization of the channels with the constants of the published code, built.

    Args:
        channels_shape: Shape of what it normalises, channels last.
        **kwargs: Of the layer.
    """
    norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **kwargs)
    norm.build(channels_shape)
    return norm


@keras.saving.register_keras_serializable(package="keras_amalgam")
class ResidualBlock(keras.layers.Layer):
    """3×3 convolution, ReLU, 3×3 convolution, added to the skip, ReLU; no bias, no batch norm.

    The skip is a 1×1 convolution where the channels change.

    Args:
        units: Channels of the result.
        **kwargs: Of the layer.

    Raises:
        ValueError: If `units` is below 1.

    Example:
    ```python
    common = ResidualBlock(128)(adapted)
    ```
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(units=units)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        rank, inner = len(input_shape), (*input_shape[:-1], self.units)
        self.first = spatial(self.units, rank, activation="relu", dtype=self.dtype_policy)
        self.first.build(input_shape)
        self.second = spatial(self.units, rank, dtype=self.dtype_policy)
        self.second.build(inner)
        self.skip = None
        if input_shape[-1] != self.units:
            self.skip = pointwise(self.units, rank, dtype=self.dtype_policy)
            self.skip.build(input_shape)

    def call(self, features: Any) -> Any:
        """Apply the block."""
        skip = features if self.skip is None else self.skip(features)
        return ops.relu(self.second(self.first(features)) + skip)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="keras_amalgam")
class NormalizedResidualBlock(keras.layers.Layer):
    """3×3 convolution, ReLU, 3×3 convolution, added to the skip, ReLU; batch norm after each.

    The skip is a 1×1 convolution with batch norm where the channels change. In training the images
    of a batch see each other through its statistics, so that each model's features need a call of
    their own.

    Args:
        units: Channels of the result.
        **kwargs: Of the layer.

    Input shape:
        A map `(batch, height, width, channels)`.

    Output shape:
        The same with `units` channels.

    Raises:
        ValueError: If `units` is below 1.

    Example:
    ```python
    common = NormalizedResidualBlock(128)(adapted, training=True)
    ```
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(units=units)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        inner = (*input_shape[:-1], self.units)
        self.first = spatial(self.units, 4, dtype=self.dtype_policy)
        self.first.build(input_shape)
        self.first_norm = batch_norm(inner, dtype=self.dtype_policy)
        self.second = spatial(self.units, 4, dtype=self.dtype_policy)
        self.second.build(inner)
        self.second_norm = batch_norm(inner, dtype=self.dtype_policy)
        self.skip = None
        if input_shape[-1] != self.units:
            self.skip = pointwise(self.units, 4, dtype=self.dtype_policy)
            self.skip.build(input_shape)
            self.skip_norm = batch_norm(inner, dtype=self.dtype_policy)

    def call(self, features: Any, training: bool | None = None) -> Any:
        """Apply the block."""
        hidden = ops.relu(self.first_norm(self.first(features), training=training))
        hidden = self.second_norm(self.second(hidden), training=training)
        skip = features
        if self.skip is not None:
            skip = self.skip_norm(self.skip(features), training=training)
        return ops.relu(hidden + skip)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="keras_amalgam")
class DenseBlock(keras.layers.Layer):
    """Dense layer, ReLU, dense layer, with biases: the residual block's counterpart on vectors.

    Args:
        units: Channels of the result and between the layers.
        **kwargs: Of the layer.

    Input shape:
        A vector `(batch, channels)`.

    Output shape:
        `(batch, units)`.

    Raises:
        ValueError: If `units` is below 1.

    Example:
    ```python
    common = DenseBlock(128)(adapted)
    ```
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(units=units)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        self.first = keras.layers.Dense(self.units, activation="relu", dtype=self.dtype_policy)
        self.first.build(input_shape)
        self.second = keras.layers.Dense(self.units, dtype=self.dtype_policy)
        self.second.build((*input_shape[:-1], self.units))

    def call(self, features: Any) -> Any:
        """Apply the block."""
        return self.second(self.first(features))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units}
