"""Variant B of common feature learning: batch norm on maps, dense layers on vectors."""

from typing import Any

import keras
from keras import ops

from keras_amalgam.layers.adapter import check_at_least_one, pointwise
from keras_amalgam.layers.blocks import DenseBlock, NormalizedResidualBlock, batch_norm


@keras.saving.register_keras_serializable(package="keras_amalgam")
class AdapterB(keras.layers.Layer):
    """Maps one model's features to the common width: 1×1 convolution, batch norm, ReLU.

    On vectors a dense layer with bias, and ReLU.

    Args:
        units: Channels of the result, which are those of the common space.
        **kwargs: Of the layer.

    Input shape:
        A map `(batch, height, width, channels)` or a vector `(batch, channels)`.

    Output shape:
        The same with `units` channels.

    Raises:
        ValueError: If `units` is below 1.

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546), as implemented later by the same group
        in [KamalEngine](https://github.com/zju-vipa/KamalEngine)

    Example:
    ```python
    adapted = AdapterB(128)(features, training=True)
    ```
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(units=units)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights of the form for maps or for vectors."""
        self.norm = None
        if len(input_shape) == 4:
            self.linear = pointwise(self.units, 4, dtype=self.dtype_policy)
            self.norm = batch_norm((*input_shape[:-1], self.units), dtype=self.dtype_policy)
        else:
            self.linear = keras.layers.Dense(self.units, dtype=self.dtype_policy)
        self.linear.build(input_shape)

    def call(self, features: Any, training: bool | None = None) -> Any:
        """Adapt the features."""
        return ops.relu(_normalized(self.norm, self.linear(features), training))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="keras_amalgam")
class CommonExtractorB(keras.layers.Layer):
    """Maps adapted features of any model into the common space by residual blocks with batch norm.

    On vectors by dense layers. One extractor serves the student and all teachers. On maps each
    model's features need a call of their own in training: the statistics of a concatenated batch
    would be of no model.

    Args:
        units: Channels of the common space and of the adapted features.
        num_blocks: Residual blocks, or pairs of dense layers; 2 on maps and 1 on vectors by
            default.
        **kwargs: Of the layer.

    Input shape:
        Adapted features, a map or a vector.

    Output shape:
        The same with `units` channels.

    Raises:
        ValueError: If `units` or `num_blocks` is below 1.

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546), as implemented later by the same group
        in [KamalEngine](https://github.com/zju-vipa/KamalEngine)

    Example:
    ```python
    extractor = CommonExtractorB(128)
    student_common = extractor(student_adapted, training=True)
    teacher_common = extractor(teacher_adapted, training=True)
    ```
    """

    def __init__(self, units: int, num_blocks: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(units=units, num_blocks=1 if num_blocks is None else num_blocks)
        self.units = units
        self.num_blocks = num_blocks

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights of the form for maps or for vectors."""
        is_map = len(input_shape) == 4
        block = NormalizedResidualBlock if is_map else DenseBlock
        number = (2 if is_map else 1) if self.num_blocks is None else self.num_blocks
        self.blocks = [block(self.units, dtype=self.dtype_policy) for _ in range(number)]
        for block in self.blocks:
            block.build(input_shape)
            input_shape = (*input_shape[:-1], self.units)

    def call(self, adapted: Any, training: bool | None = None) -> Any:
        """Map into the common space."""
        for block in self.blocks:
            adapted = block(adapted, training=training)
        return adapted

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units, "num_blocks": self.num_blocks}


@keras.saving.register_keras_serializable(package="keras_amalgam")
class FeatureDecoderB(keras.layers.Layer):
    """From the common space back to one teacher's features.

    1×1 convolution to as many channels, batch norm, ReLU, 1×1 convolution with bias to the
    teacher's. On vectors a dense layer to the teacher's channels, ReLU, a dense layer.

    Args:
        channels: Of the teacher's features.
        **kwargs: Of the layer.

    Input shape:
        Common features, a map or a vector.

    Output shape:
        The same with `channels` channels.

    Raises:
        ValueError: If `channels` is below 1.

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546), as implemented later by the same group
        in [KamalEngine](https://github.com/zju-vipa/KamalEngine)

    Example:
    ```python
    reconstruction = FeatureDecoderB(512)(common, training=True)
    ```
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(channels=channels)
        self.channels = channels

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights of the form for maps or for vectors."""
        self.norm = None
        if len(input_shape) == 4:
            units: Any = input_shape[-1]
            inner = input_shape
            self.hidden = pointwise(units, 4, dtype=self.dtype_policy)
            self.norm = batch_norm(inner, dtype=self.dtype_policy)
            self.linear = keras.layers.Conv2D(self.channels, 1, dtype=self.dtype_policy)
        else:
            inner = (*input_shape[:-1], self.channels)
            self.hidden = keras.layers.Dense(self.channels, dtype=self.dtype_policy)
            self.linear = keras.layers.Dense(self.channels, dtype=self.dtype_policy)
        self.hidden.build(input_shape)
        self.linear.build(inner)

    def call(self, common: Any, training: bool | None = None) -> Any:
        """Reconstruct the features."""
        return self.linear(ops.relu(_normalized(self.norm, self.hidden(common), training)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"channels": self.channels}


def _normalized(norm: Any, features: Any, training: bool | None) -> Any:
    return features if norm is None else norm(features, training=training)
