"""Mean and covariance of features that come in batches."""

from typing import Any

import numpy as np

# A deviation below this share of the mean is float64 rounding.
ROUNDING = 1e-12


class Moments:
    """Mean and covariance of features, gathered batch by batch in float64.

    Every place of a map is a sample. Each batch is centred on its own mean before it is merged, so
    that a mean far larger than the deviations costs no digits. Runs on the host, in NumPy.

    Args:
        variances_only: Whether covariances between channels are left out, as they are quadratic
            in the channels.

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

    def __init__(self, variances_only: bool = False) -> None:
        self.count = 0
        self._variances_only = variances_only
        self._mean = np.zeros(0)
        self._scatter = np.zeros(0)  # Its diagonal alone, if that is all that is asked for.

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
            ValueError: Before the second sample, or with `variances_only`.
        """
        self._check_at_least(2)
        if self._variances_only:
            raise ValueError(
                "Covariances between channels were left out. Received: variances_only=True. Use "
                "`variances`, or Moments()."
            )
        return self._scatter / (self.count - 1)

    @property
    def variances(self) -> np.ndarray:
        """Variance of each channel, unbiased as in `np.var(ddof=1)`, shape `(channels,)`.

        Raises:
            ValueError: Before the second sample.
        """
        self._check_at_least(2)
        scatter = self._scatter if self._variances_only else np.diag(self._scatter)
        return scatter / (self.count - 1)

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
            scatter = (samples**2).sum(0) if self._variances_only else samples.T @ samples
            self._merge(len(samples), mean, scatter)

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
        between = apart**2 if self._variances_only else np.outer(apart, apart)
        self._scatter = self._scatter + scatter + between * (self.count * count / total)
        self._mean = self._mean + apart * (count / total)
        self.count = total

    def check_varied(self) -> None:
        """Raise a `ValueError` if the samples are equal but for rounding."""
        deviation = np.sqrt(self.variances.mean())
        if deviation <= ROUNDING * np.abs(self._mean).max():
            raise ValueError(
                "The features must vary, as they are divided by their deviation. Received: "
                f"{self.count} equal samples. Check the tap and the images."
            )

    def _check_at_least(self, samples: int) -> None:
        if self.count < samples:
            raise ValueError(
                f"This needs at least {samples} samples. Received: {self.count}. Call `update` "
                "with features first."
            )
