"""Losses between features."""

from typing import Any

from keras import ops

# A vector below this length has no direction. The slope of its direction would be the length's
# inverse, which overflows in half precision on its way back.
MIN_LENGTH = 1e-6


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
    _check_equal_shapes(features, target)
    error = ops.square(ops.cast(features, "float32") - ops.cast(target, "float32"))
    return _mean_per_sample(error)


def smooth_l1(features: Any, target: Any, beta: float = 1.0) -> Any:
    """Smooth absolute error, averaged over all but the batch axis.

    With d the difference of two elements: `d² / 2β` where |d| < β, and `|d| − β/2` beyond, so that
    a few large errors, as in features with outliers, do not govern the gradient.

    Args:
        features: Maps `(batch, height, width, channels)` or vectors `(batch, channels)`.
        target: Of the same shape.
        beta: Difference at which the loss turns from square to absolute, positive, in the units of
            the features.

    Returns:
        One value per sample, shape `(batch,)`, float32.

    Raises:
        ValueError: If the shapes differ or `beta` is not positive.

    Reference:
        [Girshick, 2015](https://arxiv.org/abs/1504.08083)
    """
    if not beta > 0:
        raise ValueError(f"`beta` must be positive. Received: {beta}.")
    _check_equal_shapes(features, target)
    distance = ops.abs(ops.cast(features, "float32") - ops.cast(target, "float32"))
    # Clipped, so that the branch not taken does not overflow.
    square = ops.square(ops.minimum(distance, beta)) / (2.0 * beta)
    return _mean_per_sample(ops.where(distance < beta, square, distance - beta / 2.0))


def unit_vectors(features: Any) -> Any:
    """Vectors along the last axis brought to length one.

    A vector of zeros, as ReLU leaves behind, points nowhere: it stays zero and has no gradient.

    Args:
        features: Shape `(…, channels)`.

    Returns:
        The same shape, computed and returned in float32.
    """
    features = ops.cast(features, "float32")
    squared = ops.sum(ops.square(features), axis=-1, keepdims=True)
    is_zero = squared < MIN_LENGTH**2
    # The slope of 1/√ at zero is infinite; times the zero from `where`, XLA makes NaN of it.
    return ops.where(is_zero, 0.0, features * ops.rsqrt(ops.where(is_zero, 1.0, squared)))


def cosine_distance(features: Any, target: Any) -> Any:
    """One minus the cosine between two models' channels, averaged over the places of a map.

    A vector of zeros, as ReLU leaves behind, points nowhere: its distance to anything is one, and
    it has no gradient.

    Args:
        features: Maps `(batch, height, width, channels)`, whose channels are compared at each
            place, or vectors `(batch, channels)`.
        target: Of the same shape.

    Returns:
        One value per sample from 0 to 2, shape `(batch,)`, float32.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_equal_shapes(features, target)
    cosine = ops.sum(unit_vectors(features) * unit_vectors(target), axis=-1)
    return 1.0 - (cosine if len(cosine.shape) == 1 else _mean_per_sample(cosine))


def _mean_per_sample(values: Any) -> Any:
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))


def _check_equal_shapes(features: Any, target: Any) -> None:
    if tuple(features.shape[1:]) != tuple(target.shape[1:]):
        raise ValueError(
            "`features` and `target` must have one shape. Received: "
            f"{tuple(features.shape)} and {tuple(target.shape)}."
        )
