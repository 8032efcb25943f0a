"""Maximum mean discrepancy with Gaussian kernels."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from keras import ops

Estimator = Literal["biased", "unbiased"]

# Below this squared distance two points count as this far apart, as in the published release.
MIN_SQUARED_DISTANCE = 1e-12

# The median over more pairs than these rows have would not be another one.
MAX_ROWS = 1000
# Squared distances below this share of the largest square length are float64 rounding.
ROUNDING = 1e-12


def mmd_squared(
    x: Any, y: Any, bandwidths: Sequence[float], estimator: Estimator = "biased"
) -> Any:
    """Squared maximum mean discrepancy between two samples.

    The kernel is the sum of `exp(-d² / 2σ²)` over the bandwidths σ. The biased estimator is zero
    for equal samples and never negative; the unbiased one has mean zero for equal distributions
    and can be negative; it does not exist for a sample of one row, where zero is returned.
    Quadratic in the batch.

    Args:
        x: Student features, shape `(num_x, units)`.
        y: Teacher features, shape `(num_y, units)`.
        bandwidths: Gaussian widths σ > 0, in the units of `x`; the kernels are summed.
        estimator: `"biased"` (V-statistic, diagonals included) or `"unbiased"` (U-statistic).

    Returns:
        Scalar, computed and returned in float32.

    Raises:
        ValueError: If `x` and `y` differ in `units`, a bandwidth is not positive, or the
            estimator is unknown.

    Reference:
        [Gretton et al., 2012](https://jmlr.org/papers/v13/gretton12a.html)
    """
    check_kernel(bandwidths, estimator)
    if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            "`x` and `y` must be of shape (samples, units) with equal units. Received: shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}."
        )
    x, y = ops.cast(x, "float32"), ops.cast(y, "float32")
    within_x = _kernel(_squared_distances_within(x), bandwidths)
    within_y = _kernel(_squared_distances_within(y), bandwidths)
    between = _kernel(_squared_distances(x, y), bandwidths)
    if estimator == "unbiased":
        value = (
            _mean_off_diagonal(within_x, len(bandwidths))
            + _mean_off_diagonal(within_y, len(bandwidths))
            - 2.0 * ops.mean(between)
        )
        # The last batch of an epoch may be a single image.
        smaller = ops.minimum(ops.shape(x)[0], ops.shape(y)[0])
        return ops.where(smaller > 1, value, 0.0)
    value = ops.mean(within_x) + ops.mean(within_y) - 2.0 * ops.mean(between)
    return ops.maximum(value, 0.0)


def median_bandwidth(rows: Any) -> float:
    """The Gaussian width that suits a sample, by the median heuristic.

    σ with `2σ² = median ‖a − b‖²`, so that the kernel `exp(−d² / 2σ²)` is `1/e` at the median
    distance. The median is over all pairs of rows that differ, as in Gretton's code: repeated rows
    would draw it to zero. It runs on the host, in NumPy and float64, and is meant for the pooled
    sample of all models.

    Args:
        rows: Features, shape `(n, units)`, at least two rows. Of more than 1,000 rows, 1,000 are
            taken, evenly spaced.

    Returns:
        σ > 0, in the units of `rows`.

    Raises:
        ValueError: If `rows` is not a matrix of at least two rows, has values that are not finite,
            or its rows are all equal.

    Reference:
        [Gretton et al., 2012](https://jmlr.org/papers/v13/gretton12a.html), section 8
    """
    rows = np.asarray(rows, "float64")
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(
            "`rows` must be of shape (samples, units) with at least two samples, as a bandwidth is "
            f"measured between them. Received: shape {rows.shape}."
        )
    if not np.isfinite(rows).all():
        raise ValueError(
            f"`rows` must be finite. Received: {np.count_nonzero(~np.isfinite(rows))} values of "
            f"{rows.size} that are infinite or NaN."
        )
    if len(rows) > MAX_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_ROWS).round().astype(int)]
    # The product below loses the digits that all rows share.
    rows = rows - rows.mean(0)
    norms = (rows**2).sum(-1)
    squared_distances = norms[:, None] + norms - 2.0 * rows @ rows.T
    pairs = squared_distances[np.triu_indices(len(rows), 1)]
    pairs = pairs[pairs > ROUNDING * norms.max()]
    if not pairs.size:
        raise ValueError(
            f"`rows` must not be all equal, as their distances are the bandwidth. Received: "
            f"{len(rows)} equal rows. Check that the features vary between images, or choose the "
            "bandwidths yourself."
        )
    return float(np.sqrt(np.median(pairs) / 2.0))


def check_kernel(bandwidths: Sequence[float], estimator: str) -> None:
    """Raise a `ValueError` unless the bandwidths are positive and the estimator is known."""
    if not bandwidths or min(bandwidths) <= 0:
        raise ValueError(f"`bandwidths` must be positive numbers. Received: {bandwidths}.")
    if estimator not in ("biased", "unbiased"):
        raise ValueError(f"`estimator` must be 'biased' or 'unbiased'. Received: {estimator!r}.")


def _squared_distances(x: Any, y: Any) -> Any:
    # ‖a‖² + ‖b‖² − 2ab: one matrix product instead of a (num_x, num_y, units) array.
    norms_x = ops.sum(ops.square(x), axis=-1, keepdims=True)
    norms_y = ops.sum(ops.square(y), axis=-1, keepdims=True)
    return norms_x + ops.transpose(norms_y) - 2.0 * ops.matmul(x, ops.transpose(y))


def _squared_distances_within(x: Any) -> Any:
    # The shortcut leaves rounding noise on the diagonal, which narrow kernels turn into gradients
    # more than 1 % off; a point's distance to itself is zero.
    return _squared_distances(x, x) * (1.0 - ops.eye(ops.shape(x)[0], dtype="float32"))


def _kernel(squared_distances: Any, bandwidths: Sequence[float]) -> Any:
    squared_distances = ops.maximum(squared_distances, MIN_SQUARED_DISTANCE)
    kernels = [ops.exp(squared_distances * (-0.5 / sigma**2)) for sigma in bandwidths]
    return sum(kernels[1:], kernels[0])


def _mean_off_diagonal(kernel: Any, diagonal: float) -> Any:
    # Each diagonal entry is the sum of as many ones as there are bandwidths.
    samples = ops.cast(ops.shape(kernel)[0], "float32")
    pairs = ops.maximum(samples * (samples - 1.0), 1.0)
    return (ops.sum(kernel) - samples * diagonal) / pairs
