"""What a source differs from itself by: float32's rounding in another order of its sums."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_amalgam.teachers.runtimes.source_runtimes import SourceRuntime, in_another_order

MOST = 1e-3  # Of a tensor's range: no more is taken for noise.
# The converted network rounds as much as the source, and which of the two has the larger outlier
# is chance: over eight patterns, three networks gave ratios of 0.7 to 2 for the largest
# differences, and of 0.9 to 1.1 for their means.
_BOTH_ROUND = 2.0
LARGEST, MEAN = "source_noise", "mean_source_noise"
_Errors = dict[str, float]


def source_noise(
    runtime: SourceRuntime,
    images: np.ndarray,
    tensors: Sequence[str],
    agreement: Callable[[np.ndarray, np.ndarray], _Errors],
) -> dict[str, _Errors]:
    """Differences of each tensor between two orders in which its source computes it.

    Args:
        runtime: The source.
        images: A batch.
        tensors: Names of its tensors.
        agreement: A function that compares two arrays.

    Returns:
        By name, as `as_noise` has them; empty where the source knows only one order.
    """
    other = in_another_order(runtime)
    if other is None or not tensors:
        return {}
    expected = runtime.run(images, tensors)
    try:
        received = other.run(images, tensors)
    except Exception:  # Each runtime's own; then there is no second order.
        return {}
    return {name: as_noise(agreement(expected[name], received[name])) for name in tensors}


def as_noise(errors: Mapping[str, float]) -> _Errors:
    """Errors of a source against itself, as keys beside the errors of a converted network."""
    return {LARGEST: errors["max_abs_error"], MEAN: errors["mean_abs_error"]}


def may_be_noise(errors: Mapping[str, float], tolerance: float) -> bool:
    """Whether an error is past the tolerance and small enough for the source's noise to matter."""
    scale = max(1.0, errors["range"])
    return tolerance * scale < errors["max_abs_error"] <= MOST * scale


def is_noise(errors: Mapping[str, float]) -> bool:
    """Whether an error is no larger than the source's own, in its mean and its largest part.

    An error of the converter is in many elements, so that the mean finds it among outliers.
    """
    error, mean = errors["max_abs_error"], errors["mean_abs_error"]
    limit = min(_BOTH_ROUND * errors.get(LARGEST, 0.0), MOST * max(1.0, errors["range"]))
    is_small = error <= limit and mean <= _BOTH_ROUND * errors.get(MEAN, 0.0)
    return math.isfinite(error) and is_small


def own_noise(errors: Mapping[str, float]) -> str:
    """A sentence about the source's own noise; empty where it was not measured."""
    if LARGEST not in errors:
        return ""
    scale = max(1.0, errors["range"])
    return (
        f"It differs by {errors['max_abs_error'] / scale:.2g} of the range (mean "
        f"{errors['mean_abs_error'] / scale:.2g}); the source differs from itself by "
        f"{errors[LARGEST] / scale:.2g} (mean {errors[MEAN] / scale:.2g}), computed in another "
        f"order, of which twice as much, and at most {MOST:g}, is allowed. "
    )
