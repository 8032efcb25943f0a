"""The student imitates all teachers' features in one common space."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_amalgam.layers import Adapter, CommonExtractor, FeatureDecoder
from keras_amalgam.losses.feature import squared_error
from keras_amalgam.losses.mmd import Estimator, check_kernel, mmd_squared
from keras_amalgam.terms.term import AmalgamationTerm, Losses, ModelSpec, Signals

# Of the published release, for rows normalised to length one.
BANDWIDTHS = (0.001, 0.01, 0.05, 0.1, 0.2, 1.0, 2.0)


@keras.saving.register_keras_serializable(package="keras_amalgam")
class CommonFeatures(AmalgamationTerm):
    """Common feature learning: MMD in a space shared by all, and the way back to each teacher.

    Every model's features pass an adapter of its own and one extractor common to all. There the
    student's are drawn to each teacher's by the squared MMD, and a decoder per teacher keeps the
    space from collapsing by reconstructing the teacher's features. The defaults are the published
    release's (variant A).

    Maps of different sizes are brought to the smallest height and the smallest width among them
    by adaptive average pooling, before the adapter; the reconstruction's target is the pooled map.

    Reconstruction trains adapters, extractor and decoders; the student feels it through them only.

    Args:
        units: Channels h of the common space.
        weight: The term's coefficient.
        reconstruction_weight: Of the reconstruction beside the MMD, at least zero.
        bandwidths: Gaussian widths of the MMD, in units of rows of length one.
        estimator: Of the MMD: `"biased"` or `"unbiased"`.
        global_batch: Whether the MMD sees the features of all replicas under
            `tf.distribute`; by default each replica compares its own.
        name: Key in the history.
        **kwargs: Of the layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    ```python
    term = CommonFeatures(units=128, weight=10.0)
    ```

    Reference:
        [Luo et al., 2019](https://arxiv.org/abs/1906.10546)
    """

    def __init__(
        self,
        units: int = 128,
        weight: float = 10.0,
        reconstruction_weight: float = 1.0,
        bandwidths: Sequence[float] = BANDWIDTHS,
        estimator: Estimator = "biased",
        global_batch: bool = False,
        name: str | None = "common_features",
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, name=name, **kwargs)
        check_kernel(bandwidths, estimator)
        if units < 1 or reconstruction_weight < 0:
            raise ValueError(
                "`units` must be at least 1 and `reconstruction_weight` at least zero. "
                f"Received: units={units}, reconstruction_weight={reconstruction_weight}."
            )
        self.units = units
        self.reconstruction_weight = reconstruction_weight
        self.bandwidths = tuple(bandwidths)
        self.estimator: Estimator = estimator
        self.global_batch = global_batch

    @property
    def components(self) -> tuple[str, ...]:
        """The losses per teacher."""
        return ("mmd", "reconstruction") if self.reconstruction_weight else ("mmd",)

    def connect(self, student: ModelSpec, teachers: Mapping[str, ModelSpec]) -> None:
        """Create adapters, extractor and decoders for these models' features."""
        _check_features(student, teachers, type(self).__name__)
        shapes = [spec.features or () for spec in (student, *teachers.values())]
        self._size = _smallest_size(shapes)
        common_shape = (None, *(self._size or ()))
        self.extractor = CommonExtractor(self.units, dtype=self.dtype_policy)
        self.extractor.build((*common_shape, 2 * self.units))
        self.student_adapter = self._adapter(common_shape, student)
        self.teacher_adapters = [self._adapter(common_shape, spec) for spec in teachers.values()]
        self.decoders = []
        if self.reconstruction_weight:
            for spec in teachers.values():
                decoder = FeatureDecoder(_channels(spec), dtype=self.dtype_policy)
                decoder.build((*common_shape, self.units))
                self.decoders.append(decoder)
        self.built = True

    def call(self, student: Signals, teachers: Mapping[str, Signals], source: Any = None) -> Losses:
        """The MMD, a scalar, and the reconstruction error, per sample, of each teacher."""
        targets = [self._pool(signals["features"]) for signals in teachers.values()]
        common_student, *common = self.embed(student["features"], targets)
        rows = self._rows(common_student)
        losses: Losses = {}
        for number, name in enumerate(teachers):
            mmd = mmd_squared(rows, self._rows(common[number]), self.bandwidths, self.estimator)
            losses[name] = {"mmd": mmd}
            if self.decoders:
                decoded = self.decoders[number](common[number])
                error = squared_error(decoded, targets[number])
                losses[name]["reconstruction"] = self.reconstruction_weight * error
        return losses

    def embed(self, student: Any, teachers: Sequence[Any]) -> list[Any]:
        """All models' features in the common space.

        Args:
            student: The student's features.
            teachers: The teachers' features in their order.

        Returns:
            The common features of the student and of each teacher, each
            `(batch, height, width, units)` or `(batch, units)`.
        """
        adapted = [self.student_adapter(self._pool(student))]
        for adapter, features in zip(self.teacher_adapters, teachers, strict=True):
            adapted.append(adapter(self._pool(features)))
        # One call on the concatenated batch instead of one per model: the layers are shared, and
        # without batch norm it is the same.
        common = self.extractor(ops.concatenate(adapted, axis=0))
        return ops.split(common, len(adapted), axis=0)

    def student_embedding(self, features: Any) -> Any:
        """The student's place in the common space, as the MMD sees it.

        Made of stock layers alone, so that a model that holds it loads without this package.

        Args:
            features: The student's, at its tap.

        Returns:
            Rows of length one, `(batch, height * width * units)` or `(batch, units)`, float32.
        """
        common = self.student_adapter.call(self._pool(features))
        for block in self.extractor.blocks:  # `call` leaves our own layers out of the trace.
            common = block.call(common)
        rows = keras.layers.Flatten(dtype="float32")(common)
        return keras.layers.UnitNormalization(dtype="float32")(rows)

    def _adapter(self, common_shape: tuple[int | None, ...], spec: ModelSpec) -> Adapter:
        adapter = Adapter(2 * self.units, dtype=self.dtype_policy)
        adapter.build((*common_shape, _channels(spec)))
        return adapter

    def _pool(self, features: Any) -> Any:
        if self._size is None or tuple(features.shape[1:3]) == self._size:
            return features
        # Two small matrix products; keras.ops.adaptive_average_pool fails for a size of 1.
        down = _averages(features.shape[1], self._size[0])
        across = _averages(features.shape[2], self._size[1])
        features = ops.einsum("ih,bhwc->biwc", ops.cast(down, features.dtype), features)
        return ops.einsum("jw,biwc->bijc", ops.cast(across, features.dtype), features)

    def _rows(self, common: Any) -> Any:
        """Common features as rows of length one, of all replicas if asked for."""
        rows = ops.reshape(ops.cast(common, "float32"), (ops.shape(common)[0], -1))
        rows = ops.normalize(rows, axis=-1)
        return _of_all_replicas(rows) if self.global_batch else rows

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "units": self.units,
            "reconstruction_weight": self.reconstruction_weight,
            "bandwidths": list(self.bandwidths),
            "estimator": self.estimator,
            "global_batch": self.global_batch,
        }


