"""A teacher's features in a few standardised coordinates, and the way back."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_amalgam.layers.adapter import check_at_least_one
from keras_amalgam.layers.moments import Moments


@keras.saving.register_keras_serializable(package="keras_amalgam")
class PrincipalSubspace(keras.layers.Layer):
    """Coordinates of features in their leading principal directions, evenly scaled.

    With μ the features' mean, U their k leading principal directions, Λ the variances along them
    and H an orthogonal matrix such that all entries on the diagonal of HΛHᵀ are equal:

        x' = H Uᵀ (x − μ) / √(mean of Λ)

    Every coordinate has variance one, yet one scale serves all, so that distances are those of the
    subspace: an error costs the same in every direction, and no direction of little variance is
    blown up, as whitening would do. Two teachers so standardised weigh the same in a loss.

    The weights are not trained. Until `fit`, the coordinates are the first channels as they are.
    The layer computes and returns float32 under every dtype policy.

    Args:
        dimensions: Coordinates k, at most as many as there are channels.
        **kwargs: Of the layer.

    Input shape:
        A map `(batch, height, width, channels)`, whose places are mapped one by one, or a vector
        `(batch, channels)`.

    Output shape:
        The same with `dimensions` channels.

    Raises:
        ValueError: If `dimensions` is below 1, or, when built, above the number of channels.

    Reference:
        [Ranzinger et al., 2024](https://arxiv.org/abs/2410.01680), PHI-S, there with all dimensions

    Example:
    ```python
    moments = Moments()
    moments.update(teacher_features)
    subspace = PrincipalSubspace(64)
    subspace.fit(moments)
    coordinates = subspace(teacher_features)
    approximation = subspace.inverse(coordinates)
    ```
    """

    def __init__(self, dimensions: int, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"dtype": "float32"})
        check_at_least_one(dimensions=dimensions)
        self.dimensions = dimensions

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights of a subspace not yet fitted."""
        channels = input_shape[-1]
        self._check_channels(channels)
        self.mean = self.add_weight(
            name="mean", shape=(channels,), initializer="zeros", trainable=False
        )
        self.basis = self.add_weight(
            name="basis",
            shape=(channels, self.dimensions),
            initializer=lambda shape, dtype=None: ops.eye(*shape, dtype=dtype),
            trainable=False,
        )
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones", trainable=False)

    def fit(self, moments: Moments) -> None:
        """Take mean, directions and scale from the features seen, whatever they were before.

        Args:
            moments: Of the features to be mapped.

        Raises:
            ValueError: If there are not more samples than dimensions, fewer channels than
                dimensions or others than the layer was built on, or no variance.
        """
        if moments.count <= self.dimensions:
            raise ValueError(
                f"{self.dimensions} principal directions need more samples than that. Received: "
                f"{moments.count} samples. Use more images, or fewer `dimensions`."
            )
        mean = moments.mean
        self._check_channels(len(mean))
        if not self.built:
            self.build((None, len(mean)))
        if len(mean) != self.mean.shape[0]:
            raise ValueError(
                f"The layer was built on features of {self.mean.shape[0]} channels. Received: "
                f"moments of {len(mean)} channels."
            )
        variances, directions = np.linalg.eigh(moments.covariance)
        # In ascending order; rounding can leave those of no variance just below zero.
        variances = np.maximum(variances[::-1][: self.dimensions], 0.0)
        scale = np.sqrt(variances.mean())
        moments.check_varied()
        rotation = even_rotation(variances)
        self.mean.assign(mean)
        self.basis.assign(directions[:, ::-1][:, : self.dimensions] @ rotation.T)
        self.scale.assign(scale)

    def call(self, features: Any) -> Any:
        """The features' coordinates."""
        return ops.matmul(features - self.mean, self.basis) / self.scale

    def inverse(self, coordinates: Any) -> Any:
        """Features of these coordinates: the closest to the original ones in the subspace.

        Args:
            coordinates: As the layer returns them, `(…, dimensions)`.

        Returns:
            Features `(…, channels)`, float32; the original ones if there are as many dimensions as
            channels.
        """
        coordinates = ops.cast(coordinates, "float32") * self.scale
        return ops.matmul(coordinates, ops.transpose(self.basis)) + self.mean

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape with other channels."""
        return (*input_shape[:-1], self.dimensions)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"dimensions": self.dimensions}

    def _check_channels(self, channels: int | None) -> None:
        if channels is None or channels < self.dimensions:
            raise ValueError(
                "`dimensions` must be at most the number of channels. Received: "
                f"dimensions={self.dimensions} for features of {channels} channels."
            )


def even_rotation(variances: np.ndarray) -> np.ndarray:
    """An orthogonal matrix H with equal entries on the diagonal of `H diag(variances) Hᵀ`.

    For a power of two it is Sylvester's Hadamard matrix over √k, whatever the variances: all its
    entries have one magnitude. Most other sizes have no such matrix; there the Hartley matrix,
    which is nearly even, is followed by at most k − 1 plane rotations, each of which brings one
    entry of the diagonal to the mean. By the theorem of Schur and Horn that is always possible.

    Args:
        variances: Shape `(k,)`, at least zero.

    Returns:
        Shape `(k, k)`, float64; rows are the new axes.

    Reference:
        [Bendel and Mickey, 1978](https://doi.org/10.1080/03610917808812068), in the numerically
        stable form of [Davies and Higham, 2000](https://doi.org/10.1023/A:1022384216930)
    """
    size = len(variances)
    if size & (size - 1) == 0:
        rotation = np.ones((1, 1))
        while len(rotation) < size:
            rotation = np.block([[rotation, rotation], [rotation, -rotation]])
        return rotation / np.sqrt(size)
    angles = 2.0 * np.pi / size * np.outer(np.arange(size), np.arange(size))
    rotation = (np.cos(angles) + np.sin(angles)) / np.sqrt(size)
    mean = np.mean(variances)
    diagonal = rotation**2 @ variances
    for _ in range(size - 1):
        low, high = np.argmin(diagonal), np.argmax(diagonal)
        below, above = diagonal[low] - mean, diagonal[high] - mean
        if min(above, -below) <= 1e-14 * mean:
            break
        off_diagonal = (rotation[low] * variances) @ rotation[high]
        # The angle whose tangent t solves t² above − 2t off_diagonal + below = 0: the smaller one.
        root = np.sqrt(max(off_diagonal**2 - above * below, 0.0))
        tangent = below / (off_diagonal + np.copysign(root, off_diagonal))
        cosine = 1.0 / np.sqrt(1.0 + tangent**2)
        rows = rotation[[low, high]]
        rotation[low] = cosine * (rows[0] - tangent * rows[1])
        rotation[high] = cosine * (tangent * rows[0] + rows[1])
        diagonal[[low, high]] = rotation[[low, high]] ** 2 @ variances
    return rotation
