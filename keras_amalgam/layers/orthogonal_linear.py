"""A linear map that keeps lengths and angles."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_amalgam.layers.adapter import check_at_least_one


@keras.saving.register_keras_serializable(package="keras_amalgam")
class OrthogonalLinear(keras.layers.Layer):
    """Maps a student's features to a teacher's channels by a kernel that is always orthonormal.

    The map has no freedom to shrink, stretch or drop what the student learned, so that imitating
    through it shapes the student instead of the map. The kernel's columns are orthonormal if the
    result has fewer channels than the input, else its rows are, and the map keeps all distances.

    With `n` the larger and `p` the smaller number of channels, B a fixed random n×p matrix with
    orthonormal columns and W the trained n×p matrix, the kernel (or its transpose) is the Cayley
    transform of a skew-symmetric matrix, times B:

        (I + A)⁻¹ (I − A) B,   A = BΩBᵀ + KBᵀ − BKᵀ,   Ω = BᵀW − WᵀB,   K = W − BBᵀW

    No optimizer can leave the orthonormal matrices, as every W gives one. It is computed as
    `B(2M − I) − 2KM` with `M = (I + Ω + KᵀK)⁻¹`, which inverts a p×p matrix and no n×n one. Between
    equal numbers of channels all kernels are rotations: reflections are out of reach.

    The layer computes and returns float32 under every dtype policy. On a GPU that multiplies
    float32 matrices in TF32, the kernel is orthonormal to TF32's three digits.

    Args:
        units: Channels of the result.
        seed: Of the base B, at least zero. At the start the kernel is the base.
        **kwargs: Of the layer.

    Input shape:
        A vector `(batch, channels)`, or a map, whose places are mapped one by one.

    Output shape:
        The same with `units` channels.

    Raises:
        ValueError: If `units` is below 1 or `seed` below zero.

    Reference:
        [Miles et al., 2024](https://arxiv.org/abs/2403.06213); the Cayley transform of low rank is
        that of [Wen and Yin, 2013](https://doi.org/10.1007/s10107-012-0584-1)

    Example:
    ```python
    projected = OrthogonalLinear(512)(student_features)
    ```
    """

    def __init__(self, units: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"dtype": "float32"})
        check_at_least_one(units=units)
        if seed < 0:
            raise ValueError(f"`seed` must be at least zero. Received: {seed}.")
        self.units = units
        self.seed = seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights: the base, drawn from the seed, and the trained matrix of zeros."""
        channels: Any = input_shape[-1]
        self._is_transposed = channels < self.units
        shape = (max(channels, self.units), min(channels, self.units))
        self.base = self.add_weight(
            name="base", shape=shape, initializer=self._random_base, trainable=False
        )
        self.displacement = self.add_weight(name="displacement", shape=shape, initializer="zeros")

    @property
    def kernel(self) -> Any:
        """The matrix that features are multiplied by, shape `(channels, units)`, float32."""
        base, displacement = ops.convert_to_tensor(self.base), self.displacement
        # In the base's coordinates A = [[Ω, −Kᵀ], [K, 0]].
        along = ops.matmul(ops.transpose(base), displacement)
        turn = along - ops.transpose(along)
        tilt = displacement - ops.matmul(base, along)
        identity = ops.eye(base.shape[-1], dtype="float32")
        # Its symmetric part is at least I, so that it can always be inverted.
        matrix = identity + turn + ops.matmul(ops.transpose(tilt), tilt)
        inverse = ops.solve(matrix, identity)
        kernel = ops.matmul(base, 2.0 * inverse - identity) - 2.0 * ops.matmul(tilt, inverse)
        return ops.transpose(kernel) if self._is_transposed else kernel

    def call(self, features: Any) -> Any:
        """Project the features."""
        return ops.matmul(features, self.kernel)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"units": self.units, "seed": self.seed}

    def _random_base(self, shape: tuple[int, int], dtype: Any = None) -> Any:
        """Orthonormal columns of uniformly random directions; a rotation if square."""
        normal = np.random.default_rng(self.seed).normal(size=shape)
        base, triangle = np.linalg.qr(normal)
        base *= np.sign(np.diag(triangle))  # Without it, QR prefers some directions.
        if shape[0] == shape[1] and np.linalg.det(base) < 0:
            base[:, 0] *= -1.0
        return ops.convert_to_tensor(base, dtype)