def _averages(size: int, parts: int) -> np.ndarray:
    """Adaptive average pooling of one axis as a matrix, shape `(parts, size)`."""
    matrix = np.zeros((parts, size), "float32")
    for part in range(parts):
        start, end = part * size // parts, -(-(part + 1) * size // parts)
        matrix[part, start:end] = 1.0 / (end - start)
    return matrix


def _of_all_replicas(rows: Any) -> Any:
    import tensorflow as tf  # The rest of the term is free of any backend.

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return rows
    return context.all_gather(rows, axis=0)


def _channels(spec: ModelSpec) -> int:
    channels = spec.features[-1] if spec.features else None
    if channels is None:
        raise ValueError(f"The channels of {spec.name}'s tap {spec.tap!r} must be known.")
    return channels


def _check_features(student: ModelSpec, teachers: Mapping[str, ModelSpec], term: str) -> None:
    for spec in (student, *teachers.values()):
        if spec.features is None:
            raise ValueError(
                f"{term} reads features, but {spec.name} has no tap. "
                "Give Teacher(…, tap=…) and Amalgamator(…, student_tap=…)."
            )
    for spec in teachers.values():
        if len(spec.features or ()) != len(student.features or ()):
            raise ValueError(
                f"{spec.name} and the student disagree at their taps. Received: teacher tap "
                f"{spec.tap!r} of shape {spec.features}, student tap {student.tap!r} of shape "
                f"{student.features}. Both must be maps or both vectors. Choose another tap for "
                "one of them; keras_amalgam.taps.candidates(model) lists them."
            )


def _smallest_size(shapes: Sequence[tuple[int | None, ...]]) -> tuple[int, int] | None:
    if len(shapes[0]) != 3:
        return None
    heights = [shape[0] for shape in shapes if shape[0] is not None]
    widths = [shape[1] for shape in shapes if shape[1] is not None]
    if not len(heights) == len(widths) == len(shapes):
        raise ValueError(
            f"The maps at the taps must have known sizes. Received: shapes {list(shapes)}. Set "
            "`size` in the preprocessing, or build the backbone with a fixed input shape."
        )
    return min(heights), min(widths)
