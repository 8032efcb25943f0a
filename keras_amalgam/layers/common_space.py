"""The layers shared by the student and all teachers, and the way back."""

from typing import Any

import keras

from keras_amalgam.layers.adapter import check_at_least_one, pointwise, spatial
from keras_amalgam.layers.blocks import ResidualBlock


@keras.saving.register_keras_serializable(package="keras_amalgam")
class CommonExtractor(keras.layers.Layer):
    """Maps adapted features of any model into the common space: three residual blocks.

    One extractor serves the student and all teachers: that its weights are shared is what makes
    the space common.

    Args:
        units: Channels h of the common space; the adapted features have 2h.
        num_blocks: Residual blocks; the first changes the channels.
        **kwargs: Of the layer.

    Input shape:
        Adapted features, a map or a vector.

    Output shape:
        The same with `units` channels.

    Raises:
        ValueError: If `units` or `num_blocks` is below 1.

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546)

    Example:
    ```python
    extractor = CommonExtractor(128)
    student_common, teacher_common = extractor(student_adapted), extractor(teacher_adapted)
    ```
    """

    def __init__(self, units: int, num_blocks: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(units=units, num_blocks=num_blocks)
        self.units = units
        self.num_blocks = num_blocks

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        self.blocks = [
            ResidualBlock(self.units, dtype=self.dtype_policy) for _ in range(self.num_blocks)
        ]
        for block in self.blocks:
            block.build(input_shape)
            input_shape = (*input_shape[:-1], self.units)

    def call(self, adapted: Any) -> Any:
        """Map into the common space."""
        for block in self.blocks:
            adapted = block(adapted)
        return adapted

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units, "num_blocks": self.num_blocks}


@keras.saving.register_keras_serializable(package="keras_amalgam")
class FeatureDecoder(keras.layers.Layer):
    """From the common space back to one teacher's features.

    3×3 convolution to the teacher's channels, ReLU, 1×1 convolution, linear; no bias.

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
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546)

    Example:
    ```python
    reconstruction = FeatureDecoder(512)(common)
    ```
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_at_least_one(channels=channels)
        self.channels = channels

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        rank, inner = len(input_shape), (*input_shape[:-1], self.channels)
        self.hidden = spatial(self.channels, rank, activation="relu", dtype=self.dtype_policy)
        self.hidden.build(input_shape)
        self.linear = pointwise(self.channels, rank, dtype=self.dtype_policy)
        self.linear.build(inner)

    def call(self, common: Any) -> Any:
        """Reconstruct the features."""
        return self.linear(self.hidden(common))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"channels": self.channels}
