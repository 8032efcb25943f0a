"""Mean and covariance of features that come in batches."""

from typing import Any

import numpy as np


class Moments:
    """Mean and covariance of features, gathered batch by batch in float64.

    Every place of a map is a sample. Each batch is centred on its own mean before it is merged, so
    that a mean far larger than the deviations costs no digits. Runs on the host, in NumPy.

    Attributes:
        count: Samples seen.

    Reference:
        [Chan et al., 1979](http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf)

    Example:
    ```python
    moments = Moments()
    for features in batches:
        moments.update(features)
    subspace = PrincipalSubspace(64)
    subspace.fit(moments)
    ```
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    @property
    def mean(self) -> np.ndarray:
        """Mean of the samples, shape `(channels,)`, float64.

        Raises:
            ValueError: Before the first sample.
        """
        self._check_at_least(1)
        return self._mean.copy()

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the samples, unbiased as in `np.cov`, shape `(channels, channels)`.

        Raises:
            ValueError: Before the second sample.
        """
        self._check_at_least(2)
        return self._scatter / (self.count - 1)

    def update(self, features: Any) -> None:
        """Add a batch; an empty one changes nothing.

        Args:
            features: Maps `(batch, height, width, channels)` or vectors `(batch, channels)`, as an
                array or a tensor.

        Raises:
            ValueError: If the channels are not those of earlier batches, there is no batch axis, or
                a value is not finite.
        """
        features = np.asarray(features)
        if features.ndim < 2:
            raise ValueError(
                "`features` must have a batch axis and channels, in this order. Received: shape "
                f"{features.shape}."
            )
        samples = features.reshape(-1, features.shape[-1]).astype("float64")
        if not np.isfinite(samples).all():
            raise ValueError(
                f"`features` must be finite. Received: {np.count_nonzero(~np.isfinite(samples))} "
                f"values of {samples.size} that are infinite or NaN. Check the teacher's "
                "preprocessing on these images."
            )
        if len(samples):
            mean = samples.mean(0)
            samples -= mean
            self._merge(len(samples), mean, samples.T @ samples)

    def _merge(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if not self.count:
            self.count, self._mean, self._scatter = count, mean, scatter
            return
        if mean.shape != self._mean.shape:
            raise ValueError(
                f"All batches must have the same channels. Received: {len(mean)} after batches of "
                f"{len(self._mean)}."
            )
        total = self.count + count
        apart = mean - self._mean
        self._scatter = (
            self._scatter + scatter + np.outer(apart, apart) * (self.count * count / total)
        )
        self._mean = self._mean + apart * (count / total)
        self.count = total

    def _check_at_least(self, samples: int) -> None:
        if self.count < samples:
            raise ValueError(
                f"This needs at least {samples} samples. Received: {self.count}. Call `update` "
                "with features first."
            )
