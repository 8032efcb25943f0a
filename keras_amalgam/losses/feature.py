"""Losses between features."""

from typing import Any

from keras import ops


def squared_error(features: Any, target: Any) -> Any:
    """Mean squared error over all but the batch axis.

    Args:
        features: Maps `(batch, height, width, channels)` or vectors `(batch, channels)`.
        target: Of the same shape.

    Returns:
        One value per sample, shape `(batch,)`, float32.

    Raises:
        ValueError: If the shapes differ.
    """
    if tuple(features.shape[1:]) != tuple(target.shape[1:]):
        raise ValueError(
            "`features` and `target` must have one shape. Received: "
            f"{tuple(features.shape)} and {tuple(target.shape)}."
        )
    error = ops.square(ops.cast(features, "float32") - ops.cast(target, "float32"))
    return ops.mean(error, axis=tuple(range(1, len(error.shape))))
